// The values that the emitter passes between ops.
#pragma once
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/IR/IRBuilder.h"
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace moec::host {

/// Element types, with the codes of ONNX TensorProto.
enum class DType : int {
  F32 = 1,
  U8 = 2,
  I8 = 3,
  U16 = 4,
  I16 = 5,
  I32 = 6,
  I64 = 7,
  Bool = 9,
  F16 = 10,
  F64 = 11,
  U32 = 12,
  U64 = 13,
  BF16 = 16,
  // Narrow types: one byte an element in memory, for conversions and moves.
  F8E4M3FN = 17,
  F8E4M3FNUZ = 18,
  F8E5M2 = 19,
  F8E5M2FNUZ = 20,
  U4 = 21,
  I4 = 22,
  F4E2M1 = 23,
  F8E8M0 = 24,
  U2 = 25,
  I2 = 26
};

std::optional<DType> dtypeOf(mlir::Type elementType);
int64_t byteSize(DType type);
bool isFloat(DType type);
bool isUnsigned(DType type);    ///< also Bool
bool isNarrowFloat(DType type); ///< of 8 or 4 bits
/// Bits of an integer of less than a byte; else 0.
unsigned narrowWidth(DType type);
const char *dtypeName(DType type);

class Emitter;
using Values = std::vector<llvm::Value *>;

/// A run-time allocation, freed in the generated program where its last owner goes.
struct Buffer {
  /// Owns `memory`, from alloc or a sequence of the runtime; null: nothing of its own.
  Buffer(Emitter &emitter, llvm::Value *memory, bool sequence = false);
  Buffer(const Buffer &) = delete;
  ~Buffer();

  Emitter &emitter;
  llvm::Value *memory;
  bool sequence;
  unsigned depth;                             ///< of the regions around the place that made it
  std::vector<std::shared_ptr<Buffer>> keeps; ///< what the tensor may point into besides
};

struct Expr;
struct Sequence;

/// A tensor in one of five states: a strided view of memory (`data`), a lazy elementwise
/// expression (`expr`), a weight not yet placed (`weight`), known integers only (`ints`), or one
/// constant repeated (`splat`). A sequence (`sequence`) is no tensor, but travels like one.
struct Tensor {
  DType dtype = DType::F32;   ///< of the ONNX value
  DType storage = DType::F32; ///< of the bytes in memory; converted when loaded
  bool none = false;          ///< an absent optional input
  Values dims;                ///< i64; constants where known
  Values strides;             ///< in elements, with `data`
  llvm::Value *data = nullptr;
  std::shared_ptr<Buffer> buffer; ///< null: input, weight or constant
  std::shared_ptr<Expr> expr;
  std::optional<Values> ints; ///< the elements as i64, for small integer tensors (may join `data`)
  std::string weight;         ///< symbol of the bind
  bool transposed = false;    ///< a weight of rank 2 seen with its dimensions swapped
  std::optional<double>
      splat; ///< every element is this constant (a state of its own without `data`)
  std::shared_ptr<const Sequence> sequence; ///< dtype is that of its elements

  size_t rank() const { return dims.size(); }
};

/// A list of tensors. Its elements are known one by one, or it is an object of the runtime, at
/// `data` of its Tensor.
struct Sequence {
  std::optional<std::vector<Tensor>> elements;
  std::optional<size_t> rank; ///< of all elements, as far as they are known
  bool mixed = false;         ///< elements of different ranks
};

/// One elementwise op over tensors that broadcast together. Its shape is its Tensor's `dims`.
struct Expr {
  std::string op; ///< ONNX name, or "Iota" (index along the dimension numbers[0] before the last)
  DType type;     ///< of the result
  std::vector<Tensor> args;
  std::vector<double> numbers; ///< attributes that the op's scalar code uses
  int leaves = 0;              ///< memory operands below
  int size = 1;                ///< ops below, this one included
  bool iota = false;           ///< an Iota is below
};

} // namespace moec::host
