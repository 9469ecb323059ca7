#include "moec/Driver/Tensor.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <cstring>

using namespace moec;

size_t moec::sizeOf(DType type) {
  switch (type) {
  case DType::u8: case DType::i8: case DType::boolean: return 1;
  case DType::f8e4m3fn: case DType::f8e4m3fnuz: case DType::f8e5m2: case DType::f8e5m2fnuz:
  case DType::f4e2m1: case DType::f8e8m0: return 1;
  case DType::u4: case DType::i4: case DType::u2: case DType::i2: return 1;
  case DType::u16: case DType::i16: case DType::f16: case DType::bf16: return 2;
  case DType::f32: case DType::i32: case DType::u32: return 4;
  case DType::i64: case DType::f64: case DType::u64: return 8;
  }
  return 0;
}

llvm::StringRef moec::nameOf(DType type) {
  switch (type) {
  case DType::f32: return "f32";
  case DType::u8: return "ui8";
  case DType::i8: return "i8";
  case DType::u16: return "ui16";
  case DType::i16: return "i16";
  case DType::i32: return "i32";
  case DType::i64: return "i64";
  case DType::boolean: return "bool";
  case DType::f16: return "f16";
  case DType::f64: return "f64";
  case DType::u32: return "ui32";
  case DType::u64: return "ui64";
  case DType::bf16: return "bf16";
  case DType::f8e4m3fn: return "f8E4M3FN";
  case DType::f8e4m3fnuz: return "f8E4M3FNUZ";
  case DType::f8e5m2: return "f8E5M2";
  case DType::f8e5m2fnuz: return "f8E5M2FNUZ";
  case DType::u4: return "ui4";
  case DType::i4: return "i4";
  case DType::f4e2m1: return "f4E2M1FN";
  case DType::f8e8m0: return "f8E8M0FNU";
  case DType::u2: return "ui2";
  case DType::i2: return "i2";
  }
  return "?";
}

unsigned moec::bitsOf(DType type) {
  switch (type) {
  case DType::u4: case DType::i4: case DType::f4e2m1: return 4;
  case DType::u2: case DType::i2: return 2;
  default: return unsigned(sizeOf(type)) * 8;
  }
}

// Of the narrow floats; null for all other types.
static const llvm::fltSemantics *narrowFloat(DType type) {
  switch (type) {
  case DType::f8e4m3fn: return &llvm::APFloat::Float8E4M3FN();
  case DType::f8e4m3fnuz: return &llvm::APFloat::Float8E4M3FNUZ();
  case DType::f8e5m2: return &llvm::APFloat::Float8E5M2();
  case DType::f8e5m2fnuz: return &llvm::APFloat::Float8E5M2FNUZ();
  case DType::f4e2m1: return &llvm::APFloat::Float4E2M1FN();
  case DType::f8e8m0: return &llvm::APFloat::Float8E8M0FNU();
  default: return nullptr;
  }
}

bool moec::isFloat(DType type) {
  return type == DType::f32 || type == DType::f64 || type == DType::f16 || type == DType::bf16 ||
         narrowFloat(type);
}

Tensor::Tensor(DType type, std::vector<int64_t> shape) : type(type), shape(std::move(shape)) {
  data.resize(size_t(count()) * sizeOf(type));
}

int64_t Tensor::count() const {
  int64_t n = 1;
  for (int64_t d : shape)
    n *= d;
  return n;
}

double Tensor::at(int64_t i) const {
  if (const llvm::fltSemantics *semantics = narrowFloat(type)) {
    bool lost;
    unsigned bits = bitsOf(type);
    llvm::APFloat value(*semantics, llvm::APInt(bits, as<uint8_t>()[i] & ((1u << bits) - 1)));
    value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lost);
    return value.convertToDouble();
  }
  switch (type) {
  case DType::f32: return as<float>()[i];
  case DType::f64: return as<double>()[i];
  case DType::f16: return float(as<_Float16>()[i]);
  case DType::bf16: return llvm::bit_cast<float>(uint32_t(as<uint16_t>()[i]) << 16);
  case DType::u8: case DType::boolean: case DType::u4: case DType::u2: return as<uint8_t>()[i];
  case DType::i8: case DType::i4: case DType::i2: return as<int8_t>()[i];
  case DType::u16: return as<uint16_t>()[i];
  case DType::i16: return as<int16_t>()[i];
  case DType::i32: return as<int32_t>()[i];
  case DType::i64: return double(as<int64_t>()[i]);
  case DType::u32: return as<uint32_t>()[i];
  case DType::u64: return double(as<uint64_t>()[i]);
  default: return 0;
  }
}

