// Lowered modules hold no moe op in their functions, and the interpreter computes the same.
#include "Support.h"

using namespace moec;
using namespace moec::export_test;

namespace {

// A literal of numbers that look random and are the same for a name.
std::string literal(const std::string &name, std::vector<int64_t> shape) {
  std::mt19937 random(std::hash<std::string>{}(name));
  std::normal_distribution<float> normal(0, 0.5);
  std::function<std::string(size_t)> nest = [&](size_t axis) {
    std::string text = "[";
    for (int64_t i = 0; i < shape[axis]; ++i)
      text += (i ? ", " : "") +
              (axis + 1 < shape.size() ? nest(axis + 1) : std::to_string(normal(random)));
    return text + "]";
  };
  std::string type = "tensor<";
  for (int64_t d : shape)
    type += std::to_string(d) + "x";
  type += "f32>";
  return "  %" + name + " = moe.weight.literal dense<" + nest(0) + "> : " + type +
         "\n  moe.weight.bind @" + name + " %" + name + " : " + type + "\n";
}

// Four experts of 6 x 5 with all parameters.
std::string weights() {
  return "moe.weights @weights {\n" + literal("gate", {4, 5, 6}) + literal("up", {4, 5, 6}) +
         literal("down", {4, 6, 5}) + literal("gate_bias", {4, 5}) + literal("up_bias", {4, 5}) +
         literal("down_bias", {4, 6}) + "}\n";
}

std::string bank(const std::string &formula, const std::string &more = "", bool bias = true) {
  bool gated = formula.find("gated = true") != std::string::npos;
  std::string text = "moe.bank @bank experts(4) hidden(6) inter(5) body(#moe.ffn<" + formula +
                     ">) " + (gated ? "gate(@gate) " : "") + "up(@up) down(@down) ";
  if (bias)
    text += std::string(gated ? "gate_bias(@gate_bias) " : "") +
            "up_bias(@up_bias) down_bias(@down_bias) ";
  return weights() + text + more + "\n";
}

struct Lower : testing::Test {
  Context context;
  std::mt19937 random{7};
  ExportReport report;

  // Lowers and compares; the lowered module as text.
  std::string check(const std::string &text, const std::vector<Array> &inputs,
                    ExportOptions options = {}) {
    auto module = context.parse(text);
    if (!module)
      return "";
    std::vector<Array> want = run(*module, inputs);
    report = {};
    EXPECT_TRUE(mlir::succeeded(lowerToOnnx(*module, options, report)));
    EXPECT_TRUE(mlir::succeeded(mlir::verify(*module)));
    for (auto function : module->getOps<mlir::func::FuncOp>())
      function.walk([&](mlir::Operation *op) {
        if (op->getName().getDialectNamespace() == "moe")
          EXPECT_EQ(op->getName().getStringRef(), "moe.weight.use");
      });
    std::string out;
    llvm::raw_string_ostream(out) << *module;
    if (out.find("com.microsoft") == std::string::npos)
      expectSame(run(*module, inputs), want);
    return out;
  }

  // Router and experts over seven tokens.
  std::string routed(const std::string &router, const std::string &bank) {
    return bank + R"(
      func.func @main(%x: tensor<?x6xf32>, %z: tensor<?x4xf32>) -> tensor<?x6xf32> {
        %ids, %w = moe.route(%z) router)" +
           router + R"( : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
        %y = moe.experts @bank(%x, %ids, %w)
            : (tensor<?x6xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x6xf32>
        return %y : tensor<?x6xf32>
      })";
  }
  std::vector<Array> tokens() { return {floats({7, 6}, random), floats({7, 4}, random)}; }
  ExportOptions plain{ExportOptions::Fused::never, false, ""};
};

