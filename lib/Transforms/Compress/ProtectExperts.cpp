// protect-experts: see Prune.td.
#include "RewriteBank.h"
#include "moec/Analysis/Profile.h"
#include "moec/Transforms/Compress/Passes.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_PROTECTEXPERTS
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

// Between the two nearest values, as most tools do.
double percentileOf(std::vector<double> values, double percentile) {
  llvm::sort(values);
  double at = percentile / 100 * double(values.size() - 1);
  size_t below = size_t(at), above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - double(below)) * (values[above] - values[below]);
}

struct ProtectExperts : impl::ProtectExpertsBase<ProtectExperts> {
  using ProtectExpertsBase::ProtectExpertsBase;

  void runOnOperation() override {
    if (llvm::Error error = protect()) {
      getOperation().emitError("protect-experts: " + llvm::toString(std::move(error)));
      signalPassFailure();
    }
  }

private:
  struct Largest {
    moe::RoutedLayer layer;
    std::vector<double> outputs; // of each expert; 0 where no token chose it
  };

  static llvm::Error problem(const llvm::Twine &text) {
    return llvm::createStringError(llvm::inconvertibleErrorCode(), text);
  }

  llvm::Expected<std::vector<Largest>> collect(const Profile &measured) {
    std::vector<Largest> all;
    for (moe::RoutedLayer &layer : moe::collectRoutedLayers(getOperation())) {
      const LayerProfile *of = measured.layer(layer.name);
      if (!of || of->experts != static_cast<int64_t>(layer.bank.getExperts()))
        return problem("layer '" + layer.name + "': the profile has no such layer of " +
                       llvm::Twine(layer.bank.getExperts()) + " experts; profile this model");
      std::vector<double> outputs = of->total(stat::outputMax);
      if (outputs.empty())
        return problem("layer '" + layer.name +
                       "': the profile has no output_max; profile with --tier 1 or above");
      for (double &value : outputs)
        value = std::isfinite(value) ? value : 0;
      all.push_back({layer, outputs});
    }
    return all;
  }

  llvm::Error protect() {
    if (profile.empty())
      return problem("needs a profile: profile=FILE");
    if (!(percentile >= 0 && percentile <= 100) || !(share >= 0) || !(depth >= 0))
      return problem("percentile is in 0..100, share and depth are not negative");
    auto measured = readProfile(profile);
    if (!measured)
      return measured.takeError();
    auto layers = collect(*measured);
    if (!layers)
      return layers.takeError();
    std::vector<double> all;
    for (const Largest &of : *layers)
      all.insert(all.end(), of.outputs.begin(), of.outputs.end());
    if (all.empty())
      return problem("the model has no routed layer");
    double bound = std::max(percentileOf(all, percentile), share * *llvm::max_element(all));
    for (auto [i, of] : llvm::enumerate(*layers))
      if (double(i) < depth * double(layers->size()))
        mark(of, bound);
    return llvm::Error::success();
  }

  void mark(Largest &of, double bound) {
    SmallVector<int64_t> ids;
    if (auto old = of.layer.bank->getAttrOfType<DenseI64ArrayAttr>(compress::kProtected))
      ids.assign(old.asArrayRef().begin(), old.asArrayRef().end());
    for (auto [e, value] : llvm::enumerate(of.outputs)) {
      if (!(value > bound) || llvm::is_contained(ids, static_cast<int64_t>(e)))
        continue;
      ids.push_back(static_cast<int64_t>(e));
      ++numProtected;
      if (remarks)
        of.layer.experts->emitRemark()
            << "protect-experts: layer '" << of.layer.name << "': expert " << e
            << " gave outputs up to " << llvm::formatv("{0:f3}", value).str() << ", above "
            << llvm::formatv("{0:f3}", bound).str();
    }
    llvm::sort(ids);
    if (!ids.empty())
      of.layer.bank->setAttr(compress::kProtected, DenseI64ArrayAttr::get(&getContext(), ids));
  }
};

} // namespace
} // namespace moec
