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
  BF16 = 16
};

std::optional<DType> dtypeOf(mlir::Type elementType);
int64_t byteSize(DType type);
bool isFloat(DType type);
bool isUnsigned(DType type); ///< also Bool
const char *dtypeName(DType type);

class Emitter;
using Values = std::vector<llvm::Value *>;

/// A run-time allocation, freed in the generated program where its last owner goes.
struct Buffer {
  Emitter &emitter;
  llvm::Value *memory;
  ~Buffer();
};

struct Expr;

/// A tensor in one of five states: a strided view of memory (`data`), a lazy elementwise
/// expression (`expr`), a weight not yet placed (`weight`), known integers only (`ints`), or one
/// constant repeated (`splat`).
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

  size_t rank() const { return dims.size(); }
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
