// What `moec compress` tells: JSON, text, and a page. Internal to Driver.
#pragma once

#include "Search.h"

#include <optional>

namespace moec {

/// A compression of the same size that the result is compared with.
struct Baseline {
  std::string name; // "random", "frequency"
  std::vector<Compressor::Result> runs; // one for each seed
  /// Mean over the runs: of one label, or of all ("").
  double value(llvm::StringRef label = "") const;
};

struct CompressReport {
  std::string model, output;
  std::string unit = "tokens";           // of speeds; "sequences" of arrays
  uint64_t outputBytes = 0;              // of all files that were written
  Recipe recipe;
  Compressor::Result before, after;      // on the held-out data
  std::vector<Baseline> baselines;
  std::vector<LayerRoom> layers;
  std::optional<SearchResult> search;
  std::string searchNote = "after that of the profile"; // where its data lies
  std::vector<std::pair<Recipe, Compressor::Result>> sweep; // other sizes, for the picture
  Profile profileBefore;
  std::optional<Profile> profileAfter;
  const Measure &measure() const { return *before.quality.measure; }
};

/// What is left of each layer: as it was measured, or as the recipe's budgets say.
std::vector<LayerShape> layersAfter(const CompressReport &report, const Recipe &recipe,
                                    const Compressor::Result &result);
/// Whether a result keeps all experts, with fewer neurons.
bool isNarrow(const CompressReport &report, const std::vector<LayerShape> &layers);

/// How near the result ("") or a baseline, in the mean of the runs that were compared, stays to the
/// original, of one label or, with what is known of the layers' outputs, of all ("").
std::vector<Agreement> agreementsOf(const CompressReport &report, llvm::StringRef baseline,
                                    llvm::StringRef label = "");

nlohmann::json reportToJson(const CompressReport &report);
std::string reportText(const CompressReport &report);
/// One self-contained HTML page.
std::string reportPage(const CompressReport &report);

} // namespace moec
