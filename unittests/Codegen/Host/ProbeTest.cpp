// moe.probe without a profile: values stay the same, and operands must fit at run time.
#include "Compiled.h"

using namespace moec::host::test;
using moec::reference::test::randomNumbers;

namespace {

std::string probe(const std::string &kind, const std::string &operands, const std::string &types) {
  return "func.func @main(%i: tensor<?x2xi32>, %w: tensor<?x2xf32>, %x: tensor<?x4xf32>, %s: "
         "tensor<?x2x4xf32>, %z: tensor<?x2xf32>) -> tensor<?x4xf32> {\n"
         "%y = onnx.Add(%x, %x) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>\n"
         "%h = onnx.Cast(%x) {to = 10 : i64} : (tensor<?x4xf32>) -> tensor<?x4xf16>\n"
         "moe.probe \"" +
         kind + "\"(" + operands + ") {experts = 2 : i64, layer = \"layer\"} : " + types +
         "\nreturn %y : tensor<?x4xf32>\n}\n";
}

const std::string kRouting =
    probe("routing", "%i, %w, %z", "tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>");
const std::string kExperts =
    probe("experts", "%i, %w, %h, %x, %s, %y",
          "tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x4xf16>, tensor<?x4xf32>, tensor<?x2x4xf32>, "
          "tensor<?x4xf32>");
const std::string kAll = probe("all", "%h, %s", "tensor<?x4xf16>, tensor<?x2x4xf32>");

std::vector<Numbers> inputs(int64_t tokens, int64_t others) {
  std::mt19937 random(3);
  Numbers ids{"i32", {tokens, 2}, std::vector<double>(size_t(tokens) * 2, 1)};
  return {ids, randomNumbers(random, {tokens, 2}), randomNumbers(random, {others, 4}),
          randomNumbers(random, {others, 2, 4}), randomNumbers(random, {tokens, 2})};
}

} // namespace

TEST(Probe, ChangesNoValue) {
  for (const std::string &ir : {kRouting, kExperts, kAll}) {
    expectSameModule(ir, inputs(3, 3));
    expectSameModule(ir, inputs(0, 0));
  }
}

TEST(Probe, OperandsThatDoNotFit) {
  EXPECT_EQ(runCompiled(kRouting, inputs(2, 3)).error, "");
  std::string error = runCompiled(kExperts, inputs(2, 3)).error;
  EXPECT_NE(error.find("an operand of a probe has another shape"), std::string::npos) << error;
  std::vector<Numbers> slots = inputs(3, 3);
  slots[3] = inputs(2, 2)[3];
  error = runCompiled(kAll, slots).error;
  EXPECT_NE(error.find("an operand of a probe has another shape"), std::string::npos) << error;
}
