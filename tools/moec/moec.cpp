// moec: the compiler's command line.
#include "moec/Driver/CommandLine.h"

#include "llvm/Support/InitLLVM.h"

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  moec::CrashReporter reporter(argc, argv);
  return moec::runCommandLine(argc, argv);
}
