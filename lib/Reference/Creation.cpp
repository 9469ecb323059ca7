// Ops whose result comes from attributes, shapes or a few numbers.
#include "Call.h"
#include "Shapes.h"
#include <algorithm>
#include <cmath>
#include <numbers>

using namespace llvm;

namespace moec::reference {

namespace {

void constant(Call &c) {
  auto value = dyn_cast_or_null<mlir::ElementsAttr>(c.attribute("value"));
  if (!value)
    fail("unsupported kind of constant");
  c.set(0, fromAttribute(value));
}

std::string checkConstant(mlir::Operation *op) {
  auto value = op->getAttrOfType<mlir::ElementsAttr>("value");
  if (!value || elemOf(value.getElementType()) == Elem::none)
    return "this element type of a constant";
  return "";
}

void constantOfShape(Call &c) {
  Tensor fill(Elem::f32, {});
  if (auto value = dyn_cast_or_null<mlir::ElementsAttr>(c.attribute("value")))
    fill = fromAttribute(value);
  if (fill.size() != 1)
    fail("the value holds " + Twine(fill.size()) + " elements");
  c.set(0, broadcast(fill.reshaped({}), c.intsIn(0)));
}

void shapeOp(Call &c) {
  const Tensor &x = c.in(0);
  auto bound = [&](int64_t at) {
    return std::clamp<int64_t>(at < 0 ? at + x.rank() : at, 0, x.rank());
  };
  int64_t start = bound(c.i64("start", 0)), end = bound(c.i64("end", x.rank()));
  c.set(0, ints(ArrayRef<int64_t>(x.shape).slice(start, std::max<int64_t>(end - start, 0))));
}

void sizeOp(Call &c) { c.set(0, ints({c.in(0).size()}).reshaped({})); }

template <class T>
void rangeOf(Call &c, const Elements<T> *bounds) {
  T start = bounds[0][0], limit = bounds[1][0], delta = bounds[2][0];
  if (delta == 0)
    fail("a step of 0");
  double steps = std::ceil((static_cast<double>(limit) - static_cast<double>(start)) /
                           static_cast<double>(delta));
  if (!(steps < 1e12))
    fail("a range of too many elements");
  int64_t n = steps > 0 ? static_cast<int64_t>(steps) : 0;
  std::vector<T> out(n);
  for (int64_t i = 0; i < n; ++i)
    out[i] = start + static_cast<T>(i) * delta;
  c.set(0, pack(c.in(0).type, {n}, out));
}

void range(Call &c) {
  for (int64_t i = 0; i < 3; ++i)
    if (c.in(i).size() != 1 || c.in(i).type != c.in(0).type)
      fail("start, limit and delta must be scalars of one type");
  withComputeType(c.in(0).type, [&](auto zero) {
    using T = decltype(zero);
    Elements<T> bounds[] = {Elements<T>(c.in(0)), Elements<T>(c.in(1)), Elements<T>(c.in(2))};
    rangeOf<T>(c, bounds);
  });
}

void eyeLike(Call &c) {
  const Tensor &x = c.in(0);
  if (x.rank() != 2)
    fail("a matrix expected, not " + text(x.shape));
  Elem type = elemOf(c.i64("dtype", static_cast<int64_t>(x.type)));
  int64_t k = std::clamp(c.i64("k", 0), -x.shape[0], x.shape[1]);
  std::vector<int64_t> out(x.size(), 0);
  for (int64_t row = 0; row < x.shape[0]; ++row)
    if (row + k >= 0 && row + k < x.shape[1])
      out[row * x.shape[1] + row + k] = 1;
  c.set(0, pack(type, x.shape, out));
}

void oneHot(Call &c) {
  const Tensor &indices = c.in(0), &values = c.in(2);
  int64_t depth = Elements<int64_t>(cast(c.in(1), Elem::i64))[0];
  if (c.in(1).size() != 1 || depth < 0)
    fail("the depth must be one number that is not negative");
  if (values.size() != 2)
    fail(Twine(values.size()) + " values instead of [off, on]");
  int64_t axis = Call::axis(c.i64("axis", -1), indices.rank() + 1);
  Shape shape(indices.shape);
  shape.insert(shape.begin() + axis, depth);
  Tensor out(values.type, shape);
  AxisView view(shape, axis);
  Elements<int64_t> at(cast(indices, Elem::i64));
  int64_t width = bytesOf(values.type);
  for (int64_t o = 0; o < view.outer; ++o)
    for (int64_t d = 0; d < depth; ++d)
      for (int64_t i = 0; i < view.inner; ++i) {
        int64_t index = at[o * view.inner + i];
        bool on = (index < 0 ? index + depth : index) == d;
        std::memcpy(out.mutableBytes() + ((o * depth + d) * view.inner + i) * width,
                    values.bytes() + (on ? width : 0), width);
      }
  c.set(0, out);
}

// a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N)
void window(Call &c, double a0, double a1, double a2) {
  int64_t size = c.intIn(0), length = c.i64("periodic", 1) ? size : size - 1;
  Elem type = elemOf(c.i64("output_datatype", 1));
  std::vector<double> out(count({size}));
  for (int64_t n = 0; n < size; ++n) {
    double angle = 2 * std::numbers::pi * static_cast<double>(n) / static_cast<double>(length);
    out[n] = size == 1 ? 1 : a0 - a1 * std::cos(angle) + a2 * std::cos(2 * angle);
  }
  c.set(0, pack(type, {size}, out));
}

} // namespace

void addCreation(Registry &r) {
  r.add("onnx.none", [](Call &) {});
  r.add("onnx.Constant", constant, checkConstant);
  r.add("onnx.ConstantOfShape", constantOfShape);
  r.add("onnx.Shape", shapeOp);
  r.add("onnx.Size", sizeOp);
  r.add("onnx.Range", range);
  r.add("onnx.EyeLike", eyeLike);
  r.add("onnx.OneHot", oneHot);
  r.add("onnx.HannWindow", [](Call &c) { window(c, 0.5, 0.5, 0); });
  r.add("onnx.HammingWindow", [](Call &c) { window(c, 25.0 / 46, 21.0 / 46, 0); });
  r.add("onnx.BlackmanWindow", [](Call &c) { window(c, 0.42, 0.5, 0.08); });
}

} // namespace moec::reference
