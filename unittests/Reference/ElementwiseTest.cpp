// Values of element-wise ops against known ones.
#include "Run.h"
#include <cmath>

using namespace moec::reference::test;

namespace {

constexpr double inf = INFINITY, nan = NAN;

TEST(Elementwise, Functions) {
  expectOp("onnx.Exp", "", {f32({3}, {0, 1, -inf})}, f32({3}, {1, M_E, 0}));
  expectOp("onnx.Round", "", {f32({4}, {0.5, 1.5, 2.5, -2.5})}, f32({4}, {0, 2, 2, -2}), 0);
  expectOp("onnx.Sign", "", {f32({4}, {-3, 0, 5, nan})}, f32({4}, {-1, 0, 1, nan}), 0);
  expectOp("onnx.Abs", "", {{"i8", {2}, {-128, -5}}}, {"i8", {2}, {-128, 5}}, 0);
  expectOp("onnx.Neg", "", {{"i32", {2}, {7, -2147483648.0}}}, {"i32", {2}, {-7, -2147483648.0}},
           0);
  expectOp("onnx.Erf", "", {f32({2}, {0.5, -1})}, f32({2}, {0.5204999, -0.8427008}));
  expectOp("onnx.Reciprocal", "", {f32({2}, {4, 0})}, f32({2}, {0.25, inf}), 0);
}

TEST(Elementwise, Activations) {
  expectOp("onnx.Sigmoid", "", {f32({3}, {0, 100, -100})}, f32({3}, {0.5, 1, 3.7835e-44}));
  expectOp("onnx.Gelu", "", {f32({2}, {1, -1})}, f32({2}, {0.8413447, -0.1586553}));
  expectOp("onnx.Gelu", "{approximate = \"tanh\"}", {f32({2}, {1, -1})},
           f32({2}, {0.8411920, -0.1588080}));
  expectOp("onnx.Swish", "{alpha = 1.702 : f32}", {f32({1}, {2})}, f32({1}, {1.9356606}));
  expectOp("onnx.Softplus", "", {f32({3}, {0, 1000, -1000})}, f32({3}, {0.6931472, 1000, 0}));
  expectOp("onnx.LeakyRelu", "", {f32({2}, {-1, 2})}, f32({2}, {-0.01, 2}));
  expectOp("onnx.Relu", "", {{"i32", {3}, {-4, 0, 4}}}, {"i32", {3}, {0, 0, 4}}, 0);
}

TEST(Elementwise, ClipTakesEitherBound) {
  expectOp("onnx.Clip", "", {f32({4}, {-2, 0, 9, nan}), f32({}, {-1}), f32({}, {5})},
           f32({4}, {-1, 0, 5, nan}), 0);
  expectOp("onnx.Clip", "", {f32({2}, {-2, 9}), absent(), f32({}, {5})}, f32({2}, {-2, 5}), 0);
  // A lower bound above the upper one: the upper wins.
  expectOp("onnx.Clip", "", {i64({1, 9}), i64({}, {7}), i64({}, {3})}, i64({3, 3}), 0);
}

TEST(Elementwise, CastsClampAndTruncate) {
  expectOp("onnx.Cast", "{to = 6 : i64}", {f32({4}, {-1.9, 1.9, 1e20, nan})},
           {"i32", {4}, {-1, 1, 2147483647, 0}}, 0);
  expectOp("onnx.Cast", "{to = 9 : i64}", {f32({3}, {0, 0.1, nan})}, boolean({3}, {0, 1, 1}), 0);
  expectOp("onnx.Cast", "{to = 2 : i64}", {i64({300, -1})}, {"ui8", {2}, {44, 255}}, 0);
  // 1 + 2^-11 + 2^-40 rounds up as one step; by way of f32 it would tie down to 1.
  expectOp("onnx.Cast", "{to = 10 : i64}",
           {{"f64", {1}, {1 + std::ldexp(1, -11) + std::ldexp(1, -40)}}},
           {"f16", {1}, {1 + std::ldexp(1, -10)}}, 0);
  expectError("onnx.Cast", "{to = 8 : i64}", {f32({1}, {0})}, "unsupported: cast");
}

TEST(Elementwise, SmallFloatsRoundAfterEachOp) {
  // 2049 is no f16; 2^-25 + a bit rounds to the smallest subnormal; overflow is infinite.
  expectOp("onnx.Add", "",
           {{"f16", {3}, {2048, std::ldexp(1, -24), 65504}},
            {"f16", {3}, {1, std::ldexp(1, -24), 65504}}},
           {"f16", {3}, {2048, std::ldexp(1, -23), inf}}, 0);
  expectOp("onnx.Mul", "", {{"bf16", {2}, {1.0078125, 3}}, {"bf16", {2}, {1.0078125, -5}}},
           {"bf16", {2}, {1.015625, -15}}, 0);
}

// Every 16-bit float survives the way to f32 and back, and every rounding agrees with LLVM's.
TEST(Elementwise, SixteenBitConversionsAgreeWithLLVM) {
  for (std::string type : {"f16", "bf16"}) {
    std::vector<double> values;
    for (int i = 0; i < 65536; ++i) { // as f32: this pattern in the upper half, and ties below
      uint32_t bits = static_cast<uint32_t>(i) << 16 | (i % 3 == 0   ? 0x8000
                                                        : i % 3 == 1 ? 0x7fff
                                                                     : 0x1000);
      float f;
      std::memcpy(&f, &bits, sizeof f);
      values.push_back(f);
    }
    Numbers in = f32({65536}, values), want{type, {65536}, values};
    want = toNumbers(toArray(want));
    expectOp("onnx.Cast", type == "f16" ? "{to = 10 : i64}" : "{to = 16 : i64}", {in}, want, 0);
    Numbers back = want;
    back.type = "f32";
    expectOp("onnx.Cast", "{to = 1 : i64}", {want}, back, 0);
  }
}

TEST(Binary, Broadcasting) {
  expectOp("onnx.Add", "", {f32({2, 1}, {1, 2}), f32({3}, {10, 20, 30})},
           f32({2, 3}, {11, 21, 31, 12, 22, 32}), 0);
  expectOp("onnx.Mul", "", {f32({}, {3}), f32({2}, {1, 2})}, f32({2}, {3, 6}), 0);
  expectOp("onnx.Add", "", {f32({0, 3}, {}), f32({3}, {1, 2, 3})}, f32({0, 3}, {}), 0);
  expectError("onnx.Add", "", {f32({2}, {1, 2}), f32({3}, {1, 2, 3})}, "do not broadcast");
  expectError("onnx.Add", "", {f32({1}, {1}), i64({1})}, "different element types");
}

TEST(Binary, IntegersWrapAndTruncate) {
  expectOp("onnx.Add", "", {{"ui8", {1}, {250}}, {"ui8", {1}, {10}}}, {"ui8", {1}, {4}}, 0);
  expectOp("onnx.Div", "", {i64({-7, 7}), i64({2, -2})}, i64({-3, -3}), 0);
  expectError("onnx.Div", "", {i64({1}), i64({0})}, "division by zero");
  expectOp("onnx.Mod", "", {i64({-7, 7}), i64({3, -3})}, i64({2, -2}), 0);
  expectOp("onnx.Mod", "{fmod = 1 : i64}", {f32({2}, {-4.5, 4.5}), f32({2}, {2, -2})},
           f32({2}, {-0.5, 0.5}), 0);
  expectOp("onnx.Pow", "", {i64({2, 3}), f32({2}, {3, 0.5})}, i64({8, 1}), 0);
  expectOp("onnx.BitShift", "{direction = \"LEFT\"}",
           {{"ui8", {2}, {255, 1}}, {"ui8", {2}, {1, 9}}}, {"ui8", {2}, {254, 0}}, 0);
}

TEST(Binary, ComparisonsAndChoices) {
  expectOp("onnx.Less", "", {f32({3}, {1, nan, 2}), f32({}, {2})}, boolean({3}, {1, 0, 0}), 0);
  expectOp("onnx.GreaterOrEqual", "", {i64({1, 2, 3}), i64({2})}, boolean({3}, {0, 1, 1}), 0);
  expectOp("onnx.Where", "", {boolean({2, 1}, {1, 0}), f32({2}, {1, 2}), f32({}, {9})},
           f32({2, 2}, {1, 2, 9, 9}), 0);
  expectOp("onnx.Max", "", {f32({3}, {1, 5, nan}), f32({3}, {4, 2, 0}), f32({}, {3})},
           f32({3}, {4, 5, nan}), 0);
  expectOp("onnx.Mean", "", {f32({1}, {1}), f32({1}, {2}), f32({1}, {6})}, f32({1}, {3}), 0);
  expectOp("onnx.Xor", "", {boolean({2}, {1, 0}), boolean({2}, {1, 1})}, boolean({2}, {0, 1}), 0);
}

TEST(Errors, NameTheNodeAndListTheUnsupported) {
  expectError("onnx.custom", "{domain = \"x\", op_type = \"Y\"}", {f32({1}, {0})},
              "(Y): unsupported");
  mlir::MLIRContext context;
  context.loadDialect<moec::onnx::OnnxDialect, mlir::func::FuncDialect>();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(R"(
    func.func @main(%a: tensor<2xf32>) -> tensor<2xf32> {
      %0 = "onnx.custom"(%a) {domain = "x", op_type = "Y"} : (tensor<2xf32>) -> tensor<2xf32>
      %1 = "onnx.Exp"(%0) : (tensor<2xf32>) -> tensor<2xf32>
      %2 = "onnx.Cast"(%1) {to = 8 : i64} : (tensor<2xf32>) -> tensor<2xf32>
      return %2 : tensor<2xf32>
    })",
                                                        &context);
  ASSERT_TRUE(module);
  auto all = moec::reference::collectUnsupported(*module);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_NE(all[1].second.find("cast"), std::string::npos);
}

TEST(Errors, InputsAreChecked) {
  std::string ir =
      "func.func @main(%a: tensor<2x?xf32>) -> tensor<2x?xf32> { return %a : tensor<2x?xf32> }";
  EXPECT_EQ(runModule(ir, {f32({2, 1}, {1, 2})}).error, "");
  EXPECT_NE(runModule(ir, {f32({3, 1}, {1, 2, 3})}).error.find("input 0: shape [3,1]"),
            std::string::npos);
  EXPECT_NE(runModule(ir, {i64({2, 1}, {1, 2})}).error.find("the model expects f32"),
            std::string::npos);
  EXPECT_NE(runModule(ir, {}).error.find("1 inputs, 0 are given"), std::string::npos);
}

} // namespace
