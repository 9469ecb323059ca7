// Derived numbers against values computed by hand.
#include "moec/Analysis/Derived.h"
#include "RandomProfile.h"

#include "gtest/gtest.h"

#include <cmath>
#include <limits>

using namespace moec;

namespace {

namespace stat = moec::stat; // not the one of POSIX
using Values = std::vector<double>;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kNothing = -std::numeric_limits<double>::infinity();

void expectNear(const Values &got, const Values &expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    if (std::isnan(expected[i]))
      EXPECT_TRUE(std::isnan(got[i])) << i << ": " << got[i];
    else
      EXPECT_NEAR(got[i], expected[i], 1e-12) << i;
}

TEST(Derived, MeasuresBalance) {
  expectNear(shares({1, 3, 0}), {0.25, 0.75, 0});
  expectNear(shares({0, 0}), {0, 0});
  EXPECT_DOUBLE_EQ(gini({5, 5, 5, 5}), 0);
  EXPECT_DOUBLE_EQ(gini({0, 0, 0, 8}), 0.75);
  EXPECT_NEAR(gini({1, 2, 3, 4}), 0.25, 1e-15); // 2 * 30 / 40 - 5 / 4
  EXPECT_NEAR(gini({4, 1, 3, 2}), 0.25, 1e-15);
  EXPECT_DOUBLE_EQ(gini({0, 0}), 0);
  EXPECT_DOUBLE_EQ(normalisedEntropy({3, 3, 3, 3}), 1);
  EXPECT_DOUBLE_EQ(normalisedEntropy({0, 7}), 0);
  EXPECT_DOUBLE_EQ(normalisedEntropy({2, 2, 0, 0}), 0.5);
  EXPECT_DOUBLE_EQ(normalisedEntropy({4}), 1);
  EXPECT_DOUBLE_EQ(maxOverMean({1, 2, 3, 6}), 2);
  EXPECT_DOUBLE_EQ(maxOverMean({0, 0}), 1);
}

TEST(Derived, Quantiles) {
  EXPECT_DOUBLE_EQ(quantile({3, 1, 2}, 0.5), 2);
  EXPECT_DOUBLE_EQ(quantile({10, 20, 30, 40, 50}, 0.9), 46);
  EXPECT_DOUBLE_EQ(quantile({7}, 0.995), 7);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
  EXPECT_DOUBLE_EQ(histogramQuantile({0, 4, 0, 4}, 0.5), 0.5);
  EXPECT_DOUBLE_EQ(histogramQuantile({0, 4, 0, 4}, 0.25), 0.375);
  EXPECT_DOUBLE_EQ(histogramQuantile({0, 4, 0, 4}, 1), 1);
  EXPECT_TRUE(std::isnan(histogramQuantile({0, 0}, 0.5)));
}

TEST(Derived, LoadOfALayer) {
  Profile profile = plainProfile({"a", "b"}, 1, 4, 1, 0);
  EXPECT_FALSE(loadOf(profile.layers[0]));
  set(profile.layers[0], stat::count, {2, 2, 0, 0, 0, 4, 0, 0});
  Load all = *loadOf(profile.layers[0]);
  EXPECT_DOUBLE_EQ(all.chosen, 8);
  expectNear(all.shares, {0.25, 0.75, 0, 0});
  EXPECT_DOUBLE_EQ(all.maxOverMean, 3);
  EXPECT_EQ(all.never, (std::vector<int64_t>{2, 3}));
  Load first = *loadOf(profile.layers[0], {1, 0});
  expectNear(first.shares, {0.5, 0.5, 0, 0});
  EXPECT_DOUBLE_EQ(first.entropy, 0.5);
  EXPECT_DOUBLE_EQ(first.gini, 0.5);
}

TEST(Derived, LiftOfPairs) {
  Profile profile = plainProfile({"a"}, 1, 3, 2, 0);
  LayerProfile &layer = profile.layers[0];
  set(layer, stat::tokens, {10});
  set(layer, stat::count, {10, 4, 0});
  set(layer, stat::coactivation, {10, 4, 0, 4, 4, 0, 0, 0, 0});
  expectNear(coactivationLift(layer), {kNaN, 1, kNaN, 1, kNaN, kNaN, kNaN, kNaN, kNaN});
  set(layer, stat::count, {5, 4, 8});
  set(layer, stat::coactivation, {5, 4, 0, 4, 4, 2, 0, 2, 8});
  expectNear(coactivationLift(layer), {kNaN, 2, 0, 2, kNaN, 0.625, 0, 0.625, kNaN});
  layer.statistics.erase("coactivation");
  set(layer, stat::coactivationListed, {5, 4, 0, 4, 4, 2, 0, 2, 8});
  expectNear(coactivationLift(layer), {kNaN, 2, kNaN, 2, kNaN, 0.625, kNaN, 0.625, kNaN});
}

TEST(Derived, LikenessOfRouterColumns) {
  Profile profile = plainProfile({"a"}, 1, 3, 1, 0);
  LayerProfile &layer = profile.layers[0];
  // Two tokens with logits (3, 0, 6) and (4, 0, 8).
  set(layer, stat::tokens, {2});
  set(layer, stat::logitSum, {7, 0, 14});
  set(layer, stat::logitGram, {25, 0, 50, 0, 0, 0, 50, 0, 100});
  expectNear(logitCosine(layer), {1, 0, 1, 0, 1, 0, 1, 0, 1});
  expectNear(logitCorrelation(layer), {1, 0, 1, 0, 1, 0, 1, 0, 1});
  // (1, 3) and (3, 1): cosine 6 / 10, correlation -1.
  profile = plainProfile({"a"}, 1, 2, 1, 0);
  set(profile.layers[0], stat::tokens, {2});
  set(profile.layers[0], stat::logitSum, {4, 4});
  set(profile.layers[0], stat::logitGram, {10, 6, 6, 10});
  expectNear(logitCosine(profile.layers[0]), {1, 0.6, 0.6, 1});
  expectNear(logitCorrelation(profile.layers[0]), {1, -1, -1, 1});
  set(profile.layers[0], stat::scoreGram, {4, 2, 2, 4}); // cosine 1/2: distance 1
  expectNear(scoreDistance(profile.layers[0]), {0, 1, 1, 0});
}

TEST(Derived, LikenessOfOutputs) {
  Profile profile = plainProfile({"a", "b"}, 1, 2, 1, 2);
  LayerProfile &layer = profile.layers[0];
  EXPECT_TRUE(outputCosine(layer).empty());
  set(layer, stat::sampled, {4, 4});
  set(layer, stat::outputCosine, {4, 1, 1, 4, 4, 3, 3, 4});
  expectNear(outputCosine(layer), {1, 0.5, 0.5, 1});
  expectNear(outputCosine(layer, {1, 0}), {1, 0.25, 0.25, 1});
  set(layer, stat::gatedOutputSum, {3, 0, 1, 0, 0, 4, 2, 0}); // sums (3, 4) and (3, 0)
  expectNear(gatedOutputCosine(layer), {1, 0.6, 0.6, 1});
}

TEST(Derived, DistancesOfLabels) {
  Profile profile = plainProfile({"a", "b", "c"}, 2, 2, 1, 0);
  set(profile.layers[0], stat::count, {1, 3, 3, 1, 0, 0});
  set(profile.layers[1], stat::count, {1, 0, 0, 5, 1, 1});
  expectNear(labelDistances(profile.layers[0]), {0, 0.5, kNaN, 0.5, 0, kNaN, kNaN, kNaN, kNaN});
  expectNear(labelDistances(profile), {0, 0.75, 0.5, 0.75, 0, 0.5, 0.5, 0.5, 0});
}

TEST(Derived, SuperExperts) {
  Profile profile = plainProfile({"a", "b"}, 4, 2, 1, 0);
  set(profile.layers[0], stat::outputMax, {1, 2, 2, 1});
  set(profile.layers[1], stat::outputMax, {1, 90, 3, kNothing});
  set(profile.layers[2], stat::outputMax, {kNothing, 4, kNothing, 80});
  set(profile.layers[3], stat::outputMax, {1, 100, 1, 1});
  EXPECT_TRUE(superExperts(profile).empty()); // the 99.5 % lie between 90 and 100
  SuperExpertRule rule;
  rule.quantile = 0.5; // of 1 2 2 3 80 90 100: 3
  auto found = superExperts(profile, {}, rule);
  ASSERT_EQ(found.size(), 2u); // the last layer is too deep
  EXPECT_EQ(found[0].layer, 1);
  EXPECT_EQ(found[0].expert, 1);
  EXPECT_EQ(found[0].outputMax, 90);
  EXPECT_EQ(found[1].layer, 2);
  EXPECT_EQ(superExperts(profile, {0, 1}, rule).size(), 1u);
  rule.part = 0.85; // of 100
  EXPECT_EQ(superExperts(profile, {}, rule).size(), 1u);
}

TEST(Derived, FindsPlantedSuperExpert) {
  Profile profile = plainProfile({"a"}, 8, 64, 2, 0);
  for (LayerProfile &layer : profile.layers)
    set(layer, stat::outputMax, Values(64, 1));
  profile.layers[2].statistics["output_max"].values[17] = 1000;
  profile.layers[7].statistics["output_max"].values[3] = 900; // in the last quarter
  auto found = superExperts(profile);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].layer, 2);
  EXPECT_EQ(found[0].expert, 17);
}

