// prune-experts: see Prune.td.
#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/Prune.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Compress/WeightHash.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_PRUNEEXPERTS
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

struct PruneExperts : impl::PruneExpertsBase<PruneExperts> {
  using PruneExpertsBase::PruneExpertsBase;

  void runOnOperation() override {
    if (failed(prune()))
      signalPassFailure();
  }

private:
  LogicalResult prune() {
    ModuleOp module = getOperation();
    auto fail = [&](llvm::Error error) {
      return module.emitError("prune-experts: " + llvm::toString(std::move(error)));
    };
    if (profile.empty())
      return module.emitError("prune-experts: needs a profile: profile=FILE");
    auto measured = readProfileOf(module, profile, folder);
    if (!measured)
      return fail(measured.takeError());
    auto options = pruneOptions(*measured, criterion, drop, keep, budget, labels);
    if (!options)
      return fail(options.takeError());
    options->saliency.perLabel = perLabel;
    options->saliency.seed = seed;
    options->replace = replace;
    options->minExperts = minExperts;
    options->folder = folder;
    options->tokens = tokens;
    options->tokensFrom = profile; // only reconstruction looks at single tokens
    auto plan = planDrops(module, *measured, *options);
    if (!plan)
      return fail(plan.takeError());
    report(*plan);
    if (failed(applyDrops(module, *plan, *measured, *options)))
      return failure();
    cleanUp(module);
    return success();
  }

  void report(ArrayRef<LayerDrops> plan) {
    SmallVector<moe::RoutedLayer> layers = moe::collectRoutedLayers(getOperation());
    for (auto [layer, drops] : llvm::zip(layers, plan)) {
      numLayers += !drops.drop.empty();
      numDropped += drops.drop.size();
      numKept += drops.experts - static_cast<int64_t>(drops.drop.size());
      if (remarks)
        layer.experts->emitRemark()
            << "prune-experts: layer '" << drops.name << "': " << drops.drop.size() << " of "
            << drops.experts << " experts go (" << idList(drops.drop) << "); "
            << llvm::formatv("{0:f1}", 100 * drops.retained).str() << " % of " << criterion
            << " stays";
    }
  }
};

} // namespace
} // namespace moec
