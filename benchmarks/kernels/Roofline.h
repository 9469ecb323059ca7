// What this machine can do: the roofs that kernels are compared with.
#pragma once
#include <cstdint>
#include <string>

namespace roofline {

/// Seconds: CPU time of the calling thread for one thread (other work on the machine then disturbs
/// less), else wall time.
double now(int threads);

/// f32 FMA of one instruction set from registers, all threads together, GFLOP/s.
double peakFlops(const std::string &isa, int threads);

/// Reading `bytes` of memory (more than the caches hold: main memory), GB/s.
double readBandwidth(int64_t bytes, int threads);

/// Memory in large pages where the system gives them, aligned to 2 MiB; release with std::free.
void *allocate(int64_t bytes);

} // namespace roofline
