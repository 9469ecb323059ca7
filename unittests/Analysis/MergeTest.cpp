// Merging of profiles: exact small cases, and its algebra on random profiles.
#include "Folder.h"
#include "RandomProfile.h"

#include "moec/Analysis/Statistics.h"

#include <cmath>
#include <limits>

using namespace moec;

namespace {

namespace stat = moec::stat; // not the one of POSIX

constexpr double kNothing = -std::numeric_limits<double>::infinity();

Profile merge(const Profile &a, const Profile &b) { return llvm::cantFail(mergeProfiles(a, b)); }

TEST(Merge, AddsLabelsAndKeepsTheirOrder) {
  Profile a = plainProfile({"code", "web"}, 1, 2, 1, 0);
  set(a.layers[0], stat::count, {1, 2, 3, 4});
  set(a.layers[0], stat::outputMax, {5, 6, 7, 8});
  Profile b = plainProfile({"book", "web"}, 1, 2, 1, 0);
  set(b.layers[0], stat::count, {10, 20, 30, 40});
  set(b.layers[0], stat::outputMax, {9, 1, 2, 9});
  Profile merged = merge(a, b);
  EXPECT_EQ(merged.labels, (std::vector<std::string>{"book", "code", "web"}));
  EXPECT_EQ(merged.layers[0].find(stat::count)->values,
            (std::vector<double>{10, 20, 1, 2, 33, 44}));
  EXPECT_EQ(merged.layers[0].find(stat::outputMax)->values,
            (std::vector<double>{9, 1, 5, 6, 7, 9}));
}

TEST(Merge, LeavesOutWhatOnlyOneHas) {
  Profile a = plainProfile({"web"}, 1, 2, 1, 0), b = a;
  set(a.layers[0], stat::count, {1, 2});
  set(a.layers[0], stat::normSum, {1, 2});
  set(b.layers[0], stat::count, {3, 4});
  Profile merged = merge(a, b);
  EXPECT_EQ(merged.layers[0].statistics.size(), 1u);
  EXPECT_NE(merged.layers[0].find(stat::count), nullptr);
}

TEST(Merge, KeepsTheSmallestKeysOfEachLabel) {
  auto part = [](int64_t capacity, std::vector<uint64_t> keys) {
    Profile profile = plainProfile({"web"}, 1, 1, 1, 1);
    Reservoir &kept = profile.layers[0].reservoir;
    kept.capacity = capacity;
    for (uint64_t key : keys) {
      kept.key.push_back(key);
      kept.label.push_back(0);
      for (auto *values : {&kept.x, &kept.logits, &kept.weights, &kept.y})
        values->push_back(float(key));
      kept.ids.push_back(0);
    }
    return profile;
  };
  Reservoir kept = merge(part(3, {1, 5, 9}), part(4, {2, 5, 6, 7})).layers[0].reservoir;
  EXPECT_EQ(kept.capacity, 3);
  EXPECT_EQ(kept.key, (std::vector<uint64_t>{1, 2, 5}));
  EXPECT_EQ(kept.x, (std::vector<float>{1, 2, 5}));
}

TEST(Merge, RefusesOtherModels) {
  Profile a = plainProfile({"web"}, 2, 4, 2, 8);
  auto refused = [&](auto change, const std::string &why) {
    Profile b = a;
    change(b);
    expectRefused(mergeProfiles(a, b), "profile of another model: layer " + why);
    expectRefused(mergeProfiles(b, a), "profile of another model: layer ");
  };
  refused([](Profile &b) { b.layers[1].name = "bank\n7"; }, R"("layer1")");
  refused([](Profile &b) { b.layers[1].experts = 5; }, R"("layer1": experts 4 and 5)");
  refused([](Profile &b) { b.layers[0].k = 1; }, R"("layer0": k 2 and 1)");
  refused([](Profile &b) { b.layers[0].hidden = 9; }, R"("layer0": hidden size 8 and 9)");
  refused([](Profile &b) { b.layers[0].router = "x"; }, R"("layer0": routers)");
  refused([](Profile &b) { b.layers[1].weightHash = "x"; }, R"("layer1": weights)");
  refused([](Profile &b) { b.layers.pop_back(); }, R"("layer1" is in one)");
  set(a.layers[0], stat::count, {1, 2, 3, 4});
  refused([](Profile &b) { b.layers[0].statistics["count"].rule = MergeRule::max; },
          R"("layer0": statistic "count")");
}

/// Counts, maxima and reservoirs to the last bit, sums to 1e-12 of what was added.
void expectNear(const Profile &a, const Profile &b, const Profile &magnitudes) {
  Profile rounded = b;
  for (size_t i = 0; i < a.layers.size(); ++i)
    for (auto &[name, statistic] : rounded.layers[i].statistics) {
      if (statistic.rule == MergeRule::max || statisticInfo(name)->values == ValueKind::count)
        continue;
      const std::vector<double> &values = a.layers[i].find(name)->values;
      const std::vector<double> &most = magnitudes.layers[i].find(name)->values;
      for (size_t v = 0; v < values.size(); ++v)
        if (std::abs(values[v] - statistic.values[v]) <= 1e-12 * most[v])
          statistic.values[v] = values[v];
    }
  expectSame(a, rounded);
}

Profile absolute(Profile profile) {
  for (LayerProfile &layer : profile.layers)
    for (auto &[name, statistic] : layer.statistics)
      if (statistic.rule == MergeRule::sum)
        for (double &value : statistic.values)
          value = std::abs(value);
  return profile;
}

TEST(Merge, IsAssociativeAndCommutative) {
  uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 100; ++round) {
    uint32_t model = uint32_t(random());
    Profile a = randomProfile(model, random), b = randomProfile(model, random),
            c = randomProfile(model, random);
    Profile magnitudes = merge(merge(absolute(a), absolute(b)), absolute(c));
    expectSame(merge(a, b), merge(b, a));
    expectNear(merge(merge(a, b), c), merge(a, merge(b, c)), magnitudes);
    EXPECT_EQ(llvm::toString(checkProfile(a)), "");
    if (HasFailure())
      return;
  }
}

