// merge-experts: see Merge.td.
#include "MergeWeights.h"
#include "RewriteBank.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/Prune.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Compress/WeightHash.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_MERGEEXPERTS
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

using namespace compress;

struct MergeExperts : impl::MergeExpertsBase<MergeExperts> {
  using MergeExpertsBase::MergeExpertsBase;

  void runOnOperation() override {
    if (failed(merge()))
      signalPassFailure();
  }

private:
  MergeOptions given() {
    MergeOptions options;
    options.preset = preset;
    options.feature = feature;
    options.group = group;
    options.align = align;
    options.weights = weights;
    options.combine = combine;
    options.router = router;
    options.drop = drop;
    options.keep = keep;
    options.budget = budget;
    options.groups = groups;
    options.criterion = criterion;
    options.maxGroup = maxGroup;
    options.rank = rank;
    options.seed = seed;
    options.folder = folder;
    return options;
  }

  LogicalResult merge() {
    ModuleOp module = getOperation();
    auto fail = [&](llvm::Error error) {
      return module.emitError("merge-experts: " + llvm::toString(std::move(error)));
    };
    MergeOptions options = given();
    if (llvm::Error error = resolveOptions(options))
      return fail(std::move(error));
    std::optional<Profile> measured;
    if (!profile.empty()) {
      auto read = readProfileOf(module, profile, folder);
      if (!read)
        return fail(read.takeError());
      measured = std::move(*read);
      auto weights = parseLabelWeights(*measured, labels);
      if (!weights)
        return fail(weights.takeError());
      options.labelWeights = std::move(*weights);
    }
    const Profile *known = measured ? &*measured : nullptr;
    if (!known && options.combine == "lstsq-down")
      return module.emitError("merge-experts: combine = lstsq-down needs a profile: profile=FILE");
    auto plan = planMerges(module, known, options);
    if (!plan)
      return fail(plan.takeError());
    SmallVector<moe::RoutedLayer> layers = moe::collectRoutedLayers(module);
    for (auto [layer, groups] : llvm::zip(layers, *plan)) {
      if (groups.merged() == 0)
        continue;
      layer.bank = moe::findBank(layer.experts, layer.experts.getBank());
      auto result = mergeLayer(layer, groups, profile, labels, options);
      if (!result) {
        std::string text = llvm::toString(result.takeError());
        return text.empty() ? failure() : layerError(layer) << "merge-experts: " << text;
      }
      report(layer, groups, *result, options);
    }
    cleanUp(module);
    return success();
  }

  void report(moe::RoutedLayer &layer, const LayerMerge &plan, const MergeResult &result,
              const MergeOptions &options) {
    ++numLayers;
    numMerged += plan.merged();
    numMoved += result.moved;
    if (!remarks)
      return;
    std::string text;
    for (const MergeGroup &group : plan.groups)
      if (group.members.size() > 1)
        text += (text.empty() ? "(" : ", (") + idList(group.members) + ")";
    InFlightDiagnostic remark = layer.experts->emitRemark();
    size_t left = plan.groups.size();
    remark << "merge-experts: layer '" << plan.name << "': "
           << left + static_cast<size_t>(plan.merged()) << " slabs become " << left << ": " << text
           << "; router " << options.router;
    if (result.aligned > 0)
      remark << "; " << result.moved << " of " << result.aligned << " neurons moved";
    if (result.refit && !result.refit->changed)
      remark << "; down projections left: " << result.refit->why;
  }
};

} // namespace
} // namespace moec