TEST_F(Lower, FormulasOfExperts) {
  for (const char *formula :
       {"gated = true, activation = \"silu\"", "gated = false, activation = \"relu2\"",
        "gated = true, activation = \"swish\", alpha = 1.702, limit = 0.7, up_offset = 1.0",
        "gated = false, activation = \"gelu\"", "gated = true, activation = \"gelu_tanh\"",
        "gated = false, activation = \"tanh\"", "gated = true, activation = \"sigmoid\"",
        "gated = true, activation = \"identity\""}) {
    SCOPED_TRACE(formula);
    check(routed("<score = softmax, k = 2>", bank(formula)), tokens(), plain);
    EXPECT_EQ(report.plainLayers, 1u);
  }
}

TEST_F(Lower, FormulasOfRouters) {
  std::string experts = bank("gated = false, activation = \"relu\"");
  for (const char *router :
       {"<score = softmax, k = 2, renorm = sum, epsilon = 0.25>", "<score = sigmoid, k = 2>",
        "<score = sigmoid, k = 2, renorm = sum, minimum = 1.5, scale = 2.5>",
        "<score = identity, k = 2, renorm = softmax>",
        "<score = identity, k = 2, renorm = sigmoid>",
        "<score = softmax, k = 2, groups = 2, group_k = 1>",
        "<score = sigmoid, k = 2, groups = 2, group_k = 1, group_score = top2>"}) {
    SCOPED_TRACE(router);
    check(routed(router, experts), tokens(), plain);
  }
}

TEST_F(Lower, BiasIsForTheSelectionOnly) {
  check(R"(func.func @main(%z: tensor<5x4xf32>, %b: tensor<4xf32>)
               -> (tensor<5x2xi32>, tensor<5x2xf32>) {
             %ids, %w = moe.route(%z, %b) router<score = sigmoid, k = 2, renorm = sum>
                 : (tensor<5x4xf32>, tensor<4xf32>) -> (tensor<5x2xi32>, tensor<5x2xf32>)
             return %ids, %w : tensor<5x2xi32>, tensor<5x2xf32>
           })",
        {floats({5, 4}, random), floats({4}, random)});
}

TEST_F(Lower, NoTokens) {
  check(routed("<score = softmax, k = 2>", bank("gated = true, activation = \"silu\"")),
        {floats({0, 6}, random), floats({0, 4}, random)}, plain);
}

TEST_F(Lower, ExpertsThatDiffer) {
  std::string more = "slabs([2, -1, 0, -1]) storage([\"dense\", \"zero\", \"dense\", "
                     "\"identity\"]) widths([5, 5, 3, 1])";
  check(routed("<score = softmax, k = 2>", bank("gated = true, activation = \"silu\"", more)),
        tokens());
  EXPECT_EQ(report.fusedLayers, 0u) << "the node has one width for all";
}

TEST_F(Lower, ExpertsThatShareParametersAreOne) {
  // 0 and 2 share a slab, 3 is a constant.
  std::string text = bank("gated = true, activation = \"silu\"",
                          "slabs([2, 1, 2, -1]) storage([\"dense\", \"dense\", \"dense\", "
                          "\"constant\"]) constants(@c)");
  text.insert(text.find("}\n"), literal("c", {1, 6}));
  text += R"(
    func.func @main(%x: tensor<3x6xf32>, %i: tensor<3x2xi32>, %w: tensor<3x2xf32>,
                    %d: tensor<3x4xf32>)
        -> (tensor<3x6xf32>, tensor<3x2x6xf32>, tensor<3x6xf32>, tensor<3x4x6xf32>) {
      %y = moe.experts @bank(%x, %i, %w)
          : (tensor<3x6xf32>, tensor<3x2xi32>, tensor<3x2xf32>) -> tensor<3x6xf32>
      %a = moe.experts @bank(%x, %i, %w) {combine = "none"}
          : (tensor<3x6xf32>, tensor<3x2xi32>, tensor<3x2xf32>) -> tensor<3x2x6xf32>
      %e = moe.experts @bank(%x, %d) : (tensor<3x6xf32>, tensor<3x4xf32>) -> tensor<3x6xf32>
      %f = moe.experts @bank(%x, %d) {combine = "none"}
          : (tensor<3x6xf32>, tensor<3x4xf32>) -> tensor<3x4x6xf32>
      return %y, %a, %e, %f : tensor<3x6xf32>, tensor<3x2x6xf32>, tensor<3x6xf32>, tensor<3x4x6xf32>
    })";
  std::string out = check(text, {floats({3, 6}, random), i32({3, 2}, {0, 2, 3, -1, 1, 3}),
                                 f32({3, 2}, {0.5f, 2, 1, 0, -2, 0.25f}), floats({3, 4}, random)});
  size_t gemms = 0;
  for (size_t at = out.find("onnx.Gemm"); at != std::string::npos; at = out.find("onnx.Gemm", at + 1))
    ++gemms;
  // Two experts of three matrices, where slots are summed up or apart; all three where columns are.
  EXPECT_EQ(gemms, 3 * (2 + 2 + 2 + 3u));
}

