// The statistics that a profile may hold: what each one's shape is and what values it can have.
#pragma once
#include "moec/Analysis/Profile.h"

namespace moec {

/// What values of a statistic can be; readers and writers of profiles refuse others.
enum class ValueKind {
  count,    ///< whole numbers from 0 to the label's `tokens`
  positive, ///< not below 0
  any,
};

struct StatisticInfo {
  llvm::StringRef name;
  int tier;              ///< 0: router; 1: outputs of chosen experts; 2: all experts on a sample
  llvm::StringRef shape; ///< of one label's value: E, K, H or a number, as in "E,K"; "": a number
  ValueKind values;
  MergeRule rule;
  llvm::StringRef meaning; ///< one line
};

/// All statistics of the namespace `stat`, in its order.
llvm::ArrayRef<StatisticInfo> knownStatistics();
/// Null for a name that is not in the table.
const StatisticInfo *statisticInfo(llvm::StringRef name);

/// The shape of a layer's statistic for one label; nothing when it needs a k or hidden that the
/// layer does not know.
std::optional<std::vector<int64_t>> shapeOf(const StatisticInfo &info, const LayerProfile &layer);

/// What was measured of these experts, distinct ids: expert i of the result is experts[i]. Numbers
/// stay as they were measured beside the others; statistics that are not in the table go. Of tokens
/// that are kept, slots of other experts are empty.
LayerProfile selectExperts(const LayerProfile &layer, llvm::ArrayRef<int64_t> experts);

/// A statistic without data yet: all zeros, or all -infinity, for `labels` labels.
Statistic emptyStatistic(const StatisticInfo &info, const LayerProfile &layer, int64_t labels);

} // namespace moec
