#include "Compare.h"
#include <algorithm>
#include <numeric>

using namespace harness;
using namespace moec;

namespace {

struct Routing {
  std::vector<int32_t> ids;
  Floats weights;
};

/// Scores of one row in f64; selection is done on the f32 roundings of them.
std::vector<double> scoresOf(RouterScore score, const float *logits, int64_t E) {
  std::vector<double> s(logits, logits + E);
  if (score == RouterScore::Sigmoid)
    for (double &v : s)
      v = 1 / (1 + std::exp(-v));
  if (score == RouterScore::Softmax) {
    double largest = *std::max_element(s.begin(), s.end()), sum = 0;
    for (double &v : s)
      sum += v = std::exp(v - largest);
    for (double &v : s)
      v /= sum;
  }
  return s;
}

void renormalise(const KernelSpec &spec, std::vector<double> &w) {
  double sum = 0, largest = *std::max_element(w.begin(), w.end());
  switch (spec.renorm) {
  case RouterRenorm::None:
    break;
  case RouterRenorm::Sum:
    sum = std::accumulate(w.begin(), w.end(), 0.0) + spec.epsilon;
    if (spec.minimum > 0)
      sum = std::max(sum, double(spec.minimum));
    for (double &v : w)
      v /= sum;
    break;
  case RouterRenorm::Softmax:
    for (double &v : w)
      sum += v = std::exp(v - largest);
    for (double &v : w)
      v /= sum;
    break;
  case RouterRenorm::Sigmoid:
    for (double &v : w)
      v = 1 / (1 + std::exp(-v));
    break;
  }
  for (double &v : w)
    v *= spec.scale;
}

Routing reference(const KernelSpec &spec, const Floats &logits, const float *bias, int64_t T,
                  int64_t E, int64_t K) {
  Routing out;
  for (int64_t t = 0; t < T; ++t) {
    auto scores = scoresOf(spec.score, &logits[t * E], E);
    std::vector<int32_t> order(E);
    std::iota(order.begin(), order.end(), 0);
    auto key = [&](int32_t e) { return scores[e] + (bias ? bias[e] : 0); };
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return key(a) > key(b) || (key(a) == key(b) && a < b);
    });
    std::vector<double> w;
    for (int64_t k = 0; k < K; ++k)
      w.push_back(scores[order[k]]);
    renormalise(spec, w);
    out.ids.insert(out.ids.end(), order.begin(), order.begin() + K);
    out.weights.insert(out.weights.end(), w.begin(), w.end());
  }
  return out;
}

class Route : public testing::TestWithParam<std::string> {
protected:
  Routing run(const KernelSpec &spec, const Floats &logits, const float *bias, int64_t T,
              int64_t E, int64_t K, int threads = 2) {
    Kernels kernels({spec}, GetParam());
    Context context(threads, kernels);
    Routing out{std::vector<int32_t>(T * K, -7), Floats(T * K)};
    EXPECT_EQ(context.run([&](auto &api, auto *ctx) {
      api.route(ctx, 0, T, E, K, logits.data(), bias, out.ids.data(), out.weights.data());
    }), "");
    return out;
  }
};

TEST_P(Route, MatchesFormulas) {
  std::mt19937 random = seeded();
  for (auto score : {RouterScore::Softmax, RouterScore::Sigmoid, RouterScore::Identity})
    for (auto renorm : {RouterRenorm::None, RouterRenorm::Sum, RouterRenorm::Softmax,
                        RouterRenorm::Sigmoid})
      for (bool withBias : {false, true}) {
        KernelSpec spec = routeSpec(score, renorm, 0.25f, renorm == RouterRenorm::Sum ? 0.5f : 0.0f,
                                    withBias ? 2.5f : 1.0f);
        int64_t T = random() % 50, E = 1 + random() % 140,
                K = 1 + random() % std::min<int64_t>(E, 9);
        // Multiples of 1/64, all different within a row: roundings do not change the order.
        Floats logits;
        for (int64_t t = 0; t < T; ++t) {
          Floats row(E);
          for (int64_t e = 0; e < E; ++e)
            row[e] = (float(e) - float(E) / 2) / 64;
          std::shuffle(row.begin(), row.end(), random);
          logits.insert(logits.end(), row.begin(), row.end());
        }
        Floats bias = randomFloats(random, E);
        for (float &b : bias)
          b = std::round(b * 8) / 8;
        const float *given = withBias ? bias.data() : nullptr;
        Routing got = run(spec, logits, given, T, E, K);
        Routing expected = reference(spec, logits, given, T, E, K);
        if (!withBias || score == RouterScore::Identity)
          EXPECT_EQ(got.ids, expected.ids) << spec.text() << " E " << E << " K " << K;
        if (got.ids == expected.ids)
          expectClose(got.weights, expected.weights, 2e-6f, spec.text(), " T ", T, " E ", E);
      }
}

