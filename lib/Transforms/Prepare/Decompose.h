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

// x / sqrt(mean(x^2 over the last axes from `axis`) + epsilon) * scale, in f32.
mlir::Value rmsNorm(OnnxBuilder &b, mlir::Value x, mlir::Value scale,
                    int64_t axis, double epsilon);

struct Rotary {
  bool interleaved = false;
  int64_t heads = 0;     // needed when x is [B, S, heads * size]
  int64_t rotaryDim = 0; // 0: the whole head
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
// q [B,h,S,d], k [B,h,T,d], v [B,h,T,e] -> [B,h,S,e]
mlir::Value attend(OnnxBuilder &b, mlir::Value q, mlir::Value k, mlir::Value v,
                   const Scores &options);

} // namespace moec::prepare
