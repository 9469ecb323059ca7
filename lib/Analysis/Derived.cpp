#include "moec/Analysis/Derived.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

using namespace moec;
using Values = std::vector<double>;
using Weights = llvm::ArrayRef<double>;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double sumOf(llvm::ArrayRef<double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

/// Four sums at a time: one would make the processor wait for each addition.
double dot(const double *a, const double *b, size_t n) {
  double sums[4] = {};
  size_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (size_t lane = 0; lane < 4; ++lane)
      sums[lane] += a[i + lane] * b[i + lane];
  for (; i < n; ++i)
    sums[0] += a[i] * b[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/// A Gram matrix to cosines; 0 beside a zero vector, 1 on the diagonal.
Values cosines(Values gram, int64_t n) {
  Values norms;
  for (int64_t i = 0; i < n; ++i)
    norms.push_back(std::sqrt(std::max(0.0, gram[size_t(i * n + i)])));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double norm = norms[i] * norms[j];
      double &value = gram[size_t(i * n + j)];
      value = i == j ? 1 : norm > 0 ? std::clamp(value / norm, -1.0, 1.0) : 0;
    }
  return gram;
}

} // namespace

Values moec::shares(llvm::ArrayRef<double> values) {
  double sum = sumOf(values);
  Values result(values.begin(), values.end());
  for (double &value : result)
    value = sum > 0 ? value / sum : 0;
  return result;
}

double moec::gini(llvm::ArrayRef<double> values) {
  double sum = sumOf(values), n = double(values.size()), ranked = 0;
  if (!(sum > 0))
    return 0;
  Values sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size(); ++i)
    ranked += double(i + 1) * sorted[i];
  return std::max(0.0, 2 * ranked / (n * sum) - (n + 1) / n);
}

double moec::normalisedEntropy(llvm::ArrayRef<double> values) {
  if (values.size() < 2 || !(sumOf(values) > 0))
    return 1;
  double entropy = 0;
  for (double share : shares(values))
    if (share > 0)
      entropy -= share * std::log(share);
  return entropy / std::log(double(values.size()));
}

double moec::maxOverMean(llvm::ArrayRef<double> values) {
  double sum = sumOf(values);
  if (!(sum > 0))
    return 1;
  return *std::max_element(values.begin(), values.end()) * double(values.size()) / sum;
}

double moec::quantile(Values values, double q) {
  if (values.empty())
    return kNaN;
  std::sort(values.begin(), values.end());
  double at = std::clamp(q, 0.0, 1.0) * double(values.size() - 1);
  size_t below = size_t(at), above = std::min(below + 1, values.size() - 1);
  double part = at - double(below);
  return part == 0 ? values[below] : values[below] + part * (values[above] - values[below]);
}

double moec::histogramQuantile(llvm::ArrayRef<double> bins, double q) {
  double sum = sumOf(bins), wanted = std::clamp(q, 0.0, 1.0) * sum, before = 0;
  if (!(sum > 0))
    return kNaN;
  for (size_t i = 0; i < bins.size(); ++i) {
    if (bins[i] > 0 && before + bins[i] >= wanted)
      return (double(i) + (wanted - before) / bins[i]) / double(bins.size());
    before += bins[i];
  }
  return 1;
}

std::optional<Load> moec::loadOf(const LayerProfile &layer, Weights weights) {
  Values counts = layer.total(stat::count, weights);
  if (counts.empty())
    return std::nullopt;
  Load load;
  load.chosen = sumOf(counts);
  load.shares = shares(counts);
  load.gini = gini(counts);
  load.entropy = normalisedEntropy(counts);
  load.maxOverMean = maxOverMean(counts);
  for (size_t e = 0; e < counts.size() && load.chosen > 0; ++e)
    if (counts[e] == 0)
      load.never.push_back(int64_t(e));
  return load;
}

Values moec::coactivationLift(const LayerProfile &layer, Weights weights) {
  Values tokens = layer.total(stat::tokens, weights), counts = layer.total(stat::count, weights);
  Values both = layer.total(stat::coactivation, weights);
  bool listed = both.empty();
  if (listed)
    both = layer.total(stat::coactivationListed, weights);
  if (tokens.empty() || counts.empty() || both.empty())
    return {};
  size_t n = counts.size();
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j) {
      double &value = both[i * n + j];
      bool known = i != j && counts[i] > 0 && counts[j] > 0 && !(listed && value == 0);
      value = known ? value * tokens[0] / (counts[i] * counts[j]) : kNaN;
    }
  return both;
}

