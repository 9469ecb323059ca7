// Narrower experts: the neurons that go are those that a plain recomputation finds, and planted
// neurons that do nothing go without a trace.
#include "../../lib/Transforms/Compress/NeuronScores.h"
#include "RepairLayer.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Transforms/Compress/Passes.h"
#include "gtest/gtest.h"

#include <Eigen/LU>
#include <mutex>
#include <numeric>
#include <set>

using namespace moec;
using namespace moec::compress;
using namespace moec::test;

namespace {

constexpr unsigned kSeed = 20260801;

// The error of the best columns for the inputs that stay: tr(W C W^T) less what these explain.
double bestError(const Eigen::MatrixXd &c, const Eigen::MatrixXd &w,
                 const std::set<int64_t> &stay) {
  std::vector<int64_t> index(stay.begin(), stay.end());
  Eigen::MatrixXd some = c(index, index);
  Eigen::MatrixXd cross = c(index, Eigen::all) * w.transpose();
  return (w * c * w.transpose()).trace() -
         (cross.transpose() * some.fullPivLu().solve(cross)).trace();
}

TEST(Narrow, TheSurgeonTakesTheBestOfEachStep) {
  std::mt19937 random(kSeed);
  for (int round = 0; round < 40; ++round) {
    int64_t m = 3 + round % 6, hidden = 1 + round % 4, count = 1 + round % (m - 1);
    Eigen::MatrixXd x = randomRows(random, 3 * m, m).cast<double>();
    if (round % 3 == 0)
      x.col(0) = x.col(m - 1); // the ridge keeps them apart
    Rows down = randomRows(random, hidden, m);
    Eigen::MatrixXd c = x.transpose() * x, w = down.cast<double>();
    NeuronRanking got = surgeonNeurons(c, down, count, 0.01);
    c.diagonal().array() += 0.01 * c.trace() / double(m);
    std::set<int64_t> stay;
    for (int64_t i = 0; i < m; ++i)
      stay.insert(i);
    double all = bestError(c, w, {}), error = 0;
    ASSERT_EQ(int64_t(got.gone.size()), count);
    for (int64_t gone : got.gone) {
      double least = all;
      for (int64_t i : stay) {
        std::set<int64_t> fewer = stay;
        fewer.erase(i);
        least = std::min(least, bestError(c, w, fewer));
      }
      ASSERT_EQ(stay.erase(gone), 1u) << "round " << round << " of " << kSeed;
      error = bestError(c, w, stay);
      EXPECT_LE(error, least + 1e-9 * all) << "round " << round << " of " << kSeed;
    }
    EXPECT_NEAR(got.retained, 1 - error / all, 1e-9) << "round " << round << " of " << kSeed;
  }
}

TEST(Narrow, LeastScoresAndTies) {
  NeuronRanking got = leastNeurons(Eigen::Vector4d(3, 1, 5, 1), 3);
  EXPECT_EQ(got.gone, (std::vector<int64_t>{1, 3, 0}));
  EXPECT_DOUBLE_EQ(got.retained, 0.5);
}

/// A layer, a profile of it over random tokens, and the same by plain loops.
struct Case {
  Case(unsigned seed, const LayerOptions &options, int64_t tokens)
      : layer(seed, options), random(seed + 1) {
    static std::once_flag once;
    std::call_once(once, [] { registerNarrowExperts(); });
    x = randomRows(random, tokens, options.hidden);
  }

  void profile() {
    WeightEvaluator weights(*layer.module, layer.folder.path.string());
    auto layers = moe::collectRoutedLayers(*layer.module);
    auto chosen = routeAgain(layers[0], layer.logits(x), weights);
    ASSERT_TRUE(bool(chosen));
    picks = *chosen;
    path = layer.folder.file("p.moep");
    Profile made = profileOf(x, layer.logits(x), layer.run(x), picks);
    ASSERT_EQ(llvm::toString(writeProfile(made, path)), "");
  }

