// Scalar types, constants, conversions and reduction steps inside nests.
#include "Nest.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include <cmath>
#include <limits>

using namespace moec::host;
namespace arith = mlir::arith;
using V = mlir::Value;

mlir::Type ScalarWriter::storageType(DType type) {
  switch (type) {
  case DType::F32:
    return b.getF32Type();
  case DType::F64:
    return b.getF64Type();
  case DType::F16:
    return b.getF16Type();
  default: // bf16 as its bits: LLVM's own conversions call functions that libc lacks
    return b.getIntegerType(byteSize(type) * 8);
  }
}

mlir::Type ScalarWriter::computeType(DType type) {
  if (type == DType::Bool)
    return b.getI1Type();
  if (type == DType::F16 || type == DType::BF16 || isNarrowFloat(type))
    return b.getF32Type();
  return storageType(type);
}

V ScalarWriter::constant(DType type, double value, int64_t integer) {
  mlir::Type t = computeType(type);
  if (isFloat(type))
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(t, value));
  llvm::APInt bits =
      llvm::APInt(64, static_cast<uint64_t>(integer)).trunc(t.getIntOrFloatBitWidth());
  return arith::ConstantOp::create(b, loc, t, b.getIntegerAttr(t, bits));
}

V ScalarWriter::load(V x, DType storage, DType type) {
  if (storage == DType::Bool) {
    V zero = arith::ConstantOp::create(b, loc, b.getIntegerAttr(x.getType(), 0));
    x = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, x, zero);
  } else if (isNarrowFloat(storage)) {
    x = decode(x, storage);
  } else if (storage == DType::F16) {
    x = arith::ExtFOp::create(b, loc, b.getF32Type(), x);
  } else if (storage == DType::BF16) {
    V wide = arith::ExtUIOp::create(b, loc, b.getI32Type(), x);
    V shift = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(16));
    x = arith::BitcastOp::create(b, loc, b.getF32Type(),
                                 arith::ShLIOp::create(b, loc, wide, shift).getResult());
  }
  return storage == type ? x : convert(x, storage, type);
}

/// The bits of f32 `x` rounded to bf16 (to nearest even), in the upper half of an i32.
static V roundedBits(mlir::OpBuilder &b, mlir::Location loc, V x) {
  auto constant = [&](uint32_t v) -> V {
    return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(static_cast<int32_t>(v)));
  };
  V bits = arith::BitcastOp::create(b, loc, b.getI32Type(), x);
  V odd = arith::AndIOp::create(b, loc, arith::ShRUIOp::create(b, loc, bits, constant(16)),
                                constant(1));
  V bias = arith::AddIOp::create(b, loc, odd, constant(0x7fff));
  V rounded = arith::AddIOp::create(b, loc, bits, bias);
  V nan = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, x, x);
  rounded = arith::SelectOp::create(b, loc, nan, constant(0x7fc00000), rounded);
  return arith::AndIOp::create(b, loc, rounded, constant(0xffff0000));
}

V ScalarWriter::store(V x, DType type, DType storage) {
  if (type != storage)
    x = convert(x, type, storage);
  if (storage == DType::Bool)
    return arith::ExtUIOp::create(b, loc, b.getI8Type(), x);
  if (isNarrowFloat(storage)) // rounded already; infinities stay
    return encode(x, storage, {/*saturate=*/false});
  if (storage == DType::F16)
    return arith::TruncFOp::create(b, loc, b.getF16Type(), x);
  if (storage == DType::BF16) {
    V shift = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(16));
    V high = arith::ShRUIOp::create(b, loc, roundedBits(b, loc, x), shift);
    return arith::TruncIOp::create(b, loc, b.getI16Type(), high);
  }
  return x;
}

V ScalarWriter::round(V x, DType type, Narrowing how) {
  if (isNarrowFloat(type))
    return decode(encode(x, type, how), type);
  if (type == DType::F16)
    return arith::ExtFOp::create(b, loc, b.getF32Type(),
                                 arith::TruncFOp::create(b, loc, b.getF16Type(), x).getResult());
  if (type == DType::BF16)
    return arith::BitcastOp::create(b, loc, b.getF32Type(), roundedBits(b, loc, x));
  return x;
}

/// f64 -> f32, to odd where inexact: rounding it further to f16 or bf16 then rounds only once.
static V toOdd(mlir::OpBuilder &b, mlir::Location loc, V x) {
  V narrow = arith::TruncFOp::create(b, loc, b.getF32Type(), x);
  V back = arith::ExtFOp::create(b, loc, b.getF64Type(), narrow);
  V bits = arith::BitcastOp::create(b, loc, b.getI32Type(), narrow);
  V one = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(1));
  // The neighbour towards zero when rounding went away from it.
  V away = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT,
                                 mlir::math::AbsFOp::create(b, loc, back).getResult(),
                                 mlir::math::AbsFOp::create(b, loc, x).getResult());
  V lower = arith::SelectOp::create(b, loc, away, arith::SubIOp::create(b, loc, bits, one), bits);
  V odd = arith::OrIOp::create(b, loc, lower, one);
  V inexact = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::ONE, back, x);
  V result = arith::SelectOp::create(b, loc, inexact, odd, bits);
  return arith::BitcastOp::create(b, loc, b.getF32Type(), result);
}

