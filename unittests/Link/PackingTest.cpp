// The layouts, by value.
#include "Fixture.h"
#include <cstring>

using moec::WeightEntry;

namespace {

float halfToFloat(uint16_t bits) {
  _Float16 half;
  std::memcpy(&half, &bits, 2);
  return float(half);
}

struct Packing : LinkTest {
  void SetUp() override {
    host = compile("host", "void moe_main(moert_ctx *c, moert_buffer *a) {}");
  }

  // Element i of a slab, as f32.
  static float at(const std::string &slab, const std::string &dtype, int64_t i) {
    if (dtype == "f32") {
      float f;
      std::memcpy(&f, slab.data() + i * 4, 4);
      return f;
    }
    uint16_t bits;
    std::memcpy(&bits, slab.data() + i * 2, 2);
    if (dtype == "f16")
      return halfToFloat(bits);
    uint32_t wide = uint32_t(bits) << 16;
    float f;
    std::memcpy(&f, &wide, 4);
    return f;
  }
};

int64_t panels(int64_t n) { return (n + 15) / 16; }

} // namespace

TEST_F(Packing, Columns) {
  for (const char *dtype : {"f32", "f16"}) {
    int64_t K = 7, N = 37;
    setWeights(K * N, {{"w", "7x37xf32"}});
    program.weights = {{"w", "panel16", dtype, {K, N}, ""}};
    packed = 0;
    ASSERT_EQ(link(), "");
    std::string s = slab(0);
    ASSERT_EQ(int64_t(s.size()), panels(N) * K * 16 * (*dtype == 'f' && dtype[1] == '3' ? 4 : 2));
    for (int64_t p = 0; p < panels(N); ++p)
      for (int64_t k = 0; k < K; ++k)
        for (int64_t c = 0; c < 16; ++c) {
          int64_t n = p * 16 + c;
          ASSERT_EQ(at(s, dtype, (p * K + k) * 16 + c), n < N ? value(k * N + n) : 0);
        }
    EXPECT_EQ(packed, s.size());
  }
}

// More than one block of rows: pieces come out of order, and the checksum follows.
TEST_F(Packing, ManyColumns) {
  int64_t K = 5000, N = 1001;
  setWeights(K * N, {{"w", "5000x1001xf32"}});
  program.weights = {{"w", "panel16", "f32", {K, N}, ""}};
  ASSERT_EQ(link(), "");
  std::string s = slab(0);
  for (int64_t p = 0; p < panels(N); p += 7)
    for (int64_t k = 0; k < K; k += 13)
      for (int64_t c = 0; c < 16; ++c) {
        int64_t n = p * 16 + c;
        ASSERT_EQ(at(s, "f32", (p * K + k) * 16 + c), n < N ? value(k * N + n) : 0);
      }
}

// A weight that a transpose and a cast made is read as it lies in the file.
TEST_F(Packing, TransposedColumns) {
  int64_t K = 18, N = 35;
  setWeights(K * N, {{"source", "35x18xf32"}});
  module = mlir::parseSourceString<mlir::ModuleOp>(R"(
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<35x18xf32>
      %1 = moe.weight.cast %0 : tensor<35x18xf32> -> tensor<35x18xf16>
      %2 = moe.weight.transpose %1 [1, 0] : tensor<35x18xf16> -> tensor<18x35xf16>
      %3 = moe.weight.cast %2 : tensor<18x35xf16> -> tensor<18x35xf32>
      moe.weight.bind @w %3 : tensor<18x35xf32>
    })", &context);
  ASSERT_TRUE(module);
  program.weights = {{"w", "panel16", "f16", {K, N}, ""}};
  ASSERT_EQ(link(), "");
  std::string s = slab(0);
  for (int64_t p = 0; p < panels(N); ++p)
    for (int64_t k = 0; k < K; ++k)
      for (int64_t c = 0; c < 16; ++c) {
        int64_t n = p * 16 + c;
        ASSERT_EQ(at(s, "f16", (p * K + k) * 16 + c), n < N ? value(n * K + k) : 0);
      }
}

TEST_F(Packing, Rows) {
  for (const char *dtype : {"f32", "f16"}) {
    int64_t N = 35, K = 18;
    setWeights(K * N, {{"w", "35x18xf32"}});
    program.weights = {{"w", "panel16_nk", dtype, {N, K}, ""}};
    packed = 0;
    ASSERT_EQ(link(), "");
    std::string s = slab(0);
    for (int64_t p = 0; p < panels(N); ++p)
      for (int64_t k = 0; k < K; ++k)
        for (int64_t c = 0; c < 16; ++c) {
          int64_t n = p * 16 + c;
          ASSERT_EQ(at(s, dtype, (p * K + k) * 16 + c), n < N ? value(n * K + k) : 0);
        }
  }
}

TEST_F(Packing, ManyRows) {
  int64_t N = 6007, K = 800;
  setWeights(K * N, {{"w", "6007x800xf32"}});
  program.weights = {{"w", "panel16_nk", "f32", {N, K}, ""}};
  ASSERT_EQ(link(), "");
  std::string s = slab(0);
  for (int64_t n = 0; n < N; n += 3)
    for (int64_t k = 0; k < K; k += 11)
      ASSERT_EQ(at(s, "f32", (n / 16 * K + k) * 16 + n % 16), value(n * K + k));
}

