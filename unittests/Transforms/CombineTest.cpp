// Ways of bringing the experts' results together keep their values when they are
// raised: dense weights, masks, picks, sorted cuts, capacities.
#include "GraphText.h"
#include "gtest/gtest.h"

using namespace moec;
using namespace moec::test;

namespace {

constexpr const char *kPipeline =
    "canonicalize,cse,decompose-onnx,fold-weights,raise-moe{remarks=false},canonicalize,cse,"
    "share-experts,canonicalize,cse,fold-weights";
constexpr const char *kKeep = "keepdims = 1 : i64, noop_with_empty_axes = 0 : i64";
constexpr const char *kDrop = "keepdims = 0 : i64, noop_with_empty_axes = 0 : i64";

std::string typed(std::vector<int64_t> dims, const char *element = "f32") {
  return tensor(dims, element);
}

/// Two-layer experts over tokens x [?, hidden], and what routes to them.
struct Graph {
  explicit Graph(unsigned seed)
      : g(seed), experts(g.between(2, 4)), hidden(g.between(2, 5)), inter(g.between(2, 4)),
        x(g.argument(typed({-1, hidden}))), up(g.weight({experts, inter, hidden})),
        down(g.weight({experts, hidden, inter})) {}

  GraphText g;
  int64_t experts, hidden, inter;
  Typed x, up, down;

  Typed matrix(Typed stack, int64_t e, int64_t n, int64_t k) {
    return g.one("Gather", {stack, g.scalar(e)}, typed({n, k}), "axis = 0 : i64");
  }
  Typed linear(Typed rows, Typed w, int64_t n) {
    return g.one("Gemm", {rows, w, g.none()}, typed({-1, n}),
                 "alpha = 1.0 : f32, beta = 1.0 : f32, transA = 0 : i64, transB = 1 : i64");
  }
  Typed expert(Typed rows, int64_t e) {
    Typed h = linear(rows, matrix(up, e, inter, hidden), inter);
    h = g.one("Relu", {h}, h.type);
    return linear(h, matrix(down, e, hidden, inter), hidden);
  }
  Typed logits() {
    return g.one("MatMul", {x, g.weight({hidden, experts}, 2)}, typed({-1, experts}));
  }
  Typed softmax(Typed z) { return g.one("Softmax", {z}, z.type, "axis = -1 : i64"); }
  Typed zeros() {
    Typed shape = g.one("Shape", {x}, typed({2}, "i64"), "start = 0 : i64");
    return g.one("Expand", {g.number(0), shape}, x.type);
  }
  Typed column(Typed w, int64_t e) {
    return g.one("Slice", {w, g.ints({e}), g.ints({e + 1}), g.ints({1}), g.ints({1})},
                 typed({-1, 1}));
  }
  Typed unsqueeze(Typed v, int64_t axis, const std::string &type) {
    return g.one("Unsqueeze", {v, g.ints({axis})}, type);
  }
  std::vector<Typed> topk(Typed scores, int64_t k) {
    return g.op("TopK", {scores, g.ints({k})}, {typed({-1, k}), typed({-1, k}, "i64")},
                "axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64");
  }
  std::vector<int64_t> iota(int64_t n) {
    std::vector<int64_t> out;
    for (int64_t i = 0; i < n; ++i)
      out.push_back(i);
    return out;
  }

  /// The sum over experts under dense weights [?, experts], one by one.
  Typed weighed(Typed w) {
    Typed sum;
    for (int64_t e = 0; e < experts; ++e) {
      Typed term = g.one("Mul", {expert(x, e), column(w, e)}, x.type);
      sum = e == 0 ? term : g.one("Add", {sum, term}, x.type);
    }
    return sum;
  }

