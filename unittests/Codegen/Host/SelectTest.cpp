// moe.select of every kind, and routers over groups of experts: compiled as interpreted.
#include "Compiled.h"

using namespace moec::host::test;
using moec::reference::test::randomNumbers;

namespace {

std::string tensor(const std::string &columns, const std::string &element) {
  return "tensor<?x" + columns + "x" + element + ">";
}

/// @main of one selection of `k` of eight experts; `more` names further arguments.
std::string selection(const std::string &attributes, const std::string &k,
                      const std::string &more = "") {
  std::string operands = "%s", types = tensor("8", "f32");
  std::string arguments = "%s: " + types;
  for (auto [name, type] : {std::pair<std::string, std::string>{"%w", tensor("8", "f32")},
                            {"%i", tensor("3", "i32")},
                            {"%c", "tensor<1xi64>"}})
    if (more.find(name) != std::string::npos) {
      operands += ", " + name;
      types += ", " + type;
      arguments += ", " + name + ": " + type;
    }
  std::string results = "(" + tensor(k, "i32") + ", " + tensor(k, "f32") + ")";
  return "func.func @main(" + arguments + ") -> " + results + " {\n%ids, %v = moe.select " +
         operands + " {" + attributes + "} : (" + types + ") -> " + results +
         "\nreturn %ids, %v : " + tensor(k, "i32") + ", " + tensor(k, "f32") + "\n}";
}

/// Rows of scores that need no rounding, some equal, one with a NaN.
Numbers scores(std::mt19937 &random, int64_t rows) {
  Numbers n = f32({rows, 8}, {});
  for (int64_t i = 0; i < rows * 8; ++i)
    n.values.push_back(static_cast<double>(random() % 32) / 64);
  if (rows > 3)
    n.values[2 * 8 + 5] = std::nan("");
  return n;
}

/// Ids of a row with a NaN are not specified: such rows are left out of this comparison.
void expectKind(const std::string &ir, std::vector<Numbers> inputs) {
  SCOPED_TRACE(ir);
  expectSameModule(ir, inputs, 0);
}

class Select : public testing::Test {
protected:
  std::mt19937 random{7};
  Numbers any = f32({21, 8}, {});

