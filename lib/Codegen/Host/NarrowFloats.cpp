// Floats of 8 and 4 bits inside nests: bytes in memory, f32 in computation. The layouts are those of
// the ONNX standard (Micikevicius et al., "FP8 formats for deep learning", 2022, and the OCP
// microscaling formats); conversions follow the tables of the operator Cast.
#include "Nest.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include <cmath>

using namespace moec::host;
namespace arith = mlir::arith;
using V = mlir::Value;

namespace {
/// What a byte with all exponent bits set, or the one of -0, stands for.
enum class Special { infinities, nan, negativeZeroIsNan, none };

struct Format {
  int exponent, mantissa, bias;
  Special special;
  int bits() const { return exponent + mantissa; } ///< without the sign
  int last() const { return (1 << bits()) - 1; }
  int infinity() const { return last() - (1 << mantissa) + 1; }
  /// The byte of the largest number.
  int largest() const {
    return special == Special::infinities ? infinity() - 1
           : special == Special::nan      ? last() - 1
                                          : last();
  }
  /// The byte of a quiet NaN; a format without one has -0 instead.
  int nan() const {
    return special == Special::negativeZeroIsNan || special == Special::none ? last() + 1 : last();
  }
};

Format formatOf(DType type) {
  switch (type) {
  case DType::F8E5M2:
    return {5, 2, 15, Special::infinities};
  case DType::F8E5M2FNUZ:
    return {5, 2, 16, Special::negativeZeroIsNan};
  case DType::F8E4M3FNUZ:
    return {4, 3, 8, Special::negativeZeroIsNan};
  case DType::F4E2M1:
    return {2, 1, 1, Special::none};
  default:
    return {4, 3, 7, Special::nan};
  }
}

/// i32 arithmetic with constants.
struct Ints {
  mlir::OpBuilder &b;
  mlir::Location loc;
  V c(uint32_t v) {
    return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(static_cast<int32_t>(v)));
  }
  V f(double v) { return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(static_cast<float>(v))); }
  V add(V x, V y) { return arith::AddIOp::create(b, loc, x, y); }
  V sub(V x, V y) { return arith::SubIOp::create(b, loc, x, y); }
  V band(V x, V y) { return arith::AndIOp::create(b, loc, x, y); }
  V bor(V x, V y) { return arith::OrIOp::create(b, loc, x, y); }
  V shl(V x, int by) { return arith::ShLIOp::create(b, loc, x, c(by)); }
  V shr(V x, int by) { return arith::ShRUIOp::create(b, loc, x, c(by)); }
  V pick(V k, V x, V y) { return arith::SelectOp::create(b, loc, k, x, y); }
  V cmp(arith::CmpIPredicate p, V x, V y) { return arith::CmpIOp::create(b, loc, p, x, y); }
  V same(V x, uint32_t y) { return cmp(arith::CmpIPredicate::eq, x, c(y)); }
  V above(V x, uint32_t y) { return cmp(arith::CmpIPredicate::sgt, x, c(y)); }
  V toFloat(V x) { return arith::BitcastOp::create(b, loc, b.getF32Type(), x); }
  V bitsOf(V x) { return arith::BitcastOp::create(b, loc, b.getI32Type(), x); }
};
} // namespace

