#include "moec/Transforms/Compress/LayerCosine.h"

#include "Problem.h"
#include "RepairOutput.h"
#include "RepairSamples.h"

using namespace moec;
using namespace moec::compress;

// Tokens that nothing was fitted to, or all; `most` of them at most.
static std::vector<int32_t> heldOut(const LayerSamples &samples, int64_t most) {
  int64_t first = samples.fitted < samples.tokens() ? samples.fitted : 0;
  int64_t n = samples.tokens() - first, count = std::min(n, most);
  std::vector<int32_t> rows;
  for (int64_t i = 0; i < count; ++i)
    rows.push_back(static_cast<int32_t>(first + i * n / count));
  return rows;
}

static Picks picksAt(const Picks &from, llvm::ArrayRef<int32_t> rows) {
  Picks picks;
  picks.k = from.k;
  for (int32_t row : rows) {
    picks.ids.insert(picks.ids.end(), from.ids.begin() + row * from.k,
                     from.ids.begin() + (row + 1) * from.k);
    picks.weights.insert(picks.weights.end(), from.weights.begin() + row * from.k,
                         from.weights.begin() + (row + 1) * from.k);
  }
  return picks;
}

// Rows of zeros have no direction: like each other, and unlike all others.
static double meanCosine(const Rows &a, const Rows &b) {
  double sum = 0;
  for (int64_t i = 0; i < a.rows(); ++i) {
    double x = a.row(i).cast<double>().norm(), y = b.row(i).cast<double>().norm();
    if (x > 0 && y > 0)
      sum += a.row(i).cast<double>().dot(b.row(i).cast<double>()) / (x * y);
    else
      sum += x == y;
  }
  return a.rows() > 0 ? sum / static_cast<double>(a.rows()) : std::nan("");
}

static llvm::Expected<double> cosineOf(moe::RoutedLayer &layer, llvm::StringRef path,
                                       const RepairSource &source, int64_t tokens) {
  double cosine = std::nan("");
  auto profile = readProfile(path, layer.name);
  if (!profile)
    return profile.takeError();
  const LayerProfile *measured = profile->layer(layer.name);
  if (!measured || measured->reservoir.tokens() == 0 || layer.experts->hasAttr(kRepaired))
    return cosine;
  auto compare = [&](RepairLayer &at) -> llvm::Error {
    std::vector<int32_t> rows = heldOut(at.samples, tokens);
    auto output = applyLayer(at.bank, takeRows(at.samples.x, rows), picksAt(at.picks, rows));
    if (!output)
      return output.takeError();
    cosine = meanCosine(takeRows(at.samples.target, rows), *output);
    return llvm::Error::success();
  };
  if (llvm::Error error = repairLayer(layer, *profile, nullptr, source, compare,
                                      [](const llvm::Twine &) {}))
    return problem("layer '" + layer.name + "': " + llvm::toString(std::move(error)));
  return cosine;
}

llvm::Expected<std::vector<double>> moec::layerCosines(mlir::ModuleOp module,
                                                       llvm::StringRef profile,
                                                       llvm::StringRef folder, int64_t tokens) {
  RepairSource source;
  source.folder = folder.str();
  std::vector<double> cosines;
  for (moe::RoutedLayer &layer : moe::collectRoutedLayers(module)) {
    auto cosine = cosineOf(layer, profile, source, tokens);
    if (!cosine)
      return cosine.takeError();
    cosines.push_back(*cosine);
  }
  return cosines;
}
