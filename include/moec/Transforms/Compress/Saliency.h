// How much each expert of a layer matters, by what a profile says it did.
#pragma once
#include "moec/Analysis/Profile.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <vector>

namespace moec {

/// One criterion. All are sums or means over the tokens of the profile; n is the number of tokens
/// that chose the expert, g the slot's weight, f its output, p the router's score, z a logit.
struct Criterion {
  llvm::StringRef name;
  llvm::StringRef text; ///< the formula, and where it is from
};

/// In the order of the documentation:
/// - reap: sum g|f| / n (Lasby et al., "REAP the Experts", arXiv:2510.13999)
/// - reap-l2: sqrt(sum (g|f|)^2 / n)
/// - gated-norm: sum g|f|
/// - mean-norm: sum |f| / n (EAN, expert activation norm)
/// - norm-sum: sum |f|
/// - soft: sum g of the tokens that chose it (soft count; Muzio et al., SEER-MoE, arXiv:2404.05089)
/// - score: sum p over all tokens
/// - tcess: sum z of the tokens whose best expert it is, over all tokens (PreMoe, arXiv:2505.17639)
/// - easy-ep: sum g|f| max(0, 1 - cos(r, r + y)), r the residual stream and y the layer's result
///   (EASY-EP, arXiv:2504.06792)
/// - tenp: sum g|f| (1 - cos(x, f))
/// - mone: |sqrt(var f)| times the mean of g over all tokens (MoNE, arXiv:2507.00390)
/// - frequency: n
/// - random: no data; the same for one seed and layer name
llvm::ArrayRef<Criterion> criteria();

/// Which part of a profile counts, and how labels are mixed.
struct SaliencyOptions {
  std::string criterion = "reap";
  std::vector<double> labelWeights; ///< one for each label of the profile; empty: 1 each
  /// Scores each label by itself, divides by the label's sum and adds (EASY-EP), instead of adding
  /// the statistics. Each label then weighs the same, however many tokens it has.
  bool perLabel = false;
  uint64_t seed = 0; ///< of `random`
};

/// Scores [experts], larger for those to keep. An expert that no token chose scores 0.
/// Errors: an unknown criterion, or a statistic that the profile does not have (with the tier of
/// profile that has it).
llvm::Expected<std::vector<double>> expertScores(const Profile &profile, const LayerProfile &layer,
                                                 const SaliencyOptions &options);

/// Experts from the first to drop to the last: those that no token chose, then by rising score;
/// among equals the less chosen first, then the higher id. For `random` by score only.
std::vector<int64_t> dropOrder(const LayerProfile &layer, llvm::ArrayRef<double> scores,
                               const SaliencyOptions &options);

/// "github:1,c4:0.5", or "github,c4" for 1 each, as a weight for each label of the profile; labels
/// that are not named weigh 0. Empty text: an empty list. Errors name the text.
llvm::Expected<std::vector<double>> parseLabelWeights(const Profile &profile, llvm::StringRef text);

} // namespace moec