TEST(Merge, OfDisjointLabelsIsExact) {
  uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Profile a = randomProfile(3, random);
  Profile b = a;
  b.labels.clear();
  for (LayerProfile &layer : b.layers) {
    for (auto &[name, statistic] : layer.statistics)
      statistic.values.clear();
    layer.reservoir = {layer.reservoir.capacity, {}, {}, {}, {}, {}, {}, {}};
  }
  expectSame(merge(a, b), a);
}

TEST(Profile, TotalsWeighLabels) {
  Profile profile = plainProfile({"a", "b", "c"}, 1, 2, 1, 0);
  set(profile.layers[0], stat::count, {1, 2, 10, 20, 100, 200});
  set(profile.layers[0], stat::outputMax, {1, 9, 3, kNothing, 7, 4});
  const LayerProfile &layer = profile.layers[0];
  EXPECT_EQ(layer.total(stat::count), (std::vector<double>{111, 222}));
  EXPECT_EQ(layer.total(stat::count, {0.5, 2, 0}), (std::vector<double>{20.5, 41}));
  EXPECT_EQ(layer.total(stat::outputMax), (std::vector<double>{7, 9}));
  EXPECT_EQ(layer.total(stat::outputMax, {0, 0.1, 0}), (std::vector<double>{3, kNothing}));
  EXPECT_TRUE(layer.total(stat::normSum).empty());
  EXPECT_EQ(profile.label("b"), 1);
  EXPECT_EQ(profile.label("bb"), std::nullopt);
  EXPECT_EQ(profile.layer("layer0"), &layer);
  EXPECT_EQ(profile.layer("layer1"), nullptr);
}

} // namespace
