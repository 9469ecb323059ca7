#include "moec/Analysis/Statistics.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"

#include <limits>

using namespace moec;

llvm::ArrayRef<StatisticInfo> moec::knownStatistics() {
  using enum ValueKind;
  constexpr MergeRule sum = MergeRule::sum, max = MergeRule::max;
  static const StatisticInfo table[] = {
      {stat::tokens, 0, "", count, sum, "tokens"},
      {stat::sequences, 0, "", count, sum, "sequences"},
      {stat::count, 0, "E", count, sum, "tokens that chose the expert"},
      {stat::rankCount, 0, "E,K", count, sum, "tokens that chose the expert with slot k"},
      {stat::scoreSum, 0, "E", positive, sum, "sum of p"},
      {stat::gateSum, 0, "E", any, sum, "sum of g where chosen"},
      {stat::gateSquares, 0, "E", positive, sum, "sum of g^2 where chosen"},
      {stat::topLogitSum, 0, "E", any, sum, "sum of z where it is the largest (TCESS, K_a = 1)"},
      {stat::coactivation, 0, "E,E", count, sum, "tokens that chose both experts"},
      {stat::coactivationListed, 0, "E,E", count, sum,
       "the same for the pairs that another tool lists; 0: not listed"},
      {stat::logitSum, 0, "E", any, sum, "sum of z"},
      {stat::logitGram, 0, "E,E", any, sum, "sum of z z^T"},
      {stat::scoreGram, 0, "E,E", positive, sum, "sum of p p^T"},
      {stat::ratioBins, 0, "K,32", count, sum, "histogram of p_r / p_1, from 0 to 1"},
      {stat::massBins, 0, "K,32", count, sum, "histogram of the r largest scores' part of all"},
      {stat::entropyBins, 0, "32", count, sum, "histogram of the router's entropy / log E"},
      {stat::sequenceShare, 0, "E", positive, sum, "sum over sequences of count / (tokens K)"},
      {stat::sequenceShareSquares, 0, "E", positive, sum, "sum over sequences of its square"},
      {stat::normSum, 1, "E", positive, sum, "sum of |f|"},
      {stat::gatedNormSum, 1, "E", any, sum, "sum of g |f|"},
      {stat::gatedNormSquares, 1, "E", positive, sum, "sum of (g |f|)^2"},
      {stat::gatedNormMax, 1, "E", any, max, "largest g |f|"},
      {stat::noveltySum, 1, "E", any, sum,
       "sum of g |f| max(0, 1 - cos(r, r + y)), r the residual stream (EASY-EP)"},
      {stat::turnSum, 1, "E", any, sum, "sum of g |f| (1 - cos(x, f)) (TENP)"},
      {stat::outputMax, 1, "E", any, max, "largest |f| of any channel"},
      {stat::outputMaxChannel, 1, "E,H", any, max, "largest |f| of each channel"},
      {stat::outputSum, 1, "E,H", any, sum, "sum of f"},
      {stat::outputSquares, 1, "E,H", positive, sum, "sum of f^2"},
      {stat::gatedOutputSum, 1, "E,H", any, sum, "sum of g f"},
      {stat::sampled, 2, "", count, sum, "tokens that went through all experts"},
      {stat::allOutputSum, 2, "E,H", any, sum, "sum of f over the sampled tokens"},
      {stat::outputCosine, 2, "E,E", any, sum, "sum of cos(f_i, f_j) over the sampled tokens"},
  };
  return table;
}

const StatisticInfo *moec::statisticInfo(llvm::StringRef name) {
  auto *found = llvm::find_if(knownStatistics(), [&](auto &info) { return info.name == name; });
  return found == knownStatistics().end() ? nullptr : found;
}

std::optional<std::vector<int64_t>> moec::shapeOf(const StatisticInfo &info,
                                                  const LayerProfile &layer) {
  std::vector<int64_t> shape;
  llvm::SmallVector<llvm::StringRef> dims;
  info.shape.split(dims, ',', -1, /*KeepEmpty=*/false);
  for (llvm::StringRef dim : dims) {
    int64_t size = dim == "E"   ? layer.experts
                   : dim == "K" ? layer.k
                   : dim == "H" ? layer.hidden
                                : 0;
    if (llvm::isDigit(dim.front()))
      (void)dim.getAsInteger(10, size);
    if (size <= 0)
      return std::nullopt;
    shape.push_back(size);
  }
  return shape;
}

Statistic moec::emptyStatistic(const StatisticInfo &info, const LayerProfile &layer,
                               int64_t labels) {
  Statistic statistic{info.rule, shapeOf(info, layer).value_or(std::vector<int64_t>{0}), {}};
  bool isSum = info.rule == MergeRule::sum;
  statistic.values.assign(size_t(labels * statistic.count()),
                          isSum ? 0 : -std::numeric_limits<double>::infinity());
  return statistic;
}