TEST_F(Lower, EmptySlotsAndSlotsApart) {
  std::string text = bank("gated = true, activation = \"silu\"") + R"(
    func.func @main(%x: tensor<3x6xf32>, %i: tensor<3x2xi32>, %w: tensor<3x2xf32>)
        -> (tensor<3x6xf32>, tensor<3x2x6xf32>) {
      %y = moe.experts @bank(%x, %i, %w)
          : (tensor<3x6xf32>, tensor<3x2xi32>, tensor<3x2xf32>) -> tensor<3x6xf32>
      %a = moe.experts @bank(%x, %i, %w) {combine = "none"}
          : (tensor<3x6xf32>, tensor<3x2xi32>, tensor<3x2xf32>) -> tensor<3x2x6xf32>
      return %y, %a : tensor<3x6xf32>, tensor<3x2x6xf32>
    })";
  check(text, {floats({3, 6}, random), i32({3, 2}, {1, -1, 3, 3, -1, 0}),
               f32({3, 2}, {0.5f, 0, 1, -2, 0, 0.25f})});
}

TEST_F(Lower, DenseWeightsAndOneExpert) {
  std::string text = bank("gated = false, activation = \"gelu\"") + R"(
    moe.bank @one experts(1) hidden(6) inter(5) body(#moe.ffn<gated = false, activation = "relu">)
        up(@up) down(@down) slabs([2])
    func.func @main(%x: tensor<?x6xf32>, %w: tensor<?x4xf32>)
        -> (tensor<?x6xf32>, tensor<?x4x6xf32>, tensor<?x6xf32>) {
      %y = moe.experts @bank(%x, %w) : (tensor<?x6xf32>, tensor<?x4xf32>) -> tensor<?x6xf32>
      %a = moe.experts @bank(%x, %w) {combine = "none"}
          : (tensor<?x6xf32>, tensor<?x4xf32>) -> tensor<?x4x6xf32>
      %s = moe.experts @one(%x) : (tensor<?x6xf32>) -> tensor<?x6xf32>
      return %y, %a, %s : tensor<?x6xf32>, tensor<?x4x6xf32>, tensor<?x6xf32>
    })";
  check(text, {floats({3, 6}, random), floats({3, 4}, random)});
  EXPECT_EQ(report.plainLayers, 3u);
}

TEST_F(Lower, RegionsAsExperts) {
  check(weights() + R"(
    moe.bank @bank experts(4) hidden(6) inter(0) parameters([@down_bias]) {
    ^bb0(%t: tensor<?x6xf32>, %p: tensor<6xf32>):
      %y = onnx.Mul(%t, %p) : (tensor<?x6xf32>, tensor<6xf32>) -> tensor<?x6xf32>
      moe.yield %y : tensor<?x6xf32>
    })" + routed("<score = softmax, k = 2>", ""),
        tokens());
  EXPECT_EQ(report.plainLayers, 1u);
}