TEST_F(Packing, Experts) {
  int64_t E = 3, N = 20, K = 17;
  setWeights(E * N * K, {{"down", "3x20x17xf32"}, {"bias", "3x20xf32"}});
  program.weights = {{"down", "experts_panel16_nk", "f16", {E, N, K}, ""},
                     {"bias", "experts_panel16_nk", "f32", {E, N}, ""}};
  ASSERT_EQ(link(), "");
  std::string s = slab(0), b = slab(1);
  for (int64_t e = 0; e < E; ++e)
    for (int64_t p = 0; p < panels(N); ++p)
      for (int64_t c = 0; c < 16; ++c) {
        int64_t n = p * 16 + c;
        for (int64_t k = 0; k < K; ++k)
          ASSERT_EQ(at(s, "f16", ((e * panels(N) + p) * K + k) * 16 + c),
                    n < N ? value((e * N + n) * K + k) : 0);
        ASSERT_EQ(at(b, "f32", (e * panels(N) + p) * 16 + c), n < N ? value(e * N + n) : 0);
      }
}

TEST_F(Packing, GateAndUp) {
  int64_t E = 2, I = 21, H = 19;
  setWeights(E * I * H + 1000, {{"gate", "2x21x19xf32"}, {"gb", "2x21xf32"}, {"ub", "2x21xf32"}});
  // Up begins elsewhere in the file, to differ.
  std::string text = R"(moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x21x19xf32>
    moe.weight.bind @gate %0 : tensor<2x21x19xf32>
    %1 = moe.weight.load "w.bin" at 400 : tensor<2x21x19xf32>
    moe.weight.bind @up %1 : tensor<2x21x19xf32>
    %2 = moe.weight.load "w.bin" at 0 : tensor<2x21xf32>
    moe.weight.bind @gb %2 : tensor<2x21xf32>
    %3 = moe.weight.load "w.bin" at 400 : tensor<2x21xf32>
    moe.weight.bind @ub %3 : tensor<2x21xf32>
  })";
  module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  ASSERT_TRUE(module);
  program.weights = {{"gate", "experts_gate_up16", "f32", {E, I, H}, "up"},
                     {"gb", "experts_gate_up16", "f32", {E, I}, "ub"}};
  ASSERT_EQ(link(), "");
  std::string s = slab(0), b = slab(1);
  for (int64_t e = 0; e < E; ++e)
    for (int64_t p = 0; p < panels(I); ++p)
      for (int64_t c = 0; c < 32; ++c) {
        int64_t i = p * 16 + c % 16, shift = c < 16 ? 0 : 100;
        for (int64_t h = 0; h < H; ++h)
          ASSERT_EQ(at(s, "f32", ((e * panels(I) + p) * H + h) * 32 + c),
                    i < I ? value((e * I + i) * H + h + shift) : 0);
        ASSERT_EQ(at(b, "f32", (e * panels(I) + p) * 32 + c), i < I ? value(e * I + i + shift) : 0);
      }
}

TEST_F(Packing, PlainTypesAndRanks) {
  module = mlir::parseSourceString<mlir::ModuleOp>(R"(moe.weights @weights {
    %0 = moe.weight.literal dense<[true, false, true]> : tensor<3xi1>
    moe.weight.bind @mask %0 : tensor<3xi1>
    %1 = moe.weight.literal dense<-7> : tensor<i64>
    moe.weight.bind @scalar %1 : tensor<i64>
    %2 = moe.weight.literal dense<[[1.5, -2.0]]> : tensor<1x2xf16>
    moe.weight.bind @half %2 : tensor<1x2xf16>
    %3 = moe.weight.literal dense<200> : tensor<2xui8>
    moe.weight.bind @bytes %3 : tensor<2xui8>
    %4 = moe.weight.literal dense<> : tensor<0x4xf32>
    moe.weight.bind @empty %4 : tensor<0x4xf32>
  })",
                                                   &context);
  ASSERT_TRUE(module);
  program.weights = {{"mask", "plain", "i1", {3}, ""},      {"scalar", "plain", "i64", {}, ""},
                     {"half", "plain", "bf16", {1, 2}, ""}, {"half", "plain", "f64", {1, 2}, ""},
                     {"bytes", "plain", "ui8", {2}, ""},    {"empty", "plain", "f32", {0, 4}, ""}};
  ASSERT_EQ(link(), "");
  EXPECT_EQ(slab(0), std::string("\1\0\1", 3));
  int64_t scalar;
  std::memcpy(&scalar, slab(1).data(), 8);
  EXPECT_EQ(scalar, -7);
  EXPECT_EQ(at(slab(2), "bf16", 1), -2);
  double wide[2];
  std::memcpy(wide, slab(3).data(), 16);
  EXPECT_EQ(wide[0], 1.5);
  EXPECT_EQ(slab(4), "\310\310");
  const moew_entry *entry;
  EXPECT_EQ(slab(5, &entry), "");
  EXPECT_EQ(entry->rank, 2u);
  EXPECT_EQ(entry->dtype, 1u);
}

TEST_F(Packing, EqualEntriesAreStoredOnce) {
  setWeights(64, {{"w", "8x8xf32"}});
  WeightEntry plain{"w", "plain", "f32", {8, 8}, ""},
      packedEntry{"w", "panel16", "f32", {8, 8}, ""};
  program.weights = {plain, packedEntry, plain};
  ASSERT_EQ(link(), "");
  const moew_entry *first, *third;
  std::string a = slab(0, &first);
  uint64_t offset = first->offset;
  EXPECT_EQ(slab(2, &third), a);
  EXPECT_EQ(third->offset, offset);
  EXPECT_NE(slab(1), a);
}
