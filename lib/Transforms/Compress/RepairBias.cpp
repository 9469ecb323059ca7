// repair-bias: see Repair.td.
#include "Refit.h"
#include "RepairOutput.h"
#include "moec/Transforms/Compress/Passes.h"

namespace moec {
#define GEN_PASS_DEF_REPAIRBIAS
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

using namespace compress;

struct RepairBias : impl::RepairBiasBase<RepairBias> {
  using RepairBiasBase::RepairBiasBase;

  void runOnOperation() override {
    RepairSource source{profile, currentProfile, folder, holdOut, tokens, layers, labels};
    auto repair = [&](RepairLayer &at) -> llvm::Error {
      auto residual = residualOf(at, at.picks);
      if (!residual)
        return residual.takeError();
      Errors before = errorsOf(at.samples, *residual);
      int64_t n = at.samples.fitted;
      Eigen::VectorXd scale = at.samples.scale.head(n).cast<double>();
      Eigen::RowVectorXf mean =
          (scale.transpose() * residual->topRows(n).cast<double>() / scale.squaredNorm())
              .cast<float>();
      *residual -= at.samples.scale * mean;
      Errors after = errorsOf(at.samples, *residual);
      auto said = remarks ? at.layer.experts.emitRemark() : mlir::InFlightDiagnostic();
      said << "repair-bias: " << at.layer.name << ": ";
      std::string why = whyNoOutput(at.layer);
      if (why.empty() && !(after < before))
        why = "a bias does no better: " + changeText(at.samples, before, after);
      if (!why.empty()) {
        ++numLeft;
        said << "left: " << why;
        return llvm::Error::success();
      }
      ++numRepaired;
      said << changeText(at.samples, before, after);
      return addToOutput(at.layer, "bias", {}, mean);
    };
    if (failed(repairLayers(getOperation(), "repair-bias", source, repair,
                            [&] { ++numLeft; })))
      signalPassFailure();
  }
};

} // namespace
} // namespace moec
