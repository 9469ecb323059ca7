// Which experts are merged into which: the plan of merge-experts.
#pragma once

#include "moec/Analysis/Profile.h"
#include "moec/Dialect/MoE/RoutedLayers.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace moec::compress {

struct MergeOptions {
  std::string preset = "ream";
  /// Parts; those that are empty are the preset's.
  std::string feature, group, align, weights, combine, router;
  std::string drop, keep, budget = "uniform"; ///< as PruneOptions has them
  std::string groups;                         ///< "layer0=0,3|1,5;layer2=4,7": given, not found
  std::string criterion = "reap";             ///< of the weights `saliency`
  std::vector<double> labelWeights;
  int64_t maxGroup = 16;
  double rank = 1;
  uint64_t seed = 0;
  std::string folder = ".";
};

/// Fills the parts from the preset. Errors: names that do not exist, numbers out of range.
llvm::Error resolveOptions(MergeOptions &options);

struct MergeGroup {
  std::vector<int64_t> members; ///< expert ids; the first stands for the group, the others rise
  std::vector<double> weights;  ///< of the members, with the sum 1
};

/// A partition of the experts with parameters of one layer, groups by their first members' ids.
struct LayerMerge {
  std::string name;
  std::vector<MergeGroup> groups;
  int64_t merged() const; ///< slabs that go
};

/// A plan for each routed layer, in order; changes nothing. `profile` may be null where groups are
/// given and weights are uniform. Errors, one line: what planDrops() says of the budget; a layer
/// that cannot be merged (unsupported); groups that are no partition.
llvm::Expected<std::vector<LayerMerge>> planMerges(mlir::ModuleOp module, const Profile *profile,
                                                   const MergeOptions &options);

/// Why the slabs of a bank cannot be made anew; empty when they can: kinds of experts, experts that
/// share slabs already, different widths, weights that are not stored as floats.
std::string whyNoNewSlabs(moe::BankOp bank);

} // namespace moec::compress
