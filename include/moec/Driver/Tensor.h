// Tensors as commands read, compare and write them: plain row-major bytes on the host.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moec {

/// Element types by their ONNX TensorProto numbers; only the ones a tensor here may have.
enum class DType : int32_t {
  f32 = 1, u8 = 2, i8 = 3, u16 = 4, i16 = 5, i32 = 6, i64 = 7,
  boolean = 9, f16 = 10, f64 = 11, u32 = 12, u64 = 13, bf16 = 16,
  // Narrow ones: one byte an element here, whatever files pack them to.
  f8e4m3fn = 17, f8e4m3fnuz = 18, f8e5m2 = 19, f8e5m2fnuz = 20, u4 = 21, i4 = 22, f4e2m1 = 23,
  f8e8m0 = 24, u2 = 25, i2 = 26,
};

/// Bytes of one element; 0 for a number that is none of the above.
size_t sizeOf(DType type);
/// "f32", "i64", "bool", ...
llvm::StringRef nameOf(DType type);
bool isFloat(DType type);
/// Bits of one element in a file; less than 8 for packed types.
unsigned bitsOf(DType type);

struct Tensor {
  DType type = DType::f32;
  std::vector<int64_t> shape;
  std::vector<char> data; // count() * sizeOf(type) bytes, row-major
  std::string name;       // may be empty

  Tensor() = default;
  /// A tensor of zeros.
  Tensor(DType type, std::vector<int64_t> shape);

  int64_t count() const;
  template <typename T> T *as() { return reinterpret_cast<T *>(data.data()); }
  template <typename T> const T *as() const { return reinterpret_cast<const T *>(data.data()); }

  /// Element `i` as a double (integers above 2^53 are rounded).
  double at(int64_t i) const;
  /// Sets element `i`, rounded to the tensor's type.
  void set(int64_t i, double value);
};

/// "f32[2x16x2048]"
std::string describe(const Tensor &tensor);

// --- files -------------------------------------------------------------------------------------

/// Reads and writes NumPy's .npy files (version 1, little-endian, C order; bf16 is written as f32).
llvm::Expected<Tensor> readNpy(llvm::StringRef path);
llvm::Error writeNpy(llvm::StringRef path, const Tensor &tensor);

/// Reads a serialized ONNX TensorProto.
llvm::Expected<Tensor> readTensorProto(llvm::StringRef path);

/// One folder `test_data_set_N` of ONNX's test layout, in graph order.
struct TestSet {
  std::string folder;
  std::vector<Tensor> inputs, outputs;
};

/// Reads `input_I.pb` and `output_I.pb` (or .npy) of one folder.
llvm::Expected<TestSet> readTestSet(llvm::StringRef folder);

/// The test_data_set_* folders below `folder`, by number; `folder` itself when it holds input_0.
std::vector<std::string> findTestSets(llvm::StringRef folder);

// --- comparison --------------------------------------------------------------------------------

struct Tolerance {
  double absolute = 1e-4, relative = 1e-3;
};

/// How two tensors differ. `equal` is NumPy's allclose (NaN equals NaN); other types than floats
/// must be identical.
struct Difference {
  bool equal = true;
  std::string shapes; // not empty when types or shapes differ: nothing else is compared then
  double maxAbsolute = 0;
  int64_t worst = -1;          // flat index of the element farthest beyond the tolerance
  double got = 0, expected = 0; // its values
  int64_t outside = 0, count = 0;
};
Difference compare(const Tensor &got, const Tensor &expected, Tolerance tolerance);

/// One line on a difference.
std::string describe(const Difference &difference);

} // namespace moec
