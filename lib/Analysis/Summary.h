// What the text, the JSON and the page of a profile have in common. Internal to Analysis.
#pragma once
#include "moec/Analysis/Derived.h"

namespace moec {

struct Summary {
  explicit Summary(const Profile &profile);

  std::vector<std::optional<Load>> loads; ///< one for each layer
  /// One for each label: the most that a layer counted; empty when no layer counted any.
  std::vector<double> tokens, sequences;
  std::vector<double> distances; ///< [L, L] of labels
  std::vector<SuperExpert> superExperts;
  std::vector<ProfileWarning> warnings;
};

/// "1,234,567".
std::string grouped(double number);

} // namespace moec
