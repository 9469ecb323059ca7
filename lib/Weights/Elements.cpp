// Conversions of elements. Every conversion goes through f64, i64 or u64 a block at a time, except
// the float ones that whole weights go through.
#include "Elements.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/bit.h"

#include <cmath>
#include <cstring>
#include <limits>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace moec;
using mlir::Type;

namespace {

constexpr int64_t kBlock = 1024;

template <typename T> T load(const char *at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}
template <typename T> void store(char *at, T value) { std::memcpy(at, &value, sizeof(T)); }

float fromBf16(uint16_t bits) { return llvm::bit_cast<float>(uint32_t(bits) << 16); }

uint16_t toBf16(float value) {
  uint32_t bits = llvm::bit_cast<uint32_t>(value);
  if (std::isnan(value))
    return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// From f64 in one rounding: round to odd in f32 first, which keeps what the second step must know.
uint16_t toBf16(double value) {
  float near = static_cast<float>(value);
  if (!std::isfinite(near) || static_cast<double>(near) == value)
    return toBf16(near);
  uint32_t bits = llvm::bit_cast<uint32_t>(near);
  if (std::fabs(static_cast<double>(near)) > std::fabs(value))
    --bits;
  return toBf16(llvm::bit_cast<float>(bits | 1));
}

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) int64_t halvesToFloats(const char *in, char *out, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(reinterpret_cast<float *>(out + 4 * i),
                     _mm256_cvtph_ps(_mm_loadu_si128(
                         reinterpret_cast<const __m128i *>(in + 2 * i))));
  return i;
}
__attribute__((target("avx,f16c"))) int64_t floatsToHalves(const char *in, char *out, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i *>(out + 2 * i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(reinterpret_cast<const float *>(in + 4 * i)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  return i;
}
bool fastHalves() { return __builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c"); }
#else
int64_t halvesToFloats(const char *, char *, int64_t) { return 0; }
int64_t floatsToHalves(const char *, char *, int64_t) { return 0; }
bool fastHalves() { return false; }
#endif

// The pairs that whole weights go through; false for the others.
bool convertQuickly(Type from, const char *in, Type to, char *out, int64_t n) {
  if (from == to) {
    std::memcpy(out, in, static_cast<size_t>(n * elementBytes(from)));
    return true;
  }
  if (from.isF16() && to.isF32()) {
    for (int64_t i = fastHalves() ? halvesToFloats(in, out, n) : 0; i < n; ++i)
      store(out + 4 * i, static_cast<float>(load<_Float16>(in + 2 * i)));
    return true;
  }
  if (from.isF32() && to.isF16()) {
    for (int64_t i = fastHalves() ? floatsToHalves(in, out, n) : 0; i < n; ++i)
      store(out + 2 * i, static_cast<_Float16>(load<float>(in + 4 * i)));
    return true;
  }
  if (from.isBF16() && to.isF32()) {
    for (int64_t i = 0; i < n; ++i)
      store(out + 4 * i, fromBf16(load<uint16_t>(in + 2 * i)));
    return true;
  }
  if (from.isF32() && to.isBF16()) {
    for (int64_t i = 0; i < n; ++i)
      store(out + 2 * i, toBf16(load<float>(in + 4 * i)));
    return true;
  }
  return false;
}

template <typename T, typename W> void widen(const char *in, W *out, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = static_cast<W>(load<T>(in + i * static_cast<int64_t>(sizeof(T))));
}

// Towards zero; NaN is 0, what does not fit is the nearest bound.
template <typename T, typename W> T narrowed(W value) {
  if constexpr (std::is_floating_point_v<W> && std::is_integral_v<T>) {
    if (std::isnan(value))
      return T(0);
    if (value <= static_cast<W>(std::numeric_limits<T>::min()))
      return std::numeric_limits<T>::min();
    if (value >= std::ldexp(W(1), std::numeric_limits<T>::digits))
      return std::numeric_limits<T>::max();
  }
  return static_cast<T>(value);
}

template <typename T, typename W> void narrow(const W *in, char *out, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    store(out + i * static_cast<int64_t>(sizeof(T)), narrowed<T>(in[i]));
}

template <typename W> void writeInts(const W *in, mlir::IntegerType to, char *out, int64_t n) {
  unsigned width = to.getWidth();
  bool isUnsigned = to.isUnsigned();
  if (width == 1) {
    for (int64_t i = 0; i < n; ++i)
      out[i] = in[i] != W(0); // NaN counts as different from zero
    return;
  }
  if (width < 8) {
    narrow<int8_t>(in, out, n);
    int low = isUnsigned ? 0 : -(1 << (width - 1));
    int high = low + (1 << width) - 1;
    for (int64_t i = 0; i < n; ++i)
      out[i] = static_cast<char>(std::clamp<int>(static_cast<signed char>(out[i]), low, high));
    return;
  }
  switch (width) {
  case 8: return isUnsigned ? narrow<uint8_t>(in, out, n) : narrow<int8_t>(in, out, n);
  case 16: return isUnsigned ? narrow<uint16_t>(in, out, n) : narrow<int16_t>(in, out, n);
  case 32: return isUnsigned ? narrow<uint32_t>(in, out, n) : narrow<int32_t>(in, out, n);
  default: return isUnsigned ? narrow<uint64_t>(in, out, n) : narrow<int64_t>(in, out, n);
  }
}

template <typename W> void writeFloats(const W *in, Type to, char *out, int64_t n) {
  if (to.isF32())
    return narrow<float>(in, out, n);
  if (to.isF64())
    return narrow<double>(in, out, n);
  if (to.isF16())
    return narrow<_Float16>(in, out, n);
  for (int64_t i = 0; i < n; ++i) {
    if (to.isBF16()) {
      store(out + 2 * i, toBf16(static_cast<double>(in[i])));
      continue;
    }
    llvm::APFloat value(static_cast<double>(in[i]));
    bool inexact;
    value.convert(llvm::cast<mlir::FloatType>(to).getFloatSemantics(),
                  llvm::APFloat::rmNearestTiesToEven, &inexact);
    out[i] = static_cast<char>(value.bitcastToAPInt().getZExtValue());
  }
}

template <typename W> void write(const W *in, Type to, char *out, int64_t n) {
  if (auto integer = llvm::dyn_cast<mlir::IntegerType>(to))
    return writeInts(in, integer, out, n);
  writeFloats(in, to, out, n);
}

void readInts(mlir::IntegerType from, const char *in, int64_t *out, int64_t n) {
  bool isUnsigned = from.isUnsigned();
  if (from.getWidth() == 1) {
    for (int64_t i = 0; i < n; ++i)
      out[i] = in[i] != 0;
    return;
  }
  switch (llvm::PowerOf2Ceil(std::max(8u, from.getWidth()))) {
  case 8: return isUnsigned ? widen<uint8_t>(in, out, n) : widen<int8_t>(in, out, n);
  case 16: return isUnsigned ? widen<uint16_t>(in, out, n) : widen<int16_t>(in, out, n);
  case 32: return isUnsigned ? widen<uint32_t>(in, out, n) : widen<int32_t>(in, out, n);
  default: return widen<int64_t>(in, out, n);
  }
}

void readFloats(Type from, const char *in, double *out, int64_t n) {
  if (from.isF32())
    return widen<float>(in, out, n);
  if (from.isF64())
    return widen<double>(in, out, n);
  if (from.isF16())
    return widen<_Float16>(in, out, n);
  if (from.isBF16()) {
    for (int64_t i = 0; i < n; ++i)
      out[i] = static_cast<double>(fromBf16(load<uint16_t>(in + 2 * i)));
    return;
  }
  // Few numbers exist in the small types: each is converted once.
  const llvm::fltSemantics &semantics = llvm::cast<mlir::FloatType>(from).getFloatSemantics();
  unsigned width = from.getIntOrFloatBitWidth();
  double known[256];
  bool have[256] = {};
  for (int64_t i = 0; i < n; ++i) {
    unsigned bits = static_cast<uint8_t>(in[i]) & ((1u << width) - 1);
    if (!have[bits]) {
      llvm::APFloat value(semantics, llvm::APInt(width, bits));
      bool inexact;
      value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &inexact);
      known[bits] = value.convertToDouble();
      have[bits] = true;
    }
    out[i] = known[bits];
  }
}

} // namespace

int64_t moec::elementBytes(Type type) {
  if (auto complex = llvm::dyn_cast<mlir::ComplexType>(type))
    return 2 * elementBytes(complex.getElementType());
  return type.isIntOrFloat() ? static_cast<int64_t>((type.getIntOrFloatBitWidth() + 7) / 8) : 0;
}

int64_t moec::storageBits(Type type) {
  if (type.isInteger(1) || !type.isIntOrFloat())
    return 8 * elementBytes(type);
  return type.getIntOrFloatBitWidth();
}

void moec::convertFloats(Type from, const char *in, Type to, char *out, int64_t count) {
  convertElements(from, in, to, out, count);
}

void moec::convertElements(Type from, const char *in, Type to, char *out, int64_t count) {
  if (convertQuickly(from, in, to, out, count))
    return;
  int64_t step = elementBytes(from), outStep = elementBytes(to);
  for (int64_t at = 0; at < count; at += kBlock) {
    int64_t n = std::min(kBlock, count - at);
    char *target = out + at * outStep;
    if (llvm::isa<mlir::FloatType>(from)) {
      double block[kBlock];
      readFloats(from, in + at * step, block, n);
      write(block, to, target, n);
      continue;
    }
    auto integer = llvm::cast<mlir::IntegerType>(from);
    int64_t block[kBlock];
    readInts(integer, in + at * step, block, n);
    if (integer.isUnsigned() && integer.getWidth() == 64)
      write(reinterpret_cast<const uint64_t *>(block), to, target, n);
    else
      write(block, to, target, n);
  }
}

void moec::toDoubles(Type from, const char *in, double *out, int64_t count) {
  convertElements(from, in, mlir::Float64Type::get(from.getContext()),
                  reinterpret_cast<char *>(out), count);
}

void moec::unpackElements(Type type, const char *packed, int64_t first, int64_t count, char *out) {
  if (count == 0) // of nothing there is no address
    return;
  int64_t bits = storageBits(type);
  if (bits >= 8) {
    const char *from = packed + first * (bits / 8);
    if (!type.isInteger(1)) {
      std::memcpy(out, from, static_cast<size_t>(count * (bits / 8)));
      return;
    }
    for (int64_t i = 0; i < count; ++i)
      out[i] = from[i] != 0;
    return;
  }
  auto integer = llvm::dyn_cast<mlir::IntegerType>(type);
  bool extend = integer && !integer.isUnsigned();
  int mask = (1 << bits) - 1, sign = 1 << (bits - 1);
  for (int64_t i = 0; i < count; ++i) {
    int64_t bit = (first + i) * bits;
    int value = (static_cast<uint8_t>(packed[bit / 8]) >> (bit % 8)) & mask;
    out[i] = static_cast<char>(extend && (value & sign) ? value - mask - 1 : value);
  }
}
