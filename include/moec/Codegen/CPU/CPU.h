// Codegen/CPU: kernel specs -> object files, one for each instruction set.
#pragma once
#include "moec/Codegen/KernelSpec/KernelSpec.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace moec::cpu {

struct KernelObject {
  unsigned slot;      ///< index into the list of specs
  std::string isa;    ///< "avx2", "avx512"; the runtime takes the last one that the CPU has
  std::string symbol; ///< function in the object
  std::string object; ///< ELF bytes, position independent, without undefined symbols beyond libc/libm
};

struct CpuOptions {
  std::vector<std::string> isas = {"avx2", "avx512"};
  std::string cacheFolder; ///< empty: $XDG_CACHE_HOME/moec or ~/.cache/moec; "-" caches nothing
  int jobs = 0;            ///< 0: all cores
};

/// Compiles each spec for each instruction set; equal specs come from the disk cache (by content
/// hash). Errors name the spec. Thread safe.
llvm::Expected<std::vector<KernelObject>> compileKernels(const std::vector<std::string> &specs,
                                                         const CpuOptions &options);

} // namespace moec::cpu
