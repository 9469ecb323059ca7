// A profile's numbers for the page's script, packed: a model of 61 layers with 256 experts has four
// million pairs of experts for each kind of likeness.
#include "PageParts.h"

#include "llvm/Support/Base64.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>
#include <numeric>

using namespace moec;
using nlohmann::json;
using Values = std::vector<double>;

namespace {

// Of the page's 10 MB, base64 included.
constexpr double kLoadBytes = 2.5e6, kMatrixBytes = 5e6, kOutputBytes = 1e6;
constexpr size_t kPairs = 8;

template <typename T>
std::string packed(const std::vector<T> &values) {
  return llvm::encodeBase64(
      llvm::StringRef(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T)));
}

double numberOrZero(const Values &values) { return values.empty() ? 0 : values[0]; }

/// The load of all layers and of labels, 1 for an even load, as 16-bit parts of the largest one.
json loads(const Profile &profile, const Summary &summary) {
  size_t cells = 0, labels = profile.labels.size();
  for (const LayerProfile &layer : profile.layers)
    cells += size_t(layer.experts);
  size_t room = size_t(kLoadBytes / std::max(1.0, double(cells) * 8 / 3));
  std::vector<size_t> order(labels);
  std::iota(order.begin(), order.end(), 0);
  auto most = [&](size_t a, size_t b) {
    const Values &tokens = summary.tokens;
    return !tokens.empty() && tokens[a] != tokens[b] ? tokens[a] > tokens[b] : a < b;
  };
  std::sort(order.begin(), order.end(), most);
  order.resize(std::min(labels, room));
  std::sort(order.begin(), order.end());

  std::vector<Values> maps;
  double largest = 1;
  for (size_t map = 0; map <= (labels > 1 ? order.size() : 0); ++map) {
    Values weights(map ? labels : 0);
    if (map)
      weights[order[map - 1]] = 1;
    Values &values = maps.emplace_back();
    for (const LayerProfile &layer : profile.layers) {
      auto load = loadOf(layer, weights);
      for (int64_t e = 0; e < layer.experts; ++e) {
        values.push_back(load ? load->shares[size_t(e)] * double(layer.experts) : 0);
        largest = std::max(largest, values.back());
      }
    }
  }
  json out = {{"scale", largest / 65535}, {"maps", json::array()}};
  for (size_t map = 0; map < maps.size(); ++map) {
    std::vector<uint16_t> parts;
    for (double value : maps[map]) // 0 is kept for what was never chosen
      parts.push_back(value > 0 ? uint16_t(std::max(1.0, std::round(value / largest * 65535))) : 0);
    out["maps"].push_back(
        {{"label", map ? profile.labels[order[map - 1]] : "all data"}, {"data", packed(parts)}});
  }
  return out;
}

struct Kind {
  const char *id, *name;
  Values (*of)(const LayerProfile &, llvm::ArrayRef<double>);
  bool lift; ///< a ratio, not a cosine
};

Values scoreCosine(const LayerProfile &layer, llvm::ArrayRef<double> weights) {
  Values values = scoreDistance(layer, weights);
  for (double &value : values)
    value = 1 - value * value / 2;
  return values;
}

constexpr Kind kKinds[] = {
    {"lift", "Chosen together (lift)", coactivationLift, true},
    {"logit", "Correlation of logits", logitCorrelation, false},
    {"score", "Cosine of scores", scoreCosine, false},
    {"gated", "Cosine of mean weighted outputs", gatedOutputCosine, false},
    {"output", "Mean cosine of outputs", outputCosine, false},
};

/// 1 to 255 for -1 to 1; 0: no data. A lift is log2 / 4.
uint8_t toByte(double value, bool lift) {
  if (lift)
    value = value > 0 ? std::log2(value) / 4 : std::isnan(value) ? value : -1;
  return std::isnan(value) ? 0 : uint8_t(128 + std::lround(127 * std::clamp(value, -1.0, 1.0)));
}

