// Files: what is stored where, names, opsets, and that reading them back gives the same.
#include "Support.h"
#include "moec/Import/Import.h"
#include "onnx/onnx_pb.h"
#include <fstream>

using namespace moec;
using namespace moec::export_test;

namespace {

struct File : testing::Test {
  Context context;
  Folder folder;
  std::mt19937 random{3};

  llvm::Expected<ExportReport> write(mlir::ModuleOp module, ExportOptions options = {}) {
    return exportOnnx(module, folder.path.string(), folder.file("out.onnx"), options);
  }
  ::onnx::ModelProto read() {
    ::onnx::ModelProto model;
    std::ifstream file(folder.file("out.onnx"), std::ios::binary);
    EXPECT_TRUE(model.ParseFromIstream(&file));
    return model;
  }
  // Exports, imports and compares values; the model that was written.
  ::onnx::ModelProto roundTrip(const std::string &text, const std::vector<Array> &inputs,
                               ExportOptions options = {}) {
    auto module = context.parse(text);
    if (!module)
      return {};
    auto report = write(*module, options);
    if (!report) {
      ADD_FAILURE() << llvm::toString(report.takeError());
      return {};
    }
    auto again = importOnnx(folder.file("out.onnx"), context.mlir);
    EXPECT_TRUE(again) << (context.errors.empty() ? "" : context.errors.back());
    if (again)
      expectSame(run(*again, inputs, folder.path.string()),
                 run(*module, inputs, folder.path.string()));
    return read();
  }
  void data(const std::string &name, const std::vector<float> &values) {
    std::ofstream file(folder.path / name, std::ios::binary);
    file.write(reinterpret_cast<const char *>(values.data()), std::streamsize(4 * values.size()));
  }
  size_t files() {
    size_t count = 0;
    for (auto it = std::filesystem::directory_iterator(folder.path); it != decltype(it)(); ++it)
      ++count;
    return count;
  }
};

const char *kAdd = R"(
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 4 : tensor<80xf32>
    moe.weight.bind @w %0 : tensor<80xf32>
    moe.weight.bind @same %0 : tensor<80xf32>
  }
  func.func @main(%x: tensor<?x80xf32> {onnx.name = "x", onnx.dims = ["batch", ""]})
      -> (tensor<?x80xf32> {onnx.name = "y", onnx.dims = ["batch", ""]}) {
    %w = moe.weight.use @w : tensor<80xf32>
    %a = onnx.Add(%x, %w) : (tensor<?x80xf32>, tensor<80xf32>) -> tensor<?x80xf32> loc("node")
    %b = onnx.Add(%a, %w) : (tensor<?x80xf32>, tensor<80xf32>) -> tensor<?x80xf32> loc("node")
    return %b : tensor<?x80xf32>
  })";

TEST_F(File, NamesAndDimensions) {
  data("w.bin", std::vector<float>(81, 0.5f));
  ::onnx::ModelProto model = roundTrip(kAdd, {floats({3, 80}, random)});
  const ::onnx::GraphProto &graph = model.graph();
  ASSERT_EQ(graph.node_size(), 2);
  EXPECT_NE(graph.node(0).name(), graph.node(1).name());
  EXPECT_EQ(graph.node(0).name(), "node");
  EXPECT_EQ(graph.input(0).name(), "x");
  EXPECT_EQ(graph.output(0).name(), "y");
  EXPECT_EQ(graph.input(0).type().tensor_type().shape().dim(0).dim_param(), "batch");
  EXPECT_EQ(graph.input(0).type().tensor_type().shape().dim(1).dim_value(), 80);
  EXPECT_EQ(graph.initializer_size(), 1) << "a weight stands once";
  EXPECT_EQ(graph.initializer(0).raw_data().size(), 320u);
  EXPECT_EQ(model.opset_import(0).version(), 21);
}

TEST_F(File, ExternalData) {
  data("w.bin", std::vector<float>(81, 0.5f));
  ::onnx::ModelProto model = roundTrip(kAdd, {floats({3, 80}, random)}, {.externalData = true});
  const ::onnx::TensorProto &tensor = model.graph().initializer(0);
  EXPECT_EQ(tensor.data_location(), ::onnx::TensorProto::EXTERNAL);
  EXPECT_FALSE(tensor.has_raw_data());
  EXPECT_EQ(tensor.external_data(0).value(), "out.onnx.data");
  EXPECT_EQ(std::filesystem::file_size(folder.file("out.onnx.data")), 320u);
  EXPECT_EQ(files(), 3u) << "no temporary file is left";
}

TEST_F(File, OutputsThatAreInputsOrWeights) {
  ::onnx::ModelProto model = roundTrip(R"(
    func.func @main(%x: tensor<2xf32> {onnx.name = "x"})
        -> (tensor<2xf32> {onnx.name = "a"}, tensor<2xf32> {onnx.name = "b"},
            tensor<2xf32> {onnx.name = "c"}, tensor<f32> {onnx.name = "d"}) {
      %y = onnx.Neg(%x) : (tensor<2xf32>) -> tensor<2xf32>
      %c = onnx.Constant {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
      return %x, %y, %y, %c : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<f32>
    })",
                                       {floats({2}, random)});
  ASSERT_EQ(model.graph().output_size(), 4);
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(model.graph().output(i).name(), std::string(1, char('a' + i)));
}

