// Values of the moe ops: fixed cases, and properties over seeded random ones.
#include "Run.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace moec::reference::test;

namespace {

constexpr double nan = NAN;

Numbers i32(std::vector<int64_t> shape, std::vector<double> values) {
  return {"i32", std::move(shape), std::move(values)};
}

Outcome select(const std::string &attributes, std::vector<Numbers> inputs, int64_t k) {
  std::string types, names, parameters;
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::string type = "tensor<";
    for (int64_t d : inputs[i].shape)
      type += std::to_string(d) + "x";
    type += inputs[i].type + ">";
    std::string comma = i ? ", " : "", name = "%a" + std::to_string(i);
    types += comma + type;
    names += comma + name;
    parameters += comma + name + ": " + type;
  }
  std::string t = std::to_string(inputs[0].shape[0]), ks = std::to_string(k);
  std::string results = "(tensor<" + t + "x" + ks + "xi32>, tensor<" + t + "x" + ks + "xf32>)";
  return runModule("func.func @main(" + parameters + ") -> " + results +
                       " {\n  %ids, %w = moe.select " + names + " " + attributes + " : (" + types +
                       ") -> " + results +
                       "\n  return %ids, %w : " + results.substr(1, results.size() - 2) + "\n}",
                   inputs);
}

TEST(Select, TiesGoToTheLowerIdAndNanGivesValidIds) {
  Outcome out = select("{k = 2 : i64}", {f32({2, 4}, {1, 3, 3, 3, 0, nan, 5, 1})}, 2);
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], i32({2, 2}, {1, 2, 0, 1}), 0);
  expectNear(out.results[1], f32({2, 2}, {3, 3, nan, nan}), 0);
}

TEST(Select, Kinds) {
  Numbers p = f32({2, 4}, {0.5, 0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.7});
  Outcome out = select("{kind = \"top_p\", k = 3 : i64, p = 0.6 : f64}", {p}, 3);
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], i32({2, 3}, {0, 2, -1, 3, -1, -1}), 0);
  expectNear(out.results[1], f32({2, 3}, {0.5, 0.3, 0, 0.7, 0, 0}), 1e-7);

  out = select("{kind = \"threshold\", k = 3 : i64, threshold = 0.6 : f64, at_least = 1 : i64}",
               {p}, 3);
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], i32({2, 3}, {0, -1, -1, 3, -1, -1}), 0);

  out = select("{kind = \"grouped_top_k\", k = 2 : i64, groups = 2 : i64, group_k = 1 : i64, "
               "group_score = \"top2\"}",
               {f32({1, 4}, {5, 0, 3, 3})}, 2);
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], i32({1, 2}, {2, 3}), 0);

  out = select("{kind = \"all\"}", {p}, 4);
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], i32({2, 4}, {0, 1, 2, 3, 0, 1, 2, 3}), 0);
}

TEST(Select, WeightScoresExternalIdsAndRuntimeK) {
  Numbers s = f32({1, 3}, {1, 3, 2}), w = f32({1, 3}, {10, 30, 20});
  Outcome out = select("{k = 2 : i64}", {s, w}, 2);
  ASSERT_EQ(out.error, "");
  expectNear(out.results[1], f32({1, 2}, {30, 20}), 0);
  out = select("{kind = \"external\"}", {s, i32({1, 2}, {-1, 0})}, 2);
  ASSERT_EQ(out.error, "");
  expectNear(out.results[1], f32({1, 2}, {0, 1}), 0);
  out = select("{k = 2 : i64}", {s, i64({}, {1})}, 2);
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], i32({1, 2}, {1, -1}), 0);
}

TEST(Choose, ExpertsTakeTheirBestTokens) {
  Outcome out = runModule(R"(
    func.func @main(%p: tensor<3x2xf32>) -> (tensor<2x2xi32>, tensor<2x2xf32>) {
      %t, %w = moe.choose %p {capacity = 2 : i64}
          : (tensor<3x2xf32>) -> (tensor<2x2xi32>, tensor<2x2xf32>)
      return %t, %w : tensor<2x2xi32>, tensor<2x2xf32>
    })",
                          {f32({3, 2}, {1, 5, 2, 5, 2, 9})});
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], i32({2, 2}, {1, 2, 2, 0}), 0);
  expectNear(out.results[1], f32({2, 2}, {2, 2, 9, 5}), 0);
}

