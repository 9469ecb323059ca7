#include "moec/Weights/Weights.h"

#include "mlir/IR/Builders.h"
#include "gtest/gtest.h"
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

using namespace moec;

namespace {

struct Elements : testing::Test {
  mlir::MLIRContext context;
  mlir::Builder b{&context};
  mlir::Type u(unsigned width) { return b.getIntegerType(width, /*isSigned=*/false); }

  template <typename To, typename From>
  std::vector<To> convert(mlir::Type from, std::vector<From> in, mlir::Type to) {
    std::vector<To> out(in.size());
    convertElements(from, reinterpret_cast<const char *>(in.data()), to,
                    reinterpret_cast<char *>(out.data()), int64_t(in.size()));
    return out;
  }
};

TEST_F(Elements, Sizes) {
  EXPECT_EQ(elementBytes(b.getF32Type()), 4);
  EXPECT_EQ(elementBytes(b.getBF16Type()), 2);
  EXPECT_EQ(elementBytes(b.getI1Type()), 1);
  EXPECT_EQ(elementBytes(b.getIntegerType(4)), 1);
  EXPECT_EQ(elementBytes(mlir::ComplexType::get(b.getF64Type())), 16);
  EXPECT_EQ(elementBytes(b.getIndexType()), 0);
  EXPECT_EQ(storageBits(b.getI1Type()), 8);
  EXPECT_EQ(storageBits(u(4)), 4);
  EXPECT_EQ(storageBits(b.getIntegerType(2)), 2);
}

TEST_F(Elements, HalvesRoundToNearestEven) {
  // 1 + 2^-11 lies between two halves: to the even one; a bit more goes up.
  std::vector<float> in = {1.0f, 1.00048828125f, 1.0005f, 65504.0f, 65520.0f, 1e-8f, -0.0f};
  while (in.size() < 19) // long enough for the vector path and its rest
    in.push_back(1.00048828125f);
  auto out = convert<uint16_t>(b.getF32Type(), in, b.getF16Type());
  EXPECT_EQ(std::vector<uint16_t>(out.begin(), out.begin() + 7),
            (std::vector<uint16_t>{0x3c00, 0x3c00, 0x3c01, 0x7bff, 0x7c00, 0, 0x8000}));
  for (size_t i = 7; i < out.size(); ++i)
    EXPECT_EQ(out[i], 0x3c00) << i;
}

TEST_F(Elements, EveryHalfSurvivesFloat) {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i)
    all[i] = static_cast<uint16_t>(i);
  for (mlir::Type type : {mlir::Type(b.getF16Type()), mlir::Type(b.getBF16Type())})
    for (mlir::Type wide : {mlir::Type(b.getF32Type()), mlir::Type(b.getF64Type())}) {
      std::vector<char> middle(all.size() * size_t(elementBytes(wide)));
      std::vector<uint16_t> back(all.size());
      convertFloats(type, reinterpret_cast<char *>(all.data()), wide, middle.data(), 65536);
      convertFloats(wide, middle.data(), type, reinterpret_cast<char *>(back.data()), 65536);
      unsigned exponent = type.isF16() ? 0x7c00 : 0x7f80;
      for (unsigned i = 0; i < 65536; ++i) {
        bool nan = (i & exponent) == exponent && (i & (0x7fff ^ exponent));
        if (nan)
          EXPECT_EQ(back[i] & exponent, exponent);
        else
          EXPECT_EQ(back[i], i);
      }
    }
}

TEST_F(Elements, Bf16FromDoubleRoundsOnce) {
  // Just above the middle of two bf16 numbers: rounding to f32 first would lose the rest.
  double middle = 1.0 + 0x1p-8, above = middle + 0x1p-40, below = middle - 0x1p-40;
  auto out = convert<uint16_t>(b.getF64Type(), std::vector<double>{middle, above, below, -above},
                               b.getBF16Type());
  EXPECT_EQ(out, (std::vector<uint16_t>{0x3f80, 0x3f81, 0x3f80, 0xbf81}));
}

