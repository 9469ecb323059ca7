// Tensors of the interpreter: immutable row-major arrays that share their bytes.
#pragma once
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Types.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace moec::reference {

/// What is wrong with a node at run time. Thrown inside this room only: Interpreter::run turns it
/// into an llvm::Error that names the node.
struct OpError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
[[noreturn]] void fail(const llvm::Twine &what);

/// Element types, by their ONNX TensorProto code.
enum class Elem : int {
  none = 0,
  f32 = 1,
  u8 = 2,
  i8 = 3,
  u16 = 4,
  i16 = 5,
  i32 = 6,
  i64 = 7,
  boolean = 9,
  f16 = 10,
  f64 = 11,
  u32 = 12,
  u64 = 13,
  bf16 = 16,
  // Narrow ones (Narrow.h): one byte an element, for conversions and moves.
  f8e4m3fn = 17,
  f8e4m3fnuz = 18,
  f8e5m2 = 19,
  f8e5m2fnuz = 20,
  u4 = 21,
  i4 = 22,
  f4e2m1 = 23,
  f8e8m0 = 24,
  u2 = 25,
  i2 = 26,
};

/// none for types that the interpreter does not compute with (strings, complex numbers, ...).
Elem elemOf(mlir::Type type);
Elem elemOf(int64_t code);
int64_t bytesOf(Elem e);
bool isFloat(Elem e);
inline bool isUnsigned64(Elem e) { return e == Elem::u64; }
/// "f32", "bool", ...
const char *nameOf(Elem e);

using Shape = llvm::SmallVector<int64_t, 6>;
std::string text(llvm::ArrayRef<int64_t> shape);
/// Fails for negative dimensions and for more than 2^40 elements.
int64_t count(llvm::ArrayRef<int64_t> shape);

struct Tensor {
  Elem type = Elem::f32;
  Shape shape;
  /// With it this is no tensor but a sequence of tensors of `type`, without bytes.
  std::shared_ptr<const std::vector<Tensor>> elements;

  Tensor() = default;
  /// Zeros.
  Tensor(Elem type, llvm::ArrayRef<int64_t> shape);

  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  int64_t size() const { return count(shape); }
  const char *bytes() const { return data ? data->data() : nullptr; }
  /// For the op that makes this tensor, before anyone else holds it.
  char *mutableBytes() { return data->data(); }
  /// The same elements in another shape.
  Tensor reshaped(llvm::ArrayRef<int64_t> to) const;
  /// A copy of the bytes that may be written.
  Tensor copy() const;

private:
  std::shared_ptr<std::vector<char>> data;
};

/// The types that ops compute in: every float element as double, u64 as uint64_t, all other
/// integers and booleans as int64_t. Exact for every element type.
/// f32 results are rounded once from double; f16 and bf16 by way of f32.
template <class T>
class Elements {
public:
  explicit Elements(const Tensor &t);
  Elements(Elements &&) noexcept = default; // begin_ points into `own` or `source`
  Elements(const Elements &) = delete;
  const T *data() const { return begin_; }
  int64_t size() const { return size_; }
  T operator[](int64_t i) const { return begin_[i]; }
  const T *begin() const { return begin_; }
  const T *end() const { return begin_ + size_; }

private:
  Tensor source; // shares the bytes that begin_ points to, when they are of type T
  std::vector<T> own;
  const T *begin_ = nullptr;
  int64_t size_ = 0;
};
extern template class Elements<double>;
extern template class Elements<float>;
extern template class Elements<int64_t>;
extern template class Elements<uint64_t>;

/// Stores values as elements of `type`: floats round to nearest even, integers wrap.
/// A double given for an integer type is truncated and clamped to the type's range (NaN: 0).
template <class T>
Tensor pack(Elem type, llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<T> values);
template <class T>
Tensor pack(Elem type, llvm::ArrayRef<int64_t> shape, const std::vector<T> &values) {
  return pack<T>(type, shape, llvm::ArrayRef<T>(values));
}

/// Calls f with a value of the type that elements of `e` are computed in.
template <class F>
auto withComputeType(Elem e, F &&f) {
  if (isFloat(e))
    return f(double{});
  if (isUnsigned64(e))
    return f(uint64_t{});
  return f(int64_t{});
}

/// Cast of the standard between any two element types.
Tensor cast(const Tensor &t, Elem to);
Tensor scalar(Elem type, double value);
Tensor ints(llvm::ArrayRef<int64_t> values);
/// The value of a constant; fails for kinds of attributes that hold no bytes.
Tensor fromAttribute(mlir::ElementsAttr value);

} // namespace moec::reference
