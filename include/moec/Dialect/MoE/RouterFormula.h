// What #moe.router computes for one token, as the interpreter and passes need it.
#pragma once
#include "moec/Dialect/MoE/MoE.h"
#include "llvm/ADT/ArrayRef.h"
#include <vector>

namespace moec::moe {

/// Step 1: the scores of one row of logits, rounded to f32.
std::vector<float> routerScores(RouterAttr router, llvm::ArrayRef<float> logits);

/// Steps 2 and 3: the experts of the best `keep` of `groups` equal groups of neighbours, in falling
/// order of score, ties to the lower id; NaN counts as -infinity. A group's score is its best one,
/// with `top2` the sum of its best two. `groups` divides the row, `keep` is from 1 to `groups`.
std::vector<int64_t> rankedInGroups(llvm::ArrayRef<float> row, int64_t groups, int64_t keep,
                                    bool top2);

/// Steps 4 and 5: the final weights, in place of the chosen experts' scores.
void routerWeights(RouterAttr router, llvm::MutableArrayRef<double> chosen);

} // namespace moec::moe
