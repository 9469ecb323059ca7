// refit-router: see Repair.td.
#include "Refit.h"
#include "RepairOutput.h"
#include "RouterMap.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include <numeric>

namespace moec {
#define GEN_PASS_DEF_REFITROUTER
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

using namespace compress;

struct RefitRouter : impl::RefitRouterBase<RefitRouter> {
  using RefitRouterBase::RefitRouterBase;

  void runOnOperation() override {
    RepairSource source{profile, currentProfile, folder, holdOut, tokens, layers, labels};
    auto repair = [&](RepairLayer &at) -> llvm::Error {
      auto said = remarks ? at.layer.experts.emitRemark() : mlir::InFlightDiagnostic();
      said << "refit-router: " << at.layer.name << ": ";
      std::string why;
      llvm::Error error = repairOne(at, said, why);
      ++(why.empty() ? numRepaired : numLeft);
      if (!why.empty())
        said << "left: " << why;
      return error;
    };
    if (failed(repairLayers(getOperation(), "refit-router", source, repair,
                            [&] { ++numLeft; })))
      return signalPassFailure();
    cleanUp(getOperation());
  }

private:
  // Says in `why` that nothing is changed.
  llvm::Error repairOne(RepairLayer &at, mlir::InFlightDiagnostic &said, std::string &why) {
    auto router = RouterMap::find(at.layer, at.weights, why);
    if (!router)
      return llvm::Error::success();
    if (!at.samples.isCurrent && !mapDropped) {
      why = "its router gets what it got before; give current-profile, or map-dropped";
      return llvm::Error::success();
    }
    Rows aim = aimOf(at, why);
    if (!why.empty())
      return llvm::Error::success();
    auto lacking = [&](const Rows &map) -> llvm::Expected<Rows> {
      auto picks = router->route(at.samples.x, map);
      if (!picks)
        return picks.takeError();
      return residualOf(at, *picks);
    };
    auto now = lacking(router->map);
    if (!now)
      return now.takeError();
    Errors before = errorsOf(at.samples, *now), best = before;
    FeatureBlock block;
    block.rows.resize(static_cast<size_t>(at.samples.tokens()));
    std::iota(block.rows.begin(), block.rows.end(), 0);
    block.features = at.samples.scale.asDiagonal() * at.samples.x;
    Rows missing = at.samples.scale.asDiagonal() * router->missing(at.samples.x, aim);
    RidgeSystem system(block, missing, at.samples.fitted);
    Rows found;
    double chosen = 0;
    for (double strength : valuesOr(ridge, {1, 0.1, 0.01, 0.001})) {
      Eigen::MatrixXd w = system.solve(strength);
      if (w.size() == 0)
        continue;
      Rows map = router->map + Rows(w.cast<float>());
      roundTo(router->stored, map.data(), map.size());
      auto left = lacking(map);
      if (!left)
        return left.takeError();
      Errors errors = errorsOf(at.samples, *left);
      if (!(errors < best))
        continue;
      best = errors;
      chosen = strength;
      found = std::move(map);
    }
    if (found.size() == 0) {
      why = "other rows do no better than the old ones: error " +
            numberText(before.anyHeld ? before.held : before.fitted);
      return llvm::Error::success();
    }
    said << "ridge " << numberText(chosen) << ": " << changeText(at.samples, before, best);
    return router->replace(at.layer, found);
  }

  // The logits that the router should give.
  Rows aimOf(RepairLayer &at, std::string &why) {
    llvm::SmallVector<int64_t> origin = originOf(at.layer.bank, at.samples.logits.cols());
    Rows aim(at.samples.tokens(), static_cast<int64_t>(origin.size()));
    if (origin.empty()) {
      why = "unsupported: which of the original experts it has is not known (moe.origin)";
      return aim;
    }
    for (auto [e, from] : llvm::enumerate(origin))
      aim.col(static_cast<int64_t>(e)) = at.samples.logits.col(from);
    if (!mapDropped)
      return aim;
    std::vector<double> cosine = at.profile.total(stat::outputCosine);
    int64_t experts = at.samples.logits.cols();
    if (static_cast<int64_t>(cosine.size()) != experts * experts) {
      why = "the profile has no output_cosine; profile all experts (tier 2)";
      return aim;
    }
    for (int64_t dropped = 0; dropped < experts; ++dropped) {
      if (llvm::is_contained(origin, dropped))
        continue;
      auto like = [&](int64_t from) {
        return cosine[static_cast<size_t>(dropped * experts + from)];
      };
      auto heir = std::max_element(origin.begin(), origin.end(),
                                   [&](int64_t a, int64_t b) { return like(a) < like(b); });
      auto column = aim.col(heir - origin.begin());
      for (int64_t t = 0; t < aim.rows(); ++t) {
        float a = column(t), b = at.samples.logits(t, dropped), high = std::max(a, b);
        column(t) = high + std::log1p(std::exp(std::min(a, b) - high));
      }
    }
    return aim;
  }
};

} // namespace
} // namespace moec
