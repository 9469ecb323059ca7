#include "Elementwise.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace mlir;

namespace moec::onnx {

namespace {

bool compares(StringRef name) {
  return name == "Equal" || name == "Less" || name == "LessOrEqual" || name == "Greater" ||
         name == "GreaterOrEqual";
}

double roundTo(Type element, double value) {
  APFloat f(value);
  bool lost;
  f.convert(cast<FloatType>(element).getFloatSemantics(), APFloat::rmNearestTiesToEven, &lost);
  f.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
  return f.convertToDouble();
}

int64_t wrapTo(Type element, int64_t value) {
  unsigned width = element.getIntOrFloatBitWidth();
  if (width >= 64)
    return value;
  if (cast<IntegerType>(element).isUnsigned() || width == 1)
    return static_cast<int64_t>(static_cast<uint64_t>(value) &
                                llvm::maskTrailingOnes<uint64_t>(width));
  return llvm::SignExtend64(static_cast<uint64_t>(value), width);
}

std::optional<Number> compare(StringRef name, Type element, Number a, Number b) {
  auto by = [&](auto x, auto y) {
    return name == "Equal"         ? x == y
           : name == "Less"        ? x < y
           : name == "LessOrEqual" ? x <= y
           : name == "Greater"     ? x > y
                                   : x >= y;
  };
  return Number{isa<FloatType>(element) ? by(a.f, b.f) : by(a.i, b.i)};
}

std::optional<Number> floatScalar(StringRef name, Type element, double x, double y) {
  double value;
  if (name == "Add")
    value = x + y;
  else if (name == "Sub")
    value = x - y;
  else if (name == "Mul")
    value = x * y;
  else if (name == "Div")
    value = x / y;
  else if (name == "Sqrt")
    value = std::sqrt(x);
  else if (name == "Neg")
    value = -x;
  else if (name == "Floor")
    value = std::floor(x);
  else if (name == "Ceil")
    value = std::ceil(x);
  else
    return std::nullopt;
  return Number{0, roundTo(element, value)};
}

std::optional<Number> integerScalar(StringRef name, Type element, int64_t x, int64_t y) {
  auto wrapped = [&](uint64_t value) {
    return Number{wrapTo(element, static_cast<int64_t>(value))};
  };
  uint64_t a = static_cast<uint64_t>(x), b = static_cast<uint64_t>(y);
  if (name == "Add")
    return wrapped(a + b);
  if (name == "Sub")
    return wrapped(a - b);
  if (name == "Mul")
    return wrapped(a * b);
  if (name == "Neg")
    return wrapped(0 - a);
  if (name == "Min")
    return Number{std::min(x, y)};
  if (name == "Max")
    return Number{std::max(x, y)};
  if (name == "Abs")
    return x < 0 ? wrapped(0 - a) : Number{x};
  if (name == "Div" && y != 0 && !(x == std::numeric_limits<int64_t>::min() && y == -1))
    return wrapped(static_cast<uint64_t>(x / y));
  bool boolean = element.isInteger(1);
  if (boolean && name == "And")
    return Number{x & y};
  if (boolean && name == "Or")
    return Number{x | y};
  if (boolean && name == "Xor")
    return Number{x ^ y};
  if (boolean && name == "Not")
    return Number{x == 0};
  return std::nullopt;
}

} // namespace

bool isUnary(StringRef name) {
  return name == "Neg" || name == "Abs" || name == "Sqrt" || name == "Not" || name == "Floor" ||
         name == "Ceil";
}

bool isBinary(StringRef name) {
  return compares(name) || name == "Add" || name == "Sub" || name == "Mul" || name == "Div" ||
         name == "And" || name == "Or" || name == "Xor" || name == "Min" || name == "Max";
}

std::optional<Number> scalar(StringRef name, Type element, Number a, Number b) {
  if (compares(name))
    return compare(name, element, a, b);
  return isa<FloatType>(element) ? floatScalar(name, element, a.f, b.f)
                                 : integerScalar(name, element, a.i, b.i);
}

std::optional<SmallVector<int64_t>> broadcastShape(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  SmallVector<int64_t> out(std::max(a.size(), b.size()));
  int64_t count = 1;
  for (size_t i = 0; i < out.size(); ++i) {
    int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1)
      return std::nullopt;
    int64_t dim = x == 1 ? y : x;
    out[out.size() - 1 - i] = dim;
    if (llvm::MulOverflow(count, dim, count) || count > kMaxFoldedElements)
      return std::nullopt;
  }
  return out;
}