  void SetUp() override {
    any = scores(random, 21);
    any.values[2 * 8 + 5] = 0.25; // without NaN
  }
};

TEST_F(Select, TopK) {
  expectKind(selection("k = 3 : i64", "3"), {any});
  expectKind(selection("k = 8 : i64", "8"), {any});
  expectKind(selection("k = 3 : i64", "3", "%w"), {any, randomNumbers(random, {21, 8})});
  for (double used : {0.0, 2.0, 3.0})
    expectKind(selection("k = 3 : i64", "3", "%c"), {any, i64({used})});
  expectKind(selection("k = 3 : i64", "3", "%w%c"),
             {any, randomNumbers(random, {21, 8}), i64({1})});
}

TEST_F(Select, Groups) {
  for (const char *score : {"max", "top2"})
    for (const char *sizes : {"groups = 4 : i64, group_k = 2 : i64", "groups = 2 : i64, group_k = 1 : i64",
                              "groups = 8 : i64, group_k = 3 : i64"})
      expectKind(selection(std::string("kind = \"grouped_top_k\", k = 3 : i64, ") + sizes +
                               ", group_score = \"" + score + "\"",
                           "3"),
                 {any});
}

TEST_F(Select, VariableCounts) {
  for (const char *p : {"0.01", "0.5", "0.9", "1.0"})
    expectKind(selection(std::string("kind = \"top_p\", k = 5 : i64, p = ") + p + " : f64", "5"),
               {any});
  for (const char *threshold : {"0.25", "0.4", "2.0", "-1.0"})
    for (const char *least : {"", ", at_least = 1 : i64", ", at_least = 5 : i64"})
      expectKind(selection(std::string("kind = \"threshold\", k = 5 : i64, threshold = ") +
                               threshold + " : f64" + least,
                           "5"),
                 {any});
}

TEST_F(Select, AllAndGiven) {
  expectKind(selection("kind = \"all\"", "8"), {any});
  Numbers ids{"i32", {21, 3}, {}};
  for (int i = 0; i < 63; ++i)
    ids.values.push_back(static_cast<double>(random() % 9) - 1);
  expectKind(selection("kind = \"external\"", "3", "%i"), {any, ids});
  expectKind(selection("kind = \"external\"", "3", "%w%i"),
             {any, randomNumbers(random, {21, 8}), ids});
  ids.values[11] = 8;
  Outcome out = runCompiled(selection("kind = \"external\"", "3", "%i"), {any, ids});
  EXPECT_NE(out.error.find("expert id 8 of 8 experts"), std::string::npos) << out.error;
}

TEST_F(Select, NanMakesNanWeights) {
  Numbers rows = scores(random, 5);
  for (const char *kind : {"kind = \"top_p\", k = 3 : i64, p = 0.1 : f64",
                           "kind = \"threshold\", k = 3 : i64, threshold = 9.0 : f64",
                           "kind = \"grouped_top_k\", k = 3 : i64, groups = 4 : i64, group_k = 2 : i64"}) {
    Outcome out = runCompiled(selection(kind, "3"), {rows});
    ASSERT_EQ(out.error, "");
    for (int j = 0; j < 3; ++j) {
      double id = out.results[0].values[2 * 3 + j];
      EXPECT_TRUE(id >= 0 && id < 8) << id;
      EXPECT_TRUE(std::isnan(out.results[1].values[2 * 3 + j]));
    }
  }
}

TEST_F(Select, NoTokens) {
  expectKind(selection("kind = \"top_p\", k = 3 : i64, p = 0.5 : f64", "3"), {f32({0, 8}, {})});
}

TEST_F(Select, TooLargeCountEndsTheRun) {
  Outcome out = runCompiled(selection("k = 3 : i64", "3", "%c"), {any, i64({4})});
  EXPECT_NE(out.error.find("used slots 4"), std::string::npos) << out.error;
}

TEST_F(Select, RoutersOverGroups) {
  for (const char *score : {"softmax", "sigmoid", "identity"})
    for (const char *groups : {"groups = 4, group_k = 2, group_score = top2", "groups = 2, group_k = 1",
                               "groups = 4, group_k = 4"}) {
      std::string router = std::string("<score = ") + score + ", k = 2, " + groups +
                           ", renorm = sum, epsilon = 1.0e-20, scale = 2.5>";
      std::string types = "(" + tensor("8", "f32") + ", tensor<8xf32>) -> (" + tensor("2", "i32") +
                          ", " + tensor("2", "f32") + ")";
      Numbers logits = randomNumbers(random, {33, 8}), bias = randomNumbers(random, {8}, 0.1);
      SCOPED_TRACE(router);
      expectSameModule("func.func @main(%z: " + tensor("8", "f32") + ", %b: tensor<8xf32>) -> (" +
                           tensor("2", "i32") + ", " + tensor("2", "f32") +
                           ") {\n%i, %w = moe.route(%z, %b) router" + router + " : " + types +
                           "\nreturn %i, %w : " + tensor("2", "i32") + ", " + tensor("2", "f32") +
                           "\n}",
                       {logits, bias}, 2e-6);
    }
}

// Without settings a hook changes nothing, whatever it stands on and wherever it stands.
TEST(LogitHook, GivesItsOperand) {
  std::mt19937 random(3);
  Numbers z = randomNumbers(random, {5, 8}), b = randomNumbers(random, {8});
  std::string ir = R"(
    func.func @main(%z: tensor<?x8xf32>, %b: tensor<8xf32>, %n: tensor<i64>)
        -> (tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x8xf16>, tensor<?x8xf32>, tensor<?x8xf32>) {
      %none = onnx.none : () -> none
      %y = onnx.Add(%z, %b) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
      %0 = moe.logit_hook %y {k = 2 : i64, layer = "a"} : tensor<?x8xf32>
      %1 = moe.logit_hook %b {k = 2 : i64, layer = "a", mask_only} : tensor<8xf32>
      %i, %w = moe.route(%0, %1) router<score = sigmoid, k = 2>
          : (tensor<?x8xf32>, tensor<8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
      %h = onnx.Cast(%z) {to = 10 : i64} : (tensor<?x8xf32>) -> tensor<?x8xf16>
      %2 = moe.logit_hook %h {k = 3 : i64, layer = "b"} : tensor<?x8xf16>
      %3 = onnx.Loop(%n, %none, %z) ({
      ^bb0(%k: tensor<i64>, %go: tensor<i1>, %v: tensor<?x8xf32>):
        %4 = onnx.Mul(%v, %v) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
        %5 = moe.logit_hook %4 {k = 1 : i64, layer = "c"} : tensor<?x8xf32>
        onnx.yield(%go, %5) : (tensor<i1>, tensor<?x8xf32>) -> ()
      }) : (tensor<i64>, none, tensor<?x8xf32>) -> tensor<?x8xf32>
      return %i, %w, %2, %3, %0
          : tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x8xf16>, tensor<?x8xf32>, tensor<?x8xf32>
    })";
  expectSameModule(ir, {z, b, i64({}, {3})});
  expectSameModule(ir, {randomNumbers(random, {0, 8}), b, i64({}, {0})});
  Lowered lowered = lower(ir);
  ASSERT_EQ(lowered.error, "");
  std::string hooks;
  for (const moec::HookEntry &hook : lowered.result.program.hooks)
    hooks += hook.layer + " " + std::to_string(hook.k) + "/" + std::to_string(hook.experts) + " ";
  EXPECT_EQ(hooks, "a 2/8 b 3/8 c 1/8 ");
  std::string other = ir;
  other.replace(other.find("layer = \"b\""), 11, "layer = \"a\"");
  EXPECT_NE(lower(other).error.find("that differ in experts or k"), std::string::npos);
}

} // namespace
