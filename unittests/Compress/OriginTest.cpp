// moe.origin: which expert of the profiled model each expert is, after one pass and after several.
#include "RepairLayer.h"

#include "../../lib/Transforms/Compress/RepairSamples.h"
#include "RouterGraph.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "gtest/gtest.h"

#include <mutex>

using namespace moec;
using namespace moec::compress;
using namespace moec::test;

namespace {

using Ids = std::vector<int64_t>;

void registerOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    registerKeepExperts();
    registerMergeExperts();
    registerPruneExperts();
  });
}

Ids originIn(mlir::ModuleOp module) {
  moe::BankOp bank = moe::collectRoutedLayers(module)[0].bank;
  auto note = bank->getAttrOfType<mlir::DenseI64ArrayAttr>(kOrigin);
  return note ? Ids(note.asArrayRef()) : Ids();
}

double errorOf(const Rows &got, const Rows &want) {
  return std::sqrt(squares(got - want, 0, got.rows()) / squares(want, 0, want.rows()));
}

// The picks by the original logits and the note are those of the router as it is.
void expectSamePicks(TestLayer &layer, const Rows &x, const Rows &logits) {
  auto layers = moe::collectRoutedLayers(*layer.module);
  WeightEvaluator weights(*layer.module, layer.folder.path.string());
  LayerSamples samples;
  samples.x = x;
  auto byWeights = picksOf(layers[0], samples, weights);
  auto byOrigin = routeAgain(layers[0], logits, weights);
  ASSERT_TRUE(byWeights && byOrigin);
  EXPECT_EQ(byOrigin->ids, byWeights->ids);
}

TEST(Origin, ComposesOverPasses) {
  registerOnce();
  LayerOptions options;
  options.experts = 8;
  TestLayer layer(41, options);
  std::mt19937 random(41);
  Rows x = randomRows(random, 60, options.hidden), logits = layer.logits(x);
  EXPECT_EQ(originIn(*layer.module), Ids());
  auto keep = [&](const std::string &ids) {
    layer.folder.write("keep.json", R"({"layers": {"bank": {"keep": [)" + ids + "]}}}");
    return layer.passes("keep-experts{masks=" + layer.folder.file("keep.json") + "}");
  };
  ASSERT_TRUE(keep("0, 2, 3, 5, 6, 7"));
  EXPECT_EQ(originIn(*layer.module), (Ids{0, 2, 3, 5, 6, 7}));
  ASSERT_TRUE(keep("1, 2, 3, 4, 5"));
  EXPECT_EQ(originIn(*layer.module), (Ids{2, 3, 5, 6, 7}));
  expectSamePicks(layer, x, logits);
  // A merge that drops router columns leaves those of the groups' first members.
  ASSERT_TRUE(layer.passes("merge-experts{groups=bank=3,1 weights=uniform router=drop preset=hc-smoe "
                           "folder=" + layer.folder.path.string() + "}"));
  EXPECT_EQ(originIn(*layer.module), (Ids{2, 5, 6, 7}));
  expectSamePicks(layer, x, logits);
  // One that keeps them leaves the ids, too.
  ASSERT_TRUE(layer.passes("merge-experts{groups=bank=0,2 weights=uniform router=alias "
                           "preset=hc-smoe folder=" + layer.folder.path.string() + "}"));
  EXPECT_EQ(originIn(*layer.module), (Ids{2, 5, 6, 7}));
  expectSamePicks(layer, x, logits);
}

// A layer of eight experts and its profile, by which those of lower ids matter less.
struct Measured {
  TestLayer layer{47, options()};
  std::string path = layer.folder.file("p.moep"), folder = layer.folder.path.string();
  Rows x;

