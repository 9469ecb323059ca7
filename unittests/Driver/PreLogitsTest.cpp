// What a model's logits are made of is found behind the steps that exporters put there.
#include "../../lib/Driver/PreLogits.h"

#include "moec/Driver/Error.h"

#include "llvm/Support/FormatVariadic.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace moec;

namespace {

// A model of `lines`, which make %y : tensor<?x?x5xf32> of %x and the weights %w, [4, 5], and %v,
// [5, 4].
std::unique_ptr<Model> modelOf(const std::string &lines, const std::string &type = "?x?x5") {
  auto folder = std::filesystem::temp_directory_path() / ("moec-pre-logits-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  std::string path = (folder / "model.mlir").string();
  std::ofstream(path) << llvm::formatv(R"(module {{
  moe.weights @weights {{
    %a = moe.weight.literal dense<0.5> : tensor<4x5xf32>
    moe.weight.bind @w %a : tensor<4x5xf32>
    %b = moe.weight.literal dense<0.5> : tensor<5x4xf32>
    moe.weight.bind @v %b : tensor<5x4xf32>
  }
  func.func @main(%x: tensor<?x?x4xf32> {{onnx.name = "x", onnx.dims = ["n", "t", "4"]})
      -> (tensor<{1}xf32> {{onnx.name = "y", onnx.dims = []}) {{
    %w = moe.weight.use @w : tensor<4x5xf32>
    %v = moe.weight.use @v : tensor<5x4xf32>
    %two = "onnx.Constant"() {{value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
    %h = "onnx.Relu"(%x) : (tensor<?x?x4xf32>) -> tensor<?x?x4xf32>
{0}
    return %y : tensor<{1}xf32>
  }
})", lines, type).str();
  auto model = Model::load(path);
  std::filesystem::remove_all(folder);
  if (!model) {
    ADD_FAILURE() << llvm::toString(model.takeError());
    return nullptr;
  }
  return std::move(*model);
}

std::string found(const std::string &lines, const std::string &type = "?x?x5") {
  auto model = modelOf(lines, type);
  mlir::Value value = model ? findPreLogits(model->module(), 0) : mlir::Value();
  mlir::Operation *op = value ? value.getDefiningOp() : nullptr;
  return op ? op->getName().getStringRef().str() : "nothing";
}

TEST(PreLogits, AreWhatTheLastProductMultiplies) {
  EXPECT_EQ(found(R"(
    %y = "onnx.MatMul"(%h, %w) : (tensor<?x?x4xf32>, tensor<4x5xf32>) -> tensor<?x?x5xf32>)"),
            "onnx.Relu");
}

TEST(PreLogits, BehindATiedEmbeddingAndASoftCap) {
  EXPECT_EQ(found(R"(
    %t = "onnx.Transpose"(%v) {perm = array<i64: 1, 0>} : (tensor<5x4xf32>) -> tensor<4x5xf32>
    %z = "onnx.MatMul"(%h, %t) : (tensor<?x?x4xf32>, tensor<4x5xf32>) -> tensor<?x?x5xf32>
    %d = "onnx.Div"(%z, %two) : (tensor<?x?x5xf32>, tensor<f32>) -> tensor<?x?x5xf32>
    %c = "onnx.Tanh"(%d) : (tensor<?x?x5xf32>) -> tensor<?x?x5xf32>
    %y = "onnx.Mul"(%two, %c) : (tensor<f32>, tensor<?x?x5xf32>) -> tensor<?x?x5xf32>)"),
            "onnx.Relu");
}

TEST(PreLogits, OfOtherOutputsAreNotKnown) {
  EXPECT_EQ(found(R"(
    %y = "onnx.Relu"(%h) : (tensor<?x?x4xf32>) -> tensor<?x?x4xf32>)", "?x?x4"), "nothing");
  EXPECT_EQ(found(R"( // two that depend on the input
    %z = "onnx.MatMul"(%h, %w) : (tensor<?x?x4xf32>, tensor<4x5xf32>) -> tensor<?x?x5xf32>
    %y = "onnx.Add"(%z, %z) : (tensor<?x?x5xf32>, tensor<?x?x5xf32>) -> tensor<?x?x5xf32>)"),
            "nothing");
}

TEST(PreLogits, BecomeTheLastOutput) {
  auto model = modelOf(R"(
    %y = "onnx.MatMul"(%h, %w) : (tensor<?x?x4xf32>, tensor<4x5xf32>) -> tensor<?x?x5xf32>)");
  ASSERT_TRUE(model);
  tapPreLogits(model->module(), 1); // there is no such output
  EXPECT_EQ(model->signature()->outputs.size(), 1u);
  tapPreLogits(model->module(), 0);
  auto signature = model->signature();
  ASSERT_TRUE(bool(signature));
  ASSERT_EQ(signature->outputs.size(), 2u);
  EXPECT_EQ(signature->outputs[1].name, preLogitsName);
  EXPECT_EQ(signature->outputs[1].type, DType::f32);
}

} // namespace
