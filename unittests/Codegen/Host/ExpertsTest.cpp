// moe.experts over banks of all kinds: compiled as interpreted.
#include "Compiled.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace moec::host::test;
using moec::reference::test::randomNumbers;

namespace {

constexpr unsigned kSeed = 7;

/// dense<...> of random numbers.
std::string literal(std::mt19937 &random, const std::vector<int64_t> &shape) {
  Numbers n = randomNumbers(random, shape, 0.5);
  size_t next = 0;
  std::function<std::string(size_t)> nested = [&](size_t depth) -> std::string {
    if (depth == shape.size())
      return llvm::formatv("{0:E8}", n.values[next++]).str();
    std::string list;
    for (int64_t i = 0; i < shape[depth]; ++i)
      list += (i ? ", " : "") + nested(depth + 1);
    return "[" + list + "]";
  };
  return "dense<" + nested(0) + ">";
}

/// moe.weights with random binds of the given shapes.
std::string weights(std::vector<std::pair<std::string, std::vector<int64_t>>> binds) {
  std::mt19937 random(kSeed);
  std::string text = "moe.weights @weights {\n";
  for (auto &[name, shape] : binds) {
    std::string type = "tensor<";
    for (int64_t d : shape)
      type += std::to_string(d) + "x";
    type += "f32>";
    text += "%" + name + " = moe.weight.literal " + literal(random, shape) + " : " + type +
            "\nmoe.weight.bind @" + name + " %" + name + " : " + type + "\n";
  }
  return text + "}\n";
}

Numbers ids(std::vector<int64_t> shape, std::vector<double> values) {
  return {"i32", std::move(shape), std::move(values)};
}

/// Five tokens with two slots each; an empty slot, an unused one, an expert twice.
const Numbers kIds = ids({5, 2}, {0, 2, 2, -1, 1, 0, 2, 2, 3, 1});
const Numbers kWeights = f32({5, 2}, {0.5, 0.25, 1, 0, 0, -2, 0.5, 0.75, 1.5, 0.125});
/// Nothing is used.
const Numbers kNoIds = ids({2, 2}, {-1, -1, -1, 0}), kNoWeights = f32({2, 2}, {1, 1, 1, 0});

Numbers rows(std::vector<int64_t> shape) {
  std::mt19937 random(kSeed + 1);
  return randomNumbers(random, std::move(shape));
}

std::string routed(const std::string &bank, const std::string &combine, const std::string &result) {
  return "func.func @main(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> " +
         result + " {\n%y = moe.experts @" + bank + "(%x, %i, %w) {combine = \"" + combine +
         "\"} : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> " + result +
         "\nreturn %y : " + result + "\n}\n";
}

std::string denselyRouted(const std::string &bank, int experts, const std::string &result) {
  std::string type = "tensor<?x" + std::to_string(experts) + "xf32>";
  return "func.func @main(%x: tensor<?x8xf32>, %w: " + type + ") -> " + result +
         " {\n%y = moe.experts @" + bank + "(%x, %w) : (tensor<?x8xf32>, " + type + ") -> " +
         result + "\nreturn %y : " + result + "\n}\n";
}

const char *kLinear = R"(
  moe.bank @b experts(4) hidden(8) inter(0) parameters([@m, @c]) {
  ^bb0(%x: tensor<?x8xf32>, %m: tensor<8x6xf32>, %c: tensor<6xf32>):
    %p = onnx.MatMul(%x, %m) : (tensor<?x8xf32>, tensor<8x6xf32>) -> tensor<?x6xf32>
    %y = onnx.Add(%p, %c) : (tensor<?x6xf32>, tensor<6xf32>) -> tensor<?x6xf32>
    moe.yield %y : tensor<?x6xf32>
  }
)";

