// Compiles kernel specs into this process and packs weights for them.
#pragma once
#include "context.h"
#include "moec/Codegen/KernelSpec/KernelSpec.h"
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace harness {

using moec::KernelSpec;
using moec::WeightType;

/// Kernels of some specs for one instruction set, as slots 0, 1, ...
class Kernels {
public:
  /// Throws std::runtime_error.
  Kernels(const std::vector<KernelSpec> &specs, const std::string &isa);
  ~Kernels();
  const moert_kernel *slots() const { return tables.data(); }

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
  std::vector<moert_kernel> tables;
};

/// A context with its threads.
class Context {
public:
  Context(int threads, const Kernels &kernels)
      : ctx(harness_create(threads, kernels.slots())) {}
  ~Context() { harness_release(ctx); }
  Context(const Context &) = delete;

  /// Calls fn(api, ctx); returns the message of a failed run, or an empty string.
  std::string run(const std::function<void(const moert_api &, moert_ctx *)> &fn);

private:
  moert_ctx *ctx;
};

/// Instruction sets that this CPU has.
std::vector<std::string> isas();

using Floats = std::vector<float>;
Floats randomFloats(std::mt19937 &random, size_t count, float scale = 1.0f);

/// Rounds to the type in place and returns the stored bytes.
std::vector<uint8_t> store(Floats &values, WeightType type);

/// Logical [E, N, K] -> [E][ceil(N/16)][K][16] (gemm: E = 1, N and K of a [N, K] weight).
Floats packPanels(const Floats &w, int64_t E, int64_t N, int64_t K);
/// Gate and up [E, I, H] -> [E][ceil(I/16)][H][32].
Floats packGateUp(const Floats &gate, const Floats &up, int64_t E, int64_t I, int64_t H);

} // namespace harness
