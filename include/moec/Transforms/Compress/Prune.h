// Pruning of whole experts as a plan and its application: what the passes prune-experts and
// subset-experts do, for callers that search plans.
#pragma once
#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Transforms/Compress/Saliency.h"
#include <memory>

namespace moec {

struct PruneOptions {
  /// Beside those of criteria() there is the criterion "reconstruction": the expert goes without
  /// which the layer's output on tokens kept in the profile stays nearest to what it was, one after
  /// the other (a greedy form of NAEE, arXiv:2402.14800). Needs `replace` "drop" or "mask".
  SaliencyOptions saliency;
  /// One of them, "8", "0.25", "25%" of each layer's experts; or none where `budget` is a list.
  std::string drop, keep;
  std::string budget = "uniform"; ///< see Budgets.h
  /// What becomes of a dropped expert: "drop" (router and slab go), "mask" (its logit is -infinity,
  /// ids stay), "zero" or "constant" (its mean output, MoNE); with the last two the router stays.
  std::string replace = "drop";
  std::string folder = "."; ///< of weight files; criterion "reconstruction" reads them
  int64_t tokens = 4096;    ///< of a layer that it looks at, at most; 0: all
  std::string tokensFrom;   ///< the profile's file, when `profile` is without its reservoirs
  int64_t minExperts = 1; ///< experts that stay in each layer, at least; never fewer than slots
};

/// What passes take as texts of these options; `labels` as parseLabelWeights() takes them.
/// Errors: labels that the profile does not have.
llvm::Expected<PruneOptions> pruneOptions(const Profile &profile, llvm::StringRef criterion,
                                          llvm::StringRef drop, llvm::StringRef keep,
                                          llvm::StringRef budget, llvm::StringRef labels);

/// What to drop of one layer.
struct LayerDrops {
  std::string name;
  int64_t experts = 0;
  std::vector<int64_t> drop; ///< rising ids
  double retained = 1;       ///< part of the layer's score that stays (negative scores count as 0)
};

/// A plan for the routed layers of the module, in their order. Protected experts (moe.protected of
/// their bank) and experts without a slab are never dropped. Changes nothing.
/// Errors, one line: a layer that the profile does not have or has with other experts; what
/// expertScores() and chooseDrops() say; a wrong option.
llvm::Expected<std::vector<LayerDrops>> planDrops(mlir::ModuleOp module, const Profile &profile,
                                                  const PruneOptions &options);

/// Applies a plan; call cleanUp() (Rewrite.h) behind it. `profile` is read for constants only.
/// Errors are diagnosed at the layer.
llvm::LogicalResult applyDrops(mlir::ModuleOp module, llvm::ArrayRef<LayerDrops> plan,
                               const Profile &profile, const PruneOptions &options);

/// "3, 5, 8" of ids.
std::string idList(llvm::ArrayRef<int64_t> ids);

} // namespace moec
