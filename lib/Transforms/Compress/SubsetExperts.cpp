// subset-experts: see Prune.td.
#include "Problem.h"
#include "moec/Analysis/NearestLabel.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Transforms/Compress/Budgets.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/Prune.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Compress/WeightHash.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_SUBSETEXPERTS
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

using compress::problem;

// {"layers": {"<name>": {"keep": [ids]}}}
llvm::json::Value masksOf(ArrayRef<LayerDrops> plan) {
  llvm::json::Object layers;
  for (const LayerDrops &drops : plan) {
    llvm::json::Array keep;
    for (int64_t e = 0; e < drops.experts; ++e)
      if (!llvm::is_contained(drops.drop, e))
        keep.push_back(e);
    layers[drops.name] = llvm::json::Object{{"keep", std::move(keep)}};
  }
  return llvm::json::Object{{"layers", std::move(layers)}};
}

// A label becomes the name of a file.
bool isPlainName(StringRef label) {
  return !label.empty() && !label.contains('/') && !label.contains('\\') && !label.starts_with(".");
}

struct SubsetExperts : impl::SubsetExpertsBase<SubsetExperts> {
  using SubsetExpertsBase::SubsetExpertsBase;

  void runOnOperation() override {
    if (llvm::Error error = subset()) {
      std::string text = llvm::toString(std::move(error));
      if (!text.empty())
        getOperation().emitError("subset-experts: " + text);
      signalPassFailure();
    }
  }

private:
  llvm::Error subset() {
    if (profile.empty())
      return problem("needs a profile: profile=FILE");
    auto measured = readProfileOf(getOperation(), profile, folder);
    if (!measured)
      return measured.takeError();
    if (llvm::Error error = findLabel(*measured))
      return error;
    if (keep.empty() && !listsLayers(budget))
      return problem("needs keep: a number of experts (8) or a part (0.25)");
    if (!masks.empty())
      return writeMasks(*measured);
    if (label.empty())
      return problem("needs the label whose experts stay, or like; the profile has " +
                     llvm::join(measured->labels, ", "));
    return keepLabel(*measured);
  }

  // The label that `like` chooses.
  llvm::Error findLabel(const Profile &measured) {
    if (like.empty())
      return llvm::Error::success();
    if (!label.empty())
      return problem("label and like exclude each other");
    auto query = readProfile(like, "");
    if (!query)
      return query.takeError();
    auto labels = nearestLabels(measured, *query);
    if (!labels)
      return problem(like + ": " + llvm::toString(labels.takeError()));
    label = labels->front().label;
    if (remarks)
      getOperation().emitRemark() << "subset-experts: " << like << " is nearest to label " << label;
    return llvm::Error::success();
  }

  llvm::Expected<PruneOptions> optionsFor(const Profile &measured, StringRef which) {
    auto options = pruneOptions(measured, criterion, /*drop=*/"", keep, budget, which);
    if (options)
      options->saliency.perLabel = true;
    return options;
  }

  llvm::Error keepLabel(const Profile &measured) {
    auto options = optionsFor(measured, label);
    if (!options)
      return options.takeError();
    auto plan = planDrops(getOperation(), measured, *options);
    if (!plan)
      return plan.takeError();
    for (auto [layer, drops] : llvm::zip(moe::collectRoutedLayers(getOperation()), *plan)) {
      numDropped += drops.drop.size();
      if (remarks)
        layer.experts->emitRemark()
            << "subset-experts: layer '" << drops.name << "': " << drops.drop.size() << " of "
            << drops.experts << " experts go (" << idList(drops.drop) << "); "
            << llvm::formatv("{0:f1}", 100 * drops.retained).str() << " % of " << criterion
            << " on " << label << " stays";
    }
    if (failed(applyDrops(getOperation(), *plan, measured, *options)))
      return problem(""); // diagnosed at the layer
    cleanUp(getOperation());
    return llvm::Error::success();
  }

  llvm::Error writeMasks(const Profile &measured) {
    if (std::error_code code = llvm::sys::fs::create_directories(masks))
      return problem(masks + ": " + code.message());
    bool any = false; // statistics may be compiled out
    for (const std::string &name : measured.labels) {
      if (!label.empty() && label != name)
        continue;
      if (!isPlainName(name))
        return problem("label \"" + name + "\" cannot be the name of a file");
      auto options = optionsFor(measured, name);
      if (!options)
        return options.takeError();
      auto plan = planDrops(getOperation(), measured, *options);
      if (!plan)
        return plan.takeError();
      llvm::SmallString<128> path(masks);
      llvm::sys::path::append(path, name + ".json");
      auto write = [&](llvm::raw_ostream &os) {
        os << llvm::formatv("{0:2}", masksOf(*plan)) << "\n";
        return llvm::Error::success();
      };
      if (llvm::Error error = llvm::writeToOutput(path, write))
        return error;
      ++numMasks;
      any = true;
    }
    return any ? llvm::Error::success()
               : problem("the profile has no label \"" + label + "\"");
  }
};

} // namespace
} // namespace moec