// Softmax, top-k with ties to the lower id, division by the sum.
TEST(Route, EqualsSoftmaxTopKRenormalised) {
  for (unsigned seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    int64_t tokens = 5, experts = 6, k = 1 + seed % 3;
    Numbers z = randomNumbers(random, {tokens, experts}, 2);
    Numbers ids = i32({tokens, k}, {}), weights = f32({tokens, k}, {});
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<double> p;
      double total = 0, chosen = 0;
      for (int64_t e = 0; e < experts; ++e)
        p.push_back(std::exp(z.values[t * experts + e])), total += p.back();
      std::vector<int64_t> order(experts);
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return p[a] > p[b]; });
      for (int64_t j = 0; j < k; ++j)
        chosen += p[order[j]] / total;
      for (int64_t j = 0; j < k; ++j) {
        ids.values.push_back(static_cast<double>(order[j]));
        weights.values.push_back(p[order[j]] / total / chosen);
      }
    }
    std::string ks = std::to_string(k);
    std::string result = "(tensor<5x" + ks + "xi32>, tensor<5x" + ks + "xf32>)";
    Outcome out = runModule("func.func @main(%z: tensor<5x6xf32>) -> " + result +
                                " {\n %i, %w = moe.route(%z) router<score = softmax, k = " + ks +
                                ", renorm = sum> : (tensor<5x6xf32>) -> " + result +
                                "\n return %i, %w : " + result.substr(1, result.size() - 2) + "\n}",
                            {z});
    ASSERT_EQ(out.error, "");
    expectNear(out.results[0], ids, 0);
    expectNear(out.results[1], weights, 1e-6);
  }
}

TEST(Route, BiasSelectsButDoesNotWeigh) {
  Outcome out = runModule(R"(
    func.func @main(%z: tensor<1x4xf32>, %b: tensor<4xf32>) -> (tensor<1x2xi32>, tensor<1x2xf32>) {
      %i, %w = moe.route(%z, %b) router<score = sigmoid, k = 2, groups = 2, group_k = 1,
          group_score = max, renorm = sum, epsilon = 1.0, scale = 4.0>
          : (tensor<1x4xf32>, tensor<4xf32>) -> (tensor<1x2xi32>, tensor<1x2xf32>)
      return %i, %w : tensor<1x2xi32>, tensor<1x2xf32>
    })",
                          {f32({1, 4}, {0, 0, 0, 0}), f32({4}, {0, 0.1, 0.2, 0})});
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], i32({1, 2}, {2, 3}), 0);
  expectNear(out.results[1], f32({1, 2}, {1, 1}), 1e-7); // 4 * 0.5 / (0.5 + 0.5 + 1)
}

std::string literal(const std::string &name, const Numbers &n) {
  std::string type = "tensor<", values;
  for (int64_t d : n.shape)
    type += std::to_string(d) + "x";
  type += "f32>";
  for (double v : n.values) {
    char text[40];
    std::snprintf(text, sizeof text, "%.9e", v);
    values += (values.empty() ? "" : ", ") + std::string(text);
  }
  std::string shaped = values;
  // dense<...> takes a flat list only of rank 1: reshape afterwards.
  std::string flat = "tensor<" + std::to_string(n.values.size()) + "xf32>";
  return "  %" + name + "_flat = moe.weight.literal dense<[" + shaped + "]> : " + flat + "\n  %" +
         name + " = moe.weight.reshape %" + name + "_flat : " + flat + " -> " + type +
         "\n  moe.weight.bind @" + name + " %" + name + " : " + type + "\n";
}