  /// Sum over tokens of (g h_i)^2 |W_i|^2 of a gated silu without biases.
  std::vector<double> magnitudes(int64_t slab) {
    WeightEvaluator weights(*layer.module, layer.folder.path.string());
    auto op = moe::collectRoutedLayers(*layer.module)[0].bank;
    auto bank = llvm::cantFail(FfnBank::create(op, weights));
    FfnSlab ffn = llvm::cantFail(bank.slab(slab));
    Rows down = llvm::cantFail(bank.down(slab));
    std::vector<double> scores(size_t(bank.inter()), 0);
    for (size_t i = 0; i < picks.ids.size(); ++i) {
      int64_t e = picks.ids[i];
      if (op.getExpertStorage(e) != "dense" || int64_t(op.getSlab(e)) != slab)
        continue;
      auto token = x.row(int64_t(i) / picks.k);
      for (int64_t n = 0; n < int64_t(op.getWidth(e)); ++n) {
        double gate = ffn.gate.row(n).dot(token), up = ffn.up.row(n).dot(token);
        double h = picks.weights[i] * up * gate / (1 + std::exp(-gate));
        scores[size_t(n)] += h * h * double(down.col(n).squaredNorm());
      }
    }
    return scores;
  }

  /// Makes columns of a slab's down weights zero, in the file.
  void silence(int64_t slab, const std::vector<int64_t> &neurons) {
    const LayerOptions &o = layer.options;
    int64_t slabs = o.slabCount(), bytes = o.half ? 2 : 4;
    int64_t at = o.hidden * o.experts + 2 * slabs * o.inter * o.hidden;
    std::ifstream in(layer.folder.file("w.bin"), std::ios::binary);
    std::string file{std::istreambuf_iterator<char>(in), {}};
    for (int64_t h = 0; h < o.hidden; ++h)
      for (int64_t n : neurons) {
        int64_t place = at + (slab * o.hidden + h) * o.inter + n;
        std::fill_n(file.begin() + place * bytes, bytes, '\0');
      }
    layer.folder.write("w.bin", file);
  }

  bool narrow(const std::string &options) {
    return layer.passes("narrow-experts{profile=" + path + " folder=" +
                        layer.folder.path.string() + " multiple=1 " + options + "}");
  }
  moe::BankOp bank() { return moe::collectRoutedLayers(*layer.module)[0].bank; }

  TestLayer layer;
  std::mt19937 random;
  Rows x;
  Picks picks;
  std::string path;
};

TEST(Narrow, NeuronsOfLeastMagnitudeGo) {
  for (unsigned round = 0; round < 6; ++round) {
    LayerOptions options;
    options.inter = 7;
    options.half = round % 2;
    if (round > 2) { // experts that share a slab, of different widths; one of no slab
      options.slabs = {0, 1, 1, 2, -1, 3};
      options.widths = {7, 5, 3, 7, 7, 6};
      options.storage = {"dense", "dense", "dense", "dense", "zero", "dense"};
    }
    Case given(kSeed + round, options, 300), same(kSeed + round, options, 300);
    given.profile();
    for (int64_t slab = 0; slab < options.slabCount(); ++slab) {
      std::vector<double> scores = given.magnitudes(slab);
      std::vector<int64_t> order(scores.size());
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
        return scores[a] != scores[b] ? scores[a] < scores[b] : a < b;
      });
      same.silence(slab, {order[0], order[1]});
    }
    ASSERT_TRUE(given.narrow("criterion=magnitude drop=2"));
    EXPECT_EQ(given.bank().getInter(), 5u);
    Rows want = same.layer.run(given.x), got = given.layer.run(given.x);
    EXPECT_LT((got - want).norm(), 1e-5 * want.norm()) << "round " << round << " of " << kSeed;
  }
}

