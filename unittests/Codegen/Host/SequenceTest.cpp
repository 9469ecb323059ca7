// Sequences of tensors, compiled and by the interpreter: known ones, and objects of the runtime.
#include "Compiled.h"

using namespace moec::host::test;

namespace {

Numbers iota(std::vector<int64_t> shape, double start = 0) {
  Numbers n{"f32", std::move(shape), {}};
  int64_t count = 1;
  for (int64_t d : n.shape)
    count *= d;
  for (int64_t i = 0; i < count; ++i)
    n.values.push_back(start + static_cast<double>(i));
  return n;
}
Numbers scalar(int64_t value) { return i64({}, {static_cast<double>(value)}); }

const std::string kSeq = "!onnx.sequence<tensor<?x4xf32>>";

/// @main over %x, %y: tensor<?x4xf32> and %p: tensor<i64>.
std::string module(const std::string &body, const std::string &results) {
  return "func.func @main(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>, %p: tensor<i64>) -> (" +
         results + ") {\n%none = onnx.none : () -> none\n" + body + "\n}";
}

std::string constant(const std::string &name, int value) {
  return "%" + name + " = onnx.Constant {value = dense<" + std::to_string(value) +
         "> : tensor<i64>} : () -> tensor<i64>\n";
}

const std::vector<Numbers> kInputs = {iota({2, 4}), iota({3, 4}, 10), scalar(1)};

/// Takes from, inserts into and erases from a list of three at position %p.
std::string edits(const std::string &p) {
  std::string body = R"(
    %s = onnx.SequenceConstruct(%x, %y, %x) : (tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>) -> SEQ
    %a = onnx.SequenceAt(%s, P) : (SEQ, tensor<i64>) -> tensor<?x4xf32>
    %n = onnx.Neg(%a) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %t = onnx.SequenceInsert(%s, %n, P) : (SEQ, tensor<?x4xf32>, tensor<i64>) -> SEQ
    %u = onnx.SequenceErase(%t, %none) : (SEQ, none) -> SEQ
    %v = onnx.SequenceInsert(%u, %y, %none) : (SEQ, tensor<?x4xf32>, none) -> SEQ
    %w = onnx.SequenceErase(%v, P) : (SEQ, tensor<i64>) -> SEQ
    %l = onnx.SequenceLength(%t) : (SEQ) -> tensor<i64>
    %c = onnx.ConcatFromSequence(%w) {axis = 0 : i64} : (SEQ) -> tensor<?x4xf32>
    %d = onnx.ConcatFromSequence(%t) {axis = -2 : i64} : (SEQ) -> tensor<?x4xf32>
    return %a, %l, %c, %d : tensor<?x4xf32>, tensor<i64>, tensor<?x4xf32>, tensor<?x4xf32>)";
  for (size_t at; (at = body.find("SEQ")) != std::string::npos;)
    body.replace(at, 3, kSeq);
  for (size_t at; (at = body.find(" P)")) != std::string::npos;)
    body.replace(at, 3, " " + p + ")");
  return body;
}

TEST(Sequence, Edits) {
  std::string results = "tensor<?x4xf32>, tensor<i64>, tensor<?x4xf32>, tensor<?x4xf32>";
  for (int p : {0, 1, 2, -1, -3}) {
    expectSameModule(module(constant("k", p) + edits("%k"), results), kInputs);
    std::vector<Numbers> inputs = kInputs;
    inputs[2] = scalar(p);
    expectSameModule(module(edits("%p"), results), inputs); // the same as an object
  }
  std::vector<Numbers> inputs = kInputs;
  inputs[2] = scalar(3);
  Outcome out = runCompiled(module(edits("%p"), results), inputs);
  EXPECT_NE(out.error.find("index 3 is out of range"), std::string::npos) << out.error;
}

TEST(Sequence, StacksAndSplits) {
  for (const char *sizes : {"%k", "%p", "%list", "%none"})
    for (const char *axis : {"0", "1"}) {
      std::string type = sizes == std::string("%list")   ? "tensor<2xi64>"
                         : sizes == std::string("%none") ? "none"
                                                         : "tensor<i64>";
      std::string element = "tensor<?x?xf32>", seq = "!onnx.sequence<" + element + ">";
      std::string body =
          constant("k", 2) + constant("zero", 0) + "%list = onnx.Constant {value = dense<" +
          (axis == std::string("0") ? "[2, 4]" : "[1, 3]") +
          "> : tensor<2xi64>} : () -> tensor<2xi64>\n"
          "%s = onnx.SplitToSequence(%x, " +
          sizes + ") {axis = " + axis + " : i64} : (tensor<?x4xf32>, " + type + ") -> " + seq +
          "\n%f = onnx.SequenceAt(%s, %zero) : (" + seq + ", tensor<i64>) -> " + element +
          "\n%c = onnx.ConcatFromSequence(%s) {axis = " + axis + " : i64} : (" + seq + ") -> " +
          element + "\n%l = onnx.SequenceLength(%s) : (" + seq +
          ") -> tensor<i64>\n%e = onnx.SequenceConstruct(%f, %f) : (" + element + ", " + element +
          ") -> " + seq +
          "\n%j = onnx.ConcatFromSequence(%e) {axis = -1 : i64, "
          "new_axis = 1 : i64} : (" +
          seq +
          ") -> tensor<?x?x?xf32>\n"
          "return %f, %c, %l, %j : " +
          element + ", " + element + ", tensor<i64>, tensor<?x?x?xf32>";
      expectSameModule(module(body, element + ", " + element + ", tensor<i64>, tensor<?x?x?xf32>"),
                       {iota({6, 4}), iota({1, 4}), scalar(3)});
    }
}

