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

namespace {

struct EmitOnnx : mlir::PassWrapper<EmitOnnx, mlir::OperationPass<mlir::ModuleOp>> {
  EmitOnnx(llvm::StringRef input, llvm::StringRef output) : input(input), output(output) {}

  llvm::StringRef getArgument() const override { return "emit-onnx"; }

  void runOnOperation() override {
    mlir::ModuleOp module = getOperation();
    llvm::StringRef folder = llvm::sys::path::parent_path(input);
    auto report = moec::exportOnnx(module, folder.empty() ? "." : folder, output);
    if (!report) {
      llvm::errs() << "moe-opt: " << llvm::toString(report.takeError()) << "\n";
      return signalPassFailure();
    }
    // What is left is printed, to nowhere, and new weights would be as text.
    while (!module.getBody()->empty()) {
      module.getBody()->back().dropAllReferences();
      module.getBody()->back().erase();
    }
  }

  std::string input, output;
};

} // namespace

std::unique_ptr<mlir::Pass> moec::createEmitOnnx(llvm::StringRef input, llvm::StringRef output) {
  return std::make_unique<EmitOnnx>(input, output);
}