TEST(RegionExperts, SlotsAreSummedUp) {
  std::string ir = weights({{"m", {4, 8, 6}}, {"c", {4, 6}}}) + kLinear;
  for (const char *combine : {"sum", "none"}) {
    std::string result = combine == std::string("sum") ? "tensor<?x6xf32>" : "tensor<?x2x6xf32>";
    std::string all = ir + routed("b", combine, result);
    expectSameModule(all, {rows({5, 8}), kIds, kWeights});
    expectSameModule(all, {rows({2, 8}), kNoIds, kNoWeights});
    expectSameModule(all, {rows({0, 8}), ids({0, 2}, {}), f32({0, 2}, {})});
  }
  std::mt19937 random(kSeed);
  Numbers dense = randomNumbers(random, {3, 4});
  dense.values[2] = 0;
  expectSameModule(ir + denselyRouted("b", 4, "tensor<?x6xf32>"), {rows({3, 8}), dense});
  Outcome wrong = runCompiled(ir + routed("b", "sum", "tensor<?x6xf32>"),
                              {rows({1, 8}), ids({1, 2}, {0, 4}), f32({1, 2}, {1, 1})});
  EXPECT_NE(wrong.error.find("id 4 is not one of 4 experts"), std::string::npos) << wrong.error;
}

TEST(RegionExperts, KindsContextsAndStorage) {
  // Regions of two kinds that read contexts; expert 2 is its token, 4 is zero; 0 and 3 share a row.
  std::string ir = weights({{"m", {2, 8, 8}}, {"c", {1, 8}}}) + R"(
    moe.bank @b experts(5) hidden(8) inter(0) parameters([[@m], [@c]]) kinds([0, 1, 0, 0, 0])
        slabs([1, 0, -1, 1, -1]) storage(["dense", "dense", "identity", "dense", "zero"]) {
    ^bb0(%x: tensor<?x8xf32>, %m: tensor<8x8xf32>, %r: tensor<?x8xf32>, %s: tensor<8xf32>):
      %p = onnx.MatMul(%x, %m) : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
      %q = onnx.Mul(%p, %r) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
      moe.yield %q : tensor<?x8xf32>
    }, {
    ^bb0(%x: tensor<?x8xf32>, %c: tensor<8xf32>, %r: tensor<?x8xf32>, %s: tensor<8xf32>):
      %p = onnx.Add(%c, %s) : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
      %q = onnx.Sub(%r, %p) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
      moe.yield %q : tensor<?x8xf32>
    }
    func.func @main(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>,
                    %r: tensor<?x8xf32>, %s: tensor<8xf32>) -> tensor<?x8xf32> {
      %y = moe.experts @b(%x, %i, %w, %r, %s) {contexts = ["rows", "whole"]}
          : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
      return %y : tensor<?x8xf32>
    })";
  Numbers chosen = ids({5, 2}, {0, 2, 4, -1, 1, 3, 2, 4, 3, 1});
  expectSameModule(ir, {rows({5, 8}), chosen, kWeights, rows({5, 8}), rows({8})});
  expectSameModule(ir, {rows({2, 8}), kNoIds, kNoWeights, rows({2, 8}), rows({8})});
}

TEST(RegionExperts, ConstantAndAliased) {
  // 0 and 3 are one expert, 2 gives a row of the results' shape, which tokens do not have.
  std::string ir = weights({{"m", {2, 8, 6}}, {"c", {2, 6}}, {"r", {1, 6}}}) + kLinear;
  std::string head = "parameters([@m, @c])";
  ir.insert(ir.find(head) + head.size(), R"( slabs([1, 0, -1, 1])
      storage(["dense", "dense", "constant", "dense"]) constants(@r))");
  for (const char *combine : {"sum", "none"}) {
    std::string result = combine == std::string("sum") ? "tensor<?x6xf32>" : "tensor<?x2x6xf32>";
    std::string all = ir + routed("b", combine, result);
    expectSameModule(all, {rows({5, 8}), kIds, kWeights});
    expectSameModule(all, {rows({2, 8}), ids({2, 2}, {0, 3, 2, 3}), f32({2, 2}, {0.5, 2, 1, -3})});
    expectSameModule(all, {rows({2, 8}), kNoIds, kNoWeights});
  }
}