  /// Runs before and after the passes.
  void check(const std::vector<Typed> &results, int layers, int64_t most = 7) {
    std::string text = g.module(results);
    SCOPED_TRACE(text);
    mlir::MLIRContext context;
    auto module = parse(text, context);
    ASSERT_TRUE(module);
    std::vector<reference::Array> inputs{randomArray({g.between(0, most), hidden}, g.random)};
    auto before = evaluate(*module, inputs);
    ASSERT_TRUE(run(*module, kPipeline));
    EXPECT_EQ(countOps(*module, "moe.experts"), layers);
    EXPECT_LT(difference(before, evaluate(*module, inputs)), 1e-5);
  }
};

template <class Build>
void eachSeed(int layers, Build build) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Graph graph(seed);
    graph.check(build(graph), layers);
    if (testing::Test::HasFailure())
      return;
  }
}

TEST(Combine, DenseWeightsOfAnyOrigin) {
  eachSeed(1, [](Graph &m) {
    Typed z = m.logits();
    Typed w = m.g.coin() ? m.g.one("Relu", {z}, z.type) : m.softmax(z);
    return std::vector<Typed>{m.weighed(w)};
  });
}

// Tokens whose weight is above 0: those below 0 are left out, not subtracted.
TEST(Combine, HitsByPositiveWeights) {
  eachSeed(1, [](Graph &m) {
    Typed w = m.g.one("Tanh", {m.softmax(m.logits())}, typed({-1, m.experts}));
    w = m.g.one("Sub", {w, m.g.number(0.3)}, w.type);
    Typed sum = m.zeros();
    for (int64_t e = 0; e < m.experts; ++e) {
      Typed mine = m.g.one("Gather", {w, m.g.scalar(e)}, typed({-1}), "axis = 1 : i64");
      Typed some = m.g.one("Greater", {mine, m.g.number(0)}, typed({-1}, "i1"));
      Typed found = m.g.one("Transpose", {m.g.one("NonZero", {some}, typed({1, -1}, "i64"))},
                            typed({-1, 1}, "i64"), "perm = array<i64: 1, 0>");
      Typed rows = m.g.one("GatherND", {m.x, found}, m.x.type, "batch_dims = 0 : i64");
      Typed weight = m.g.one("GatherND", {mine, found}, typed({-1}), "batch_dims = 0 : i64");
      Typed y =
          m.g.one("Mul", {m.expert(rows, e), m.unsqueeze(weight, -1, typed({-1, 1}))}, m.x.type);
      sum = m.g.one("ScatterND", {sum, found, y}, m.x.type, "reduction = \"add\"");
    }
    return std::vector<Typed>{sum};
  });
}

// Two gates over experts of which they share some: these run once.
TEST(Combine, GatesOverSharedExperts) {
  eachSeed(1, [](Graph &m) {
    std::vector<Typed> all, results;
    for (int64_t e = 0; e < m.experts; ++e)
      all.push_back(m.unsqueeze(m.expert(m.x, e), 1, typed({-1, 1, m.hidden})));
    for (int gate : {0, 1}) {
      std::vector<Typed> mine(all.begin() + (gate && all.size() > 2 ? 1 : 0), all.end());
      auto n = static_cast<int64_t>(mine.size());
      Typed stack = m.g.one("Concat", mine, typed({-1, n, m.hidden}), "axis = 1 : i64");
      Typed z = m.g.one("MatMul", {m.x, m.g.weight({m.hidden, n}, 2)}, typed({-1, n}));
      Typed y = m.g.one("MatMul", {m.unsqueeze(m.softmax(z), 1, typed({-1, 1, n})), stack},
                        typed({-1, 1, m.hidden}));
      results.push_back(m.g.one("Squeeze", {y, m.g.ints({1})}, m.x.type));
    }
    return results;
  });
}

