// Repairs: what experts compute equals the interpreter, and planted faults are found and mended.
#include "RepairLayer.h"
#include "../../lib/Transforms/Compress/RepairSamples.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "gtest/gtest.h"

using namespace moec;
using namespace moec::compress;
using namespace moec::test;

namespace {

double relativeError(const Rows &got, const Rows &want) {
  return std::sqrt(squares(got - want, 0, got.rows()) / squares(want, 0, want.rows()));
}

// The layer by ExpertMath.
Rows applied(TestLayer &layer, const Rows &x, Picks *chosen = nullptr) {
  WeightEvaluator weights(*layer.module, layer.folder.path.string());
  auto layers = moe::collectRoutedLayers(*layer.module);
  EXPECT_EQ(layers.size(), 1u);
  auto picks = routeAgain(layers[0], layer.logits(x), weights);
  auto bank = FfnBank::create(layers[0].bank, weights);
  if (!picks || !bank) {
    ADD_FAILURE() << llvm::toString(picks.takeError()) << llvm::toString(bank.takeError());
    return x;
  }
  if (chosen)
    *chosen = *picks;
  auto y = applyLayer(*bank, x, *picks);
  EXPECT_TRUE(!!y) << llvm::toString(y.takeError());
  return *y;
}

// A profile file of what the layer does on random tokens; their x.
Rows profileTokens(TestLayer &layer, const std::string &path, unsigned seed, int64_t tokens,
                   const Rows *target = nullptr) {
  std::mt19937 random(seed);
  Rows x = randomRows(random, tokens, layer.options.hidden);
  Picks picks;
  Rows y = applied(layer, x, &picks);
  EXPECT_EQ(llvm::toString(writeProfile(
                profileOf(x, layer.logits(x), target ? *target : y, picks), path)),
            "");
  return x;
}

bool saidAnywhere(const TestLayer &layer, const std::string &text) {
  for (const std::string &line : layer.said)
    if (line.find(text) != std::string::npos)
      return true;
  return false;
}

std::string all(const TestLayer &layer) {
  std::string text;
  for (const std::string &line : layer.said)
    text += line + "\n";
  return text;
}

TEST(ExpertMath, EqualsTheInterpreter) {
  std::vector<LayerOptions> cases;
  for (const char *activation : {"identity", "relu", "relu2", "silu", "gelu", "gelu_tanh", "tanh",
                                 "sigmoid"})
    for (const char *gated : {"true", "false"}) {
      LayerOptions o;
      o.body = std::string("gated = ") + gated + ", activation = \"" + activation + "\"";
      o.biases = cases.size() % 3 == 0;
      cases.push_back(o);
    }
  LayerOptions o;
  o.body = "gated = true, activation = \"swish\", alpha = 1.702, limit = 0.5, up_offset = 1.0";
  o.biases = true;
  cases.push_back(o);
  o.body = "gated = false, activation = \"swish\", alpha = 0.5";
  cases.push_back(o);
  o = LayerOptions();
  o.slabs = {0, 2, 0, -1, 1, -1};
  o.storage = {"dense", "dense", "dense", "zero", "dense", "identity"};
  o.widths = {4, 2, 4, 4, 1, 4};
  o.half = true;
  cases.push_back(o);
  o.slabs = {-1, 0, 1, -1, 2, 0};
  o.storage = {"constant", "dense", "dense", "constant", "dense", "dense"};
  cases.push_back(o);
  for (const char *router :
       {"score = sigmoid, k = 2, renorm = sum, epsilon = 1.0e-3, scale = 2.5",
        "score = softmax, k = 3", "score = identity, k = 2, renorm = softmax",
        "score = identity, k = 1, renorm = sigmoid",
        "score = sigmoid, k = 2, groups = 3, group_k = 2, group_score = top2, renorm = sum",
        "score = softmax, k = 2, groups = 2, group_k = 1, renorm = sum, minimum = 0.9"}) {
    LayerOptions r;
    r.router = router;
    r.routerBias = cases.size() % 2 == 0;
    cases.push_back(r);
  }
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE("seed " + std::to_string(i) + ": " + cases[i].body + " | " + cases[i].router);
    TestLayer layer(unsigned(i), cases[i]);
    std::mt19937 random{unsigned(i)};
    Rows x = randomRows(random, 40, cases[i].hidden);
    EXPECT_LT(relativeError(applied(layer, x), layer.run(x)), 1e-5);
  }
}

