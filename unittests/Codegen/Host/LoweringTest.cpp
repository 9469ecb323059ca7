// What lowering reports: the program's needs, unsupported ops, run-time checks.
#include "Compiled.h"

using namespace moec::host::test;
using moec::host::HostOptions;

namespace {

bool contains(const std::string &text, const std::string &part) {
  return text.find(part) != std::string::npos;
}

std::string textOf(const Lowered &l) {
  std::string text;
  llvm::raw_string_ostream out(text);
  l.result.module->print(out, nullptr);
  return text;
}

TEST(Lowering, WeightsKeepTheirNarrowType) {
  Lowered l = lower(R"(
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x24xf16>
      %1 = moe.weight.cast %0 : tensor<8x24xf16> -> tensor<8x24xf32>
      moe.weight.bind @w %1 : tensor<8x24xf32>
      %2 = moe.weight.transpose %1 [1, 0] : tensor<8x24xf32> -> tensor<24x8xf32>
      moe.weight.bind @v %2 : tensor<24x8xf32>
    }
    func.func @main(%x: tensor<?x8xf32>) -> (tensor<?x24xf32>, tensor<?x24xf32>) {
      %w = moe.weight.use @w : tensor<8x24xf32>
      %0 = onnx.MatMul(%x, %w) : (tensor<?x8xf32>, tensor<8x24xf32>) -> tensor<?x24xf32>
      %v = moe.weight.use @v : tensor<24x8xf32>
      %none = onnx.none : () -> none
      %1 = onnx.Gemm(%x, %v, %none) {transB = 1 : i64}
           : (tensor<?x8xf32>, tensor<24x8xf32>, none) -> tensor<?x24xf32>
      return %0, %1 : tensor<?x24xf32>, tensor<?x24xf32>
    })");
  ASSERT_EQ(l.error, "");
  const moec::Program &p = l.result.program;
  ASSERT_EQ(p.weights.size(), 2u);
  EXPECT_EQ(p.weights[0].name, "w");
  EXPECT_EQ(p.weights[0].layout, "panel16");
  EXPECT_EQ(p.weights[0].dtype, "f16");
  EXPECT_EQ(p.weights[0].shape, (std::vector<int64_t>{8, 24}));
  EXPECT_EQ(p.weights[1].layout, "panel16_nk");
  EXPECT_EQ(p.weights[1].dtype, "f16");
  EXPECT_EQ(p.kernels.size(), 1u); // both products use one kernel
  EXPECT_TRUE(contains(l.attributes, "moec.kernels")) << l.attributes;
  EXPECT_TRUE(contains(l.attributes, "layout = \"panel16_nk\"")) << l.attributes;
}

