// Experts to drop, by measuring each one's absence. Internal to Driver.
#pragma once

#include "Compressor.h"

namespace moec {

struct EliminationOptions {
  /// Slabs that each layer keeps at least; the sum of what goes is `drop`.
  std::vector<int64_t> least;
  int64_t drop = 0;
  std::string labels; ///< weights of labels; texts of weight 0 do not count
  /// Experts that go at a time, as a part of all; measured anew after each round.
  double round = 0.125;
  /// Tokens that may be run in all; fewer windows are scored when that is not enough.
  int64_t tokens = 1200000;
};

/// The experts that each layer keeps: again and again those go whose masking changes the model's
/// outputs least, by the measure's distance from the original on the search data. The masks are set
/// on one running model. Nothing when even one run of each text is too expensive. `progress` gets
/// steps of its current stage.
llvm::Expected<std::optional<std::vector<std::vector<int64_t>>>>
eliminateExperts(Compressor &compressor, const EliminationOptions &options, Progress &progress);

/// Gives a recipe of the method `measured` its experts: as many as its budgets say in all, taken from
/// any layer, or, with `uniform`, from each layer as its budget says. False when that is too
/// expensive or unsupported; `why` says so. Other recipes stay. Remembered.
llvm::Expected<bool> completeRecipe(Compressor &compressor, Recipe &recipe, bool uniform,
                                    Progress &progress, std::string &why);

/// Writes a file of the experts to keep, of the pass keep-experts, into the compressor's folder and
/// returns its path, which tells different choices apart.
llvm::Expected<std::string> writeKeepFile(const Compressor &compressor,
                                          llvm::ArrayRef<std::vector<int64_t>> keep);

} // namespace moec
