// Groups of experts as slabs: the application of merge-experts.
#pragma once

#include "MergePlan.h"
#include "Refit.h"

namespace moec::compress {

struct MergeResult {
  int64_t moved = 0;   ///< neurons that alignment put elsewhere
  int64_t aligned = 0; ///< of so many neurons
  std::optional<RefitResult> refit;
};

/// Makes one slab of each group and tells the bank, or the router, about it. An expert at a time is
/// in memory. `layer` stays valid; call cleanUp() (Rewrite.h) behind the last layer. Errors of the
/// router are diagnosed and come back with no text.
llvm::Expected<MergeResult> mergeLayer(moe::RoutedLayer &layer, const LayerMerge &plan,
                                       const Profile *profile, llvm::StringRef labels,
                                       const MergeOptions &options);

/// The weighted average of matrices [rows, columns] in the basis of left singular vectors that they
/// share (Sub-MoE, arXiv:2506.23266): with [W_1 | W_2 | ...] = U S [V_1; V_2; ...]^T it is
/// U S (sum of weight_i V_i)^T, of the leading `rank` part of U (rounded up). At 1 that is the sum
/// of weight_i W_i.
class SharedBasis {
public:
  SharedBasis(int64_t rows, int64_t columns)
      : gram(Eigen::MatrixXd::Zero(rows, rows)), mean(Eigen::MatrixXd::Zero(rows, columns)) {}
  void add(const Rows &matrix, double weight);
  Rows merged(double rank) const;

private:
  Eigen::MatrixXd gram, mean;
};

} // namespace moec::compress
