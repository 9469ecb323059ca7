#include "Compare.h"

using namespace harness;
using namespace moec;

namespace {

double reference(Activation activation, double alpha, double x) {
  switch (activation) {
  case Activation::Identity:
    return x;
  case Activation::Relu:
    return x < 0 ? 0 : x;
  case Activation::Relu2:
    return x < 0 ? 0 : x * x;
  case Activation::Silu:
    return x / (1 + std::exp(-x));
  case Activation::Swish:
    return x / (1 + std::exp(-alpha * x));
  case Activation::Gelu:
    return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  case Activation::GeluTanh:
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case Activation::Tanh:
    return std::tanh(x);
  case Activation::Sigmoid:
    return 1 / (1 + std::exp(-x));
  }
  return x;
}

/// A bank, its packed form and a routing.
struct Case {
  KernelSpec up;
  int64_t T, H, I, E, K;
  bool biases;
  Floats x, weights;
  std::vector<int32_t> ids;
  Floats gate, upW, down, gateBias, upBias, downBias;
  std::vector<uint8_t> gateUpBytes, downBytes;
  Floats gateUpBias;

  Case(std::mt19937 &random, KernelSpec spec, int64_t T, int64_t H, int64_t I, int64_t E,
       int64_t K, bool biases)
      : up(spec), T(T), H(H), I(I), E(E), K(K), biases(biases) {
    float scale = 1.0f / std::sqrt(float(std::max<int64_t>(H, 1)));
    x = randomFloats(random, T * H, 2);
    gate = randomFloats(random, E * I * H, 2 * scale);
    upW = randomFloats(random, E * I * H, 2 * scale);
    down = randomFloats(random, E * H * I, scale);
    gateBias = randomFloats(random, E * I, biases);
    upBias = randomFloats(random, E * I, biases);
    downBias = randomFloats(random, E * H, biases);
    for (Floats *w : {&gate, &upW, &down})
      store(*w, spec.weight);
    Floats packed = spec.gated ? packGateUp(gate, upW, E, I, H) : packPanels(upW, E, I, H);
    gateUpBytes = store(packed, spec.weight);
    Floats packedDown = packPanels(down, E, H, I);
    downBytes = store(packedDown, spec.weight);
    gateUpBias = spec.gated ? packGateUp(gateBias, upBias, E, I, 1) : packPanels(upBias, E, I, 1);
    route(random);
  }

  /// Distinct experts a token, some slots empty, some weights 0 or negative.
  void route(std::mt19937 &random) {
    for (int64_t t = 0; t < T; ++t) {
      std::vector<int32_t> order(E);
      for (int32_t e = 0; e < E; ++e)
        order[e] = e;
      std::shuffle(order.begin(), order.end(), random);
      for (int64_t k = 0; k < K; ++k) {
        unsigned dice = random() % 10;
        // Low ids are more likely: some experts get many tokens, some none.
        int32_t id = dice < 5 ? order[k] % std::max<int64_t>(E / 4, 1) : order[k];
        ids.push_back(dice == 9 ? -1 : id);
        weights.push_back(dice == 8 ? 0.0f : randomFloats(random, 1)[0]);
      }
    }
  }

  Floats expected() const {
    Floats out(T * H);
    for (int64_t t = 0; t < T; ++t) {
      std::vector<double> sum(H);
      for (int64_t k = 0; k < K; ++k)
        if (ids[t * K + k] >= 0 && weights[t * K + k] != 0)
          addExpert(sum, t, ids[t * K + k], weights[t * K + k]);
      for (int64_t h = 0; h < H; ++h)
        out[t * H + h] = float(sum[h]);
    }
    return out;
  }

  void addExpert(std::vector<double> &sum, int64_t t, int64_t e, double weight) const {
    std::vector<double> hidden(I);
    for (int64_t i = 0; i < I; ++i) {
      double g = gateBias[e * I + i], u = upBias[e * I + i];
      for (int64_t h = 0; h < H; ++h) {
        g += double(x[t * H + h]) * gate[(e * I + i) * H + h];
        u += double(x[t * H + h]) * upW[(e * I + i) * H + h];
      }
      if (up.limit) {
        g = std::min(g, double(*up.limit));
        u = std::clamp(u, -double(*up.limit), double(*up.limit));
      }
      hidden[i] = up.gated ? reference(up.activation, up.alpha, g) * (u + up.upOffset)
                           : reference(up.activation, up.alpha, u);
    }
    for (int64_t h = 0; h < H; ++h) {
      double y = downBias[e * H + h];
      for (int64_t i = 0; i < I; ++i)
        y += hidden[i] * down[(e * H + h) * I + i];
      sum[h] += weight * y;
    }
  }

