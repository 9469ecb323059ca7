// What moe-opt does around the passes: ONNX in, ONNX out.
#pragma once

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Pass/Pass.h"
#include "llvm/Support/MemoryBuffer.h"

#include <memory>

namespace moec {

/// Whether a file is ONNX: by its name, or by its content.
bool isOnnx(llvm::StringRef path, const llvm::MemoryBuffer &buffer);

/// The imported module as text with its locations; null after errors, which have been printed.
std::unique_ptr<llvm::MemoryBuffer> importAsText(llvm::StringRef path,
                                                 const mlir::DialectRegistry &registry);

/// A pass that ends a pipeline: it writes the module to the ONNX file `output`, weights are looked for
/// beside `input`, and leaves an empty module. Nothing in between is text: new weights are in files
/// that take no memory. Errors are printed and fail the pass.
std::unique_ptr<mlir::Pass> createEmitOnnx(llvm::StringRef input, llvm::StringRef output);

} // namespace moec
