// Neurons of dropped experts in those that are kept.
#include "RepairLayer.h"

#include "moec/Transforms/Compress/Passes.h"
#include "gtest/gtest.h"

using namespace moec;
using namespace moec::compress;
using namespace moec::test;

namespace {

constexpr unsigned kSeed = 20260718;

// Six gated experts of four neurons; a profile by which those named matter least.
struct Recombined : TestLayer {
  Recombined(unsigned seed, LayerOptions options, std::vector<int64_t> least)
      : TestLayer(seed, options) {
    Profile profile;
    profile.labels = {"text"};
    LayerProfile layer;
    layer.name = "bank";
    layer.experts = options.experts;
    layer.k = 2;
    layer.hidden = options.hidden;
    std::vector<double> gates, counts;
    for (int64_t e = 0; e < options.experts; ++e) {
      counts.push_back(20);
      gates.push_back(llvm::is_contained(least, e) ? 1 : 10 + double(e));
    }
    layer.statistics[moec::stat::tokens.str()] = {MergeRule::sum, {}, {60}};
    layer.statistics[moec::stat::count.str()] = {MergeRule::sum, {options.experts}, counts};
    layer.statistics[moec::stat::gateSum.str()] = {MergeRule::sum, {options.experts}, gates};
    profile.layers.push_back(layer);
    EXPECT_EQ(llvm::toString(writeProfile(profile, folder.file("p.moep"))), "");
  }
  bool recombine(const std::string &more) {
    static bool registered = (registerRecombineNeurons(), true);
    (void)registered;
    return passes("recombine-neurons{profile=" + folder.file("p.moep") + " folder=" +
                  folder.path.string() + " " + more + "}");
  }
  // Neuron `from` of expert `a` becomes neuron `to` of expert `b`, with f32 weights and no biases.
  void copy(int64_t a, int64_t from, int64_t b, int64_t to, float scale = 1) {
    std::ifstream in(folder.file("w.bin"), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    auto at = [&](int64_t i) { return bytes.data() + 4 * i; };
    int64_t E = options.experts, H = options.hidden, I = options.inter;
    auto move = [&](int64_t dst, int64_t src) {
      float value;
      std::memcpy(&value, at(src), 4);
      value *= scale;
      std::memcpy(at(dst), &value, 4);
    };
    auto row = [&](int64_t which, int64_t e, int64_t i) {
      return H * E + ((which * E + e) * I + i) * H;
    };
    auto down = [&](int64_t e, int64_t h, int64_t i) {
      return H * E * (1 + 2 * I) + (e * H + h) * I + i;
    };
    for (int64_t h = 0; h < H; ++h) {
      move(row(0, b, to) + h, row(0, a, from) + h);
      move(row(1, b, to) + h, row(1, a, from) + h);
      move(down(b, h, to), down(a, h, from));
    }
    folder.write("w.bin", bytes);
  }
  FfnSlab slab(int64_t expert, Rows &down) {
    WeightEvaluator weights(*module, folder.path.string());
    auto bank = FfnBank::create(moe::collectRoutedLayers(*module)[0].bank, weights);
    EXPECT_TRUE(bool(bank));
    down = *bank->down(bank->op().getSlab(expert));
    return *bank->slab(bank->op().getSlab(expert));
  }
};

double largest(const Rows &a, const Rows &b) { return (a - b).cwiseAbs().maxCoeff(); }

TEST(Recombine, NeuronsThatAreThereAlreadyChangeNothing) {
  for (int round = 0; round < 10; ++round) {
    Recombined layer(kSeed + round, {}, {4});
    for (int64_t i = 0; i < 4; ++i) // each of expert 4 is one of expert 1 or 2
      layer.copy(i % 2 + 1, i, 4, (i + 1) % 4, i == 3 ? 1.5f : 1.0f);
    Rows before, after;
    FfnSlab old = layer.slab(1, before);
    ASSERT_TRUE(layer.recombine("drop=1 alpha=0.99")) << layer.said.back();
    ASSERT_EQ(layer.said.size(), 1u);
    EXPECT_NE(layer.said[0].find("1 of 6 experts go (4); 4 of their 4 neurons went to 2 others"),
              std::string::npos)
        << layer.said[0];
    FfnSlab now = layer.slab(1, after);
    EXPECT_LT(largest(now.gate, old.gate), 1e-6);
    EXPECT_LT(largest(now.up, old.up), 1e-6);
    EXPECT_LT(largest(after, before), 1e-6);
    EXPECT_EQ(moe::collectRoutedLayers(*layer.module)[0].bank.getExperts(), 5u);
  }
}

TEST(Recombine, WithoutLikeNeuronsItIsPruning) {
  LayerOptions options;
  options.biases = true;
  Recombined layer(kSeed + 20, options, {0, 3});
  std::mt19937 random(kSeed);
  Rows x = randomRows(random, 40, options.hidden), before[6], after[4];
  auto outputs = [&](Rows *to) {
    WeightEvaluator weights(*layer.module, layer.folder.path.string());
    auto bank = FfnBank::create(moe::collectRoutedLayers(*layer.module)[0].bank, weights);
    for (int64_t e = 0; e < bank->experts(); ++e)
      to[e] = *bank->apply(e, x);
  };
  outputs(before);
  ASSERT_TRUE(layer.recombine("drop=2 alpha=1"));
  outputs(after);
  EXPECT_EQ(layer.text().find("dense_resource"), std::string::npos);
  int64_t kept[] = {1, 2, 4, 5};
  for (int64_t e = 0; e < 4; ++e)
    EXPECT_EQ(largest(after[e], before[kept[e]]), 0) << e;
}

TEST(Recombine, MeansWeighByImportance) {
  Recombined layer(kSeed + 30, {}, {0});
  // Neuron 2 of expert 0 is neuron 1 of expert 5, but for its gate row.
  Rows down, after;
  FfnSlab of = layer.slab(0, down);
  layer.copy(5, 1, 0, 2);
  Rows ignored;
  FfnSlab copied = layer.slab(0, ignored), old = layer.slab(5, down);
  {
    std::ifstream in(layer.folder.file("w.bin"), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    int64_t at = layer.options.hidden * layer.options.experts + 2 * layer.options.hidden;
    std::memcpy(bytes.data() + 4 * at, of.gate.row(2).data(), 4 * size_t(layer.options.hidden));
    layer.folder.write("w.bin", bytes);
  }
  ASSERT_TRUE(layer.recombine("drop=1 alpha=0.999"));
  FfnSlab now = layer.slab(4, after); // expert 5 has a new number
  // Gate sums are 1 and 15; both rows are brought to their mean length.
  double a = 15.0 / 16, b = 1.0 / 16;
  double mean = a * old.gate.row(1).norm() + b * of.gate.row(2).norm();
  Eigen::RowVectorXd want = mean * (a * old.gate.row(1).cast<double>().normalized() +
                                    b * of.gate.row(2).cast<double>().normalized());
  EXPECT_LT((now.gate.row(1).cast<double>() - want).cwiseAbs().maxCoeff(), 1e-5);
  EXPECT_LT(largest(now.up, old.up), 1e-6);
  EXPECT_LT(largest(after, down), 1e-6);
  EXPECT_GT((now.gate.row(1) - old.gate.row(1)).norm(), 1e-3);
}

TEST(Recombine, AnyStartGivesAsManyNeurons) {
  for (bool half : {false, true})
    for (const char *start : {"own", "largest"}) {
      LayerOptions options;
      options.biases = true;
      options.half = half;
      Recombined layer(kSeed + 40, options, {1, 2, 3});
      ASSERT_TRUE(layer.recombine(std::string("drop=3 alpha=-1 start=") + start));
      EXPECT_NE(layer.said[0].find("12 of their 12 neurons"), std::string::npos) << layer.said[0];
      Rows down;
      FfnSlab slab = layer.slab(2, down);
      EXPECT_TRUE(slab.gate.allFinite() && slab.up.allFinite() && down.allFinite());
      std::string stored = std::string("x4x5x") + (half ? "f16" : "f32") + ">";
      EXPECT_NE(layer.text().find("dense_resource<up.recombined> : tensor<"), std::string::npos);
      EXPECT_NE(layer.text().find(stored), std::string::npos) << layer.text();
    }
  Recombined layer(kSeed + 41, {}, {1});
  EXPECT_FALSE(layer.recombine("drop=5 alpha=0.5"));
  EXPECT_NE(layer.said.back().find("cannot drop 5 of 6 experts"), std::string::npos);
  EXPECT_FALSE(layer.recombine("drop=1 alpha=2"));
  EXPECT_FALSE(layer.recombine("drop=1 start=random"));
}

} // namespace