// After experts were dropped or masked, the router's weights say how tokens are routed, and so do
// the original logits.
TEST(ExpertMath, RoutesAgainWithoutDroppedExperts) {
  const std::vector<int64_t> keep = {0, 2, 3, 5};
  for (bool mask : {false, true})
    for (const char *router : {"score = softmax, k = 2, renorm = sum",
                               "score = sigmoid, k = 2, renorm = sum, scale = 2.0"}) {
      SCOPED_TRACE(std::string(router) + (mask ? " masked" : ""));
      LayerOptions options;
      options.router = router;
      options.routerBias = true;
      options.gemm = mask;
      TestLayer layer(31, options);
      std::mt19937 random(31);
      Rows x = randomRows(random, 50, options.hidden), logits = layer.logits(x);
      auto layers = moe::collectRoutedLayers(*layer.module);
      ASSERT_TRUE(mlir::succeeded(keepExperts(layers[0], keep, mask)));
      cleanUp(*layer.module);
      layers = moe::collectRoutedLayers(*layer.module);
      WeightEvaluator weights(*layer.module, layer.folder.path.string());
      LayerSamples samples;
      samples.x = x;
      auto byWeights = picksOf(layers[0], samples, weights);
      ASSERT_TRUE(!!byWeights) << llvm::toString(byWeights.takeError());
      if (!mask) {
        layers[0].bank->removeAttr(kOrigin);
        auto unknown = routeAgain(layers[0], logits, weights);
        ASSERT_FALSE(!!unknown);
        EXPECT_TRUE(llvm::StringRef(llvm::toString(unknown.takeError())).contains("moe.origin"));
        layers[0].bank->setAttr(kOrigin, mlir::Builder(&layer.context).getDenseI64ArrayAttr(keep));
      }
      auto picks = routeAgain(layers[0], logits, weights);
      ASSERT_TRUE(!!picks) << llvm::toString(picks.takeError());
      EXPECT_EQ(picks->ids, byWeights->ids);
      auto bank = FfnBank::create(layers[0].bank, weights);
      ASSERT_TRUE(!!bank) << llvm::toString(bank.takeError());
      auto y = applyLayer(*bank, x, *picks);
      ASSERT_TRUE(!!y) << llvm::toString(y.takeError());
      EXPECT_LT(relativeError(*y, layer.run(x)), 1e-5);
    }
}

// Disturbed down weights come back, in every form of bank and however the system is cut.
TEST(RepairDown, FindsThePlantedWeights) {
  LayerOptions aliased;
  aliased.slabs = {0, 1, 2, 0, 1, -1};
  aliased.storage = {"dense", "dense", "dense", "dense", "dense", "zero"};
  LayerOptions biased;
  biased.biases = true;
  LayerOptions half;
  half.half = true;
  struct Case {
    LayerOptions layer;
    std::string options;
    double bound;
  };
  for (const Case &c : {Case{{}, "ridge=1e-6", 1e-3}, {aliased, "ridge=1e-6", 1e-3},
                        {biased, "ridge=1e-6", 1e-3}, {half, "ridge=1e-6", 5e-3},
                        {half, "ridge=10,1e-5,1", 5e-3},
                        {{}, "ridge=1e-4 max-unknowns=9 sweeps=60", 1e-2},
                        {biased, "ridge=1e-4 max-unknowns=3 sweeps=60", 1e-2}}) {
    SCOPED_TRACE(c.options);
    TestLayer layer(3, c.layer);
    std::string path = layer.folder.file("p.moep");
    profileTokens(layer, path, 1, 1200);
    std::mt19937 random(2);
    Rows fresh = randomRows(random, 200, c.layer.hidden), want = layer.run(fresh);
    layer.disturbDown(0.3);
    ASSERT_GT(relativeError(layer.run(fresh), want), 0.2);
    ASSERT_TRUE(layer.passes("repair-down{profile=" + path + " folder=" +
                             layer.folder.path.string() + " " + c.options + "}"))
        << all(layer);
    EXPECT_TRUE(saidAnywhere(layer, "held out")) << all(layer);
    EXPECT_LT(relativeError(layer.run(fresh), want), c.bound) << all(layer);
    std::string element = c.layer.half ? "xf16>" : "xf32>";
    EXPECT_NE(layer.text().find("moe.weight.literal dense_resource<bank.down"), std::string::npos);
    EXPECT_NE(layer.text().find("> : tensor<" + std::to_string(c.layer.slabCount()) + "x5x4" +
                                element + "\n"),
              std::string::npos);
  }
}

