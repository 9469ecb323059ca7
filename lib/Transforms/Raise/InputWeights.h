// Weights in front of the experts: see InputWeights.cpp.
#pragma once

#include "FfnMatch.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"

namespace moec::raise {

// Inside of `e` experts read tokens times weights along the expert axis.
bool readsWeighed(const Expr *e, int depth = 0);
// Takes the weights out of the experts' input; false with the reason when the
// layer is no sum over the chosen experts then.
bool splitInput(Ffn &ffn, llvm::function_ref<bool(Expr *)> isTokens,
                llvm::SmallVectorImpl<Expr *> &weights, std::string &why);

struct Weighed {
  mlir::Value tokens, ids, weights; // [T, H], [T, k], [T, k]
};
// Tokens times `by` [T, k]: for more than one slot a row for each of them.
Weighed weighTokens(OnnxBuilder &b, Weighed layer, mlir::Value by, int64_t k);
// [T * k, H] -> [T, H]
mlir::Value sumOfSlots(OnnxBuilder &b, mlir::Value y, int64_t k);

} // namespace moec::raise
