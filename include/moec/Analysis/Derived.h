// Numbers that follow from a profile: what people look at and passes decide by.
//
// `weights` re-weigh the labels: one for each label, or empty for 1 each (LayerProfile::total).
// Results are empty when the profile lacks a statistic that they need. Matrices are row-major
// [E, E]. All functions are pure and safe to call from several threads.
#pragma once
#include "moec/Analysis/Profile.h"

namespace moec {

/// Each value's part of the sum; all zeros when that is 0.
std::vector<double> shares(llvm::ArrayRef<double> values);
/// Gini coefficient of values that are not negative: 0 for equal ones, (n - 1) / n when one has
/// all. 0 for a sum of 0.
double gini(llvm::ArrayRef<double> values);
/// Shannon entropy of the shares over log n: 1 for equal values, 0 when one has all. 1 for n = 1
/// and for a sum of 0: nothing is out of balance.
double normalisedEntropy(llvm::ArrayRef<double> values);
/// Largest value over the mean: 1 to n. 1 for a sum of 0.
double maxOverMean(llvm::ArrayRef<double> values);
/// The value below which the part `q` of `values` lies, interpolated between the two nearest ones.
/// NaN without values.
double quantile(std::vector<double> values, double q);
/// The same for a histogram of equal bins over [0, 1], values evenly spread within a bin.
double histogramQuantile(llvm::ArrayRef<double> bins, double q);

/// How the tokens of a layer spread over its experts.
struct Load {
  double chosen = 0;          ///< sum of counts: tokens times slots
  std::vector<double> shares; ///< [E], sum to 1
  double gini = 0, entropy = 1, maxOverMean = 1;
  std::vector<int64_t> never; ///< experts without a token, when there are tokens
};
/// Of one layer; nothing without counts.
std::optional<Load> loadOf(const LayerProfile &layer, llvm::ArrayRef<double> weights = {});

/// P(i and j) / (P(i) P(j)) over tokens: 1 when two experts are chosen independently of each other.
/// Needs tokens, count, coactivation (or coactivation_listed). NaN on the diagonal, where an expert
/// was never chosen, and for pairs that the other tool did not list.
std::vector<double> coactivationLift(const LayerProfile &layer,
                                     llvm::ArrayRef<double> weights = {});
/// Cosine of the experts' logits over tokens (M-SMoE, "Merge, then compress", Li et al., 2024).
std::vector<double> logitCosine(const LayerProfile &layer, llvm::ArrayRef<double> weights = {});
/// Pearson's correlation of logits: the cosine without what all experts share.
std::vector<double> logitCorrelation(const LayerProfile &layer,
                                     llvm::ArrayRef<double> weights = {});
/// Euclidean distance between the L2-normalised columns of the score matrix, 0 to sqrt 2 (REAM,
/// 2026).
std::vector<double> scoreDistance(const LayerProfile &layer, llvm::ArrayRef<double> weights = {});
/// Mean cosine of the outputs of two experts for the same token (Sub-MoE, 2025); tier 2.
std::vector<double> outputCosine(const LayerProfile &layer, llvm::ArrayRef<double> weights = {});
/// Cosine of the sums of g f of two experts (REAM); tier 1.
std::vector<double> gatedOutputCosine(const LayerProfile &layer,
                                      llvm::ArrayRef<double> weights = {});

/// Total variation distance of two lists of shares, equally long: 0 for the same ones, 1 when nothing
/// is in both.
double totalVariation(llvm::ArrayRef<double> a, llvm::ArrayRef<double> b);

/// Total variation distance between the loads of two labels, [L, L]: 0 for the same load, 1 when
/// they share no expert. NaN for labels without tokens. The profile's are means over its layers.
std::vector<double> labelDistances(const LayerProfile &layer);
std::vector<double> labelDistances(const Profile &profile);

/// An expert with activations so large that the model breaks without it.
struct SuperExpert {
  int64_t layer, expert; ///< numbers in the profile
  double outputMax;
};
/// The rule of "Unveiling Super Experts in Mixture-of-Experts LLMs" (Su et al., 2025) over all
/// layers together; experts that no token chose are left out.
struct SuperExpertRule {
  double quantile = 0.995; ///< output_max above this quantile
  double part = 0.1;       ///< and above this part of the largest
  double depth = 0.75;     ///< and in a layer of number < depth * layers
};
std::vector<SuperExpert> superExperts(const Profile &profile, llvm::ArrayRef<double> weights = {},
                                      const SuperExpertRule &rule = {});

enum class WarningKind {
  noTokens,    ///< the layer saw none
  never,       ///< experts that no token chose
  dominant,    ///< one expert that most tokens choose
  unbalanced,  ///< Gini above the bound
  nearlyEqual, ///< two experts whose outputs hardly differ
};
struct ProfileWarning {
  WarningKind kind;
  int64_t layer;                ///< number in the profile
  std::vector<int64_t> experts; ///< the experts that it is about, rising
  double value;                 ///< what was compared with the bound
  std::string text;             ///< one line, names the layer
};
struct WarningBounds {
  double tokens = 0.5;        ///< dominant: chosen by more than this part of the tokens
  double overMean = 3;        ///< and more than this times as often as the mean expert
  double gini = 0.6;          ///< unbalanced: above
  double cosine = 0.98;       ///< nearlyEqual: mean cosine of outputs above (tier 2)
  double correlation = 0.999; ///< or, without tier 2, correlation of logits above
};
/// Signs of a collapsed router or of redundant experts, in the order of layers.
std::vector<ProfileWarning> profileWarnings(const Profile &profile,
                                            llvm::ArrayRef<double> weights = {},
                                            const WarningBounds &bounds = {});

} // namespace moec
