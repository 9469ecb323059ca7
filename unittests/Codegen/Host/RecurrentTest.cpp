// Operators with a state, resampling, detection and signals, compared with the interpreter.
#include "Compiled.h"

using namespace moec::host::test;

namespace {

Numbers wave(std::vector<int64_t> shape, const char *type = "f32", double scale = 1) {
  Numbers n{type, shape, {}};
  int64_t count = 1;
  for (int64_t d : shape)
    count *= d;
  for (int64_t i = 0; i < count; ++i)
    n.values.push_back(static_cast<double>((i * 7919 + 13) % 101 - 50) * 0.02 * scale);
  return n;
}

// Sequences of up to 3 steps, batch 2, 3 inputs, 4 hidden.
void recurrent(const std::string &name, int64_t gates, const std::string &attributes,
               int64_t directions = 1, bool everything = false, bool batchFirst = false,
               const char *type = "f32", double tolerance = 5e-6) {
  int64_t hidden = 4, rows = gates * hidden;
  auto state = [&] {
    return everything ? wave(batchFirst ? std::vector<int64_t>{2, directions, hidden}
                                        : std::vector<int64_t>{directions, 2, hidden},
                             type)
                      : absent();
  };
  std::vector<Numbers> inputs{
      wave(batchFirst ? std::vector<int64_t>{2, 3, 3} : std::vector<int64_t>{3, 2, 3}, type),
      wave({directions, rows, 3}, type),
      wave({directions, rows, hidden}, type),
      everything ? wave({directions, 2 * rows}, type) : absent(),
      everything ? Numbers{"i32", {2}, {3, 1}} : absent(),
      state()};
  std::vector<std::string> results{type, type};
  if (name == "LSTM") {
    inputs.push_back(state());
    inputs.push_back(everything ? wave({directions, 3 * hidden}, type) : absent());
    results.push_back(type);
  }
  expectSame({.name = "onnx." + name,
              .attributes = "{hidden_size = 4 : i64" + attributes + "}",
              .inputs = inputs,
              .results = results,
              .tolerance = tolerance});
}

TEST(Recurrent, KindsAndDirections) {
  for (auto [name, gates] : {std::pair("RNN", 1), {"GRU", 3}, {"LSTM", 4}}) {
    recurrent(name, gates, "");
    recurrent(name, gates, ", direction = \"reverse\"", 1, true);
    recurrent(name, gates, ", direction = \"bidirectional\", layout = 1 : i64", 2, true, true);
    recurrent(name, gates, ", clip = 2.000000e-01 : f32", 1, true);
    recurrent(name, gates, "", 1, true, false, "f64", 1e-12);
    recurrent(name, gates, "", 1, true, false, "f16", 2e-3);
  }
  recurrent("GRU", 3, ", linear_before_reset = 1 : i64", 1, true);
  recurrent("LSTM", 4, ", input_forget = 1 : i64", 1, true);
}

TEST(Recurrent, ManySequences) { // weights are packed
  for (auto [name, gates] : {std::pair("RNN", 1), {"GRU", 3}, {"LSTM", 4}})
    for (int order : {0, 1}) {
      if (order == 1 && gates != 3)
        continue;
      std::vector<Numbers> inputs{wave({4, 7, 5}), wave({1, gates * 9, 5}), wave({1, gates * 9, 9}),
                                  wave({1, 2 * gates * 9})};
      inputs.resize(gates == 4 ? 8 : 6, absent());
      std::vector<std::string> results(gates == 4 ? 3 : 2, "f32");
      expectSame({.name = std::string("onnx.") + name,
                  .attributes = order == 0
                                    ? "{hidden_size = 9 : i64}"
                                    : "{hidden_size = 9 : i64, linear_before_reset = 1 : i64}",
                  .inputs = inputs,
                  .results = results,
                  .tolerance = 5e-6});
    }
}

TEST(Recurrent, Activations) {
  for (const char *f : {"Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu",
                        "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"})
    recurrent("RNN", 1, std::string(", activations = [\"") + f + "\"]");
  recurrent("GRU", 3,
            ", activations = [\"HardSigmoid\", \"ScaledTanh\"], activation_alpha = array<f32: 0.3, "
            "0.7>, activation_beta = array<f32: 0.4, 1.5>");
}

TEST(Stateful, CausalConvolutions) {
  for (bool past : {false, true})
    for (const char *activation : {"none", "silu"})
      expectSame({.name = "onnx.CausalConvWithState",
                  .attributes = std::string("{activation = \"") + activation + "\"}",
                  .inputs = {wave({2, 3, 5}), wave({3, 1, 4}), past ? wave({3}) : absent(),
                             past ? wave({2, 3, 3}) : absent()},
                  .results = {"f32", "f32"}});
  expectSame({.name = "onnx.CausalConvWithState", // shorter than the state
              .inputs = {wave({1, 2, 1}), wave({2, 1, 4}), absent(), wave({1, 2, 3})},
              .results = {"f32", "f32"}});
}

TEST(Stateful, LinearAttention) {
  for (const char *rule : {"linear", "gated", "delta", "gated_delta"})
    for (int64_t width : {2, 6}) { // decays of heads, or of their elements
      bool gated = std::string(rule).find("gated") == 0;
      bool delta = std::string(rule).find("delta") != std::string::npos;
      expectSame({.name = "onnx.LinearAttention",
                  .attributes = std::string("{q_num_heads = 4 : i64, kv_num_heads = 2 : i64, "
                                            "update_rule = \"") +
                                rule + "\"}",
                  .inputs = {wave({2, 3, 12}), wave({2, 3, 6}), wave({2, 3, 10}),
                             width == 2 ? absent() : wave({2, 2, 3, 5}),
                             gated ? wave({2, 3, width}) : absent(),
                             delta ? wave({2, 3, width == 2 ? 2 : 1}) : absent()},
                  .results = {"f32", "f32"},
                  .tolerance = 1e-5});
    }
}

TEST(Resampling, Resize) {
  Numbers x = wave({1, 2, 5, 4});
  for (const char *mode : {"nearest", "linear", "cubic"})
    for (const char *at : {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
                           "align_corners", "asymmetric", "tf_crop_and_resize"}) {
      std::string attributes =
          std::string("mode = \"") + mode + "\", coordinate_transformation_mode = \"" + at + "\"";
      Numbers roi = f32({8}, {0, 0, 0.1, 0.2, 1, 1, 0.9, 1.2});
      expectSame({.name = "onnx.Resize",
                  .attributes = "{" + attributes + "}",
                  .inputs = {x, roi, f32({4}, {1, 1, 1.7, 0.6}), absent()},
                  .constants = {1, 2}});
      expectSame(
          {.name = "onnx.Resize",
           .attributes = "{" + attributes + ", axes = array<i64: 3, -2>, antialias = 1 : i64}",
           .inputs = {x, absent(), absent(), i64({3, 2})},
           .constants = {3}});
    }
  for (const char *nearest : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"})
    expectSame({.name = "onnx.Resize",
                .attributes = std::string("{nearest_mode = \"") + nearest + "\"}",
                .inputs = {x, absent(), f32({4}, {1, 1, 0.5, 2.5}), absent()}}); // not constant
  for (const char *policy : {"not_larger", "not_smaller"})
    expectSame({.name = "onnx.Resize",
                .attributes = std::string("{mode = \"linear\", exclude_outside = 1 : i64, axes = "
                                          "array<i64: 2, 3>, keep_aspect_ratio_policy = \"") +
                              policy + "\"}",
                .inputs = {x, absent(), absent(), i64({7, 8})},
                .constants = {3}});
  expectSame({.name = "onnx.Resize",
              .attributes = "{mode = \"cubic\", cubic_coeff_a = -5.000000e-01 : f32}",
              .inputs = {{"ui8", {1, 4}, {0, 250, 255, 3}}, absent(), f32({2}, {1, 2}), absent()},
              .results = {"ui8"},
              .constants = {2}});
}

TEST(Resampling, OtherElementTypes) {
  for (auto [type, tolerance] : {std::pair("f16", 2e-3), {"bf16", 2e-2}, {"f64", 1e-12}}) {
    expectSame({.name = "onnx.Resize",
                .attributes = "{mode = \"linear\"}",
                .inputs = {wave({3, 4}, type), absent(), absent(), i64({5, 2})},
                .results = {type},
                .constants = {3},
                .tolerance = tolerance});
    expectSame({.name = "onnx.GridSample",
                .inputs = {wave({1, 2, 3, 3}, type), wave({1, 2, 2, 2}, type)},
                .results = {type},
                .tolerance = tolerance});
    expectSame({.name = "onnx.Det",
                .inputs = {wave({2, 2}, type)},
                .results = {type},
                .tolerance = tolerance});
    expectSame({.name = "onnx.DFT",
                .inputs = {wave({1, 5, 1}, type), absent(), absent()},
                .results = {type},
                .tolerance = tolerance});
  }
  for (auto [type, tolerance] : {std::pair("f16", 2e-3), {"bf16", 2e-2}}) {
    expectSame({.name = "onnx.CausalConvWithState",
                .attributes = "{activation = \"silu\"}",
                .inputs = {wave({1, 2, 3}, type), wave({2, 1, 3}, type), wave({2}, type), absent()},
                .results = {type, type},
                .tolerance = tolerance});
    expectSame(
        {.name = "onnx.LinearAttention",
         .attributes = "{q_num_heads = 2 : i64, kv_num_heads = 2 : i64, update_rule = \"linear\"}",
         .inputs = {wave({1, 3, 4}, type), wave({1, 3, 4}, type), wave({1, 3, 6}, type),
                    wave({1, 2, 2, 3}), absent(), absent()},
         .results = {type, "f32"}, // the state may have another type
         .tolerance = tolerance});
  }
}

TEST(Resampling, Grids) {
  for (const char *mode : {"nearest", "linear", "cubic"})
    for (const char *padding : {"zeros", "border", "reflection"})
      for (int corners : {0, 1})
        expectSame({.name = "onnx.GridSample",
                    .attributes = std::string("{mode = \"") + mode + "\", padding_mode = \"" +
                                  padding + "\", align_corners = " + std::to_string(corners) +
                                  " : i64}",
                    .inputs = {wave({2, 2, 4, 3}), wave({2, 3, 2, 2}, "f32", 1.7)}});
  expectSame({.name = "onnx.GridSample", .inputs = {wave({1, 1, 3, 2, 3}), wave({1, 2, 2, 2, 3})}});
  for (int corners : {0, 1})
    expectSame({.name = "onnx.AffineGrid",
                .attributes = "{align_corners = " + std::to_string(corners) + " : i64}",
                .inputs = {wave({2, 3, 4}), i64({2, 1, 3, 2, 4})},
                .constants = {1}});
}

TEST(Detection, Regions) {
  Numbers x = wave({2, 2, 6, 7});
  for (const char *mode : {"avg", "max"})
    for (const char *at : {"half_pixel", "output_half_pixel"})
      for (int ratio : {0, 2})
        expectSame({.name = "onnx.RoiAlign",
                    .attributes = std::string("{mode = \"") + mode +
                                  "\", coordinate_transformation_mode = \"" + at +
                                  "\", output_height = 2 : i64, output_width = 3 : i64, "
                                  "spatial_scale = 5.000000e-01 : f32, sampling_ratio = " +
                                  std::to_string(ratio) + " : i64}",
                    .inputs = {x, f32({2, 4}, {0, 1, 11, 9, -5, 2, 20, 14}), i64({1, 0})}});
  expectSame({.name = "onnx.MaxRoiPool",
              .attributes = "{pooled_shape = array<i64: 2, 3>}",
              .inputs = {x, f32({2, 5}, {1, 0, 1, 5, 4, 0, 3, 3, 3, 3})}});
}

TEST(Detection, OverlappingBoxes) {
  Numbers boxes =
      f32({1, 5, 4}, {0, 0, 1, 1, 0, 0.1, 1, 1.1, 1, 0.9, 0, -0.1, 0, 10, 1, 11, 0, 10.1, 1, 11.1});
  Numbers scores = f32({1, 2, 5}, {0.9, 0.75, 0.6, 0.95, 0.5, 0.2, 0.2, 0.8, 0.1, 0.9});
  for (int centre : {0, 1})
    expectSame({.name = "onnx.NonMaxSuppression",
                .attributes = "{center_point_box = " + std::to_string(centre) + " : i64}",
                .inputs = {boxes, scores, i64({3}), f32({1}, {0.5}), f32({}, {0.15})},
                .results = {"i64"}});
  expectSame({.name = "onnx.NonMaxSuppression",
              .inputs = {boxes, scores, i64({}, {2}), absent(), absent()},
              .results = {"i64"}});
}

TEST(Signals, Transforms) {
  for (int axis : {0, 1, -2})
    for (int inverse : {0, 1})
      expectSame({.name = "onnx.DFT",
                  .attributes = "{inverse = " + std::to_string(inverse) + " : i64}",
                  .inputs = {wave({3, 5, 4, 2}), absent(), i64({}, {static_cast<double>(axis)})},
                  .constants = {2}});
  expectSame({.name = "onnx.DFT", // the axis is an input
              .inputs = {wave({3, 5, 4, 2}), absent(), i64({}, {-3})}});
  for (double length : {3, 5, 8})
    expectSame({.name = "onnx.DFT",
                .attributes = "{onesided = 1 : i64}",
                .inputs = {wave({2, 5, 1}), i64({}, {length}), absent()},
                .constants = {1}});
  expectSame({.name = "onnx.DFT",
              .attributes = "{onesided = 1 : i64, inverse = 1 : i64}",
              .inputs = {wave({2, 4, 2}), i64({}, {7}), absent()},
              .constants = {1}});
  for (int onesided : {0, 1})
    expectSame({.name = "onnx.STFT",
                .attributes = "{onesided = " + std::to_string(onesided) + " : i64}",
                .inputs = {wave({2, 11, 1}), i64({}, {3}), wave({4}), absent()},
                .constants = {1}});
  expectSame({.name = "onnx.STFT",
              .attributes = "{onesided = 0 : i64}",
              .inputs = {wave({1, 9, 2}), i64({}, {2}), absent(), i64({}, {5})}});
}

TEST(Signals, WindowsAndMatrices) {
  for (const char *name : {"HannWindow", "HammingWindow", "BlackmanWindow"})
    for (int periodic : {0, 1})
      expectSame({.name = std::string("onnx.") + name,
                  .attributes = "{periodic = " + std::to_string(periodic) + " : i64}",
                  .inputs = {i64({}, {7})}});
  expectSame(
      {.name = "onnx.MelWeightMatrix",
       .inputs = {i64({}, {5}), i64({}, {16}), i64({}, {8192}), f32({}, {0}), f32({}, {4096})},
       .constants = {0, 1, 2}});
  expectSame({.name = "onnx.Det", .inputs = {wave({2, 3, 3})}});
  expectSame({.name = "onnx.Det", .inputs = {f32({2, 2}, {0, 2, 3, 0})}});
}

} // namespace
