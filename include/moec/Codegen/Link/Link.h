// Codegen/Link: host object + kernel objects + weights -> model.so and model.moew.
//
// The file formats are those of runtime/include/moert/format.h.
#pragma once
#include "mlir/IR/BuiltinOps.h"
#include "moec/Codegen/KernelSpec/Program.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <functional>
#include <string>
#include <vector>

namespace moec::link {

/// One compiled variant of a kernel slot (as Codegen/CPU makes them). The bytes of `object` are
/// borrowed until linkLibrary returns.
struct KernelVariant {
  unsigned slot;
  std::string isa; ///< "avx2" or "avx512"; of one slot in rising order
  std::string symbol;
  llvm::ArrayRef<char> object;
};

struct LinkInput {
  mlir::ModuleOp module;           ///< its moe.weights are evaluated
  std::string folder;              ///< weight files are relative to it
  llvm::ArrayRef<char> hostObject; ///< defines moe_main (moert/abi.h)
  Program program;
  std::vector<KernelVariant> kernels;
  std::string compilerVersion;
};

struct LinkReport {
  uint64_t libraryBytes = 0, weightBytes = 0;
  std::string weightsPath; ///< the .moew file
};

/// Writes `output` (.so) and, beside it, the same name with .moew. Both are written to temporary
/// files beside them and renamed at the end: a failure or an interruption leaves old files intact
/// and no temporary ones. Memory: some rows of axis 0 of one weight at a time (one expert of an
/// expert layout). `progress` gets the bytes packed so far.
///
/// Errors: a file that cannot be written has the system's error code; faults of the compiler (an
/// unknown layout, an object that refers to a symbol that is not libc's or libm's) begin with
/// "internal: "; errors of weight files are WeightEvaluator's.
///
/// Thread safe, but calls wait for each other: lld keeps global state. lld also resets LLVM's
/// command-line options (cl::opt), so read yours before.
llvm::Expected<LinkReport> linkLibrary(const LinkInput &input, llvm::StringRef output,
                                       const std::function<void(uint64_t)> &progress = {});

} // namespace moec::link