/// Out of range (and NaN): the smallest value, as x86 does; narrow types wrap.
static V floatToInteger(ScalarWriter &w, V x, DType to) {
  mlir::OpBuilder &b = w.b;
  mlir::Location loc = w.loc;
  mlir::Type target = w.computeType(to);
  auto number = [&](double v) -> V {
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(x.getType(), v));
  };
  auto guarded = [&](V value, double low, double high) -> V {
    V above = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGE, value, number(low));
    V below = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, value, number(high));
    V in = arith::AndIOp::create(b, loc, above, below);
    return arith::SelectOp::create(b, loc, in, value, number(low));
  };
  if (to == DType::U64) {
    V big = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGE, x, number(0x1p63));
    V high = arith::FPToUIOp::create(b, loc, target, guarded(x, 0x1p63, 0x1p64));
    V low = arith::FPToSIOp::create(b, loc, target, guarded(x, -0x1p63, 0x1p63));
    return arith::SelectOp::create(b, loc, big, high, low);
  }
  bool wide = to == DType::I64 || to == DType::U32;
  mlir::Type via = wide ? b.getI64Type() : b.getI32Type();
  double limit = wide ? 0x1p63 : 0x1p31;
  V result = arith::FPToSIOp::create(b, loc, via, guarded(x, -limit, limit));
  return via == target ? result : V(arith::TruncIOp::create(b, loc, target, result));
}

/// The low bits of an i8, extended again.
static V wrapped(ScalarWriter &w, V x, DType to) {
  V unused = w.constant(DType::I8, 0, 8 - narrowWidth(to));
  V high = arith::ShLIOp::create(w.b, w.loc, x, unused);
  return isUnsigned(to) ? V(arith::ShRUIOp::create(w.b, w.loc, high, unused))
                        : V(arith::ShRSIOp::create(w.b, w.loc, high, unused));
}

V ScalarWriter::convert(V x, DType from, DType to, Narrowing how) {
  if (from == to)
    return x;
  mlir::Type target = computeType(to);
  if (isFloat(from) && isFloat(to)) {
    if (from == DType::F64 && to != DType::F32)
      x = toOdd(b, loc, x);
    else if (from == DType::F64)
      return arith::TruncFOp::create(b, loc, target, x);
    else if (to == DType::F64)
      return arith::ExtFOp::create(b, loc, target, x);
    return round(x, to, how);
  }
  if (to == DType::Bool) {
    V zero = constant(from, 0, 0);
    if (isFloat(from))
      return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNE, x, zero);
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, x, zero);
  }
  if (narrowWidth(to))
    return wrapped(*this, convert(x, from, DType::I8), to);
  if (isFloat(from))
    return floatToInteger(*this, x, to);
  if (isFloat(to)) {
    V y = isUnsigned(from) ? V(arith::UIToFPOp::create(b, loc, target, x))
                           : V(arith::SIToFPOp::create(b, loc, target, x));
    return round(y, to, how);
  }
  unsigned width = x.getType().getIntOrFloatBitWidth(), wanted = target.getIntOrFloatBitWidth();
  if (width == wanted)
    return x;
  if (width > wanted)
    return arith::TruncIOp::create(b, loc, target, x);
  return isUnsigned(from) ? V(arith::ExtUIOp::create(b, loc, target, x))
                          : V(arith::ExtSIOp::create(b, loc, target, x));
}

// --- reductions ---

V ScalarWriter::identity(llvm::StringRef kind, DType type) {
  if (kind == "sum")
    return constant(type, 0, 0);
  if (kind == "prod")
    return constant(type, 1, 1);
  bool max = kind == "max";
  if (isFloat(type)) {
    double infinity = std::numeric_limits<double>::infinity();
    return constant(type, max ? -infinity : infinity, 0);
  }
  unsigned width = computeType(type).getIntOrFloatBitWidth();
  llvm::APInt value =
      isUnsigned(type)
          ? (max ? llvm::APInt::getMinValue(width) : llvm::APInt::getMaxValue(width))
          : (max ? llvm::APInt::getSignedMinValue(width) : llvm::APInt::getSignedMaxValue(width));
  return constant(type, 0, static_cast<int64_t>(value.sext(64).getZExtValue()));
}

V ScalarWriter::combine(llvm::StringRef kind, DType type, V x, V y) {
  auto fast = arith::FastMathFlags::reassoc | arith::FastMathFlags::contract;
  if (isFloat(type)) {
    if (kind == "sum")
      return arith::AddFOp::create(b, loc, x, y, fast);
    if (kind == "prod")
      return arith::MulFOp::create(b, loc, x, y, fast);
    return kind == "max" ? V(arith::MaximumFOp::create(b, loc, x, y))
                         : V(arith::MinimumFOp::create(b, loc, x, y));
  }
  if (kind == "sum")
    return arith::AddIOp::create(b, loc, x, y);
  if (kind == "prod")
    return arith::MulIOp::create(b, loc, x, y);
  if (kind == "max")
    return isUnsigned(type) ? V(arith::MaxUIOp::create(b, loc, x, y))
                            : V(arith::MaxSIOp::create(b, loc, x, y));
  return isUnsigned(type) ? V(arith::MinUIOp::create(b, loc, x, y))
                          : V(arith::MinSIOp::create(b, loc, x, y));
}
