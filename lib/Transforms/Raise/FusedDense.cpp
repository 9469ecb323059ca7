// com.microsoft.MoE nodes whose parameters are no weights but computed, or inputs of the model:
// every expert runs on every token, and the dense routing weights pick.
#include "FusedOperands.h"
#include "MoEOps.h"

using namespace mlir;

namespace moec::raise {

namespace {

Value activated(OnnxBuilder &b, Value x, const Ffn &ffn) {
  Type t = rankedType(x).getElementType();
  auto times = [&](Value v, double factor) { return b.binary("Mul", v, b.scalar(t, factor)); };
  if (ffn.activation == "relu")
    return b.unary("Relu", x);
  if (ffn.activation == "relu2") {
    Value positive = b.unary("Relu", x);
    return b.binary("Mul", positive, positive);
  }
  if (ffn.activation == "silu" || ffn.activation == "swish")
    return b.binary("Mul", x, b.unary("Sigmoid", ffn.alpha == 1.0 ? x : times(x, ffn.alpha)));
  if (ffn.activation == "gelu_tanh") {
    Value cube = b.binary("Mul", b.binary("Mul", x, x), x);
    Value inner = times(b.binary("Add", x, times(cube, 0.044715)), 0.7978845608028654);
    Value wide = b.binary("Add", b.unary("Tanh", inner), b.scalar(t, 1.0));
    return b.binary("Mul", times(x, 0.5), wide);
  }
  return x; // identity
}

// The formula of #moe.ffn.
Value hidden(OnnxBuilder &b, Value gate, Value up, const Ffn &ffn) {
  Type t = rankedType(up).getElementType();
  if (!ffn.gated)
    return activated(b, up, ffn);
  if (ffn.limit) {
    Value limit = b.scalar(t, *ffn.limit), low = b.scalar(t, -*ffn.limit);
    gate = b.op("Min", {gate, limit}, gate.getType());
    up = b.op("Max", {b.op("Min", {up, limit}, up.getType()), low}, up.getType());
  }
  if (ffn.upOffset != 0)
    up = b.binary("Add", up, b.scalar(t, ffn.upOffset));
  return b.binary("Mul", activated(b, gate, ffn), up);
}

} // namespace

Value denseExperts(const FusedNode &node, OnnxBuilder &b, const Ffn &ffn, bool fused,
                   bool interleaved, const BankShape &shape, Value x, const Routed &routed) {
  Type f32 = b.builder.getF32Type(), i64 = b.builder.getI64Type();
  int64_t e = shape.experts, inter = shape.inter;
  // x [1 or E, T, k] times the projection's matrices [E, n, k], with its bias.
  auto project = [&](Value in, int p, int64_t n, int64_t k) {
    Value w = b.reshape(b.cast(node.matrix(p), f32), {e, n, k});
    Value y = b.matmul(in, b.transpose(w, {0, 2, 1}));
    if (Value bias = node.bias(p))
      y = b.binary("Add", y, b.reshape(b.cast(bias, f32), {e, 1, n}));
    return y;
  };
  Value rows = b.unsqueeze(b.cast(x, f32), {0});
  Value first = project(rows, 1, fused ? 2 * inter : inter, shape.hidden), gate, up = first;
  if (fused) {
    int64_t all = 2 * inter;
    gate = interleaved ? b.slice(first, 2, 0, all, 2) : b.slice(first, 2, 0, inter);
    up = interleaved ? b.slice(first, 2, 1, all, 2) : b.slice(first, 2, inter, all);
  } else if (ffn.gated) {
    gate = first;
    up = project(rows, 3, inter, shape.hidden);
  }
  Value y = project(hidden(b, gate, up, ffn), 2, shape.hidden, inter);
  auto dense = RankedTensorType::get({rankedType(x).getDimSize(0), e}, f32);
  Value zeros = b.op("Expand", {b.scalar(f32, 0), b.concat({b.shape(x, 0, 1), b.ints(e)}, 0)},
                     dense);
  Value weights = b.op("ScatterElements", {zeros, b.cast(routed.ids, i64), routed.weights}, dense,
                       {b.attr("axis", int64_t(1)), b.attr("reduction", StringRef("none"))});
  Value factors = b.unsqueeze(b.transpose(weights, {1, 0}), {2});
  Value sum = b.reduce("ReduceSum", b.binary("Mul", y, factors), {0}, false);
  return b.cast(sum, rankedType(x).getElementType());
}

} // namespace moec::raise
