// Ops of one tensor, element by element: functions, activations, tests, casts.
#include "Activations.h"
#include "Call.h"
#include "Narrow.h"
#include "Shapes.h"
#include <algorithm>
#include <cmath>

using namespace llvm;

namespace moec::reference {

namespace {

// y = f(x) for float tensors.
template <class F>
void floats(Call &c, F f) {
  const Tensor &x = c.in(0);
  if (!isFloat(x.type))
    fail(Twine("floating-point elements expected, not ") + nameOf(x.type));
  Elements<double> in(x);
  std::vector<double> out(in.size());
  for (int64_t i = 0; i < in.size(); ++i)
    out[i] = f(in[i]);
  c.set(0, pack(x.type, x.shape, out));
}

// y = f(x) for every numeric type; f takes a double, an int64_t or a uint64_t.
template <class F>
void numbers(Call &c, F f) {
  const Tensor &x = c.in(0);
  withComputeType(x.type, [&](auto zero) {
    using T = decltype(zero);
    Elements<T> in(x);
    std::vector<T> out(in.size());
    for (int64_t i = 0; i < in.size(); ++i)
      out[i] = f(in[i]);
    c.set(0, pack(x.type, x.shape, out));
  });
}

template <auto F>
void floatOp(Call &c) {
  floats(c, F);
}
template <auto F>
void numberOp(Call &c) {
  numbers(c, F);
}

template <class F>
void test(Call &c, F f) {
  Elements<double> in(c.in(0));
  Tensor out(Elem::boolean, c.in(0).shape);
  for (int64_t i = 0; i < in.size(); ++i)
    out.mutableBytes()[i] = f(in[i]);
  c.set(0, out);
}

void isInf(Call &c) {
  bool positive = c.i64("detect_positive", 1), negative = c.i64("detect_negative", 1);
  test(c, [&](double x) { return std::isinf(x) && (x > 0 ? positive : negative); });
}

void logicalNot(Call &c) {
  const Tensor &x = c.in(0);
  Tensor out(Elem::boolean, x.shape);
  for (int64_t i = 0, n = x.size(); i < n; ++i)
    out.mutableBytes()[i] = !x.bytes()[i];
  c.set(0, out);
}

void bitwiseNot(Call &c) {
  Elements<uint64_t> in(c.in(0));
  std::vector<uint64_t> out(in.size());
  for (int64_t i = 0; i < in.size(); ++i)
    out[i] = ~in[i];
  c.set(0, pack(c.in(0).type, c.in(0).shape, out));
}

void clip(Call &c) {
  const Tensor &x = c.in(0);
  withComputeType(x.type, [&](auto zero) {
    using T = decltype(zero);
    auto bound = [&](int64_t i) -> std::optional<T> {
      if (!c.hasIn(i))
        return std::nullopt;
      if (c.in(i).size() != 1)
        fail("a bound of Clip holds " + Twine(c.in(i).size()) + " elements");
      return Elements<T>(c.in(i))[0];
    };
    std::optional<T> low = bound(1), high = bound(2);
    Elements<T> in(x);
    std::vector<T> out(in.begin(), in.end());
    for (T &v : out) { // NaN stays
      if (low && v < *low)
        v = *low;
      if (high && v > *high)
        v = *high;
    }
    c.set(0, pack(x.type, x.shape, out));
  });
}

Narrowing narrowing(Call &c) {
  std::string round = c.str("round_mode", "up");
  if (round != "up" && round != "down" && round != "nearest")
    fail("unsupported: the rounding mode " + round);
  return {c.i64("saturate", 1) != 0, round == "up"     ? Narrowing::Round::up
                                     : round == "down" ? Narrowing::Round::down
                                                       : Narrowing::Round::nearest};
}

void castTo(Call &c) {
  Elem to = elemOf(c.i64("to", 0));
  if (to == Elem::none)
    fail("unsupported: cast to element type " + Twine(c.i64("to", 0)));
  c.set(0, cast(c.in(0), to, narrowing(c)));
}

std::string checkCast(mlir::Operation *op) {
  auto to = op->getAttrOfType<mlir::IntegerAttr>("to");
  if (!to || elemOf(to.getInt()) == Elem::none)
    return "cast to element type " + (to ? std::to_string(to.getInt()) : "?");
  return "";
}

void castLike(Call &c) { c.set(0, cast(c.in(0), c.in(1).type, narrowing(c))); }

void bitCast(Call &c) {
  Elem to = elemOf(c.i64("to", 0));
  const Tensor &x = c.in(0);
  if (to == Elem::none || bytesOf(to) != bytesOf(x.type))
    fail(Twine("unsupported: bits of ") + nameOf(x.type) + " as another width");
  Tensor out(to, x.shape);
  if (x.size() > 0)
    std::memcpy(out.mutableBytes(), x.bytes(), x.size() * bytesOf(to));
  c.set(0, out);
}

void dropout(Call &c) {
  if (c.hasIn(2) && c.intIn(2) != 0)
    fail("unsupported: Dropout in training mode is random");
  c.set(0, c.in(0));
  std::vector<int64_t> all(c.in(0).size(), 1);
  c.set(1, pack(Elem::boolean, c.in(0).shape, all));
}

void identity(Call &c) { c.set(0, c.in(0)); }

void gelu(Call &c) {
  bool tanh = c.str("approximate", "none") == "tanh";
  floats(c, tanh ? activations::geluTanh : activations::gelu);
}

void addFunctions(Registry &r) {
  r.add("onnx.Acos", floatOp<[](double x) { return std::acos(x); }>);
  r.add("onnx.Acosh", floatOp<[](double x) { return std::acosh(x); }>);
  r.add("onnx.Asin", floatOp<[](double x) { return std::asin(x); }>);
  r.add("onnx.Asinh", floatOp<[](double x) { return std::asinh(x); }>);
  r.add("onnx.Atan", floatOp<[](double x) { return std::atan(x); }>);
  r.add("onnx.Atanh", floatOp<[](double x) { return std::atanh(x); }>);
  r.add("onnx.Ceil", floatOp<[](double x) { return std::ceil(x); }>);
  r.add("onnx.Cos", floatOp<[](double x) { return std::cos(x); }>);
  r.add("onnx.Cosh", floatOp<[](double x) { return std::cosh(x); }>);
  r.add("onnx.Erf", floatOp<[](double x) { return std::erf(x); }>);
  r.add("onnx.Exp", floatOp<[](double x) { return std::exp(x); }>);
  r.add("onnx.Floor", floatOp<[](double x) { return std::floor(x); }>);
  r.add("onnx.Log", floatOp<[](double x) { return std::log(x); }>);
  r.add("onnx.Reciprocal", floatOp<[](double x) { return 1 / x; }>);
  r.add("onnx.Round", floatOp<[](double x) { return std::nearbyint(x); }>);
  r.add("onnx.Sin", floatOp<[](double x) { return std::sin(x); }>);
  r.add("onnx.Sinh", floatOp<[](double x) { return std::sinh(x); }>);
  r.add("onnx.Sqrt", floatOp<[](double x) { return std::sqrt(x); }>);
  r.add("onnx.Tan", floatOp<[](double x) { return std::tan(x); }>);
  r.add("onnx.Tanh", floatOp<[](double x) { return std::tanh(x); }>);
  r.add("onnx.Abs", numberOp<[](auto x) -> decltype(x) {
          if constexpr (std::is_same_v<decltype(x), double>)
            return std::fabs(x);
          return x < 0 ? static_cast<decltype(x)>(-static_cast<uint64_t>(x)) : x;
        }>);
  r.add("onnx.Neg", numberOp<[](auto x) -> decltype(x) {
          if constexpr (std::is_same_v<decltype(x), double>)
            return -x;
          return static_cast<decltype(x)>(-static_cast<uint64_t>(x));
        }>);
  r.add("onnx.Sign", numberOp<[](auto x) -> decltype(x) {
          return x > 0 ? 1 : x < 0 ? static_cast<decltype(x)>(-1) : x;
        }>);
  r.add("onnx.IsNaN", [](Call &c) { test(c, [](double x) { return std::isnan(x); }); });
  r.add("onnx.IsInf", isInf);
  r.add("onnx.Not", logicalNot);
  r.add("onnx.BitwiseNot", bitwiseNot);
  r.add("onnx.Clip", clip);
  r.add("onnx.Cast", castTo, checkCast);
  r.add("onnx.CastLike", castLike);
  r.add("onnx.BitCast", bitCast, checkCast);
  r.add("onnx.Dropout", dropout);
  r.add("onnx.Identity", identity);
}

void addActivations(Registry &r) {
  r.add("onnx.Relu", numberOp<[](auto x) -> decltype(x) { return x < 0 ? 0 : x; }>);
  r.add("onnx.Sigmoid", floatOp<activations::sigmoid>);
  r.add("onnx.Softplus", floatOp<activations::softplus>);
  r.add("onnx.Softsign", floatOp<[](double x) { return x / (1 + std::fabs(x)); }>);
  r.add("onnx.Mish", floatOp<[](double x) { return x * std::tanh(activations::softplus(x)); }>);
  r.add("onnx.HardSwish",
        floatOp<[](double x) { return x * std::fmax(0.0, std::fmin(1.0, x / 6 + 0.5)); }>);
  r.add("onnx.Gelu", gelu);
  r.add("onnx.Swish", [](Call &c) {
    double alpha = c.f64("alpha", 1);
    floats(c, [=](double x) { return activations::swish(x, alpha); });
  });
  r.add("onnx.Elu", [](Call &c) {
    double alpha = c.f64("alpha", 1);
    floats(c, [=](double x) { return x < 0 ? alpha * std::expm1(x) : x; });
  });
  r.add("onnx.Celu", [](Call &c) {
    double alpha = c.f64("alpha", 1);
    floats(c, [=](double x) { return x < 0 ? alpha * std::expm1(x / alpha) : x; });
  });
  r.add("onnx.Selu", [](Call &c) {
    double alpha = c.f64("alpha", 1.67326319217681884765625);
    double gamma = c.f64("gamma", 1.05070102214813232421875);
    floats(c, [=](double x) { return gamma * (x <= 0 ? alpha * std::expm1(x) : x); });
  });
  r.add("onnx.LeakyRelu", [](Call &c) {
    double alpha = c.f64("alpha", 0.01f);
    floats(c, [=](double x) { return x < 0 ? alpha * x : x; });
  });
  r.add("onnx.ThresholdedRelu", [](Call &c) {
    double alpha = c.f64("alpha", 1);
    floats(c, [=](double x) { return x > alpha ? x : 0; });
  });
  r.add("onnx.HardSigmoid", [](Call &c) {
    double alpha = c.f64("alpha", 0.2f), beta = c.f64("beta", 0.5);
    floats(c, [=](double x) { return std::clamp(alpha * x + beta, 0.0, 1.0); });
  });
  r.add("onnx.Shrink", [](Call &c) {
    double bias = c.f64("bias", 0), lambd = c.f64("lambd", 0.5);
    auto shrink = [=](double x) { return x < -lambd ? x + bias : x > lambd ? x - bias : 0; };
    numbers(c, [=](auto x) { return static_cast<decltype(x)>(shrink(static_cast<double>(x))); });
  });
}

} // namespace

void addElementwise(Registry &r) {
  addFunctions(r);
  addActivations(r);
}

} // namespace moec::reference
