#include "Narrow.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/bit.h"
#include <cmath>
#include <limits>

using namespace llvm;

namespace moec::reference {

void fail(const Twine &what) { throw OpError(what.str()); }

std::string text(ArrayRef<int64_t> shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    out += (i ? "," : "") + std::to_string(shape[i]);
  return out + "]";
}

int64_t count(ArrayRef<int64_t> shape) {
  int64_t n = 1;
  bool empty = false, large = false;
  for (int64_t d : shape) {
    if (d < 0)
      fail("negative dimension in shape " + text(shape));
    empty |= d == 0;
    if (d != 0)
      large |= __builtin_mul_overflow(n, d, &n) || n > int64_t(1) << 40;
  }
  if (empty)
    return 0;
  if (large)
    fail("a tensor of shape " + text(shape) + " is too large");
  return n;
}

Tensor::Tensor(Elem type, ArrayRef<int64_t> shape)
    : type(type), shape(shape),
      data(std::make_shared<std::vector<char>>(count(shape) * bytesOf(type))) {}

Tensor Tensor::reshaped(ArrayRef<int64_t> to) const {
  if (count(to) != size())
    fail("shape " + text(shape) + " cannot be viewed as " + text(to));
  Tensor t = *this;
  t.shape = Shape(to);
  return t;
}

Tensor Tensor::copy() const {
  Tensor t = *this;
  t.data = std::make_shared<std::vector<char>>(*data);
  return t;
}

namespace {

float halfToFloat(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
  if (exponent == 31)
    return bit_cast<float>(sign | 0x7f800000 | fraction << 13);
  if (exponent != 0)
    return bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  float value = std::ldexp(static_cast<float>(fraction), -24);
  return sign ? -value : value;
}

uint16_t floatToHalf(float f) {
  uint32_t bits = bit_cast<uint32_t>(f);
  uint16_t sign = bits >> 16 & 0x8000;
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return sign | 0x7e00 | (magnitude >> 13 & 0x3ff);
  if (magnitude >= 0x477ff000) // 65520 and above round to infinity
    return sign | 0x7c00;
  if (magnitude < 0x38800000) // subnormal: units of 2^-24, ties to even by nearbyint
    return sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(bit_cast<float>(magnitude), 24)));
  magnitude += 0xfff + (magnitude >> 13 & 1);
  return sign | static_cast<uint16_t>((magnitude - (uint32_t(112) << 23)) >> 13);
}

float bfloatToFloat(uint16_t b) { return bit_cast<float>(uint32_t(b) << 16); }

