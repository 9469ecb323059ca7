#include "moec/Transforms/Compress/Saliency.h"

#include "MissingStatistic.h"
#include "Problem.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/xxhash.h"

#include <cmath>
#include <numeric>
#include <random>

using namespace moec;
using compress::problem;
using llvm::StringRef;

using Numbers = std::vector<double>;

llvm::ArrayRef<Criterion> moec::criteria() {
  static const Criterion all[] = {
      {"reap", "sum g|f| / n"},
      {"reap-l2", "sqrt(sum (g|f|)^2 / n)"},
      {"gated-norm", "sum g|f|"},
      {"mean-norm", "sum |f| / n"},
      {"norm-sum", "sum |f|"},
      {"soft", "sum g of chosen"},
      {"score", "sum p of all tokens"},
      {"tcess", "sum of the best expert's logits / tokens"},
      {"easy-ep", "sum g|f| max(0, 1 - cos(r, r + y))"},
      {"tenp", "sum g|f| (1 - cos(x, f))"},
      {"mone", "|sqrt(var f)| mean g"},
      {"frequency", "n"},
      {"random", "no data"}};
  return all;
}

namespace {

/// Statistics of one layer under one weight for each label.
struct Source {
  const LayerProfile &layer;
  llvm::ArrayRef<double> weights;
  llvm::Error error = llvm::Error::success();

  Numbers operator()(StringRef name, int tier) {
    Numbers all = layer.total(name, weights);
    if (all.empty() && !error)
      error = problem("layer '" + layer.name + "': " + compress::missingStatistic(layer, name, tier));
    all.resize(std::max<size_t>(all.size(), layer.experts));
    return all;
  }
  Numbers routed(StringRef name) { return (*this)(name, 0); }
  Numbers output(StringRef name) { return (*this)(name, 1); }
};

// sum / n, 0 where nothing was counted.
Numbers mean(Numbers sum, const Numbers &n) {
  for (size_t e = 0; e < sum.size(); ++e)
    sum[e] = e < n.size() && n[e] > 0 ? sum[e] / n[e] : 0;
  return sum;
}

Numbers fluctuation(Source &from) {
  Numbers n = from.routed(stat::count), gates = from.routed(stat::gateSum);
  Numbers sums = from.output(stat::outputSum), squares = from.output(stat::outputSquares);
  double tokens = from.routed(stat::tokens)[0];
  Numbers out(from.layer.experts, 0);
  size_t hidden = from.layer.hidden;
  if (sums.size() < out.size() * hidden || squares.size() < out.size() * hidden)
    return out; // an error by now
  for (size_t e = 0; e < out.size(); ++e) {
    double variance = 0;
    for (size_t h = e * hidden; n[e] > 0 && h < (e + 1) * hidden; ++h)
      variance += std::max(0.0, squares[h] / n[e] - sums[h] / n[e] * (sums[h] / n[e]));
    out[e] = tokens > 0 ? std::sqrt(variance) * gates[e] / tokens : 0;
  }
  return out;
}

Numbers randomScores(const LayerProfile &layer, uint64_t seed) {
  std::mt19937_64 random(seed * 0x9E3779B97F4A7C15ull + llvm::xxh3_64bits(StringRef(layer.name)));
  Numbers out(layer.experts);
  for (double &score : out)
    score = double(random() >> 11) * 0x1p-53;
  return out;
}

Numbers scoresOf(Source &from, StringRef criterion) {
  Numbers n = from.routed(stat::count);
  if (criterion == "reap")
    return mean(from.output(stat::gatedNormSum), n);
  if (criterion == "reap-l2") {
    Numbers out = mean(from.output(stat::gatedNormSquares), n);
    for (double &score : out)
      score = std::sqrt(std::max(0.0, score));
    return out;
  }
  if (criterion == "mean-norm")
    return mean(from.output(stat::normSum), n);
  if (criterion == "gated-norm")
    return from.output(stat::gatedNormSum);
  if (criterion == "norm-sum")
    return from.output(stat::normSum);
  if (criterion == "soft")
    return from.routed(stat::gateSum);
  if (criterion == "score")
    return from.routed(stat::scoreSum);
  if (criterion == "tcess")
    return mean(from.routed(stat::topLogitSum),
                Numbers(from.layer.experts, from.routed(stat::tokens)[0]));
  if (criterion == "easy-ep")
    return from.output(stat::noveltySum);
  if (criterion == "tenp")
    return from.output(stat::turnSum);
  if (criterion == "mone")
    return fluctuation(from);
  return n;
}

} // namespace

llvm::Expected<Numbers> moec::expertScores(const Profile &profile, const LayerProfile &layer,
                                           const SaliencyOptions &options) {
  auto known = [&](const Criterion &c) { return c.name == options.criterion; };
  if (llvm::none_of(criteria(), known)) {
    std::string names;
    for (const Criterion &c : criteria())
      names += (names.empty() ? "" : ", ") + c.name.str();
    return problem("there is no criterion \"" + options.criterion + "\"; it is one of " + names);
  }
  if (options.criterion == "random")
    return randomScores(layer, options.seed);
  size_t labels = profile.labels.size();
  Numbers weights = options.labelWeights;
  if (!options.perLabel) {
    Source from{layer, weights};
    Numbers out = scoresOf(from, options.criterion);
    if (from.error)
      return std::move(from.error);
    return out;
  }
  weights.resize(labels, 1);
  Numbers out(layer.experts, 0);
  for (size_t label = 0; label < labels; ++label) {
    if (weights[label] == 0)
      continue;
    Numbers one(labels, 0);
    one[label] = 1;
    Source from{layer, one};
    Numbers scores = scoresOf(from, options.criterion);
    if (from.error)
      return std::move(from.error);
    double sum = 0;
    for (double score : scores)
      sum += std::fabs(score);
    for (size_t e = 0; sum > 0 && e < out.size(); ++e)
      out[e] += weights[label] * scores[e] / sum;
  }
  return out;
}

std::vector<int64_t> moec::dropOrder(const LayerProfile &layer, llvm::ArrayRef<double> scores,
                                     const SaliencyOptions &options) {
  Numbers count = layer.total(stat::count, options.labelWeights);
  if (options.criterion == "random" || count.size() != scores.size())
    count.assign(scores.size(), 1);
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order, [&](int64_t a, int64_t b) {
    bool usedA = count[a] > 0, usedB = count[b] > 0;
    return std::tuple(usedA, scores[a], count[a], -a) < std::tuple(usedB, scores[b], count[b], -b);
  });
  return order;
}

llvm::Expected<Numbers> moec::parseLabelWeights(const Profile &profile, StringRef text) {
  Numbers weights;
  if (text.trim().empty())
    return weights;
  weights.assign(profile.labels.size(), 0);
  llvm::SmallVector<StringRef> parts;
  text.split(parts, ',', -1, false);
  for (StringRef part : parts) {
    auto [name, number] = part.rsplit(':');
    std::optional<int64_t> label = profile.label(part.trim());
    double weight = 1;
    if (!label) { // a label may hold a colon itself
      label = profile.label(name.trim());
      if (number.trim().getAsDouble(weight) || !std::isfinite(weight) || weight < 0)
        return problem("\"" + part + "\" is no label of the profile, and no label:weight; it has " +
                       llvm::join(profile.labels, ", "));
    }
    if (!label)
      return problem("the profile has no label \"" + name + "\"; it has " +
                     llvm::join(profile.labels, ", "));
    weights[*label] = weight;
  }
  return weights;
}