TEST(RepairDown, AddsBiases) {
  TestLayer layer(5, {});
  std::string path = layer.folder.file("p.moep");
  std::mt19937 random(1);
  Rows x = randomRows(random, 600, 5);
  Rows target = applied(layer, x);
  target.rowwise() += Eigen::RowVectorXf::Constant(5, 2.0f);
  profileTokens(layer, path, 1, 600, &target);
  ASSERT_TRUE(layer.passes("repair-down{add-biases=true ridge=1e-6 profile=" + path + " folder=" +
                           layer.folder.path.string() + "}"));
  EXPECT_LT(relativeError(layer.run(x), target), 1e-3) << all(layer);
  EXPECT_NE(layer.text().find("down_bias("), std::string::npos);
}

// What the tokens to fit want is wrong for those held out: nothing changes, and the remark says so.
TEST(Repair, RefusesWhatDoesWorse) {
  for (const char *pass : {"repair-down", "repair-bias", "repair-linear"}) {
    TestLayer layer(7, {});
    std::string path = layer.folder.file("p.moep");
    std::mt19937 random(11);
    Rows x = randomRows(random, 60, 5);
    Rows target = applied(layer, x);
    for (int64_t i = 0; i < 60; ++i)
      target.row(i).array() += i % 2 ? -1.0f : 1.0f; // every second one is held out
    profileTokens(layer, path, 11, 60, &target);
    std::string before = layer.text();
    ASSERT_TRUE(layer.passes(std::string(pass) + "{hold-out=0.5 profile=" + path + " folder=" +
                             layer.folder.path.string() +
                             (pass == std::string("repair-bias") ? "}" : " ridge=1e-6}")));
    EXPECT_TRUE(saidAnywhere(layer, "left: ")) << all(layer);
    EXPECT_EQ(layer.text(), before) << pass;
  }
}

TEST(Repair, OutputCorrections) {
  for (const char *pass : {"repair-bias", "repair-linear"}) {
    SCOPED_TRACE(pass);
    TestLayer layer(9, {});
    std::string path = layer.folder.file("p.moep");
    std::mt19937 random(13);
    Rows x = randomRows(random, 500, 5), map = randomRows(random, 5, 5);
    Rows target = applied(layer, x);
    target.rowwise() += Eigen::RowVectorXf::Constant(5, 1.0f);
    bool linear = pass == std::string("repair-linear");
    if (linear)
      target += x * map;
    profileTokens(layer, path, 13, 500, &target);
    std::string options = "{profile=" + path + " folder=" + layer.folder.path.string() +
                          (linear ? " ridge=1,1e-6}" : "}");
    ASSERT_TRUE(layer.passes(pass + options));
    EXPECT_LT(relativeError(layer.run(x), target), 1e-3) << all(layer);
    // Once is enough.
    std::string before = layer.text();
    ASSERT_TRUE(layer.passes("repair-down" + options.substr(0, options.find(" ridge")) +
                             (linear ? "}" : "")));
    EXPECT_TRUE(saidAnywhere(layer, "corrected already")) << all(layer);
    EXPECT_EQ(layer.text(), before);
  }
}

// The experts' tokens were mapped by A since the profile was taken: A^-1 R chooses as before.
class RefitRouter : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Forms, RefitRouter, testing::Bool());

