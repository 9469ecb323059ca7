// Signs of collapsed routers and redundant experts.
#include "moec/Analysis/Derived.h"

#include "llvm/Support/FormatVariadic.h"

using namespace moec;

namespace {

struct Finder {
  const Profile &profile;
  llvm::ArrayRef<double> weights;
  const WarningBounds &bounds;
  std::vector<ProfileWarning> found;

  void add(WarningKind kind, int64_t layer, std::vector<int64_t> experts, double value,
           const std::string &text) {
    found.push_back(
        {kind, layer, std::move(experts), value, profile.layers[size_t(layer)].name + ": " + text});
  }
  void load(int64_t number, const Load &load);
  void pairs(int64_t number);
};

std::string listed(llvm::ArrayRef<int64_t> experts) {
  constexpr size_t most = 8;
  std::string text;
  for (int64_t expert : experts.take_front(most))
    text += (text.empty() ? "" : ", ") + std::to_string(expert);
  if (experts.size() > most)
    text += llvm::formatv(" and {0} more", experts.size() - most);
  return text;
}

void Finder::load(int64_t number, const Load &load) {
  const LayerProfile &layer = profile.layers[size_t(number)];
  if (!(load.chosen > 0))
    return add(WarningKind::noTokens, number, {}, 0, "no token came to it");
  if (!load.never.empty())
    add(WarningKind::never, number, load.never, double(load.never.size()),
        llvm::formatv("{0} of {1} experts were never chosen: {2}", load.never.size(), layer.experts,
                      listed(load.never)));
  size_t busiest =
      size_t(std::max_element(load.shares.begin(), load.shares.end()) - load.shares.begin());
  // Without a k, the share is a lower bound of the part of the tokens.
  double tokens = load.shares[busiest] * double(std::max<int64_t>(layer.k, 1));
  if (tokens > bounds.tokens && load.maxOverMean > bounds.overMean)
    add(WarningKind::dominant, number, {int64_t(busiest)}, tokens,
        llvm::formatv("expert {0} is chosen by {1:f0} % of the tokens, {2:f1} times the mean",
                      busiest, 100 * tokens, load.maxOverMean));
  if (load.gini > bounds.gini)
    add(WarningKind::unbalanced, number, {}, load.gini,
        llvm::formatv("its load is unbalanced: Gini {0:f2} (above {1:f2})", load.gini,
                      bounds.gini));
}

void Finder::pairs(int64_t number) {
  const LayerProfile &layer = profile.layers[size_t(number)];
  std::vector<double> likeness = outputCosine(layer, weights);
  bool outputs = !likeness.empty();
  if (!outputs)
    likeness = logitCorrelation(layer, weights);
  if (likeness.empty())
    return;
  double bound = outputs ? bounds.cosine : bounds.correlation;
  for (int64_t i = 0; i < layer.experts; ++i)
    for (int64_t j = i + 1; j < layer.experts; ++j)
      if (double value = likeness[size_t(i * layer.experts + j)]; value > bound)
        add(WarningKind::nearlyEqual, number, {i, j}, value,
            llvm::formatv("experts {0} and {1} are nearly equal: {2} {3:f4}", i, j,
                          outputs ? "mean cosine of outputs" : "correlation of logits", value));
}

} // namespace

std::vector<ProfileWarning> moec::profileWarnings(const Profile &profile,
                                                  llvm::ArrayRef<double> weights,
                                                  const WarningBounds &bounds) {
  Finder finder{profile, weights, bounds, {}};
  for (int64_t l = 0; l < int64_t(profile.layers.size()); ++l) {
    if (auto load = loadOf(profile.layers[size_t(l)], weights))
      finder.load(l, *load);
    finder.pairs(l);
  }
  return std::move(finder.found);
}