Values moec::logitCosine(const LayerProfile &layer, Weights weights) {
  Values gram = layer.total(stat::logitGram, weights);
  return gram.empty() ? gram : cosines(std::move(gram), layer.experts);
}

Values moec::logitCorrelation(const LayerProfile &layer, Weights weights) {
  Values gram = layer.total(stat::logitGram, weights), sum = layer.total(stat::logitSum, weights);
  Values tokens = layer.total(stat::tokens, weights);
  if (gram.empty() || sum.empty() || tokens.empty())
    return {};
  size_t n = sum.size();
  for (size_t i = 0; i < n && tokens[0] > 0; ++i)
    for (size_t j = 0; j < n; ++j)
      gram[i * n + j] -= sum[i] * sum[j] / tokens[0];
  return cosines(std::move(gram), layer.experts);
}

Values moec::scoreDistance(const LayerProfile &layer, Weights weights) {
  Values gram = layer.total(stat::scoreGram, weights);
  if (gram.empty())
    return gram;
  Values result = cosines(std::move(gram), layer.experts);
  for (double &value : result)
    value = std::sqrt(std::max(0.0, 2 - 2 * value));
  return result;
}

Values moec::outputCosine(const LayerProfile &layer, Weights weights) {
  Values sum = layer.total(stat::outputCosine, weights);
  Values sampled = layer.total(stat::sampled, weights);
  if (sum.empty() || sampled.empty() || !(sampled[0] > 0))
    return {};
  for (double &value : sum)
    value /= sampled[0];
  return sum;
}

Values moec::gatedOutputCosine(const LayerProfile &layer, Weights weights) {
  Values sums = layer.total(stat::gatedOutputSum, weights);
  if (sums.empty())
    return {};
  size_t n = size_t(layer.experts), hidden = size_t(layer.hidden);
  Values gram(n * n);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j <= i; ++j)
      gram[i * n + j] = gram[j * n + i] =
          dot(sums.data() + i * hidden, sums.data() + j * hidden, hidden);
  return cosines(std::move(gram), layer.experts);
}

double moec::totalVariation(llvm::ArrayRef<double> a, llvm::ArrayRef<double> b) {
  double distance = 0;
  for (auto [x, y] : llvm::zip_equal(a, b))
    distance += std::abs(x - y) / 2;
  return distance;
}

Values moec::labelDistances(const LayerProfile &layer) {
  const Statistic *counts = layer.find(stat::count);
  size_t labels = counts && counts->count() ? counts->values.size() / size_t(counts->count()) : 0;
  std::vector<Values> loads;
  for (size_t l = 0; l < labels; ++l)
    loads.push_back(shares(counts->of(int64_t(l))));
  Values result;
  for (const Values &a : loads)
    for (const Values &b : loads)
      result.push_back(sumOf(a) > 0 && sumOf(b) > 0 ? totalVariation(a, b) : kNaN);
  return result;
}

Values moec::labelDistances(const Profile &profile) {
  size_t n = profile.labels.size() * profile.labels.size();
  Values sums(n), layers(n);
  for (const LayerProfile &layer : profile.layers) {
    Values distances = labelDistances(layer);
    for (size_t i = 0; i < distances.size() && i < n; ++i)
      if (!std::isnan(distances[i])) {
        sums[i] += distances[i];
        layers[i] += 1;
      }
  }
  for (size_t i = 0; i < n; ++i)
    sums[i] = layers[i] > 0 ? sums[i] / layers[i] : kNaN;
  return sums;
}

std::vector<SuperExpert> moec::superExperts(const Profile &profile, Weights weights,
                                            const SuperExpertRule &rule) {
  std::vector<SuperExpert> all, result;
  Values values;
  for (size_t l = 0; l < profile.layers.size(); ++l) {
    Values maxima = profile.layers[l].total(stat::outputMax, weights);
    for (size_t e = 0; e < maxima.size(); ++e)
      if (maxima[e] >= 0) {
        all.push_back({int64_t(l), int64_t(e), maxima[e]});
        values.push_back(maxima[e]);
      }
  }
  if (all.empty())
    return result;
  double bound = std::max(quantile(values, rule.quantile),
                          rule.part * *std::max_element(values.begin(), values.end()));
  double depth = rule.depth * double(profile.layers.size());
  for (const SuperExpert &expert : all)
    if (expert.outputMax > bound && double(expert.layer) < depth)
      result.push_back(expert);
  return result;
}
