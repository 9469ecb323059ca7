// Ops of several tensors, element by element, with broadcasting.
#include "Call.h"
#include "Shapes.h"
#include <cmath>

using namespace llvm;

namespace moec::reference {

namespace {

// Integer sums and products wrap: they are computed modulo 2^64.
template <class F>
auto withArithmeticType(Elem e, F &&f) {
  if (isFloat(e))
    return f(double{});
  return f(uint64_t{});
}

void sameTypes(const Tensor &a, const Tensor &b) {
  if (a.type != b.type)
    fail(Twine("operands of different element types: ") + nameOf(a.type) + " and " +
         nameOf(b.type));
}

template <class T, class R, class F>
std::vector<R> zipped(const Tensor &a, const Tensor &b, F f) {
  Shape shape = broadcastShape(a.shape, b.shape);
  Elements<T> x(broadcast(a, shape)), y(broadcast(b, shape));
  std::vector<R> out(x.size());
  for (int64_t i = 0; i < x.size(); ++i)
    out[i] = f(x[i], y[i]);
  return out;
}

template <class T, class F>
Tensor combine(const Tensor &a, const Tensor &b, F f) {
  sameTypes(a, b);
  return pack(a.type, broadcastShape(a.shape, b.shape), zipped<T, T>(a, b, f));
}

template <auto F>
void arithmetic(Call &c) {
  withArithmeticType(c.in(0).type,
                     [&](auto zero) { c.set(0, combine<decltype(zero)>(c.in(0), c.in(1), F)); });
}

template <auto F>
void typed(Call &c) {
  withComputeType(c.in(0).type,
                  [&](auto zero) { c.set(0, combine<decltype(zero)>(c.in(0), c.in(1), F)); });
}

template <auto F>
void bits(Call &c) {
  c.set(0, combine<uint64_t>(c.in(0), c.in(1), F));
}

template <auto F>
void compare(Call &c) {
  sameTypes(c.in(0), c.in(1));
  withComputeType(c.in(0).type, [&](auto zero) {
    auto values = zipped<decltype(zero), int64_t>(c.in(0), c.in(1), F);
    c.set(0, pack(Elem::boolean, broadcastShape(c.in(0).shape, c.in(1).shape), values));
  });
}

constexpr auto divide = [](auto x, auto y) -> decltype(x) {
  using T = decltype(x);
  if constexpr (std::is_same_v<T, double>)
    return x / y;
  if (y == 0)
    fail("integer division by zero");
  if constexpr (std::is_same_v<T, int64_t>)
    if (y == -1) // the smallest integer has no negative
      return static_cast<int64_t>(-static_cast<uint64_t>(x));
  return x / y;
};

// The sign of the divisor (Python) or, with fmod, of the dividend (C).
template <class T>
T modulo(T x, T y, bool fmod) {
  if constexpr (std::is_same_v<T, double>) {
    double r = std::fmod(x, y);
    return !fmod && r != 0 && (r < 0) != (y < 0) ? r + y : r;
  } else {
    if (y == 0)
      fail("integer division by zero");
    if constexpr (std::is_same_v<T, int64_t>)
      if (y == -1)
        return 0;
    T r = x % y;
    return !fmod && r != 0 && (r < 0) != (y < 0) ? r + y : r;
  }
}

void mod(Call &c) {
  bool fmod = c.i64("fmod", 0);
  withComputeType(c.in(0).type, [&](auto zero) {
    using T = decltype(zero);
    c.set(0, combine<T>(c.in(0), c.in(1), [&](T x, T y) { return modulo<T>(x, y, fmod); }));
  });
}

uint64_t integerPower(uint64_t base, uint64_t exponent) {
  uint64_t result = 1;
  for (; exponent; exponent >>= 1, base *= base)
    if (exponent & 1)
      result *= base;
  return result;
}

// The exponent may have another type; the result has the base's.
void pow(Call &c) {
  const Tensor &x = c.in(0), &y = c.in(1);
  Shape shape = broadcastShape(x.shape, y.shape);
  if (!isFloat(x.type) && !isFloat(y.type)) {
    Elements<uint64_t> base(broadcast(x, shape));
    Elements<int64_t> exponent(broadcast(y, shape));
    std::vector<uint64_t> out(base.size());
    for (int64_t i = 0; i < base.size(); ++i) {
      if (exponent[i] < 0 && y.type != Elem::u64)
        fail("an integer to a negative power");
      out[i] = integerPower(base[i], static_cast<uint64_t>(exponent[i]));
    }
    c.set(0, pack(x.type, shape, out));
    return;
  }
  auto values = zipped<double, double>(x, y, [](double a, double b) { return std::pow(a, b); });
  c.set(0, pack(x.type, shape, values));
}

void bitShift(Call &c) {
  std::string direction = c.str("direction", "");
  if (direction != "LEFT" && direction != "RIGHT")
    fail("direction \"" + direction + "\" is neither LEFT nor RIGHT");
  bool left = direction == "LEFT";
  int64_t width = bytesOf(c.in(0).type) * 8;
  withComputeType(c.in(0).type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, double>)
      fail("integers expected");
    else
      c.set(0, combine<T>(c.in(0), c.in(1), [&](T x, T by) -> T {
              bool out = by < T(0) || by >= static_cast<T>(width);
              if (left)
                return out ? T(0) : static_cast<T>(static_cast<uint64_t>(x) << by);
              return out ? T(x < T(0) ? -1 : 0) : T(x >> by); // of the sign, too
            }));
  });
}

