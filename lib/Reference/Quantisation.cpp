// Integer quantisation: linear, dynamic, and products of quantised matrices.
#include "Call.h"
#include "MatMul.h"
#include "Narrow.h"
#include "Shapes.h"
#include <algorithm>
#include <cmath>

#include "llvm/Support/MathExtras.h"

using namespace llvm;

namespace moec::reference {

namespace {

std::pair<double, double> limitsOf(Elem e) {
  auto [low, high] = integerLimits(e);
  return {static_cast<double>(low), static_cast<double>(high)};
}

// A scale or zero point spread over x: one for all, one for each position of an axis, or one for
// each block along it.
Tensor spread(Call &c, const Tensor &parameter, const Tensor &x) {
  if (parameter.size() == 1 && parameter.rank() <= 1)
    return broadcast(parameter.reshaped({}), x.shape);
  int64_t axis = Call::axis(c.i64("axis", 1), x.rank()), block = c.i64("block_size", 0);
  if (block == 0) {
    if (parameter.size() != x.shape[axis])
      fail("a scale of " + Twine(parameter.size()) + " elements for an axis of " +
           Twine(x.shape[axis]));
    Shape shape(x.rank(), 1);
    shape[axis] = x.shape[axis];
    return broadcast(parameter.reshaped(shape), x.shape);
  }
  Shape blocks(x.shape);
  blocks[axis] = block > 0 ? llvm::divideCeilSigned(x.shape[axis], block) : 0;
  if (parameter.shape != blocks)
    fail("scales " + text(parameter.shape) + " where " + text(blocks) + " are needed");
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < x.shape[axis]; ++i)
    parts.push_back(part(parameter, axis, i / block, 1));
  return parts.empty() ? Tensor(parameter.type, x.shape) : concat(parts, axis);
}

double quantised(double x, double scale, double zero, std::pair<double, double> range) {
  // The quotient is rounded to f32 before it becomes a whole number.
  double q = std::nearbyint(static_cast<float>(x / scale)) + zero;
  return std::isnan(q) ? 0 : std::clamp(q, range.first, range.second);
}

void quantizeLinear(Call &c) {
  const Tensor &x = c.in(0);
  Elem type = c.hasIn(2) ? c.in(2).type : elemOf(c.i64("output_dtype", 0));
  if (!c.hasIn(2) && c.i64("output_dtype", 0) == 0)
    type = Elem::u8;
  Elements<double> in(x), scale(spread(c, c.in(1), x));
  if (isNarrowFloat(type)) {
    // What the zero point of a float is for, the standard does not say; it is zero.
    std::vector<float> quotient(in.size());
    for (int64_t i = 0; i < in.size(); ++i)
      quotient[i] = static_cast<float>(in[i] / scale[i]);
    Tensor wide = pack(Elem::f32, x.shape, quotient);
    return c.set(0, cast(wide, type, {c.i64("saturate", 1) != 0}));
  }
  auto range = limitsOf(type);
  Elements<double> zero(c.hasIn(2) ? spread(c, c.in(2), x) : Tensor(type, x.shape));
  std::vector<double> out(in.size());
  for (int64_t i = 0; i < in.size(); ++i)
    out[i] = quantised(in[i], scale[i], zero[i], range);
  c.set(0, pack(type, x.shape, out));
}

void dequantizeLinear(Call &c) {
  const Tensor &x = c.in(0);
  Elements<double> in(x), scale(spread(c, c.in(1), x));
  Elements<double> zero(c.hasIn(2) ? spread(c, c.in(2), x) : Tensor(Elem::f32, x.shape));
  std::vector<double> out(in.size());
  for (int64_t i = 0; i < in.size(); ++i)
    out[i] = (in[i] - zero[i]) * scale[i];
  Elem declared = elemOf(c.i64("output_dtype", 0));
  c.set(0, pack(declared == Elem::none ? c.in(1).type : declared, x.shape, out));
}

void dynamicQuantizeLinear(Call &c) {
  Elements<double> in(c.in(0));
  double low = 0, high = 0;
  for (double v : in) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  double scale = static_cast<float>((high - low) / 255);
  double zero =
      scale == 0 ? 0
                 : std::clamp(double(std::nearbyint(static_cast<float>(-low / scale))), 0.0, 255.0);
  std::vector<double> out(in.size());
  for (int64_t i = 0; i < in.size(); ++i)
    out[i] = scale == 0 ? 0 : quantised(in[i], scale, zero, {0, 255});
  c.set(0, pack(Elem::u8, c.in(0).shape, out));
  c.set(1, scalar(Elem::f32, scale));
  c.set(2, scalar(Elem::u8, zero));
}

// x minus its zero point, which is a scalar or belongs to the rows or columns of a matrix.
Tensor centred(const Tensor &x, const std::optional<Tensor> &zero, bool rows) {
  Tensor wide = cast(x, Elem::i64);
  if (!zero)
    return wide;
  Tensor z = zero->size() == 1 ? zero->reshaped({}) : *zero;
  if (rows && z.rank() == 1)
    z = z.reshaped({z.size(), 1});
  Elements<int64_t> in(wide), by(broadcast(cast(z, Elem::i64), x.shape));
  std::vector<int64_t> out(in.size());
  for (int64_t i = 0; i < in.size(); ++i)
    out[i] = in[i] - by[i];
  return pack(Elem::i64, x.shape, out);
}

void matMulInteger(Call &c) {
  Tensor a = centred(c.in(0), c.optional(2), true), b = centred(c.in(1), c.optional(3), false);
  c.set(0, cast(matmul(a, b), Elem::i32));
}

// a, scale, zero point, b, scale, zero point, scale and zero point of the result.
void qLinearMatMul(Call &c) {
  Tensor product = matmul(centred(c.in(0), c.in(2), true), centred(c.in(3), c.in(5), false));
  auto column = [](const Tensor &t) {
    return t.rank() == 1 && t.size() > 1 ? t.reshaped({t.size(), 1}) : t;
  };
  Elem type = c.in(7).type;
  auto range = limitsOf(type);
  Elements<double> in(product), sa(broadcast(column(c.in(1)), product.shape)),
      sb(broadcast(c.in(4), product.shape)), sy(broadcast(column(c.in(6)), product.shape)),
      zy(broadcast(column(c.in(7)), product.shape));
  std::vector<double> out(in.size());
  for (int64_t i = 0; i < in.size(); ++i)
    out[i] = quantised(in[i] * sa[i] * sb[i], sy[i], zy[i], range);
  c.set(0, pack(type, product.shape, out));
}

} // namespace

void addQuantisation(Registry &r) {
  r.add("onnx.QuantizeLinear", quantizeLinear);
  r.add("onnx.DequantizeLinear", dequantizeLinear);
  r.add("onnx.DynamicQuantizeLinear", dynamicQuantizeLinear);
  r.add("onnx.MatMulInteger", matMulInteger);
  r.add("onnx.QLinearMatMul", qLinearMatMul);
}

} // namespace moec::reference
