// Routers that choose in other ways than by a top-k of scores: raised, fused where a kernel has the
// formula, and of the same values.
#include "GraphText.h"
#include "gtest/gtest.h"

using namespace moec;
using namespace moec::test;

namespace {

constexpr const char *kPipeline = "fold-weights,raise-moe{remarks=false},canonicalize,cse,"
                                  "fuse-gating{remarks=false},canonicalize,cse,fold-weights";
constexpr int64_t kHidden = 5, kInter = 3;

struct Chosen {
  Typed ids, weights; // [?, k] i64 and f32; no weights: 1
  int64_t k;
};

/// A graph of one layer whose experts' parameters are gathered for each slot.
struct Graph {
  GraphText g;
  Typed x = g.argument(tensor({-1, kHidden}));
  int64_t experts;

  Graph(unsigned seed, int64_t experts) : g(seed), experts(experts) {}

  Typed logits(int64_t columns) {
    return g.one("MatMul", {x, g.weight({kHidden, columns})}, tensor({-1, columns}));
  }
  Typed same(const std::string &name, const Typed &a) { return g.one(name, {a}, a.type); }
  Typed softmax(const Typed &a) { return g.one("Softmax", {a}, a.type, "axis = -1 : i64"); }
  std::vector<Typed> topk(const Typed &scores, int64_t k, std::vector<int64_t> rows = {-1}) {
    rows.push_back(k);
    return g.op("TopK", {scores, g.ints({k})}, {tensor(rows), tensor(rows, "i64")},
                "axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64");
  }
  Typed picked(const Typed &scores, const Typed &ids, int64_t k) {
    return g.one("GatherElements", {scores, ids}, tensor({-1, k}), "axis = 1 : i64");
  }
  Typed renormalised(const Typed &w) {
    Typed sum = g.one("ReduceSum", {w, g.ints({-1})}, tensor({-1, 1}), "keepdims = 1 : i64");
    return g.one("Div", {w, sum}, w.type);
  }

  /// What each slot's expert gives, [?, k, hidden].
  Typed slots(const Chosen &c, const Typed &tokens) {
    auto gathered = [&](int64_t n, int64_t k) {
      return g.one("Gather", {g.weight({experts, n, k}), c.ids}, tensor({-1, c.k, n, k}),
                   "axis = 0 : i64");
    };
    std::string columns = tensor({-1, c.k, kInter, 1});
    Typed h = g.one("MatMul", {gathered(kInter, kHidden), tokens}, columns);
    Typed act = g.one("Mul", {h, g.one("Sigmoid", {h}, columns)}, columns);
    Typed y = g.one("MatMul", {gathered(kHidden, kInter), act}, tensor({-1, c.k, kHidden, 1}));
    return g.one("Squeeze", {y, g.ints({3})}, tensor({-1, c.k, kHidden}));
  }
  Typed column() { return g.one("Unsqueeze", {x, g.ints({1, 3})}, tensor({-1, 1, kHidden, 1})); }
  Typed sum(const Typed &y) {
    return g.one("ReduceSum", {y, g.ints({1})}, tensor({-1, kHidden}), "keepdims = 0 : i64");
  }
  Typed layer(const Chosen &c) {
    Typed y = slots(c, column());
    if (!c.weights.name.empty())
      y = g.one("Mul", {y, g.one("Unsqueeze", {c.weights, g.ints({2})}, tensor({-1, c.k, 1}))},
                y.type);
    return sum(y);
  }

