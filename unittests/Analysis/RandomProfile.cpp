#include "RandomProfile.h"

#include "moec/Analysis/Statistics.h"

#include "gtest/gtest.h"

#include <set>

using namespace moec;

namespace {

namespace stat = moec::stat; // not the one of POSIX

int64_t below(std::mt19937 &random, int64_t n) {
  return std::uniform_int_distribution<int64_t>(0, n - 1)(random);
}

void fillStatistics(Profile &profile, LayerProfile &layer, std::mt19937 &random) {
  int64_t labels = int64_t(profile.labels.size());
  std::vector<double> tokens;
  for (int64_t l = 0; l < labels; ++l)
    tokens.push_back(double(1 + below(random, 1000)));
  std::uniform_real_distribution<double> real(-10, 10);
  for (const StatisticInfo &info : knownStatistics()) {
    Statistic statistic = emptyStatistic(info, layer, labels);
    size_t n = size_t(statistic.count());
    for (size_t i = 0; i < statistic.values.size(); ++i) {
      double value = real(random);
      if (info.values == ValueKind::positive)
        value = std::abs(value);
      if (info.values == ValueKind::count)
        value = double(below(random, int64_t(tokens[i / n]) + 1));
      statistic.values[i] = info.name == stat::tokens ? tokens[i] : value;
    }
    layer.statistics[info.name.str()] = std::move(statistic);
  }
}

void fillReservoir(const Profile &profile, LayerProfile &layer, std::mt19937 &random) {
  Reservoir &kept = layer.reservoir;
  for (size_t l = 0; l < profile.labels.size(); ++l) {
    std::set<uint64_t> keys;
    for (int64_t n = below(random, kept.capacity + 1); n; --n)
      keys.insert(uint64_t(below(random, 40)));
    for (uint64_t key : keys) {
      std::mt19937 token(uint32_t(key * 7919 + profile.labels[l][0]));
      auto values = [&](std::vector<float> &to, int64_t count) {
        for (int64_t i = 0; i < count; ++i)
          to.push_back(std::uniform_real_distribution<float>(-1, 1)(token));
      };
      kept.key.push_back(key);
      kept.label.push_back(int32_t(l));
      values(kept.x, layer.hidden);
      values(kept.logits, layer.experts);
      values(kept.weights, layer.k);
      values(kept.y, layer.hidden);
      for (int64_t i = 0; i < layer.k; ++i)
        kept.ids.push_back(int32_t(below(token, layer.experts + 1)) - 1);
    }
  }
}

} // namespace

Profile moec::randomProfile(uint32_t model, std::mt19937 &random) {
  std::mt19937 shapes(model);
  Profile profile;
  profile.model = "model" + std::to_string(model) + ".onnx";
  for (const char *label : {"arxiv", "book", "code", "dialogue"})
    if (below(random, 2))
      profile.labels.push_back(label);
  for (int64_t i = 0, n = 1 + below(shapes, 3); i < n; ++i) {
    LayerProfile layer;
    layer.name = "blocks/" + std::to_string(i) + "/bank";
    layer.experts = 1 + below(shapes, 6);
    layer.k = 1 + below(shapes, layer.experts);
    layer.hidden = 1 + below(shapes, 5);
    layer.router = "#moe.router<score = softmax, k = " + std::to_string(layer.k) + ">";
    layer.weightHash = std::to_string(shapes());
    layer.reservoir.capacity = 1 + below(random, 12);
    fillStatistics(profile, layer, random);
    fillReservoir(profile, layer, random);
    profile.layers.push_back(std::move(layer));
  }
  return profile;
}

Profile moec::plainProfile(std::vector<std::string> labels, int64_t layers, int64_t experts,
                           int64_t k, int64_t hidden) {
  Profile profile{"model.onnx", std::move(labels), {}};
  for (int64_t i = 0; i < layers; ++i) {
    LayerProfile &layer = profile.layers.emplace_back();
    layer.name = "layer" + std::to_string(i);
    layer.experts = experts;
    layer.k = k;
    layer.hidden = hidden;
  }
  return profile;
}

void moec::set(LayerProfile &layer, llvm::StringRef name, std::vector<double> values) {
  const StatisticInfo *info = statisticInfo(name);
  ASSERT_NE(info, nullptr) << name.str();
  layer.statistics[name.str()] = {info->rule, *shapeOf(*info, layer), std::move(values)};
}

void moec::expectSame(const Profile &a, const Profile &b) {
  EXPECT_EQ(a.model, b.model);
  EXPECT_EQ(a.labels, b.labels);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t i = 0; i < a.layers.size(); ++i) {
    const LayerProfile &x = a.layers[i], &y = b.layers[i];
    EXPECT_EQ(x.name, y.name);
    EXPECT_EQ(std::tie(x.experts, x.k, x.hidden), std::tie(y.experts, y.k, y.hidden));
    EXPECT_EQ(x.router, y.router);
    EXPECT_EQ(x.weightHash, y.weightHash);
    ASSERT_EQ(x.statistics.size(), y.statistics.size());
    for (auto &[name, statistic] : x.statistics) {
      const Statistic *other = y.find(name);
      ASSERT_NE(other, nullptr) << name;
      EXPECT_EQ(statistic.rule, other->rule);
      EXPECT_EQ(statistic.shape, other->shape);
      EXPECT_EQ(statistic.values, other->values) << name;
    }
    EXPECT_EQ(x.reservoir.capacity, y.reservoir.capacity);
    EXPECT_EQ(x.reservoir.key, y.reservoir.key);
    EXPECT_EQ(x.reservoir.label, y.reservoir.label);
    EXPECT_EQ(x.reservoir.x, y.reservoir.x);
    EXPECT_EQ(x.reservoir.logits, y.reservoir.logits);
    EXPECT_EQ(x.reservoir.ids, y.reservoir.ids);
    EXPECT_EQ(x.reservoir.weights, y.reservoir.weights);
    EXPECT_EQ(x.reservoir.y, y.reservoir.y);
  }
}
