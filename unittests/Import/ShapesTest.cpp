// What a file says about shapes is not believed, and costs nothing by being large.
#include "Build.h"

#include "gtest/gtest.h"

namespace {

struct Shapes : testing::Test {
  Importer import;
  static void expectText(const Imported &result, llvm::StringRef part) {
    EXPECT_TRUE(result.errors.empty()) << result.errors[0];
    EXPECT_NE(result.text.find(part.str()), std::string::npos) << result.text;
  }
};

TEST_F(Shapes, DeclaredIntermediateShapesAreIgnored) {
  expectText(import(parseModel(R"(<ir_version: 10, opset_import: ["" : 20]>
    g (float[4] x) => (float[N] y) <float[7] a> { a = Abs(x)
                                                  y = Neg(a) })")),
             "onnx.Abs(%arg0) : (tensor<4xf32>) -> tensor<4xf32>");
}

TEST_F(Shapes, CarriedValuesThatKeepTheirShape) {
  expectText(import(parseModel(R"(<ir_version: 10, opset_import: ["" : 20]>
    g (float[N, 4] x, int64 n) => (float[N, 4] y) {
      y = Loop(n, , x) <body = b (int64 i, bool go, float a) => (bool again, float z) {
        again = Identity(go)
        z = Relu(a)
      }>
    })")),
             "(tensor<i64>, none, tensor<?x4xf32>) -> tensor<?x4xf32>");
}

TEST_F(Shapes, CarriedValuesThatKeepTheirRank) {
  Imported result = import(parseModel(R"(<ir_version: 10, opset_import: ["" : 20]>
    g (float[4] x, int64 n) => (float[M] y) {
      y = Loop(n, , x) <body = b (int64 i, bool go, float[4] a) => (bool again, float[4] z) {
        again = Identity(go)
        z = Concat<axis = 0>(a, a)
      }>
    })"));
  expectText(result, "(tensor<i64>, none, tensor<4xf32>) -> tensor<?xf32>");
  expectText(result, "onnx.Concat(%arg4, %arg4) {axis = 0 : i64} : (tensor<?xf32>, tensor<?xf32>)");
}

TEST_F(Shapes, CarriedValuesThatKeepNothing) {
  expectText(import(parseModel(R"(<ir_version: 10, opset_import: ["" : 20]>
    g (float[4] x, int64 n) => (float y) <int64[1] axes = {0}> {
      z = Loop(n, , x) <body = b (int64 i, bool go, float[4] a) => (bool again, float[4] z) {
        again = Identity(go)
        z = Unsqueeze(a, axes)
      }>
      y = ReduceSum<keepdims = 0>(z)
    })")),
             "(tensor<i64>, none, tensor<4xf32>) -> tensor<*xf32>");
}

TEST_F(Shapes, LongClaimsCostNothing) {
  // As a shape, a tensor of 10^12 numbers is refused; as data, its numbers are not followed.
  Imported shape = import(parseModel(R"(<ir_version: 10, opset_import: ["" : 20]>
    g (int64[1000000000000] x) => (float[N] y) { y = ConstantOfShape(x) })"));
  ASSERT_EQ(shape.errors.size(), 1u);
  EXPECT_NE(shape.errors[0].find("unsupported: a shape of more than 65536 numbers"),
            std::string::npos)
      << shape.errors[0];
  expectText(import(parseModel(R"(<ir_version: 10, opset_import: ["" : 20]>
    g (int64[1000000000000] x) => (int64[N] y) { y = Concat<axis = 0>(x, x) })")),
             "-> tensor<2000000000000xi64>");
}

TEST_F(Shapes, ResultsThatAreTooLarge) {
  Imported result = import(parseModel(R"(<ir_version: 10, opset_import: ["" : 20]>
    g (float[1] x) => (float[A, B] y) <int64[2] s = {4294967296, 4294967296}> {
      y = Expand(x, s)
    })"));
  ASSERT_EQ(result.errors.size(), 1u);
  EXPECT_NE(result.errors[0].find("more than 2^48 elements"), std::string::npos)
      << result.errors[0];
}

} // namespace
