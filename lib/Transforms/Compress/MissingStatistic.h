// What to say of a statistic that a layer's profile lacks.
#pragma once
#include "moec/Analysis/Profile.h"
#include <string>

namespace moec::compress {

/// Whether it is unsupported, as the layer has been measured and its router gives no scores, or the
/// profile has to be made at that tier.
inline std::string missingStatistic(const LayerProfile &layer, llvm::StringRef name, int tier) {
  // Counts of other tools, which know no hidden size, have nothing else.
  if (tier == 0 && layer.hidden > 0 && layer.find(stat::count) && layer.find(stat::gateSum))
    return ("unsupported: it gives no " + name + ", which takes scores of its router").str();
  return ("the profile has no " + name + "; profile with --tier " + llvm::Twine(tier) +
          (tier < 2 ? " or above" : "")).str();
}

} // namespace moec::compress