  static LayerOptions options() {
    registerOnce();
    LayerOptions options;
    options.experts = 8;
    return options;
  }
  Measured() {
    std::mt19937 random(47);
    x = randomRows(random, 300, 5);
    Rows logits = layer.logits(x);
    WeightEvaluator weights(*layer.module, folder);
    auto picks = routeAgain(moe::collectRoutedLayers(*layer.module)[0], logits, weights);
    EXPECT_TRUE(!!picks);
    Profile profile = profileOf(x, logits, layer.run(x), *picks);
    std::vector<double> counts, gram;
    for (int64_t i = 0; i < 16; ++i)
      counts.push_back(double(1 + i % 8));
    for (int64_t i = 0; i < 128; ++i)
      gram.push_back(i / 8 % 8 == i % 8 ? 9 : double((i / 8 % 8 + i % 8) % 5));
    auto &statistics = profile.layers[0].statistics;
    statistics["tokens"] = {MergeRule::sum, {}, {150, 150}};
    statistics["count"] = {MergeRule::sum, {8}, counts};
    statistics["gate_sum"] = {MergeRule::sum, {8}, counts};
    statistics["logit_gram"] = {MergeRule::sum, {8, 8}, gram};
    EXPECT_EQ(llvm::toString(writeProfile(profile, path)), "");
  }
  bool pass(const std::string &name, const std::string &options) {
    return layer.passes(name + "{profile=" + path + " folder=" + folder + " " + options + "}");
  }
  std::string last() const { return layer.said.empty() ? "" : layer.said.back(); }
};

// The profile of the original serves passes after each other: they read what it says of the experts
// that are left.
TEST(Origin, OneProfileServesSeveralPasses) {
  Measured twice, once;
  ASSERT_TRUE(twice.pass("prune-experts", "criterion=frequency drop=2")) << twice.last();
  ASSERT_TRUE(twice.pass("prune-experts", "criterion=frequency drop=1")) << twice.last();
  ASSERT_TRUE(once.pass("prune-experts", "criterion=frequency drop=3")) << once.last();
  EXPECT_EQ(originIn(*twice.layer.module), (Ids{3, 4, 5, 6, 7}));
  EXPECT_EQ(originIn(*once.layer.module), (Ids{3, 4, 5, 6, 7}));
  EXPECT_LT(errorOf(twice.layer.run(twice.x), once.layer.run(once.x)), 1e-6);
  ASSERT_TRUE(twice.pass("merge-experts", "preset=m-smoe drop=2")) << twice.last();
  EXPECT_EQ(moe::collectRoutedLayers(*twice.layer.module)[0].bank.getNumSlabs(), 3);
}

TEST(Origin, ReconstructionAfterPruning) {
  Measured pruned;
  ASSERT_TRUE(pruned.pass("prune-experts", "criterion=frequency drop=2")) << pruned.last();
  ASSERT_TRUE(pruned.pass("prune-experts", "criterion=reconstruction drop=1")) << pruned.last();
  Ids origin = originIn(*pruned.layer.module);
  ASSERT_EQ(origin.size(), 5u);
  EXPECT_GE(origin.front(), 2);
  // No other choice of one expert does better on these tokens.
  Measured original;
  Rows target = original.layer.run(original.x);
  double chosen = errorOf(pruned.layer.run(pruned.x), target);
  for (int64_t gone = 2; gone < 8; ++gone) {
    Measured other;
    std::vector<int64_t> keep;
    for (int64_t e = 2; e < 8; ++e)
      if (e != gone)
        keep.push_back(e);
    auto layers = moe::collectRoutedLayers(*other.layer.module);
    ASSERT_TRUE(mlir::succeeded(keepExperts(layers[0], keep)));
    cleanUp(*other.layer.module);
    EXPECT_LE(chosen, errorOf(other.layer.run(other.x), target) + 1e-5) << gone;
  }
}