V ScalarWriter::decode(V byte, DType type) {
  Ints i{b, loc};
  V x = arith::ExtUIOp::create(b, loc, b.getI32Type(), byte);
  if (type == DType::F8E8M0) { // a power of two; the lowest is below f32's normal numbers
    V bits = i.pick(i.same(x, 255), i.c(0x7fc00000), i.shl(x, 23));
    return i.toFloat(i.pick(i.same(x, 0), i.c(0x00400000), bits));
  }
  Format f = formatOf(type);
  V magnitude = i.band(x, i.c(f.last()));
  V sign = i.shl(i.band(x, i.c(1u << f.bits())), 31 - f.bits());
  V normal = i.add(i.shl(magnitude, 23 - f.mantissa), i.c(static_cast<uint32_t>(127 - f.bias) << 23));
  V count = arith::UIToFPOp::create(b, loc, b.getF32Type(), magnitude);
  V small = arith::MulFOp::create(b, loc, count, i.f(std::ldexp(1.0, 1 - f.bias - f.mantissa)));
  V low = i.cmp(arith::CmpIPredicate::slt, magnitude, i.c(1u << f.mantissa));
  V bits = i.pick(low, i.bitsOf(small), normal);
  if (f.special == Special::infinities) {
    bits = i.pick(i.same(magnitude, f.infinity()), i.c(0x7f800000), bits);
    bits = i.pick(i.above(magnitude, f.infinity()), i.c(0x7fc00000), bits);
  } else if (f.special == Special::nan) {
    bits = i.pick(i.same(magnitude, f.last()), i.c(0x7fc00000), bits);
  }
  bits = i.bor(bits, sign);
  if (f.special == Special::negativeZeroIsNan)
    bits = i.pick(i.same(x, f.nan()), i.c(0x7fc00000), bits);
  return i.toFloat(bits);
}

/// The exponent of an f32 is the byte; its fraction decides on rounding.
static V powerOfTwo(Ints &i, V bits, Narrowing how) {
  V exponent = i.band(i.shr(bits, 23), i.c(255)), fraction = i.band(bits, i.c(0x7fffff));
  V up = i.c(0);
  V one = i.c(1), zero = i.c(0);
  if (how.round == Narrowing::Up) {
    up = i.pick(i.same(fraction, 0), zero, one);
  } else if (how.round == Narrowing::Nearest) {
    V half = i.pick(i.same(exponent, 0), zero, one); // half of the lowest step goes down
    up = i.pick(i.above(fraction, 0x400000), one, i.pick(i.same(fraction, 0x400000), half, zero));
  }
  if (how.saturate)
    up = i.pick(i.same(exponent, 254), zero, up);
  return i.pick(i.same(exponent, 255), i.c(255), i.add(exponent, up));
}

V ScalarWriter::encode(V x, DType type, Narrowing how) {
  Ints i{b, loc};
  V bits = i.bitsOf(x);
  if (type == DType::F8E8M0)
    return arith::TruncIOp::create(b, loc, b.getI8Type(), powerOfTwo(i, bits, how));
  Format f = formatOf(type);
  V magnitude = i.band(bits, i.c(0x7fffffff)), sign = i.shr(bits, 31);
  // To nearest even: in the integers for normal results, by f32 addition for the others.
  int dropped = 23 - f.mantissa;
  V odd = i.band(i.shr(magnitude, dropped), i.c(1));
  V rounded = i.add(i.add(magnitude, i.c((1u << (dropped - 1)) - 1)), odd);
  V normal = i.sub(i.shr(rounded, dropped), i.c(static_cast<uint32_t>(127 - f.bias) << f.mantissa));
  V magic = i.f(std::ldexp(1.0, 24 - f.bias - f.mantissa));
  V sum = arith::AddFOp::create(b, loc, i.toFloat(magnitude), magic);
  V small = i.sub(i.bitsOf(sum), i.bitsOf(magic));
  V low = i.cmp(arith::CmpIPredicate::slt, magnitude,
                i.c(static_cast<uint32_t>(128 - f.bias) << 23));
  V code = i.pick(low, small, normal);
  bool clamps = how.saturate || f.special == Special::none;
  int over = clamps ? f.largest() : f.special == Special::infinities ? f.infinity() : f.nan();
  code = i.pick(i.above(code, f.largest()), i.c(over), code);
  code = i.pick(i.above(magnitude, 0x7f800000), i.c(f.nan()), code);
  V result = i.bor(code, i.shl(sign, f.bits()));
  if (f.special == Special::negativeZeroIsNan) { // which neither -0 nor -NaN may become or lose
    result = i.pick(i.same(code, 0), i.c(0), result);
    result = i.pick(i.same(code, f.nan()), i.c(f.nan()), result);
  }
  return arith::TruncIOp::create(b, loc, b.getI8Type(), result);
}