TEST_F(Elements, FloatsToIntegers) {
  double inf = std::numeric_limits<double>::infinity();
  std::vector<double> in = {1.9, -1.9, NAN, inf, -inf, 300, -300};
  EXPECT_EQ(convert<int8_t>(b.getF64Type(), in, b.getI8Type()),
            (std::vector<int8_t>{1, -1, 0, 127, -128, 127, -128}));
  EXPECT_EQ(convert<uint8_t>(b.getF64Type(), in, u(8)),
            (std::vector<uint8_t>{1, 0, 0, 255, 0, 255, 0}));
  EXPECT_EQ(convert<int64_t>(b.getF64Type(), std::vector<double>{1e19, -1e19, 5}, b.getI64Type()),
            (std::vector<int64_t>{INT64_MAX, INT64_MIN, 5}));
  EXPECT_EQ(convert<uint64_t>(b.getF64Type(), std::vector<double>{1e19, -1, 2e20}, u(64)),
            (std::vector<uint64_t>{10000000000000000000u, 0, UINT64_MAX}));
  EXPECT_EQ(convert<int8_t>(b.getF64Type(), std::vector<double>{7, 8, -8, -9}, b.getIntegerType(4)),
            (std::vector<int8_t>{7, 7, -8, -8}));
  EXPECT_EQ(convert<uint8_t>(b.getF64Type(), std::vector<double>{0, -0.0, 0.5, NAN}, b.getI1Type()),
            (std::vector<uint8_t>{0, 0, 1, 1}));
}

TEST_F(Elements, IntegersToFloats) {
  EXPECT_EQ(convert<float>(u(64), std::vector<uint64_t>{UINT64_MAX, 3}, b.getF32Type()),
            (std::vector<float>{0x1p64f, 3}));
  EXPECT_EQ(convert<float>(b.getI64Type(), std::vector<int64_t>{-7, 1 << 24}, b.getF32Type()),
            (std::vector<float>{-7, 0x1p24f}));
  EXPECT_EQ(convert<float>(b.getI1Type(), std::vector<uint8_t>{0, 1, 7}, b.getF32Type()),
            (std::vector<float>{0, 1, 1}));
  EXPECT_EQ(convert<int8_t>(b.getI64Type(), std::vector<int64_t>{257}, b.getI8Type()),
            (std::vector<int8_t>{1}));
}

TEST_F(Elements, SmallFloats) {
  mlir::Type e4m3 = mlir::Float8E4M3FNType::get(&context);
  EXPECT_EQ(convert<float>(e4m3, std::vector<uint8_t>{0x38, 0xb8, 0x7e, 0x01}, b.getF32Type()),
            (std::vector<float>{1, -1, 448, 0x1p-9f}));
  EXPECT_EQ(convert<uint8_t>(b.getF32Type(), std::vector<float>{1, 448, 0x1p-9f}, e4m3),
            (std::vector<uint8_t>{0x38, 0x7e, 0x01}));
}

TEST_F(Elements, UnpacksFromAnyPosition) {
  const char packed[] = {char(0x21), char(0xf8)}; // 1, 2, 8 (-8), 15 (-1)
  char out[4];
  unpackElements(b.getIntegerType(4), packed, 0, 4, out);
  EXPECT_EQ(std::vector<int>(out, out + 4), (std::vector<int>{1, 2, -8, -1}));
  unpackElements(u(4), packed, 1, 3, out);
  EXPECT_EQ(std::vector<int>(out, out + 3), (std::vector<int>{2, 8, 15}));
  unpackElements(b.getIntegerType(2), packed, 2, 3, out); // 0x21: 1 0 2 0; 0xf8: 0 2 3 3
  EXPECT_EQ(std::vector<int>(out, out + 3), (std::vector<int>{-2, 0, 0}));
  const char bools[] = {0, 2, 1};
  unpackElements(b.getI1Type(), bools, 0, 3, out);
  EXPECT_EQ(std::vector<int>(out, out + 3), (std::vector<int>{0, 1, 1}));
}

} // namespace
