// What `moec compress` tells: JSON, text, and a page. Internal to Driver.
#pragma once

#include "CompressSearch.h"

#include <optional>

namespace moec {

/// A compression of the same size that the result is compared with.
struct Baseline {
  std::string name; // "random", "frequency"
  std::vector<Compressor::Result> runs; // one for each seed
  /// Over the runs: of one label, or of all ("").
  double perplexity(llvm::StringRef label = "") const;
};

struct CompressReport {
  std::string model, output;
  uint64_t outputBytes = 0;              // of all files that were written
  Recipe recipe;
  Compressor::Result before, after;      // on the evaluation texts
  std::vector<Baseline> baselines;
  std::vector<LayerRoom> layers;
  std::optional<SearchResult> search;
  std::vector<std::pair<Recipe, Compressor::Result>> sweep; // other sizes, for the picture
  Profile profileBefore;
  std::optional<Profile> profileAfter;
};

nlohmann::json reportToJson(const CompressReport &report);
std::string reportText(const CompressReport &report);
/// One self-contained HTML page.
std::string reportPage(const CompressReport &report);

} // namespace moec