// For each slot a chain of Where over all experts.
TEST(Combine, PickedByWhere) {
  eachSeed(1, [](Graph &m) {
    int64_t k = m.g.between(2, m.experts);
    auto top = m.topk(m.softmax(m.logits()), k);
    std::vector<Typed> all;
    for (int64_t e = 0; e < m.experts; ++e)
      all.push_back(m.expert(m.x, e));
    Typed sum;
    for (int64_t j = 0; j < k; ++j) {
      Typed id = m.g.one("Gather", {top[1], m.g.scalar(j)}, typed({-1}, "i64"), "axis = 1 : i64");
      Typed y = m.zeros();
      for (int64_t e = 0; e < m.experts; ++e) {
        Typed hit = m.g.one("Equal", {id, m.g.scalar(e)}, typed({-1}, "i1"));
        y = m.g.one("Where", {m.unsqueeze(hit, -1, typed({-1, 1}, "i1")), all[e], y}, m.x.type);
      }
      y = m.g.one("Mul", {m.column(top[0], j), y}, m.x.type);
      sum = j == 0 ? y : m.g.one("Add", {sum, y}, m.x.type);
    }
    return std::vector<Typed>{sum};
  });
}

// For each slot the matrices of its expert.
TEST(Combine, GatheredSlotBySlot) {
  eachSeed(1, [](Graph &m) {
    int64_t k = m.g.between(2, m.experts);
    auto top = m.topk(m.softmax(m.logits()), k);
    Typed sum;
    for (int64_t j = 0; j < k; ++j) {
      Typed id = m.g.one("Gather", {top[1], m.g.scalar(j)}, typed({-1}, "i64"), "axis = 1 : i64");
      auto product = [&](Typed rows, Typed stack, int64_t n, int64_t in) {
        Typed w = m.g.one("Gather", {stack, id}, typed({-1, n, in}), "axis = 0 : i64");
        Typed y =
            m.g.one("MatMul", {w, m.unsqueeze(rows, 2, typed({-1, in, 1}))}, typed({-1, n, 1}));
        return m.g.one("Squeeze", {y, m.g.ints({2})}, typed({-1, n}));
      };
      Typed h = product(m.x, m.up, m.inter, m.hidden);
      h = product(m.g.one("Relu", {h}, h.type), m.down, m.hidden, m.inter);
      Typed y = m.g.one("Mul", {h, m.column(top[0], j)}, m.x.type);
      sum = j == 0 ? y : m.g.one("Add", {sum, y}, m.x.type);
    }
    return std::vector<Typed>{sum};
  });
}

// The weight multiplies in front of the last layer; terms are summed by Sum, or
// stand side by side.
TEST(Combine, WeightsBeforeTheLastLayer) {
  eachSeed(1, [](Graph &m) {
    int64_t k = m.g.between(1, m.experts), how = m.g.between(0, 2);
    auto top = m.topk(m.softmax(m.logits()), k);
    std::vector<Typed> terms;
    for (int64_t e = 0; e < m.experts; ++e) {
      Typed hit = m.g.one("Equal", {top[1], m.g.scalar(e)}, typed({-1, k}, "i1"));
      Typed w = m.g.one("Where", {hit, top[0], m.g.number(0)}, top[0].type);
      w = m.g.one("ReduceSum", {w, m.g.ints({-1})}, typed({-1, 1}), kKeep);
      Typed h = m.linear(m.x, m.matrix(m.up, e, m.inter, m.hidden), m.inter);
      h = m.g.one("Mul", {m.g.one("Relu", {h}, h.type), w}, h.type);
      terms.push_back(m.linear(h, m.matrix(m.down, e, m.hidden, m.inter), m.hidden));
    }
    if (how == 0)
      return std::vector<Typed>{m.g.one("Sum", terms, m.x.type)};
    if (how == 1) {
      Typed sum = m.zeros();
      for (const Typed &term : terms)
        sum = m.g.one("Add", {sum, term}, m.x.type);
      return std::vector<Typed>{sum};
    }
    for (Typed &term : terms)
      term = m.unsqueeze(term, 0, typed({1, -1, m.hidden}));
    Typed all = m.g.one("Concat", terms, typed({m.experts, -1, m.hidden}), "axis = 0 : i64");
    return std::vector<Typed>{m.g.one("ReduceSum", {all, m.g.ints({0})}, m.x.type, kDrop)};
  });
}

