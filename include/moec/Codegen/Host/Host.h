// Codegen/Host: @main of onnx + moe IR -> one x86-64 object (ELF, position independent).
//
// The generated entry is `void moe_main(moert_ctx *ctx, moert_buffer *args)` (moert/abi.h).
// Errors: an unsupported op is a diagnostic at that op (all of them before lowering starts).
#pragma once
#include "moec/Codegen/KernelSpec/Program.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LLVM.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include <memory>
#include <string>
#include <vector>

namespace moec::host {

struct HostOptions {
  /// LLVM CPU and features of the host program.
  std::string cpu = "x86-64-v3";
  std::string features = "+fma,+f16c";
  /// 0 leaves the code as emitted, 1 runs LLVM's O1, 2 and more its O2 with vectorisation.
  int optLevel = 2;
  /// Leaves `object` empty (for --emit=llvm).
  bool emitObject = true;
};

struct HostResult {
  std::unique_ptr<llvm::LLVMContext> context;
  std::unique_ptr<llvm::Module> module; ///< destroyed before `context`
  llvm::SmallVector<char, 0> object;
  Program program; ///< its weights and kernels are also module attributes moec.weights, moec.kernels

  HostResult() = default;
  HostResult(HostResult &&) = default;
  HostResult &operator=(HostResult &&other) {
    module = std::move(other.module); // before its context goes
    context = std::move(other.context);
    object = std::move(other.object);
    program = std::move(other.program);
    return *this;
  }
};

/// The ops of @main that lowerToHost cannot lower, each with one line why, in program order.
std::vector<std::pair<mlir::Operation *, std::string>> collectUnsupported(mlir::ModuleOp module);

/// Lowers @main; diagnostics name the node. The module is only read, except for the attributes
/// moec.weights and moec.kernels.
mlir::FailureOr<HostResult> lowerToHost(mlir::ModuleOp module, const HostOptions &options);

} // namespace moec::host
