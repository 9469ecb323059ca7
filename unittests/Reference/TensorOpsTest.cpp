// Values of reductions, movement, indexing, selection, products and control flow.
#include "Run.h"
#include <cmath>

using namespace moec::reference::test;

namespace {

constexpr double inf = INFINITY, nan = NAN;
const Numbers m23 = f32({2, 3}, {1, 2, 3, 4, 5, 6});

TEST(Reductions, AxesAndKeepdims) {
  expectOp("onnx.ReduceSum", "{keepdims = 0 : i64}", {m23, i64({1})}, f32({2}, {6, 15}), 0);
  expectOp("onnx.ReduceSum", "{keepdims = 1 : i64}", {m23}, f32({1, 1}, {21}), 0);
  expectOp("onnx.ReduceSum", "{noop_with_empty_axes = 1 : i64}", {m23, i64({0}, {})}, m23, 0);
  expectOp("onnx.ReduceMean", "{axes = array<i64: -2>}", {m23}, f32({1, 3}, {2.5, 3.5, 4.5}), 0);
  expectOp("onnx.ReduceMax", "{keepdims = 0 : i64}", {f32({0}, {})}, f32({}, {-inf}), 0);
  expectOp("onnx.ReduceL1", "", {{"i32", {2}, {-3, 4}}}, {"i32", {1}, {7}}, 0);
  expectOp("onnx.ReduceLogSumExp", "{keepdims = 0 : i64}", {f32({2}, {1000, 1000})},
           f32({}, {1000 + std::log(2)}));
  expectOp("onnx.CumSum", "{exclusive = 1 : i64, reverse = 1 : i64}",
           {f32({3}, {1, 2, 3}), i64({}, {0})}, f32({3}, {5, 3, 0}), 0);
  expectError("onnx.ReduceSum", "", {m23, i64({2})}, "axis 2 is outside of rank 2");
}

TEST(Reductions, Positions) {
  Numbers x = f32({2, 3}, {1, 3, 3, 2, 2, 0});
  expectOp("onnx.ArgMax", "{axis = 1 : i64, keepdims = 0 : i64}", {x}, i64({1, 0}), 0);
  expectOp("onnx.ArgMax", "{axis = 1 : i64, keepdims = 0 : i64, select_last_index = 1 : i64}", {x},
           i64({2, 1}), 0);
  expectOp("onnx.ArgMin", "{axis = 0 : i64}", {x}, i64({1, 3}, {0, 1, 1}), 0);
}

TEST(Movement, Reshapes) {
  expectOp("onnx.Reshape", "", {m23, i64({-1, 0, 1})}, f32({2, 3, 1}, m23.values), 0);
  expectOp("onnx.Reshape", "{allowzero = 1 : i64}", {f32({0, 4}, {}), i64({4, 0})}, f32({4, 0}, {}),
           0);
  expectError("onnx.Reshape", "", {m23, i64({4, -1})}, "does not fit");
  expectOp("onnx.Unsqueeze", "", {f32({2}, {1, 2}), i64({0, -1})}, f32({1, 2, 1}, {1, 2}), 0);
  expectError("onnx.Squeeze", "", {m23, i64({0})}, "is not 1");
  expectOp("onnx.Flatten", "{axis = 2 : i64}", {m23}, f32({6, 1}, m23.values), 0);
}

TEST(Movement, TransposeSliceSplitConcat) {
  expectOp("onnx.Transpose", "", {m23}, f32({3, 2}, {1, 4, 2, 5, 3, 6}), 0);
  expectOp("onnx.Slice", "", {m23, i64({-1}), i64({-9e18}), i64({1}), i64({-2})},
           f32({2, 2}, {3, 1, 6, 4}), 0);
  expectOp("onnx.Slice", "", {m23, i64({1, 1}), i64({9, 2})}, f32({1, 1}, {5}), 0);
  expectOp("onnx.Slice", "", {m23, i64({5}), i64({9})}, f32({0, 3}, {}), 0);
  expectOp("onnx.Concat", "{axis = -1 : i64}", {m23, f32({2, 1}, {8, 9})},
           f32({2, 4}, {1, 2, 3, 8, 4, 5, 6, 9}), 0);
  Outcome parts =
      runOp("onnx.Split", "{axis = 1 : i64, num_outputs = 2 : i64}", {m23}, {"f32", "f32"});
  ASSERT_EQ(parts.error, "");
  expectNear(parts.results[0], f32({2, 2}, {1, 2, 4, 5}), 0);
  expectNear(parts.results[1], f32({2, 1}, {3, 6}), 0);
  expectOp("onnx.Tile", "", {m23, i64({2, 1})}, f32({4, 3}, {1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6}),
           0);
  expectOp("onnx.Expand", "", {f32({2, 1}, {1, 2}), i64({1, 1, 2})}, f32({1, 2, 2}, {1, 1, 2, 2}),
           0);
}

TEST(Movement, PadAndTrilu) {
  Numbers x = f32({3}, {1, 2, 3});
  expectOp("onnx.Pad", "", {x, i64({1, 2}), f32({}, {7})}, f32({6}, {7, 1, 2, 3, 7, 7}), 0);
  expectOp("onnx.Pad", "{mode = \"reflect\"}", {x, i64({2, 1})}, f32({6}, {3, 2, 1, 2, 3, 2}), 0);
  expectOp("onnx.Pad", "{mode = \"wrap\"}", {x, i64({1, 1})}, f32({5}, {3, 1, 2, 3, 1}), 0);
  expectOp("onnx.Pad", "", {x, i64({-1, 1})}, f32({3}, {2, 3, 0}), 0);
  expectOp("onnx.Trilu", "{upper = 0 : i64}", {m23, i64({}, {-1})}, f32({2, 3}, {0, 0, 0, 4, 0, 0}),
           0);
}

TEST(Creation, RangesShapesOneHot) {
  expectOp("onnx.Range", "", {i64({}, {5}), i64({}, {0}), i64({}, {-2})}, i64({5, 3, 1}), 0);
  expectOp("onnx.Range", "", {f32({}, {0}), f32({}, {1}), f32({}, {0.3})},
           f32({4}, {0, 0.3, 0.6, 0.9}));
  expectOp("onnx.Shape", "{start = -2 : i64, end = -1 : i64}",
           {f32({4, 2, 3}, std::vector<double>(24))}, i64({2}), 0);
  expectOp("onnx.OneHot", "", {i64({1, -1, 5}), i64({}, {3}), f32({2}, {0, 9})},
           f32({3, 3}, {0, 9, 0, 0, 0, 9, 0, 0, 0}), 0);
  expectOp("onnx.ConstantOfShape", "{value = dense<4> : tensor<1xi64>}", {i64({2})}, i64({4, 4}),
           0);
}

TEST(Indexing, Gathers) {
  expectOp("onnx.Gather", "{axis = 1 : i64}", {m23, i64({1, 2}, {-1, 0})},
           f32({2, 1, 2}, {3, 1, 6, 4}), 0);
  expectError("onnx.Gather", "", {m23, i64({2})}, "index 2 is outside of an axis of 2");
  expectOp("onnx.GatherElements", "{axis = 1 : i64}", {m23, i64({2, 1}, {2, 0})},
           f32({2, 1}, {3, 4}), 0);
  expectOp("onnx.GatherND", "{batch_dims = 1 : i64}", {m23, i64({2, 1}, {2, 0})}, f32({2}, {3, 4}),
           0);
  expectOp("onnx.GatherND", "", {m23, i64({1, 1}, {1})}, f32({1, 3}, {4, 5, 6}), 0);
}

TEST(Indexing, Scatters) {
  expectOp("onnx.ScatterElements", "{axis = 0 : i64, reduction = \"add\"}",
           {f32({3}, {1, 1, 1}), i64({2, 2, 0}), f32({3}, {5, 6, 7})}, f32({3}, {8, 1, 12}), 0);
  expectOp("onnx.ScatterND", "", {m23, i64({1, 1}, {0}), f32({1, 3}, {7, 8, 9})},
           f32({2, 3}, {7, 8, 9, 4, 5, 6}), 0);
  expectOp("onnx.ScatterND", "{reduction = \"max\"}",
           {m23, i64({2, 2}, {0, 0, 1, 2}), f32({2}, {9, 1})}, f32({2, 3}, {9, 2, 3, 4, 5, 6}), 0);
  expectError("onnx.ScatterND", "", {m23, i64({1, 1}, {2}), f32({1, 3}, {7, 8, 9})}, "index 2");
}

TEST(Selection, TopKTiesAndNan) {
  Outcome top = runOp("onnx.TopK", "{axis = -1 : i64}", {f32({5}, {1, 3, nan, 3, 2}), i64({3})},
                      {"f32", "i64"});
  ASSERT_EQ(top.error, "");
  expectNear(top.results[0], f32({3}, {nan, 3, 3}), 0);
  expectNear(top.results[1], i64({2, 1, 3}), 0);
  top = runOp("onnx.TopK", "{largest = 0 : i64}", {i64({4, 1, 1}), i64({2})}, {"i64", "i64"});
  expectNear(top.results[1], i64({1, 2}), 0);
  expectError("onnx.TopK", "", {f32({2}, {1, 2}), i64({3})}, "k = 3 exceeds an axis of 2");
}

TEST(Selection, NonZeroCompressUnique) {
  expectOp("onnx.NonZero", "", {boolean({2, 2}, {1, 0, 1, 1})}, i64({2, 3}, {0, 1, 1, 0, 0, 1}), 0);
  expectOp("onnx.Compress", "{axis = 1 : i64}", {m23, boolean({3}, {0, 1, 1})},
           f32({2, 2}, {2, 3, 5, 6}), 0);
  Outcome u = runOp("onnx.Unique", "", {f32({5}, {2, 1, 1, 3, 2})}, {"f32", "i64", "i64", "i64"});
  ASSERT_EQ(u.error, "");
  expectNear(u.results[0], f32({3}, {1, 2, 3}), 0);
  expectNear(u.results[1], i64({1, 0, 3}), 0);
  expectNear(u.results[2], i64({1, 0, 0, 2, 1}), 0);
  expectNear(u.results[3], i64({2, 2, 1}), 0);
}

TEST(Products, MatMulGemmEinsum) {
  expectOp("onnx.MatMul", "", {m23, f32({3}, {1, 0, 2})}, f32({2}, {7, 16}), 0);
  expectOp("onnx.MatMul", "", {f32({2, 1, 3}, m23.values), f32({3, 1}, {1, 0, 2})},
           f32({2, 1, 1}, {7, 16}), 0);
  expectOp("onnx.Gemm", "{transB = 1 : i64, alpha = 2.0 : f32, beta = 0.5 : f32}",
           {m23, f32({1, 3}, {1, 0, 2}), f32({1}, {4})}, f32({2, 1}, {16, 34}), 0);
  expectError("onnx.MatMul", "", {m23, m23}, "do not multiply");
  expectOp("onnx.Einsum", "{equation = \"...ij, jk -> ...ki\"}", {m23, f32({3, 1}, {1, 0, 2})},
           f32({1, 2}, {7, 16}), 0);
  expectOp("onnx.Einsum", "{equation = \"ii\"}", {f32({2, 2}, {1, 2, 3, 4})}, f32({}, {5}), 0);
  // The sum is rounded once: 2^24 + 1 + 1 in f32 steps would lose both ones.
  expectOp("onnx.MatMul", "", {f32({1, 3}, {16777216, 1, 1}), f32({3, 1}, {1, 1, 1})},
           f32({1, 1}, {16777218}), 0);
}

TEST(Normalisation, SoftmaxAndNorms) {
  expectOp("onnx.Softmax", "{axis = 0 : i64}", {f32({2, 1}, {1000, 1000})}, f32({2, 1}, {0.5, 0.5}),
           0);
  expectOp("onnx.LogSoftmax", "", {f32({2}, {0, 0})}, f32({2}, {-std::log(2), -std::log(2)}));
  expectOp("onnx.RMSNormalization", "{epsilon = 0.0 : f32}",
           {f32({1, 2}, {3, 4}), f32({2}, {1, 2})},
           f32({1, 2}, {3 / std::sqrt(12.5), 8 / std::sqrt(12.5)}));
  Outcome norm =
      runOp("onnx.LayerNormalization", "{epsilon = 0.0 : f32}",
            {f32({1, 2}, {1, 3}), f32({2}, {2, 2}), f32({2}, {10, 10})}, {"f32", "f32", "f32"});
  ASSERT_EQ(norm.error, "");
  expectNear(norm.results[0], f32({1, 2}, {8, 12}), 1e-6);
  expectNear(norm.results[1], f32({1, 1}, {2}), 0);
  expectNear(norm.results[2], f32({1, 1}, {1}), 1e-6);
}

TEST(Quantisation, Linear) {
  expectOp("onnx.QuantizeLinear", "", {f32({4}, {0, 2, 3, 1000}), f32({}, {2}), {"ui8", {}, {128}}},
           {"ui8", {4}, {128, 129, 130, 255}}, 0);
  expectOp("onnx.DequantizeLinear", "{axis = 0 : i64}",
           {{"i8", {2, 1}, {-4, 6}}, f32({2}, {0.5, 2})}, f32({2, 1}, {-2, 12}), 0);
}

TEST(Attention, CausalMaskAndEmptyRows) {
  // One head, width 1: equal scores, so a row is the mean of the values it may see.
  Numbers q = f32({1, 1, 2, 1}, {0, 0}), k = f32({1, 1, 2, 1}, {1, 1}),
          v = f32({1, 1, 2, 1}, {2, 6});
  expectOp("onnx.Attention", "{is_causal = 1 : i64}", {q, k, v}, f32({1, 1, 2, 1}, {2, 4}));
  expectOp("onnx.Attention", "", {q, k, v, boolean({2, 2}, {0, 1, 0, 0})},
           f32({1, 1, 2, 1}, {6, 0}));
  expectOp("onnx.RotaryEmbedding", "",
           {f32({1, 1, 1, 2}, {1, 2}), f32({1, 1, 1}, {0}), f32({1, 1, 1}, {1})},
           f32({1, 1, 1, 2}, {-2, 1}), 0);
}

TEST(ControlFlow, LoopSumsAndCollects) {
  Outcome out = runModule(R"(
    func.func @main(%n: tensor<i64>, %start: tensor<f32>) -> (tensor<f32>, tensor<?xf32>) {
      %true = "onnx.Constant"() {value = dense<true> : tensor<i1>} : () -> tensor<i1>
      %sum, %all = "onnx.Loop"(%n, %true, %start) ({
      ^bb0(%i: tensor<i64>, %go: tensor<i1>, %s: tensor<f32>):
        %f = "onnx.Cast"(%i) {to = 1 : i64} : (tensor<i64>) -> tensor<f32>
        %t = "onnx.Add"(%s, %f) : (tensor<f32>, tensor<f32>) -> tensor<f32>
        %u = "onnx.Add"(%t, %start) : (tensor<f32>, tensor<f32>) -> tensor<f32>
        "onnx.yield"(%go, %t, %u) : (tensor<i1>, tensor<f32>, tensor<f32>) -> ()
      }) : (tensor<i64>, tensor<i1>, tensor<f32>) -> (tensor<f32>, tensor<?xf32>)
      return %sum, %all : tensor<f32>, tensor<?xf32>
    })",
                          {i64({}, {3}), f32({}, {10})});
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], f32({}, {13}), 0);
  expectNear(out.results[1], f32({3}, {20, 21, 23}), 0);
}