TEST_F(File, Subgraphs) {
  roundTrip(R"(
    func.func @main(%c: tensor<i1> {onnx.name = "c"}, %n: tensor<i64> {onnx.name = "n"},
                    %x: tensor<2xf32> {onnx.name = "x"})
        -> (tensor<2xf32> {onnx.name = "y"}, tensor<2xf32> {onnx.name = "z"}) {
      %y = onnx.If(%c) ({
        onnx.yield(%x) : (tensor<2xf32>) -> ()
      }, {
        %a = onnx.Neg(%x) : (tensor<2xf32>) -> tensor<2xf32> loc("same")
        onnx.yield(%a) : (tensor<2xf32>) -> ()
      }) {} : (tensor<i1>) -> tensor<2xf32>
      %t = onnx.Constant {value = dense<true> : tensor<i1>} : () -> tensor<i1>
      %z = onnx.Loop(%n, %t, %x) ({
      ^bb0(%i: tensor<i64>, %go: tensor<i1>, %s: tensor<2xf32>):
        %d = onnx.Add(%s, %y) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32> loc("same")
        onnx.yield(%go, %d) : (tensor<i1>, tensor<2xf32>) -> ()
      }) {} : (tensor<i64>, tensor<i1>, tensor<2xf32>) -> tensor<2xf32>
      return %y, %z : tensor<2xf32>, tensor<2xf32>
    })",
            {array<char>(9, {}, {1}), array<int64_t>(7, {}, {3}), floats({2}, random)});
}

TEST_F(File, OpsetIsTheLowestThatSaysTheSame) {
  auto opset = [&](const std::string &op) {
    auto module =
        context.parse("func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {\n%y = " + op +
                      " : (tensor<2xf32>) -> tensor<2xf32>\nreturn %y : "
                      "tensor<2xf32>\n}");
    auto report = write(*module);
    return report ? report->opset : (llvm::consumeError(report.takeError()), int64_t(0));
  };
  EXPECT_EQ(opset("onnx.Neg(%x)"), 21);
  EXPECT_EQ(opset("onnx.Identity(%x)"), 21) << "later versions add element types only";
  EXPECT_EQ(opset("onnx.Swish(%x) {alpha = 1.0 : f32}"), 24);
  EXPECT_EQ(read().ir_version(), 12);
}

TEST_F(File, AttributesOfAllKinds) {
  ::onnx::ModelProto model = roundTrip(R"(
    func.func @main(%x: tensor<2x3xf32> {onnx.name = "x"}) -> (tensor<3x2xf32> {onnx.name = "y"}) {
      %t = onnx.Transpose(%x) {perm = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
      %e = onnx.Elu(%t) {alpha = 0.5 : f32} : (tensor<3x2xf32>) -> tensor<3x2xf32>
      %y = onnx.Gelu(%e) {approximate = "tanh"} : (tensor<3x2xf32>) -> tensor<3x2xf32>
      return %y : tensor<3x2xf32>
    })",
                                       {floats({2, 3}, random)});
  EXPECT_EQ(model.graph().node(0).attribute(0).ints_size(), 2);
  EXPECT_EQ(model.graph().node(1).attribute(0).f(), 0.5f);
  EXPECT_EQ(model.graph().node(2).attribute(0).s(), "tanh");
}

TEST_F(File, CustomOperators) {
  auto module = context.parse(R"(
    func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
      %n = onnx.none : () -> none
      %y = onnx.custom(%x, %n, %x, %n) {attributes = {mode = "a"}, domain = "my.ops", op_type = "Op"}
          : (tensor<2xf32>, none, tensor<2xf32>, none) -> tensor<2xf32>
      return %y : tensor<2xf32>
    })");
  ASSERT_TRUE(bool(write(*module)));
  ::onnx::ModelProto model = read();
  const ::onnx::NodeProto &node = model.graph().node(0);
  EXPECT_EQ(node.domain(), "my.ops");
  ASSERT_EQ(node.input_size(), 3);
  EXPECT_EQ(node.input(1), "");
  EXPECT_EQ(model.opset_import(1).domain(), "my.ops");
}

TEST_F(File, NarrowWeightsStayNarrow) {
  std::ofstream(folder.path / "h.bin", std::ios::binary).write("\0\x3c\0\x40\0\xc0\0\0", 8);
  ::onnx::ModelProto model = roundTrip(R"(
    moe.weights @weights {
      %0 = moe.weight.load "h.bin" at 0 : tensor<2x2xf16>
      %1 = moe.weight.cast %0 : tensor<2x2xf16> -> tensor<2x2xf32>
      %2 = moe.weight.transpose %1 [1, 0] : tensor<2x2xf32> -> tensor<2x2xf32>
      moe.weight.bind @w %2 : tensor<2x2xf32>
    }
    func.func @main(%x: tensor<2x2xf32> {onnx.name = "x"}) -> (tensor<2x2xf32> {onnx.name = "y"}) {
      %w = moe.weight.use @w : tensor<2x2xf32>
      %y = onnx.MatMul(%x, %w) : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
      return %y : tensor<2x2xf32>
    })",
                                       {floats({2, 2}, random)});
  EXPECT_EQ(model.graph().initializer(0).data_type(), ::onnx::TensorProto::FLOAT16);
  EXPECT_EQ(model.graph().node(0).op_type(), "Cast");
}

