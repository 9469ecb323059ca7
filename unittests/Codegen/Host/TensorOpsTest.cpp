// Shapes, movement, reductions, indexing and products, compared with the interpreter.
#include "Compiled.h"
#include <cmath>

using namespace moec::host::test;

namespace {

constexpr double inf = INFINITY, nan = NAN;

Numbers iota(std::vector<int64_t> shape, double scale = 1, double start = 0,
             const char *type = "f32") {
  Numbers n{type, shape, {}};
  int64_t count = 1;
  for (int64_t d : shape)
    count *= d;
  for (int64_t i = 0; i < count; ++i)
    n.values.push_back(start + scale * static_cast<double>(i));
  return n;
}

const Numbers cube = iota({2, 3, 4}, 0.75, -5);

TEST(Movement, Reshapes) {
  expectSame({.name = "onnx.Reshape", .inputs = {cube, i64({0, -1})}, .constants = {1}});
  expectSame({.name = "onnx.Reshape", .inputs = {cube, i64({4, 6})}, .constants = {1}});
  expectSame({.name = "onnx.Reshape", .inputs = {cube, i64({3, 8})}}); // the shape is an input
  expectSame({.name = "onnx.Reshape", .inputs = {cube, i64({2, 2, -1, 3})}, .constants = {1}});
  expectSame({.name = "onnx.Flatten", .attributes = "{axis = 2 : i64}", .inputs = {cube}});
  expectSame({.name = "onnx.Flatten", .attributes = "{axis = 0 : i64}", .inputs = {cube}});
  expectSame({.name = "onnx.Squeeze", .inputs = {iota({1, 3, 1}), i64({0, -1})}, .constants = {1}});
  expectSame({.name = "onnx.Unsqueeze", .inputs = {cube, i64({0, -1})}, .constants = {1}});
  expectSame({.name = "onnx.Unsqueeze",
              .inputs = {i64({3}), i64({1, 2})},
              .results = {"i64"},
              .constants = {0, 1}});
  expectSame({.name = "onnx.Transpose", .inputs = {cube}});
  expectSame(
      {.name = "onnx.Transpose", .attributes = "{perm = array<i64: 1, 0, 2>}", .inputs = {cube}});
  expectSame({.name = "onnx.Expand", .inputs = {iota({3, 1}), i64({2, 1, 4})}, .constants = {1}});
  expectSame({.name = "onnx.Shape",
              .attributes = "{start = 1 : i64}",
              .inputs = {cube},
              .results = {"i64"}});
  expectSame({.name = "onnx.Size", .inputs = {cube}, .results = {"i64"}});
  expectSame({.name = "onnx.ConstantOfShape",
              .attributes = "{value = dense<7> : tensor<1xi32>}",
              .inputs = {i64({2, 3})},
              .results = {"i32"},
              .constants = {0}});
  expectSame({.name = "onnx.ConstantOfShape",
              .attributes = "{value = dense<0.5> : tensor<1xf16>}",
              .inputs = {i64({2, 3})},
              .results = {"f16"}});
}

TEST(Movement, Slices) {
  auto slice = [](std::vector<double> starts, std::vector<double> ends, std::vector<double> axes,
                  std::vector<double> steps) {
    expectSame({.name = "onnx.Slice",
                .inputs = {cube, i64(starts), i64(ends), i64(axes), i64(steps)},
                .constants = {3, 4}});
    expectSame({.name = "onnx.Slice",
                .inputs = {cube, i64(starts), i64(ends), i64(axes), i64(steps)},
                .constants = {1, 2, 3, 4}});
  };
  slice({1}, {3}, {1}, {1});
  slice({-2, 0}, {100, 2}, {2, 0}, {1, 1});
  slice({3}, {-9e18}, {2}, {-1});
  slice({2, 3}, {0, -100}, {1, 2}, {-2, -1});
  slice({0}, {9e18}, {2}, {3});
  slice({5}, {9}, {1}, {1}); // empty
  expectSame({.name = "onnx.Split",
              .attributes = "{axis = 2 : i64}",
              .inputs = {cube, i64({1, 3})},
              .results = {"f32", "f32"},
              .constants = {1}});
  expectSame({.name = "onnx.Split",
              .attributes = "{axis = 1 : i64, num_outputs = 2 : i64}",
              .inputs = {cube, absent()},
              .results = {"f32", "f32"}});
}

TEST(Movement, JoinsAndRepeats) {
  expectSame({.name = "onnx.Concat",
              .attributes = "{axis = 1 : i64}",
              .inputs = {cube, iota({2, 2, 4}), iota({2, 0, 4})}});
  expectSame({.name = "onnx.Concat",
              .attributes = "{axis = -1 : i64}",
              .inputs = {cube, iota({2, 3, 1})}});
  expectSame({.name = "onnx.Tile", .inputs = {cube, i64({2, 1, 3})}, .constants = {1}});
  for (const char *mode : {"constant", "edge", "reflect", "wrap"})
    expectSame({.name = "onnx.Pad",
                .attributes = std::string("{mode = \"") + mode + "\"}",
                .inputs = {cube, i64({0, 1, 2, 0, 0, 3}), absent(), absent()},
                .constants = {1}});
  expectSame({.name = "onnx.Pad",
              .inputs = {cube, i64({-1, 2}), f32({}, {9}), i64({1})},
              .constants = {1, 3}});
  expectSame({.name = "onnx.Trilu", .attributes = "{upper = 0 : i64}", .inputs = {cube, absent()}});
  expectSame({.name = "onnx.Trilu", .inputs = {cube, i64({}, {1})}, .constants = {1}});
  expectSame({.name = "onnx.EyeLike",
              .attributes = "{k = -1 : i64, dtype = 1 : i64}",
              .inputs = {iota({3, 4})}});
  expectSame({.name = "onnx.Range",
              .inputs = {i64({}, {3}), i64({}, {12}), i64({}, {4})},
              .results = {"i64"}});
  expectSame({.name = "onnx.Range",
              .inputs = {i64({}, {3}), i64({}, {-4}), i64({}, {-2})},
              .results = {"i64"}});
  expectSame({.name = "onnx.Range", .inputs = {f32({}, {0.5}), f32({}, {2}), f32({}, {0.25})}});
  expectSame({.name = "onnx.DepthToSpace",
              .attributes = "{blocksize = 2 : i64}",
              .inputs = {iota({1, 8, 2, 3})}});
  expectSame({.name = "onnx.DepthToSpace",
              .attributes = "{blocksize = 2 : i64, mode = \"CRD\"}",
              .inputs = {iota({1, 8, 2, 3})}});
  expectSame({.name = "onnx.SpaceToDepth",
              .attributes = "{blocksize = 2 : i64}",
              .inputs = {iota({1, 2, 4, 6})}});
  expectSame({.name = "onnx.ReverseSequence", .inputs = {iota({4, 3}), i64({1, 4, 2})}});
}

TEST(Reductions, AllKinds) {
  Numbers x = iota({2, 3, 5}, 0.21, -2);
  for (const char *name : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd",
                           "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"})
    for (std::vector<double> axes : {std::vector<double>{-1}, {0}, {0, 2}, {1}, {0, 1, 2}})
      for (const char *keep : {"{keepdims = 0 : i64}", "{keepdims = 1 : i64}"})
        expectSame({.name = "onnx." + std::string(name),
                    .attributes = keep,
                    .inputs = {x, i64(axes)},
                    .constants = {1},
                    .tolerance = 1e-5});
  expectSame({.name = "onnx.ReduceLogSum", .inputs = {iota({2, 3}, 1, 1), absent()}});
  for (const char *type : {"i32", "i64", "f64", "f16"})
    for (const char *name : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceProd"})
      expectSame({.name = "onnx." + std::string(name),
                  .inputs = {iota({2, 3}, 1, 1, type), i64({1})},
                  .results = {type},
                  .constants = {1}});
  expectSame({.name = "onnx.ReduceMax",
              .inputs = {boolean({2, 2}, {0, 1, 0, 0}), i64({1})},
              .results = {"i1"},
              .constants = {1}});
  expectSame({.name = "onnx.ReduceMax", .inputs = {f32({3}, {1, nan, 2}), absent()}});
  expectSame({.name = "onnx.ReduceSum",
              .attributes = "{keepdims = 0 : i64}",
              .inputs = {iota({0, 3}), i64({0})},
              .constants = {1}});
  expectSame({.name = "onnx.ReduceSum",
              .attributes = "{noop_with_empty_axes = 1 : i64}",
              .inputs = {x, Numbers{"i64", {0}, {}}},
              .constants = {1}});
}

TEST(Reductions, AlongAnAxis) {
  Numbers x = f32({2, 3, 4}, {1, 2, 3, 4, 88,   -88, 0, 90,  -inf, -inf, 0,  1,
                              5, 5, 5, 5, 1e-3, 0,   2, nan, -1,   -2,   -3, -4});
  for (const char *axis : {"-1", "1", "0"})
    for (const char *name : {"Softmax", "LogSoftmax", "Hardmax"})
      if (std::string(name) != "Hardmax" || std::string(axis) == "0")
        expectSame({.name = "onnx." + std::string(name),
                    .attributes = std::string("{axis = ") + axis + " : i64}",
                    .inputs = {std::string(name) == "Hardmax" ? cube : x},
                    .tolerance = 1e-5});
  expectSame({.name = "onnx.Softmax", .inputs = {f32({2, 2}, {-inf, -inf, 1, 2})}}); // NaN and not
  expectSame({.name = "onnx.Softmax",
              .inputs = {Numbers{"f16", {2, 3}, {1, 2, 3, -1, 0, 1}}},
              .results = {"f16"},
              .tolerance = 1e-3});
  expectSame({.name = "onnx.ArgMax",
              .attributes = "{axis = 1 : i64, keepdims = 0 : i64}",
              .inputs = {cube},
              .results = {"i64"}});
  expectSame({.name = "onnx.ArgMin",
              .attributes = "{axis = -1 : i64}",
              .inputs = {cube},
              .results = {"i64"}});
  expectSame({.name = "onnx.CumSum",
              .attributes = "{exclusive = 1 : i64}",
              .inputs = {cube, i64({}, {1})},
              .constants = {1}});
  expectSame({.name = "onnx.LpNormalization",
              .attributes = "{axis = 1 : i64, p = 1 : i64}",
              .inputs = {cube}});
}

TEST(Indexing, GathersAndScatters) {
  expectSame({.name = "onnx.Gather",
              .attributes = "{axis = 1 : i64}",
              .inputs = {cube, i64({2, 2}, {0, 2, -1, 1})}});
  expectSame({.name = "onnx.Gather",
              .attributes = "{axis = 1 : i64}",
              .inputs = {cube, i64({}, {-1})},
              .constants = {1}});
  expectSame({.name = "onnx.Gather", .inputs = {cube, i64({1})}, .constants = {1}});
  expectSame({.name = "onnx.GatherND",
              .attributes = "{batch_dims = 1 : i64}",
              .inputs = {cube, i64({2, 2, 1}, {0, 2, 1, 1})},
              .constants = {1}});
  expectSame({.name = "onnx.GatherElements",
              .attributes = "{axis = 2 : i64}",
              .inputs = {cube, i64({2, 3, 1}, {0, 1, 2, 3, -1, 0})}});
  for (const char *mode : {"none", "add", "mul", "max", "min"}) {
    std::string reduction = std::string("reduction = \"") + mode + "\"";
    expectSame({.name = "onnx.ScatterElements",
                .attributes = "{axis = 1 : i64, " + reduction + "}",
                .inputs = {cube, i64({2, 1, 2}, {0, 2, 1, -1}), iota({2, 1, 2}, 2, 1)}});
    expectSame({.name = "onnx.ScatterND",
                .attributes = "{" + reduction + "}",
                .inputs = {iota({4, 3}), i64({2, 1}, {1, 3}), iota({2, 3}, 1, -4)},
                .constants = {1}});
  }
  expectSame({.name = "onnx.TopK",
              .inputs = {cube, i64({2})},
              .results = {"f32", "i64"},
              .constants = {1}});
  expectSame({.name = "onnx.TopK",
              .attributes = "{largest = 0 : i64, axis = 1 : i64}",
              .inputs = {cube, i64({2})},
              .results = {"f32", "i64"}});
  expectSame({.name = "onnx.NonZero",
              .inputs = {boolean({2, 3}, {0, 1, 1, 0, 0, 1})},
              .results = {"i64"}});
  expectSame({.name = "onnx.Compress",
              .attributes = "{axis = 1 : i64}",
              .inputs = {cube, boolean({3}, {1, 0, 1})}});
  expectSame({.name = "onnx.OneHot",
              .inputs = {i64({0, 2, -1}), i64({}, {3}), f32({2}, {-1, 4})},
              .constants = {1}});
}

TEST(Products, MatMul) {
  expectSame({.name = "onnx.MatMul",
              .inputs = {iota({5, 7}, 0.1, -1), iota({7, 19}, 0.05, -3)},
              .tolerance = 1e-5});
  expectSame({.name = "onnx.MatMul",
              .inputs = {iota({2, 3, 5, 7}, 0.01, -1), iota({3, 7, 2}, 0.1, -2)},
              .tolerance = 1e-5});
  expectSame({.name = "onnx.MatMul",
              .inputs = {iota({2, 3, 4, 5}, 0.1, -1), iota({5, 4}, 0.1)},
              .tolerance = 1e-5});
  expectSame({.name = "onnx.MatMul",
              .inputs = {iota({2, 1, 3, 4, 5}, 0.1, -1), iota({4, 1, 5, 2}, 0.1)},
              .tolerance = 1e-5});
  expectSame({.name = "onnx.MatMul", .inputs = {iota({5}), iota({2, 5, 3})}});
  expectSame({.name = "onnx.MatMul", .inputs = {iota({2, 3, 5}), iota({5})}});
  for (const char *type : {"f64", "i32", "i64"})
    expectSame({.name = "onnx.MatMul",
                .inputs = {iota({2, 3, 4}, 1, -3, type), iota({4, 2}, 1, 1, type)},
                .results = {type}});
  expectSame({.name = "onnx.MatMul",
              .inputs = {iota({3, 4}, 0.25, 0, "f16"), iota({4, 2}, 0.5, -1, "f16")},
              .results = {"f16"}});
  for (const char *trans : {"transA = 1 : i64", "transB = 1 : i64", "transA = 0 : i64"}) {
    bool a = std::string(trans) == "transA = 1 : i64", b = trans[5] == 'B';
    expectSame(
        {.name = "onnx.Gemm",
         .attributes = std::string("{alpha = 0.5 : f32, beta = 2.0 : f32, ") + trans + "}",
         .inputs = {a ? iota({4, 3}) : iota({3, 4}), b ? iota({5, 4}) : iota({4, 5}), iota({3, 1})},
         .tolerance = 1e-5});
  }
}

/// Attention's first output, of its first inputs.
void expectAttention(const std::string &attributes, std::vector<Numbers> inputs) {
  inputs.resize(7, absent());
  expectSame({.name = "onnx.Attention",
              .attributes = attributes,
              .inputs = std::move(inputs),
              .results = {"f32", "none", "none", "none"},
              .tolerance = 1e-5});
}

TEST(Products, Attention) {
  Numbers q = iota({2, 4, 3, 8}, 0.01, -1), k = iota({2, 2, 5, 8}, -0.007, 0.5);
  Numbers v = iota({2, 2, 5, 6}, 0.03, -2);
  Numbers visible = boolean({1, 1, 3, 5}, {1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1});
  expectAttention("{scale = 0.5 : f32}", {q, k, v, iota({3, 5}, 0.3, -2)});
  expectAttention("{scale = 0.5 : f32}", {q, k, v, visible});
  expectAttention("{scale = 0.25 : f32, is_causal = 1 : i64}", {q, k, v});
  expectAttention("{scale = 0.25 : f32, q_num_heads = 2 : i64, kv_num_heads = 2 : i64}",
                  {iota({2, 3, 8}, 0.1), iota({2, 5, 8}, -0.05, 1), iota({2, 5, 4}, 0.1, -1)});
  // The scale of an absent attribute comes from the size of a head.
  expectSameModule(
      R"(
    func.func @main(%q: tensor<?x2x?x8xf32>, %k: tensor<?x2x?x8xf32>, %p: tensor<?x2x?x8xf32>)
        -> (tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>) {
      %none = onnx.none : () -> none
      %y:4 = onnx.Attention(%q, %k, %k, %none, %p, %p, %none) {is_causal = 1 : i64}
          : (tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, none, tensor<?x2x?x8xf32>,
             tensor<?x2x?x8xf32>, none)
          -> (tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, none)
      return %y#0, %y#1 : tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>
    })",
      {iota({1, 2, 2, 8}, 0.02), iota({1, 2, 2, 8}, -0.01, 1), iota({1, 2, 3, 8}, 0.03, -1)}, 1e-5);
}

} // namespace
