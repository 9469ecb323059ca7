// Scores by hand-written numbers, and how budgets spread over layers.
#include "moec/Transforms/Compress/Budgets.h"
#include "moec/Transforms/Compress/Saliency.h"
#include "gtest/gtest.h"

#include <cmath>
#include <map>
#include <numeric>
#include <random>

using namespace moec;

namespace {

std::string textOf(llvm::Error error) { return llvm::toString(std::move(error)); }

void set(LayerProfile &layer, llvm::StringRef name, std::vector<int64_t> shape,
         std::vector<double> values) {
  layer.statistics[name.str()] = {MergeRule::sum, std::move(shape), std::move(values)};
}

// Two experts of two numbers; labels a and b.
Profile twoExperts() {
  LayerProfile layer;
  layer.name = "l";
  layer.experts = 2;
  layer.k = 1;
  layer.hidden = 2;
  set(layer, moec::stat::tokens, {}, {10, 30});
  set(layer, moec::stat::count, {2}, {8, 2, 0, 30});
  set(layer, moec::stat::gateSum, {2}, {4, 1, 0, 15});
  set(layer, moec::stat::scoreSum, {2}, {6, 3, 5, 20});
  set(layer, moec::stat::topLogitSum, {2}, {8, 4, 0, 80});
  set(layer, moec::stat::normSum, {2}, {16, 8, 0, 60});
  set(layer, moec::stat::gatedNormSum, {2}, {8, 4, 0, 30});
  set(layer, moec::stat::gatedNormSquares, {2}, {32, 18, 0, 30});
  set(layer, moec::stat::noveltySum, {2}, {1, 2, 0, 3});
  set(layer, moec::stat::turnSum, {2}, {4, 5, 0, 6});
  set(layer, moec::stat::outputSum, {2, 2}, {8, 0, 2, 2, 0, 0, 30, 30});
  set(layer, moec::stat::outputSquares, {2, 2}, {40, 8, 4, 2, 0, 0, 60, 30});
  Profile profile{"", {"a", "b"}, {layer}};
  return profile;
}

std::vector<double> scores(const Profile &profile, SaliencyOptions options) {
  auto out = expertScores(profile, profile.layers[0], options);
  if (out)
    return *out;
  ADD_FAILURE() << textOf(out.takeError());
  return {};
}

TEST(Saliency, FormulasOverAllLabels) {
  const std::map<std::string, std::pair<double, double>> expected = {
      {"reap", {1, 34.0 / 32}},
      {"reap-l2", {2, std::sqrt(48.0 / 32)}},
      {"gated-norm", {8, 34}},
      {"mean-norm", {2, 68.0 / 32}},
      {"norm-sum", {16, 68}},
      {"soft", {4, 16}},
      {"score", {11, 23}},
      {"tcess", {0.2, 2.1}},
      {"easy-ep", {1, 5}},
      {"tenp", {4, 11}},
      // Variances 5 - 1 + 1 - 0 and 2 - 1 + 1 - 1.
      {"mone", {std::sqrt(5.0) * 0.1, 1 * 0.4}},
      {"frequency", {8, 32}}};
  Profile profile = twoExperts();
  for (const Criterion &criterion : criteria()) {
    if (criterion.name == "random")
      continue;
    auto [a, b] = expected.at(criterion.name.str());
    auto out = scores(profile, {criterion.name.str(), {}, false, 0});
    EXPECT_NEAR(out.at(0), a, 1e-12) << criterion.name.str();
    EXPECT_NEAR(out.at(1), b, 1e-12) << criterion.name.str();
  }
}

TEST(Saliency, Labels) {
  Profile profile = twoExperts();
  EXPECT_EQ(scores(profile, {"frequency", {1, 0}, false, 0}), (std::vector<double>{8, 2}));
  // Each label's shares, added: 0.8 + 0 and 0.2 + 1.
  auto mixed = scores(profile, {"frequency", {}, true, 0});
  EXPECT_DOUBLE_EQ(mixed[0], 0.8);
  EXPECT_DOUBLE_EQ(mixed[1], 1.2);
  auto half = parseLabelWeights(profile, "a:0.5, b");
  ASSERT_TRUE(bool(half));
  EXPECT_EQ(*half, (std::vector<double>{0.5, 1}));
  EXPECT_NE(textOf(parseLabelWeights(profile, "c").takeError()).find("a, b"), std::string::npos);
  EXPECT_NE(textOf(parseLabelWeights(profile, "a:-1").takeError()).find("a:-1"), std::string::npos);
}

TEST(Saliency, ErrorsAndSeeds) {
  Profile profile = twoExperts();
  auto &layer = profile.layers[0];
  EXPECT_NE(textOf(expertScores(profile, layer, {"best", {}, false, 0}).takeError()).find("reap"),
            std::string::npos);
  layer.statistics.erase(moec::stat::gatedNormSum.str());
  EXPECT_EQ(textOf(expertScores(profile, layer, {"reap", {}, false, 0}).takeError()),
            "layer 'l': the profile has no gated_norm_sum; profile with --tier 1 or above");
  EXPECT_EQ(scores(profile, {"random", {}, false, 3}), scores(profile, {"random", {}, false, 3}));
  EXPECT_NE(scores(profile, {"random", {}, false, 3}), scores(profile, {"random", {}, false, 4}));
}

LayerChoice layerOf(const std::string &name, std::vector<double> values, int64_t least) {
  LayerChoice layer{name, int64_t(values.size()), least, values, {}};
  layer.order.resize(values.size());
  std::iota(layer.order.begin(), layer.order.end(), 0);
  std::sort(layer.order.begin(), layer.order.end(),
            [&](int64_t a, int64_t b) { return values[a] < values[b]; });
  return layer;
}

using Ids = std::vector<std::vector<int64_t>>;

TEST(Budgets, Kinds) {
  std::vector<LayerChoice> layers{layerOf("a", {1, 2, 3, 4}, 1), layerOf("b", {10, 1, 20, 30}, 1)};
  auto choose = [&](std::vector<int64_t> drop, llvm::StringRef budget) {
    auto out = chooseDrops(layers, drop, budget);
    if (out)
      return *out;
    ADD_FAILURE() << textOf(out.takeError());
    return Ids();
  };
  EXPECT_EQ(choose({2, 2}, "uniform"), (Ids{{0, 1}, {0, 1}}));
  EXPECT_EQ(choose({2, 2}, "global"), (Ids{{0, 1, 2}, {1}}));
  EXPECT_EQ(choose({1, 2}, "share"), (Ids{{0}, {0, 1}})); // 0.1, and 0.016 and 0.16 before 0.2
  EXPECT_EQ(choose({0, 0}, "3, 1"), (Ids{{0, 1, 2}, {1}}));
  // With the first two gone 0.70 and 0.82 of the scores are left.
  EXPECT_EQ(choose({1, 2}, "mass"), (Ids{{0}, {0, 1}}));
}

TEST(Budgets, TotalsAreMet) {
  std::mt19937 random(20260801);
  for (int round = 0; round < 300; ++round) {
    std::vector<LayerChoice> layers;
    std::vector<int64_t> drop;
    int64_t total = 0, most = 0;
    for (int64_t l = 0, n = 1 + random() % 5; l < n; ++l) {
      std::vector<double> values(2 + random() % 9);
      for (double &value : values)
        value = double(random() % 6) - (random() % 4 == 0); // with ties and negative ones
      layers.push_back(layerOf("l", values, 1 + random() % values.size()));
      drop.push_back(random() % (values.size() + 1));
      total += drop.back();
      most += layers.back().most();
    }
    for (llvm::StringRef budget : {"global", "share", "mass"}) {
      auto out = chooseDrops(layers, drop, budget);
      if (total > most) {
        EXPECT_NE(textOf(out.takeError()).find("may go"), std::string::npos);
        continue;
      }
      ASSERT_TRUE(bool(out)) << textOf(out.takeError());
      int64_t sum = 0;
      for (auto [layer, ids] : llvm::zip(layers, *out)) {
        sum += int64_t(ids.size());
        EXPECT_LE(int64_t(ids.size()), layer.most());
        EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
      }
      EXPECT_EQ(sum, total) << budget.str() << ", round " << round;
    }
  }
}

TEST(Budgets, Errors) {
  std::vector<LayerChoice> layers{layerOf("a", {1, 2, 3, 4}, 2)};
  layers[0].order.pop_back(); // protected
  auto fails = [&](std::vector<int64_t> drop, llvm::StringRef budget) {
    return textOf(chooseDrops(layers, drop, budget).takeError());
  };
  EXPECT_EQ(fails({3}, "uniform"), "layer 'a': cannot drop 3 of 4 experts; 2 may go, as 2 have to "
                                   "stay and 1 are protected or cost nothing");
  EXPECT_NE(fails({3}, "global").find("cannot drop 3 experts"), std::string::npos);
  EXPECT_NE(fails({1}, "1,2").find("2 numbers for 1 layers"), std::string::npos);
  EXPECT_NE(fails({1}, "1x").find("is no number"), std::string::npos);
  EXPECT_NE(fails({1}, "best").find("uniform"), std::string::npos);
  for (llvm::StringRef text : {"", "x", "-1", "1.5", "2.7x", "120%", "nan", "inf"})
    EXPECT_NE(textOf(parseShare(text).takeError()).find("no number of experts"), std::string::npos)
        << text.str();
  EXPECT_EQ(parseShare("25%")->of(32), 8);
  EXPECT_EQ(parseShare("0.1")->of(32), 3);
  EXPECT_EQ(parseShare("8")->of(32), 8);
}

} // namespace
