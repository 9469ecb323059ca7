// One MoE layer with planted experts: as IR, and computed plainly with everything that a profile
// holds.
#pragma once

#include "moec/Analysis/Profile.h"
#include <random>
#include <string>
#include <vector>

namespace moec::test {

struct Planted {
  int64_t experts = 8, k = 2, hidden = 4, inter = 3;
  std::vector<float> router; ///< [hidden, experts]
  std::vector<float> routerBias; ///< [E]
  std::vector<float> up, down, downBias; ///< [E, inter, hidden], [E, hidden, inter], [E, hidden]

  static Planted random(std::mt19937 &random, int64_t experts = 8, int64_t k = 2);
  /// Softmax, the k best, weights divided by their sum; experts down(relu(up x)) + bias.
  std::string module() const;

  using Rows = std::vector<std::vector<float>>;
  Rows tokens(std::mt19937 &random, int64_t count) const;
  /// The layer's results; experts that are not in `keep` (when not empty) have logits of -infinity.
  Rows run(const Rows &tokens, const std::vector<int64_t> &keep = {}) const;
  /// A profile of the layer "layer0" over tokens with a label each.
  Profile profile(const Rows &tokens, const std::vector<std::string> &labels) const;

private:
  struct Choice {
    std::vector<double> logits, scores;
    std::vector<int64_t> ids;
    std::vector<double> weights;
  };
  Choice choose(const std::vector<float> &x, const std::vector<int64_t> &keep) const;
  std::vector<double> expert(int64_t e, const std::vector<float> &x) const;
};

} // namespace moec::test
