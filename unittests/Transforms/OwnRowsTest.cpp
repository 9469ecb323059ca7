// Soft MoE and experts that choose tokens keep their values when they are raised.
#include "GraphText.h"
#include "gtest/gtest.h"

using namespace moec;
using namespace moec::test;

namespace {

constexpr const char *kPipeline =
    "canonicalize,cse,decompose-onnx,fold-weights,raise-moe{remarks=false},canonicalize,cse";

std::string typed(std::vector<int64_t> dims, const char *element = "f32") {
  return tensor(dims, element);
}

struct Graph {
  explicit Graph(unsigned seed)
      : g(seed), experts(g.between(2, 4)), each(g.between(1, 3)), hidden(g.between(2, 5)),
        inter(g.between(2, 4)) {}

  GraphText g;
  int64_t experts, each, hidden, inter; // `each`: rows of an expert
  Typed x;
  std::vector<int64_t> sizes; // of x in the run

  Typed softmax(Typed z, int64_t axis) {
    return g.one("Softmax", {z}, z.type, "axis = " + std::to_string(axis) + " : i64");
  }
  Typed turned(Typed v, const std::string &perm, const std::string &type) {
    return g.one("Transpose", {v}, type, "perm = array<i64: " + perm + ">");
  }
  Typed reshape(Typed v, std::vector<int64_t> dims) {
    return g.one("Reshape", {v, g.ints(dims)}, typed(dims), "allowzero = 0 : i64");
  }
  /// Rows [.., hidden] of the type `in` [.., inter] inside, by stacks or one expert's matrices.
  Typed ffn(Typed rows, Typed up, Typed bias, Typed down, const std::string &in) {
    Typed h = g.one("MatMul", {rows, up}, in);
    h = g.one("Relu", {g.one("Add", {h, bias}, in)}, in);
    return g.one("MatMul", {h, down}, rows.type);
  }
  Typed stacked(Typed rows, const std::string &in) {
    if (g.coin())
      return gated(rows, in);
    return ffn(rows, g.weight({experts, hidden, inter}), g.weight({experts, 1, inter}),
               g.weight({experts, inter, hidden}), in);
  }
  /// Gate and up in one matrix.
  Typed gated(Typed rows, const std::string &in) {
    std::string both = in;
    both.replace(both.rfind('x', both.size() - 6) + 1, std::string::npos,
                 std::to_string(2 * inter) + "xf32>");
    Typed h = g.one("MatMul", {rows, g.weight({experts, hidden, 2 * inter})}, both);
    auto parts = g.op("Split", {h, g.ints({inter, inter})}, {in, in}, "axis = -1 : i64");
    Typed act = g.one("Mul", {parts[0], g.one("Sigmoid", {parts[0]}, in)}, in);
    return g.one("MatMul", {g.one("Mul", {act, parts[1]}, in), g.weight({experts, inter, hidden})},
                 rows.type);
  }
  Typed single(Typed rows, const std::string &in) {
    return ffn(rows, g.weight({hidden, inter}), g.weight({inter}), g.weight({inter, hidden}), in);
  }

