// Halide pipelines of the leaf kernels; each is one function of a kernel's table
// (runtime/include/moert/kernels.h has their signatures and operands).
#pragma once
#include "Isa.h"

namespace moec::cpu {

/// The tile kernel of gemm and experts_up for one register tile.
Halide::Module tileKernel(const KernelSpec &spec, const Isa &isa, TileShape shape,
                          const std::string &name);

/// out(h, t) = sum over k of weight(k, t) * rows(h, position(k, t)), in order of k.
Halide::Module combineKernel(const Isa &isa, const std::string &name);
/// c(n, m) = sum over x, k of a(x, k, m) * b(x, k, n).
Halide::Module dotKernel(const Isa &isa, const std::string &name);
/// out = exp(in - largest of the row), or sigmoid(in), or in; sums(row) = sum of out.
Halide::Module scoresKernel(RouterScore score, const Isa &isa, const std::string &name);

} // namespace moec::cpu
