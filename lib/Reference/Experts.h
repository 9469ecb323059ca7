// Feed-forward experts: the formula of #moe.ffn and of the MoE operators.
#pragma once
#include "Activations.h"
#include "Tensor.h"
#include <optional>

namespace moec::reference {

/// down(act(gate x) * (up x + upOffset)), or down(act(up x)) when not gated; with `limit`,
/// gate x <= limit and |up x| <= limit.
struct FfnFormula {
  bool gated = true;
  activations::Activation activation = nullptr;
  double alpha = 1;
  std::optional<double> limit;
  double upOffset = 0;
};

/// One expert's parameters: gate and up [I, H], down [H, I], biases [I], [I], [H].
struct FfnParameters {
  std::optional<Tensor> gate, up, down, gateBias, upBias, downBias;
};

/// Applies an expert to rows [n, H] (row-major); [n, H'] rows of its result. Every projection is
/// rounded to f32. Only the first `width` of the I inner elements take part (-1: all).
std::vector<float> applyFfn(const FfnFormula &formula, const FfnParameters &parameters,
                            llvm::ArrayRef<float> rows, int64_t n, int64_t width = -1);

/// One used slot: expert `expert` runs for token `token` under a weight.
struct Slot {
  int64_t token, expert;
  float weight;
};

/// Runs every expert once for all its slots: `run(expert, rows, n)` gives its [n, H] results.
/// Sums each token's weighted results in the order of the slots, in f32: [tokens, H].
template <class Run>
std::vector<float> runSlots(llvm::ArrayRef<Slot> slots, llvm::ArrayRef<float> x, int64_t tokens,
                            int64_t hidden, int64_t experts, Run run) {
  std::vector<std::vector<int64_t>> of(experts);
  for (size_t i = 0; i < slots.size(); ++i)
    of[slots[i].expert].push_back(static_cast<int64_t>(i));
  std::vector<std::vector<float>> results(slots.size());
  for (int64_t e = 0; e < experts; ++e) {
    if (of[e].empty())
      continue;
    std::vector<float> rows;
    for (int64_t i : of[e])
      rows.insert(rows.end(), x.begin() + slots[i].token * hidden,
                  x.begin() + (slots[i].token + 1) * hidden);
    std::vector<float> y = run(e, rows, static_cast<int64_t>(of[e].size()));
    for (size_t i = 0; i < of[e].size(); ++i)
      results[of[e][i]].assign(y.begin() + i * hidden, y.begin() + (i + 1) * hidden);
  }
  std::vector<float> out(tokens * hidden, 0.0f);
  for (size_t i = 0; i < slots.size(); ++i)
    for (int64_t h = 0; h < hidden; ++h)
      out[slots[i].token * hidden + h] += slots[i].weight * results[i][h];
  return out;
}

} // namespace moec::reference