TEST(Sequence, SplitWithoutTheAxis) {
  std::string seq = "!onnx.sequence<tensor<4xf32>>";
  std::string body =
      "%s = onnx.SplitToSequence(%x, %none) {axis = 0 : i64, keepdims = 0 : i64} : "
      "(tensor<?x4xf32>, none) -> " +
      seq + "\n%f = onnx.SequenceAt(%s, %p) : (" + seq +
      ", tensor<i64>) -> tensor<4xf32>\n%c = onnx.ConcatFromSequence(%s) {axis = 0 : "
      "i64, new_axis = 1 : i64} : (" +
      seq +
      ") -> tensor<?x4xf32>\n"
      "return %f, %c : tensor<4xf32>, tensor<?x4xf32>";
  expectSameModule(module(body, "tensor<4xf32>, tensor<?x4xf32>"), kInputs);
}

TEST(Sequence, ThroughLoopsAndBranches) {
  // Grows in a loop whose If adds one or two; the first value is empty, so its rank comes late.
  std::string body = R"(
    %two = onnx.Constant {value = dense<2> : tensor<i64>} : () -> tensor<i64>
    %s = onnx.SequenceEmpty {dtype = 1 : i64} : () -> !onnx.sequence<tensor<*xf32>>
    %t = onnx.SequenceConstruct(%y) : (tensor<?x4xf32>) -> !onnx.sequence<tensor<*xf32>>
    %0:3 = onnx.Loop(%p, %none, %s, %t) ({
    ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: !onnx.sequence<tensor<*xf32>>, %b: !onnx.sequence<tensor<*xf32>>):
      %r = onnx.Mod(%i, %two) : (tensor<i64>, tensor<i64>) -> tensor<i64>
      %c = onnx.Cast(%r) {to = 9 : i64} : (tensor<i64>) -> tensor<i1>
      %g = onnx.Cast(%i) {to = 1 : i64} : (tensor<i64>) -> tensor<f32>
      %e = onnx.Add(%x, %g) : (tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
      %1 = onnx.If(%c) ({
        %u = onnx.SequenceInsert(%a, %e, %none) : (!onnx.sequence<tensor<*xf32>>, tensor<?x4xf32>, none) -> !onnx.sequence<tensor<*xf32>>
        %v = onnx.SequenceInsert(%u, %y, %r) : (!onnx.sequence<tensor<*xf32>>, tensor<?x4xf32>, tensor<i64>) -> !onnx.sequence<tensor<*xf32>>
        onnx.yield(%v) : (!onnx.sequence<tensor<*xf32>>) -> ()
      }, {
        %u = onnx.SequenceInsert(%a, %e, %none) : (!onnx.sequence<tensor<*xf32>>, tensor<?x4xf32>, none) -> !onnx.sequence<tensor<*xf32>>
        onnx.yield(%u) : (!onnx.sequence<tensor<*xf32>>) -> ()
      }) : (tensor<i1>) -> !onnx.sequence<tensor<*xf32>>
      %l = onnx.SequenceLength(%1) : (!onnx.sequence<tensor<*xf32>>) -> tensor<i64>
      onnx.yield(%go, %1, %b, %l) : (tensor<i1>, !onnx.sequence<tensor<*xf32>>, !onnx.sequence<tensor<*xf32>>, tensor<i64>) -> ()
    }) : (tensor<i64>, none, !onnx.sequence<tensor<*xf32>>, !onnx.sequence<tensor<*xf32>>) -> (!onnx.sequence<tensor<*xf32>>, !onnx.sequence<tensor<*xf32>>, tensor<?xi64>)
    %c = onnx.ConcatFromSequence(%0#0) {axis = 0 : i64} : (!onnx.sequence<tensor<*xf32>>) -> tensor<?x4xf32>
    %d = onnx.ConcatFromSequence(%0#1) {axis = 0 : i64} : (!onnx.sequence<tensor<*xf32>>) -> tensor<?x4xf32>
    return %c, %d, %0#2 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi64>)";
  for (int64_t n : {1, 2, 9}) {
    std::vector<Numbers> inputs = kInputs;
    inputs[2] = scalar(n);
    expectSameModule(module(body, "tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi64>"), inputs);
  }
  std::vector<Numbers> inputs = kInputs;
  inputs[2] = scalar(0);
  Outcome out =
      runCompiled(module(body, "tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi64>"), inputs);
  EXPECT_NE(out.error.find("empty sequence"), std::string::npos) << out.error;
}

} // namespace
