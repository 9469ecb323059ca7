// What to say of a statistic that a layer's profile lacks.
#pragma once
#include "moec/Analysis/Profile.h"
#include <string>

namespace moec::compress {

/// Whether it is unsupported, as the layer has been measured at that tier and does not give it (scores,
/// where a router has none), or the profile has to be made at a higher tier.
inline std::string missingStatistic(const LayerProfile &layer, llvm::StringRef name, int tier) {
  llvm::StringRef always = tier == 0 ? stat::count : tier == 1 ? stat::normSum : stat::sampled;
  // Counts of other tools, which know no hidden size, have nothing else.
  if (layer.hidden > 0 && layer.find(always))
    return ("unsupported: it gives no " + name + ", which takes scores of its router").str();
  return ("the profile has no " + name + "; profile with --tier " + llvm::Twine(tier) +
          (tier < 2 ? " or above" : "")).str();
}

} // namespace moec::compress