TEST(Derived, Warns) {
  Profile profile = plainProfile({"a"}, 5, 8, 1, 0);
  set(profile.layers[0], stat::count, Values(8, 0));
  set(profile.layers[1], stat::count, Values(8, 10));
  set(profile.layers[2], stat::count, {0, 0, 1, 1, 1, 1, 96, 0});
  set(profile.layers[3], stat::count, {4, 3, 3, 3, 3, 3, 3, 3});
  set(profile.layers[4], stat::sampled, {2});
  Values cosine(64, 1);
  cosine[1] = cosine[8] = 1.99; // experts 0 and 1
  set(profile.layers[4], stat::outputCosine, cosine);
  auto found = profileWarnings(profile);
  std::vector<std::pair<WarningKind, int64_t>> got;
  for (const ProfileWarning &warning : found)
    got.push_back({warning.kind, warning.layer});
  EXPECT_EQ(got, (std::vector<std::pair<WarningKind, int64_t>>{{WarningKind::noTokens, 0},
                                                               {WarningKind::never, 2},
                                                               {WarningKind::dominant, 2},
                                                               {WarningKind::unbalanced, 2},
                                                               {WarningKind::nearlyEqual, 4}}));
  ASSERT_EQ(found.size(), 5u);
  EXPECT_EQ(found[1].text, "layer2: 3 of 8 experts were never chosen: 0, 1, 7");
  EXPECT_EQ(found[2].text, "layer2: expert 6 is chosen by 96 % of the tokens, 7.7 times the mean");
  EXPECT_EQ(found[4].experts, (std::vector<int64_t>{0, 1}));
}

} // namespace