TEST(Lowering, Experts) {
  Lowered l = lower(R"(
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x24x16xf32>
      moe.weight.bind @g %0 : tensor<8x24x16xf32>
      moe.weight.bind @u %0 : tensor<8x24x16xf32>
      %1 = moe.weight.load "w.bin" at 12288 : tensor<8x16x24xf32>
      moe.weight.bind @d %1 : tensor<8x16x24xf32>
    }
    moe.bank @b experts(8) hidden(16) inter(24) body(#moe.ffn<gated = true, activation = "silu">)
        gate(@g) up(@u) down(@d)
    func.func @main(%x: tensor<?x16xf32>, %z: tensor<?x8xf32>) -> tensor<?x16xf32> {
      %i, %w = moe.route(%z) router<score = softmax, k = 2, renorm = sum>
          : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
      %y = moe.experts @b (%x, %i, %w)
          : (tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x16xf32>
      return %y : tensor<?x16xf32>
    })");
  ASSERT_EQ(l.error, "");
  const moec::Program &p = l.result.program;
  ASSERT_EQ(p.weights.size(), 2u);
  EXPECT_EQ(p.weights[0].layout, "experts_gate_up16");
  EXPECT_EQ(p.weights[0].name, "g");
  EXPECT_EQ(p.weights[0].name2, "u");
  EXPECT_EQ(p.weights[1].layout, "experts_panel16_nk");
  EXPECT_EQ(p.kernels.size(), 3u); // route, up, down
}

TEST(Lowering, Signature) {
  Lowered l = lower(R"(
    func.func @main(%x: tensor<?x?x8xf16> {onnx.name = "x", onnx.dims = ["batch", "", ""]})
        -> (tensor<?x?x8xf16> {onnx.name = "y"}) {
      return %x : tensor<?x?x8xf16>
    })");
  ASSERT_EQ(l.error, "");
  ASSERT_EQ(l.result.program.inputs.size(), 1u);
  EXPECT_EQ(l.result.program.inputs[0].name, "x");
  EXPECT_EQ(l.result.program.inputs[0].dtype, "f16");
  EXPECT_EQ(l.result.program.inputs[0].dims, (std::vector<std::string>{"batch", "?", "8"}));
  EXPECT_EQ(l.result.program.outputs[0].name, "y");
}

TEST(Lowering, OneNestForEqualStructure) {
  Lowered l = lower(R"(
    func.func @main(%x: tensor<?x8xf32>, %y: tensor<?x16xf32>) -> (tensor<?x8xf32>, tensor<?x16xf32>) {
      %0 = onnx.Exp(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
      %1 = onnx.Mul(%0, %x) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
      %2 = onnx.Exp(%y) : (tensor<?x16xf32>) -> tensor<?x16xf32>
      %3 = onnx.Mul(%2, %y) : (tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x16xf32>
      return %1, %3 : tensor<?x8xf32>, tensor<?x16xf32>
    })",
                    HostOptions{.optLevel = 0});
  ASSERT_EQ(l.error, "");
  std::string text = textOf(l);
  EXPECT_TRUE(contains(text, "define internal void @nest_0_map")) << text;
  EXPECT_FALSE(contains(text, "nest_1")) << "Exp and Mul are one nest for both tensors:\n" << text;
}

TEST(Lowering, Vectorises) {
  Lowered l = lower(R"(
    func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
      %0 = onnx.Sigmoid(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
      %1 = onnx.Softmax(%0) {axis = -1 : i64} : (tensor<?x8xf32>) -> tensor<?x8xf32>
      return %1 : tensor<?x8xf32>
    })");
  ASSERT_EQ(l.error, "");
  EXPECT_TRUE(contains(textOf(l), "fmul <8 x float>") || contains(textOf(l), "fdiv <8 x float>"));
}

TEST(Unsupported, AllAtOnce) {
  const char *ir = R"(
    func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
      %0 = onnx.custom(%x) {domain = "a.b", op_type = "C"} : (tensor<2x3xf32>) -> tensor<2x3xf32> loc("first")
      %1 = onnx.Exp(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
      %2 = onnx.SwiGLU(%x, %x) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32> loc("second")
      %3 = onnx.Add(%1, %2) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
      return %3 : tensor<2x3xf32>
    })";
  Lowered l = lower(ir);
  EXPECT_EQ(l.error, "node \"first\" (custom): unsupported: the operator a.b::C\n"
                     "node \"second\" (SwiGLU): unsupported: this operator is not implemented\n");
  mlir::MLIRContext context;
  context.loadDialect<moec::onnx::OnnxDialect, mlir::func::FuncDialect>();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(ir, &context);
  ASSERT_TRUE(module);
  EXPECT_EQ(moec::host::collectUnsupported(*module).size(), 2u);
}

TEST(Unsupported, Reasons) {
  auto reason = [](const std::string &op, const std::string &types) {
    return lower("func.func @main(%x: tensor<2x3xf32>, %i: tensor<?xi64>) -> tensor<2x3xf32> {\n"
                 "%0 = " +
                 op + " : " + types +
                 " -> tensor<2x3xf32> loc(\"n\")\n"
                 "return %0 : tensor<2x3xf32> }")
        .error;
  };
  EXPECT_TRUE(contains(reason("onnx.Softmax(%x) {axis = 5 : i64}", "(tensor<2x3xf32>)"),
                       "axis out of range"));
  EXPECT_TRUE(contains(reason("onnx.ReduceSum(%x, %i)", "(tensor<2x3xf32>, tensor<?xi64>)"),
                       "not a short vector"));
  EXPECT_TRUE(
      contains(reason("onnx.Concat(%x, %i) {axis = 0 : i64}", "(tensor<2x3xf32>, tensor<?xi64>)"),
               "different ranks"));
  EXPECT_TRUE(contains(reason("onnx.Add(%x, %i)", "(tensor<2x3xf32>, tensor<?xi64>)"),
                       "different element types"));
  EXPECT_TRUE(contains(reason("onnx.Transpose(%x) {perm = array<i64: 0, 0>}", "(tensor<2x3xf32>)"),
                       "permutation"));
  EXPECT_TRUE(contains(lower("func.func private @other()").error, "no function @main"));
}

TEST(RunTimeChecks, NameTheNode) {
  auto error = [](const std::string &op, const std::vector<Numbers> &inputs,
                  const std::string &types) {
    std::string parameters;
    for (size_t i = 0; i < inputs.size(); ++i)
      parameters += (i ? ", %a" : "%a") + std::to_string(i) + ": " +
                    (i ? "tensor<?x?xf32>" : "tensor<?x4xf32>");
    return runCompiled("func.func @main(" + parameters + ") -> tensor<?x?xf32> {\n%0 = " + op +
                           " : " + types +
                           " -> tensor<?x?xf32> loc(\"n\")\nreturn %0 : tensor<?x?xf32> }",
                       inputs)
        .error;
  };
  Numbers a = f32({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}), b = f32({3, 2}, {1, 2, 3, 4, 5, 6});
  std::string two = "(tensor<?x4xf32>, tensor<?x?xf32>)";
  EXPECT_EQ(error("onnx.MatMul(%a0, %a1)", {a, b}, two),
            "node \"n\" (MatMul): the inner dimensions differ");
  EXPECT_EQ(error("onnx.Add(%a0, %a1)", {a, b}, two), "node \"n\" (Add): shapes do not broadcast");
  EXPECT_EQ(error("onnx.Relu(%a0)", {b}, "(tensor<?x4xf32>)"),
            "dimension 1 of the input \"0\" is not 4");
}

TEST(Program, OutputsDoNotShareMemory) {
  // An input, one value twice, a view and its source: each output is a buffer of its own.
  std::string ir = R"(
    func.func @main(%x: tensor<2x2xf32>) -> (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>, tensor<4xf32>) {
      %0 = onnx.Neg(%x) : (tensor<2x2xf32>) -> tensor<2x2xf32>
      %s = onnx.Constant {value = dense<[4]> : tensor<1xi64>} : () -> tensor<1xi64>
      %1 = onnx.Reshape(%0, %s) : (tensor<2x2xf32>, tensor<1xi64>) -> tensor<4xf32>
      return %x, %0, %0, %1 : tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>, tensor<4xf32>
    })";
  Outcome out = runCompiled(ir, {f32({2, 2}, {1, -2, 3, -4})});
  ASSERT_EQ(out.error, "");
  ASSERT_EQ(out.results.size(), 4u);
  expectNear(out.results[0], f32({2, 2}, {1, -2, 3, -4}), 0);
  for (int i : {1, 2})
    expectNear(out.results[i], f32({2, 2}, {-1, 2, -3, 4}), 0);
  expectNear(out.results[3], f32({4}, {-1, 2, -3, 4}), 0);
}

} // namespace