/// The lower triangle in blocks of experts, each shown by the value furthest from the middle.
json matrix(const Kind &kind, const Values &values, size_t n, size_t block) {
  size_t blocks = (n + block - 1) / block;
  std::vector<uint8_t> bytes(blocks * (blocks + 1) / 2);
  std::vector<std::tuple<double, size_t, size_t>> pairs;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j <= i; ++j) {
      double value = values[i * n + j];
      uint8_t byte = toByte(value, kind.lift);
      size_t r = i / block, c = j / block;
      uint8_t &to = bytes[r * (r + 1) / 2 + c];
      if (byte && (i != j || block == 1) && (!to || std::abs(byte - 128) > std::abs(to - 128)))
        to = byte;
      if (i != j && !std::isnan(value))
        pairs.emplace_back(-value, j, i);
    }
  size_t kept = std::min(pairs.size(), kPairs);
  std::partial_sort(pairs.begin(), pairs.begin() + int64_t(kept), pairs.end());
  json out = {{"block", block}, {"data", packed(bytes)}, {"pairs", json::array()}};
  for (size_t i = 0; i < kept; ++i) {
    auto [value, a, b] = pairs[i];
    out["pairs"].push_back({a, b, std::round(-value * 1e4) / 1e4});
  }
  return out;
}

size_t blockFor(const Profile &profile) {
  for (size_t block = 1;; block *= 2) {
    double bytes = 0;
    for (const LayerProfile &layer : profile.layers) {
      double blocks = std::ceil(double(layer.experts) / double(block)), kinds = 0;
      bool pairs =
          layer.find(moec::stat::coactivation) || layer.find(moec::stat::coactivationListed);
      kinds = double(pairs) + double(bool(layer.find(moec::stat::logitGram))) +
              double(bool(layer.find(moec::stat::scoreGram))) +
              double(bool(layer.find(moec::stat::gatedOutputSum))) +
              double(bool(layer.find(moec::stat::outputCosine)));
      bytes += kinds * (blocks * (blocks + 1) / 2 * 4 / 3 + 200);
    }
    if (bytes <= kMatrixBytes || block >= 1 << 20)
      return block;
  }
}

/// Lower quartile, median and upper quartile of a histogram row; null without data.
json quartiles(const Values &bins, size_t row, size_t width) {
  if (bins.size() < (row + 1) * width)
    return nullptr;
  llvm::ArrayRef<double> part = llvm::ArrayRef(bins).slice(row * width, width);
  return {histogramQuantile(part, 0.25), histogramQuantile(part, 0.5),
          histogramQuantile(part, 0.75)};
}

json layerData(const LayerProfile &layer, size_t block, bool outputs) {
  json out = {{"name", layer.name},
              {"experts", layer.experts},
              {"k", layer.k},
              {"router", layer.router},
              {"tokens", numberOrZero(layer.total(moec::stat::tokens))}};
  out["entropy"] = quartiles(layer.total(moec::stat::entropyBins), 0, 32);
  out["ratio"] = quartiles(layer.total(moec::stat::ratioBins), 1, 32);
  for (const Kind &kind : kKinds)
    if (Values values = kind.of(layer, {}); !values.empty())
      out["matrices"][kind.id] = matrix(kind, values, size_t(layer.experts), block);
  if (outputs) {
    std::vector<float> maxima;
    for (double value : layer.total(moec::stat::outputMax))
      maxima.push_back(float(value));
    if (!maxima.empty())
      out["outputs"] = packed(maxima);
  }
  return out;
}

} // namespace

json moec::pageData(const Profile &profile, const Summary &summary) {
  json out = {{"labels", profile.labels},
              {"load", loads(profile, summary)},
              {"kinds", json::array()},
              {"layers", json::array()},
              {"super", json::array()}};
  for (const Kind &kind : kKinds)
    out["kinds"].push_back({{"id", kind.id}, {"name", kind.name}, {"lift", kind.lift}});
  double experts = 0;
  for (const LayerProfile &layer : profile.layers)
    experts += double(layer.experts);
  size_t block = blockFor(profile);
  for (const LayerProfile &layer : profile.layers)
    out["layers"].push_back(layerData(layer, block, experts * 16 / 3 < kOutputBytes));
  for (const SuperExpert &expert : summary.superExperts)
    out["super"].push_back({expert.layer, expert.expert});
  if (profile.labels.size() <= 64)
    out["distances"] = summary.distances;
  return out;
}
