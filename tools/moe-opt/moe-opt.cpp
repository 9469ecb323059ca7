// moe-opt: runs passes on .mlir and .onnx files, one pass or pipeline at a time. For developers and
// tests.
#include "Emit.h"

#include "moec/Driver/Register.h"

#include "mlir/Pass/PassManager.h"
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
  std::string error;
  auto file = mlir::openInputFile(input, &error);
  bool toOnnx = emit == Emit::onnx;
  if (toOnnx && (output == "-" || output == input)) {
    llvm::errs() << "moe-opt: --emit=onnx needs -o with the name of a file of its own\n";
    return 1;
  }
  auto out = file && !toOnnx ? mlir::openOutputFile(output, &error) : nullptr;
  if (!file || (!out && !toOnnx)) {
    llvm::errs() << "moe-opt: " << error << "\n";
    return 1;
  }
  if (moec::isOnnx(input, *file))
    file = moec::importAsText(input, registry);
  if (toOnnx)
    config.setPassPipelineSetupFn([given = config, in = input, to = output](mlir::PassManager &pm) {
      if (mlir::failed(given.setupPassPipeline(pm)))
        return mlir::failure();
      pm.addPass(moec::createEmitOnnx(in, to));
      return mlir::success();
    });
  llvm::raw_ostream &os = toOnnx ? llvm::nulls() : out->os();
  if (!file || mlir::failed(mlir::MlirOptMain(os, std::move(file), registry, config)))
    return 1;
  if (out)
    out->keep();
  return 0;
}