TEST(RegionExperts, TokensAndResultsOfAnyShape) {
  // Tokens [3, 4], results [?, 3] whose size follows from a context.
  std::string ir = weights({{"m", {2, 4, 5}}}) + R"(
    moe.bank @b experts(2) hidden(0) inter(0) parameters([@m]) {
    ^bb0(%x: tensor<?x3x4xf32>, %m: tensor<4x5xf32>, %n: tensor<1xi64>):
      %p = onnx.MatMul(%x, %m) : (tensor<?x3x4xf32>, tensor<4x5xf32>) -> tensor<?x3x5xf32>
      %t = onnx.Transpose(%p) {perm = array<i64: 0, 2, 1>} : (tensor<?x3x5xf32>) -> tensor<?x5x3xf32>
      %z = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
      %a = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
      %s = onnx.Slice(%t, %z, %n, %a, %a)
        : (tensor<?x5x3xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x?x3xf32>
      moe.yield %s : tensor<?x?x3xf32>
    }
    func.func @main(%x: tensor<?x3x4xf32>, %w: tensor<?x2xf32>, %n: tensor<1xi64>) -> tensor<?x?x3xf32> {
      %y = moe.experts @b(%x, %w, %n) {contexts = ["whole"]}
          : (tensor<?x3x4xf32>, tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x?x3xf32>
      return %y : tensor<?x?x3xf32>
    })";
  expectSameModule(ir, {rows({3, 3, 4}), f32({3, 2}, {1, 0.5, 0, 2, 0, 0}), i64({4})});
  expectSameModule(ir, {rows({2, 3, 4}), f32({2, 2}, {0, 0, 0, 0}), i64({2})}); // no one is used
}

TEST(RegionExperts, OneForAllTokens) {
  std::string ir = weights({{"m", {1, 8, 6}}, {"c", {1, 6}}}) + kLinear;
  ir.replace(ir.find("experts(4)"), 10, "experts(1)");
  ir += R"(
    func.func @main(%x: tensor<?x8xf32>) -> tensor<?x6xf32> {
      %y = moe.experts @b(%x) : (tensor<?x8xf32>) -> tensor<?x6xf32>
      return %y : tensor<?x6xf32>
    })";
  expectSameModule(ir, {rows({3, 8})});
}

TEST(RegionExperts, InALoop) {
  std::string ir = weights({{"m", {4, 8, 6}}, {"c", {4, 6}}}) + kLinear + R"(
    func.func @main(%n: tensor<i64>, %x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x6xf32> {
      %none = onnx.none : () -> none
      %0 = moe.experts @b(%x, %i, %w) : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x6xf32>
      %1 = onnx.Loop(%n, %none, %0) ({
      ^bb0(%k: tensor<i64>, %go: tensor<i1>, %v: tensor<?x6xf32>):
        %2 = moe.experts @b(%x, %i, %w) : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x6xf32>
        %3 = onnx.Add(%v, %2) : (tensor<?x6xf32>, tensor<?x6xf32>) -> tensor<?x6xf32>
        onnx.yield(%go, %3) : (tensor<i1>, tensor<?x6xf32>) -> ()
      }) : (tensor<i64>, none, tensor<?x6xf32>) -> tensor<?x6xf32>
      return %1 : tensor<?x6xf32>
    })";
  expectSameModule(ir, {i64({}, {2}), rows({5, 8}), kIds, kWeights});
}

// --- banks of a formula ---

/// Four experts of inner size 21 over two rows of parameters and more.
std::string ffnBank(const std::string &rest, bool biased = false) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> binds = {
      {"g", {4, 21, 8}}, {"u", {4, 21, 8}}, {"d", {4, 8, 21}}};
  if (biased)
    binds.insert(binds.end(), {{"gb", {4, 21}}, {"ub", {4, 21}}, {"db", {4, 8}}});
  return weights(binds) +
         "moe.bank @b experts(4) hidden(8) inter(21) body(#moe.ffn<gated = true, activation = "
         "\"silu\">) gate(@g) up(@u) down(@d) " +
         (biased ? "gate_bias(@gb) up_bias(@ub) down_bias(@db) " : "") + rest + "\n";
}

TEST(FfnExperts, WithoutParameters) {
  std::string ir =
      ffnBank(R"(slabs([2, -1, 0, -1]) storage(["dense", "zero", "dense", "identity"]))");
  for (const char *combine : {"sum", "none"}) {
    std::string result = combine == std::string("sum") ? "tensor<?x8xf32>" : "tensor<?x2x8xf32>";
    std::string all = ir + routed("b", combine, result);
    expectSameModule(all, {rows({5, 8}), kIds, kWeights}, 1e-5);
    expectSameModule(all, {rows({1, 8}), ids({1, 2}, {3, 1}), f32({1, 2}, {0.5, 2})}, 1e-5);
    // A weight of NaN makes a result of NaN, of experts without parameters too.
    expectSameModule(all, {rows({1, 8}), ids({1, 2}, {1, 0}), f32({1, 2}, {NAN, 2})}, 1e-5);
  }
  std::mt19937 random(kSeed);
  for (int64_t n : {1, 3, 70, 200}) { // the schedules of the kernel
    Numbers dense = randomNumbers(random, {n, 4});
    expectSameModule(ir + denselyRouted("b", 4, "tensor<?x8xf32>"), {rows({n, 8}), dense}, 1e-5);
  }
}