TEST_P(RefitRouter, FollowsWhatTheLayerGets) {
  LayerOptions options;
  options.gemm = GetParam();
  TestLayer layer(17, options);
  std::string path = layer.folder.file("p.moep"), now = layer.folder.file("now.moep");
  std::mt19937 random(19);
  Rows x = randomRows(random, 800, 5), map = Rows::Identity(5, 5) + 0.4f * randomRows(random, 5, 5);
  Picks picks, moved;
  applied(layer, x, &picks);
  Rows changed = x * map;
  applied(layer, changed, &moved);
  Rows logits = layer.logits(x);
  // What the experts would give if they were chosen as before.
  WeightEvaluator weights(*layer.module, layer.folder.path.string());
  auto bank = FfnBank::create(moe::collectRoutedLayers(*layer.module)[0].bank, weights);
  ASSERT_TRUE(!!bank);
  auto target = applyLayer(*bank, changed, picks);
  ASSERT_TRUE(!!target);
  ASSERT_EQ(llvm::toString(writeProfile(profileOf(x, logits, *target, picks), path)), "");
  // The current profile lacks some of the tokens and has others besides.
  Profile current = profileOf(changed, layer.logits(changed), layer.run(changed), moved);
  current.layers[0].reservoir.key[0] = 5000000;
  std::rotate(current.layers[0].reservoir.key.begin(),
              current.layers[0].reservoir.key.begin() + 1,
              current.layers[0].reservoir.key.begin() + 400);
  auto rotate = [&](std::vector<float> &values, int64_t n) {
    std::rotate(values.begin(), values.begin() + n, values.begin() + 400 * n);
  };
  Reservoir &kept = current.layers[0].reservoir;
  rotate(kept.x, 5);
  rotate(kept.logits, 6);
  rotate(kept.y, 5);
  rotate(kept.weights, 2);
  std::rotate(kept.ids.begin(), kept.ids.begin() + 2, kept.ids.begin() + 800);
  ASSERT_EQ(llvm::toString(writeProfile(current, now)), "");
  double before = relativeError(layer.run(changed), *target);
  ASSERT_TRUE(layer.passes("refit-router{ridge=1e-6 profile=" + path + " current-profile=" + now +
                           " folder=" + layer.folder.path.string() + "}"));
  EXPECT_TRUE(saidAnywhere(layer, "of 799 tokens")) << all(layer);
  EXPECT_GT(before, 0.2);
  EXPECT_LT(relativeError(layer.run(changed), *target), 0.02) << all(layer);
}

// Tokens of label b say something else, and count nothing.
TEST(Repair, LabelsWeigh) {
  TestLayer layer(23, {});
  std::string path = layer.folder.file("p.moep"), folder = layer.folder.path.string();
  std::mt19937 random(1);
  Rows x = randomRows(random, 400, 5);
  Rows target = applied(layer, x);
  target.topRows(200).array() += 1.0f;
  target.bottomRows(200).array() -= 3.0f;
  profileTokens(layer, path, 1, 400, &target);
  Rows before = layer.run(x);
  std::string options = "{layers=0 folder=" + folder + " profile=" + path + " labels=";
  ASSERT_TRUE(layer.passes("repair-bias" + options + "a:2}"));
  EXPECT_NEAR((layer.run(x) - before).mean(), 1, 1e-4) << all(layer);
  TestLayer both(23, {});
  ASSERT_TRUE(both.passes("repair-bias" + options + "a:3,b:1}"));
  EXPECT_NEAR((both.run(x) - before).mean(), 0, 0.05) << all(both);
  EXPECT_TRUE(saidAnywhere(both, "left: ")) << all(both);
  ASSERT_TRUE(both.passes("repair-bias" + options + "a:1,b:3}"));
  EXPECT_NEAR((both.run(x) - before).mean(), -2, 1e-3) << all(both);
}

TEST(Repair, Errors) {
  TestLayer layer(21, {});
  std::string path = layer.folder.file("p.moep"), folder = layer.folder.path.string();
  std::mt19937 random(1);
  profileTokens(layer, path, 1, 50);
  auto fails = [&](const std::string &options, const std::string &text) {
    layer.said.clear();
    EXPECT_FALSE(layer.passes("repair-down{folder=" + folder + " " + options + "}"));
    EXPECT_TRUE(saidAnywhere(layer, text)) << all(layer);
  };
  fails("profile=nothing.moep", "repair-down: ");
  fails("hold-out=1 profile=" + path, "hold-out is a share");
  fails("layers=other profile=" + path, "there is no layer \"other\"");
  fails("labels=c profile=" + path, "\"c\" is no label of the profile");
  fails("labels=a:0 profile=" + path, "keeps no token of these labels");
  fails("ridge=0 profile=" + path, "have to be positive");
  auto profile = readProfile(path);
  ASSERT_TRUE(!!profile);
  profile->layers[0].name = "other";
  ASSERT_EQ(llvm::toString(writeProfile(*profile, path)), "");
  fails("profile=" + path, "the profile has no such layer");
  profile->layers[0].name = "bank";
  profile->layers[0].reservoir = Reservoir();
  ASSERT_EQ(llvm::toString(writeProfile(*profile, path)), "");
  fails("profile=" + path, "keeps no tokens");
}

} // namespace