Known broadcast(const Known &a, ArrayRef<int64_t> shape) {
  Known out{a.element, SmallVector<int64_t>(shape), {}};
  int64_t count = 1;
  for (int64_t d : shape)
    count *= d;
  size_t lead = shape.size() - a.shape.size();
  for (int64_t at = 0; at < count; ++at) {
    int64_t rest = at, from = 0, step = 1;
    for (size_t axis = shape.size(); axis-- > 0;) {
      int64_t index = rest % shape[axis];
      rest /= shape[axis];
      if (axis < lead)
        continue;
      int64_t dim = a.shape[axis - lead];
      from += dim == 1 ? 0 : index * step;
      step *= dim;
    }
    out.values.push_back(a.values[from]);
  }
  return out;
}

std::optional<Known> unary(StringRef name, const std::optional<Known> &a) {
  if (!a)
    return std::nullopt;
  Known out{a->element, a->shape, {}};
  for (const auto &x : a->values) {
    auto value = x ? scalar(name, a->element, *x, Number{}) : std::nullopt;
    if (x && !value)
      return std::nullopt;
    out.values.push_back(value);
  }
  return out;
}

std::optional<Known> binary(StringRef name, const std::optional<Known> &a,
                            const std::optional<Known> &b) {
  if (!a || !b || a->element != b->element)
    return std::nullopt;
  auto shape = broadcastShape(a->shape, b->shape);
  if (!shape)
    return std::nullopt;
  Known x = broadcast(*a, *shape), y = broadcast(*b, *shape);
  Known out{compares(name) ? IntegerType::get(a->element.getContext(), 1) : a->element, *shape, {}};
  for (auto [p, q] : llvm::zip(x.values, y.values)) {
    auto value = p && q ? scalar(name, a->element, *p, *q) : std::nullopt;
    if (p && q && !value)
      return std::nullopt;
    out.values.push_back(value);
  }
  return out;
}

std::optional<Known> where(const std::optional<Known> &condition, const std::optional<Known> &a,
                           const std::optional<Known> &b) {
  if (!condition || !a || !b || a->element != b->element)
    return std::nullopt;
  auto shape = broadcastShape(a->shape, b->shape);
  if (shape)
    shape = broadcastShape(*shape, condition->shape);
  if (!shape)
    return std::nullopt;
  Known c = broadcast(*condition, *shape), x = broadcast(*a, *shape), y = broadcast(*b, *shape);
  Known out{a->element, *shape, {}};
  for (auto [choice, p, q] : llvm::zip(c.values, x.values, y.values))
    out.values.push_back(!choice ? std::nullopt : choice->i ? p : q);
  return out;
}

std::optional<Known> convert(const Known &a, Type element) {
  Known out{element, a.shape, {}};
  for (const auto &x : a.values) {
    if (!x) {
      out.values.push_back(std::nullopt);
    } else if (out.isFloat()) {
      double value = a.isFloat() ? x->f : static_cast<double>(x->i);
      // Large integers would be rounded twice.
      if (!a.isFloat() && std::abs(value) > 9007199254740992.0)
        return std::nullopt;
      out.values.push_back(Number{0, roundTo(element, value)});
    } else if (element.isInteger(1)) {
      out.values.push_back(Number{a.isFloat() ? x->f != 0 : x->i != 0});
    } else if (!a.isFloat()) {
      out.values.push_back(Number{wrapTo(element, x->i)});
    } else {
      // Toward zero; what does not fit is undefined and left to run time.
      double value = std::trunc(x->f);
      if (!(std::abs(value) < 9.2e18) ||
          wrapTo(element, static_cast<int64_t>(value)) != static_cast<int64_t>(value))
        return std::nullopt;
      out.values.push_back(Number{static_cast<int64_t>(value)});
    }
  }
  return out;
}

} // namespace moec::onnx
