// Expert bodies of any form, as regions of a moe.bank: the operations between
// what all experts read and what each of them gives.
//
// Such a body is proven token by token (RowWise.h). Experts whose operations
// are the same become one region with parameters of their own; others get
// regions of their own kind.
#pragma once

#include "Analysis.h"
#include "RowWise.h"
#include "moec/Transforms/Prepare/WeightSteps.h"

namespace moec::raise {

// A tensor that the experts read.
struct Source {
  mlir::Value value;    // outside of the experts
  int64_t rowAxes = 0;  // how many of its first axes run over tokens, 0: none
  mlir::RankedTensorType type; // as an expert sees it: [N, ...], or the value's
};

// One expert's operations, in order, and what they read.
struct Recipe {
  llvm::SmallVector<mlir::Operation *> ops;
  mlir::Value result;
  llvm::DenseMap<mlir::Value, unsigned> sources; // value in the graph -> source
  llvm::SmallVector<mlir::Value> parameters;     // in order of first use
  llvm::DenseMap<mlir::Value, double> numbers;   // one number everywhere
  std::string key; // equal for experts that differ in parameters only
};

struct RegionBody {
  llvm::SmallVector<Source> sources; // the first are the tokens
  std::vector<Recipe> experts;
  llvm::DenseMap<mlir::Value, Rows> rows; // of every value inside
  int64_t rowAxes = 1; // how many axes run over tokens inside of the experts
  bool coupled = false;
  bool given = false; // the graph gives an expert only the tokens that chose it
  // An expert that is another one's formula over other tokens: for the caller to prove.
  std::optional<size_t> other;
  llvm::SmallVector<mlir::Operation *> inside; // all operations that go
  llvm::SmallVector<mlir::Operation *> foreign; // those of other domains

  // Experts that the graph computes side by side (StackedBody.h): what each
  // gives, [N, stackedWidth]. There are no recipes then.
  Expr *stacked = nullptr;
  int64_t stackedExperts = 0, stackedWidth = 0;
};

// `bodies[e]` is what expert e gives, with its rows along the first `rowAxes`
// axes. On failure `why` names the obligation and `at` where.
std::optional<RegionBody> matchRegion(Analysis &analysis,
                                      llvm::ArrayRef<mlir::Value> bodies,
                                      int64_t rowAxes, mlir::Operation *&at,
                                      std::string &why);

// RegionKinds.cpp.
// Whether an expert does nothing: gives back an argument or, with `computed`, any tensor.
bool givesTokens(const RegionBody &body, bool computed);
// Whether the experts read rows of their tokens alone.
bool readTokensOnly(const RegionBody &body);
// A slice of `experts` matrices that the graph is given at run time, and views of it.
bool isGivenSlice(mlir::Operation *op, int64_t experts, int depth = 0);
// A constant that tells an expert from others of its formula, though it may be one number: which
// of the given matrices is its own, and how its numbers are quantised.
bool isOwnNumber(mlir::OpOperand &operand, int64_t experts);
// Operands that only say a size: regions make their own.
bool isSizeOperand(mlir::OpOperand &operand);
// Whether an operand that is a number everywhere may lose its shape: the result has that of
// another operand; or it is the first state of a recurrence, zero.
bool standsForNumber(Analysis &analysis, mlir::OpOperand &operand);
// Whether the operation gives a sum of experts' results that are not its own alone.
bool sharesExperts(Analysis &analysis, mlir::Operation *op);
// The result of another layer, or computed from it without a matrix.
bool ofLayer(Analysis &analysis, mlir::Value v, int depth = 0);
// Equal for experts that compute the same function of their parameters, from
// operation `from` on; without `sources` also when they read other tensors.
std::string recipeKey(Analysis &analysis, const Recipe &recipe, size_t from = 0,
                      bool sources = true);
// An expert that is another one's formula over another tensor, or over what a
// few operations without matrices make of it: no other kind. Null: there is none.
const Recipe *sameFormula(Analysis &analysis, const RegionBody &body);

// Whether every parameter that is a slice of a stack of all experts is the
// slice of its own expert.
bool ownSlices(const RegionBody &body, WeightSteps &steps, std::string &why);

// The moe.bank of the regions. `result` becomes the type [N, ...] of what an
// expert gives.
mlir::FlatSymbolRefAttr buildRegionBank(mlir::ModuleOp module,
                                        WeightSteps &steps,
                                        const RegionBody &body,
                                        llvm::StringRef name, mlir::Location loc,
                                        mlir::RankedTensorType &result);

} // namespace moec::raise
