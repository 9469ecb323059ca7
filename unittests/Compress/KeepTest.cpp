// keepExperts: the model without some experts equals the model with their logits at -infinity.
#include "RouterGraph.h"

#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "mlir/IR/Verifier.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <numeric>

using namespace moec;
using namespace moec::test;

namespace {

constexpr unsigned kSeed = 20260701;

std::vector<int64_t> randomKeep(std::mt19937 &random, int64_t experts, int64_t count) {
  std::vector<int64_t> ids(experts);
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), random);
  ids.resize(count);
  std::sort(ids.begin(), ids.end());
  return ids;
}

// Differences of the model with fewer experts from the masked one, and what became of it.
struct Outcome {
  double worst = 0;
  int64_t experts = 0, slabs = 0;
};

Outcome compare(unsigned seed, const RouterOptions &o, const std::vector<int64_t> &keep,
                const std::string &pipeline, bool mask) {
  mlir::MLIRContext context;
  auto masked = parse(routerModule(seed, o, keep), context);
  auto model = parse(routerModule(seed, o), context);
  if (!masked || !model)
    return {INFINITY, 0, 0};
  EXPECT_TRUE(run(*model, pipeline));
  auto layers = moe::collectRoutedLayers(*model);
  if (layers.size() != 1)
    return {INFINITY, 0, 0};
  EXPECT_TRUE(mlir::succeeded(keepExperts(layers[0], keep, mask)));
  cleanUp(*model);
  EXPECT_TRUE(mlir::succeeded(mlir::verify(*model)));
  std::mt19937 random(seed);
  std::vector<reference::Array> inputs{randomArray({9, o.hidden}, random)};
  auto bank = layers[0].bank;
  return {difference(evaluate(*masked, inputs), evaluate(*model, inputs)),
          static_cast<int64_t>(bank.getExperts()), bank.getNumSlabs()};
}

TEST(KeepExperts, EqualsMaskedLogits) {
  std::mt19937 random(kSeed);
  for (int logits = 0; logits < kLogits; ++logits)
    for (int formula = 0; formula < kFormulas; ++formula)
      for (bool fuse : {false, true}) {
        RouterOptions o{logits, formula};
        o.experts = 2 * std::uniform_int_distribution<int64_t>(2, 5)(random);
        o.k = std::uniform_int_distribution<int64_t>(1, 2)(random);
        unsigned seed = random();
        auto keep = randomKeep(random, o.experts, o.k + 1);
        if (isGrouped(formula)) { // the same experts of both groups
          keep = randomKeep(random, o.experts / 2, std::min(o.k, o.experts / 2));
          for (size_t i = 0, n = keep.size(); i < n; ++i)
            keep.push_back(keep[i] + o.experts / 2);
        }
        Outcome out = compare(seed, o, keep, fuse ? "fuse-gating" : "cse", false);
        EXPECT_LT(out.worst, 2e-5) << "logits " << logits << ", formula " << formula << ", fused "
                                   << fuse << ", experts " << o.experts << ", k " << o.k
                                   << ", seed " << seed << " of " << kSeed;
        EXPECT_EQ(out.experts, int64_t(keep.size()));
        EXPECT_EQ(out.slabs, int64_t(keep.size()));
      }
}

TEST(KeepExperts, MaskKeepsIds) {
  std::mt19937 random(kSeed + 1);
  for (int logits = 0; logits < kLogits; ++logits)
    for (int formula = 0; formula < kFormulas; ++formula)
      for (bool fuse : {false, true}) {
        if (isGrouped(formula) && !fuse)
          continue; // chosen weights would be those of other experts
        RouterOptions o{logits, formula};
        unsigned seed = random();
        auto keep = randomKeep(random, o.experts, 5);
        Outcome out = compare(seed, o, keep, fuse ? "fuse-gating" : "cse", true);
        EXPECT_LT(out.worst, 2e-5) << "logits " << logits << ", formula " << formula << ", fused "
                                   << fuse << ", seed " << seed << " of " << kSeed + 1;
        EXPECT_EQ(out.experts, o.experts);
        EXPECT_EQ(out.slabs, int64_t(keep.size()));
      }
}

// Slots that may stay empty are no reason to keep an expert for each.
TEST(KeepExperts, FewerExpertsThanBoundedSlots) {
  std::mt19937 random(kSeed + 2);
  for (int logits = 0; logits < kLogits; ++logits)
    for (int formula : {5, 6}) { // top-p, threshold
      RouterOptions o{logits, formula};
      o.k = o.experts;
      unsigned seed = random();
      auto keep = randomKeep(random, o.experts, 5);
      Outcome out = compare(seed, o, keep, "fuse-gating", false);
      EXPECT_LT(out.worst, 2e-5) << "logits " << logits << ", formula " << formula << ", seed "
                                 << seed << " of " << kSeed + 2;
      EXPECT_EQ(out.slabs, 5);
    }
}

} // namespace
