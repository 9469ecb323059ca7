// Recurrences over time: CausalConvWithState, LinearAttention, LinearAttentionGate.
// Formulas: docs/ContribOperators.md of ONNX Runtime; the gated delta rule: arXiv 2412.06464.
#include "ContribRecurrence.h"
#include <climits>
#include <cmath>

using namespace mlir;

namespace moec::prepare {

namespace {

// A depthwise convolution along the last axis, written as a sum over its taps.
bool causalConv(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1}) || !c.hasNone({}, {2}))
    return false;
  for (StringRef name : {"state_window", "state_update_capacity", "state_length", "input_channels",
                         "input_channel_offset", "channels_last"})
    if (c.number(name, 0) != 0)
      return c.refuse(name + " is unsupported");
  Value x = c.in(0), weight = c.in(1), past = c.in(3);
  auto type = rankedType(x), taps = rankedType(weight);
  StringRef activation = c.text("activation", "none");
  if (c.number("ndim", 1) != 1 || type.getRank() != 3 || taps.getRank() != 3 ||
      taps.getDimSize(1) != 1 || taps.getDimSize(0) <= 0 || taps.getDimSize(2) <= 0)
    return c.refuse("only convolutions along one axis with a known kernel are supported");
  if (activation != "none" && activation != "silu" && activation != "swish")
    return c.refuse("the activation \"" + activation + "\" is unknown");
  Type element = type.getElementType(), f32 = b.builder.getF32Type();
  int64_t channels = taps.getDimSize(0), count = taps.getDimSize(2);
  int64_t dilation = c.number("dilation", 1), before = (count - 1) * dilation;
  if (dilation < 1)
    return c.refuse("its dilation is not at least 1");
  if (!past)
    past = b.op("Expand", {b.scalar(element, 0), b.concat({b.shape(x, 0, 2), b.ints(before)}, 0)},
                RankedTensorType::get({type.getDimSize(0), type.getDimSize(1), before}, element));
  Value all = b.concat({past, x}, 2);
  auto window = [&](Value v, Value start, Value end, RankedTensorType result) {
    return b.op("Slice", {v, start, end, b.ints(2), b.ints(1)}, result);
  };
  Value length = b.shape(x, 2, 3), sum;
  for (int64_t j = 0; j < count; ++j) {
    Value offset = b.ints(j * dilation);
    Value part = window(all, offset, b.binary("Add", length, offset), type);
    Value factor = b.reshape(b.slice(weight, 2, j, j + 1), {channels, 1});
    Value term = b.binary("Mul", b.cast(part, f32), b.cast(factor, f32));
    sum = sum ? b.binary("Add", sum, term) : term;
  }
  if (Value bias = c.in(2))
    sum = b.binary("Add", sum, b.cast(b.reshape(bias, {channels, 1}), f32));
  c.replace(0, b.cast(activation == "none" ? sum : swish(b, sum, 1.0), element));
  auto state = RankedTensorType::get({type.getDimSize(0), type.getDimSize(1), before}, element);
  c.replace(1, window(all, length, b.ints(INT64_MAX), state));
  return true;
}

// decay = scale * softplus(a + bias), beta = sigmoid(b), in f32.
bool linearAttentionGate(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1, 2}) || (c.wants(1) && !c.areFloats({3})))
    return false;
  Type element = rankedType(c.in(0)).getElementType(), f32 = b.builder.getF32Type();
  Value sum = b.binary("Add", b.cast(c.in(0), f32), b.cast(c.in(1), f32));
  Value decay = b.binary("Mul", b.unary("Softplus", sum), b.cast(c.in(2), f32));
  c.replace(0, b.cast(decay, element));
  if (c.wants(1))
    c.replace(1, b.cast(b.unary("Sigmoid", b.cast(c.in(3), f32)), element));
  return true;
}

} // namespace

