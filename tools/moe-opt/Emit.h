// What moe-opt does around the passes: ONNX in, ONNX out.
#pragma once

#include "mlir/IR/DialectRegistry.h"
#include "llvm/Support/LogicalResult.h"
#include "llvm/Support/MemoryBuffer.h"

#include <memory>

namespace moec {

/// Whether a file is ONNX: by its name, or by its content.
bool isOnnx(llvm::StringRef path, const llvm::MemoryBuffer &buffer);

/// The imported module as text with its locations; null after errors, which have been printed.
std::unique_ptr<llvm::MemoryBuffer> importAsText(llvm::StringRef path,
                                                 const mlir::DialectRegistry &registry);

/// Writes the module in `text` to the ONNX file `output`; weights are looked for beside `input`.
/// Errors have been printed.
llvm::LogicalResult emitOnnx(llvm::StringRef text, llvm::StringRef input, llvm::StringRef output,
                             const mlir::DialectRegistry &registry);

} // namespace moec