struct Layer {
  int64_t tokens = 5, hidden = 4, inter = 3, experts = 4, k = 2;
  Numbers x, gate, up, down, gateBias, downBias, ids, weights;
  std::string ir;
};

Layer randomLayer(unsigned seed) {
  std::mt19937 random(seed);
  Layer l;
  l.x = randomNumbers(random, {l.tokens, l.hidden});
  l.gate = randomNumbers(random, {l.experts, l.inter, l.hidden});
  l.up = randomNumbers(random, {l.experts, l.inter, l.hidden});
  l.down = randomNumbers(random, {l.experts, l.hidden, l.inter});
  l.gateBias = randomNumbers(random, {l.experts, l.inter});
  l.downBias = randomNumbers(random, {l.experts, l.hidden});
  l.weights = randomNumbers(random, {l.tokens, l.k});
  l.ids = i32({l.tokens, l.k}, {});
  for (int64_t i = 0; i < l.tokens * l.k; ++i)
    l.ids.values.push_back(static_cast<double>(random() % 5) - 1); // -1 .. 3, twins allowed
  l.weights.values[3] = 0;
  l.ir = "moe.weights @weights {\n" + literal("gate", l.gate) + literal("up", l.up) +
         literal("down", l.down) + literal("gate_bias", l.gateBias) +
         literal("down_bias", l.downBias) + "}\n";
  return l;
}

// One expert's result for one token, written out.
std::vector<double> expert(const Layer &l, int64_t e, const double *x) {
  std::vector<double> h, y;
  for (int64_t i = 0; i < l.inter; ++i) {
    double g = l.gateBias.values[e * l.inter + i], u = 0;
    for (int64_t d = 0; d < l.hidden; ++d) {
      g += l.gate.values[(e * l.inter + i) * l.hidden + d] * x[d];
      u += l.up.values[(e * l.inter + i) * l.hidden + d] * x[d];
    }
    g = std::min(g, 1.5);
    u = std::clamp(u, -1.5, 1.5);
    h.push_back(g / (1 + std::exp(-1.7 * g)) * (u + 1));
  }
  for (int64_t d = 0; d < l.hidden; ++d) {
    double sum = l.downBias.values[e * l.hidden + d];
    for (int64_t i = 0; i < l.inter; ++i)
      sum += l.down.values[(e * l.hidden + d) * l.inter + i] * h[i];
    y.push_back(sum);
  }
  return y;
}

const char *bankText = R"(
moe.bank @bank experts(4) hidden(4) inter(3)
    body(#moe.ffn<gated = true, activation = "swish", alpha = 1.7, limit = 1.5, up_offset = 1.0>)
    gate(@gate) up(@up) down(@down) gate_bias(@gate_bias) down_bias(@down_bias)
)";

TEST(Experts, EqualNaiveLoop) {
  for (unsigned seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Layer l = randomLayer(seed);
    Numbers want = f32({l.tokens, l.hidden}, std::vector<double>(l.tokens * l.hidden, 0.0));
    Numbers apart =
        f32({l.tokens, l.k, l.hidden}, std::vector<double>(l.tokens * l.k * l.hidden, 0.0));
    for (int64_t i = 0; i < l.tokens * l.k; ++i) {
      auto e = static_cast<int64_t>(l.ids.values[i]);
      if (e < 0 || l.weights.values[i] == 0)
        continue;
      auto y = expert(l, e, l.x.values.data() + i / l.k * l.hidden);
      for (int64_t d = 0; d < l.hidden; ++d) {
        want.values[i / l.k * l.hidden + d] += l.weights.values[i] * y[d];
        apart.values[i * l.hidden + d] = l.weights.values[i] * y[d];
      }
    }
    Outcome out = runModule(l.ir + bankText + R"(
      func.func @main(%x: tensor<5x4xf32>, %i: tensor<5x2xi32>, %w: tensor<5x2xf32>)
          -> (tensor<5x4xf32>, tensor<5x2x4xf32>) {
        %y = moe.experts @bank (%x, %i, %w)
            : (tensor<5x4xf32>, tensor<5x2xi32>, tensor<5x2xf32>) -> tensor<5x4xf32>
        %z = moe.experts @bank (%x, %i, %w) {combine = "none"}
            : (tensor<5x4xf32>, tensor<5x2xi32>, tensor<5x2xf32>) -> tensor<5x2x4xf32>
        return %y, %z : tensor<5x4xf32>, tensor<5x2x4xf32>
      })",
                            {l.x, l.ids, l.weights});
    ASSERT_EQ(out.error, "");
    expectNear(out.results[0], want, 1e-5);
    expectNear(out.results[1], apart, 1e-5);
  }
}

