#include "Math.h"
#include <limits>

using Halide::Expr;
using Halide::cast;
using Halide::select;

namespace moec::cpu {
namespace {

/// c[0] + x (c[1] + x (...)).
Expr polynomial(const Expr &x, std::initializer_list<float> coefficients) {
  Expr sum;
  for (auto c = std::rbegin(coefficients); c != std::rend(coefficients); ++c)
    sum = sum.defined() ? sum * x + *c : Expr(*c);
  return sum;
}

/// 2^n for an integer n in [-126, 127].
Expr powerOfTwo(const Expr &n) {
  return Halide::reinterpret<float>((n + 127) << 23);
}

/// value, but NaN where x is. On the bits: Halide's optimiser assumes that floats are no NaN.
Expr unlessNan(const Expr &x, const Expr &value) {
  Expr magnitude = Halide::reinterpret<uint32_t>(x) & Expr(uint32_t(0x7fffffff));
  return select(magnitude > Expr(uint32_t(0x7f800000)), x, value);
}

/// exp(x) for x in [-104, 88.8]: 2^n * e^r with |r| <= ln(2) / 2, the power in two steps so that
/// results near the ends of the range, subnormal ones too, come out.
Expr expInRange(const Expr &x) {
  Expr n = Halide::round(x * 1.44269504f);
  // ln(2) in two parts, the first product exact; strict, or the parts would be added up at once.
  Expr r = Halide::strict_float(x - n * 0.693359375f);
  r = Halide::strict_float(r + n * 2.12194440e-4f);
  Expr p = polynomial(r, {5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f, 8.3334519073e-3f,
                          1.3981999507e-3f, 1.9875691500e-4f});
  p = p * (r * r) + r + 1.0f;
  Expr whole = cast<int32_t>(n);
  Expr half = whole >> 1;
  return p * powerOfTwo(half) * powerOfTwo(whole - half);
}

} // namespace

Expr atMost(const Expr &x, float limit) { return unlessNan(x, Halide::min(x, limit)); }
Expr within(const Expr &x, float limit) {
  return unlessNan(x, Halide::clamp(x, -limit, limit));
}

Expr expOf(const Expr &x) {
  float inf = std::numeric_limits<float>::infinity();
  Expr value = expInRange(Halide::clamp(x, -104.0f, 88.8f));
  value = select(x > 88.72284f, inf, x < -103.97f, 0.0f, value);
  return unlessNan(x, value);
}

Expr sigmoidOf(const Expr &x) {
  // Bounded, so that the division never meets an infinity.
  Expr value = 1.0f / (1.0f + expInRange(Halide::clamp(-x, -87.0f, 87.0f)));
  return unlessNan(x, value);
}

Expr tanhOf(const Expr &x) {
  Expr magnitude = Halide::abs(x);
  Expr square = x * x;
  Expr small = x + x * square *
                       polynomial(square, {-3.33332819422e-1f, 1.33314422036e-1f,
                                           -5.37397155531e-2f, 2.06390887954e-2f,
                                           -5.70498872745e-3f});
  Expr large = 1.0f - 2.0f / (expInRange(Halide::min(2.0f * magnitude, 87.0f)) + 1.0f);
  large = select(x < 0.0f, -large, large);
  return unlessNan(x, select(magnitude < 0.625f, small, large));
}

Expr erfOf(const Expr &x) {
  // Abramowitz and Stegun 7.1.26: absolute error 1.5e-7; a series where relative error matters.
  Expr magnitude = Halide::min(Halide::abs(x), 9.0f);
  Expr t = 1.0f / (1.0f + 0.3275911f * magnitude);
  Expr p = t * polynomial(t, {0.254829592f, -0.284496736f, 1.421413741f, -1.453152027f,
                              1.061405429f});
  Expr large = 1.0f - p * expInRange(-magnitude * magnitude);
  large = select(x < 0.0f, -large, large);
  Expr square = x * x;
  Expr small = x * polynomial(square, {1.1283791671f, -3.7612638903e-1f, 1.1283791671e-1f,
                                       -2.6866170645e-2f, 5.2239776254e-3f, -8.5483270234e-4f});
  return unlessNan(x, select(magnitude < 0.5f, small, large));
}

Expr activate(Activation activation, float alpha, const Expr &x) {
  switch (activation) {
  case Activation::Identity:
    return x;
  case Activation::Relu:
    return unlessNan(x, Halide::max(x, 0.0f));
  case Activation::Relu2: {
    Expr r = unlessNan(x, Halide::max(x, 0.0f));
    return r * r;
  }
  case Activation::Silu:
    return x * sigmoidOf(x);
  case Activation::Swish:
    return x * sigmoidOf(x * alpha);
  case Activation::Gelu:
    return 0.5f * x * (1.0f + erfOf(x * 0.70710678f));
  case Activation::GeluTanh:
    return 0.5f * x * (1.0f + tanhOf(0.79788456f * (x + 0.044715f * x * x * x)));
  case Activation::Tanh:
    return tanhOf(x);
  case Activation::Sigmoid:
    return sigmoidOf(x);
  }
  return x;
}

} // namespace moec::cpu