// Of known sizes they are sorted as vectors, of others all experts get them.
TEST_F(Lower, RowsOfSeveralAxes) {
  for (std::string row : {"5x6", "?x6"}) {
    std::string rows = "tensor<?x" + row + "xf32>", slots = "tensor<?x2x" + row + "xf32>";
    std::string routed = "tensor<?x2xi32>, tensor<?x2xf32>";
    bool known = row == "5x6";
    check(weights() + "moe.bank @bank experts(4) hidden(0) inter(0) parameters([@gate]) {\n^bb0(%t: " +
              rows + ", %p: tensor<5x6xf32>):\n  %y = onnx.Mul(%t, %p) : (" + rows +
              ", tensor<5x6xf32>) -> " + rows + "\n  moe.yield %y : " + rows +
              "\n}\nfunc.func @main(%x: " + rows + ", %l: tensor<?x4xf32>) -> (" + rows +
              (known ? ", " + slots : "") +
              ") {\n  %i, %w = moe.route(%l) router<score = softmax, k = 2> : (tensor<?x4xf32>) -> (" +
              routed + ")\n  %y = moe.experts @bank(%x, %i, %w) : (" + rows + ", " + routed +
              ") -> " + rows + "\n" +
              (known ? "  %z = moe.experts @bank(%x, %i, %w) {combine = \"none\"} : (" + rows + ", " +
                           routed + ") -> " + slots + "\n  return %y, %z : " + rows + ", " + slots
                     : "  return %y : " + rows) +
              "\n}",
          {floats({7, 5, 6}, random), floats({7, 4}, random)});
  }
}

TEST_F(Lower, RowsThatDependOnEachOther) {
  check(weights() + R"(
    moe.bank @bank experts(4) hidden(6) inter(0) parameters([@down_bias]) coupled {
    ^bb0(%t: tensor<?x6xf32>, %p: tensor<6xf32>):
      %a = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
      %s = onnx.ReduceSum(%t, %a) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
          : (tensor<?x6xf32>, tensor<1xi64>) -> tensor<1x6xf32>
      %m = onnx.Mul(%t, %p) : (tensor<?x6xf32>, tensor<6xf32>) -> tensor<?x6xf32>
      %y = onnx.Add(%m, %s) : (tensor<?x6xf32>, tensor<1x6xf32>) -> tensor<?x6xf32>
      moe.yield %y : tensor<?x6xf32>
    })" + routed("<score = softmax, k = 2>", ""),
        tokens());
}

TEST_F(Lower, KindsOfExpertsAndContexts) {
  std::string text = weights() + R"(
    moe.bank @bank experts(3) hidden(6) inter(0) parameters([[@up], [@up_bias]]) kinds([0, 1, 0])
        slabs([3, 1, 0]) {
    ^bb0(%t: tensor<?x6xf32>, %u: tensor<5x6xf32>, %c: tensor<?x5xf32>, %o: tensor<5xf32>):
      %n = onnx.none : () -> none
      %y = onnx.Gemm(%t, %u, %n) {alpha = 1.0 : f32, beta = 1.0 : f32, transA = 0 : i64, transB = 1 : i64}
          : (tensor<?x6xf32>, tensor<5x6xf32>, none) -> tensor<?x5xf32>
      %z = onnx.Mul(%y, %o) : (tensor<?x5xf32>, tensor<5xf32>) -> tensor<?x5xf32>
      moe.yield %z : tensor<?x5xf32>
    }, {
    ^bb0(%t: tensor<?x6xf32>, %b: tensor<5xf32>, %c: tensor<?x5xf32>, %o: tensor<5xf32>):
      %y = onnx.Mul(%c, %b) : (tensor<?x5xf32>, tensor<5xf32>) -> tensor<?x5xf32>
      moe.yield %y : tensor<?x5xf32>
    }
    func.func @main(%x: tensor<?x6xf32>, %p: tensor<?x3xf32>, %c: tensor<?x5xf32>, %o: tensor<5xf32>)
        -> (tensor<?x5xf32>, tensor<?x5xf32>, tensor<?x2x5xf32>) {
      %i, %w = moe.select %p {k = 2 : i64, kind = "threshold", threshold = 0.0 : f64}
          : (tensor<?x3xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
      %y = moe.experts @bank(%x, %i, %w, %c, %o) {contexts = ["rows", "whole"]}
          : (tensor<?x6xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x5xf32>, tensor<5xf32>)
          -> tensor<?x5xf32>
      %d = moe.experts @bank(%x, %p, %c, %o) {contexts = ["rows", "whole"]}
          : (tensor<?x6xf32>, tensor<?x3xf32>, tensor<?x5xf32>, tensor<5xf32>) -> tensor<?x5xf32>
      %a = moe.experts @bank(%x, %i, %w, %c, %o) {contexts = ["rows", "whole"], combine = "none"}
          : (tensor<?x6xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x5xf32>, tensor<5xf32>)
          -> tensor<?x2x5xf32>
      return %y, %d, %a : tensor<?x5xf32>, tensor<?x5xf32>, tensor<?x2x5xf32>
    })";
  check(text, {floats({4, 6}, random), floats({4, 3}, random), floats({4, 5}, random),
               floats({5}, random)});
  EXPECT_EQ(report.plainLayers, 3u);
}

