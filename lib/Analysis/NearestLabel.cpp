#include "moec/Analysis/NearestLabel.h"

#include "moec/Analysis/Derived.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace moec;
using llvm::ArrayRef;

// Nothing where no expert was chosen.
static std::optional<double> distance(const LayerProfile &known, ArrayRef<double> weights,
                                      const LayerProfile &asked) {
  auto there = loadOf(known, weights), here = loadOf(asked);
  if (!there || !here || there->chosen == 0 || here->chosen == 0)
    return std::nullopt;
  double sum = 0;
  for (auto [a, b] : llvm::zip_equal(there->shares, here->shares))
    sum += std::abs(a - b) / 2;
  return sum;
}

llvm::Expected<std::vector<LabelDistance>> moec::nearestLabels(const Profile &patterns,
                                                               const Profile &query) {
  if (llvm::Error error = checkSameModel(patterns, query))
    return error;
  std::vector<LabelDistance> found;
  for (auto [l, label] : llvm::enumerate(patterns.labels)) {
    std::vector<double> weights(patterns.labels.size());
    weights[l] = 1;
    double sum = 0, layers = 0;
    for (auto [known, asked] : llvm::zip_equal(patterns.layers, query.layers))
      if (auto far = distance(known, weights, asked))
        sum += *far, ++layers;
    if (layers > 0)
      found.push_back({label, sum / layers});
  }
  if (found.empty())
    return llvm::createStringError("one of the two profiles counts no choices of experts");
  llvm::stable_sort(found, [](const auto &a, const auto &b) { return a.distance < b.distance; });
  return found;
}
