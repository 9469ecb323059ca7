// Operators that carry a state from one call to the next: CausalConvWithState, LinearAttention.
#include "Call.h"
#include "Shapes.h"
#include <cmath>

using namespace llvm;

namespace moec::reference {
namespace {

void causalConv(Call &c) {
  const Tensor &x = c.in(0), &w = c.in(1);
  if (x.rank() != 3 || w.rank() != 3 || w.shape[0] != x.shape[1] || w.shape[1] != 1 ||
      w.shape[2] < 1)
    fail("weights " + text(w.shape) + " do not fit " + text(x.shape));
  int64_t batch = x.shape[0], channels = x.shape[1], length = x.shape[2], taps = w.shape[2];
  Shape stateShape{batch, channels, taps - 1};
  Tensor past = c.hasIn(3) ? c.in(3) : Tensor(x.type, stateShape);
  if (past.shape != stateShape)
    fail("a state " + text(past.shape) + " instead of " + text(stateShape));
  Tensor all = concat({cast(past, x.type), x}, 2);
  std::string activation = c.str("activation", "none");
  if (activation != "none" && activation != "silu" && activation != "swish")
    fail("activation = " + activation);
  Elements<double> in(all), weights(w);
  std::vector<double> out(x.size());
  for (int64_t i = 0; i < x.size(); ++i) {
    int64_t channel = i / length % channels;
    double sum = c.hasIn(2) ? Elements<double>(c.in(2))[channel] : 0;
    for (int64_t k = 0; k < taps; ++k)
      sum += in[i / length * (length + taps - 1) + i % length + k] * weights[channel * taps + k];
    out[i] = activation == "none" ? sum : sum / (1 + std::exp(-sum));
  }
  c.set(0, pack(x.type, x.shape, out));
  c.set(1, part(all, 2, length, taps - 1));
}

struct LinearSizes {
  int64_t batch, length, heads, kvHeads, keySize, valueSize;
};

LinearSizes linearSizes(const Call &c) {
  LinearSizes s{};
  s.heads = c.i64("q_num_heads", 0), s.kvHeads = c.i64("kv_num_heads", 0);
  for (int64_t i = 0; i < 3; ++i)
    if (c.in(i).rank() != 3)
      fail("query, key and value must have rank 3");
  if (s.heads < 1 || s.kvHeads < 1 || s.heads % s.kvHeads != 0)
    fail(Twine(s.heads) + " heads of " + Twine(s.kvHeads) + " keys");
  const Shape &q = c.in(0).shape, &k = c.in(1).shape, &v = c.in(2).shape;
  s.batch = q[0], s.length = q[1], s.keySize = q[2] / s.heads, s.valueSize = v[2] / s.kvHeads;
  if (k != Shape{s.batch, s.length, s.kvHeads * s.keySize} || s.keySize * s.heads != q[2] ||
      v != Shape{s.batch, s.length, s.kvHeads * s.valueSize})
    fail("query, key and value " + text(q) + ", " + text(k) + ", " + text(v) + " do not fit");
  return s;
}

void linearAttention(Call &c) {
  LinearSizes s = linearSizes(c);
  std::string rule = c.str("update_rule", "gated_delta");
  bool gated = rule == "gated" || rule == "gated_delta",
       delta = rule == "delta" || rule == "gated_delta";
  if (!gated && !delta && rule != "linear")
    fail("update_rule = " + rule);
  double scale = c.f64("scale", 0);
  scale = scale == 0 ? 1 / std::sqrt(static_cast<double>(s.keySize)) : scale;
  Elements<double> q(c.in(0)), k(c.in(1)), v(c.in(2));
  Shape stateShape{s.batch, s.kvHeads, s.keySize, s.valueSize};
  Tensor past = c.hasIn(3) ? c.in(3) : Tensor(c.in(0).type, stateShape);
  if (past.shape != stateShape)
    fail("a state " + text(past.shape) + " instead of " + text(stateShape));
  Elements<double> first(past);
  std::vector<double> state(first.begin(), first.end());
  // Numbers for each (batch, step), spread over heads or head and key element.
  auto spread = [&](int64_t i, int64_t step, int64_t head, int64_t d) {
    const Tensor &t = c.in(i);
    int64_t width = t.rank() == 3 ? t.shape[2] : 0;
    if (width != 1 && width != s.kvHeads && width != s.kvHeads * s.keySize)
      fail(text(t.shape) + " does not fit the heads");
    int64_t at = width == 1 ? 0 : width == s.kvHeads ? head : head * s.keySize + d;
    return Elements<double>(t)[step * width + at];
  };
  std::vector<double> out(s.batch * s.length * s.heads * s.valueSize);
  for (int64_t row = 0; row < s.batch * s.length; ++row)
    for (int64_t h = 0; h < s.kvHeads; ++h) {
      double *S = state.data() + (row / s.length * s.kvHeads + h) * s.keySize * s.valueSize;
      const double *key = k.data() + (row * s.kvHeads + h) * s.keySize;
      const double *value = v.data() + (row * s.kvHeads + h) * s.valueSize;
      for (int64_t d = 0; gated && d < s.keySize; ++d)
        for (int64_t e = 0; e < s.valueSize; ++e)
          S[d * s.valueSize + e] *= std::exp(spread(4, row, h, d));
      for (int64_t e = 0; e < s.valueSize; ++e) {
        double known = 0;
        for (int64_t d = 0; delta && d < s.keySize; ++d)
          known += S[d * s.valueSize + e] * key[d];
        double step = delta ? spread(5, row, h, 0) * (value[e] - known) : value[e];
        for (int64_t d = 0; d < s.keySize; ++d)
          S[d * s.valueSize + e] += key[d] * step;
      }
      int64_t group = s.heads / s.kvHeads;
      for (int64_t g = h * group; g < (h + 1) * group; ++g)
        for (int64_t e = 0; e < s.valueSize; ++e)
          for (int64_t d = 0; d < s.keySize; ++d)
            out[(row * s.heads + g) * s.valueSize + e] +=
                scale * q[(row * s.heads + g) * s.keySize + d] * S[d * s.valueSize + e];
    }
  c.set(0, pack(c.in(0).type, {s.batch, s.length, s.heads * s.valueSize}, out));
  c.set(1, pack(past.type, stateShape, state));
}

} // namespace

void addStateful(Registry &r) {
  r.add("onnx.CausalConvWithState", causalConv);
  r.add("onnx.LinearAttention", linearAttention);
}

} // namespace moec::reference
