#include "Emit.h"

#include "moec/Export/Export.h"
#include "moec/Import/Import.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

bool moec::isOnnx(llvm::StringRef path, const llvm::MemoryBuffer &buffer) {
  // The file begins with the tag of its first field, the format's version.
  return path.ends_with(".onnx") || buffer.getBuffer().starts_with("\x08");
}

std::unique_ptr<llvm::MemoryBuffer> moec::importAsText(llvm::StringRef path,
                                                       const mlir::DialectRegistry &registry) {
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  auto module = importOnnx(path, context);
  if (!module)
    return nullptr;
  std::string text;
  llvm::raw_string_ostream os(text);
  module->print(os, mlir::OpPrintingFlags().enableDebugInfo(true, /*prettyForm=*/false));
  return llvm::MemoryBuffer::getMemBufferCopy(text, path);
}

llvm::LogicalResult moec::emitOnnx(llvm::StringRef text, llvm::StringRef input,
                                   llvm::StringRef output, const mlir::DialectRegistry &registry) {
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module)
    return llvm::failure();
  if (output == "-" || output == input) {
    llvm::errs() << "moe-opt: --emit=onnx needs -o with the name of a file of its own\n";
    return llvm::failure();
  }
  llvm::StringRef folder = llvm::sys::path::parent_path(input);
  auto report = exportOnnx(*module, folder.empty() ? "." : folder, output);
  if (report)
    return llvm::success();
  llvm::errs() << "moe-opt: " << llvm::toString(report.takeError()) << "\n";
  return llvm::failure();
}
