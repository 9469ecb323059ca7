#include "Compare.h"

using namespace harness;
using namespace moec;

namespace {

class Gemm : public testing::TestWithParam<std::string> {};

/// Random shapes, every row count 0..40, against a naive product.
TEST_P(Gemm, MatchesNaiveProduct) {
  std::vector<WeightType> types = {WeightType::F32, WeightType::F16, WeightType::BF16};
  Kernels kernels({gemmSpec(types[0]), gemmSpec(types[1]), gemmSpec(types[2])}, GetParam());
  Context one(1, kernels), three(3, kernels);
  std::mt19937 random = seeded();
  for (int slot = 0; slot < 3; ++slot)
    for (int64_t M = 0; M <= 40; ++M) {
      int64_t N = 1 + random() % 150, K = random() % 90, lda = K + random() % 5,
              ldc = N + random() % 5;
      bool withBias = random() % 2;
      Floats w = randomFloats(random, N * K), a = randomFloats(random, M * lda + K);
      auto bias = randomFloats(random, N);
      store(w, types[slot]);
      Floats packed = packPanels(w, 1, N, K);
      auto bytes = store(packed, types[slot]);
      Floats expected(M * ldc, 7.0f), got = expected, again = expected; // 7: must stay
      for (int64_t m = 0; m < M; ++m)
        for (int64_t n = 0; n < N; ++n) {
          double sum = withBias ? bias[n] : 0;
          for (int64_t k = 0; k < K; ++k)
            sum += double(a[m * lda + k]) * w[n * K + k];
          expected[m * ldc + n] = float(sum);
        }
      const float *b = withBias ? bias.data() : nullptr;
      ASSERT_EQ(one.run([&](auto &api, auto *ctx) {
        api.gemm(ctx, slot, M, N, K, a.data(), lda, bytes.data(), b, got.data(), ldc);
      }), "");
      ASSERT_EQ(three.run([&](auto &api, auto *ctx) {
        api.gemm(ctx, slot, M, N, K, a.data(), lda, bytes.data(), b, again.data(), ldc);
      }), "");
      expectClose(got, expected, 1e-5f, "M ", M, " N ", N, " K ", K, " slot ", slot);
      EXPECT_EQ(got, again) << "depends on the number of threads";
    }
}

/// Large enough that rows and columns are split over threads.
TEST_P(Gemm, ThreadsDoNotChangeLargeProducts) {
  Kernels kernels({gemmSpec(WeightType::F16)}, GetParam());
  Context one(1, kernels), four(4, kernels);
  std::mt19937 random = seeded();
  struct {
    int64_t M, N, K;
  } shapes[] = {{1, 2000, 600}, {300, 40, 500}, {150, 700, 2100}, {13, 1000, 400}};
  for (auto [M, N, K] : shapes) {
    Floats w = randomFloats(random, N * K), a = randomFloats(random, M * K);
    auto bytes = store(w, WeightType::F16);
    Floats packed = packPanels(w, 1, N, K);
    bytes = store(packed, WeightType::F16);
    Floats got(M * N), again(M * N);
    auto call = [&](Context &context, Floats &c) {
      return context.run([&](auto &api, auto *ctx) {
        api.gemm(ctx, 0, M, N, K, a.data(), K, bytes.data(), nullptr, c.data(), N);
      });
    };
    ASSERT_EQ(call(one, got), "");
    ASSERT_EQ(call(four, again), "");
    EXPECT_EQ(got, again) << M << " " << N << " " << K;
    for (int64_t sample = 0; sample < 50; ++sample) {
      int64_t m = random() % M, n = random() % N;
      double sum = 0;
      for (int64_t k = 0; k < K; ++k)
        sum += double(a[m * K + k]) * w[n * K + k];
      EXPECT_NEAR(got[m * N + n], sum, 1e-4);
    }
  }
}

TEST_P(Gemm, PassesNanAndInfinity) {
  Kernels kernels({gemmSpec(WeightType::F32)}, GetParam());
  Context context(1, kernels);
  float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  Floats a = {1, inf, nan, -inf}, w = packPanels({1.0f}, 1, 1, 1), c(4);
  ASSERT_EQ(context.run([&](auto &api, auto *ctx) {
    api.gemm(ctx, 0, 4, 1, 1, a.data(), 1, w.data(), nullptr, c.data(), 1);
  }), "");
  expectClose(c, a, 0, "values pass");
}

TEST_P(Gemm, RefusesASlotOfAnotherOperation) {
  Kernels kernels({bgemmSpec()}, GetParam());
  Context context(1, kernels);
  float a = 1, w[16] = {1}, c;
  std::string message = context.run([&](auto &api, auto *ctx) {
    api.gemm(ctx, 0, 1, 1, 1, &a, 1, w, nullptr, &c, 1);
  });
  EXPECT_NE(message.find("holds operation"), std::string::npos) << message;
}

/// All combinations of transposed and plain operands, batch strides of 0, odd sizes.
TEST_P(Gemm, BatchedMatchesNaiveProduct) {
  Kernels kernels({bgemmSpec()}, GetParam());
  Context one(1, kernels), three(3, kernels);
  std::mt19937 random = seeded();
  for (int round = 0; round < 200; ++round) {
    int64_t b0 = 1 + random() % 3, b1 = 1 + random() % 3;
    int64_t M = round < 60 ? 1 + random() % 2 : random() % 41, N = 1 + random() % 70,
            K = random() % 70;
    bool aT = random() % 4 == 0, bT = random() % 2, shared = random() % 3 == 0;
    int64_t pad = random() % 3, sizeA = M * K + pad, sizeB = N * K + pad;
    Floats A = randomFloats(random, b0 * b1 * sizeA + 1), B = randomFloats(random, b0 * b1 * sizeB + 1);
    int64_t rsA = aT ? 1 : K, csA = aT ? M : 1, rsB = bT ? 1 : N, csB = bT ? K : 1;
    int64_t sa1 = sizeA, sa0 = b1 * sizeA, sb1 = shared ? 0 : sizeB, sb0 = shared ? 0 : b1 * sizeB;
    Floats expected(b0 * b1 * M * N), got = expected, again = expected;
    for (int64_t i = 0; i < b0; ++i)
      for (int64_t j = 0; j < b1; ++j)
        for (int64_t m = 0; m < M; ++m)
          for (int64_t n = 0; n < N; ++n) {
            double sum = 0;
            for (int64_t k = 0; k < K; ++k)
              sum += double(A[i * sa0 + j * sa1 + m * rsA + k * csA]) *
                     B[i * sb0 + j * sb1 + k * rsB + n * csB];
            expected[((i * b1 + j) * M + m) * N + n] = float(sum);
          }
    auto call = [&](Context &context, Floats &c) {
      return context.run([&](auto &api, auto *ctx) {
        api.bgemm(ctx, 0, b0, b1, M, N, K, A.data(), sa0, sa1, rsA, csA, B.data(), sb0, sb1, rsB,
                  csB, c.data(), b1 * M * N, M * N, N);
      });
    };
    ASSERT_EQ(call(one, got), "");
    ASSERT_EQ(call(three, again), "");
    expectClose(got, expected, 1e-5f, "M ", M, " N ", N, " K ", K, " aT ", aT, " bT ", bT);
    EXPECT_EQ(got, again);
  }
}

TEST_P(Gemm, BatchedLargeProductsDoNotDependOnThreads) {
  Kernels kernels({bgemmSpec()}, GetParam());
  Context one(1, kernels), four(4, kernels);
  std::mt19937 random = seeded();
  for (bool bT : {false, true})
    for (int64_t M : {1, 2, 20, 300}) {
      int64_t N = 1100, K = 130;
      Floats A = randomFloats(random, M * K), B = randomFloats(random, N * K);
      Floats got(M * N), again(M * N);
      auto call = [&](Context &context, Floats &c) {
        return context.run([&](auto &api, auto *ctx) {
          api.bgemm(ctx, 0, 1, 1, M, N, K, A.data(), 0, 0, K, 1, B.data(), 0, 0, bT ? 1 : N,
                    bT ? K : 1, c.data(), 0, 0, N);
        });
      };
      ASSERT_EQ(call(one, got), "");
      ASSERT_EQ(call(four, again), "");
      EXPECT_EQ(got, again);
      for (int64_t n = 0; n < N; n += 7) {
        double sum = 0;
        for (int64_t k = 0; k < K; ++k)
          sum += double(A[(M - 1) * K + k]) * B[bT ? n * K + k : k * N + n];
        EXPECT_NEAR(got[(M - 1) * N + n], sum, 1e-4);
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Isa, Gemm, testing::ValuesIn(isas()),
                         [](const auto &info) { return info.param; });

} // namespace
