// Merged experts, computed by the reference interpreter.
#include "RepairLayer.h"

#include "../../lib/Transforms/Compress/Alignment.h"
#include "../../lib/Transforms/Compress/MergeWeights.h"
#include "moec/Transforms/Compress/Passes.h"
#include "gtest/gtest.h"

#include <Eigen/LU>
#include <numeric>

using namespace moec;
using namespace moec::compress;
using namespace moec::test;

namespace {

constexpr unsigned kSeed = 20260717;
constexpr llvm::StringLiteral kPresets[] = {"ream", "hc-smoe", "m-smoe", "sub-moe", "mergemoe"};

/// The f32 weights of a TestLayer of gated experts without biases, to be changed.
struct Weights {
  Weights(TestLayer &layer) : layer(layer), o(layer.options) {
    std::ifstream in(layer.folder.file("w.bin"), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    all.resize(bytes.size() / 4);
    std::memcpy(all.data(), bytes.data(), all.size() * 4);
  }
  ~Weights() {
    layer.folder.write("w.bin", {reinterpret_cast<const char *>(all.data()), all.size() * 4});
  }
  float &router(int64_t h, int64_t e) { return all[h * o.experts + e]; }
  float &in(int64_t which, int64_t e, int64_t i, int64_t h) {
    return all[o.hidden * o.experts + ((which * o.experts + e) * o.inter + i) * o.hidden + h];
  }
  float &down(int64_t e, int64_t h, int64_t i) {
    return all[o.hidden * o.experts * (1 + 2 * o.inter) + (e * o.hidden + h) * o.inter + i];
  }
  /// Expert `to` becomes `from` with neuron order[i] at place i.
  void copy(int64_t from, int64_t to, llvm::ArrayRef<int64_t> order) {
    for (int64_t i = 0; i < o.inter; ++i)
      for (int64_t h = 0; h < o.hidden; ++h) {
        in(0, to, i, h) = in(0, from, order[i], h);
        in(1, to, i, h) = in(1, from, order[i], h);
        down(to, h, i) = down(from, h, order[i]);
      }
  }

  TestLayer &layer;
  const LayerOptions &o;
  std::vector<float> all;
};

/// A profile with all that merging reads, over these tokens; its path.
std::string profiled(TestLayer &layer, const Rows &x) {
  WeightEvaluator weights(*layer.module, layer.folder.path.string());
  moe::RoutedLayer routed = moe::collectRoutedLayers(*layer.module)[0];
  auto bank = FfnBank::create(routed.bank, weights);
  Rows logits = layer.logits(x);
  auto picks = routeTokens(llvm::cast<moe::RouteOp>(routed.router).getRouter(), logits, {});
  EXPECT_TRUE(bool(bank) && bool(picks));
  Profile profile = profileOf(x, logits, layer.run(x), *picks);
  profile.labels = {"a"};
  LayerProfile &of = profile.layers[0];
  std::fill(of.reservoir.label.begin(), of.reservoir.label.end(), 0);
  int64_t n = of.experts, hidden = of.hidden;
  auto add = [&](llvm::StringRef name, std::vector<int64_t> shape, int64_t at, double value) {
    Statistic &s = of.statistics[name.str()];
    s.shape = shape;
    s.values.resize(size_t(s.count()), 0);
    s.values[size_t(at)] += value;
  };
  std::vector<Rows> f;
  for (int64_t e = 0; e < n; ++e)
    f.push_back(*bank->apply(e, x));
  for (int64_t t = 0; t < x.rows(); ++t) {
    Eigen::RowVectorXd z = logits.row(t).cast<double>();
    Eigen::RowVectorXd p = (z.array() - z.maxCoeff()).exp();
    p /= p.sum();
    add(moec::stat::tokens, {}, 0, 1);
    add(moec::stat::sampled, {}, 0, 1);
    for (int64_t j = 0; j < of.k; ++j) {
      int64_t e = picks->ids[t * of.k + j];
      double g = picks->weights[t * of.k + j], norm = f[e].row(t).norm();
      add(moec::stat::count, {n}, e, 1);
      add(moec::stat::gateSum, {n}, e, g);
      add(moec::stat::gatedNormSum, {n}, e, g * norm);
      for (int64_t h = 0; h < hidden; ++h)
        add(moec::stat::gatedOutputSum, {n, hidden}, e * hidden + h, g * f[e](t, h));
    }
    for (int64_t a = 0; a < n; ++a) {
      for (int64_t h = 0; h < hidden; ++h)
        add(moec::stat::allOutputSum, {n, hidden}, a * hidden + h, f[a](t, h));
      for (int64_t b = 0; b < n; ++b) {
        add(moec::stat::logitGram, {n, n}, a * n + b, z(a) * z(b));
        add(moec::stat::scoreGram, {n, n}, a * n + b, p(a) * p(b));
        double norms = double(f[a].row(t).norm()) * f[b].row(t).norm();
        add(moec::stat::outputCosine, {n, n}, a * n + b,
            norms > 0 ? f[a].row(t).dot(f[b].row(t)) / norms : 0);
      }
    }
  }
  std::string path = layer.folder.file("p.moep");
  EXPECT_EQ(llvm::toString(writeProfile(profile, path)), "");
  return path;
}

bool merged(TestLayer &layer, const std::string &options) {
  static bool registered = (registerMergeExperts(), true);
  (void)registered;
  return layer.passes("merge-experts{folder=" + layer.folder.path.string() + " " + options + "}");
}

double largest(const Rows &a, const Rows &b) { return (a - b).cwiseAbs().maxCoeff(); }

std::vector<int64_t> shuffled(std::mt19937 &random, int64_t n) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

// An expert, its neurons in another order, and its column of the router twice.
TEST(Merge, FindsADuplicateAndChangesNothing) {
  const std::string choices[] = {
      "preset=m-smoe", "preset=hc-smoe align=weights", "preset=sub-moe align=weights",
      "preset=mergemoe feature=router-logits align=weights",
      "preset=ream router=alias weights=frequency group=dominant",
      "preset=ream router=alias group=agglomerative", "preset=ream router=alias group=kmeans"};
  std::mt19937 random(kSeed);
  for (int round = 0; round < 21; ++round) {
    LayerOptions options;
    options.experts = 8;
    options.inter = 7;
    TestLayer layer(kSeed + round, options);
    int64_t from = round % 4, to = 4 + round % 3;
    std::vector<int64_t> order = shuffled(random, options.inter);
    {
      Weights weights(layer);
      weights.copy(from, to, order);
      // Rarely chosen: of the others half have positive logits.
      std::vector<int64_t> others;
      for (int64_t e = 0; e < options.experts; ++e)
        if (e != from && e != to)
          others.push_back(e);
      for (int64_t h = 0; h < options.hidden; ++h) {
        weights.router(h, to) = weights.router(h, from) *= 0.4f;
        for (size_t i = 0; i < others.size(); i += 2)
          weights.router(h, others[i + 1]) = -weights.router(h, others[i]);
      }
    }
    Rows x = randomRows(random, 200, options.hidden), before = layer.run(x);
    std::string path = profiled(layer, x);
    EXPECT_GT(readProfile(path)->layers[0].total(moec::stat::count)[from], 0);
    const std::string &choice = choices[round % std::size(choices)];
    ASSERT_TRUE(merged(layer, "profile=" + path + " drop=1 " + choice));
    moe::BankOp bank = moe::collectRoutedLayers(*layer.module)[0].bank;
    EXPECT_EQ(bank.getSlab(from), bank.getSlab(to)) << choice << ", round " << round;
    EXPECT_EQ(bank.getExperts(), 8u);
    EXPECT_LT(largest(before, layer.run(x)), 1e-5) << choice << ", round " << round;
  }
}

TEST(Merge, AlignmentRecoversThePermutation) {
  std::mt19937 random(kSeed + 1);
  for (int round = 0; round < 20; ++round) {
    LayerOptions options;
    options.inter = round + 2;
    TestLayer layer(kSeed + round, options);
    std::vector<int64_t> order = shuffled(random, options.inter);
    Weights(layer).copy(0, 3, order);
    WeightEvaluator weights(*layer.module, layer.folder.path.string());
    auto bank = FfnBank::create(moe::collectRoutedLayers(*layer.module)[0].bank, weights);
    ASSERT_TRUE(bool(bank));
    auto reference = neuronsOf(*bank, 0), other = neuronsOf(*bank, 3);
    ASSERT_TRUE(bool(reference) && bool(other));
    std::vector<int64_t> found = alignNeurons(*reference, *other);
    for (int64_t i = 0; i < options.inter; ++i)
      EXPECT_EQ(order[found[i]], i) << "round " << round << " of " << kSeed;
  }
}

TEST(Merge, EqualExpertsStayWhatTheyAre) {
  std::mt19937 random(kSeed + 2);
  for (bool half : {false, true})
    for (llvm::StringRef preset : kPresets)
      for (int count : {1, 3, 4}) {
        LayerOptions options;
        TestLayer layer(kSeed, options);
        {
          Weights weights(layer);
          std::vector<int64_t> order(options.inter);
          std::iota(order.begin(), order.end(), 0);
          for (int64_t e = 1; e < options.experts; ++e)
            weights.copy(0, e, order);
          for (float &value : weights.all)
            value = half ? float(_Float16(value)) : value;
        }
        Rows x = randomRows(random, 60, options.hidden), before = layer.run(x);
        std::string path = profiled(layer, x);
        ASSERT_TRUE(merged(layer, "profile=" + path + " drop=" + std::to_string(count) +
                                      " preset=" + preset.str()))
            << preset.str();
        EXPECT_LT(largest(before, layer.run(x)), 1e-5) << preset.str() << " " << count;
      }
}

// Slabs of given groups are the weighted sums of what they were, in the type that they are stored.
TEST(Merge, SlabsAreWeightedAverages) {
  for (bool half : {false, true}) {
    LayerOptions options;
    options.half = half;
    options.biases = true;
    TestLayer layer(kSeed + 3, options);
    auto rows = [&](llvm::StringRef bind) {
      WeightEvaluator weights(*layer.module, layer.folder.path.string());
      llvm::SmallVector<char> bytes;
      EXPECT_EQ(llvm::toString(weights.all(bind, bytes)), "");
      std::vector<float> numbers(bytes.size() / 4);
      std::memcpy(numbers.data(), bytes.data(), bytes.size());
      return numbers;
    };
    const char *names[] = {"gate", "up", "down", "gate_bias", "up_bias", "down_bias"};
    std::map<std::string, std::vector<float>> old;
    for (const char *name : names)
      old[name] = rows(name);
    ASSERT_TRUE(merged(layer, "groups=bank=2,0,5|1 weights=uniform align=none router=alias"));
    moe::BankOp bank = moe::collectRoutedLayers(*layer.module)[0].bank;
    EXPECT_EQ(bank.getSlabs(), (llvm::ArrayRef<int64_t>{1, 0, 1, 2, 3, 1}));
    for (const char *name : names) {
      std::vector<float> now = rows(name);
      size_t size = old[name].size() / 6;
      ASSERT_EQ(now.size(), size * 4) << name;
      for (size_t i = 0; i < size; ++i) {
        auto at = [&](size_t e) { return double(old[name][e * size + i]); };
        float mean = float((at(2) + at(0) + at(5)) / 3);
        EXPECT_NEAR(now[size + i], mean, half ? 1e-3 : 1e-6) << name;
        EXPECT_EQ(now[i], old[name][size + i]) << name;
        EXPECT_EQ(now[2 * size + i], old[name][3 * size + i]) << name;
      }
    }
  }
}

TEST(Merge, TheSharedBasisIsTheAverageAtFullRank) {
  std::mt19937 random(kSeed + 4);
  Rows a = randomRows(random, 6, 9), b = randomRows(random, 6, 9);
  SharedBasis basis(6, 9);
  basis.add(a, 0.25);
  basis.add(b, 0.75);
  Rows mean = 0.25f * a + 0.75f * b;
  EXPECT_LT(largest(basis.merged(1), mean), 1e-6);
  Rows half = basis.merged(0.5);
  EXPECT_GT(largest(half, mean), 1e-3);
  EXPECT_EQ(Eigen::FullPivLU<Eigen::MatrixXd>(half.cast<double>()).setThreshold(1e-5).rank(), 3);
  // Members of rank 3 in one space lose nothing.
  Rows left = randomRows(random, 6, 3);
  Rows c = left * randomRows(random, 3, 9), d = left * randomRows(random, 3, 9);
  SharedBasis low(6, 9);
  low.add(c, 0.5);
  low.add(d, 0.5);
  EXPECT_LT(largest(low.merged(0.5), 0.5f * (c + d)), 1e-4);
}

// Down projections by least squares come nearer to the original than the average.
TEST(Merge, LeastSquaresHelp) {
  std::mt19937 random(kSeed + 5);
  LayerOptions options;
  TestLayer average(kSeed + 6, options), fitted(kSeed + 6, options);
  Rows x = randomRows(random, 2000, options.hidden), before = average.run(x);
  std::string path = profiled(average, x);
  std::string common = "profile=" + path + " drop=2 preset=mergemoe feature=router-logits";
  ASSERT_TRUE(merged(average, common + " combine=average"));
  ASSERT_TRUE(merged(fitted, common));
  EXPECT_LT((fitted.run(x) - before).norm(), 0.95 * (average.run(x) - before).norm());
}

TEST(Merge, ProtectedExpertsStayAlone) {
  for (llvm::StringRef preset : kPresets) {
    std::mt19937 random(kSeed + 7);
    LayerOptions options;
    TestLayer layer(kSeed + 7, options);
    Rows x = randomRows(random, 100, options.hidden);
    std::string path = profiled(layer, x);
    moe::BankOp bank = moe::collectRoutedLayers(*layer.module)[0].bank;
    bank->setAttr("moe.protected", mlir::DenseI64ArrayAttr::get(&layer.context, {1, 2}));
    ASSERT_TRUE(merged(layer, "profile=" + path + " drop=3 router=alias preset=" + preset.str()));
    bank = moe::collectRoutedLayers(*layer.module)[0].bank;
    for (int64_t e = 0; e < options.experts; ++e)
      for (int64_t guarded : {1, 2})
        EXPECT_TRUE(e == guarded || bank.getSlab(e) != bank.getSlab(guarded)) << preset.str();
    EXPECT_FALSE(merged(layer, "profile=" + path + " drop=1 router=alias")) << "slabs are shared";
  }
}

} // namespace
