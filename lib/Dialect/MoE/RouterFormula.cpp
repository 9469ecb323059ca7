#include "moec/Dialect/MoE/RouterFormula.h"

#include "llvm/ADT/STLExtras.h"
#include <cmath>
#include <numeric>

using namespace moec;
using llvm::ArrayRef;
using llvm::MutableArrayRef;

// A row of only -infinity becomes NaN, as the definition says.
static void softmax(MutableArrayRef<double> row) {
  double best = *llvm::max_element(row), sum = 0;
  for (double &v : row)
    sum += v = std::exp(v - best);
  for (double &v : row)
    v /= sum;
}

static void sigmoid(MutableArrayRef<double> row) {
  for (double &v : row)
    v = 1 / (1 + std::exp(-v));
}

std::vector<float> moe::routerScores(RouterAttr router, ArrayRef<float> logits) {
  std::vector<double> row(logits.begin(), logits.end());
  if (router.getScore() == RouterScore::Softmax && !row.empty())
    softmax(row);
  else if (router.getScore() == RouterScore::Sigmoid)
    sigmoid(row);
  return {row.begin(), row.end()};
}

static std::vector<int64_t> ranked(ArrayRef<float> row) {
  auto key = [&](int64_t i) { return std::isnan(row[i]) ? -INFINITY : row[i]; };
  std::vector<int64_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order, [&](int64_t a, int64_t b) {
    return key(a) != key(b) ? key(a) > key(b) : a < b;
  });
  return order;
}

std::vector<int64_t> moe::rankedInGroups(ArrayRef<float> row, int64_t groups, int64_t keep,
                                         bool top2) {
  std::vector<int64_t> order = ranked(row);
  if (groups <= 1 || row.empty())
    return order;
  int64_t size = static_cast<int64_t>(row.size()) / groups;
  std::vector<float> scores;
  for (int64_t g = 0; g < groups; ++g) {
    ArrayRef<float> group = row.slice(g * size, size);
    std::vector<int64_t> best = ranked(group);
    scores.push_back(group[best[0]] + (top2 && size > 1 ? group[best[1]] : 0.0f));
  }
  std::vector<int64_t> kept = ranked(scores);
  kept.resize(keep);
  llvm::erase_if(order, [&](int64_t e) { return !llvm::is_contained(kept, e / size); });
  return order;
}

void moe::routerWeights(RouterAttr router, MutableArrayRef<double> chosen) {
  switch (router.getRenorm()) {
  case RouterRenorm::None:
    break;
  case RouterRenorm::Sum: {
    double sum = std::accumulate(chosen.begin(), chosen.end(), 0.0) + router.getEpsilon();
    if (router.getMinimum() > 0)
      sum = std::max<double>(sum, router.getMinimum());
    for (double &v : chosen)
      v /= sum;
    break;
  }
  case RouterRenorm::Softmax:
    if (!chosen.empty())
      softmax(chosen);
    break;
  case RouterRenorm::Sigmoid:
    sigmoid(chosen);
    break;
  }
  for (double &v : chosen)
    v *= router.getScale();
}
