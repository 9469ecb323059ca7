// moec: the compiler's command line.
#include "moec/Driver/CommandLine.h"

#include "llvm/Support/InitLLVM.h"

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  llvm::setBugReportMsg("moec: internal error; please report it with the command line above and "
                        "the model (or its structure: moec compile --emit=onnx)\n");
  return moec::runCommandLine(argc, argv);
}
