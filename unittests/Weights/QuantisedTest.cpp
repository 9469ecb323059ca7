// moe.weight.unpack and moe.weight.dequantize against their formulas.
#include "Folder.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Weights/Weights.h"

#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"
#include <cmath>
#include <cstring>
#include <random>

using namespace moec;

namespace {

using Dims = std::vector<int64_t>;

int64_t count(const Dims &dims) {
  int64_t n = 1;
  for (int64_t d : dims)
    n *= d;
  return n;
}
std::string type(const Dims &dims, const std::string &element) {
  std::string text = "tensor<";
  for (int64_t d : dims)
    text += std::to_string(d) + "x";
  return text + element + ">";
}

struct Quantised : testing::Test {
  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  Folder folder;
  std::string file, text;
  std::mt19937 random{7};
  Quantised() { context.loadDialect<moe::MoEDialect>(); }

  template <typename T>
  size_t append(const std::vector<T> &values) {
    size_t at = file.size();
    file.append(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T));
    return at;
  }
  std::vector<uint8_t> bytes(int64_t n) {
    std::vector<uint8_t> out;
    for (int64_t i = 0; i < n; ++i)
      out.push_back(uint8_t(random()));
    return out;
  }
  void load(const std::string &name, size_t at, const std::string &type) {
    text += name + " = moe.weight.load \"w.bin\" at " + std::to_string(at) + " : " + type + "\n";
  }

  // Rows of %w, a float tensor.
  std::vector<float> rows(const std::string &type, int64_t first, int64_t n) {
    folder.write("w.bin", file);
    auto module = mlir::parseSourceString<mlir::ModuleOp>(
        "moe.weights @weights {\n" + text + "moe.weight.bind @w %w : " + type + "\n}", &context);
    EXPECT_TRUE(!!module) << text;
    if (!module)
      return {};
    WeightEvaluator evaluator(*module, folder.path.string());
    llvm::SmallVector<char> out;
    llvm::Error error = evaluator.rows("w", first, n, out);
    EXPECT_FALSE(!!error) << llvm::toString(std::move(error));
    std::vector<float> values(out.size() / 4);
    std::memcpy(values.data(), out.data(), out.size());
    return values;
  }
};

// Element i of packed bytes, low bits first.
int element(const std::vector<uint8_t> &packed, int64_t i, int bits, bool isSigned) {
  int value = packed[size_t(i * bits / 8)] >> (i * bits % 8) & ((1 << bits) - 1);
  return isSigned && value >> (bits - 1) ? value - (1 << bits) : value;
}

// Integers of all widths; blocks along any axis, some of them cut short; all forms of zero points.
TEST_F(Quantised, Integers) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    random.seed(seed);
    file.clear();
    text.clear();
    auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
    int bits = 1 << (1 + below(3));
    bool isSigned = below(2);
    std::string q = (isSigned ? "i" : "ui") + std::to_string(bits);
    Dims dims, blocks, scales, bytesOf;
    for (int64_t i = 0, rank = 1 + below(3); i < rank; ++i) {
      dims.push_back(1 + below(7));
      if (i + 1 == rank)
        dims.back() *= 8 / bits;
      blocks.push_back(1 + below(dims.back()));
      scales.push_back((dims.back() + blocks.back() - 1) / blocks.back());
    }
    bytesOf = dims;
    bytesOf.back() /= 8 / bits;
    auto packed = bytes(count(bytesOf));
    std::vector<float> scale;
    for (int64_t i = 0; i < count(scales); ++i)
      scale.push_back(float(below(1000) - 500) / 64);
    int zeros = int(below(3)); // none, one, one for each scale
    auto zero = bytes(zeros == 1 ? 1 : count(scales));
    load("%b", append(packed), type(bytesOf, "ui8"));
    load("%s", append(scale), type(scales, "f32"));
    load("%z", append(zero), type(zeros == 1 ? Dims(dims.size(), 1) : scales, "ui8"));
    text +=
        bits == 8 && !isSigned
            ? "%q = moe.weight.reshape %b : " + type(bytesOf, q) + " -> " + type(dims, q) + "\n"
            : "%q = moe.weight.unpack %b : " + type(bytesOf, "ui8") + " -> " + type(dims, q) + "\n";
    std::string list;
    for (int64_t b : blocks)
      list += (list.empty() ? "" : ", ") + std::to_string(b);
    text += "%w = moe.weight.dequantize %q, %s " + std::string(zeros ? "zero_point %z " : "") +
            "blocks [" + list + "] : (" + type(dims, q) + ", " + type(scales, "f32") +
            (zeros ? ", " + type(zeros == 1 ? Dims(dims.size(), 1) : scales, "ui8") : "") +
            ") -> " + type(dims, "f32") + "\n";
    int64_t first = below(dims[0]), n = 1 + below(dims[0] - first);
    auto got = rows(type(dims, "f32"), first, n);
    int64_t row = count(dims) / dims[0];
    ASSERT_EQ(int64_t(got.size()), n * row);
    for (int64_t i = 0; i < n * row; ++i) {
      int64_t at = first * row + i, rest = at, index = 0, stride = 1;
      for (size_t axis = dims.size(); axis-- > 0; rest /= dims[axis]) {
        index += rest % dims[axis] / blocks[axis] * stride;
        stride *= scales[axis];
      }
      int z = zeros == 0 ? 0 : zero[zeros == 1 ? 0 : size_t(index)];
      ASSERT_EQ(got[size_t(i)],
                float(element(packed, at, bits, isSigned) - z) * scale[size_t(index)])
          << text << "element " << at;
    }
  }
}

