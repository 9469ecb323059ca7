// The search for the recipe that loses least within a budget: by measurement, not by name. Internal
// to Driver.
#pragma once

#include "Compressor.h"

namespace moec {

struct SearchOptions {
  std::vector<int64_t> keep;         // slabs that each layer keeps at first, within the budget
  uint64_t budget = 0;               // bytes of all weights
  bool strict = false;               // nothing above the budget is taken, by however little
  std::vector<std::string> methods;  // to choose from; empty: all
  std::vector<Repair> repairs{Repair::down, Repair::sequential};
  int moves = 16;                    // tries to shift experts between layers
  uint64_t seed = 0;
  std::string labels;                // weights of labels in profiles
};

/// A recipe that was measured on the search windows.
struct Candidate {
  Recipe recipe;
  Compressor::Result result;
  std::string step;  // "method", "sensitivity", "budgets", "moves", "repair"
  std::string labels; // weights of labels, "c4:1,code:0.5"
  /// The measure's mean loss: of perplexity, nats a token.
  double loss() const { return result.quality.weighted(labels); }
};

/// What dropping a share of one layer's experts costs, the others whole.
struct Sensitivity {
  std::string layer;
  std::vector<std::pair<int64_t, double>> rises; // slabs dropped, rise of the loss
};

struct SearchResult {
  Candidate best;
  std::vector<Candidate> tried; // in the order of measuring
  std::vector<Sensitivity> sensitivities;
  double original = 0; // loss of the original on the search windows
};

/// The slabs that each layer keeps when all give alike and `budget` bytes are left for all weights;
/// an error when a layer would keep fewer than its k.
llvm::Expected<std::vector<int64_t>> uniformBudget(const Compressor &compressor, uint64_t budget);

/// The same for a share of the experts to drop: each layer drops floor(share * experts).
llvm::Expected<std::vector<int64_t>> uniformDrop(const Compressor &compressor, double share);

/// One slab less in each layer that keeps more than its k; false when there is none.
bool shrinkBudget(const Compressor &compressor, std::vector<int64_t> &keep);

/// Stages that searchRecipe reports.
inline constexpr int searchStages = 5;

/// Errors: no method can compress the model; data that gives no loss.
llvm::Expected<SearchResult> searchRecipe(Compressor &compressor, const SearchOptions &options,
                                          Progress &progress);

} // namespace moec
