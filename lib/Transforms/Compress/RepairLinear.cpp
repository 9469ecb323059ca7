// repair-linear: see Repair.td.
#include "Refit.h"
#include "RepairOutput.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include <numeric>

namespace moec {
#define GEN_PASS_DEF_REPAIRLINEAR
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

using namespace compress;

// The tokens with a 1 behind each, times their scale.
FeatureBlock withOne(const LayerSamples &samples) {
  const Rows &x = samples.x;
  FeatureBlock block;
  block.rows.resize(static_cast<size_t>(x.rows()));
  std::iota(block.rows.begin(), block.rows.end(), 0);
  block.features.resize(x.rows(), x.cols() + 1);
  block.features.leftCols(x.cols()) = x;
  block.features.rightCols(1).setOnes();
  block.features = samples.scale.asDiagonal() * block.features;
  return block;
}

struct RepairLinear : impl::RepairLinearBase<RepairLinear> {
  using RepairLinearBase::RepairLinearBase;

  void runOnOperation() override {
    RepairSource source{profile, currentProfile, folder, holdOut, tokens, layers, labels};
    auto repair = [&](RepairLayer &at) { return repairOne(at); };
    if (failed(repairLayers(getOperation(), "repair-linear", source, repair,
                            [&] { ++numLeft; })))
      signalPassFailure();
  }

private:
  llvm::Error repairOne(RepairLayer &at) {
    auto residual = residualOf(at, at.picks);
    if (!residual)
      return residual.takeError();
    moe::BankOp bank = at.layer.bank;
    mlir::Type stored = storedFloat(moe::findBind(bank, *bank.getDown()).getValue());
    if (!stored)
      stored = mlir::Float32Type::get(&getContext());
    Errors before = errorsOf(at.samples, *residual), best = before;
    FeatureBlock block = withOne(at.samples);
    RidgeSystem system(block, *residual, at.samples.fitted);
    int64_t hidden = at.bank.hidden();
    Rows map;
    Eigen::RowVectorXf bias;
    double chosen = 0;
    for (double strength : valuesOr(ridge, {1, 0.1, 0.01, 0.001})) {
      Eigen::MatrixXd w = system.solve(strength);
      if (w.size() == 0)
        continue;
      Rows found = w.topRows(hidden).cast<float>();
      roundTo(stored, found.data(), found.size());
      w.topRows(hidden) = found.cast<double>();
      Rows left = *residual;
      subtractPrediction(block, w, left);
      Errors errors = errorsOf(at.samples, left);
      if (!(errors < best))
        continue;
      best = errors;
      chosen = strength;
      map = std::move(found);
      bias = w.row(hidden).cast<float>();
    }
    auto said = remarks ? at.layer.experts.emitRemark() : mlir::InFlightDiagnostic();
    said << "repair-linear: " << at.layer.name << ": ";
    std::string why = whyNoOutput(at.layer);
    if (why.empty() && map.size() == 0)
      why = "a linear map does no better than nothing: error " +
            numberText(before.anyHeld ? before.held : before.fitted);
    if (!why.empty()) {
      ++numLeft;
      said << "left: " << why;
      return llvm::Error::success();
    }
    ++numRepaired;
    said << "ridge " << numberText(chosen) << ", "
         << hidden * hidden * elementBytes(stored) + hidden * 4 << " bytes more: "
         << changeText(at.samples, before, best);
    return addToOutput(at.layer, "linear", map, bias);
  }
};

} // namespace
} // namespace moec