// Masked experts keep their ids, but a router whose choice cannot be computed again does not choose
// as it did in the profile.
TEST(Origin, MaskedRoutersChooseAnew) {
  mlir::MLIRContext context;
  RouterOptions options;
  auto module = parse(routerModule(3, options), context);
  ASSERT_TRUE(!!module);
  ASSERT_TRUE(run(*module, "raise-moe"));
  auto layers = moe::collectRoutedLayers(*module);
  ASSERT_EQ(layers.size(), 1u);
  ASSERT_TRUE(llvm::isa<moe::SelectOp>(layers[0].router));
  int64_t experts = layers[0].bank.getExperts();
  Ids keep, all;
  for (int64_t e = 0; e < experts; ++e) {
    all.push_back(e);
    if (e != 1)
      keep.push_back(e);
  }
  LayerSamples samples;
  samples.x = Rows::Zero(1, options.hidden);
  samples.logits = Rows::Zero(1, experts);
  samples.original = {1, {1}, {1.0f}};
  WeightEvaluator weights(*module, ".");
  EXPECT_TRUE(!!picksOf(layers[0], samples, weights));
  ASSERT_TRUE(mlir::succeeded(keepExperts(layers[0], keep, /*mask=*/true)));
  cleanUp(*module);
  EXPECT_EQ(originIn(*module), all);
  WeightEvaluator now(*module, ".");
  auto picks = picksOf(moe::collectRoutedLayers(*module)[0], samples, now);
  ASSERT_FALSE(!!picks);
  EXPECT_NE(llvm::toString(picks.takeError()).find("current-profile"), std::string::npos);
}

// Multiplies a column of the router, at the start of the file.
void scaleColumn(TestLayer &layer, int64_t expert, float factor) {
  std::ifstream in(layer.folder.file("w.bin"), std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  for (int64_t h = 0; h < layer.options.hidden; ++h) {
    char *at = bytes.data() + 4 * (h * layer.options.experts + expert);
    float value;
    std::memcpy(&value, at, 4);
    value *= factor;
    std::memcpy(at, &value, 4);
  }
  layer.folder.write("w.bin", bytes);
}

// Expert 5 gives what expert 0 gives, which is seldom chosen. Once expert 5 is dropped, its tokens go
// to expert 0 when the router is refitted with their logits joined, and to others without.
TEST(Origin, RoutersAreRefittedAfterPruning) {
  registerOnce();
  LayerOptions options;
  options.slabs = {0, 1, 2, 3, 4, 0};
  TestLayer layer(43, options);
  scaleColumn(layer, 0, 0.1f);
  scaleColumn(layer, 5, 3);
  std::string path = layer.folder.file("p.moep"), folder = layer.folder.path.string();
  std::mt19937 random(43);
  Rows x = randomRows(random, 800, options.hidden), logits = layer.logits(x);
  WeightEvaluator weights(*layer.module, folder);
  auto picks = routeAgain(moe::collectRoutedLayers(*layer.module)[0], logits, weights);
  ASSERT_TRUE(!!picks);
  Profile profile = profileOf(x, logits, layer.run(x), *picks);
  std::vector<double> counts(12, 10), cosine(72, 0);
  counts[5] = counts[11] = 1;
  for (int64_t label = 0; label < 2; ++label)
    for (int64_t e = 0; e < 6; ++e)
      for (int64_t f : {e, e == 0 ? int64_t(5) : e == 5 ? int64_t(0) : e})
        cosine[size_t(label * 36 + e * 6 + f)] = 400;
  profile.layers[0].statistics["tokens"] = {MergeRule::sum, {}, {400, 400}};
  profile.layers[0].statistics["count"] = {MergeRule::sum, {6}, counts};
  profile.layers[0].statistics["output_cosine"] = {MergeRule::sum, {6, 6}, cosine};
  ASSERT_EQ(llvm::toString(writeProfile(profile, path)), "");
  Rows fresh = randomRows(random, 400, options.hidden), want = layer.run(fresh);
  std::string from = "profile=" + path + " folder=" + folder;
  ASSERT_TRUE(layer.passes("prune-experts{" + from + " criterion=frequency drop=1}"));
  ASSERT_EQ(originIn(*layer.module), (Ids{0, 1, 2, 3, 4}));
  double before = errorOf(layer.run(fresh), want);
  std::string text = layer.text();
  ASSERT_TRUE(layer.passes("refit-router{" + from + "}"));
  EXPECT_EQ(layer.text(), text);
  EXPECT_NE(layer.said.back().find("left: its router gets what it got before"), std::string::npos)
      << layer.said.back();
  ASSERT_TRUE(layer.passes("refit-router{" + from + " map-dropped=true}"));
  double after = errorOf(layer.run(fresh), want);
  EXPECT_GT(before, 0.3);
  EXPECT_LT(after, 0.9 * before) << layer.said.back();
}

} // namespace
