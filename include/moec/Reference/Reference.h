// The reference interpreter: executes `onnx` + `moe` IR naively. The oracle of every pass.
#pragma once
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace moec::reference {

/// A row-major array on the host. `type` is the ONNX TensorProto code of the element type
/// (f32 1, u8 2, i8 3, u16 4, i16 5, i32 6, i64 7, bool 9, f16 10, f64 11, u32 12, u64 13, bf16 16).
struct Array {
  int type = 1;
  std::vector<int64_t> shape;
  std::vector<char> data;
};

/// f16 and bf16 are computed in f32 and rounded after each op; routing scores in f32.
class Interpreter {
public:
  /// `module` must outlive the interpreter. Weight files are relative to `folder`.
  Interpreter(mlir::ModuleOp module, llvm::StringRef folder);
  ~Interpreter();
  /// Runs @main. Errors name the node ("node "x" (TopK): ...").
  llvm::Expected<std::vector<Array>> run(llvm::ArrayRef<Array> inputs);

private:
  struct Data;
  std::unique_ptr<Data> data;
};

/// Ops of @main that the interpreter cannot run, each with one line why.
std::vector<std::pair<mlir::Operation *, std::string>> collectUnsupported(mlir::ModuleOp module);

} // namespace moec::reference
