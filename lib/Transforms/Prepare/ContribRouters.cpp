// What stands around MoE and QMoE nodes: MoEGroupRouter, RouterGateUpProj, SwiGLU. Formulas:
// docs/ContribOperators.md of ONNX Runtime.
#include "Contrib.h"
#include <limits>

using namespace mlir;

namespace moec::prepare {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Value topK(OnnxBuilder &b, Value x, int64_t k, Value &ids) {
  auto type = rankedType(x);
  SmallVector<int64_t> dims(type.getShape());
  dims.back() = k;
  auto idType = RankedTensorType::get(dims, b.builder.getI64Type());
  OperationState state(b.loc, "onnx.TopK");
  state.addOperands({x, b.ints(k)});
  state.addTypes({idType.clone(type.getElementType()), idType});
  state.addAttributes(
      {b.attr("axis", int64_t(-1)), b.attr("largest", int64_t(1)), b.attr("sorted", int64_t(1))});
  Operation *op = b.builder.create(state);
  ids = op->getResult(1);
  return op->getResult(0);
}

// `values` at `ids` of rows of one number.
Value scattered(OnnxBuilder &b, Value like, double fill, Value ids, Value values) {
  auto type = rankedType(like);
  Value all = b.op("Expand", {b.scalar(type.getElementType(), fill), b.shape(like, 0, 2)}, type);
  return b.op("ScatterElements", {all, ids, values}, type,
              {b.attr("axis", int64_t(1)), b.attr("reduction", StringRef("none"))});
}

// Scores [T, E] outside of the best groups become -inf.
Value inBestGroups(const Custom &c, OnnxBuilder &b, Value scores, int64_t experts) {
  int64_t groups = c.number("n_group", 1), kept = c.number("topk_group", 1);
  if (kept >= groups)
    return scores;
  int64_t size = experts / groups;
  Value ids, best = topK(b, b.reshape(scores, {0, groups, size}),
                         std::min(size, c.number("group_topk", 2)), ids);
  Value sums = b.reduce("ReduceSum", best, {-1}, false), chosen;
  topK(b, sums, kept, chosen);
  auto type = rankedType(chosen);
  Value ones = b.op("Expand", {b.scalar(b.builder.getF32Type(), 1), b.shape(chosen, 0, 2)},
                    type.clone(b.builder.getF32Type()));
  Value mask = b.unsqueeze(scattered(b, sums, 0, chosen, ones), {2});
  Value wide = b.op("Expand", {mask, b.ints({1, 1, size})},
                    RankedTensorType::get({rankedType(scores).getDimSize(0), groups, size},
                                          b.builder.getF32Type()));
  Value visible =
      b.binary("Greater", b.reshape(wide, {0, experts}), b.scalar(b.builder.getF32Type(), 0));
  return b.op("Where", {visible, scores, b.scalar(b.builder.getF32Type(), -kInfinity)},
              scores.getType());
}

bool groupRouter(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1}) || (c.in(2) && !c.areFloats({2})))
    return false;
  Type f32 = b.builder.getF32Type(), element = rankedType(c.in(0)).getElementType();
  Value z = b.cast(c.in(0), f32);
  if (c.in(2))
    z = b.matmul(z, b.transpose(b.cast(c.in(2), f32), {1, 0}));
  int64_t experts = rankedType(z).getShape().back(), k = c.number("top_k", 0);
  int64_t groups = c.number("n_group", 1), kept = c.number("topk_group", 1);
  if (experts < 1 || k < 1 || k > experts || groups < 1 || experts % groups != 0 || kept < 1 ||
      c.number("group_topk", 2) < 1)
    return c.refuse("its experts, groups and top_k do not fit together");
  if (rankedType(z).getRank() != 2)
    z = b.reshape(z, {-1, experts});
  Value s = b.unary("Sigmoid", z);
  Value scores = b.binary("Add", s, c.in(1));
  c.replace(1, scores);
  c.replace(2, s);
  if (!c.wants(0))
    return true;
  Value ids;
  topK(b, inBestGroups(c, b, scores, experts), k, ids);
  Value chosen =
      b.op("GatherElements", {s, ids}, rankedType(ids).clone(f32), b.attr("axis", int64_t(1)));
  Value logs = b.op("Clip", {chosen, b.scalar(f32, 1e-20), b.none()}, chosen.getType());
  Value probs = scattered(b, s, c.real("router_sentinel", -10000.0), ids, b.unary("Log", logs));
  c.replace(0, b.cast(probs, element));
  return true;
}

// gate * sigmoid(alpha gate) * (up + beta), both clamped where there is a limit; in f32.
Value swiglu(const Custom &c, OnnxBuilder &b, Value gate, Value up) {
  Type f32 = b.builder.getF32Type();
  gate = b.cast(gate, f32), up = b.cast(up, f32);
  double limit = c.real("limit", 0), beta = c.real("activation_beta", 0);
  if (limit > 0) {
    Value high = b.scalar(f32, limit), low = b.scalar(f32, -limit);
    gate = b.op("Min", {gate, high}, gate.getType());
    up = b.op("Max", {b.op("Min", {up, high}, up.getType()), low}, up.getType());
  }
  if (beta != 0)
    up = b.binary("Add", up, b.scalar(f32, beta));
  return b.binary("Mul", swish(b, gate, c.real("activation_alpha", 1.0)), up);
}

bool swigluOf(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0}) || (c.in(1) && !c.areFloats({1})))
    return false;
  Value gate = c.in(0), up = c.in(1);
  auto type = rankedType(gate);
  if (!up) {
    int64_t axis = type.getRank() - 1, width = axis < 0 ? -1 : type.getDimSize(axis);
    if (width < 2 || width % 2 != 0)
      return c.refuse("the width of its input is unknown");
    up = b.slice(gate, axis, width / 2, width);
    gate = b.slice(gate, axis, 0, width / 2);
  }
  c.replace(0, b.cast(swiglu(c, b, gate, up), type.getElementType()));
  return true;
}

bool routerGateUp(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1}))
    return false;
  int64_t width = rankedType(c.in(1)).getShape().back(), router = c.number("router_size", 0);
  int64_t axis = rankedType(c.in(0)).getRank() - 1;
  if (axis < 1 || rankedType(c.in(1)).getRank() != 2 || router < 1 || width <= router ||
      (width - router) % 2 != 0 || c.text("activation", "swiglu") != "swiglu")
    return c.refuse("its sizes or its activation are unknown");
  Value y = b.matmul(c.in(0), c.in(1));
  int64_t half = router + (width - router) / 2;
  c.replace(0, b.slice(y, axis, 0, router));
  Value activated = swiglu(c, b, b.slice(y, axis, router, half), b.slice(y, axis, half, width));
  c.replace(1, b.cast(activated, rankedType(y).getElementType()));
  return true;
}

} // namespace

void addContribRouters(ContribTable &table) {
  table["MoEGroupRouter"] = groupRouter;
  table["RouterGateUpProj"] = routerGateUp;
  table["SwiGLU"] = swigluOf;
}

} // namespace moec::prepare