  void check(Typed result, int layers, const std::vector<std::string> &ops = {}) {
    std::string text = g.module({result});
    SCOPED_TRACE(text);
    mlir::MLIRContext context;
    auto module = parse(text, context);
    ASSERT_TRUE(module);
    std::vector<reference::Array> inputs{randomArray(sizes, g.random)};
    auto before = evaluate(*module, inputs);
    ASSERT_TRUE(run(*module, kPipeline));
    EXPECT_EQ(countOps(*module, "moe.experts"), layers);
    for (const std::string &op : ops)
      EXPECT_EQ(countOps(*module, op), layers) << op;
    EXPECT_LT(difference(before, evaluate(*module, inputs)), 1e-5);
  }
};

template <class Body>
void eachSeed(Body body) {
  for (unsigned seed = 0; seed < 20 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Graph graph(seed);
    body(graph);
  }
}

/// Slots of each sequence of a batch [?, ?, hidden]; `order` gives the expert of a part.
void batch(Graph &m, bool stacks, bool swapped) {
  int64_t e = m.experts, p = m.each, h = m.hidden, s = e * p;
  m.x = m.g.argument(typed({-1, -1, h}));
  m.sizes = {m.g.between(1, 3), m.g.between(1, 6), h};
  Typed z = m.g.one("MatMul", {m.x, m.g.weight({h, s}, 2)}, typed({-1, -1, s}));
  Typed shares = m.turned(m.softmax(z, 1), "0, 2, 1", typed({-1, s, -1}));
  Typed slots = m.g.one("MatMul", {shares, m.x}, typed({-1, s, h}));
  Typed y;
  if (stacks) {
    Typed v = m.turned(m.reshape(slots, {-1, e, p, h}), "1, 0, 2, 3", typed({e, -1, p, h}));
    if (swapped) // an expert's matrix meets slots of all experts
      v = m.turned(v, "2, 1, 0, 3", typed({p, -1, e, h}));
    v = m.stacked(m.reshape(v, {e, -1, h}), typed({e, -1, m.inter}));
    v = m.turned(m.reshape(v, {e, -1, p, h}), "1, 0, 2, 3", typed({-1, e, p, h}));
    y = m.reshape(v, {-1, s, h});
  } else {
    std::vector<Typed> parts;
    for (int64_t i = 0; i < e; ++i) {
      Typed mine =
          m.g.one("Slice",
                  {slots, m.g.ints({i * p}), m.g.ints({(i + 1) * p}), m.g.ints({1}), m.g.ints({1})},
                  typed({-1, p, h}));
      parts.push_back(m.single(mine, typed({-1, p, m.inter})));
    }
    if (swapped)
      std::swap(parts[0], parts[1]);
    y = m.g.one("Concat", parts, slots.type, "axis = 1 : i64");
  }
  m.check(m.g.one("MatMul", {m.softmax(z, 2), y}, m.x.type), swapped ? 0 : 1);
}

TEST(OwnRows, SlotsOfABatchInParts) {
  eachSeed([](Graph &m) { batch(m, false, false); });
}
TEST(OwnRows, SlotsOfABatchStacked) {
  eachSeed([](Graph &m) { batch(m, true, false); });
}
TEST(OwnRows, SlotsInAnotherOrderAreRefused) {
  eachSeed([](Graph &m) { batch(m, false, true); });
}
TEST(OwnRows, SlotsOfOtherExpertsAreRefused) {
  eachSeed([](Graph &m) {
    m.experts = m.each = m.g.between(2, 3);
    batch(m, true, true);
  });
}

TEST(OwnRows, SlotsOfOneSequence) {
  eachSeed([](Graph &m) {
    int64_t s = m.experts * m.each;
    m.x = m.g.argument(typed({-1, m.hidden}));
    m.sizes = {m.g.between(1, 6), m.hidden};
    Typed z = m.g.one("MatMul", {m.x, m.g.weight({m.hidden, s}, 2)}, typed({-1, s}));
    Typed shares = m.turned(m.softmax(z, 0), "1, 0", typed({s, -1}));
    Typed slots = m.g.one("MatMul", {shares, m.x}, typed({s, m.hidden}));
    Typed v = m.stacked(m.reshape(slots, {m.experts, m.each, m.hidden}),
                        typed({m.experts, m.each, m.inter}));
    Typed y = m.g.one("MatMul", {m.softmax(z, -1), m.reshape(v, {s, m.hidden})}, m.x.type);
    m.check(y, 1, {"moe.soft_dispatch", "moe.soft_combine"});
  });
}

/// Experts choose `each` tokens; one scatter of all, or one for each expert.
void choice(Graph &m, bool stacks, bool adds, bool byToken) {
  int64_t e = m.experts, c = m.each, h = m.hidden;
  m.x = m.g.argument(typed({-1, h}));
  m.sizes = {m.g.between(c, 7), h};
  Typed z = m.g.one("MatMul", {m.x, m.g.weight({h, e}, 2)}, typed({-1, e}));
  Typed p = m.softmax(z, -1);
  std::vector<int64_t> top = byToken ? std::vector<int64_t>{c, e} : std::vector<int64_t>{e, c};
  auto chosen = m.g.op("TopK", {byToken ? p : m.turned(p, "1, 0", typed({e, -1})), m.g.ints({c})},
                       {typed(top), typed(top, "i64")},
                       std::string("largest = 1 : i64, sorted = 1 : i64, axis = ") +
                           (byToken ? "0" : "1") + " : i64");
  if (byToken) {
    chosen[0] = m.turned(chosen[0], "1, 0", typed({e, c}));
    chosen[1] = m.turned(chosen[1], "1, 0", typed({e, c}, "i64"));
  }
  Typed shape = m.g.one("Shape", {m.x}, typed({2}, "i64"), "start = 0 : i64");
  Typed y = m.g.one("Expand", {m.g.number(0), shape}, m.x.type);
  std::string how = adds ? "reduction = \"add\"" : "reduction = \"none\"";
  auto unsqueeze = [&](Typed v, const std::string &type) {
    return m.g.one("Unsqueeze", {v, m.g.ints({-1})}, type);
  };
  if (stacks) {
    Typed rows = m.g.one("Gather", {m.x, chosen[1]}, typed({e, c, h}), "axis = 0 : i64");
    Typed v = m.stacked(rows, typed({e, c, m.inter}));
    v = m.g.one("Mul", {unsqueeze(chosen[0], typed({e, c, 1})), v}, v.type);
    Typed ids = unsqueeze(chosen[1], typed({e, c, 1}, "i64"));
    return m.check(m.g.one("ScatterND", {y, ids, v}, m.x.type, how), adds ? 1 : 0, {"moe.choose"});
  }
  for (int64_t i = 0; i < e; ++i) {
    auto mine = [&](Typed v, const char *element) {
      return m.g.one("Gather", {v, m.g.scalar(i)}, typed({c}, element), "axis = 0 : i64");
    };
    Typed ids = mine(chosen[1], "i64");
    Typed rows = m.g.one("Gather", {m.x, ids}, typed({c, h}), "axis = 0 : i64");
    Typed v = m.single(rows, typed({c, m.inter}));
    v = m.g.one("Mul", {v, unsqueeze(mine(chosen[0], "f32"), typed({c, 1}))}, v.type);
    Typed all = m.g.one("Expand", {unsqueeze(ids, typed({c, 1}, "i64")), m.g.ints({c, h})},
                        typed({c, h}, "i64"));
    Typed data = adds ? y : m.g.one("Expand", {m.g.number(0), shape}, m.x.type);
    Typed term = m.g.one("ScatterElements", {data, all, v}, m.x.type, "axis = 0 : i64, " + how);
    y = adds ? term : m.g.one("Add", {y, term}, m.x.type);
  }
  m.check(y, 1, {"moe.choose"});
}

TEST(OwnRows, ChosenTokensStacked) {
  eachSeed([](Graph &m) { choice(m, true, true, m.g.coin()); });
}
TEST(OwnRows, ChosenTokensOneExpertAtATime) {
  eachSeed([](Graph &m) { choice(m, false, true, m.g.coin()); });
}
TEST(OwnRows, ChosenTokensWithoutReduction) {
  eachSeed([](Graph &m) { choice(m, false, false, m.g.coin()); });
}
// Tokens are picked and results added up by products with one-hot rows.
TEST(OwnRows, ChosenTokensByOneHotRows) {
  eachSeed([](Graph &m) {
    int64_t e = m.experts, c = m.each, h = m.hidden, t = m.g.between(std::max<int64_t>(c, 2), 7);
    m.x = m.g.argument(typed({t, h}));
    m.sizes = {t, h};
    Typed p = m.softmax(m.g.one("MatMul", {m.x, m.g.weight({h, e}, 2)}, typed({t, e})), -1);
    auto chosen = m.g.op("TopK", {m.turned(p, "1, 0", typed({e, t})), m.g.ints({c})},
                         {typed({e, c}), typed({e, c}, "i64")},
                         "largest = 1 : i64, sorted = 1 : i64, axis = 1 : i64");
    auto unsqueeze = [&](Typed v, int64_t axis, const std::string &type) {
      return m.g.one("Unsqueeze", {v, m.g.ints({axis})}, type);
    };
    std::vector<int64_t> all;
    for (int64_t i = 0; i < t; ++i)
      all.push_back(i);
    Typed same =
        m.g.one("Equal", {unsqueeze(chosen[1], -1, typed({e, c, 1}, "i64")), m.g.ints(all)},
                typed({e, c, t}, "i1"));
    Typed hot = m.g.one("Cast", {same}, typed({e, c, t}), "to = 1 : i64");
    Typed v = m.stacked(m.g.one("MatMul", {hot, m.x}, typed({e, c, h})), typed({e, c, m.inter}));
    hot = m.turned(hot, "2, 0, 1", typed({t, e, c}));
    bool early = m.g.coin();
    if (early)
      hot = m.g.one("Mul", {hot, unsqueeze(chosen[0], 0, typed({1, e, c}))}, hot.type);
    else
      v = m.g.one("Mul", {v, unsqueeze(chosen[0], -1, typed({e, c, 1}))}, v.type);
    Typed y = m.g.one("MatMul", {m.reshape(hot, {t, e * c}), m.reshape(v, {e * c, h})}, m.x.type);
    m.check(y, 1, {"moe.choose"});
  });
}
TEST(OwnRows, TokensThatOverwriteAreRefused) {
  eachSeed([](Graph &m) { choice(m, true, false, m.g.coin()); });
}

} // namespace
