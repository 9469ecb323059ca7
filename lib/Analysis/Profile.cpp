#include "moec/Analysis/Profile.h"
#include "Text.h"

#include "llvm/ADT/STLExtras.h"

#include <cassert>
#include <limits>
#include <numeric>
#include <tuple>

using namespace moec;
using llvm::StringRef;
using llvm::Twine;

int64_t Statistic::count() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>());
}

llvm::ArrayRef<double> Statistic::of(int64_t label) const {
  return llvm::ArrayRef<double>(values).slice(size_t(label * count()), size_t(count()));
}

const Statistic *LayerProfile::find(StringRef name) const {
  auto found = statistics.find(name.str());
  return found == statistics.end() ? nullptr : &found->second;
}

std::vector<double> LayerProfile::total(StringRef name, llvm::ArrayRef<double> labelWeights) const {
  const Statistic *statistic = find(name);
  size_t n = statistic ? size_t(statistic->count()) : 0;
  if (!n)
    return {};
  size_t labels = statistic->values.size() / n;
  assert((labelWeights.empty() || labelWeights.size() == labels) && "a weight for each label");
  bool isSum = statistic->rule == MergeRule::sum;
  std::vector<double> result(n, isSum ? 0 : -std::numeric_limits<double>::infinity());
  for (size_t l = 0; l < labels; ++l) {
    double weight = labelWeights.empty() ? 1 : labelWeights[l];
    if (weight == 0)
      continue;
    llvm::ArrayRef<double> values = statistic->of(int64_t(l));
    for (size_t i = 0; i < n; ++i)
      result[i] = isSum ? result[i] + weight * values[i] : std::max(result[i], values[i]);
  }
  return result;
}

const LayerProfile *Profile::layer(StringRef name) const {
  auto found = llvm::find_if(layers, [&](const LayerProfile &layer) { return layer.name == name; });
  return found == layers.end() ? nullptr : &*found;
}

std::optional<int64_t> Profile::label(StringRef name) const {
  auto found = llvm::lower_bound(labels, name);
  if (found == labels.end() || *found != name)
    return std::nullopt;
  return found - labels.begin();
}

namespace {

/// For each label of the union, its number in each of the two profiles, or -1.
struct LabelUnion {
  std::vector<std::string> labels;
  std::vector<std::pair<int64_t, int64_t>> from;

  LabelUnion(const Profile &a, const Profile &b) {
    std::set_union(a.labels.begin(), a.labels.end(), b.labels.begin(), b.labels.end(),
                   std::back_inserter(labels));
    for (const std::string &label : labels)
      from.push_back({a.label(label).value_or(-1), b.label(label).value_or(-1)});
  }
};

Statistic mergeStatistics(const Statistic &a, const Statistic &b, const LabelUnion &labels) {
  Statistic merged{a.rule, a.shape, {}};
  bool isSum = a.rule == MergeRule::sum;
  size_t n = size_t(a.count());
  merged.values.assign(labels.labels.size() * n,
                       isSum ? 0 : -std::numeric_limits<double>::infinity());
  double *out = merged.values.data();
  for (auto [fromA, fromB] : labels.from) {
    for (auto [part, label] : {std::pair(&a, fromA), std::pair(&b, fromB)}) {
      if (label < 0)
        continue;
      llvm::ArrayRef<double> values = part->of(label);
      for (size_t i = 0; i < n; ++i)
        out[i] = isSum ? out[i] + values[i] : std::max(out[i], values[i]);
    }
    out += n;
  }
  return merged;
}

/// One token of a reservoir.
struct Token {
  const LayerProfile *layer;
  size_t index;

  template <typename T>
  llvm::ArrayRef<T> row(const std::vector<T> &values, int64_t width) const {
    return llvm::ArrayRef<T>(values).slice(index * size_t(width), size_t(width));
  }
  uint64_t key() const { return layer->reservoir.key[index]; }
  llvm::ArrayRef<float> x() const { return row(layer->reservoir.x, layer->hidden); }
  llvm::ArrayRef<float> logits() const { return row(layer->reservoir.logits, layer->experts); }
  llvm::ArrayRef<int32_t> ids() const { return row(layer->reservoir.ids, layer->k); }
  llvm::ArrayRef<float> weights() const { return row(layer->reservoir.weights, layer->k); }
  llvm::ArrayRef<float> y() const { return row(layer->reservoir.y, layer->hidden); }

