// The criterion reconstruction against the layer itself, computed with each set of experts.
#include "../../lib/Transforms/Compress/Reconstruction.h"
#include "RepairLayer.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Transforms/Compress/Prune.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "gtest/gtest.h"

#include <numeric>

using namespace moec;
using namespace moec::compress;
using namespace moec::test;

namespace {

constexpr unsigned kSeed = 20260802;

// What the layer gives when only `keep` are left, by the interpreter.
Rows withOnly(unsigned seed, const LayerOptions &options, const std::vector<int64_t> &keep,
              const Rows &x) {
  TestLayer layer(seed, options);
  auto layers = moe::collectRoutedLayers(*layer.module);
  EXPECT_TRUE(mlir::succeeded(keepExperts(layers[0], keep)));
  cleanUp(*layer.module);
  return layer.run(x);
}

Profile profileOfLayer(TestLayer &layer, const Rows &x) {
  WeightEvaluator weights(*layer.module, layer.folder.path.string());
  auto layers = moe::collectRoutedLayers(*layer.module);
  auto picks = routeAgain(layers[0], layer.logits(x), weights);
  EXPECT_TRUE(bool(picks));
  return profileOf(x, layer.logits(x), layer.run(x), *picks);
}

std::vector<LayerOptions> layers() {
  std::vector<LayerOptions> all(7);
  all[1].router = "score = sigmoid, k = 2, renorm = sum";
  all[1].routerBias = true; // which would bring experts back whose score is 0
  all[2].router = "score = identity, k = 3, renorm = softmax";
  all[3].router = "score = softmax, k = 2";
  all[3].biases = true;
  all[4].slabs = {0, 1, 1, 2, -1, 3};
  all[4].storage = {"dense", "dense", "dense", "dense", "identity", "dense"};
  all[5].router = "score = sigmoid, k = 1, renorm = none, scale = 2.5";
  all[6].router = "score = sigmoid, k = 2, groups = 2, group_k = 1, group_score = top2";
  return all;
}

TEST(Reconstruction, EachStepIsTheBestOfAll) {
  unsigned seed = kSeed;
  for (const LayerOptions &options : layers()) {
    TestLayer layer(++seed, options);
    std::mt19937 random(seed);
    Rows x = randomRows(random, 40, options.hidden), y = layer.run(x);
    Profile profile = profileOfLayer(layer, x);
    auto routed = moe::collectRoutedLayers(*layer.module)[0];
    std::vector<int64_t> droppable{0, 1, 2, 3, 5}, left{0, 1, 2, 3, 4, 5};
    RepairSource source;
    source.folder = layer.folder.path.string();
    auto drops = dropByReconstruction(routed, profile, source, droppable, 3);
    ASSERT_TRUE(bool(drops)) << llvm::toString(drops.takeError());
    ASSERT_EQ(drops->order.size(), 3u);
    double all = squares(y, 0, y.rows()), before = 0;
    for (size_t step = 0; step < 3; ++step) {
      double least = -1, taken = 0;
      for (int64_t gone : droppable) {
        if (!llvm::is_contained(left, gone))
          continue;
        std::vector<int64_t> fewer = left;
        llvm::erase(fewer, gone);
        double error = squares(withOnly(seed, options, fewer, x) - y, 0, y.rows());
        if (gone == drops->order[step])
          taken = error;
        least = least < 0 ? error : std::min(least, error);
      }
      EXPECT_NEAR(taken, least, 1e-4 * all) << "step " << step << " of seed " << seed;
      EXPECT_NEAR(drops->rise[step], (taken - before) / all, 1e-4) << "seed " << seed;
      before = taken;
      llvm::erase(left, drops->order[step]);
    }
  }
}

TEST(Reconstruction, APlanOfIt) {
  LayerOptions options;
  TestLayer layer(kSeed, options);
  std::mt19937 random(kSeed);
  Rows x = randomRows(random, 60, options.hidden), y = layer.run(x);
  Profile profile = profileOfLayer(layer, x);
  auto bank = moe::collectRoutedLayers(*layer.module)[0].bank;
  bank->setAttr("moe.protected", mlir::DenseI64ArrayAttr::get(&layer.context, {0, 2}));
  PruneOptions prune;
  prune.saliency.criterion = "reconstruction";
  prune.folder = layer.folder.path.string();
  for (size_t count : {3, 2, 1}) {
    prune.drop = std::to_string(count);
    auto plan = planDrops(*layer.module, profile, prune);
    ASSERT_TRUE(bool(plan)) << llvm::toString(plan.takeError());
    std::vector<int64_t> gone = plan->front().drop, keep;
    ASSERT_EQ(gone.size(), count);
    for (int64_t e = 0; e < 6; ++e)
      if (!llvm::is_contained(gone, e))
        keep.push_back(e);
    EXPECT_TRUE(llvm::is_contained(keep, 0) && llvm::is_contained(keep, 2));
    double error = squares(withOnly(kSeed, options, keep, x) - y, 0, 60) / squares(y, 0, 60);
    EXPECT_NEAR(plan->front().retained, std::max(0.0, 1 - error), 1e-3) << count << " dropped";
  }
  prune.tokens = 7;
  EXPECT_TRUE(bool(planDrops(*layer.module, profile, prune)));
  prune.saliency.labelWeights = {0, 0.25};
  EXPECT_TRUE(bool(planDrops(*layer.module, profile, prune)));
  prune.drop = "5";
  EXPECT_NE(llvm::toString(planDrops(*layer.module, profile, prune).takeError()).find("4 may go"),
            std::string::npos);
  prune.replace = "zero";
  EXPECT_NE(llvm::toString(planDrops(*layer.module, profile, prune).takeError()).find("anew"),
            std::string::npos);
}

TEST(Reconstruction, LessMemoryIsFewerTokens) {
  LayerOptions options;
  TestLayer layer(kSeed, options);
  std::mt19937 random(kSeed);
  Rows x = randomRows(random, 100, options.hidden);
  Profile profile = profileOfLayer(layer, x);
  auto routed = moe::collectRoutedLayers(*layer.module)[0];
  RepairSource few, all;
  few.folder = all.folder = layer.folder.path.string();
  few.tokens = 10;
  int64_t outputs = options.experts * options.hidden * 4;
  std::vector<int64_t> ids{0, 1, 2, 3, 4, 5};
  auto by = [&](const RepairSource &source, int64_t memory) {
    return llvm::cantFail(dropByReconstruction(routed, profile, source, ids, 4, memory)).rise;
  };
  EXPECT_EQ(by(few, 1 << 20), by(all, 10 * outputs));
  EXPECT_NE(by(few, 1 << 20), by(all, 1 << 20));
}

TEST(Reconstruction, TokensHaveToBeKept) {
  LayerOptions options;
  TestLayer layer(kSeed, options);
  std::mt19937 random(kSeed);
  Profile profile = profileOfLayer(layer, randomRows(random, 10, options.hidden));
  profile.layers[0].reservoir = {};
  PruneOptions prune;
  prune.saliency.criterion = "reconstruction";
  prune.drop = "1";
  EXPECT_EQ(llvm::toString(planDrops(*layer.module, profile, prune).takeError()),
            "layer 'bank': the profile keeps no tokens of it; profile with tokens kept");
}

} // namespace