uint16_t floatToBfloat(float f) {
  uint32_t bits = bit_cast<uint32_t>(f);
  if (std::isnan(f))
    return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <class S, class T>
void widen(const Tensor &t, T *out) {
  const S *in = reinterpret_cast<const S *>(t.bytes());
  for (int64_t i = 0, n = t.size(); i < n; ++i)
    out[i] = static_cast<T>(in[i]);
}

template <class T>
void load(const Tensor &t, T *out) {
  auto half = [&](auto convert) {
    const auto *in = reinterpret_cast<const uint16_t *>(t.bytes());
    for (int64_t i = 0, n = t.size(); i < n; ++i)
      out[i] = static_cast<T>(convert(in[i]));
  };
  switch (t.type) {
  case Elem::f32:
    return widen<float>(t, out);
  case Elem::f64:
    return widen<double>(t, out);
  case Elem::f16:
    return half(halfToFloat);
  case Elem::bf16:
    return half(bfloatToFloat);
  case Elem::boolean:
  case Elem::u8:
  case Elem::u4:
  case Elem::u2:
    return widen<uint8_t>(t, out);
  case Elem::i8:
  case Elem::i4:
  case Elem::i2:
    return widen<int8_t>(t, out);
  case Elem::f8e4m3fn:
  case Elem::f8e4m3fnuz:
  case Elem::f8e5m2:
  case Elem::f8e5m2fnuz:
  case Elem::f4e2m1:
  case Elem::f8e8m0:
    for (int64_t i = 0, n = t.size(); i < n; ++i)
      out[i] = static_cast<T>(narrowValue(t.type, static_cast<uint8_t>(t.bytes()[i])));
    return;
  case Elem::u16:
    return widen<uint16_t>(t, out);
  case Elem::i16:
    return widen<int16_t>(t, out);
  case Elem::i32:
    return widen<int32_t>(t, out);
  case Elem::i64:
    return widen<int64_t>(t, out);
  case Elem::u32:
    return widen<uint32_t>(t, out);
  case Elem::u64:
    return widen<uint64_t>(t, out);
  case Elem::none:
    fail("unsupported element type");
  }
}

template <class T>
bool isStoredAs(Elem e) {
  if constexpr (std::is_same_v<T, double>)
    return e == Elem::f64;
  if constexpr (std::is_same_v<T, float>)
    return e == Elem::f32;
  if constexpr (std::is_same_v<T, int64_t>)
    return e == Elem::i64;
  return std::is_same_v<T, uint64_t> && e == Elem::u64;
}

template <class S, class T>
S narrow(T v) {
  if constexpr (std::is_floating_point_v<T> && std::is_integral_v<S>) {
    if (std::isnan(v))
      return 0;
    // Both limits as powers of two, which a double holds exactly.
    const double low = static_cast<double>(std::numeric_limits<S>::min());
    const double high = std::ldexp(1.0, std::numeric_limits<S>::digits);
    if (v <= low)
      return std::numeric_limits<S>::min();
    return v >= high ? std::numeric_limits<S>::max() : static_cast<S>(v);
  } else {
    return static_cast<S>(v);
  }
}

template <class S, class T>
void store(ArrayRef<T> values, Tensor &t) {
  S *out = reinterpret_cast<S *>(t.mutableBytes());
  for (size_t i = 0; i < values.size(); ++i)
    out[i] = narrow<S>(values[i]);
}

// Numbers wrap to 4 or 2 bits; floats are truncated first.
template <class T>
void storeNarrow(ArrayRef<T> values, Tensor &t) {
  auto [low, high] = integerLimits(t.type);
  const int64_t span = high - low + 1;
  for (size_t i = 0; i < values.size(); ++i) {
    int64_t v = ((narrow<int64_t>(values[i]) - low) & (span - 1)) + low;
    t.mutableBytes()[i] = static_cast<char>(v);
  }
}

} // namespace

template <class T>
Elements<T>::Elements(const Tensor &t) : size_(t.size()) {
  if (std::is_integral_v<T> && isFloat(t.type))
    fail(Twine("integers expected, not ") + nameOf(t.type));
  if (isStoredAs<T>(t.type)) {
    source = t;
    begin_ = reinterpret_cast<const T *>(t.bytes());
    return;
  }
  own.resize(size_);
  load(t, own.data());
  begin_ = own.data();
}
template class Elements<double>;
template class Elements<float>;
template class Elements<int64_t>;
template class Elements<uint64_t>;

template <class T>
Tensor pack(Elem type, ArrayRef<int64_t> shape, ArrayRef<T> values, const Narrowing &how) {
  Tensor t(type, shape);
  if (t.size() != static_cast<int64_t>(values.size()))
    fail("internal: " + Twine(values.size()) + " values for shape " + text(shape));
  auto half = [&](auto convert) {
    auto *out = reinterpret_cast<uint16_t *>(t.mutableBytes());
    for (size_t i = 0; i < values.size(); ++i)
      out[i] = convert(static_cast<float>(values[i]));
  };
  switch (type) {
  case Elem::f32:
    store<float>(values, t);
    break;
  case Elem::f64:
    store<double>(values, t);
    break;
  case Elem::f16:
    half(floatToHalf);
    break;
  case Elem::bf16:
    half(floatToBfloat);
    break;
  case Elem::boolean:
    for (size_t i = 0; i < values.size(); ++i)
      t.mutableBytes()[i] = values[i] != T(0);
    break;
  case Elem::u4:
  case Elem::i4:
  case Elem::u2:
  case Elem::i2:
    storeNarrow(values, t);
    break;
  case Elem::f8e4m3fn:
  case Elem::f8e4m3fnuz:
  case Elem::f8e5m2:
  case Elem::f8e5m2fnuz:
  case Elem::f4e2m1:
  case Elem::f8e8m0:
    for (size_t i = 0; i < values.size(); ++i)
      t.mutableBytes()[i] =
          static_cast<char>(narrowBits(type, static_cast<double>(values[i]), how));
    break;
  case Elem::u8:
    store<uint8_t>(values, t);
    break;
  case Elem::i8:
    store<int8_t>(values, t);
    break;
  case Elem::u16:
    store<uint16_t>(values, t);
    break;
  case Elem::i16:
    store<int16_t>(values, t);
    break;
  case Elem::i32:
    store<int32_t>(values, t);
    break;
  case Elem::i64:
    store<int64_t>(values, t);
    break;
  case Elem::u32:
    store<uint32_t>(values, t);
    break;
  case Elem::u64:
    store<uint64_t>(values, t);
    break;
  case Elem::none:
    fail("unsupported element type");
  }
  return t;
}
template <class T>
Tensor pack(Elem type, ArrayRef<int64_t> shape, ArrayRef<T> values) {
  return pack(type, shape, values, Narrowing());
}
template Tensor pack(Elem, ArrayRef<int64_t>, ArrayRef<double>);
template Tensor pack(Elem, ArrayRef<int64_t>, ArrayRef<float>);
template Tensor pack(Elem, ArrayRef<int64_t>, ArrayRef<int64_t>);
template Tensor pack(Elem, ArrayRef<int64_t>, ArrayRef<uint64_t>);

