#include "Narrow.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/bit.h"
#include <cmath>
#include <limits>

using namespace llvm;

namespace moec::reference {

bool isNarrowFloat(Elem e) {
  return (e >= Elem::f8e4m3fn && e <= Elem::f8e5m2fnuz) || e == Elem::f4e2m1 || e == Elem::f8e8m0;
}

std::pair<int64_t, int64_t> integerLimits(Elem e) {
  switch (e) {
  case Elem::u2:
    return {0, 3};
  case Elem::i2:
    return {-2, 1};
  case Elem::u4:
    return {0, 15};
  case Elem::i4:
    return {-8, 7};
  case Elem::u8:
    return {0, 255};
  case Elem::i8:
    return {-128, 127};
  case Elem::u16:
    return {0, 65535};
  case Elem::i16:
    return {-32768, 32767};
  case Elem::i32:
    return {std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()};
  default:
    fail(Twine("unsupported: quantised elements of type ") + nameOf(e));
  }
}

static const fltSemantics &semanticsOf(Elem e) {
  switch (e) {
  case Elem::f8e4m3fn:
    return APFloat::Float8E4M3FN();
  case Elem::f8e4m3fnuz:
    return APFloat::Float8E4M3FNUZ();
  case Elem::f8e5m2:
    return APFloat::Float8E5M2();
  case Elem::f8e5m2fnuz:
    return APFloat::Float8E5M2FNUZ();
  case Elem::f4e2m1:
    return APFloat::Float4E2M1FN();
  default:
    fail(Twine("unsupported element type ") + nameOf(e));
  }
}

double narrowValue(Elem e, uint8_t bits) {
  if (e == Elem::f8e8m0) // a power of two
    return bits == 0xff ? std::nan("") : std::ldexp(1.0, bits - 127);
  const fltSemantics &semantics = semanticsOf(e);
  APFloat value(semantics, APInt(e == Elem::f4e2m1 ? 4 : 8, bits & (e == Elem::f4e2m1 ? 15 : 255)));
  bool lost;
  value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
  return value.convertToDouble();
}

// The exponent of an f32 is the byte; the fraction decides on rounding.
static uint8_t powerOfTwo(float value, Narrowing how) {
  uint32_t bits = bit_cast<uint32_t>(value), exponent = bits >> 23 & 0xff;
  uint32_t fraction = bits & 0x7fffff;
  if (exponent == 0xff)
    return 0xff;
  bool up = how.round == Narrowing::Round::up        ? fraction != 0
            : how.round == Narrowing::Round::nearest ? fraction > 0x400000 ||
                                                    (fraction == 0x400000 && exponent != 0)
                                              : false;
  if (up && exponent == 0xfe && how.saturate)
    up = false;
  return static_cast<uint8_t>(exponent + up);
}

uint8_t narrowBits(Elem e, double value, Narrowing how) {
  if (e == Elem::f8e8m0)
    return powerOfTwo(static_cast<float>(value), how);
  const fltSemantics &semantics = semanticsOf(e);
  APFloat number(value);
  bool lost;
  number.convert(semantics, APFloat::rmNearestTiesToEven, &lost);
  bool over = !std::isnan(value) && (!number.isFinite() || std::isinf(value));
  if (over && (how.saturate || e == Elem::f4e2m1))
    number = APFloat::getLargest(semantics, std::signbit(value));
  return static_cast<uint8_t>(number.bitcastToAPInt().getZExtValue());
}

} // namespace moec::reference
