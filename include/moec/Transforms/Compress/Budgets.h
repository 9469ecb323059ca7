// How many experts each layer loses, and which, given an order within each layer.
#pragma once
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <string>
#include <vector>

namespace moec {

/// What may be dropped of one layer.
struct LayerChoice {
  std::string name;
  int64_t experts = 0;
  int64_t least = 1;          ///< experts that have to stay
  std::vector<double> scores; ///< [experts]
  std::vector<int64_t> order; ///< droppable ids, the first to drop first; no protected ones
  /// At most this many may go.
  int64_t most() const {
    return std::min<int64_t>(int64_t(order.size()), std::max<int64_t>(0, experts - least));
  }
};

/// Part of the experts, or a number of them: "8" a layer, "0.25", "25%".
struct Share {
  double value = 0;
  bool fraction = false;
  /// Of `experts`, a fraction rounded down.
  int64_t of(int64_t experts) const;
};
/// Errors: no number, negative, a fraction above 1.
llvm::Expected<Share> parseShare(llvm::StringRef text);

/// Whether `budget` is a list of what each layer loses, "8,4,10,10", that needs no total.
bool listsLayers(llvm::StringRef budget);

/// Experts to drop in each layer, rising ids.
///
/// `budget` says how the total, the sum of `drop`, a number for each layer, is spread:
/// - "uniform": each layer loses its own number;
/// - "global": the lowest scores of all layers go;
/// - "share": the same after each layer's scores are divided by their sum;
/// - "mass": a layer keeps its best experts up to the same part of its scores' sum, found by
///   bisection (the budget of SHAPE); negative scores count as 0;
/// - numbers, "8,4,10,10": what each layer loses, in order; `drop` is not looked at.
///
/// Errors, one line: a budget that cannot be met (with the layer and what it can lose, or the
/// total), an unknown budget, a list of the wrong length.
llvm::Expected<std::vector<std::vector<int64_t>>>
chooseDrops(llvm::ArrayRef<LayerChoice> layers, llvm::ArrayRef<int64_t> drop,
            llvm::StringRef budget);

} // namespace moec
