// GatedDeltaNet: linear attention over tokens of equally long sequences, its gates and norms
// inside. Formula: docs/ContribOperators.md of ONNX Runtime.
#include "ContribRecurrence.h"
#include <cmath>

using namespace mlir;

namespace moec::prepare {

namespace {

class DeltaNet {
public:
  DeltaNet(const Custom &c, OnnxBuilder &b) : c(c), b(b), f32(b.builder.getF32Type()) {}

  bool run() {
    if (!read() || !gates())
      return false;
    auto [y, last] = scanOverTime(b, r);
    auto type = rankedType(c.op->getResult(0));
    Type element = rankedType(c.in(0)).getElementType();
    Value result = b.cast(y, element);
    if (!byBatch) {
      result = b.reshape(result, {-1, heads, vSize});
    }
    c.replace(0, type && type.getRank() == rankedType(result).getRank()
                     ? b.op("Identity", result, type)
                     : result);
    c.replace(1, b.transpose(last, {0, 1, 3, 2}));
    return true;
  }

private:
  bool read() {
    if (!c.areFloats({0}) || !c.hasNone({3, 9, 10}, {2}) || !readUpdateRule(c, r))
      return false;
    Value state = c.in(6);
    auto qType = rankedType(c.in(0));
    if (c.number("state_update_capacity", 0) != 0)
      return c.refuse("state_update_capacity is unsupported");
    if (!state || !isFloatTensor(state) || rankedType(state).getRank() != 4)
      return c.refuse("it has no initial_state [batch, heads, size, size]");
    ArrayRef<int64_t> dims = rankedType(state).getShape();
    heads = dims[1], vSize = dims[2], size = dims[3];
    bool packed = !c.in(1);
    byBatch = qType.getRank() == (packed ? 3 : 4);
    int64_t width = qType.getShape().back();
    if (heads < 1 || vSize < 1 || size < 1 || width < 1 ||
        (!byBatch && qType.getRank() != (packed ? 2 : 3)) || packed != !c.in(2))
      return c.refuse("its sizes are unknown");
    qHeads = packed ? (width - heads * vSize) / (2 * size) : qType.getShape().end()[-2];
    if (qHeads < 1 || heads % qHeads != 0 ||
        (packed ? 2 * qHeads * size + heads * vSize : size) != width)
      return c.refuse("its heads and widths do not fit together");
    int64_t axis = qType.getRank() - 1, half = qHeads * size;
    Value q = packed ? b.slice(c.in(0), axis, 0, half) : c.in(0);
    Value k = packed ? b.slice(c.in(0), axis, half, 2 * half) : c.in(1);
    Value v = packed ? b.slice(c.in(0), axis, 2 * half, width) : c.in(2);
    r.q = repeatedHeads(b, normalised(apart(q, qHeads, size)), heads / qHeads);
    r.k = repeatedHeads(b, normalised(apart(k, qHeads, size)), heads / qHeads);
    r.v = apart(v, heads, vSize);
    r.state = b.cast(b.transpose(state, {0, 1, 3, 2}), f32);
    r.scale = c.real("scale", 0) != 0 ? c.real("scale", 0) : 1.0 / std::sqrt(double(size));
    return true;
  }

  // [B, T, n, d] in f32 of tokens in one axis or two.
  Value apart(Value x, int64_t n, int64_t d) {
    x = b.cast(x, f32);
    int64_t batch = rankedType(c.in(6)).getDimSize(0);
    if (byBatch)
      return b.reshape(x, {0, 0, n, d});
    Value shape = b.concat({b.shape(c.in(6), 0, 1), b.ints({-1, n, d})}, 0);
    return b.reshapeLike(x, shape, RankedTensorType::get({batch, ShapedType::kDynamic, n, d}, f32));
  }

  Value normalised(Value x) {
    if (c.number("qk_l2_norm", 0) == 0)
      return x;
    Value sum = b.reduce("ReduceSum", b.binary("Mul", x, x), {-1});
    return b.binary("Div", x, b.unary("Sqrt", b.binary("Add", sum, b.scalar(f32, 1e-6))));
  }

  bool gates() {
    if (r.delta) {
      if (!c.areFloats({5}))
        return false;
      r.beta = apart(c.in(5), heads, 1);
      StringRef activation = c.text("beta_activation", "none");
      if (activation == "sigmoid")
        r.beta = b.unary("Sigmoid", r.beta);
      else if (activation != "none")
        return c.refuse("the beta_activation \"" + activation + "\" is unknown");
    }
    if (!r.gated)
      return true;
    if (!c.areFloats({4}))
      return false;
    auto type = rankedType(c.in(4));
    int64_t columns = type.getRank() == (byBatch ? 4 : 3) ? type.getShape().back() : 1;
    if (columns != 1 && columns != size)
      return c.refuse("its decay is neither for heads nor for keys");
    r.decay = apart(c.in(4), heads, columns);
    StringRef gate = c.text("gate_activation", "none");
    if (gate == "none")
      return true;
    bool softplus = gate == "softplus" || gate == "qwen";
    if (!softplus && gate != "sigmoid" && gate != "kda")
      return c.refuse("the gate_activation \"" + gate + "\" is unknown");
    if (!c.areFloats({7}) || (c.in(8) && !c.areFloats({8})))
      return false;
    Value rate = b.unary("Exp", b.reshape(b.cast(c.in(7), f32), {heads, 1}));
    Value sum = r.decay;
    if (Value bias = c.in(8))
      sum = b.binary("Add", sum, b.reshape(b.cast(bias, f32), {heads, -1}));
    if (softplus)
      r.decay = b.unary("Neg", b.binary("Mul", b.unary("Softplus", sum), rate));
    else
      r.decay = b.binary("Mul", b.unary("Sigmoid", b.binary("Mul", sum, rate)),
                         b.scalar(f32, c.real("gate_lower_bound", -5.0)));
    return true;
  }

  const Custom &c;
  OnnxBuilder &b;
  Type f32;
  Recurrence r;
  bool byBatch = false; // tokens as [batch, length]
  int64_t heads = 0, qHeads = 0, size = 0, vSize = 0;
};

} // namespace

bool gatedDeltaNet(const Custom &c, OnnxBuilder &b) { return DeltaNet(c, b).run(); }

} // namespace moec::prepare