TEST(Experts, DenseWeightsDispatchAndMerging) {
  Layer l = randomLayer(20);
  std::mt19937 random(21);
  Numbers dense = randomNumbers(random, {l.tokens, l.experts});
  dense.values[2] = 0;
  Numbers want = f32({l.tokens, l.hidden}, std::vector<double>(l.tokens * l.hidden, 0.0));
  for (int64_t t = 0; t < l.tokens; ++t)
    for (int64_t e = 0; e < l.experts; ++e) {
      auto y = expert(l, e, l.x.values.data() + t * l.hidden);
      for (int64_t d = 0; d < l.hidden; ++d)
        want.values[t * l.hidden + d] += dense.values[t * l.experts + e] * y[d];
    }
  Outcome out = runModule(l.ir + bankText + R"(
    func.func @main(%x: tensor<5x4xf32>, %i: tensor<5x2xi32>, %w: tensor<5x2xf32>, %d: tensor<5x4xf32>,
                    %one: tensor<1x4xf32>) -> (tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>) {
      %dense = moe.experts @bank (%x, %d)
          : (tensor<5x4xf32>, tensor<5x4xf32>) -> tensor<5x4xf32>
      %direct = moe.experts @bank (%x, %i, %w)
          : (tensor<5x4xf32>, tensor<5x2xi32>, tensor<5x2xf32>) -> tensor<5x4xf32>
      %r, %ri, %rw, %from = moe.dispatch %x, %i, %w {devices = 2 : i64, placement = array<i64: 0, 1, 0, 1>}
          : (tensor<5x4xf32>, tensor<5x2xi32>, tensor<5x2xf32>)
          -> (tensor<?x4xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x2xi32>)
      %ry = moe.experts @bank (%r, %ri, %rw)
          : (tensor<?x4xf32>, tensor<?x1xi32>, tensor<?x1xf32>) -> tensor<?x4xf32>
      %exchanged = moe.combine %ry, %from, %x {devices = 2 : i64}
          : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<5x4xf32>) -> tensor<5x4xf32>
      %merged = moe.merge_weights @bank (%x, %one)
          : (tensor<5x4xf32>, tensor<1x4xf32>) -> tensor<5x4xf32>
      return %dense, %direct, %exchanged, %merged : tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>
    })",
                          {l.x, l.ids, l.weights, dense, f32({1, 4}, {0, 0, 1, 0})});
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], want, 1e-5);
  expectNear(out.results[2], out.results[1], 0); // the exchange changes no bit
  Numbers third = f32({l.tokens, l.hidden}, {});
  for (int64_t t = 0; t < l.tokens; ++t)
    for (double v : expert(l, 2, l.x.values.data() + t * l.hidden))
      third.values.push_back(v);
  expectNear(out.results[3], third, 1e-5); // all weight on one expert is that expert
}

