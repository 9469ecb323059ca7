// The cosine of a layer's output with the original's: 1 of the original, and what the interpreter
// says of compressed forms.
#include "RepairLayer.h"

#include "../../lib/Transforms/Compress/RepairSamples.h"
#include "moec/Transforms/Compress/LayerCosine.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "gtest/gtest.h"

using namespace moec;
using namespace moec::compress;
using namespace moec::test;

namespace {

// Tokens of a layer, kept in a profile; every tenth one is held out of repairs.
struct Case {
  explicit Case(unsigned seed, const LayerOptions &options = {}) : layer(seed, options) {
    std::mt19937 random(seed);
    x = randomRows(random, 600, options.hidden);
    y = layer.run(x);
    WeightEvaluator weights(*layer.module, folder());
    auto picks = routeAgain(moe::collectRoutedLayers(*layer.module)[0], layer.logits(x), weights);
    EXPECT_TRUE(!!picks) << llvm::toString(picks.takeError());
    EXPECT_EQ(llvm::toString(writeProfile(profileOf(x, layer.logits(x), y, *picks), path)), "");
  }
  std::string folder() const { return layer.folder.path.string(); }
  double cosine(int64_t tokens = 1024) {
    auto cosines = layerCosines(*layer.module, path, folder(), tokens);
    EXPECT_TRUE(!!cosines) << llvm::toString(cosines.takeError());
    return cosines && cosines->size() == 1 ? cosines->front() : -2;
  }
  // By the interpreter, of the tokens held out.
  double byInterpreter() {
    Rows now = layer.run(x);
    double sum = 0;
    for (int64_t i = 9; i < x.rows(); i += 10)
      sum += double(now.row(i).dot(y.row(i))) / (now.row(i).norm() * y.row(i).norm());
    return sum / 60;
  }
  void keep(std::vector<int64_t> ids, bool mask = false) {
    auto layers = moe::collectRoutedLayers(*layer.module);
    ASSERT_TRUE(mlir::succeeded(keepExperts(layers[0], ids, mask)));
    cleanUp(*layer.module);
  }

  TestLayer layer;
  std::string path = layer.folder.file("p.moep");
  Rows x, y;
};

TEST(LayerCosine, OfTheOriginalIsOne) {
  LayerOptions half, wide;
  half.half = true;
  half.routerBias = true;
  wide.router = "score = sigmoid, k = 3, renorm = sum, scale = 2.0";
  for (const LayerOptions &options : {LayerOptions(), half, wide})
    EXPECT_NEAR(Case(5, options).cosine(), 1, 1e-6);
}

TEST(LayerCosine, OfCompressedLayersIsTheInterpreters) {
  for (bool mask : {false, true}) {
    Case c(7);
    c.keep({0, 2, 3, 5}, mask);
    double before = c.cosine();
    EXPECT_NEAR(before, c.byInterpreter(), 1e-5);
    EXPECT_LT(before, 0.95);
    EXPECT_GT(before, 0);
    ASSERT_TRUE(c.layer.passes("repair-down{profile=" + c.path + " folder=" + c.folder() + "}"));
    double after = c.cosine();
    EXPECT_NEAR(after, c.byInterpreter(), 1e-5);
    EXPECT_GT(after, before + 0.01);
    EXPECT_NE(c.cosine(10), after) << "of fewer tokens";
  }
}

TEST(LayerCosine, IsNotKnown) {
  Case c(9);
  c.keep({0, 1, 2});
  ASSERT_TRUE(c.layer.passes("repair-bias{profile=" + c.path + " folder=" + c.folder() + "}"));
  EXPECT_TRUE(std::isnan(c.cosine())) << "the output is corrected behind the layer";
  Profile bare;
  bare.labels = {"a"};
  ASSERT_EQ(llvm::toString(writeProfile(bare, c.path)), "");
  EXPECT_TRUE(std::isnan(c.cosine()));
  auto none = layerCosines(*c.layer.module, "none.moep", c.folder());
  EXPECT_FALSE(!!none);
  llvm::consumeError(none.takeError());
}

} // namespace
