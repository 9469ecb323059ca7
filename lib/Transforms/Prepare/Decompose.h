// Formulas that the contrib and the standard decompositions share.
#pragma once

#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include <optional>

namespace moec::prepare {

int64_t intAttr(mlir::Attribute attr, int64_t otherwise);
double floatAttr(mlir::Attribute attr, double otherwise);
inline bool absent(mlir::Value v) {
  return !v || mlir::isa<mlir::NoneType>(v.getType());
}

// Puts `value` in the place of a result. What ends a graph was made for the
// result's type: a new value then takes that type, another one gets it by an
// Identity.
void replaceResult(OnnxBuilder &b, mlir::Operation *op, unsigned result,
                   mlir::Value value);

// x / sqrt(mean(x^2 over the last axes from `axis`) + epsilon) * scale, in f32.
mlir::Value rmsNorm(OnnxBuilder &b, mlir::Value x, mlir::Value scale,
                    int64_t axis, double epsilon);

// x * Phi(x) with the error function, or its approximation with tanh.
mlir::Value gelu(OnnxBuilder &b, mlir::Value x, bool tanh);
// x * sigmoid(alpha x).
mlir::Value swish(OnnxBuilder &b, mlir::Value x, double alpha);

// Replaces the uses of an onnx.Einsum by sums and products; false when ranks are
// not known, the operands are not numbers, or a diagonal's size is not known.
bool einsum(mlir::Operation *op, OnnxBuilder &b);

// Experts of one matrix [K, H, E] that gates sum over their last axis come first.
void expertsFirst(mlir::Operation *root);

// NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss; false when the ranks
// are not known or do not fit.
bool negativeLogLikelihood(mlir::Operation *op, OnnxBuilder &b);
bool softmaxCrossEntropy(mlir::Operation *op, OnnxBuilder &b);

// Rewrites an onnx.Attention for the attention kernel, or in primitive ops when
// the kernel does not cover it or `writtenOut`; false when the number or size
// of its heads is unknown.
bool attention(mlir::Operation *op, OnnxBuilder &b, bool writtenOut);
// Already as the kernel takes it.
bool isKernelAttention(mlir::Operation *op);

struct Rotary {
  bool interleaved = false;
  int64_t heads = 0;     // needed when x is [B, S, heads * size]
  int64_t rotaryDim = 0; // 0: the whole head
  bool wholeHead = false; // rotaryDim is the whole head
};
// cos and sin: [B, S, rotaryDim / 2]. x: [B, S, H] or [B, heads, S, size].
// Nullopt when the shapes are not known well enough.
std::optional<mlir::Value> rotary(OnnxBuilder &b, mlir::Value x,
                                  mlir::Value cos, mlir::Value sin,
                                  const Rotary &options);

struct Scores {
  double scale = 1.0;
  double softcap = 0.0;
  mlir::Value mask;  // null, boolean or additive, broadcastable
  bool causal = false;
  mlir::Value offset; // causal: position of the first query, scalar i64 or null
};
// The mask as the attention kernel reads it: [B or 1, h or 1, S, T]. Axes in
// front are added; a single row or column that stands for all is repeated.
mlir::Value kernelMask(OnnxBuilder &b, mlir::Value mask, mlir::Value q,
                       mlir::Value k);
// Boolean [S, T]: key j is visible from query i. `offset` is the position of
// the first query, a scalar i64, or null for 0.
mlir::Value causalMask(OnnxBuilder &b, mlir::Value q, mlir::Value k,
                       mlir::Value offset);
// onnx.Attention without past, extra outputs or softcap: q [B,h,S,d],
// k [B,n,T,d], v [B,n,T,e], n divides h; mask [B or 1, h or 1, S, T] -> [B,h,S,e]
mlir::Value attentionOp(OnnxBuilder &b, mlir::Value q, mlir::Value k,
                        mlir::Value v, const Scores &options);
// The same written out, k and v with as many heads as q.
mlir::Value attend(OnnxBuilder &b, mlir::Value q, mlir::Value k, mlir::Value v,
                   const Scores &options);

} // namespace moec::prepare
