// Values of convolutions, pools, recurrences, resampling and signals that can be checked by hand.
// The ONNX library's own tests (NodeTest.cpp) cover the rest.
#include "Run.h"
#include <cmath>

using namespace moec::reference::test;

namespace {

const Numbers ramp = f32({1, 1, 4}, {1, 2, 3, 4});

TEST(Convolutions, ByHand) {
  expectOp("onnx.Conv", "", {ramp, f32({1, 1, 2}, {10, 1})}, f32({1, 1, 3}, {12, 23, 34}), 0);
  expectOp("onnx.Conv", "{pads = array<i64: 1, 0>, strides = array<i64: 2>}",
           {ramp, f32({1, 1, 2}, {10, 1}), f32({1}, {100})}, f32({1, 1, 2}, {101, 123}), 0);
  expectOp("onnx.Conv", "{group = 2 : i64}",
           {f32({1, 2, 2}, {1, 2, 3, 4}), f32({2, 1, 2}, {1, 1, 1, -1})}, f32({1, 2, 1}, {3, -1}),
           0);
  expectOp("onnx.Conv", "{auto_pad = \"SAME_LOWER\"}", {ramp, f32({1, 1, 2}, {10, 1})},
           f32({1, 1, 4}, {1, 12, 23, 34}), 0);
  expectOp("onnx.ConvTranspose", "{strides = array<i64: 2>}",
           {f32({1, 1, 2}, {1, 2}), f32({1, 1, 3}, {1, 10, 100})},
           f32({1, 1, 5}, {1, 10, 102, 20, 200}), 0);
  expectOp("onnx.ConvInteger", "",
           {{"ui8", {1, 1, 3}, {3, 4, 5}},
            {"ui8", {1, 1, 2}, {2, 3}},
            {"ui8", {}, {3}},
            {"ui8", {1}, {1}}},
           {"i32", {1, 1, 2}, {2, 5}}, 0);
  expectError("onnx.Conv", "{group = 2 : i64}", {ramp, f32({1, 1, 2}, {1, 1})}, "do not fit");
  expectError("onnx.Conv", "", {ramp, f32({1, 1, 5}, {1, 1, 1, 1, 1})}, "exceeds an axis");
}

TEST(Pools, ByHand) {
  expectOp("onnx.MaxPool", "{kernel_shape = array<i64: 2>}", {ramp}, f32({1, 1, 3}, {2, 3, 4}), 0);
  expectOp("onnx.AveragePool", "{kernel_shape = array<i64: 3>, pads = array<i64: 1, 1>}", {ramp},
           f32({1, 1, 4}, {1.5, 2, 3, 3.5}));
  expectOp("onnx.AveragePool",
           "{kernel_shape = array<i64: 3>, pads = array<i64: 1, 1>, count_include_pad = 1 : i64}",
           {ramp}, f32({1, 1, 4}, {1, 2, 3, 7.0 / 3}));
  // The last window starts inside and reaches out.
  expectOp("onnx.AveragePool",
           "{kernel_shape = array<i64: 3>, strides = array<i64: 2>, ceil_mode = 1 : i64}", {ramp},
           f32({1, 1, 2}, {2, 3.5}));
  expectOp("onnx.LpPool", "{kernel_shape = array<i64: 2>, strides = array<i64: 2>}",
           {f32({1, 1, 4}, {3, -4, 6, 8})}, f32({1, 1, 2}, {5, 10}));
  Outcome maxima =
      runOp("onnx.MaxPool", "{kernel_shape = array<i64: 2, 2>, storage_order = 1 : i64}",
            {f32({1, 1, 2, 3}, {1, 9, 2, 3, 4, 8})}, {"f32", "i64"});
  ASSERT_EQ(maxima.error, "");
  expectNear(maxima.results[1], i64({1, 1, 1, 2}, {2, 2}), 0);
  expectOp("onnx.MaxUnpool", "{kernel_shape = array<i64: 2>, strides = array<i64: 2>}",
           {f32({1, 1, 2}, {5, 6}), i64({1, 1, 2}, {1, 2})}, f32({1, 1, 4}, {0, 5, 6, 0}), 0);
  expectError("onnx.MaxUnpool", "{kernel_shape = array<i64: 2>, strides = array<i64: 2>}",
              {f32({1, 1, 2}, {5, 6}), i64({1, 1, 2}, {1, 4})}, "index 4 is outside");
}

TEST(Recurrences, ByHand) {
  // h' = x + h with the identity as activation.
  std::string identity = "{activations = [\"Affine\"], hidden_size = 1 : i64";
  Numbers x = f32({3, 1, 1}, {1, 2, 3}), one = f32({1, 1, 1}, {1});
  Outcome sums = runOp("onnx.RNN", identity + "}", {x, one, one}, {"f32", "f32"});
  ASSERT_EQ(sums.error, "");
  expectNear(sums.results[0], f32({3, 1, 1, 1}, {1, 3, 6}), 0);
  expectNear(sums.results[1], f32({1, 1, 1}, {6}), 0);
  // Backwards over the first two steps only.
  Outcome two = runOp("onnx.RNN", identity + ", direction = \"reverse\"}",
                      {x, one, one, absent(), {"i32", {1}, {2}}}, {"f32", "f32"});
  ASSERT_EQ(two.error, "");
  expectNear(two.results[0], f32({3, 1, 1, 1}, {3, 2, 0}), 0);
  expectNear(two.results[1], f32({1, 1, 1}, {3}), 0);
  expectError("onnx.RNN", identity + "}", {x, one, one, absent(), {"i32", {1}, {4}}}, "length 4");
}

TEST(Stateful, ByHand) {
  Outcome conv =
      runOp("onnx.CausalConvWithState", "",
            {ramp, f32({1, 1, 2}, {10, 1}), absent(), f32({1, 1, 1}, {5})}, {"f32", "f32"});
  ASSERT_EQ(conv.error, "");
  expectNear(conv.results[0], f32({1, 1, 4}, {51, 12, 23, 34}), 0);
  expectNear(conv.results[1], f32({1, 1, 1}, {4}), 0);
  // The second step takes away what the state already knows of its key.
  Outcome delta = runOp("onnx.LinearAttention",
                        "{q_num_heads = 1 : i64, kv_num_heads = 1 : i64, scale = 1.0 : f32, "
                        "update_rule = \"delta\"}",
                        {f32({1, 2, 1}, {1, 1}), f32({1, 2, 1}, {1, 1}), f32({1, 2, 1}, {3, 5}),
                         absent(), absent(), f32({1, 2, 1}, {1, 0.5})},
                        {"f32", "f32"});
  ASSERT_EQ(delta.error, "");
  expectNear(delta.results[0], f32({1, 2, 1}, {3, 4}), 0);
}

TEST(Resampling, ByHand) {
  expectOp("onnx.Resize", "{coordinate_transformation_mode = \"asymmetric\", mode = \"linear\"}",
           {f32({2}, {0, 4}), absent(), f32({1}, {2})}, f32({4}, {0, 2, 4, 4}), 0);
  expectOp("onnx.GridSample", "", {f32({1, 1, 1, 2}, {2, 6}), f32({1, 1, 1, 2}, {0, 0})},
           f32({1, 1, 1, 1}, {4}), 0);
  expectError("onnx.Resize", "", {f32({2}, {0, 4})}, "either scales or sizes");
}

TEST(Signals, ByHand) {
  expectOp("onnx.DFT", "", {f32({1, 2, 1}, {1, 3})}, f32({1, 2, 2}, {4, 0, -2, 0}));
  expectOp("onnx.Det", "", {f32({2, 2}, {1, 2, 3, 4})}, f32({}, {-2}));
  expectOp("onnx.HannWindow", "{periodic = 0 : i64}", {i64({}, {3})}, f32({3}, {0, 1, 0}));
}

} // namespace