  /// Raises the layer; counts ops and compares values for some numbers of tokens.
  void check(const Typed &result, const std::string &kind, std::vector<reference::Array> more = {},
             std::vector<int64_t> sizes = {0, 1, 7}) {
    std::string text = g.module({result});
    SCOPED_TRACE(text);
    mlir::MLIRContext context;
    auto module = parse(text, context), raised = parse(text, context);
    ASSERT_TRUE(module && raised);
    ASSERT_TRUE(run(*raised, kPipeline));
    EXPECT_EQ(countOps(*raised, "moe.experts"), 1);
    EXPECT_EQ(countOps(*raised, "moe.route"), kind == "route" ? 1 : 0);
    EXPECT_EQ(countOps(*raised, "moe.select"), kind == "select" ? 1 : 0);
    EXPECT_EQ(countOps(*raised, "onnx.TopK"), 0);
    for (int64_t tokens : sizes) {
      std::vector<reference::Array> inputs{randomArray({tokens, kHidden}, g.random)};
      inputs.insert(inputs.end(), more.begin(), more.end());
      EXPECT_LT(difference(evaluate(*module, inputs), evaluate(*raised, inputs)), 1e-5);
    }
  }
};

/// Scores with those of all but the best groups masked by `fill`.
Typed masked(Graph &m, const Typed &scores, int64_t groups, int64_t kept, bool top2, double fill) {
  GraphText &g = m.g;
  int64_t size = m.experts / groups;
  Typed byGroup = g.one("Reshape", {scores, g.ints({-1, groups, size})}, tensor({-1, groups, size}));
  std::string each = tensor({-1, groups});
  Typed best = top2 ? g.one("ReduceSum", {m.topk(byGroup, 2, {-1, groups})[0], g.ints({-1})}, each,
                            "keepdims = 0 : i64")
                    : g.one("ReduceMax", {byGroup, g.ints({-1})}, each, "keepdims = 0 : i64");
  Typed chosen = m.topk(best, kept)[1];
  Typed shape = g.one("Shape", {best}, "tensor<2xi64>");
  Typed zeros = g.one("Expand", {g.number(0), shape}, each);
  Typed few = g.one("Shape", {chosen}, "tensor<2xi64>");
  Typed ones = g.one("Expand", {g.number(1), few}, tensor({-1, kept}));
  Typed marks = g.one("ScatterElements", {zeros, chosen, ones}, each, "axis = 1 : i64");
  Typed column = g.one("Unsqueeze", {marks, g.ints({-1})}, tensor({-1, groups, 1}));
  Typed spread = g.one("Expand", {column, g.ints({1, groups, size})}, tensor({-1, groups, size}));
  Typed flat = g.one("Reshape", {spread, g.ints({-1, m.experts})}, tensor({-1, m.experts}));
  Typed open = g.one("Cast", {flat}, tensor({-1, m.experts}, "i1"), "to = 9 : i64");
  Typed closed = g.one("Not", {open}, open.type);
  return g.one("Where", {closed, g.number(fill), scores}, scores.type);
}

TEST(RaiseSelection, GroupsByTheirLargestScoreWithZeros) {
  for (unsigned seed = 0; seed < 5; ++seed) {
    Graph m(seed, 8);
    Typed p = m.softmax(m.logits(8));
    auto top = m.topk(masked(m, p, 4, 2, false, 0), 3);
    m.check(m.layer({top[1], top[0], 3}), "route");
  }
}

TEST(RaiseSelection, GroupsByTwoScoresWithBias) {
  for (unsigned seed = 0; seed < 5; ++seed) {
    Graph m(seed, 8);
    Typed s = m.same("Sigmoid", m.logits(8));
    Typed biased = m.g.one("Add", {s, m.g.weight({8})}, s.type);
    auto top = m.topk(masked(m, biased, 2, 1, true, -std::numeric_limits<double>::infinity()), 2);
    m.check(m.layer({top[1], m.renormalised(m.picked(s, top[1], 2)), 2}), "route");
  }
}

// Negative scores would win against the zeros of the other groups.
TEST(RaiseSelection, ZerosBesideNegativeScoresStay) {
  Graph m(3, 8);
  Typed s = m.same("Sigmoid", m.logits(8));
  Typed biased = m.g.one("Add", {s, m.g.weight({8}, 3)}, s.type);
  auto top = m.topk(masked(m, biased, 4, 2, true, 0), 3);
  Typed y = m.layer({top[1], m.picked(s, top[1], 3), 3});
  std::string text = m.g.module({y});
  mlir::MLIRContext context;
  auto raised = parse(text, context);
  ASSERT_TRUE(run(*raised, kPipeline));
  EXPECT_EQ(countOps(*raised, "moe.experts"), 1);
  EXPECT_GE(countOps(*raised, "onnx.Where"), 1);
}

TEST(RaiseSelection, ArgMaxOfEachToken) {
  for (bool keep : {false, true}) {
    Graph m(1, 4);
    Typed p = m.softmax(m.logits(4));
    std::string keepdims = "axis = -1 : i64, keepdims = " + std::to_string(keep) + " : i64";
    Typed ids = m.g.one("ArgMax", {p}, keep ? tensor({-1, 1}, "i64") : tensor({-1}, "i64"), keepdims);
    Typed best = m.g.one("ReduceMax", {p, m.g.ints({-1})}, tensor({-1, 1}), "keepdims = 1 : i64");
    if (!keep)
      ids = m.g.one("Unsqueeze", {ids, m.g.ints({1})}, tensor({-1, 1}, "i64"));
    m.check(m.layer({ids, best, 1}), "route");
  }
}

// Two argmaxes, the second without the first's choice, side by side.
TEST(RaiseSelection, ArgMaxTwice) {
  Graph m(2, 6);
  GraphText &g = m.g;
  Typed z = m.logits(6);
  std::string one = tensor({-1, 1}, "i64"), keep = "axis = -1 : i64, keepdims = 1 : i64";
  Typed first = g.one("ArgMax", {z}, one, keep);
  Typed shape = g.one("Shape", {first}, "tensor<2xi64>");
  Typed low = g.one("Expand", {g.number(-std::numeric_limits<double>::infinity()), shape},
                    tensor({-1, 1}));
  Typed rest = g.one("ScatterElements", {z, first, low}, z.type, "axis = -1 : i64");
  Typed second = g.one("ArgMax", {rest}, one, keep);
  Typed ids = g.one("Concat", {first, second}, tensor({-1, 2}, "i64"), "axis = -1 : i64");
  Typed y = m.layer({ids, m.picked(m.softmax(z), ids, 2), 2});
  std::string text = g.module({y});
  mlir::MLIRContext context;
  auto module = parse(text, context), raised = parse(text, context);
  ASSERT_TRUE(run(*raised, kPipeline));
  EXPECT_EQ(countOps(*raised, "moe.experts"), 1);
  std::vector<reference::Array> inputs{randomArray({9, kHidden}, g.random)};
  EXPECT_LT(difference(evaluate(*module, inputs), evaluate(*raised, inputs)), 1e-5);
}

reference::Array idsOf(const std::vector<int64_t> &shape, const std::vector<int64_t> &values) {
  reference::Array a;
  a.type = 7; // i64
  a.shape = shape;
  a.data.resize(values.size() * sizeof(int64_t));
  std::memcpy(a.data.data(), values.data(), a.data.size());
  return a;
}

// Ids of the caller; a negative one counts from the last expert, as Gather has it.
TEST(RaiseSelection, GivenIds) {
  Graph m(4, 4);
  Typed ids = m.g.argument(tensor({-1, 2}, "i64"));
  Typed w = m.topk(m.softmax(m.logits(4)), 2)[0];
  (void)w;
  Typed weights = m.g.argument(tensor({-1, 2}));
  Typed y = m.layer({ids, weights, 2});
  m.check(y, "given", {idsOf({3, 2}, {0, 3, -1, 2, 1, -4}), randomArray({3, 2}, m.g.random)}, {3});
}

// Ids that are compared with those of experts: others name none.
TEST(RaiseSelection, GivenIdsInMasks) {
  Graph m(9, 3);
  GraphText &g = m.g;
  Typed ids = g.argument(tensor({-1, 2}, "i64")), weights = g.argument(tensor({-1, 2}));
  Typed sum;
  for (int64_t e = 0; e < 3; ++e) {
    Typed hit = g.one("Equal", {ids, g.scalar(e)}, tensor({-1, 2}, "i1"));
    Typed one = g.one("Cast", {hit}, tensor({-1, 2}), "to = 1 : i64");
    Typed each = g.one("Mul", {one, weights}, tensor({-1, 2}));
    Typed w = g.one("ReduceSum", {each, g.ints({-1})}, tensor({-1, 1}), "keepdims = 1 : i64");
    Typed h = g.one("MatMul", {m.x, g.weight({kHidden, kInter})}, tensor({-1, kInter}));
    Typed y = g.one("MatMul", {m.same("Relu", h), g.weight({kInter, kHidden})}, m.x.type);
    Typed term = g.one("Mul", {y, w}, m.x.type);
    sum = e == 0 ? term : g.one("Add", {sum, term}, m.x.type);
  }
  m.check(sum, "given", {idsOf({4, 2}, {0, 2, -1, 1, 3, 1, 2, 2}), randomArray({4, 2}, g.random)}, {4});
}

// The second best only, with weight 1.
TEST(RaiseSelection, OneRankOfATopK) {
  Graph m(5, 4);
  auto top = m.topk(m.softmax(m.logits(4)), 2);
  Typed second = m.g.one("Slice", {top[1], m.g.ints({1}), m.g.ints({2}), m.g.ints({1}), m.g.none()},
                         tensor({-1, 1}, "i64"));
  m.check(m.layer({second, {}, 1}), "route");
}

// Weights that multiply the tokens instead of the results; all experts run, on zeros mostly.
TEST(RaiseSelection, WeightsOfTheInput) {
  for (int64_t k : {1, 2}) {
    Graph m(6, 4);
    GraphText &g = m.g;
    Typed z = m.logits(4);
    auto top = m.topk(z, k);
    Typed low = g.one("Expand", {g.number(-std::numeric_limits<double>::infinity()),
                                 g.one("Shape", {z}, "tensor<2xi64>")}, z.type);
    Typed open = g.one("ScatterElements", {low, top[1], top[0]}, z.type, "axis = 1 : i64");
    Typed turned = g.one("Transpose", {m.same("Sigmoid", open)}, tensor({4, -1}), "perm = array<i64: 1, 0>");
    Typed w = g.one("Unsqueeze", {turned, g.ints({2})}, tensor({4, -1, 1}));
    Typed once = g.one("Unsqueeze", {m.x, g.ints({0})}, tensor({1, -1, kHidden}));
    Typed all = g.one("Expand", {once, g.ints({4, 1, 1})}, tensor({4, -1, kHidden}));
    Typed tokens = g.one("Mul", {all, w}, all.type);
    std::string inner = tensor({4, -1, kInter});
    Typed h = g.one("MatMul", {tokens, g.weight({4, kHidden, kInter})}, inner);
    Typed act = g.one("Mul", {h, m.same("Sigmoid", h)}, inner);
    Typed y = g.one("MatMul", {act, g.weight({4, kInter, kHidden})}, all.type);
    m.check(g.one("ReduceSum", {y, g.ints({0})}, tensor({-1, kHidden}), "keepdims = 0 : i64"), "route");
  }
}

// Ids from the number of experts on are no experts: their slots weigh nothing.
TEST(RaiseSelection, NullExperts) {
  Graph m(7, 4);
  GraphText &g = m.g;
  auto top = m.topk(m.softmax(m.logits(6)), 3);
  Typed real = g.one("Less", {top[1], g.scalar(4)}, tensor({-1, 3}, "i1"));
  Typed w = g.one("Where", {real, top[0], g.number(0)}, top[0].type);
  Typed ids = g.one("Clip", {top[1], g.none(), g.scalar(3)}, top[1].type);
  m.check(m.layer({ids, w, 3}), "route");
}

} // namespace
