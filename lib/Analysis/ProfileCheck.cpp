// What a profile must hold to be used: read files are not trusted, and a fault in what is written
// is better found before it is in a file.
#include "Text.h"

#include "moec/Analysis/Statistics.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/Support/JSON.h"

#include <cmath>

using namespace moec;
using llvm::StringRef;
using llvm::Twine;

namespace {

constexpr int64_t kExpertsLimit = 1 << 20;
constexpr int64_t kHiddenLimit = 1 << 24;
constexpr double kExact = 9007199254740992.0; // 2^53

struct Checker {
  const Profile &profile;
  const LayerProfile &layer;

  llvm::Error fault(const Twine &what) const { return refuse("layer " + shown(layer.name), what); }
  llvm::Error shape() const;
  llvm::Error statistic(StringRef name, const Statistic &statistic) const;
  llvm::Error values(StringRef name, const Statistic &statistic, ValueKind kind) const;
  llvm::Error reservoir() const;
  llvm::Error reservoirOrder() const;
};

llvm::Error Checker::shape() const {
  if (layer.name.empty() || !llvm::json::isUTF8(layer.name))
    return fault("its name is empty or no UTF-8");
  if (layer.experts <= 0 || layer.experts > kExpertsLimit)
    return fault("has " + Twine(layer.experts) + " experts");
  if (layer.k < 0 || layer.k > layer.experts)
    return fault("chooses " + Twine(layer.k) + " of " + Twine(layer.experts) + " experts");
  if (layer.hidden < 0 || layer.hidden > kHiddenLimit)
    return fault("has a hidden size of " + Twine(layer.hidden));
  return llvm::Error::success();
}

llvm::Error Checker::values(StringRef name, const Statistic &statistic, ValueKind kind) const {
  const Statistic *tokens = layer.find(stat::tokens);
  for (size_t l = 0; l < profile.labels.size(); ++l) {
    auto bad = [&](const Twine &what) {
      return fault("statistic " + shown(name) + " of label " + shown(profile.labels[l]) + " " +
                   what);
    };
    bool bounded = tokens && tokens->values.size() == profile.labels.size();
    double most = bounded ? tokens->values[l] : kExact;
    for (double value : statistic.of(int64_t(l))) {
      if (std::isnan(value))
        return bad("holds NaN");
      if (statistic.rule == MergeRule::sum && std::isinf(value))
        return bad("holds an infinite sum");
      if (kind != ValueKind::any && value < 0)
        return bad("is negative");
      if (kind != ValueKind::count)
        continue;
      if (value != std::floor(value) || value > kExact)
        return bad("is no whole number below 2^53");
      if (value > most)
        return bad("counts more than the label's tokens");
    }
  }
  return llvm::Error::success();
}

llvm::Error Checker::statistic(StringRef name, const Statistic &statistic) const {
  auto bad = [&](const Twine &what) { return fault("statistic " + shown(name) + " " + what); };
  if (name.empty() || name.contains('/') || name.starts_with("reservoir.") ||
      !llvm::json::isUTF8(name))
    return bad("has a name that no statistic can have");
  double elements = double(profile.labels.size()); // in floating point: shapes are not trusted
  for (int64_t dim : statistic.shape) {
    if (dim < 0)
      return bad("has a negative dimension");
    elements *= double(dim);
  }
  if (elements != double(statistic.values.size()))
    return bad("has " + Twine(statistic.values.size()) + " values, not as many as its shape and " +
               Twine(profile.labels.size()) + " labels need");
  ValueKind kind = ValueKind::any;
  if (const StatisticInfo *info = statisticInfo(name)) {
    kind = info->values;
    if (statistic.rule != info->rule)
      return bad("has the wrong merging rule");
    auto shape = shapeOf(*info, layer);
    if (!shape)
      return bad("has a shape [" + info->shape + "], which needs a k or hidden size");
    if (statistic.shape != *shape)
      return bad("does not have the shape [" + info->shape + "] of " + Twine(layer.experts) +
                 " experts, k = " + Twine(layer.k) + ", hidden size " + Twine(layer.hidden));
  }
  return values(name, statistic, kind);
}

llvm::Error Checker::reservoir() const {
  const Reservoir &kept = layer.reservoir;
  auto bad = [&](const Twine &what) { return fault("its reservoir " + what); };
  size_t n = kept.key.size(), e = size_t(layer.experts), k = size_t(layer.k),
         h = size_t(layer.hidden);
  if (kept.capacity < 0)
    return bad("has a negative capacity");
  if (n && (!k || !h))
    return bad("needs a k and a hidden size");
  if (kept.label.size() != n || kept.x.size() != n * h || kept.logits.size() != n * e ||
      kept.ids.size() != n * k || kept.weights.size() != n * k || kept.y.size() != n * h)
    return bad("does not have the shapes of " + Twine(n) + " tokens");
  for (auto *values : {&kept.x, &kept.logits, &kept.weights, &kept.y})
    if (llvm::any_of(*values, [](float value) { return std::isnan(value); }))
      return bad("holds NaN");
  if (llvm::any_of(kept.ids, [&](int32_t id) { return id < -1 || id >= layer.experts; }))
    return bad("names an expert that the layer does not have");
  return reservoirOrder();
}

llvm::Error Checker::reservoirOrder() const {
  const Reservoir &kept = layer.reservoir;
  auto bad = [&](const Twine &what) { return fault("its reservoir " + what); };
  int64_t run = 0;
  for (size_t t = 0; t < kept.key.size(); ++t) {
    if (kept.label[t] < 0 || size_t(kept.label[t]) >= profile.labels.size())
      return bad("names a label that the profile does not have");
    bool same = t && kept.label[t] == kept.label[t - 1];
    if (t && kept.label[t] < kept.label[t - 1])
      return bad("is not in the order of the labels");
    if (same && kept.key[t] <= kept.key[t - 1])
      return bad("is not in the order of its keys");
    run = same ? run + 1 : 1;
    if (run > kept.capacity)
      return bad("has more tokens of a label than its capacity, " + Twine(kept.capacity));
  }
  return llvm::Error::success();
}

} // namespace

llvm::Error moec::checkProfile(const Profile &profile) {
  for (size_t l = 0; l < profile.labels.size(); ++l) {
    if (profile.labels[l].empty() || !llvm::json::isUTF8(profile.labels[l]))
      return llvm::createStringError("label " + Twine(l) + " is empty or no UTF-8");
    if (l && profile.labels[l] <= profile.labels[l - 1])
      return llvm::createStringError("its labels are not sorted, or not unique");
  }
  llvm::StringSet<> names;
  for (const LayerProfile &layer : profile.layers) {
    Checker checker{profile, layer};
    if (llvm::Error error = checker.shape())
      return error;
    if (!names.insert(layer.name).second)
      return checker.fault("is there twice");
    for (auto &[name, statistic] : layer.statistics)
      if (llvm::Error error = checker.statistic(name, statistic))
        return error;
    if (llvm::Error error = checker.reservoir())
      return error;
  }
  return llvm::Error::success();
}