TEST(ControlFlow, IfRunsOneBranch) {
  std::string ir = R"(
    func.func @main(%c: tensor<i1>, %x: tensor<2xf32>) -> tensor<f32> {
      %y = "onnx.If"(%c) ({
        %i = "onnx.Constant"() {value = dense<1> : tensor<i64>} : () -> tensor<i64>
        %a = "onnx.Gather"(%x, %i) {axis = 0 : i64} : (tensor<2xf32>, tensor<i64>) -> tensor<f32>
        "onnx.yield"(%a) : (tensor<f32>) -> ()
      }, {
        %i = "onnx.Constant"() {value = dense<7> : tensor<i64>} : () -> tensor<i64>
        %a = "onnx.Gather"(%x, %i) {axis = 0 : i64} : (tensor<2xf32>, tensor<i64>) -> tensor<f32> loc("far")
        "onnx.yield"(%a) : (tensor<f32>) -> ()
      }) : (tensor<i1>) -> tensor<f32>
      return %y : tensor<f32>
    })";
  Outcome yes = runModule(ir, {boolean({}, {1}), f32({2}, {4, 5})});
  ASSERT_EQ(yes.error, "");
  expectNear(yes.results[0], f32({}, {5}), 0);
  Outcome no = runModule(ir, {boolean({}, {0}), f32({2}, {4, 5})});
  EXPECT_EQ(no.error, "node \"far\" (Gather): index 7 is outside of an axis of 2");
}

TEST(ControlFlow, ScanRunsBackwards) {
  Outcome out = runModule(R"(
    func.func @main(%s: tensor<f32>, %x: tensor<3xf32>) -> (tensor<f32>, tensor<3xf32>) {
      %sum, %all = "onnx.Scan"(%s, %x) ({
      ^bb0(%a: tensor<f32>, %e: tensor<f32>):
        %t = "onnx.Add"(%a, %e) : (tensor<f32>, tensor<f32>) -> tensor<f32>
        "onnx.yield"(%t, %t) : (tensor<f32>, tensor<f32>) -> ()
      }) {num_scan_inputs = 1 : i64, scan_input_directions = array<i64: 1>}
        : (tensor<f32>, tensor<3xf32>) -> (tensor<f32>, tensor<3xf32>)
      return %sum, %all : tensor<f32>, tensor<3xf32>
    })",
                          {f32({}, {0}), f32({3}, {1, 2, 4})});
  ASSERT_EQ(out.error, "");
  expectNear(out.results[0], f32({}, {7}), 0);
  expectNear(out.results[1], f32({3}, {4, 6, 7}), 0);
}

} // namespace
