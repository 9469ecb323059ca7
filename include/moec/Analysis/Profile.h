// Profile: what a model's routers and experts did on calibration data, as plain numbers.
//
// A profile is a set of layers, each a set of named statistics. All of them are kept per label (a
// domain of the data, such as "github"), so that a mix of domains can be re-weighted later, and all
// of them merge: profiles of parts of the data, taken on different machines, add up to the profile
// of all of it. docs/profile.md lists the statistics and the file layout.
#pragma once
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace moec {

/// How two values of a statistic become one.
enum class MergeRule { sum, max };

/// One number, or one tensor of numbers, for each label. Counts are exact below 2^53.
struct Statistic {
  MergeRule rule = MergeRule::sum;
  std::vector<int64_t> shape; ///< of one label's value; empty: a number
  /// [labels][shape...], labels in the order of Profile::labels. A label without data is all zeros
  /// (`sum`) or all -infinity (`max`).
  std::vector<double> values;

  int64_t count() const; ///< elements of one label's value
  llvm::ArrayRef<double> of(int64_t label) const;
};

/// Tokens kept as they went through a layer, for what needs more than sums (least squares, exact
/// reconstruction errors). `key` orders the tokens of all profiles: it depends on the label, the
/// sequence and the position only, so the profiles of a model and of its compressed form, over the
/// same data, keep the same tokens. Merging keeps the `capacity` smallest keys of each label.
struct Reservoir {
  int64_t capacity = 0;       ///< tokens for each label, at most
  std::vector<uint64_t> key;  ///< [n], rising within a label
  std::vector<int32_t> label; ///< [n], rising
  std::vector<float> x;       ///< [n, hidden], the experts' input
  std::vector<float> logits;  ///< [n, experts], as the router got them
  std::vector<int32_t> ids;   ///< [n, k], -1 for an empty slot
  std::vector<float> weights; ///< [n, k], the final mixing weights
  std::vector<float> y;       ///< [n, hidden], the experts' weighted sum
  int64_t tokens() const { return int64_t(key.size()); }
};

struct LayerProfile {
  std::string name; ///< of moe::collectRoutedLayers
  int64_t experts = 0;
  int64_t k = 0, hidden = 0; ///< 0: not known (routing counts of other tools)
  std::string router;        ///< the formula, as #moe.router prints it; empty when not fused
  std::string weightHash;    ///< of samples of the bank's parameters
  std::map<std::string, Statistic> statistics; ///< by the names in `stat`
  Reservoir reservoir;

  /// The statistic of that name, or null.
  const Statistic *find(llvm::StringRef name) const;
  /// Its values summed over labels, each label's multiplied by its weight; of `max`, the largest
  /// over the labels whose weight is not 0. Weights: one for each label, or empty: 1 each. Empty
  /// when there is no such statistic.
  std::vector<double> total(llvm::StringRef name, llvm::ArrayRef<double> labelWeights = {}) const;
};

struct Profile {
  std::string model;               ///< file name, for people
  std::vector<std::string> labels; ///< sorted, unique
  std::vector<LayerProfile> layers;

  const LayerProfile *layer(llvm::StringRef name) const;
  /// The number of a label, or nothing.
  std::optional<int64_t> label(llvm::StringRef name) const;
};

/// Names of statistics: E experts, K slots, H hidden. Sums run over tokens unless said otherwise;
/// g is a slot's weight, f its expert's output, p the router's score of an expert (softmax or
/// sigmoid of all logits, as the router says; softmax when it has none), z a logit.
namespace stat {
using Name = llvm::StringLiteral;
// Tier 0: the router.
inline constexpr Name tokens = "tokens";             ///< [] number of tokens
inline constexpr Name sequences = "sequences";       ///< [] number of sequences
inline constexpr Name count = "count";               ///< [E] tokens that chose it
inline constexpr Name rankCount = "rank_count";      ///< [E, K] by slot
inline constexpr Name scoreSum = "score_sum";        ///< [E] sum p
inline constexpr Name gateSum = "gate_sum";          ///< [E] sum g of chosen
inline constexpr Name gateSquares = "gate_squares";  ///< [E] sum g^2 of chosen
inline constexpr Name topLogitSum = "top_logit_sum"; ///< [E] sum z of the best one (TCESS, K_a = 1)
inline constexpr Name coactivation = "coactivation"; ///< [E, E] tokens that chose both
/// [E, E] of pairs that another tool lists; 0: not listed
inline constexpr Name coactivationListed = "coactivation_listed";
inline constexpr Name logitSum = "logit_sum";       ///< [E] sum z
inline constexpr Name logitGram = "logit_gram";     ///< [E, E] sum z z^T
inline constexpr Name scoreGram = "score_gram";     ///< [E, E] sum p p^T
inline constexpr Name ratioBins = "ratio_bins";     ///< [K, 32] histogram of p_r / p_1 in [0, 1]
inline constexpr Name massBins = "mass_bins";       ///< [K, 32] of the r best scores' sum / all
inline constexpr Name entropyBins = "entropy_bins"; ///< [32] of Shannon entropy / log E
/// [E] sum over sequences of count / (tokens K)
inline constexpr Name sequenceShare = "sequence_share";
inline constexpr Name sequenceShareSquares = "sequence_share_squares"; ///< [E] of its square
// Tier 1: the outputs of chosen experts.
inline constexpr Name normSum = "norm_sum";                    ///< [E] sum |f|
inline constexpr Name gatedNormSum = "gated_norm_sum";         ///< [E] sum g|f|
inline constexpr Name gatedNormSquares = "gated_norm_squares"; ///< [E] sum (g|f|)^2
inline constexpr Name gatedNormMax = "gated_norm_max";         ///< [E] max g|f|
/// [E] sum g|f| max(0, 1 - cos(r, r + y)), r the residual (EASY-EP)
inline constexpr Name noveltySum = "novelty_sum";
inline constexpr Name turnSum = "turn_sum";     ///< [E] sum g|f| (1 - cos(x, f)) (TENP)
inline constexpr Name outputMax = "output_max"; ///< [E] max over channels of |f|
inline constexpr Name outputMaxChannel = "output_max_channel"; ///< [E, H] max |f| by channel
inline constexpr Name outputSum = "output_sum";                ///< [E, H] sum f
inline constexpr Name outputSquares = "output_squares";        ///< [E, H] sum f^2
inline constexpr Name gatedOutputSum = "gated_output_sum";     ///< [E, H] sum g f
// Tier 2: all experts on a sample of the tokens.
inline constexpr Name sampled = "sampled";             ///< [] sampled tokens
inline constexpr Name allOutputSum = "all_output_sum"; ///< [E, H] sum f over all sampled tokens
inline constexpr Name outputCosine = "output_cosine";  ///< [E, E] sum cos(f_i, f_j)
} // namespace stat

/// What readers and writers ask of a profile: shapes that fit the layer, statistics as
/// knownStatistics() (Statistics.h) says, no NaN, counts that are whole, not negative and not above
/// their label's tokens, sorted labels, an ordered reservoir. A statistic of an unknown name may
/// have any shape. Errors: one line that names the layer and the statistic.
llvm::Error checkProfile(const Profile &profile);

/// The file is a safetensors file (8 bytes little-endian header length, JSON header, data):
/// metadata `format` = "moec-profile", `version`, the layers and labels; a tensor
/// `<layer>/<statistic>` for each. Written to a temporary file and renamed. Errors: one line that
/// names the file and the layer or statistic; a file of a newer version, or one that checkProfile
/// refuses, is refused.
llvm::Error writeProfile(const Profile &profile, llvm::StringRef path);
/// `reservoirOf`: only this layer's reservoir is read, none for ""; without it all are. Reservoirs
/// are most of a file: what needs none of them, or one at a time, should say so.
llvm::Expected<Profile> readProfile(llvm::StringRef path,
                                    std::optional<llvm::StringRef> reservoirOf = std::nullopt);

/// Whether two profiles are of one model: layers, sizes, routers and hashes of weights are the same.
/// Errors: one line that names the layer.
llvm::Error checkSameModel(const Profile &a, const Profile &b);

/// The profile of both parts of the data. Associative and commutative up to the rounding of sums.
/// Statistics that only one of the two has are left out, since a sum over a part of the tokens says
/// nothing about all of them; of two capacities of a reservoir the smaller one holds. Errors, one
/// line that names the layer: the profiles are of different models.
llvm::Expected<Profile> mergeProfiles(const Profile &a, const Profile &b);

} // namespace moec
