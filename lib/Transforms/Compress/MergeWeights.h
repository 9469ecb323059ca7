// Groups of experts as slabs: the application of merge-experts.
#pragma once

#include "MergePlan.h"
#include "Refit.h"
#include "moec/Transforms/Prepare/WeightSteps.h"
#include "moec/Weights/Literal.h"

namespace moec::compress {

struct MergeResult {
  int64_t moved = 0;   ///< neurons that alignment put elsewhere
  int64_t aligned = 0; ///< of so many neurons
  std::optional<RefitResult> refit;
};

/// Makes one slab of each group and tells the bank, or the router, about it. An expert at a time is
/// in memory, and for lstsq-down the layer's tokens from the file `profile`. `layer` stays valid;
/// call cleanUp() (Rewrite.h) behind the last layer. Errors of the router are diagnosed and come
/// back with no text.
llvm::Expected<MergeResult> mergeLayer(moe::RoutedLayer &layer, const LayerMerge &plan,
                                       llvm::StringRef profile, llvm::StringRef labels,
                                       const MergeOptions &options);

/// One slab of a new parameter: a row of the old one, or a value [1, ...] in its stored type.
struct SlabSource {
  int64_t row = -1;
  mlir::Value fresh;
};

/// These slabs one after the other, as a value of the type of `from`; stored types stay.
mlir::Value joinSlabs(WeightSteps &steps, mlir::Value from, llvm::ArrayRef<SlabSource> slabs);

/// Numbers as elements of another float type, at the end of what `writer` has.
llvm::Error writeAs(LiteralWriter &writer, mlir::Type stored, const float *numbers, int64_t count);

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
