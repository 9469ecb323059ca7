// repair-down: see Repair.td.
#include "Refit.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/Rewrite.h"

namespace moec {
#define GEN_PASS_DEF_REPAIRDOWN
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

using namespace compress;

struct RepairDown : impl::RepairDownBase<RepairDown> {
  using RepairDownBase::RepairDownBase;

  void runOnOperation() override {
    RefitOptions options;
    options.ridges = valuesOr(ridge, {0.3, 0.1, 0.03, 0.01});
    options.maxUnknowns = maxUnknowns;
    options.sweeps = sweeps;
    options.addBiases = addBiases;
    if (maxUnknowns < 1 || sweeps < 1 ||
        llvm::any_of(options.ridges, [](double r) { return !(r > 0); })) {
      getOperation().emitError("repair-down: ridge, max-unknowns and sweeps have to be positive");
      return signalPassFailure();
    }
    RepairSource source{profile, currentProfile, folder, holdOut, tokens, layers, labels};
    auto repair = [&](RepairLayer &at) -> llvm::Error {
      auto result = refitDown(at, {}, options);
      if (!result)
        return result.takeError();
      ++(result->changed ? numRepaired : numLeft);
      if (!remarks)
        return llvm::Error::success();
      auto remark = at.layer.experts.emitRemark() << "repair-down: " << at.layer.name << ": ";
      if (!result->changed) {
        remark << "left: " << result->why;
        return llvm::Error::success();
      }
      remark << result->unknowns << " unknowns";
      if (result->groups > 1)
        remark << " in " << result->groups << " groups";
      remark << ", ridge " << numberText(result->ridge) << ": "
             << changeText(at.samples, result->before, result->after);
      return llvm::Error::success();
    };
    if (failed(repairLayers(getOperation(), "repair-down", source, repair,
                            [&] { ++numLeft; })))
      return signalPassFailure();
    cleanUp(getOperation());
  }
};

} // namespace
} // namespace moec
