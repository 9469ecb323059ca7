// protect-experts: see Prune.td.
#include "MissingStatistic.h"
#include "Problem.h"
#include "RewriteBank.h"
#include "moec/Analysis/Derived.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/WeightHash.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_PROTECTEXPERTS
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

using compress::missingStatistic, compress::problem;

struct ProtectExperts : impl::ProtectExpertsBase<ProtectExperts> {
  using ProtectExpertsBase::ProtectExpertsBase;

  void runOnOperation() override {
    if (llvm::Error error = protect()) {
      getOperation().emitError("protect-experts: " + llvm::toString(std::move(error)));
      signalPassFailure();
    }
  }

private:
  // The layers of the profile in the model's order, and nothing else of it.
  llvm::Expected<Profile> profileOfModel(ArrayRef<moe::RoutedLayer> layers) {
    if (profile.empty())
      return problem("needs a profile: profile=FILE");
    auto measured = readProfileOf(getOperation(), profile, folder);
    if (!measured)
      return measured.takeError();
    Profile out{measured->model, measured->labels, {}};
    for (const moe::RoutedLayer &layer : layers) {
      moe::BankOp bank = layer.bank;
      const LayerProfile *of = measured->layer(layer.name);
      if (!of || of->experts != static_cast<int64_t>(bank.getExperts()))
        return problem("layer '" + layer.name + "': the profile has no such layer of " +
                       llvm::Twine(bank.getExperts()) + " experts; profile this model");
      if (!of->find(stat::outputMax))
        return problem("layer '" + layer.name + "': " + missingStatistic(*of, stat::outputMax, 1));
      out.layers.push_back(*of);
      out.layers.back().reservoir = {};
    }
    return out;
  }

  llvm::Error protect() {
    if (!(percentile >= 0 && percentile <= 100) || !(share >= 0) || !(depth >= 0))
      return problem("percentile has to be in 0..100, share and depth not negative");
    SmallVector<moe::RoutedLayer> layers = moe::collectRoutedLayers(getOperation());
    auto measured = profileOfModel(layers);
    if (!measured)
      return measured.takeError();
    for (const SuperExpert &found :
         superExperts(*measured, {}, {percentile / 100, share, depth}))
      mark(layers[found.layer], found);
    return llvm::Error::success();
  }

  void mark(moe::RoutedLayer &layer, const SuperExpert &found) {
    SmallVector<int64_t> ids;
    if (auto old = layer.bank->getAttrOfType<DenseI64ArrayAttr>(compress::kProtected))
      ids.assign(old.asArrayRef().begin(), old.asArrayRef().end());
    if (remarks)
      layer.experts->emitRemark() << "protect-experts: layer '" << layer.name << "': expert "
                                  << found.expert << " is a super expert, with outputs up to "
                                  << llvm::formatv("{0:f3}", found.outputMax).str();
    if (llvm::is_contained(ids, found.expert))
      return;
    ++numProtected;
    ids.push_back(found.expert);
    llvm::sort(ids);
    layer.bank->setAttr(compress::kProtected, DenseI64ArrayAttr::get(&getContext(), ids));
  }
};

} // namespace
} // namespace moec
