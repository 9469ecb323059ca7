// New down projections by least squares.
#pragma once

#include "RepairPass.h"

namespace moec::compress {

struct RefitOptions {
  /// Ridges to choose from, each relative to the mean diagonal of the normal equations: by the tokens
  /// held out, on the first group of unknowns, from the middle one on in the direction in which the
  /// error falls (without such tokens the first).
  llvm::SmallVector<double> ridges = {0.03};
  int64_t maxUnknowns = 4096; ///< of one system of equations; more are solved in groups
  int64_t sweeps = 3;         ///< over the groups, when there are several
  bool biases = true;         ///< refit the down biases that the bank has, too
  bool addBiases = false;     ///< give it down biases when it has none
};

struct RefitResult {
  bool changed = false;
  std::string why; ///< when it is not changed
  Errors before, after;
  double ridge = 0;
  int64_t unknowns = 0, groups = 0;
};

/// Fits the down projections of `slabs` (rising; empty: all) together, so that the layer's output
/// on the samples comes near to their target: with W the down weights now, it minimises
///   |target - output|^2 + ridge |W' - W|^2
/// over all of them, as MergeMoE does for merged experts (there one slab, and no ridge). More
/// unknowns than `maxUnknowns` are solved in groups of slabs, one after the other on what the
/// others leave over. Memory: 8 bytes times the square of a group's unknowns, and the intermediate
/// results of the group's experts on their tokens. The new weights become a literal in the element
/// type in which the old ones are stored; other slabs stay values of what they were.
/// Weights that do worse on the tokens held out (without such: on those fitted) are not taken.
/// Errors: weights that cannot be read, disk space.
llvm::Expected<RefitResult> refitDown(RepairLayer &at, llvm::ArrayRef<int64_t> slabs,
                                      const RefitOptions &options);

/// The same for a layer by itself: of `source` only `folder`, `holdOut`, `tokens` and `labels`
/// count. A layer that is unsupported is not changed. Errors: profiles that do not fit, weights
/// that cannot be read, disk space.
llvm::Expected<RefitResult> refitLayer(moe::RoutedLayer &layer, llvm::ArrayRef<int64_t> slabs,
                                       const Profile &profile, const Profile *current,
                                       const RepairSource &source, const RefitOptions &options);

/// The float type in which the numbers of a value of moe.weights are stored; null: in another form,
/// such as quantised.
mlir::Type storedFloat(mlir::Value value);

/// Rounds to another float type and back.
void roundTo(mlir::Type type, float *values, int64_t count);

} // namespace moec::compress