TEST_P(Route, TiesGoToTheLowerId) {
  for (int64_t E : {3, 16, 40}) {
    Floats logits(2 * E, 1.0f);
    logits[E + 1] = 2.0f;
    Routing got = run(routeSpec(RouterScore::Softmax, RouterRenorm::Sum), logits, nullptr, 2, E, 3);
    EXPECT_EQ(got.ids, (std::vector<int32_t>{0, 1, 2, 1, 0, 2}));
  }
}

TEST_P(Route, MaskedAndExtremeLogits) {
  float inf = std::numeric_limits<float>::infinity();
  Floats logits = {-inf, 3, -inf, -inf, 1000, -1000, 0, 999};
  Routing got = run(routeSpec(RouterScore::Softmax, RouterRenorm::None), logits, nullptr, 2, 4, 2);
  EXPECT_EQ(got.ids, (std::vector<int32_t>{1, 0, 0, 3}));
  expectClose(got.weights, {1, 0, 0.7310586f, 0.2689414f}, 1e-6f, "softmax");
  got = run(routeSpec(RouterScore::Sigmoid, RouterRenorm::None), logits, nullptr, 2, 4, 2);
  EXPECT_EQ(got.ids, (std::vector<int32_t>{1, 0, 0, 3}));
  expectClose(got.weights, {0.9525741f, 0, 1, 1}, 1e-6f, "sigmoid");
}

TEST_P(Route, NanRowsKeepValidIds) {
  float nan = std::nanf("");
  for (auto score : {RouterScore::Softmax, RouterScore::Sigmoid, RouterScore::Identity}) {
    Floats logits = {1, 2, 3, 4, 1, nan, 3, 4, nan, nan, nan, nan};
    Routing got = run(routeSpec(score, RouterRenorm::Sum), logits, nullptr, 3, 4, 2);
    for (int t = 0; t < 3; ++t) {
      int32_t a = got.ids[2 * t], b = got.ids[2 * t + 1];
      EXPECT_TRUE(a >= 0 && a < 4 && b >= 0 && b < 4 && a != b) << a << " " << b;
      EXPECT_EQ(std::isnan(got.weights[2 * t]), t > 0);
      EXPECT_EQ(std::isnan(got.weights[2 * t + 1]), t > 0);
    }
  }
}

TEST_P(Route, ThreadsDoNotMatter) {
  std::mt19937 random = seeded();
  KernelSpec spec = routeSpec(RouterScore::Softmax, RouterRenorm::Sum);
  Floats logits = randomFloats(random, 3000 * 64, 4);
  Routing one = run(spec, logits, nullptr, 3000, 64, 8, 1);
  Routing four = run(spec, logits, nullptr, 3000, 64, 8, 4);
  EXPECT_EQ(one.ids, four.ids);
  EXPECT_EQ(one.weights, four.weights);
}

TEST_P(Route, RefusesMoreSlotsThanExperts) {
  Kernels kernels({routeSpec(RouterScore::Softmax, RouterRenorm::Sum)}, GetParam());
  Context context(1, kernels);
  Floats logits(4), weights(5);
  std::vector<int32_t> ids(5);
  std::string message = context.run([&](auto &api, auto *ctx) {
    api.route(ctx, 0, 1, 4, 5, logits.data(), nullptr, ids.data(), weights.data());
  });
  EXPECT_NE(message.find("cannot choose 5 of 4"), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(Isa, Route, testing::ValuesIn(isas()),
                         [](const auto &info) { return info.param; });

} // namespace