// One matrix [K, H, E] or [K, H * E] gives the features of all experts, experts
// last; each gate weighs them and sums over the last axis.
TEST(Combine, ExpertsThatStandLast) {
  eachSeed(1, [](Graph &m) {
    int64_t e = m.experts, h = m.inter;
    Typed wide;
    if (m.g.coin())
      wide = m.g.one("Einsum", {m.x, m.g.weight({m.hidden, h, e})}, typed({-1, h, e}),
                     "equation = \"td,dhe->the\"");
    else
      wide = m.g.one("Reshape",
                     {m.g.one("MatMul", {m.x, m.g.weight({m.hidden, h * e})}, typed({-1, h * e})),
                      m.g.ints({-1, h, e})},
                     typed({-1, h, e}), "allowzero = 0 : i64");
    Typed bias = m.g.coin() ? m.g.weight({e}) : m.g.weight({h, e});
    wide = m.g.one("Add", {wide, bias}, wide.type);
    wide = m.g.one(m.g.coin() ? "Relu" : "Tanh", {wide}, wide.type);
    Typed gate = m.unsqueeze(m.softmax(m.logits()), 1, typed({-1, 1, e}));
    if (m.g.coin())
      gate = m.g.one("Concat", std::vector<Typed>(h, gate), wide.type, "axis = 1 : i64");
    Typed all = m.g.one("Mul", {wide, gate}, wide.type);
    return std::vector<Typed>{m.g.one("ReduceSum", {all, m.g.ints({2})}, typed({-1, h}), kDrop)};
  });
}

// Slots sorted by expert, cut by Split, and added to their tokens.
TEST(Combine, SortedSlotsCutBySplit) {
  eachSeed(1, [](Graph &m) {
    int64_t k = m.g.between(1, m.experts);
    std::string i64 = typed({-1}, "i64");
    auto top = m.topk(m.softmax(m.logits()), k);
    Typed flat = m.g.one("Reshape", {top[1], m.g.ints({-1})}, i64);
    Typed size = m.g.one("Shape", {flat}, typed({1}, "i64"), "start = 0 : i64");
    Typed perm = m.g.op("TopK", {flat, size}, {i64, i64},
                        "axis = 0 : i64, largest = 0 : i64, sorted = 1 : i64")[1];
    Typed hot = m.g.one("OneHot", {flat, m.g.scalar(m.experts), m.g.ints({0, 1})},
                        typed({-1, m.experts}, "i64"), "axis = -1 : i64");
    Typed counts = m.g.one("ReduceSum", {hot, m.g.ints({0})}, typed({m.experts}, "i64"), kDrop);
    Typed token =
        m.unsqueeze(m.g.one("Div", {perm, m.g.scalar(k)}, i64), -1, typed({-1, 1}, "i64"));
    Typed rows = m.g.one("GatherND", {m.x, token}, m.x.type, "batch_dims = 0 : i64");
    auto parts = m.g.op("Split", {rows, counts}, std::vector<std::string>(m.experts, m.x.type),
                        "axis = 0 : i64");
    for (int64_t e = 0; e < m.experts; ++e)
      parts[e] = m.expert(parts[e], e);
    Typed y = m.g.one("Concat", parts, m.x.type, "axis = 0 : i64");
    Typed w = m.g.one("Reshape", {top[0], m.g.ints({-1})}, typed({-1}));
    w = m.g.one("Gather", {w, perm}, typed({-1}), "axis = 0 : i64");
    y = m.g.one("Mul", {y, m.unsqueeze(w, 1, typed({-1, 1}))}, m.x.type);
    return std::vector<Typed>{
        m.g.one("ScatterND", {m.zeros(), token, y}, m.x.type, "reduction = \"add\"")};
  });
}

// Experts with a number of places; tokens beyond it are dropped.
struct Capacity : Graph {
  using Graph::Graph;
  int64_t places = g.between(1, 4);

