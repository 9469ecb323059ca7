// What this machine can do: the roofs that kernels are compared with.
#pragma once
#include <cstdint>
#include <string>

namespace roofline {

double now(); ///< seconds

/// f32 FMA of one instruction set from registers, all threads together, GFLOP/s.
double peakFlops(const std::string &isa, int threads);

/// Reading `bytes` of memory (more than the caches hold: main memory), GB/s.
double readBandwidth(int64_t bytes, int threads);

} // namespace roofline