TEST(Experts, RegionBodiesStorageAndSlabs) {
  Outcome out =
      runModule("moe.weights @weights {\n" + literal("s", f32({2, 2}, {1, 2, 3, 4})) + R"(}
    moe.bank @bank experts(4) hidden(2) inter(0) parameters([@s]) slabs([1, 0, -1, -1])
        storage(["dense", "dense", "zero", "identity"]) {
    ^bb0(%x: tensor<?x2xf32>, %s: tensor<2xf32>):
      %y = "onnx.Mul"(%x, %s) : (tensor<?x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
      moe.yield %y : tensor<?x2xf32>
    }
    func.func @main(%x: tensor<4x2xf32>, %i: tensor<4x1xi32>, %w: tensor<4x1xf32>) -> tensor<4x2xf32> {
      %y = moe.experts @bank (%x, %i, %w)
          : (tensor<4x2xf32>, tensor<4x1xi32>, tensor<4x1xf32>) -> tensor<4x2xf32>
      return %y : tensor<4x2xf32>
    })",
                {f32({4, 2}, {1, 1, 1, 1, 1, 1, 5, 6}), i32({4, 1}, {0, 1, 2, 3}),
                 f32({4, 1}, {1, 1, 1, 2})});
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], f32({4, 2}, {3, 4, 1, 2, 0, 0, 10, 12}), 0);
}

// Experts 0 and 2 are linear, expert 1 gives a part of its token's context.
const char *kindsText = R"(
    moe.bank @bank experts(3) hidden(2) inter(0) parameters([[@m], [@b]]) kinds([0, 1, 0]) {
    ^bb0(%x: tensor<?x2xf32>, %m: tensor<2x3xf32>, %c: tensor<?x3xf32>):
      %y = "onnx.MatMul"(%x, %m) : (tensor<?x2xf32>, tensor<2x3xf32>) -> tensor<?x3xf32>
      moe.yield %y : tensor<?x3xf32>
    }, {
    ^bb0(%x: tensor<?x2xf32>, %b: tensor<3xf32>, %c: tensor<?x3xf32>):
      %y = "onnx.Add"(%c, %b) : (tensor<?x3xf32>, tensor<3xf32>) -> tensor<?x3xf32>
      moe.yield %y : tensor<?x3xf32>
    })";

std::string kindsWeights() {
  return "moe.weights @weights {\n" +
         literal("m", f32({2, 2, 3}, {1, 0, 1, 0, 1, 1, 2, 0, 0, 0, 2, 0})) +
         literal("b", f32({1, 3}, {1, 2, 3})) + "}\n";
}

TEST(Experts, KindsContextsAndOtherSizes) {
  Outcome out = runModule(kindsWeights() + kindsText + R"(
    func.func @main(%x: tensor<?x2xf32>, %i: tensor<?x1xi32>, %w: tensor<?x1xf32>, %c: tensor<?x3xf32>)
        -> (tensor<?x3xf32>, tensor<?x1x3xf32>) {
      %y = moe.experts @bank (%x, %i, %w, %c) {contexts = ["rows"]}
          : (tensor<?x2xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x3xf32>) -> tensor<?x3xf32>
      %z = moe.experts @bank (%x, %i, %w, %c) {contexts = ["rows"], combine = "none"}
          : (tensor<?x2xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x3xf32>) -> tensor<?x1x3xf32>
      return %y, %z : tensor<?x3xf32>, tensor<?x1x3xf32>
    })",
                          {f32({3, 2}, {1, 2, 3, 4, 5, 6}), i32({3, 1}, {2, 1, 0}),
                           f32({3, 1}, {1, 2, 1}), f32({3, 3}, {7, 7, 7, 1, 1, 1, 7, 7, 7})});
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], f32({3, 3}, {2, 4, 0, 4, 6, 8, 5, 6, 11}), 0);
  expectNear(out.results[1], f32({3, 1, 3}, {2, 4, 0, 4, 6, 8, 5, 6, 11}), 0);
}

// Without a token the sizes behind are those of an expert's result.
TEST(Experts, NoTokensOfRegions) {
  Outcome out = runModule(kindsWeights() + kindsText + R"(
    func.func @main(%x: tensor<?x2xf32>, %w: tensor<?x3xf32>, %c: tensor<?x3xf32>) -> tensor<?x3xf32> {
      %y = moe.experts @bank (%x, %w, %c) {contexts = ["rows"]}
          : (tensor<?x2xf32>, tensor<?x3xf32>, tensor<?x3xf32>) -> tensor<?x3xf32>
      return %y : tensor<?x3xf32>
    })",
                          {f32({0, 2}, {}), f32({0, 3}, {}), f32({0, 3}, {})});
  ASSERT_EQ(out.error, "");
  EXPECT_EQ(out.results[0].shape, (std::vector<int64_t>{0, 3}));
}

