#include "Isa.h"

namespace moec::cpu {

const Isa *findIsa(llvm::StringRef name) {
  using Halide::Target;
  // Halide wants every implied feature spelled out.
  static const Isa avx2 = {
      "avx2",
      Target(Target::Linux, Target::X86, 64,
             {Target::SSE41, Target::AVX, Target::AVX2, Target::FMA, Target::F16C, Target::NoRuntime,
              Target::NoAsserts, Target::NoBoundsQuery}),
      8, 16};
  static const Isa avx512 = {
      "avx512",
      avx2.target.with_feature(Target::AVX512).with_feature(Target::AVX512_Skylake), 16, 32};
  if (name == "avx2")
    return &avx2;
  if (name == "avx512")
    return &avx512;
  return nullptr;
}

TileShape tileShape(const Isa &isa, bool gated, int rows, int mostPanels) {
  // Accumulators: as many as fit beside the operands, and at least 8 where that is possible: two
  // FMA units times four cycles of latency.
  int budget = isa.registers == 32 ? 24 : 12;
  int vectors = (gated ? 32 : 16) / isa.lanes; // accumulators of one row and panel
  bool joint = rows * vectors <= budget;
  if (gated && isa.registers == 16 && rows > 2)
    joint = false; // four B vectors leave no room for A
  int each = joint ? rows * vectors : rows * 16 / isa.lanes;
  int panels = 1;
  while (panels < mostPanels && each * panels * 2 <= budget)
    panels *= 2;
  return {rows, panels, joint};
}

} // namespace moec::cpu
