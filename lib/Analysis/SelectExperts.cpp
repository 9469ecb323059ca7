#include "moec/Analysis/Statistics.h"

#include "llvm/ADT/STLExtras.h"

using namespace moec;
using llvm::ArrayRef;

// Slices `ids` of axis `axis`, for each label.
static Statistic select(const Statistic &from, size_t axis, ArrayRef<int64_t> ids) {
  Statistic to{from.rule, from.shape, {}};
  to.shape[axis] = static_cast<int64_t>(ids.size());
  int64_t inner = 1, all = from.shape[axis];
  for (size_t i = axis + 1; i < from.shape.size(); ++i)
    inner *= from.shape[i];
  int64_t block = all * inner;
  for (int64_t at = 0; block > 0 && at < static_cast<int64_t>(from.values.size()); at += block)
    for (int64_t id : ids)
      to.values.insert(to.values.end(), from.values.begin() + at + id * inner,
                       from.values.begin() + at + (id + 1) * inner);
  return to;
}

LayerProfile moec::selectExperts(const LayerProfile &layer, ArrayRef<int64_t> experts) {
  LayerProfile out = layer;
  out.experts = static_cast<int64_t>(experts.size());
  out.statistics.clear();
  for (const auto &[name, statistic] : layer.statistics) {
    const StatisticInfo *info = statisticInfo(name);
    if (!info)
      continue;
    Statistic kept = statistic;
    llvm::SmallVector<llvm::StringRef> dims;
    info->shape.split(dims, ',', -1, /*KeepEmpty=*/false);
    for (auto [axis, dim] : llvm::enumerate(dims))
      if (dim == "E")
        kept = select(kept, axis, experts);
    out.statistics[name] = std::move(kept);
  }
  std::vector<int32_t> place(static_cast<size_t>(layer.experts), -1);
  for (auto [i, e] : llvm::enumerate(experts))
    place[static_cast<size_t>(e)] = static_cast<int32_t>(i);
  for (int32_t &id : out.reservoir.ids)
    id = id < 0 ? id : place[static_cast<size_t>(id)];
  out.reservoir.logits.clear();
  for (size_t token = 0; token < layer.reservoir.key.size(); ++token)
    for (int64_t e : experts)
      out.reservoir.logits.push_back(
          layer.reservoir.logits[token * static_cast<size_t>(layer.experts) + static_cast<size_t>(e)]);
  return out;
}
