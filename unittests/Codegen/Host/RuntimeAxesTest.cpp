// Axes, steps and shapes that only the run knows.
#include "Compiled.h"

using namespace moec::host::test;

namespace {

Numbers counting(std::vector<int64_t> shape) {
  Numbers n{"f32", std::move(shape), {}};
  int64_t count = 1;
  for (int64_t d : n.shape)
    count *= d;
  for (int64_t i = 0; i < count; ++i)
    n.values.push_back(static_cast<double>(i * 7 % 11) - 4);
  return n;
}

TEST(RuntimeAxes, Reductions) {
  Numbers x = counting({2, 3, 4});
  for (const char *name : {"onnx.ReduceSum", "onnx.ReduceMax", "onnx.ReduceL2", "onnx.ReduceMean"})
    for (const char *attributes : {"{keepdims = 1 : i64}", "{keepdims = 0 : i64}"}) {
      bool keep = std::string(attributes).find("1") != std::string::npos; // the axes' number is open
      expectSame({.name = name, .attributes = attributes, .inputs = {x, i64(std::vector<double>{1})},
                  .onlyStatic = keep});
      expectSame({.name = name, .attributes = attributes, .inputs = {x, i64({-1, 0})},
                  .onlyStatic = keep});
    }
}

TEST(RuntimeAxes, Slices) {
  Numbers x = counting({5, 6});
  auto slice = [&](std::vector<double> starts, std::vector<double> ends, std::vector<double> axes,
                   std::vector<double> steps) {
    expectSame({.name = "onnx.Slice", .inputs = {x, i64(starts), i64(ends), i64(axes), i64(steps)},
                .onlyStatic = true});
    expectSame({.name = "onnx.Slice", .inputs = {x, i64(starts), i64(ends), i64(axes), absent()},
                .onlyStatic = true});
  };
  slice({1, 0}, {4, 1000}, {0, 1}, {1, 2});
  slice({1}, {-1}, {-1}, {3});
  slice({4, -1}, {0, -1000}, {0, 1}, {-2, -1});
}

TEST(RuntimeAxes, OnesThatComeAndGo) {
  expectSame({"onnx.Unsqueeze", "", {counting({2, 3}), i64({0, -1})}});
  expectSame({"onnx.Unsqueeze", "", {counting({2, 3}), i64(std::vector<double>{1})}});
  expectSame({"onnx.Squeeze", "", {counting({1, 3, 1, 2}), i64({0, -2})}});
}

TEST(RuntimeAxes, PadsAndSums) {
  Numbers x = counting({2, 3});
  for (const char *mode : {"{mode = \"constant\"}", "{mode = \"edge\"}"})
    expectSame({.name = "onnx.Pad", .attributes = mode,
                .inputs = {x, i64({1, 2}), f32({}, {9}), i64(std::vector<double>{-1})},
                .onlyStatic = true});
  for (double axis : {0.0, -1.0})
    expectSame({"onnx.CumSum", "", {x, i64({}, {axis})}});
}

TEST(RuntimeAxes, ReshapesThatInfer) {
  Numbers x = counting({2, 3, 4});
  expectSame({"onnx.Reshape", "", {x, i64({-1, 6})}});
  expectSame({"onnx.Reshape", "", {x, i64({0, -1})}});
  expectSame({"onnx.Reshape", "", {x, i64({4, 3, 2})}});
}

TEST(RuntimeAxes, NothingAtAll) {
  Numbers x{"f32", {3, 0, 5}, {}};
  expectSame({"onnx.Trilu", "{upper = 0 : i64}", {x, absent()}});
  expectSame({"onnx.Softmax", "{axis = -1 : i64}", {x}});
  expectSame({.name = "onnx.ReduceSum", .attributes = "{keepdims = 0 : i64}",
              .inputs = {x, i64(std::vector<double>{1})}, .constants = {1}});
}

TEST(RuntimeAxes, WhatIsWrong) {
  std::string ir = "func.func @main(%x: tensor<2x3xf32>, %a: tensor<2xi64>) -> tensor<?x?xf32> {\n"
                   "  %y = onnx.ReduceSum(%x, %a) {keepdims = 1 : i64} : (tensor<2x3xf32>, "
                   "tensor<2xi64>) -> tensor<?x?xf32> loc(\"sum\")\n  return %y : tensor<?x?xf32>\n}\n";
  Numbers x = counting({2, 3});
  EXPECT_NE(runCompiled(ir, {x, i64({0, 2})}).error.find("an axis is out of range"), std::string::npos);
  EXPECT_NE(runCompiled(ir, {x, i64({1, -1})}).error.find("an axis is named twice"), std::string::npos);
}

} // namespace