TEST_F(Lower, KindsOfSelection) {
  struct Case {
    std::string attributes;
    int k;
  };
  for (const Case &c :
       {Case{"{k = 3 : i64}", 3}, Case{"{k = 3 : i64, kind = \"top_p\", p = 0.7 : f64}", 3},
        Case{"{k = 3 : i64, kind = \"threshold\", threshold = 0.3 : f64}", 3},
        Case{"{k = 3 : i64, kind = \"threshold\", threshold = 0.4 : f64, "
             "at_least = 2 : i64}",
             3},
        Case{"{k = 2 : i64, kind = \"grouped_top_k\", groups = 2 : i64, "
             "group_k = 1 : i64, group_score = \"top2\"}",
             2},
        Case{"{kind = \"all\"}", 4}}) {
    SCOPED_TRACE(c.attributes);
    std::string k = std::to_string(c.k);
    std::string types = "tensor<?x" + k + "xi32>, tensor<?x" + k + "xf32>";
    check("func.func @main(%z: tensor<?x4xf32>) -> (" + types + R"() {
             %p = onnx.Softmax(%z) {axis = -1 : i64} : (tensor<?x4xf32>) -> tensor<?x4xf32>
             %i, %w = moe.select %p )" +
              c.attributes + " : (tensor<?x4xf32>) -> (" + types + R"()
             return %i, %w : )" +
              types + "\n}",
          {floats({9, 4}, random)});
  }
}

TEST_F(Lower, SelectionByOtherOperands) {
  check(R"(func.func @main(%p: tensor<?x4xf32>, %q: tensor<?x4xf32>, %n: tensor<1xi64>)
               -> (tensor<?x3xi32>, tensor<?x3xf32>) {
             %i, %w = moe.select %p, %q, %n {k = 3 : i64}
                 : (tensor<?x4xf32>, tensor<?x4xf32>, tensor<1xi64>)
                 -> (tensor<?x3xi32>, tensor<?x3xf32>)
             return %i, %w : tensor<?x3xi32>, tensor<?x3xf32>
           })",
        {floats({5, 4}, random), floats({5, 4}, random), array<int64_t>(7, {1}, {2})});
  check(R"(func.func @main(%p: tensor<?x4xf32>, %g: tensor<?x2xi32>)
               -> (tensor<?x2xi32>, tensor<?x2xf32>) {
             %i, %w = moe.select %p, %g {kind = "external"}
                 : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
             return %i, %w : tensor<?x2xi32>, tensor<?x2xf32>
           })",
        {floats({3, 4}, random), i32({3, 2}, {1, -1, 0, 3, -1, 2})});
}

TEST_F(Lower, ExpertsThatChoose) {
  for (int64_t tokens : {2, 3, 8})
    check(R"(func.func @main(%p: tensor<?x4xf32>) -> (tensor<4x3xi32>, tensor<4x3xf32>) {
               %t, %w = moe.choose %p {capacity = 3 : i64}
                   : (tensor<?x4xf32>) -> (tensor<4x3xi32>, tensor<4x3xf32>)
               return %t, %w : tensor<4x3xi32>, tensor<4x3xf32>
             })",
          {floats({tokens, 4}, random)});
}