  std::string scores(const char *element = "f32") { return typed({-1, experts}, element); }
  Typed cast(Typed v, const std::string &type) { return g.one("Cast", {v}, type, "to = 1 : i64"); }
  Typed choice(Typed ids) {
    return cast(
        g.one("OneHot", {ids, g.scalar(experts), g.ints({0, 1})}, scores("i64"), "axis = -1 : i64"),
        scores());
  }
  Typed ranks(Typed mask) {
    Typed sum =
        g.one("CumSum", {mask, g.scalar(0)}, scores(), "exclusive = 0 : i64, reverse = 0 : i64");
    return g.one("Sub", {sum, g.number(1)}, scores());
  }
  Typed keep(Typed mask, Typed rank) {
    Typed fits = g.one("Less", {rank, g.number(static_cast<double>(places))}, scores("i1"));
    return g.one("Mul", {mask, cast(fits, scores())}, scores());
  }
  Typed sumOver(Typed v) { return g.one("ReduceSum", {v, g.ints({1})}, typed({-1}), kDrop); }
  // weights [?, experts] at the token's place: [?, experts, places]
  Typed dispatch(Typed weights, Typed rank, Typed kept) {
    Typed place = sumOver(g.one("Mul", {rank, kept}, scores()));
    place = g.one("Cast", {place}, typed({-1}, "i64"), "to = 7 : i64");
    Typed hot = g.one("OneHot", {place, g.scalar(places), g.ints({0, 1})},
                      typed({-1, places}, "i64"), "axis = -1 : i64");
    hot = unsqueeze(cast(hot, typed({-1, places})), 1, typed({-1, 1, places}));
    return g.one("Mul", {unsqueeze(weights, -1, typed({-1, experts, 1})), hot},
                 typed({-1, experts, places}));
  }
  Typed combined(Typed d) {
    std::string type = typed({-1, experts, places});
    Typed some = cast(g.one("Greater", {d, g.number(0)}, typed({-1, experts, places}, "i1")), type);
    Typed buckets =
        g.one("Einsum", {some, x}, typed({experts, places, hidden}), "equation = \"sec,sm->ecm\"");
    Typed h = g.one("Einsum", {buckets, up}, typed({experts, places, inter}),
                    "equation = \"ecm,efm->ecf\"");
    h = g.one("Relu", {h}, h.type);
    Typed y = g.one("Einsum", {h, down}, buckets.type, "equation = \"ecf,emf->ecm\"");
    return g.one("Einsum", {d, y}, x.type, "equation = \"sec,ecm->sm\"");
  }
};

TEST(Combine, Capacities) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Capacity m(seed);
    Typed p = m.softmax(m.logits());
    std::string ids = typed({-1}, "i64");
    std::string best = "axis = 1 : i64, keepdims = 0 : i64, select_last_index = 0 : i64";
    Typed first = m.choice(m.g.one("ArgMax", {p}, ids, best));
    Typed rank = m.ranks(first), kept = m.keep(first, rank);
    Typed weight = m.unsqueeze(m.sumOver(m.g.one("Mul", {p, kept}, p.type)), -1, typed({-1, 1}));
    Typed d = m.dispatch(m.g.one("Mul", {weight, kept}, p.type), rank, kept);
    if (m.g.coin()) { // second choices stand behind the first
      Typed rest = m.g.one(
          "Where", {m.g.one("Cast", {first}, m.scores("i1"), "to = 9 : i64"), m.g.number(-1), p},
          p.type);
      Typed second = m.choice(m.g.one("ArgMax", {rest}, ids, best));
      Typed count = m.g.one("ReduceSum", {first, m.g.ints({0})}, typed({1, m.experts}), kKeep);
      rank = m.g.one("Add", {m.ranks(second), count}, p.type);
      kept = m.keep(second, rank);
      weight = m.unsqueeze(m.sumOver(m.g.one("Mul", {p, kept}, p.type)), -1, typed({-1, 1}));
      d = m.g.one("Add", {d, m.dispatch(m.g.one("Mul", {weight, kept}, p.type), rank, kept)},
                  d.type);
    }
    m.check({m.combined(d)}, 1, 12);
    if (HasFailure())
      return;
  }
}

} // namespace