std::pair<Value, Value> scanOverTime(OnnxBuilder &b, const Recurrence &r) {
  auto slice = [](Value v) { // without the axis of time
    auto type = rankedType(v);
    SmallVector<int64_t> dims(type.getShape());
    dims.erase(dims.begin() + 1);
    return RankedTensorType::get(dims, type.getElementType());
  };
  SmallVector<Value> operands = {r.state, r.q, r.k, r.v};
  if (r.gated)
    operands.push_back(r.decay);
  if (r.delta)
    operands.push_back(r.beta);
  auto yType = rankedType(r.v);
  int64_t inputs = static_cast<int64_t>(operands.size()) - 1;
  OperationState op(b.loc, "onnx.Scan");
  op.addOperands(operands);
  op.addTypes({r.state.getType(), yType});
  op.addAttributes({b.attr("num_scan_inputs", inputs),
                    b.attr("scan_input_axes", SmallVector<int64_t>(inputs, 1)),
                    b.attr("scan_output_axes", ArrayRef<int64_t>{1})});
  Block *body = new Block;
  op.addRegion()->push_back(body);
  Value state = body->addArgument(r.state.getType(), b.loc);
  for (Value v : ArrayRef(operands).drop_front())
    body->addArgument(slice(v), b.loc);
  OpBuilder inner(b.builder.getContext());
  inner.setInsertionPointToEnd(body);
  OnnxBuilder n(inner, b.loc);
  unsigned next = 4;
  Value q = n.unsqueeze(body->getArgument(1), {2}); // [B, h, 1, dk]
  Value k = n.unsqueeze(body->getArgument(2), {2});
  Value v = n.unsqueeze(body->getArgument(3), {2});
  auto stateType = rankedType(r.state);
  if (r.gated) { // [B, h, 1 or dk] against [B, h, dk, dv]
    Value factor = n.unary("Exp", n.unsqueeze(body->getArgument(next++), {3}));
    state = n.op("Mul", {state, factor}, stateType);
  }
  if (r.delta)
    v = n.binary("Mul", n.binary("Sub", v, n.matmul(k, state)),
                 n.unsqueeze(body->getArgument(next++), {3}));
  state = n.op("Add", {state, n.matmul(n.transpose(k, {0, 1, 3, 2}), v)}, stateType);
  Value y = n.matmul(q, state);
  y = n.binary("Mul", y, n.scalar(inner.getF32Type(), r.scale));
  y = n.op("Squeeze", {y, n.ints(2)}, slice(r.v));
  OperationState yield(b.loc, "onnx.yield");
  yield.addOperands({state, y});
  inner.create(yield);
  Operation *made = b.builder.create(op);
  return {made->getResult(1), made->getResult(0)};
}

Value repeatedHeads(OnnxBuilder &b, Value x, int64_t times) {
  if (times == 1)
    return x;
  auto type = rankedType(x);
  SmallVector<int64_t> dims(type.getShape());
  dims.insert(dims.begin() + 3, times);
  Value wide = b.op("Expand", {b.unsqueeze(x, {3}), b.ints({1, 1, 1, times, 1})},
                    RankedTensorType::get(dims, type.getElementType()));
  return b.reshape(wide, {0, 0, dims[2] * times, dims[4]});
}

bool readUpdateRule(const Custom &c, Recurrence &r) {
  StringRef rule = c.text("update_rule", "gated_delta");
  r.gated = rule == "gated" || rule == "gated_delta";
  r.delta = rule == "delta" || rule == "gated_delta";
  if (!r.gated && !r.delta && rule != "linear")
    return c.refuse("the update_rule \"" + rule + "\" is unknown");
  return true;
}

namespace {

// LinearAttention with all operands at the larger number of heads: the queries', or the states'.
class LinearAttention {
public:
  LinearAttention(const Custom &c, OnnxBuilder &b) : c(c), b(b), f32(b.builder.getF32Type()) {}

  bool run() {
    if (!read() || !gates() || !past())
      return false;
    auto [y, last] = scanOverTime(b, r);
    Type element = rankedType(c.in(0)).getElementType();
    c.replace(0, b.cast(b.reshape(y, {0, 0, all * vSize}), element));
    if (all != heads) // each state stands as often as it has queries
      last = b.slice(last, 1, 0, all, all / heads);
    c.replace(1, b.cast(last, stored));
    return true;
  }

private:
  int64_t widthOf(unsigned i) const {
    auto type = rankedType(c.in(i));
    return type && type.getRank() == 3 ? type.getDimSize(2) : -1;
  }