TEST(Narrow, NeuronsThatDoNothingGoWithoutATrace) {
  for (const char *how : {"criterion=obs", "criterion=magnitude", "min-tokens=1000",
                          "max-neurons=1"})
    for (bool biases : {false, true}) {
      LayerOptions options;
      options.inter = 6;
      options.biases = biases;
      Case given(kSeed, options, 400);
      for (int64_t slab = 0; slab < options.experts; ++slab)
        given.silence(slab, {slab % 6, (slab + 2) % 6});
      given.profile();
      Rows want = given.layer.run(given.x);
      ASSERT_TRUE(given.narrow(std::string(how) + " drop=34%"));
      EXPECT_EQ(given.bank().getInter(), 4u);
      EXPECT_LT((given.layer.run(given.x) - want).norm(), 1e-6 * want.norm()) << how;
      std::string text = given.layer.said.front();
      EXPECT_NE(text.find("bank: width 6 -> 4; 100.0 % of "), std::string::npos) << text;
      bool small = std::string(how) == "min-tokens=1000";
      EXPECT_EQ(text.find("6 of 6 slabs, with fewer than 1000 tokens") != std::string::npos, small);
    }
}

TEST(Narrow, TheSurgeonKnowsNeuronsThatOthersReplace) {
  // Neuron 0 computes the same as neuron 1, and is large: by itself it matters, beside the other it
  // does not.
  LayerOptions options;
  options.inter = 5;
  Case given(kSeed, options, 400);
  const LayerOptions &o = given.layer.options;
  std::ifstream in(given.layer.folder.file("w.bin"), std::ios::binary);
  std::string file{std::istreambuf_iterator<char>(in), {}};
  for (int64_t part = 0; part < 2; ++part) // gate and up
    for (int64_t slab = 0; slab < o.experts; ++slab) {
      int64_t row = o.hidden * o.experts + (part * o.experts + slab) * o.inter * o.hidden;
      std::copy_n(file.begin() + (row + o.hidden) * 4, o.hidden * 4, file.begin() + row * 4);
    }
  given.layer.folder.write("w.bin", file);
  given.profile();
  ASSERT_TRUE(given.narrow("drop=1 ridge=1e-6"));
  std::string text = given.layer.said.front();
  EXPECT_NE(text.find("bank: width 5 -> 4; 100.0 % of obs stays"), std::string::npos) << text;
}

TEST(Narrow, WidthsByBudget) {
  LayerOptions options;
  options.inter = 12;
  Case given(kSeed, options, 200);
  given.profile();
  EXPECT_FALSE(given.narrow("budget=1,1"));
  EXPECT_FALSE(given.narrow("drop=2 budget=1"));
  EXPECT_FALSE(given.narrow("budget=6"));
  EXPECT_FALSE(given.narrow("drop=12"));
  EXPECT_FALSE(given.narrow(""));
  EXPECT_EQ(given.bank().getInter(), 12u);
  ASSERT_TRUE(given.narrow("budget=0"));
  EXPECT_EQ(given.bank().getInter(), 12u);
  ASSERT_TRUE(given.narrow("budget=1 multiple=4"));
  EXPECT_EQ(given.bank().getInter(), 10u) << "12 * 5 / 6; 8 would be a fifth less";

  options.inter = 40;
  Case wide(kSeed, options, 200);
  wide.profile();
  ASSERT_TRUE(wide.narrow("budget=1 multiple=16"));
  EXPECT_EQ(wide.bank().getInter(), 32u) << "40 * 5 / 6 is 33";

  options.biases = true; // of which the outputs' stay whole
  Case biased(kSeed, options, 200);
  biased.profile();
  int64_t hidden = options.hidden, neuron = 3 * hidden + 2, before = 6 * (40 * neuron + hidden);
  ASSERT_TRUE(biased.narrow("budget=3"));
  int64_t width = biased.bank().getInter(), after = 6 * (width * neuron + hidden);
  EXPECT_LE(2 * after, before);
  EXPECT_GT(2 * (after + 6 * neuron), before) << width;
}

} // namespace
