// moe-opt: runs passes on .mlir and .onnx files, one pass or pipeline at a time. For developers and
// tests.
#include "moec/Driver/Register.h"
#include "moec/Import/Import.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/ToolOutputFile.h"

// An ONNX file begins with the tag of its first field, the format's version.
static bool isOnnx(llvm::StringRef path, const llvm::MemoryBuffer &buffer) {
  return path.ends_with(".onnx") || buffer.getBuffer().starts_with("\x08");
}

// The imported module as text with its locations; null after errors, which have been printed.
static std::unique_ptr<llvm::MemoryBuffer> importAsText(llvm::StringRef path,
                                                        const mlir::DialectRegistry &registry) {
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  auto module = moec::importOnnx(path, context);
  if (!module)
    return nullptr;
  std::string text;
  llvm::raw_string_ostream os(text);
  module->print(os, mlir::OpPrintingFlags().enableDebugInfo(true, /*prettyForm=*/false));
  return llvm::MemoryBuffer::getMemBufferCopy(text, path);
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  mlir::DialectRegistry registry;
  moec::registerDialects(registry);
  moec::registerPasses();
  auto [input, output] = mlir::registerAndParseCLIOptions(argc, argv, "moec's pass driver", registry);
  auto config = mlir::MlirOptMainConfig::createFromCLOptions();
  std::string error;
  auto file = mlir::openInputFile(input, &error);
  auto out = file ? mlir::openOutputFile(output, &error) : nullptr;
  if (!out) {
    llvm::errs() << "moe-opt: " << error << "\n";
    return 1;
  }
  if (isOnnx(input, *file))
    file = importAsText(input, registry);
  if (!file || mlir::failed(mlir::MlirOptMain(out->os(), std::move(file), registry, config)))
    return 1;
  out->keep();
  return 0;
}
