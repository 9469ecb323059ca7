#include "moec/Analysis/NearestLabel.h"

#include "moec/Analysis/Derived.h"

#include "llvm/ADT/STLExtras.h"

using namespace moec;

llvm::Expected<std::vector<LabelDistance>> moec::nearestLabels(const Profile &patterns,
                                                               const Profile &query) {
  if (llvm::Error error = checkSameModel(patterns, query))
    return error;
  std::vector<std::optional<Load>> asked;
  for (const LayerProfile &layer : query.layers)
    asked.push_back(loadOf(layer));
  std::vector<LabelDistance> found;
  for (auto [l, label] : llvm::enumerate(patterns.labels)) {
    std::vector<double> weights(patterns.labels.size());
    weights[l] = 1;
    double sum = 0, layers = 0;
    for (auto [layer, here] : llvm::zip_equal(patterns.layers, asked)) {
      auto there = loadOf(layer, weights);
      if (there && here && there->chosen > 0 && here->chosen > 0)
        sum += totalVariation(there->shares, here->shares), ++layers;
    }
    if (layers > 0)
      found.push_back({label, sum / layers});
  }
  if (found.empty())
    return llvm::createStringError("one of the two profiles counts no choices of experts");
  llvm::stable_sort(found, [](const auto &a, const auto &b) { return a.distance < b.distance; });
  return found;
}