// Rounds to nearest, ties to even; NaN stays NaN.
static uint16_t toBf16(float value) {
  uint32_t bits = llvm::bit_cast<uint32_t>(value);
  if (std::isnan(value))
    return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void Tensor::set(int64_t i, double value) {
  if (const llvm::fltSemantics *semantics = narrowFloat(type)) {
    bool lost;
    llvm::APFloat number(value);
    number.convert(*semantics, llvm::APFloat::rmNearestTiesToEven, &lost);
    as<uint8_t>()[i] = uint8_t(number.bitcastToAPInt().getZExtValue());
    return;
  }
  switch (type) {
  case DType::f32: as<float>()[i] = float(value); break;
  case DType::f64: as<double>()[i] = value; break;
  case DType::f16: as<_Float16>()[i] = _Float16(float(value)); break;
  case DType::bf16: as<uint16_t>()[i] = toBf16(float(value)); break;
  case DType::boolean: as<uint8_t>()[i] = value != 0; break;
  case DType::u8: case DType::u4: case DType::u2: as<uint8_t>()[i] = uint8_t(value); break;
  case DType::i8: case DType::i4: case DType::i2: as<int8_t>()[i] = int8_t(value); break;
  case DType::u16: as<uint16_t>()[i] = uint16_t(value); break;
  case DType::i16: as<int16_t>()[i] = int16_t(value); break;
  case DType::i32: as<int32_t>()[i] = int32_t(value); break;
  case DType::i64: as<int64_t>()[i] = int64_t(value); break;
  case DType::u32: as<uint32_t>()[i] = uint32_t(value); break;
  case DType::u64: as<uint64_t>()[i] = uint64_t(value); break;
  default: break;
  }
}

static std::string shapeText(const Tensor &tensor) {
  std::string text;
  for (int64_t d : tensor.shape)
    text += (text.empty() ? "" : "x") + std::to_string(d);
  return text;
}

std::string moec::describe(const Tensor &tensor) {
  return llvm::formatv("{0}[{1}]", nameOf(tensor.type), shapeText(tensor));
}

Difference moec::compare(const Tensor &got, const Tensor &expected, Tolerance tolerance) {
  Difference d;
  if (got.type != expected.type || got.shape != expected.shape) {
    d.equal = false;
    d.shapes = llvm::formatv("{0} instead of {1}", describe(got), describe(expected));
    return d;
  }
  d.count = got.count();
  if (!isFloat(got.type)) {
    if (got.data == expected.data)
      return d;
    tolerance = {0, 0};
  }
  double worst = 0;
  for (int64_t i = 0; i < d.count; ++i) {
    double a = got.at(i), b = expected.at(i);
    if (a == b || (std::isnan(a) && std::isnan(b)))
      continue;
    double off = std::abs(a - b);
    double excess = off - (tolerance.absolute + tolerance.relative * std::abs(b));
    if (std::isfinite(off))
      d.maxAbsolute = std::max(d.maxAbsolute, off);
    else
      d.maxAbsolute = excess = INFINITY;
    if (excess <= 0)
      continue;
    d.equal = false;
    ++d.outside;
    if (d.worst < 0 || excess > worst) {
      worst = excess;
      d.worst = i, d.got = a, d.expected = b;
    }
  }
  return d;
}

std::string moec::describe(const Difference &d) {
  if (!d.shapes.empty())
    return d.shapes;
  if (d.equal)
    return llvm::formatv("max |diff| {0:e2}", d.maxAbsolute);
  return llvm::formatv("{0} of {1} elements outside the tolerance, max |diff| {2:e2}, element {3} "
                       "is {4} instead of {5}",
                       d.outside, d.count, d.maxAbsolute, d.worst, d.got, d.expected);
}