void prelu(Call &c) {
  const Tensor &x = c.in(0);
  Tensor slope = broadcast(c.in(1), x.shape); // unidirectional
  withComputeType(x.type, [&](auto zero) {
    using T = decltype(zero);
    using Product = std::conditional_t<std::is_same_v<T, double>, double, uint64_t>;
    c.set(0, combine<T>(x, slope, [](T v, T s) -> T {
            return v < 0 ? static_cast<T>(static_cast<Product>(v) * static_cast<Product>(s)) : v;
          }));
  });
}

constexpr auto larger = [](auto x, auto y) -> decltype(x) {
  return x != x || x > y ? x : y; // either NaN gives NaN
};
constexpr auto smaller = [](auto x, auto y) -> decltype(x) { return x != x || x < y ? x : y; };

// Sum, Mean, Max, Min of one or more inputs. Floats are summed before they are rounded.
template <auto F>
void variadic(Call &c) {
  Tensor total = c.in(0);
  for (int64_t i = 1; i < c.inputs(); ++i)
    withComputeType(total.type,
                    [&](auto zero) { total = combine<decltype(zero)>(total, c.in(i), F); });
  c.set(0, total);
}

void sumOrMean(Call &c, bool mean) {
  Shape shape = c.in(0).shape;
  for (int64_t i = 1; i < c.inputs(); ++i)
    shape = broadcastShape(shape, c.in(i).shape);
  std::vector<double> total(count(shape), 0.0);
  for (int64_t i = 0; i < c.inputs(); ++i) {
    sameTypes(c.in(0), c.in(i));
    Elements<double> x(broadcast(c.in(i), shape));
    for (int64_t j = 0; j < x.size(); ++j)
      total[j] += x[j];
  }
  if (mean)
    for (double &v : total)
      v /= static_cast<double>(c.inputs());
  c.set(0, pack(c.in(0).type, shape, total));
}

void swiGlu(Call &c) {
  double alpha = c.f64("alpha", 1.0);
  if (c.in(0).shape != c.in(1).shape)
    fail("inputs of different shapes");
  c.set(0, combine<double>(c.in(0), c.in(1), [&](double gate, double x) {
          return gate / (1 + std::exp(-alpha * gate)) * x;
        }));
}

void where(Call &c) {
  const Tensor &x = c.in(1), &y = c.in(2);
  sameTypes(x, y);
  if (c.in(0).type != Elem::boolean)
    fail("the condition is not boolean");
  Shape shape = broadcastShape(broadcastShape(x.shape, y.shape), c.in(0).shape);
  Tensor condition = broadcast(c.in(0), shape), a = broadcast(x, shape), b = broadcast(y, shape);
  Tensor out(x.type, shape);
  int64_t width = bytesOf(x.type);
  for (int64_t i = 0, n = out.size(); i < n; ++i)
    std::memcpy(out.mutableBytes() + i * width, (condition.bytes()[i] ? a : b).bytes() + i * width,
                width);
  c.set(0, out);
}

} // namespace

void addBinary(Registry &r) {
  r.add("onnx.Add", arithmetic<[](auto x, auto y) { return x + y; }>);
  r.add("onnx.Sub", arithmetic<[](auto x, auto y) { return x - y; }>);
  r.add("onnx.Mul", arithmetic<[](auto x, auto y) { return x * y; }>);
  r.add("onnx.Div", typed<divide>);
  r.add("onnx.Mod", mod);
  r.add("onnx.Pow", pow);
  r.add("onnx.PRelu", prelu);
  r.add("onnx.Equal", compare<[](auto x, auto y) { return x == y; }>);
  r.add("onnx.Greater", compare<[](auto x, auto y) { return x > y; }>);
  r.add("onnx.GreaterOrEqual", compare<[](auto x, auto y) { return x >= y; }>);
  r.add("onnx.Less", compare<[](auto x, auto y) { return x < y; }>);
  r.add("onnx.LessOrEqual", compare<[](auto x, auto y) { return x <= y; }>);
  r.add("onnx.And", bits<[](uint64_t x, uint64_t y) { return x & y; }>);
  r.add("onnx.Or", bits<[](uint64_t x, uint64_t y) { return x | y; }>);
  r.add("onnx.Xor", bits<[](uint64_t x, uint64_t y) { return x ^ y; }>);
  r.add("onnx.BitwiseAnd", bits<[](uint64_t x, uint64_t y) { return x & y; }>);
  r.add("onnx.BitwiseOr", bits<[](uint64_t x, uint64_t y) { return x | y; }>);
  r.add("onnx.BitwiseXor", bits<[](uint64_t x, uint64_t y) { return x ^ y; }>);
  r.add("onnx.BitShift", bitShift);
  r.add("onnx.Max", variadic<larger>);
  r.add("onnx.Min", variadic<smaller>);
  r.add("onnx.Sum", [](Call &c) { sumOrMean(c, false); });
  r.add("onnx.Mean", [](Call &c) { sumOrMean(c, true); });
  r.add("onnx.SwiGLU", swiGlu);
  r.add("onnx.Where", where);
}

} // namespace moec::reference