TEST_F(Lower, SoftSlotsAndMergedExperts) {
  check(R"(func.func @main(%x: tensor<?x6xf32>, %z: tensor<?x3xf32>) -> tensor<?x6xf32> {
             %s = moe.soft_dispatch %x, %z
                 : (tensor<?x6xf32>, tensor<?x3xf32>) -> tensor<3x6xf32>
             %y = moe.soft_combine %s, %z
                 : (tensor<3x6xf32>, tensor<?x3xf32>) -> tensor<?x6xf32>
             return %y : tensor<?x6xf32>
           })",
        {floats({5, 6}, random), floats({5, 3}, random)});
  check(bank("gated = true, activation = \"silu\"") + R"(
    func.func @main(%x: tensor<?x6xf32>, %w: tensor<2x4xf32>) -> tensor<?x6xf32> {
      %y = moe.merge_weights @bank(%x, %w)
          : (tensor<?x6xf32>, tensor<2x4xf32>) -> tensor<?x6xf32>
      return %y : tensor<?x6xf32>
    })",
        {floats({6, 6}, random), floats({2, 4}, random)});
}

TEST_F(Lower, FusedWhereTheNodeSaysTheSame) {
  using Fused = ExportOptions::Fused;
  struct Case {
    const char *router, *formula;
    Fused mode;
    unsigned fused;
  };
  const char *silu = "gated = true, activation = \"silu\"";
  for (const Case &c :
       {Case{"<score = softmax, k = 2>", silu, Fused::automatic, 1},
        Case{"<score = softmax, k = 2, renorm = sum>", silu, Fused::automatic, 1},
        Case{"<score = softmax, k = 2, renorm = sum>", silu, Fused::never, 0},
        Case{"<score = softmax, k = 2, renorm = sum, epsilon = 1.0e-20>", silu, Fused::automatic,
             0},
        Case{"<score = softmax, k = 2, renorm = sum, epsilon = 1.0e-20>", silu, Fused::equivalent,
             1},
        Case{"<score = softmax, k = 2, renorm = sum, epsilon = 0.5>", silu, Fused::equivalent, 0},
        Case{"<score = identity, k = 2, renorm = softmax>", silu, Fused::automatic, 0},
        Case{"<score = identity, k = 2, renorm = softmax>", silu, Fused::equivalent, 1},
        Case{"<score = sigmoid, k = 2, renorm = sum>", silu, Fused::equivalent, 0},
        Case{"<score = softmax, k = 2, scale = 2.0>", silu, Fused::equivalent, 0},
        Case{"<score = softmax, k = 2>", "gated = false, activation = \"relu\"", Fused::automatic,
             1},
        Case{"<score = softmax, k = 2>", "gated = false, activation = \"gelu\"", Fused::automatic,
             0},
        Case{"<score = softmax, k = 2>", "gated = true, activation = \"relu\"", Fused::automatic,
             0}}) {
    SCOPED_TRACE(std::string(c.router) + c.formula);
    std::string text = check(routed(c.router, bank(c.formula)), tokens(), {c.mode, false, ""});
    EXPECT_EQ(report.fusedLayers, c.fused);
    EXPECT_EQ(report.plainLayers, 1 - c.fused);
    EXPECT_EQ(text.find("onnx.TopK") == std::string::npos, c.fused == 1);
  }
}

TEST_F(Lower, RefusesWhatOnnxCannotSay) {
  auto module = context.parse(R"(
    func.func @main(%i: tensor<3x2xi32>, %w: tensor<3x2xf32>) -> tensor<3x2xi32> {
      moe.probe "routing"(%i, %w) {experts = 4 : i64, layer = "a"}
          : tensor<3x2xi32>, tensor<3x2xf32>
      moe.probe "routing"(%i, %w) {experts = 4 : i64, layer = "b"}
          : tensor<3x2xi32>, tensor<3x2xf32>
      return %i : tensor<3x2xi32>
    })");
  EXPECT_TRUE(mlir::failed(lowerToOnnx(*module, {}, report)));
  ASSERT_EQ(context.errors.size(), 2u) << "all at once";
  EXPECT_NE(context.errors[0].find("'moe.probe' op is unsupported"), std::string::npos);
}

} // namespace
