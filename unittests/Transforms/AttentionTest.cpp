// Fusing attention and writing it out keep the values of random attentions.
#include "GraphText.h"
#include "gtest/gtest.h"

#include <cmath>
#include <limits>

using namespace moec;
using namespace moec::test;

namespace {

struct Attention {
  int64_t batch, heads, group, queries, keys, size;
  int mask;      // none, added, condition with -inf, inverted, condition with a low number
  int transpose; // of the keys: a permutation, reshapes
  bool scaled, guarded;
};

Attention randomAttention(GraphText &g) {
  Attention a{};
  a.batch = g.between(1, 2);
  a.heads = g.between(1, 3);
  a.group = g.between(1, 2);
  a.queries = g.between(1, 4);
  a.keys = g.between(1, 5);
  a.size = g.between(2, 4);
  a.mask = static_cast<int>(g.between(0, 4));
  a.transpose = static_cast<int>(g.between(0, 1));
  a.scaled = g.coin();
  a.guarded = g.coin();
  return a;
}

// Each head of x [?, n, ?, d] `group` times.
Typed repeated(GraphText &g, Typed x, const Attention &a) {
  int64_t n = a.heads;
  Typed batch = g.one("Shape", {x}, tensor({1}, "i64"), "start = 0 : i64, end = 1 : i64");
  Typed length = g.one("Shape", {x}, tensor({1}, "i64"), "start = 2 : i64, end = 3 : i64");
  Typed wide = g.one("Unsqueeze", {x, g.ints({2})}, tensor({-1, n, 1, -1, a.size}));
  Typed to = g.one("Concat", {batch, g.ints({n}), g.ints({a.group}), length, g.ints({a.size})},
                   tensor({5}, "i64"), "axis = 0 : i64");
  wide = g.one("Expand", {wide, to}, tensor({-1, n, a.group, -1, a.size}));
  Typed flat = g.one("Concat", {batch, g.ints({n * a.group}), length, g.ints({a.size})},
                     tensor({4}, "i64"), "axis = 0 : i64");
  return g.one("Reshape", {wide, flat}, tensor({-1, n * a.group, -1, a.size}), "allowzero = 0 : i64");
}

Typed turned(GraphText &g, Typed k, const Attention &a) {
  int64_t h = a.heads * a.group;
  std::string type = tensor({-1, h, a.size, -1});
  if (a.transpose == 0)
    return g.one("Transpose", {k}, type, "perm = array<i64: 0, 1, 3, 2>");
  Typed shape = g.one("Shape", {k}, tensor({4}, "i64"), "start = 0 : i64");
  auto at = [&](int64_t i) {
    return g.one("Gather", {shape, g.ints({i})}, tensor({1}, "i64"), "axis = 0 : i64");
  };
  Typed flat = g.one("Concat", {g.ints({-1}), at(2), at(3)}, tensor({3}, "i64"), "axis = 0 : i64");
  Typed x = g.one("Reshape", {k, flat}, tensor({-1, -1, a.size}), "allowzero = 0 : i64");
  x = g.one("Transpose", {x}, tensor({-1, a.size, -1}), "perm = array<i64: 0, 2, 1>");
  Typed full = g.one("Concat", {at(0), at(1), at(3), at(2)}, tensor({4}, "i64"), "axis = 0 : i64");
  return g.one("Reshape", {x, full}, type, "allowzero = 0 : i64");
}

// Scores after the mask [?, 1, ?, ?], whose numbers decide what is hidden.
Typed hidden(GraphText &g, Typed scores, Typed mask, const Attention &a) {
  if (a.mask == 0)
    return scores;
  if (a.mask == 1)
    return g.one("Add", {scores, mask}, scores.type);
  Typed condition = g.one("Less", {mask, g.number(0.2)}, tensor({-1, 1, -1, -1}, "i1"));
  Typed low = g.number(a.mask == 4 ? -3.4e38 : -std::numeric_limits<double>::infinity());
  if (a.mask == 3)
    return g.one("Where", {condition, low, scores}, scores.type);
  return g.one("Where", {condition, scores, low}, scores.type);
}

std::string writeOut(GraphText &g, const Attention &a) {
  int64_t h = a.heads * a.group;
  Typed q = g.argument(tensor({-1, h, -1, a.size}));
  Typed k = g.argument(tensor({-1, a.heads, -1, a.size}));
  Typed v = g.argument(tensor({-1, a.heads, -1, a.size}));
  Typed mask = g.argument(tensor({-1, 1, -1, -1}));
  if (a.group > 1) {
    k = repeated(g, k, a);
    v = repeated(g, v, a);
  }
  Typed kt = turned(g, k, a);
  Typed left = q;
  if (a.scaled) {
    left = g.one("Mul", {q, g.number(0.5)}, q.type);
    kt = g.one("Mul", {kt, g.number(0.75)}, kt.type);
  }
  std::string type = tensor({-1, h, -1, -1});
  Typed p = g.one("Softmax", {hidden(g, g.one("MatMul", {left, kt}, type), mask, a)}, type,
                  "axis = -1 : i64");
  if (a.guarded) {
    Typed nan = g.one("IsNaN", {p}, tensor({-1, h, -1, -1}, "i1"));
    p = g.one("Where", {nan, g.number(0), p}, type);
  }
  return g.module({g.one("MatMul", {p, v}, q.type)});
}

// A query that sees no key has NaN probabilities when written out and a result of 0 as an
// Attention node.
std::vector<std::vector<float>> values(mlir::ModuleOp module,
                                       const std::vector<reference::Array> &inputs) {
  auto results = evaluate(module, inputs);
  for (auto &result : results)
    for (float &value : result)
      value = std::isnan(value) ? 0 : value;
  return results;
}

TEST(Attention, FusedAndWrittenOutAgain) {
  for (unsigned seed = 0; seed < 80; ++seed) {
    GraphText g(seed);
    Attention a = randomAttention(g);
    std::string text = writeOut(g, a);
    SCOPED_TRACE("seed " + std::to_string(seed) + "\n" + text);
    mlir::MLIRContext context;
    auto module = parse(text, context);
    ASSERT_TRUE(module);
    int64_t h = a.heads * a.group;
    std::vector<reference::Array> inputs{
        randomArray({a.batch, h, a.queries, a.size}, g.random),
        randomArray({a.batch, a.heads, a.keys, a.size}, g.random),
        randomArray({a.batch, a.heads, a.keys, a.size}, g.random),
        randomArray({a.batch, 1, a.queries, a.keys}, g.random)};
    auto before = values(*module, inputs);
    ASSERT_TRUE(run(*module, "fuse-attention{remarks=false},canonicalize,cse"));
    EXPECT_EQ(countOps(*module, "onnx.Attention"), 1);
    EXPECT_EQ(countOps(*module, "onnx.Softmax"), 0);
    EXPECT_EQ(countOps(*module, "onnx.Expand"), 0);
    EXPECT_LT(difference(before, values(*module, inputs)), 1e-5);
    ASSERT_TRUE(run(*module, "decompose-onnx{attention=true}"));
    EXPECT_EQ(countOps(*module, "onnx.Attention"), 0);
    EXPECT_LT(difference(before, values(*module, inputs)), 1e-5);
    if (HasFailure())
      return;
  }
}

} // namespace
