// What a profile says of some of its experts.
#include "moec/Analysis/Statistics.h"

#include <gtest/gtest.h>

using namespace moec;

TEST(SelectExperts, GathersWhatIsSaidOfExperts) {
  Profile profile;
  profile.labels = {"a", "b"};
  LayerProfile layer;
  layer.name = "layer0";
  layer.experts = 4, layer.k = 2, layer.hidden = 1;
  auto add = [&](llvm::StringRef name, std::vector<int64_t> shape, std::vector<double> values) {
    layer.statistics[name.str()] = {MergeRule::sum, std::move(shape), std::move(values)};
  };
  add("tokens", {}, {10, 20});
  add("count", {4}, {0, 1, 2, 3, 4, 5, 6, 7});
  std::vector<double> pairs, ranks;
  for (int64_t i = 0; i < 32; ++i)
    pairs.push_back(double(i / 16 * 1000 + i / 4 % 4 * 10 + i % 4)); // label, row, column
  for (int64_t i = 0; i < 16; ++i)
    ranks.push_back(double(i / 8 * 10 + i / 2 % 4)); // label, expert
  add("logit_gram", {4, 4}, pairs);
  add("rank_count", {4, 2}, ranks);
  add("of_another_tool", {3}, {1, 2, 3, 4, 5, 6});
  Reservoir &kept = layer.reservoir;
  kept.capacity = 2;
  kept.key = {1, 2};
  kept.label = {0, 1};
  kept.x = {1, 2}, kept.y = {3, 4};
  kept.logits = {0, 1, 2, 3, 10, 11, 12, 13};
  kept.ids = {3, 0, 2, -1};
  kept.weights = {0.5, 0.5, 1, 0};

  LayerProfile out = selectExperts(layer, {3, 1});
  EXPECT_EQ(out.experts, 2);
  EXPECT_EQ(out.k, 2);
  EXPECT_EQ(out.statistics["tokens"].values, (std::vector<double>{10, 20}));
  EXPECT_EQ(out.statistics["count"].values, (std::vector<double>{3, 1, 7, 5}));
  EXPECT_EQ(out.statistics["logit_gram"].values,
            (std::vector<double>{33, 31, 13, 11, 1033, 1031, 1013, 1011}));
  EXPECT_EQ(out.statistics["rank_count"].values, (std::vector<double>{3, 3, 1, 1, 13, 13, 11, 11}));
  EXPECT_FALSE(out.find("of_another_tool")) << "nobody knows which axis is that of experts";
  EXPECT_EQ(out.reservoir.logits, (std::vector<float>{3, 1, 13, 11}));
  EXPECT_EQ(out.reservoir.ids, (std::vector<int32_t>{0, -1, -1, -1}));
  EXPECT_EQ(out.reservoir.y, kept.y);
  profile.layers.push_back(out);
  EXPECT_EQ(llvm::toString(checkProfile(profile)), "");
}
