// The tokens that a repair is fitted to, from one or two profiles.
#pragma once

#include "ExpertMath.h"
#include "moec/Analysis/Profile.h"
#include <functional>
#include <optional>

namespace moec::compress {

/// What every repair pass is told.
struct RepairSource {
  std::string profile;        ///< of the original model
  std::string currentProfile; ///< of the model as it is now, over the same data; empty: none
  std::string folder = ".";   ///< of the weight files
  double holdOut = 0.1;       ///< share of the tokens that nothing is fitted to
  int64_t tokens = 0;         ///< of a layer, at most; 0: all
  llvm::ArrayRef<std::string> layers; ///< only these, by name or number; empty: all
  std::string labels;                 ///< as parseLabelWeights takes them; empty: all alike
};

/// Tokens of one layer. The first `fitted` ones are for fitting, the others are held out.
struct LayerSamples {
  Rows x;      ///< [n, hidden], what the experts get now
  Rows target; ///< [n, hidden], the original layer's routed output, times scale
  Eigen::VectorXf scale; ///< [n], the square root of how much a token counts
  Rows logits; ///< [n, original experts], of the original model
  std::optional<Picks> picks; ///< the choice now, when a current profile says it
  Picks original;             ///< the original model's choice
  int64_t fitted = 0;
  bool isCurrent = false; ///< x is from the model as it is now
  int64_t tokens() const { return x.rows(); }
};

/// Errors: no reservoir, other sizes than the layer's, no token in both profiles.
llvm::Expected<LayerSamples> collectSamples(const moe::RoutedLayer &layer,
                                            const Profile &profile, const Profile *current,
                                            const RepairSource &source);

/// How the tokens of `samples` are routed now: as the current profile says, or by the router's
/// weights, or by what the original router's logits were. Errors: none of them is known.
llvm::Expected<Picks> picksOf(const moe::RoutedLayer &layer, const LayerSamples &samples,
                              WeightEvaluator &weights);

/// A layer that a repair may change.
struct RepairLayer {
  moe::RoutedLayer layer;
  WeightEvaluator &weights; ///< not to be used any more once the module has changed
  FfnBank &bank;
  const LayerSamples &samples;
  const Picks &picks;
  const LayerProfile &profile; ///< of the original model
};

/// Calls `repair` with the samples and the routing of one layer, or `leave` with why it is
/// unsupported. Errors: profiles that do not fit, and what `repair` returns.
llvm::Error repairLayer(moe::RoutedLayer &layer, const Profile &profile, const Profile *current,
                        const RepairSource &source,
                        llvm::function_ref<llvm::Error(RepairLayer &)> repair,
                        llvm::function_ref<void(const llvm::Twine &)> leave);

/// Calls `repair` for each layer of the module that can be repaired: a bank of a #moe.ffn of its
/// own, whose routing is known. Others get a remark that begins with `pass`, and add to `left`.
/// Errors are diagnosed: profiles that cannot be read or do not fit, layers that do not exist, and
/// what `repair` returns.
llvm::LogicalResult repairLayers(mlir::ModuleOp module, llvm::StringRef pass,
                                 const RepairSource &source,
                                 llvm::function_ref<llvm::Error(RepairLayer &)> repair,
                                 llvm::function_ref<void()> left);

} // namespace moec::compress
