// The normal form of an expert body:
//   y = down(act(gate x) * up x)   or   y = down(act(up x)).
#pragma once

#include "Analysis.h"

namespace moec::raise {

// Rows [offset, offset + size * stride) of a linear map, with its bias.
struct Projection {
  Expr *linear = nullptr;
  Expr *bias = nullptr;
  int64_t offset = 0, size = -1, stride = 1; // size -1: all rows
  int64_t biasOffset = 0, biasStride = 1;
};

struct Ffn {
  bool gated = false;
  std::string activation = "identity";
  double alpha = 1.0;           // swish(alpha x)
  std::optional<double> limit;  // gate <= limit, |up| <= limit
  double upOffset = 0.0;        // (up + upOffset)
  double scale = 1.0;           // constant factor of the result
  Projection gate, up, down;
  Expr *x = nullptr;
  llvm::SmallVector<Expr *, 2> weights; // factors of the routing weight
  llvm::SmallVector<FixedExpert> fixed; // the formula is not theirs, but a stand-in's
};

// The part of an expression in which an expert stands in for constant ones; null: there is none.
const Expr *withFixed(const Expr *body);

// The factors of an expert's result; constant ones are multiplied into `scale`.
void splitResult(Expr *e, llvm::SmallVectorImpl<Expr *> &factors, double &scale);

// `body` is an expert's result; `weight` its routing weight when that is known
// apart from the body. On failure `why` names the obligation.
std::optional<Ffn> matchFfn(Expr *body, Expr *weight, std::string &why);

// The experts 0.. of a sum of single contributions that do something: all of the
// routing's, or those before ids whose slots have the weight 0 or are looked at
// apart from the sum. NullExperts.cpp
int64_t identityExperts(const Routing &r, const Expr *sum); // the last ones
// What the term adds is its weight times the token.
bool givesTokens(const Term &term, const Ffn &ffn);
int64_t realExperts(const Analysis &analysis, const Routing &r, const Expr *sum);

} // namespace moec::raise