namespace {

// f64 to a 16-bit float in one rounding: an f32 rounded to odd keeps what the second step needs.
float roundToOdd(double d) {
  float f = static_cast<float>(d);
  if (!std::isfinite(f) || static_cast<double>(f) == d)
    return f;
  uint32_t bits = bit_cast<uint32_t>(f);
  if (std::fabs(static_cast<double>(f)) > std::fabs(d))
    --bits;
  return bit_cast<float>(bits | 1);
}

} // namespace

Tensor cast(const Tensor &t, Elem to) { return cast(t, to, Narrowing()); }

Tensor cast(const Tensor &t, Elem to, const Narrowing &how) {
  if (t.type == to)
    return t;
  if (t.type == Elem::f64 && (to == Elem::f16 || to == Elem::bf16)) {
    Elements<double> in(t);
    std::vector<float> odd(in.size());
    for (int64_t i = 0; i < in.size(); ++i)
      odd[i] = roundToOdd(in[i]);
    return pack(to, t.shape, odd);
  }
  if (t.type == Elem::f16 || t.type == Elem::bf16 || t.type == Elem::f32) {
    Elements<float> in(t);
    return pack<float>(to, t.shape, ArrayRef(in.data(), in.size()), how);
  }
  return withComputeType(t.type, [&](auto zero) {
    using T = decltype(zero);
    Elements<T> in(t);
    return pack<T>(to, t.shape, ArrayRef(in.data(), in.size()), how);
  });
}

Tensor scalar(Elem type, double value) { return pack<double>(type, {}, ArrayRef(value)); }

Tensor ints(ArrayRef<int64_t> values) {
  return pack<int64_t>(Elem::i64, {static_cast<int64_t>(values.size())}, values);
}

Tensor fromAttribute(mlir::ElementsAttr value) {
  Elem type = elemOf(value.getElementType());
  if (type == Elem::none)
    fail("unsupported element type of a constant");
  Tensor t(type, value.getShapedType().getShape());
  int64_t n = t.size(), width = bytesOf(type);
  if (auto dense = dyn_cast<mlir::DenseElementsAttr>(value)) {
    if (type == Elem::boolean) { // may be stored as bits
      int64_t i = 0;
      for (bool b : dense.getValues<bool>())
        t.mutableBytes()[i++] = b;
      return t;
    }
    ArrayRef<char> raw = dense.getRawData();
    if (dense.isSplat())
      for (int64_t i = 0; i < n; ++i)
        std::memcpy(t.mutableBytes() + i * width, raw.data(), width);
    else
      std::memcpy(t.mutableBytes(), raw.data(), n * width);
    return t;
  }
  auto resource = dyn_cast<mlir::DenseResourceElementsAttr>(value);
  mlir::AsmResourceBlob *blob = resource ? resource.getRawHandle().getBlob() : nullptr;
  if (!blob || static_cast<int64_t>(blob->getData().size()) != n * width)
    fail("unsupported kind of constant");
  std::memcpy(t.mutableBytes(), blob->getData().data(), n * width);
  return t;
}

} // namespace moec::reference
