// Routed layers whose logits and formulas are written in many ways, with or without a mask on the
// logits: what dropping experts has to equal.
#pragma once

#include "GraphText.h"

namespace moec::test {

struct RouterOptions {
  int logits = 0;  // below kLogits: how the scores of experts come about
  int formula = 0; // below kFormulas
  int64_t experts = 8, k = 2, hidden = 4;
};
inline constexpr int kLogits = 10, kFormulas = 13;

/// A module of one layer over x [?, hidden]: its result, and a number for each chosen expert where
/// the formula has slots. `keep`, when not empty: the logits of all other experts are -infinity.
/// One seed gives one model, whatever is kept.
std::string routerModule(unsigned seed, const RouterOptions &options,
                         const std::vector<int64_t> &keep = {});
/// Formulas over groups, where an unequal choice masks.
inline bool isGrouped(int formula) { return formula == 9; }
/// Every expert has a slot or a dense weight.
inline bool isDense(int formula) { return formula == 7 || formula == 8 || formula == 12; }

} // namespace moec::test
