// What the shape functions of contributed operators share, inside this room.
#pragma once
#include "onnx/defs/shape_inference.h"

namespace moec::onnx_import::contrib {

using ::onnx::InferenceContext;
using ::onnx::TensorShapeProto;
using Dim = TensorShapeProto::Dimension;

inline const TensorShapeProto *shapeOf(InferenceContext &ctx, size_t i) {
  return ::onnx::hasInputShape(ctx, i) ? &::onnx::getInputShape(ctx, i) : nullptr;
}

inline int64_t intOf(InferenceContext &ctx, const char *name, int64_t otherwise) {
  const ::onnx::AttributeProto *attribute = ctx.getAttribute(name);
  return attribute && attribute->has_i() ? attribute->i() : otherwise;
}

inline void setShape(InferenceContext &ctx, size_t output, const TensorShapeProto &shape) {
  if (output < ctx.getNumOutputs())
    *ctx.getOutputType(output)->mutable_tensor_type()->mutable_shape() = shape;
}

inline void elementFrom(InferenceContext &ctx, size_t input, size_t output) {
  if (input < ctx.getNumInputs() && output < ctx.getNumOutputs() && ctx.getInputType(input))
    ::onnx::propagateElemTypeFromInputToOutput(ctx, input, output);
}

// Output 0 has the type of input 0.
inline void like(InferenceContext &ctx) {
  if (ctx.getNumInputs() == 0 || ctx.getNumOutputs() == 0 || !ctx.getInputType(0))
    return;
  ::onnx::propagateShapeAndTypeFromFirstInput(ctx);
}

// ContribAttentionShapes.cpp
void groupQueryAttention(InferenceContext &ctx);
void multiHeadAttention(InferenceContext &ctx);
void attention(InferenceContext &ctx);
void linearAttentionGate(InferenceContext &ctx);
void causalConv(InferenceContext &ctx);
void linearAttention(InferenceContext &ctx);
void gatedDeltaNet(InferenceContext &ctx);

} // namespace moec::onnx_import::contrib
