// The instruction sets that kernels are made for.
#pragma once
#include "moec/Codegen/KernelSpec/KernelSpec.h"
#include <Halide.h>

namespace moec::cpu {

struct Isa {
  const char *name;
  Halide::Target target;
  int lanes;     ///< f32 elements of a vector register
  int registers; ///< vector registers
};

/// Null for an unknown name.
const Isa *findIsa(llvm::StringRef name);

/// Rows and panels that one register tile covers.
struct TileShape {
  int rows;
  int panels;
  /// Gate and up columns in one loop over k; else two loops, which halves the accumulators.
  bool joint;
};

/// The tile of a row block with at most that many panels (a power of two).
TileShape tileShape(const Isa &isa, bool gated, int rows, int mostPanels);

} // namespace moec::cpu