TEST(FfnExperts, Constant) {
  // Experts 1 and 3 are constants, in f16; only two have parameters.
  std::string ir = ffnBank(R"(slabs([2, -1, 0, -1])
      storage(["dense", "constant", "dense", "constant"]) constants(@c))");
  ir.replace(ir.find("}\n"), 2, R"(
    %c = moe.weight.literal dense<[[1.0, -2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
                                   [0.5, 0.0, 0.0, -9.0, 0.0, 1.0, 0.0, 2.0]]> : tensor<2x8xf16>
    moe.weight.bind @c %c : tensor<2x8xf16>
  })" "\n");
  for (const char *combine : {"sum", "none"}) {
    std::string result = combine == std::string("sum") ? "tensor<?x8xf32>" : "tensor<?x2x8xf32>";
    std::string all = ir + routed("b", combine, result);
    expectSameModule(all, {rows({5, 8}), kIds, kWeights}, 1e-5);
    expectSameModule(all, {rows({2, 8}), ids({2, 2}, {3, 1, 1, 1}), f32({2, 2}, {0.5, 2, 1, -3})},
                     1e-5); // no expert with parameters
    expectSameModule(all, {rows({1, 8}), ids({1, 2}, {1, 0}), f32({1, 2}, {NAN, 2})}, 1e-5);
  }
  std::mt19937 random(kSeed);
  for (int64_t n : {1, 3, 70, 200}) {
    Numbers dense = randomNumbers(random, {n, 4});
    expectSameModule(ir + denselyRouted("b", 4, "tensor<?x8xf32>"), {rows({n, 8}), dense}, 1e-5);
  }
}

TEST(FfnExperts, Aliased) {
  // 0, 2 and 3 share parameters; tokens choose them together, under weights that cancel too.
  std::string ir = ffnBank("slabs([2, 1, 2, 2])");
  Numbers together = ids({4, 2}, {0, 2, 3, 3, 2, 1, 3, 0});
  Numbers mix = f32({4, 2}, {0.5, 0.25, 1, 2, -1, 0.5, 2, -2});
  for (const char *combine : {"sum", "none"}) {
    std::string result = combine == std::string("sum") ? "tensor<?x8xf32>" : "tensor<?x2x8xf32>";
    std::string all = ir + routed("b", combine, result);
    expectSameModule(all, {rows({5, 8}), kIds, kWeights}, 1e-5);
    expectSameModule(all, {rows({4, 8}), together, mix}, 1e-5);
    // What is not finite stays so, though the weights' sum is 0.
    Numbers big = f32({1, 8}, {INFINITY, 1, 1, 1, 1, 1, 1, 1});
    expectSameModule(all, {big, ids({1, 2}, {0, 3}), f32({1, 2}, {1, -1})}, 1e-5);
  }
  std::mt19937 random(kSeed);
  for (int64_t n : {1, 3, 70, 200}) {
    Numbers dense = randomNumbers(random, {n, 4});
    expectSameModule(ir + denselyRouted("b", 4, "tensor<?x8xf32>"), {rows({n, 8}), dense}, 1e-5);
  }
}

TEST(FfnExperts, OnlyDistinctParametersTakeMemory) {
  // Rows of what experts compute: for four experts, for two, and for none of them.
  auto peakOf = [](const std::string &bank, int64_t slots) {
    std::mt19937 random(kSeed);
    uint64_t bytes = 0;
    Outcome run = runCompiled(bank + denselyRouted("b", int(slots), "tensor<?x8xf32>"),
                              {rows({200, 8}), randomNumbers(random, {200, slots})}, &bytes);
    EXPECT_EQ(run.error, "");
    return bytes;
  };
  uint64_t all = peakOf(ffnBank(""), 4), shared = peakOf(ffnBank("slabs([0, 1, 0, 1])"), 4);
  uint64_t none = peakOf(
      ffnBank(R"(slabs([-1, -1, -1, -1]) storage(["zero", "identity", "zero", "identity"]))"), 4);
  EXPECT_LT(shared, all * 3 / 4);
  EXPECT_LT(none, all / 4);
}