// Experts stacked from tensors of their own are written as these, without a transposition.
TEST_F(File, ExpertsAreStoredAsTheyWere) {
  std::vector<float> numbers;
  std::normal_distribution<float> normal;
  for (int i = 0; i < 64; ++i)
    numbers.push_back(normal(random));
  data("w.bin", numbers);
  ::onnx::ModelProto model = roundTrip(R"(
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<4x4xf32>
      %1 = moe.weight.load "w.bin" at 64 : tensor<4x4xf32>
      %2 = moe.weight.transpose %0 [1, 0] : tensor<4x4xf32> -> tensor<4x4xf32>
      %3 = moe.weight.transpose %1 [1, 0] : tensor<4x4xf32> -> tensor<4x4xf32>
      %4 = moe.weight.reshape %2 : tensor<4x4xf32> -> tensor<1x4x4xf32>
      %5 = moe.weight.reshape %3 : tensor<4x4xf32> -> tensor<1x4x4xf32>
      %up = moe.weight.concat %4, %5 axis 0
          : (tensor<1x4x4xf32>, tensor<1x4x4xf32>) -> tensor<2x4x4xf32>
      %down = moe.weight.load "w.bin" at 128 : tensor<2x4x4xf32>
      moe.weight.bind @up %up : tensor<2x4x4xf32>
      moe.weight.bind @down %down : tensor<2x4x4xf32>
    }
    moe.bank @bank experts(2) hidden(4) inter(4)
        body(#moe.ffn<gated = false, activation = "relu">) up(@up) down(@down)
    func.func @main(%x: tensor<?x4xf32> {onnx.name = "x"}, %z: tensor<?x2xf32> {onnx.name = "z"})
        -> (tensor<?x4xf32> {onnx.name = "y"}) {
      %i, %w = moe.route(%z) router<score = sigmoid, k = 1>
          : (tensor<?x2xf32>) -> (tensor<?x1xi32>, tensor<?x1xf32>)
      %y = moe.experts @bank(%x, %i, %w)
          : (tensor<?x4xf32>, tensor<?x1xi32>, tensor<?x1xf32>) -> tensor<?x4xf32>
      return %y : tensor<?x4xf32>
    })",
                                       {floats({5, 4}, random), floats({5, 2}, random)});
  std::string source(reinterpret_cast<const char *>(numbers.data()), 256);
  size_t found = 0;
  for (const ::onnx::TensorProto &tensor : model.graph().initializer())
    if (tensor.raw_data().size() == 64)
      found += source.find(tensor.raw_data()) != std::string::npos;
  EXPECT_EQ(found, 4u);
}

TEST_F(File, RefusalsLeaveOldFilesAlone) {
  data("out.onnx", {1});
  auto module = context.parse(R"(
    func.func @main(%i: tensor<3x2xi32>, %w: tensor<3x2xf32>) -> tensor<3x2xi32> {
      moe.probe "routing"(%i, %w) {experts = 4 : i64, layer = "a"}
          : tensor<3x2xi32>, tensor<3x2xf32>
      return %i : tensor<3x2xi32>
    })");
  auto report = write(*module);
  ASSERT_FALSE(bool(report));
  EXPECT_EQ(llvm::errorToErrorCode(report.takeError()), std::errc::not_supported);
  EXPECT_EQ(std::filesystem::file_size(folder.file("out.onnx")), 4u);
  EXPECT_EQ(files(), 1u);
}

TEST_F(File, WeightsThatAreMissing) {
  data("out.onnx", {1});
  data("out.onnx.data", {2});
  auto module = context.parse(kAdd);
  auto report = write(*module, {.externalData = true});
  ASSERT_FALSE(bool(report));
  EXPECT_NE(llvm::toString(report.takeError()).find("w.bin"), std::string::npos);
  EXPECT_EQ(files(), 2u) << "no temporary file is left";
  EXPECT_EQ(std::filesystem::file_size(folder.file("out.onnx.data")), 4u);
}

TEST_F(File, DataThatTheModelReadsIsNotOverwritten) {
  data("out.onnx.data", std::vector<float>(81, 0.5f));
  std::string text = kAdd;
  text.replace(text.find("w.bin"), 5, "out.onnx.data");
  auto module = context.parse(text);
  auto report = write(*module, {.externalData = true});
  ASSERT_FALSE(bool(report));
  EXPECT_NE(llvm::toString(report.takeError()).find("would overwrite the weights"),
            std::string::npos);
}

} // namespace
