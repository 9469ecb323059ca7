// Which of a profile's labels other data is like.
#pragma once
#include "moec/Analysis/Profile.h"

namespace moec {

struct LabelDistance {
  std::string label;
  double distance; ///< 0: the same load of all experts, 1: no expert in common
};

/// The labels of `patterns` by the distance of their experts' load from that of all data of `query`,
/// such as a prompt, the nearest first; labels without tokens are left out. The distance is the total
/// variation of the shares of choices, mean over the layers (Derived.h, labelDistances). PreMoe (2025)
/// looks patterns up by the first layer's mean best logits, Euclidean; on 96 pieces of four kinds of
/// text that finds the right one for 65, 67 and 71 % of pieces of 64, 256 and 1024 tokens, this for
/// 88, 94 and 97 % (docs/compression.md). Pure and safe to call from several threads. Errors, one
/// line: profiles of different models, without counts, a query without tokens.
llvm::Expected<std::vector<LabelDistance>> nearestLabels(const Profile &patterns,
                                                         const Profile &query);

} // namespace moec