TEST(Experts, BadIdsAreErrors) {
  Layer l = randomLayer(30);
  l.ids.values[0] = 4;
  l.weights.values[0] = 1;
  Outcome out = runModule(l.ir + bankText + R"(
    func.func @main(%x: tensor<5x4xf32>, %i: tensor<5x2xi32>, %w: tensor<5x2xf32>) -> tensor<5x4xf32> {
      %y = moe.experts @bank (%x, %i, %w)
          : (tensor<5x4xf32>, tensor<5x2xi32>, tensor<5x2xf32>) -> tensor<5x4xf32> loc("layer 3")
      return %y : tensor<5x4xf32>
    })",
                          {l.x, l.ids, l.weights});
  EXPECT_EQ(out.error, "node \"layer 3\" (moe.experts): expert id 4 of 4 experts");
}

TEST(SoftMoE, SlotsAreMeansAndComeBack) {
  Outcome out = runModule(R"(
    func.func @main(%x: tensor<2x2xf32>, %z: tensor<2x1xf32>) -> (tensor<1x2xf32>, tensor<2x2xf32>) {
      %s = moe.soft_dispatch %x, %z : (tensor<2x2xf32>, tensor<2x1xf32>) -> tensor<1x2xf32>
      %y = moe.soft_combine %s, %z : (tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<2x2xf32>
      return %s, %y : tensor<1x2xf32>, tensor<2x2xf32>
    })",
                          {f32({2, 2}, {1, 2, 5, 6}), f32({2, 1}, {0, std::log(3)})});
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], f32({1, 2}, {4, 5}), 1e-6);
  expectNear(out.results[1], f32({2, 2}, {4, 5, 4, 5}), 1e-6);
}

// com.microsoft.MoE computes what route and experts do.
TEST(Contrib, MoEEqualsNaiveLoop) {
  for (unsigned seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    Numbers x = randomNumbers(random, {3, 2}), z = randomNumbers(random, {3, 4});
    Numbers fc1 = randomNumbers(random, {4, 3, 2}), fc2 = randomNumbers(random, {4, 2, 3}),
            fc3 = randomNumbers(random, {4, 3, 2});
    Numbers want = f32({3, 2}, std::vector<double>(6, 0.0));
    for (int64_t t = 0; t < 3; ++t) {
      std::vector<double> p;
      for (int64_t e = 0; e < 4; ++e)
        p.push_back(std::exp(z.values[t * 4 + e]));
      double all = p[0] + p[1] + p[2] + p[3];
      auto second = p;
      std::nth_element(second.begin(), second.begin() + 2, second.end());
      double bound = second[2], norm = 0;
      for (double v : p)
        norm += v >= bound ? v / all : 0;
      for (int64_t e = 0; e < 4; ++e)
        for (int64_t i = 0; p[e] >= bound && i < 3; ++i) {
          double g = 0, u = 0;
          for (int64_t d = 0; d < 2; ++d) {
            g += fc1.values[(e * 3 + i) * 2 + d] * x.values[t * 2 + d];
            u += fc3.values[(e * 3 + i) * 2 + d] * x.values[t * 2 + d];
          }
          double h = g / (1 + std::exp(-g)) * u;
          for (int64_t d = 0; d < 2; ++d)
            want.values[t * 2 + d] += p[e] / all / norm * h * fc2.values[(e * 2 + d) * 3 + i];
        }
    }
    expectOp("onnx.custom",
             "{domain = \"com.microsoft\", op_type = \"MoE\", attributes = {k = 2 : i64, "
             "activation_type = \"silu\", normalize_routing_weights = 1 : i64}}",
             {x, z, fc1, absent(), fc2, absent(), fc3, absent()}, want, 1e-5);
  }
}

} // namespace