float e4m3(uint8_t bits) {
  int exponent = bits >> 3 & 15;
  float m = float(bits & 7) / 8;
  float v = exponent ? std::ldexp(1 + m, exponent - 7) : std::ldexp(m, -6);
  return bits & 128 ? -v : v;
}
float e2m1(int bits) {
  static const float values[] = {0, .5, 1, 1.5, 2, 3, 4, 6};
  return bits & 8 ? -values[bits & 7] : values[bits & 7];
}

// fp4 with a power of two for each 32 numbers.
TEST_F(Quantised, Mxfp4) {
  auto packed = bytes(3 * 2 * 32);
  std::vector<uint8_t> scale;
  for (int i = 0; i < 3 * 2 * 2; ++i)
    scale.push_back(uint8_t(120 + random() % 16));
  load("%b", append(packed), "tensor<3x2x32xui8>");
  load("%e", append(scale), "tensor<3x2x2xui8>");
  text += "%q = moe.weight.unpack %b : tensor<3x2x32xui8> -> tensor<3x2x64xf4E2M1FN>\n"
          "%s = moe.weight.unpack %e : tensor<3x2x2xui8> -> tensor<3x2x2xf8E8M0FNU>\n"
          "%w = moe.weight.dequantize %q, %s blocks [1, 1, 32] : (tensor<3x2x64xf4E2M1FN>, "
          "tensor<3x2x2xf8E8M0FNU>) -> tensor<3x2x64xf32>\n";
  auto got = rows("tensor<3x2x64xf32>", 1, 2);
  ASSERT_EQ(got.size(), 256u);
  for (int64_t i = 0; i < 256; ++i)
    ASSERT_EQ(got[size_t(i)], std::ldexp(e2m1(element(packed, 128 + i, 4, false)),
                                         int(scale[size_t(128 + i) / 32]) - 127));
}

// fp4 with an fp8 scale for each 16 numbers and one scale for each expert.
TEST_F(Quantised, Nvfp4) {
  auto packed = bytes(2 * 3 * 16);
  std::vector<uint8_t> scale;
  for (int i = 0; i < 2 * 3 * 2; ++i)
    scale.push_back(uint8_t(random() % 0x7e));
  std::vector<float> global = {0.37f, 1.9f};
  load("%b", append(packed), "tensor<2x3x16xui8>");
  load("%e", append(scale), "tensor<2x3x2xf8E4M3FN>");
  load("%g", append(global), "tensor<2x1x1xf32>");
  text += "%q = moe.weight.unpack %b : tensor<2x3x16xui8> -> tensor<2x3x32xf4E2M1FN>\n"
          "%s = moe.weight.dequantize %e, %g blocks [1, 3, 2] : (tensor<2x3x2xf8E4M3FN>, "
          "tensor<2x1x1xf32>) -> tensor<2x3x2xf32>\n"
          "%w = moe.weight.dequantize %q, %s blocks [1, 1, 16] : (tensor<2x3x32xf4E2M1FN>, "
          "tensor<2x3x2xf32>) -> tensor<2x3x32xf32>\n";
  auto got = rows("tensor<2x3x32xf32>", 0, 2);
  ASSERT_EQ(got.size(), 192u);
  for (int64_t i = 0; i < 192; ++i)
    ASSERT_EQ(got[size_t(i)], e2m1(element(packed, i, 4, false)) *
                                  (e4m3(scale[size_t(i) / 16]) * global[size_t(i) / 96]));
}

// Literals of small signed numbers, a scalar, and data of more than one piece.
TEST_F(Quantised, LiteralsScalarsAndLargeWeights) {
  text = "%q = moe.weight.literal dense<[-8, -1, 7]> : tensor<3xi4>\n"
         "%s = moe.weight.literal dense<0.5> : tensor<1xf16>\n"
         "%w = moe.weight.dequantize %q, %s blocks [3] : (tensor<3xi4>, tensor<1xf16>) -> "
         "tensor<3xf32>\n";
  EXPECT_EQ(rows("tensor<3xf32>", 0, 3), (std::vector<float>{-4, -0.5, 3.5}));
  text = "%q = moe.weight.literal dense<7> : tensor<i8>\n"
         "%s = moe.weight.literal dense<0.5> : tensor<f32>\n"
         "%w = moe.weight.dequantize %q, %s blocks [] : (tensor<i8>, tensor<f32>) -> tensor<f32>\n";
  EXPECT_EQ(rows("tensor<f32>", 0, 1), std::vector<float>{3.5});
  text.clear();
  auto packed = bytes(3 * 1000 * 100);
  std::vector<float> scale;
  for (int i = 0; i < 4 * 3000; ++i)
    scale.push_back(float(i + 1));
  load("%b", append(packed), "tensor<3x1000x100xui8>");
  load("%e", append(scale), "tensor<3x4x1000xf32>");
  text += "%q = moe.weight.unpack %b : tensor<3x1000x100xui8> -> tensor<3x1000x200xi4>\n"
          "%s = moe.weight.transpose %e [0, 2, 1] : tensor<3x4x1000xf32> -> tensor<3x1000x4xf32>\n"
          "%w = moe.weight.dequantize %q, %s blocks [1, 1, 64] : (tensor<3x1000x200xi4>, "
          "tensor<3x1000x4xf32>) -> tensor<3x1000x200xf32>\n";
  auto got = rows("tensor<3x1000x200xf32>", 0, 3);
  ASSERT_EQ(got.size(), 600000u);
  for (int64_t i = 0; i < 600000; ++i) {
    int64_t n = i / 200 % 1000, block = i % 200 / 64, e = i / 200000;
    ASSERT_EQ(got[size_t(i)],
              float(element(packed, i, 4, true)) * scale[size_t((e * 4 + block) * 1000 + n)])
        << i;
  }
}

} // namespace