TEST(FfnExperts, OfDifferentWidths) {
  // One width ends inside of a panel, one at its end; experts 0 and 2 share a row.
  for (bool biased : {false, true}) {
    std::string ir = ffnBank("slabs([2, 1, 2, 3]) widths([5, 16, 21, 17])", biased);
    expectSameModule(ir + routed("b", "sum", "tensor<?x8xf32>"), {rows({5, 8}), kIds, kWeights},
                     1e-5);
    std::mt19937 random(kSeed);
    for (int64_t n : {1, 3, 130}) {
      Numbers dense = randomNumbers(random, {n, 4});
      expectSameModule(ir + denselyRouted("b", 4, "tensor<?x8xf32>"), {rows({n, 8}), dense}, 1e-5);
    }
  }
}

// --- merged experts, Soft MoE, expert choice ---

TEST(MergedExperts, OfAFormula) {
  std::string op = R"(
    func.func @main(%x: tensor<?x8xf32>, %w: tensor<?x4xf32>) -> tensor<?x8xf32> {
      %y = moe.merge_weights @b(%x, %w) : (tensor<?x8xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
      return %y : tensor<?x8xf32>
    })";
  for (const char *slabs : {"", "slabs([2, 1, 2, 3])"})
    for (int64_t groups : {1, 2, 6}) {
      std::mt19937 random(kSeed);
      Numbers w = randomNumbers(random, {groups, 4});
      expectSameModule(ffnBank(slabs, groups == 2) + op, {rows({6, 8}), w}, 1e-5);
    }
  expectSameModule(ffnBank("") + op, {rows({0, 8}), f32({1, 4}, {1, 2, 3, 4})});
}

TEST(MergedExperts, OfARegion) {
  std::string ir = weights({{"m", {4, 8, 6}}, {"c", {4, 6}}}) + kLinear + R"(
    func.func @main(%x: tensor<?x8xf32>, %w: tensor<?x4xf32>) -> tensor<?x6xf32> {
      %y = moe.merge_weights @b(%x, %w) : (tensor<?x8xf32>, tensor<?x4xf32>) -> tensor<?x6xf32>
      return %y : tensor<?x6xf32>
    })";
  expectSameModule(ir, {rows({4, 8}), f32({2, 4}, {1, 0, 0.5, -2, 0.25, 0.25, 0.25, 0.25})}, 1e-5);
}

TEST(SoftExperts, DispatchAndCombine) {
  std::string ir = R"(
    func.func @main(%x: tensor<?x8xf32>, %z: tensor<?x6xf32>) -> (tensor<6x8xf32>, tensor<?x8xf32>) {
      %s = moe.soft_dispatch %x, %z : (tensor<?x8xf32>, tensor<?x6xf32>) -> tensor<6x8xf32>
      %y = moe.soft_combine %s, %z : (tensor<6x8xf32>, tensor<?x6xf32>) -> tensor<?x8xf32>
      return %s, %y : tensor<6x8xf32>, tensor<?x8xf32>
    })";
  for (int64_t n : {0, 1, 5}) {
    std::mt19937 random(kSeed);
    expectSameModule(ir, {rows({n, 8}), randomNumbers(random, {n, 6})}, 1e-5);
  }
}

TEST(ExpertChoice, TakesTokens) {
  std::string ir = R"(
    func.func @main(%s: tensor<?x3xf32>) -> (tensor<3x2xi32>, tensor<3x2xf32>) {
      %t, %w = moe.choose %s {capacity = 2 : i64} : (tensor<?x3xf32>) -> (tensor<3x2xi32>, tensor<3x2xf32>)
      return %t, %w : tensor<3x2xi32>, tensor<3x2xf32>
    })";
  // Equal scores, a NaN, both zeros.
  expectSameModule(ir, {f32({4, 3}, {1, 2, 0, 1, NAN, -0.0, 0.5, NAN, -1, 1, 7, -0.0})}, 0);
  expectSameModule(ir, {f32({1, 3}, {1, 2, NAN})}, 0);
  expectSameModule(ir, {f32({0, 3}, {})}, 0);
}

} // namespace
