#include "Compare.h"

using namespace harness;
using namespace moec;

namespace {

struct Shape {
  int64_t B, heads, kv, S, L, D, DV;
  bool causal, masked;
  int64_t offset;
};

struct Case {
  Shape s;
  float scale;
  Floats q, k, v, mask;

  Case(std::mt19937 &random, Shape shape) : s(shape), scale(0.3f) {
    q = randomFloats(random, s.B * s.S * s.heads * s.D, 2);
    k = randomFloats(random, s.B * s.L * s.kv * s.D, 2);
    v = randomFloats(random, s.B * s.L * s.kv * s.DV);
    mask = randomFloats(random, s.S * s.L);
    for (float &m : mask)
      if (random() % 4 == 0)
        m = -std::numeric_limits<float>::infinity();
  }

  // q, k, v and out as [batch, position, head, D]: strided rows.
  Floats expected() const {
    Floats out(s.B * s.S * s.heads * s.DV);
    for (int64_t b = 0; b < s.B; ++b)
      for (int64_t h = 0; h < s.heads; ++h)
        for (int64_t i = 0; i < s.S; ++i)
          row(out, b, h, i);
    return out;
  }

  void row(Floats &out, int64_t b, int64_t h, int64_t i) const {
    int64_t g = h / (s.heads / s.kv);
    std::vector<double> p(s.L);
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = 0; j < s.L; ++j) {
      for (int64_t d = 0; d < s.D; ++d)
        p[j] += double(q[((b * s.S + i) * s.heads + h) * s.D + d]) *
                k[((b * s.L + j) * s.kv + g) * s.D + d];
      p[j] = p[j] * scale + (s.masked ? mask[i * s.L + j] : 0);
      if (s.causal && j > i + s.offset)
        p[j] = -std::numeric_limits<double>::infinity();
      largest = std::max(largest, p[j]);
    }
    if (std::isinf(largest))
      return; // sees no key: zeros
    for (double &x : p)
      sum += x = std::exp(x - largest);
    for (int64_t d = 0; d < s.DV; ++d) {
      double y = 0;
      for (int64_t j = 0; j < s.L; ++j)
        y += p[j] / sum * v[((b * s.L + j) * s.kv + g) * s.DV + d];
      out[((b * s.S + i) * s.heads + h) * s.DV + d] = float(y);
    }
  }

  std::string run(Context &context, Floats &out) const {
    out.assign(s.B * s.S * s.heads * s.DV, 7.0f);
    return context.run([&](auto &api, auto *ctx) {
      api.attention(ctx, 0, s.B, s.heads, s.kv, s.S, s.L, s.D, s.DV, q.data(),
                    s.S * s.heads * s.D, s.D, s.heads * s.D, k.data(), s.L * s.kv * s.D, s.D,
                    s.kv * s.D, v.data(), s.L * s.kv * s.DV, s.DV, s.kv * s.DV,
                    s.masked ? mask.data() : nullptr, 0, 0, s.L, 1, s.causal, s.offset, scale,
                    out.data(), s.S * s.heads * s.DV, s.DV, s.heads * s.DV);
    });
  }
};

class Attention : public testing::TestWithParam<std::string> {};

TEST_P(Attention, MatchesNaiveAttention) {
  Kernels kernels({attentionSpec()}, GetParam());
  Context one(1, kernels), three(3, kernels);
  std::mt19937 random = seeded();
  for (int round = 0; round < 80; ++round) {
    int64_t kv = 1 + random() % 3, L = 1 + random() % 90;
    Shape shape = {1 + int64_t(random() % 2), kv * int64_t(1 + random() % 3), kv,
                   int64_t(random() % 60),    L, 1 + int64_t(random() % 50),
                   1 + int64_t(random() % 50), random() % 2 == 0, random() % 2 == 0,
                   int64_t(random() % 20)};
    if (round % 4 == 0)
      shape.S = 1; // decode
    Case test(random, shape);
    Floats got, again;
    ASSERT_EQ(test.run(one, got), "");
    ASSERT_EQ(test.run(three, again), "");
    expectClose(got, test.expected(), 1e-5f, "S ", shape.S, " L ", L, " D ", shape.D, " DV ",
                shape.DV, " causal ", shape.causal, " masked ", shape.masked);
    ASSERT_EQ(got.size(), again.size());
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_TRUE(got[i] == again[i] || (std::isnan(got[i]) && std::isnan(again[i])));
  }
}

TEST_P(Attention, LongSequences) {
  Kernels kernels({attentionSpec()}, GetParam());
  Context one(1, kernels), four(4, kernels);
  std::mt19937 random = seeded();
  Case test(random, {1, 4, 2, 200, 700, 32, 40, true, false, 500});
  Floats got, again;
  ASSERT_EQ(test.run(one, got), "");
  ASSERT_EQ(test.run(four, again), "");
  expectClose(got, test.expected(), 1e-5f, "long");
  EXPECT_EQ(got, again);
}

/// A query that sees no key gets zeros, as ONNX's Attention has it; so does one without any keys.
TEST_P(Attention, RowsWithoutKeys) {
  Kernels kernels({attentionSpec()}, GetParam());
  Context context(1, kernels);
  std::mt19937 random = seeded();
  Case test(random, {1, 1, 1, 3, 5, 4, 4, false, true, 0});
  for (int j = 0; j < 5; ++j)
    test.mask[5 + j] = -std::numeric_limits<float>::infinity();
  test.mask[0] = test.mask[10] = 0;
  Floats got;
  ASSERT_EQ(test.run(context, got), "");
  for (int d = 0; d < 4; ++d) {
    EXPECT_FALSE(std::isnan(got[d]));
    EXPECT_EQ(got[4 + d], 0);
    EXPECT_FALSE(std::isnan(got[8 + d]));
  }
  Case before(random, {1, 1, 1, 3, 5, 4, 4, true, false, -1}); // query 0 sees nothing
  ASSERT_EQ(before.run(context, got), "");
  EXPECT_EQ(got[0], 0);
  EXPECT_FALSE(std::isnan(got[4]));
  Case empty(random, {1, 1, 1, 3, 0, 4, 4, false, false, 0});
  ASSERT_EQ(empty.run(context, got), "");
  EXPECT_EQ(got, Floats(12, 0.0f));
}

INSTANTIATE_TEST_SUITE_P(Isa, Attention, testing::ValuesIn(isas()),
                         [](const auto &info) { return info.param; });

} // namespace