  std::string run(Context &context, Floats &out, int upSlot = 0, int downSlot = 1) const {
    out.assign(T * H, 7.0f);
    return context.run([&](auto &api, auto *ctx) {
      api.experts(ctx, upSlot, downSlot, T, H, I, E, K, x.data(), ids.data(), weights.data(),
                  gateUpBytes.data(), biases ? gateUpBias.data() : nullptr, downBytes.data(),
                  biases ? downBias.data() : nullptr, out.data());
    });
  }
};

class Experts : public testing::TestWithParam<std::string> {};

TEST_P(Experts, MatchNaiveExperts) {
  std::vector<KernelSpec> specs = {
      expertsUpSpec(WeightType::F32, true, Activation::Silu),
      expertsUpSpec(WeightType::F16, true, Activation::Silu),
      expertsUpSpec(WeightType::BF16, true, Activation::GeluTanh),
      expertsUpSpec(WeightType::F32, false, Activation::Gelu),
      expertsUpSpec(WeightType::F16, false, Activation::Relu2, 1, 1.5f),
      expertsUpSpec(WeightType::F32, true, Activation::Swish, 1.702f, 0.7f, 1.0f),
  };
  std::mt19937 random = seeded();
  for (const KernelSpec &spec : specs) {
    Kernels kernels({spec, expertsDownSpec(spec.weight)}, GetParam());
    Context one(1, kernels), three(3, kernels);
    for (int round = 0; round < 14; ++round) {
      int64_t E = 1 + random() % 20, K = 1 + random() % std::min<int64_t>(E, 4);
      int64_t T = round < 4 ? round : random() % 90;
      Case test(random, spec, T, 1 + random() % 70, 1 + random() % 60, E, K, round % 2);
      Floats got, again;
      ASSERT_EQ(test.run(one, got), "");
      ASSERT_EQ(test.run(three, again), "");
      expectClose(got, test.expected(), 2e-5f, spec.text(), " T ", T, " H ", test.H, " I ", test.I,
                  " E ", E, " K ", K);
      EXPECT_EQ(got, again) << "depends on the number of threads";
    }
  }
}

/// Shapes large enough for each schedule: decode in columns, many blocks fused, few large blocks.
TEST_P(Experts, SchedulesAgree) {
  KernelSpec spec = expertsUpSpec(WeightType::F16, true, Activation::Silu);
  Kernels kernels({spec, expertsDownSpec(spec.weight)}, GetParam());
  Context one(1, kernels), two(2, kernels), five(5, kernels);
  std::mt19937 random = seeded();
  struct {
    int64_t T, H, I, E, K;
  } shapes[] = {{1, 520, 264, 16, 4}, {2, 600, 300, 8, 2}, {150, 136, 70, 32, 4}, {200, 100, 90, 2, 1},
                {70, 60, 2100, 3, 2}};
  for (auto [T, H, I, E, K] : shapes) {
    Case test(random, spec, T, H, I, E, K, true);
    Floats a, b, c;
    ASSERT_EQ(test.run(one, a), "");
    ASSERT_EQ(test.run(two, b), "");
    ASSERT_EQ(test.run(five, c), "");
    EXPECT_EQ(a, b);
    EXPECT_EQ(a, c);
    expectClose(a, test.expected(), 5e-5f, "T ", T, " H ", H, " I ", I);
  }
}

/// Experts that share rows or have none, in each schedule, against the sum slot by slot.
TEST_P(Experts, SharedAndSimpleExperts) {
  KernelSpec spec = expertsUpSpec(WeightType::F16, true, Activation::Silu);
  Kernels kernels({spec, expertsDownSpec(spec.weight)}, GetParam());
  Context one(1, kernels), two(2, kernels), five(5, kernels);
  std::mt19937 random = seeded();
  struct {
    int64_t T, H, I, E, K;
  } shapes[] = {{1, 520, 264, 16, 4}, {2, 600, 300, 8, 2}, {150, 136, 70, 32, 4},
                {200, 100, 90, 7, 3}, {70, 60, 2100, 6, 2}, {9, 33, 20, 12, 12}};
  for (auto [T, H, I, E, K] : shapes) {
    Case test(random, spec, T, H, I, E, K, true);
    Floats constants = randomFloats(random, size_t(E * H));
    std::vector<int32_t> slabs, twins;
    for (int32_t e = 0; e < E; ++e) { // pairs of dense experts between simple ones
      int32_t simple[] = {MOERT_SLAB_ZERO, MOERT_SLAB_IDENTITY, MOERT_SLAB_CONSTANT - e};
      bool dense = e % 3 < 2;
      slabs.push_back(dense ? e / 3 : simple[e / 3 % 3]);
      twins.push_back(dense ? e / 3 * 3 : e);
    }
    Floats expected(size_t(T * H));
    for (int64_t t = 0; t < T; ++t) {
      std::vector<double> sum(static_cast<size_t>(H));
      for (int64_t i = t * K; i < (t + 1) * K; ++i) {
        int32_t id = test.ids[i], slab = id < 0 ? MOERT_SLAB_ZERO : slabs[id];
        float weight = test.weights[i];
        if (slab >= 0 && weight != 0)
          test.addExpert(sum, t, slab, weight);
        for (int64_t h = 0; h < H && slab < MOERT_SLAB_ZERO; ++h)
          sum[h] += weight * (slab == MOERT_SLAB_IDENTITY ? test.x[t * H + h]
                                                          : constants[id * H + h]);
      }
      for (int64_t h = 0; h < H; ++h)
        expected[t * H + h] = float(sum[h]);
    }
    Floats results[3];
    Context *contexts[] = {&one, &two, &five};
    for (int i = 0; i < 3; ++i) {
      results[i].assign(size_t(T * H), 7.0f);
      ASSERT_EQ(contexts[i]->run([&](auto &api, auto *ctx) {
        api.experts_mixed(ctx, 0, 1, T, H, I, E, K, test.x.data(), test.ids.data(),
                          test.weights.data(), test.gateUpBytes.data(), test.gateUpBias.data(),
                          test.downBytes.data(), test.downBias.data(), slabs.data(), nullptr,
                          twins.data(), constants.data(), results[i].data());
      }), "");
    }
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
    expectClose(results[0], expected, 5e-5f, "T ", T, " H ", H, " I ", I);
  }
}

TEST_P(Experts, DenseWeightsNameExpertsByPlace) {
  KernelSpec spec = expertsUpSpec(WeightType::F32, true, Activation::Silu);
  Kernels kernels({spec, expertsDownSpec(spec.weight)}, GetParam());
  Context context(2, kernels);
  std::mt19937 random = seeded();
  Case test(random, spec, 9, 20, 30, 5, 5, false);
  for (int64_t i = 0; i < 45; ++i)
    test.ids[i] = i % 5;
  Floats expected = test.expected(), got(9 * 20);
  ASSERT_EQ(context.run([&](auto &api, auto *ctx) {
    api.experts(ctx, 0, 1, 9, 20, 30, 5, 5, test.x.data(), nullptr, test.weights.data(),
                test.gateUpBytes.data(), nullptr, test.downBytes.data(), nullptr, got.data());
  }), "");
  expectClose(got, expected, 2e-5f, "dense");
}

TEST_P(Experts, RefuseIdsThatAreNoExperts) {
  KernelSpec spec = expertsUpSpec(WeightType::F32, true, Activation::Silu);
  Kernels kernels({spec, expertsDownSpec(spec.weight)}, GetParam());
  Context context(1, kernels);
  std::mt19937 random = seeded();
  for (int32_t bad : {5, -2, 1 << 30}) {
    Case test(random, spec, 2, 8, 8, 5, 2, false);
    test.ids[3] = bad;
    Floats out;
    std::string message = test.run(context, out);
    EXPECT_NE(message.find("is not one of 5 experts"), std::string::npos) << message;
  }
}

/// A token with a NaN weight gets a NaN row; others are untouched; skipped experts may hold NaN.
TEST_P(Experts, NanStaysInItsRow) {
  KernelSpec spec = expertsUpSpec(WeightType::F32, true, Activation::Silu);
  Kernels kernels({spec, expertsDownSpec(spec.weight)}, GetParam());
  Context context(2, kernels);
  std::mt19937 random = seeded();
  for (int64_t T : {3, 40}) {
    Case test(random, spec, T, 24, 20, 4, 2, false);
    for (int64_t i = 0; i < T * 2; ++i) {
      test.ids[i] = i % 2; // experts 0 and 1
      test.weights[i] = 0.5f;
    }
    test.weights[2] = std::nanf(""); // token 1
    test.weights[1] = 0;             // token 0 skips expert 1
    Floats got, clean = test.expected();
    ASSERT_EQ(test.run(context, got), "");
    expectClose(got, clean, 2e-5f, "T ", T);
    EXPECT_TRUE(std::isnan(got[24]) && std::isnan(got[47]));
    EXPECT_FALSE(std::isnan(got[0]) || std::isnan(got[48]));
  }
}

/// So many tokens that they go through in parts.
TEST_P(Experts, ManyTokens) {
  KernelSpec spec = expertsUpSpec(WeightType::F32, false, Activation::Relu);
  Kernels kernels({spec, expertsDownSpec(spec.weight)}, GetParam());
  Context context(2, kernels);
  const int64_t T = 800000, K = 3;
  std::mt19937 random = seeded();
  Floats x = randomFloats(random, T), w = randomFloats(random, T * K), out(T);
  std::vector<int32_t> ids(T * K);
  for (int32_t &id : ids)
    id = int32_t(random() % 4) - 1;
  Floats up = packPanels({1, -1, 2}, 3, 1, 1), down = packPanels({3, 5, 7}, 3, 1, 1);
  ASSERT_EQ(context.run([&](auto &api, auto *ctx) {
    api.experts(ctx, 0, 1, T, 1, 1, 3, K, x.data(), ids.data(), w.data(), up.data(), nullptr,
                down.data(), nullptr, out.data());
  }), "");
  for (int64_t t = 0; t < T; ++t) {
    double y = 0;
    for (int64_t k = t * K; k < t * K + K; ++k)
      if (ids[k] >= 0)
        y += w[k] * (ids[k] == 0   ? 3 * std::max(x[t], 0.0f)
                     : ids[k] == 1 ? 5 * std::max(-x[t], 0.0f)
                                   : 14 * std::max(x[t], 0.0f));
    ASSERT_NEAR(out[t], y, 1e-5) << t;
  }
}

/// act(x) for one hidden column of weight 1.
TEST_P(Experts, ActivationsAreAccurate) {
  float inf = std::numeric_limits<float>::infinity();
  Floats points = {0, -0.0f, 1e-30f, -1e-30f, 1e-5f, 0.624f, 0.626f, -0.4999f, 0.5001f, 88, -88,
                   89, -89, 104, -104, 200, -200, 1e4f, -1e4f, inf, -inf, std::nanf("")};
  for (int i = 0; i < 4000; ++i)
    points.push_back(-20 + 0.01f * i);
  int64_t T = points.size();
  Floats one = packPanels({1.0f}, 1, 1, 1), ones(T, 1.0f), got(T);
  std::vector<int32_t> ids(T, 0);
  std::vector<KernelSpec> specs = {expertsDownSpec(WeightType::F32)};
  for (int i = 0; i <= int(Activation::Sigmoid); ++i)
    specs.push_back(expertsUpSpec(WeightType::F32, false, Activation(i), 1.702f));
  Kernels kernels(specs, GetParam());
  Context context(1, kernels);
  for (int slot = 1; slot < int(specs.size()); ++slot) {
    const KernelSpec &spec = specs[slot];
    Activation activation = spec.activation;
    float alpha = spec.alpha;
    ASSERT_EQ(context.run([&](auto &api, auto *ctx) {
      api.experts(ctx, slot, 0, T, 1, 1, 1, 1, points.data(), ids.data(), ones.data(), one.data(),
                  nullptr, one.data(), nullptr, got.data());
    }), "");
    for (int64_t t = 0; t < T; ++t) {
      float x = points[t];
      double e = reference(activation, alpha, x);
      if (x == -inf && std::isnan(e))
        continue; // x * sigmoid(x): 0 or NaN, as the exporter's order of operations has it
      if (std::isnan(e) || std::isinf(e))
        EXPECT_TRUE(std::isnan(e) ? std::isnan(got[t]) : got[t] == e)
            << spec.text() << " of " << x << " is " << got[t] << ", not " << e;
      else
        EXPECT_NEAR(got[t], e, 4e-7 + 1e-6 * std::abs(e)) << spec.text() << " of " << x;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, Experts, testing::ValuesIn(isas()),
                         [](const auto &info) { return info.param; });

} // namespace
