// moe-opt: runs passes on .mlir and .onnx files, one pass or pipeline at a time. For developers and
// tests.
#include "Emit.h"

#include "moec/Driver/Register.h"

#include "mlir/Support/FileUtilities.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/ToolOutputFile.h"

enum class Emit { mlir, onnx };

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  mlir::DialectRegistry registry;
  moec::registerDialects(registry);
  moec::registerPasses();
  llvm::cl::opt<Emit> emit(
      "emit", llvm::cl::desc("What to write"), llvm::cl::init(Emit::mlir),
      llvm::cl::values(clEnumValN(Emit::mlir, "mlir", "IR as text (the default)"),
                       clEnumValN(Emit::onnx, "onnx", "an ONNX file, named by -o")));
  auto [input, output] = mlir::registerAndParseCLIOptions(argc, argv, "moec's pass driver", registry);
  auto config = mlir::MlirOptMainConfig::createFromCLOptions();
  std::string error, text;
  auto file = mlir::openInputFile(input, &error);
  bool toOnnx = emit == Emit::onnx;
  auto out = file && !toOnnx ? mlir::openOutputFile(output, &error) : nullptr;
  if (!file || (!out && !toOnnx)) {
    llvm::errs() << "moe-opt: " << error << "\n";
    return 1;
  }
  if (moec::isOnnx(input, *file))
    file = moec::importAsText(input, registry);
  llvm::raw_string_ostream buffer(text);
  llvm::raw_ostream &os = toOnnx ? static_cast<llvm::raw_ostream &>(buffer) : out->os();
  if (!file || mlir::failed(mlir::MlirOptMain(os, std::move(file), registry, config)))
    return 1;
  if (toOnnx)
    return mlir::failed(moec::emitOnnx(text, input, output, registry));
  out->keep();
  return 0;
}