  // Operand `i`, [B, T, n * d], as [B, T, all, d].
  Value split(unsigned i, int64_t n, int64_t d) {
    return repeatedHeads(b, b.reshape(b.cast(c.in(i), f32), {0, 0, n, d}), all / n);
  }

  bool read() {
    if (!c.areFloats({0, 1, 2}) || !readUpdateRule(c, r))
      return false;
    int64_t qHeads = c.number("q_num_heads", 0);
    heads = c.number("kv_num_heads", 0);
    all = std::max(qHeads, heads);
    if (c.number("state_window", 0) != 0)
      return c.refuse("state_window is unsupported");
    bool fits = qHeads > 0 && heads > 0 && all % qHeads == 0 && all % heads == 0 &&
                widthOf(0) > 0 && widthOf(0) % qHeads == 0 && widthOf(2) > 0 &&
                widthOf(2) % heads == 0;
    size = fits ? widthOf(0) / qHeads : 1;
    // Keys stand for each state, or are shared as the queries are.
    int64_t kHeads = widthOf(1) / size;
    if (!fits || kHeads < 1 || widthOf(1) % size != 0 || heads % kHeads != 0)
      return c.refuse("its heads and the widths of query, key and value do not fit together");
    vSize = widthOf(2) / heads;
    r.scale = c.real("scale", 0) != 0 ? c.real("scale", 0) : 1.0 / std::sqrt(double(size));
    r.q = split(0, qHeads, size);
    r.k = split(1, kHeads, size);
    r.v = split(2, heads, vSize);
    return true;
  }

  bool gates() {
    if ((r.gated && !c.areFloats({4})) || (r.delta && !c.areFloats({5})))
      return false;
    if (r.gated) {
      if (widthOf(4) != heads && widthOf(4) != heads * size)
        return c.refuse("its decay is neither for heads nor for keys");
      r.decay = split(4, heads, widthOf(4) / heads);
    }
    if (r.delta) {
      if (widthOf(5) != heads && widthOf(5) != 1)
        return c.refuse("its beta is not for heads");
      r.beta = split(5, widthOf(5), 1);
    }
    return true;
  }

  bool past() {
    stored = rankedType(c.in(0)).getElementType();
    int64_t batch = rankedType(c.in(0)).getDimSize(0);
    if (Value state = c.in(3)) {
      if (!isFloatTensor(state) || rankedType(state).getRank() != 4)
        return c.refuse("its state is not [batch, heads, size, size]");
      stored = rankedType(state).getElementType();
      r.state = b.cast(state, f32);
      if (all == heads)
        return true;
      int64_t times = all / heads;
      auto wide = RankedTensorType::get({batch, heads, times, size, vSize}, f32);
      r.state = b.op("Expand", {b.unsqueeze(r.state, {2}), b.ints({1, 1, times, 1, 1})}, wide);
      r.state = b.reshape(r.state, {0, all, size, vSize});
      return true;
    }
    if (auto type = c.op->getNumResults() > 1 ? rankedType(c.op->getResult(1)) : nullptr)
      stored = type.getElementType();
    Value shape = b.concat({b.shape(c.in(0), 0, 1), b.ints({all, size, vSize})}, 0);
    r.state = b.op("Expand", {b.scalar(f32, 0), shape},
                   RankedTensorType::get({batch, all, size, vSize}, f32));
    return true;
  }

  const Custom &c;
  OnnxBuilder &b;
  Type f32, stored; // the element type of the states outside
  Recurrence r;
  int64_t heads = 0, all = 0, size = 0, vSize = 0;
};

bool linearAttention(const Custom &c, OnnxBuilder &b) { return LinearAttention(c, b).run(); }

} // namespace

void addContribRecurrent(ContribTable &table) {
  table["CausalConvWithState"] = causalConv;
  table["LinearAttention"] = linearAttention;
  table["LinearAttentionGate"] = linearAttentionGate;
  table["GatedDeltaNet"] = gatedDeltaNet;
}

} // namespace moec::prepare