  /// By key. What two machines measured of one token may differ in the last bits: the order of the
  /// values then decides, so that merging stays commutative.
  bool operator<(const Token &other) const {
    auto compare = [](auto left, auto right) {
      return std::lexicographical_compare_three_way(left.begin(), left.end(), right.begin(),
                                                    right.end());
    };
    if (key() != other.key())
      return key() < other.key();
    for (auto order : {compare(x(), other.x()), compare(logits(), other.logits()),
                       compare(weights(), other.weights()), compare(y(), other.y())})
      if (order != 0)
        return order < 0;
    return compare(ids(), other.ids()) < 0;
  }
};

void append(Reservoir &to, const Token &token, int32_t label) {
  auto add = [](auto &values, auto row) { values.insert(values.end(), row.begin(), row.end()); };
  to.key.push_back(token.key());
  to.label.push_back(label);
  add(to.x, token.x());
  add(to.logits, token.logits());
  add(to.ids, token.ids());
  add(to.weights, token.weights());
  add(to.y, token.y());
}

Reservoir mergeReservoirs(const LayerProfile &a, const LayerProfile &b, const LabelUnion &labels) {
  Reservoir merged;
  merged.capacity = std::min(a.reservoir.capacity, b.reservoir.capacity);
  for (size_t l = 0; l < labels.labels.size(); ++l) {
    std::vector<Token> tokens;
    for (auto [layer, label] :
         {std::pair(&a, labels.from[l].first), std::pair(&b, labels.from[l].second)})
      for (size_t t = 0; t < layer->reservoir.key.size(); ++t)
        if (layer->reservoir.label[t] == label)
          tokens.push_back({layer, t});
    llvm::sort(tokens);
    int64_t kept = 0;
    for (size_t t = 0; t < tokens.size() && kept < merged.capacity; ++t) {
      if (t && tokens[t].key() == tokens[t - 1].key())
        continue;
      append(merged, tokens[t], int32_t(l));
      ++kept;
    }
  }
  return merged;
}

llvm::Error checkSame(const LayerProfile &a, const LayerProfile &b) {
  auto other = [&](const Twine &what, const Twine &left, const Twine &right) {
    return refuse("profile of another model",
                  "layer " + shown(a.name) + ": " + what + " " + left + " and " + right);
  };
  if (a.name != b.name)
    return other("the other profile has a layer of another name here:", shown(a.name),
                 shown(b.name));
  for (auto [what, left, right] :
       {std::tuple("experts", a.experts, b.experts), std::tuple("k", a.k, b.k),
        std::tuple("hidden size", a.hidden, b.hidden)})
    if (left != right)
      return other(what, Twine(left), Twine(right));
  if (a.router != b.router)
    return other("routers", shown(a.router), shown(b.router));
  if (a.weightHash != b.weightHash)
    return other("weights of hash", shown(a.weightHash), shown(b.weightHash));
  for (auto &[name, statistic] : a.statistics)
    if (const Statistic *same = b.find(name))
      if (same->rule != statistic.rule || same->shape != statistic.shape)
        return other("statistic " + shown(name) + " is of another shape or rule", "here", "there");
  return llvm::Error::success();
}

std::string commonName(const std::string &a, const std::string &b) {
  return a.empty() || b.empty() ? a + b : std::min(a, b);
}

} // namespace

llvm::Error moec::checkSameModel(const Profile &a, const Profile &b) {
  for (size_t i = 0; i < std::min(a.layers.size(), b.layers.size()); ++i)
    if (llvm::Error error = checkSame(a.layers[i], b.layers[i]))
      return error;
  if (a.layers.size() != b.layers.size()) {
    const auto &more = (a.layers.size() > b.layers.size() ? a : b).layers;
    return refuse("profile of another model",
                  "layer " + shown(more[std::min(a.layers.size(), b.layers.size())].name) +
                      " is in one of the profiles only");
  }
  return llvm::Error::success();
}

llvm::Expected<Profile> moec::mergeProfiles(const Profile &a, const Profile &b) {
  if (llvm::Error error = checkSameModel(a, b))
    return error;
  LabelUnion labels(a, b);
  Profile merged{commonName(a.model, b.model), labels.labels, {}};
  for (auto [left, right] : llvm::zip_equal(a.layers, b.layers)) {
    LayerProfile &layer = merged.layers.emplace_back();
    layer.name = left.name;
    layer.experts = left.experts;
    layer.k = left.k;
    layer.hidden = left.hidden;
    layer.router = left.router;
    layer.weightHash = left.weightHash;
    for (auto &[name, statistic] : left.statistics)
      if (const Statistic *other = right.find(name))
        layer.statistics[name] = mergeStatistics(statistic, *other, labels);
    layer.reservoir = mergeReservoirs(left, right, labels);
  }
  return merged;
}
