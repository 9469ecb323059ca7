// Unique, TensorScatter, CenterCropPad, CumProd, decision trees.
#include "Compiled.h"
#include <cmath>

using namespace moec::host::test;

namespace {

TEST(Unique, Elements) {
  for (const char *attributes : {"", "{sorted = 0 : i64}"}) {
    expectSame({"onnx.Unique", attributes, {f32({6}, {2, 1, 1, 3, 4, 3})}, {"f32", "i64", "i64", "i64"}});
    expectSame({"onnx.Unique", attributes, {i64({2, 3}, {-2, 1, 1, 3, -2, 3})}, {"i64", "i64", "i64", "i64"}});
  }
  expectSame({"onnx.Unique", "", {f32({4}, {-0.0, 0, 5, -5})}, {"f32", "i64", "i64", "i64"}});
}

TEST(Unique, Slices) {
  Numbers rows = f32({3, 2, 2}, {1, 2, 3, 4, 1, 2, 3, 4, 0, 2, 0, 2});
  for (const char *attributes :
       {"{axis = 0 : i64}", "{axis = 1 : i64, sorted = 0 : i64}", "{axis = -1 : i64}"})
    expectSame({"onnx.Unique", attributes, {rows}, {"f32", "i64", "i64", "i64"}});
}

TEST(Positions, TensorScatter) {
  Numbers cache = f32({2, 1, 4, 2}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  Numbers update = f32({2, 1, 2, 2}, {-1, -2, -3, -4, -5, -6, -7, -8});
  expectSame({"onnx.TensorScatter", "{axis = -2 : i64, mode = \"linear\"}", {cache, update, i64({1, 2})}});
  expectSame({"onnx.TensorScatter", "{axis = -2 : i64, mode = \"linear\"}", {cache, update, absent()}});
  expectSame({"onnx.TensorScatter", "{axis = -2 : i64, mode = \"circular\"}", {cache, update, i64({3, 1})}});
}

TEST(Positions, CenterCropPad) {
  std::mt19937 random(5);
  Numbers x = moec::reference::test::randomNumbers(random, {5, 4});
  for (auto [rows, columns] : {std::pair(3, 2), {8, 3}, {4, 7}, {5, 4}})
    expectSame({.name = "onnx.CenterCropPad", .inputs = {x, i64({double(rows), double(columns)})},
                .constants = {1}});
  expectSame({"onnx.CenterCropPad", "{axes = array<i64: -1>}", {x, i64({std::vector<double>{9}})}});
}

TEST(Positions, CumProd) {
  Numbers x = f32({2, 3}, {1, 2, 3, -4, 0.5, 6});
  for (const char *attributes : {"", "{exclusive = 1 : i64}", "{reverse = 1 : i64}",
                                 "{exclusive = 1 : i64, reverse = 1 : i64}"})
    expectSame({.name = "onnx.CumProd", .attributes = attributes, .inputs = {x, i64({}, {1})},
                .constants = {1}});
}

/// @main of one tree operator; its attributes as text.
std::string treeModule(const std::string &type, const std::string &attributes,
                       const std::string &results) {
  return "func.func @main(%x: tensor<?x2xf32>) -> (" + results + ") {\n  %r:" +
         (results.find(',') == std::string::npos ? "1" : "2") +
         " = \"onnx.custom\"(%x) {domain = \"ai.onnx.ml\", op_type = \"" + type +
         "\", attributes = {" + attributes + "}} : (tensor<?x2xf32>) -> (" + results +
         ") loc(\"trees\")\n  return %r#0" +
         (results.find(',') == std::string::npos ? "" : ", %r#1") + " : " + results + "\n}\n";
}

// Two trees: x0 <= 1 ? (x1 < 0 ? leaf 2 : leaf 3) : leaf 4, and x1 > 2 ? leaf 1 : leaf 2.
const std::string nodes = R"(
  nodes_treeids = array<i64: 0, 0, 0, 0, 0, 1, 1, 1>, nodes_nodeids = array<i64: 0, 1, 2, 3, 4, 0, 1, 2>,
  nodes_featureids = array<i64: 0, 1, 0, 0, 0, 1, 0, 0>,
  nodes_modes = ["BRANCH_LEQ", "BRANCH_LT", "LEAF", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"],
  nodes_values = array<f32: 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0>,
  nodes_truenodeids = array<i64: 1, 2, 0, 0, 0, 1, 0, 0>,
  nodes_falsenodeids = array<i64: 4, 3, 0, 0, 0, 2, 0, 0>,
  nodes_missing_value_tracks_true = array<i64: 1, 0, 0, 0, 0, 0, 0, 0>)";

std::string leaves(const std::string &what, const std::string &ids) {
  return ", " + what + "_treeids = array<i64: 0, 0, 0, 1, 1>, " + what +
         "_nodeids = array<i64: 2, 3, 4, 1, 2>, " + what + "_ids = array<i64: " + ids + ">, " + what +
         "_weights = array<f32: 0.5, -1.5, 0.25, 2.0, 0.125>";
}

const Numbers rows = f32({5, 2}, {0, -1, 1, 1, 2, 3, NAN, 0, -5, NAN});

TEST(Trees, Regressor) {
  for (const char *more : {"", ", aggregate_function = \"MIN\"", ", aggregate_function = \"MAX\"",
                           ", aggregate_function = \"AVERAGE\", base_values = array<f32: 1.0, 2.0>",
                           ", post_transform = \"LOGISTIC\"", ", post_transform = \"SOFTMAX\""})
    expectSameModule(treeModule("TreeEnsembleRegressor",
                                nodes + leaves("target", "0, 1, 0, 1, 0") + ", n_targets = 2 : i64" + more,
                                "tensor<?x2xf32>"),
                     {rows});
}

TEST(Trees, Classifier) {
  expectSameModule(treeModule("TreeEnsembleClassifier",
                              nodes + leaves("class", "0, 1, 2, 1, 0") +
                                  ", classlabels_int64s = array<i64: 7, 8, 9>, post_transform = \"SOFTMAX\"",
                              "tensor<?xi64>, tensor<?x3xf32>"),
                   {rows});
  expectSameModule(treeModule("TreeEnsembleClassifier",
                              nodes + leaves("class", "0, 0, 0, 0, 0") +
                                  ", classlabels_int64s = array<i64: 7, 8>, post_transform = \"LOGISTIC\"",
                              "tensor<?xi64>, tensor<?x2xf32>"),
                   {rows});
}

TEST(Trees, WhatIsNotATree) {
  std::string loop = nodes;
  size_t at = loop.find("nodes_truenodeids = array<i64: 1, 2, ");
  loop.replace(at, 37, "nodes_truenodeids = array<i64: 1, 1, "); // a node that is its own child
  std::string ir = treeModule("TreeEnsembleRegressor", loop + leaves("target", "0, 0, 0, 0, 0"),
                              "tensor<?x1xf32>");
  EXPECT_NE(lower(ir).error.find("a node with two parents"), std::string::npos) << lower(ir).error;
}

} // namespace
