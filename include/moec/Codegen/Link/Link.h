// Codegen/Link: host object + kernel objects + weights -> model.so and model.moew.
#pragma once
#include "moec/Codegen/KernelSpec/Program.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <functional>
#include <string>
#include <vector>

namespace moec::link {

/// One compiled variant of a kernel slot (as Codegen/CPU makes them).
struct KernelVariant {
  unsigned slot;
  std::string isa, symbol;
  llvm::ArrayRef<char> object;
};

struct LinkInput {
  mlir::ModuleOp module; ///< its moe.weights are evaluated
  std::string folder;    ///< weight files are relative to it
  llvm::ArrayRef<char> hostObject;
  Program program;
  std::vector<KernelVariant> kernels;
  std::string compilerVersion;
};

struct LinkReport {
  uint64_t libraryBytes = 0, weightBytes = 0;
  std::string weightsPath; ///< the .moew file
};

/// Writes `output` (.so) and, beside it, the same name with .moew. Both are written to temporary
/// files and renamed at the end. Memory: a few rows of axis 0 of one weight at a time. `progress`
/// gets the bytes packed so far.
llvm::Expected<LinkReport> linkLibrary(const LinkInput &input, llvm::StringRef output,
                                       const std::function<void(uint64_t)> &progress = {});

} // namespace moec::link
