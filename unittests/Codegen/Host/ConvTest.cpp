// Convolutions, pools and normalisations, compared with the interpreter.
#include "Compiled.h"

using namespace moec::host::test;

namespace {

/// Numbers without a pattern that shifts or swaps of axes would keep.
Numbers wave(std::vector<int64_t> shape, const char *type = "f32", double scale = 1) {
  Numbers n{type, shape, {}};
  int64_t count = 1;
  for (int64_t d : shape)
    count *= d;
  bool integer = type[0] != 'f' && type[0] != 'b';
  for (int64_t i = 0; i < count; ++i) {
    double v = static_cast<double>((i * 7919 + 13) % 101 - 50) * 0.04 * scale;
    n.values.push_back(integer ? static_cast<double>((i * 7919 + 13) % 23) : v);
  }
  return n;
}

void conv(std::vector<int64_t> x, std::vector<int64_t> w, const std::string &attributes,
          const char *type = "f32", const char *name = "onnx.Conv", double tolerance = 5e-6) {
  int64_t channels = std::string(name) == "onnx.Conv" ? w[0] : -1;
  Numbers bias = channels < 0 ? absent() : wave({channels}, type);
  expectSame({.name = name,
              .attributes = attributes,
              .inputs = {wave(x, type), wave(w, type, 0.3), bias},
              .results = {type},
              .tolerance = tolerance});
}

TEST(Convolutions, OneTwoAndThreeAxes) {
  conv({2, 3, 9}, {4, 3, 3}, "");
  conv({2, 3, 9}, {4, 3, 3}, "{pads = array<i64: 2, 1>, strides = array<i64: 2>}");
  conv({1, 3, 7, 6}, {5, 3, 3, 2}, "{dilations = array<i64: 2, 1>, pads = array<i64: 1, 0, 2, 1>}");
  conv({1, 3, 7, 6}, {5, 3, 1, 1}, ""); // the input itself is the matrix
  conv({2, 3, 7, 6}, {5, 3, 1, 1}, "{strides = array<i64: 2, 3>}");
  conv({1, 2, 4, 5, 3}, {3, 2, 2, 3, 2}, "{pads = array<i64: 0, 1, 1, 0, 1, 1>}");
  conv({1, 2, 6, 6}, {2, 2, 3, 3}, "{pads = array<i64: -1, 0, 0, -1>}"); // cuts
}

TEST(Convolutions, ManyTaps) { // positions in several blocks
  conv({2, 400, 20, 21}, {3, 400, 3, 3},
       "{strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>}", "f32", "onnx.Conv", 2e-4);
}

TEST(Convolutions, AutomaticPadding) {
  for (const char *mode : {"SAME_UPPER", "SAME_LOWER", "VALID"})
    conv({1, 2, 7, 6}, {3, 2, 4, 3},
         std::string("{strides = array<i64: 2, 1>, auto_pad = \"") + mode + "\"}");
}

TEST(Convolutions, Groups) {
  conv({2, 4, 8}, {4, 1, 4}, "{group = 4 : i64, pads = array<i64: 3, 0>}"); // depthwise
  conv({2, 4, 8}, {8, 1, 3}, "{group = 4 : i64, dilations = array<i64: 2>}");
  conv({1, 4, 5, 5}, {6, 2, 2, 2}, "{group = 2 : i64}");
  conv({2, 1, 5, 5}, {12, 1, 3, 3}, ""); // one channel, but a product
}

TEST(Convolutions, OtherElementTypes) {
  conv({1, 2, 5, 5}, {3, 2, 3, 3}, "", "f64", "onnx.Conv", 1e-12);
  conv({1, 2, 5, 5}, {3, 2, 3, 3}, "", "f16", "onnx.Conv", 2e-3);
  conv({1, 2, 8}, {2, 1, 3}, "{group = 2 : i64}", "bf16", "onnx.Conv", 2e-2);
  Numbers x = wave({1, 2, 5, 4}, "ui8"), w = wave({4, 1, 2, 2}, "i8");
  for (bool each : {false, true})
    expectSame(
        {.name = "onnx.ConvInteger",
         .attributes = "{group = 2 : i64, pads = array<i64: 1, 1, 0, 0>}",
         .inputs = {x, w, {"ui8", {}, {3}}, each ? Numbers{"i8", {4}, {1, 0, -2, 5}} : absent()},
         .results = {"i32"}});
}

TEST(Convolutions, Transposed) {
  auto transposed = [](std::vector<int64_t> x, std::vector<int64_t> w, const std::string &a) {
    conv(x, w, a, "f32", "onnx.ConvTranspose");
  };
  transposed({1, 3, 5}, {3, 2, 3}, "");
  transposed({2, 3, 4, 3}, {3, 2, 3, 2},
             "{strides = array<i64: 2, 3>, pads = array<i64: 1, 0, 0, 1>}");
  transposed({1, 4, 4, 3}, {4, 1, 3, 3},
             "{group = 2 : i64, strides = array<i64: 3, 2>, output_padding = array<i64: 2, 1>}");
  transposed({1, 2, 3, 3}, {2, 2, 3, 3},
             "{strides = array<i64: 2, 2>, output_shape = array<i64: 6, 8>}");
  transposed({1, 2, 3, 3}, {2, 2, 2, 2},
             "{dilations = array<i64: 2, 2>, pads = array<i64: 1, 1, 1, 1>}");
  for (const char *mode : {"SAME_UPPER", "SAME_LOWER"})
    transposed({1, 1, 3, 3}, {1, 2, 3, 3},
               std::string("{strides = array<i64: 2, 2>, auto_pad = \"") + mode + "\"}");
}

TEST(Convolutions, Deformed) {
  for (const char *type : {"f32", "f64"})
    expectSame(
        {.name = "onnx.DeformConv",
         .attributes = "{group = 2 : i64, offset_group = 2 : i64, pads = array<i64: 1, 0, 0, 1>}",
         .inputs = {wave({1, 4, 4, 5}, type), wave({2, 2, 2, 2}, type), wave({1, 16, 4, 5}, type),
                    wave({2}, type), wave({1, 8, 4, 5}, type)},
         .results = {type},
         .tolerance = 5e-6});
}

TEST(Convolutions, WindowsMustFit) {
  Outcome out = runCompiled(
      "func.func @main(%x: tensor<?x1x?xf32>, %w: tensor<1x1x4xf32>) -> tensor<?x1x?xf32> {\n"
      "  %n = \"onnx.none\"() : () -> none\n"
      "  %r = \"onnx.Conv\"(%x, %w, %n) : (tensor<?x1x?xf32>, tensor<1x1x4xf32>, none) -> "
      "tensor<?x1x?xf32>\n  return %r : tensor<?x1x?xf32>\n}\n",
      {wave({1, 1, 3}), wave({1, 1, 4})});
  EXPECT_NE(out.error.find("a window exceeds its axis"), std::string::npos) << out.error;
}

TEST(Pools, AllKinds) {
  for (const char *name : {"AveragePool", "MaxPool", "LpPool"})
    for (const char *attributes :
         {"kernel_shape = array<i64: 3, 2>",
          "kernel_shape = array<i64: 2, 3>, strides = array<i64: 2, 2>, ceil_mode = 1 : i64",
          "kernel_shape = array<i64: 3, 3>, pads = array<i64: 1, 0, 2, 1>, dilations = array<i64: "
          "1, 2>",
          "kernel_shape = array<i64: 3, 3>, auto_pad = \"SAME_LOWER\", strides = array<i64: 2, 1>"})
      expectSame({.name = std::string("onnx.") + name,
                  .attributes = std::string("{") + attributes + "}",
                  .inputs = {wave({2, 2, 7, 6})},
                  .results = std::string(name) == "MaxPool"
                                 ? std::vector<std::string>{"f32", "none"}
                                 : std::vector<std::string>{"f32"},
                  .tolerance = 5e-6});
  expectSame({.name = "onnx.AveragePool",
              .attributes = "{kernel_shape = array<i64: 3>, pads = array<i64: 1, 2>, ceil_mode = 1 "
                            ": i64, strides = array<i64: 2>, count_include_pad = 1 : i64}",
              .inputs = {wave({1, 2, 8})}});
  expectSame({.name = "onnx.LpPool",
              .attributes = "{kernel_shape = array<i64: 2, 2, 2>, p = 3 : i64}",
              .inputs = {wave({1, 1, 3, 4, 3})},
              .tolerance = 1e-5});
  for (const char *type : {"i8", "ui8", "f16", "f64"})
    expectSame({.name = "onnx.MaxPool",
                .attributes = "{kernel_shape = array<i64: 2>, pads = array<i64: 1, 1>}",
                .inputs = {wave({1, 2, 5}, type)},
                .results = {type, "none"}});
  for (const char *name : {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
    expectSame(
        {.name = std::string("onnx.") + name, .inputs = {wave({2, 3, 4, 2})}, .tolerance = 1e-5});
}

TEST(Pools, OtherElementTypes) {
  for (auto [type, tolerance] : {std::pair("f16", 2e-3), {"bf16", 2e-2}, {"f64", 1e-12}}) {
    for (const char *name : {"AveragePool", "LpPool"})
      expectSame({.name = std::string("onnx.") + name,
                  .attributes = "{kernel_shape = array<i64: 2, 2>, pads = array<i64: 1, 0, 0, 1>}",
                  .inputs = {wave({1, 2, 4, 3}, type)},
                  .results = {type},
                  .tolerance = tolerance});
    expectSame({.name = "onnx.GlobalAveragePool",
                .inputs = {wave({1, 2, 4, 3}, type)},
                .results = {type},
                .tolerance = tolerance});
    expectSame({.name = "onnx.LRN",
                .attributes = "{size = 3 : i64}",
                .inputs = {wave({1, 4, 2, 2}, type)},
                .results = {type},
                .tolerance = tolerance});
    expectSame({.name = "onnx.InstanceNormalization",
                .inputs = {wave({2, 3, 4}, type), wave({3}, type), wave({3}, type)},
                .results = {type},
                .tolerance = 2 * tolerance});
    expectSame({.name = "onnx.ConvTranspose",
                .attributes = "{strides = array<i64: 2>}",
                .inputs = {wave({1, 2, 4}, type), wave({2, 3, 3}, type), absent()},
                .results = {type},
                .tolerance = tolerance});
  }
}

TEST(Pools, PositionsOfMaxima) {
  for (int order : {0, 1})
    expectSame({.name = "onnx.MaxPool",
                .attributes = "{kernel_shape = array<i64: 3, 2>, pads = array<i64: 1, 0, 1, 1>, "
                              "strides = array<i64: 2, 1>, storage_order = " +
                              std::to_string(order) + " : i64}",
                .inputs = {wave({2, 2, 5, 4})},
                .results = {"f32", "i64"}});
  expectSame({.name = "onnx.MaxPool",
              .attributes = "{kernel_shape = array<i64: 2, 2, 2>}",
              .inputs = {wave({1, 2, 3, 3, 3})},
              .results = {"f32", "i64"}});
  expectSame({.name = "onnx.MaxUnpool",
              .attributes = "{kernel_shape = array<i64: 2, 2>, strides = array<i64: 2, 2>}",
              .inputs = {wave({1, 1, 2, 2}), {"i64", {1, 1, 2, 2}, {5, 7, 13, 15}}, absent()}});
  expectSame(
      {.name = "onnx.MaxUnpool",
       .attributes = "{kernel_shape = array<i64: 2, 2>, strides = array<i64: 2, 2>}",
       .inputs = {wave({1, 1, 2, 2}), {"i64", {1, 1, 2, 2}, {5, 7, 13, 15}}, i64({1, 1, 5, 5})},
       .constants = {2}});
}

TEST(Pools, SumsBackIntoImages) {
  expectSame({.name = "onnx.Col2Im",
              .attributes = "{pads = array<i64: 0, 1, 0, 1>, strides = array<i64: 1, 2>}",
              .inputs = {wave({2, 12, 8}), i64({5, 3}), i64({2, 3})},
              .constants = {1, 2}});
}

TEST(Normalisations, ConstantsOfOneElement) { // in the nest they have to be read from memory
  Numbers one = f32({1, 1}, {3}), number = i64({1}, {4});
  for (const char *name : {"ReduceMax", "ReduceSum"}) {
    expectSame(
        {.name = std::string("onnx.") + name, .inputs = {one, i64({1})}, .constants = {0, 1}});
    expectSame({.name = std::string("onnx.") + name,
                .inputs = {number, i64({0})},
                .results = {"i64"},
                .constants = {0, 1}});
  }
  expectSame({.name = "onnx.Softmax", .inputs = {one}, .constants = {0}});
}

TEST(Normalisations, LearnedScales) {
  Numbers x = wave({2, 4, 3, 2}), scale = wave({4}, "f32", 2), bias = wave({4}, "f32", -1);
  Numbers variance = scale;
  for (double &v : variance.values)
    v = v * v + 0.1;
  expectSame({.name = "onnx.BatchNormalization",
              .inputs = {x, scale, bias, bias, variance},
              .results = {"f32", "none", "none"},
              .tolerance = 1e-5});
  expectSame({.name = "onnx.BatchNormalization",
              .inputs = {wave({3, 4}), scale, bias, bias, variance},
              .results = {"f32", "none", "none"},
              .tolerance = 1e-5});
  expectSame({.name = "onnx.BatchNormalization",
              .attributes = "{training_mode = 1 : i64, momentum = 7.000000e-01 : f32}",
              .inputs = {x, scale, bias, bias, variance},
              .results = {"f32", "f32", "f32"},
              .tolerance = 1e-5});
  expectSame({.name = "onnx.InstanceNormalization", .inputs = {x, scale, bias}, .tolerance = 2e-5});
  expectSame({.name = "onnx.GroupNormalization",
              .attributes = "{num_groups = 2 : i64}",
              .inputs = {x, scale, bias},
              .tolerance = 2e-5});
  expectSame({.name = "onnx.MeanVarianceNormalization", .inputs = {x}, .tolerance = 2e-5});
  expectSame({.name = "onnx.MeanVarianceNormalization",
              .attributes = "{axes = array<i64: 1, -1>}",
              .inputs = {wave({2, 4, 3}, "f64")},
              .results = {"f64"}});
  for (int size : {1, 2, 3, 5})
    expectSame(
        {.name = "onnx.LRN",
         .attributes = "{size = " + std::to_string(size) + " : i64, alpha = 5.000000e-01 : f32}",
         .inputs = {wave({2, 4, 3, 2}, "f32", 2)},
         .tolerance = 1e-5});
}

} // namespace
