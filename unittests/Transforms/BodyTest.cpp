// Experts that are no feed-forward formula keep their values when they are
// raised: any operations, convolutions, several kinds, contexts, low rank.
#include "GraphText.h"
#include "gtest/gtest.h"

using namespace moec;
using namespace moec::test;

namespace {

constexpr const char *kPipeline =
    "canonicalize,cse,decompose-onnx,fold-weights,raise-moe{remarks=false},canonicalize,cse,fold-weights";
constexpr const char *kKeep = "keepdims = 1 : i64, noop_with_empty_axes = 0 : i64";
constexpr const char *kDrop = "keepdims = 0 : i64, noop_with_empty_axes = 0 : i64";

std::string typed(std::vector<int64_t> dims, const char *element = "f32") {
  return tensor(dims, element);
}

struct Graph {
  explicit Graph(unsigned seed)
      : g(seed), experts(g.between(2, 4)), hidden(g.between(2, 5)), inter(g.between(2, 4)) {}

  GraphText g;
  int64_t experts, hidden, inter;
  std::vector<std::vector<int64_t>> inputs; // shapes

  Typed input(std::vector<int64_t> dims) {
    Typed x = g.argument(typed(dims));
    for (int64_t &d : dims)
      d = d < 0 ? 3 : d;
    dims[0] = rows;
    inputs.push_back(dims);
    return x;
  }
  int64_t rows = g.between(1, 6);

  Typed linear(Typed x, int64_t in, int64_t out) {
    return g.one("MatMul", {x, g.weight({in, out})}, typed({-1, out}));
  }
  Typed unary(const char *name, Typed x) { return g.one(name, {x}, x.type); }
  Typed mul(Typed a, Typed b, const std::string &type) { return g.one("Mul", {a, b}, type); }
  Typed silu(Typed x) { return mul(x, unary("Sigmoid", x), x.type); }
  Typed weights(Typed x) {
    Typed z = linear(x, hidden, experts);
    return g.one("Softmax", {z}, z.type, "axis = -1 : i64");
  }
  Typed column(Typed w, int64_t e) {
    return g.one("Slice", {w, g.ints({e}), g.ints({e + 1}), g.ints({1}), g.ints({1})},
                 typed({-1, 1}));
  }
  /// The sum of the experts' results under dense weights [?, experts].
  template <class Expert>
  Typed weighed(Typed w, const std::string &type, Expert expert) {
    Typed sum;
    for (int64_t e = 0; e < experts; ++e) {
      Typed term = mul(expert(e), column(w, e), type);
      sum = e == 0 ? term : g.one("Add", {sum, term}, type);
    }
    return sum;
  }

  void check(Typed result, int layers, const std::string &wanted) {
    std::string text = g.module({result});
    SCOPED_TRACE(text);
    mlir::MLIRContext context;
    auto module = parse(text, context);
    ASSERT_TRUE(module);
    std::vector<reference::Array> arrays;
    for (auto &shape : inputs)
      arrays.push_back(randomArray(shape, g.random));
    auto before = evaluate(*module, arrays);
    ASSERT_TRUE(run(*module, kPipeline));
    EXPECT_EQ(countOps(*module, "moe.experts"), layers);
    EXPECT_LT(difference(before, evaluate(*module, arrays)), 1e-4);
    std::string after;
    llvm::raw_string_ostream(after) << *module;
    EXPECT_NE(after.find(wanted), std::string::npos) << after;
  }
};

template <class Build>
void eachSeed(int layers, const std::string &wanted, Build build) {
  for (unsigned seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Graph graph(seed);
    graph.check(build(graph), layers, wanted);
    if (testing::Test::HasFailure())
      return;
  }
}

// Clamped behind the activation, a norm between the layers, a scale at the end.
TEST(Body, AnyOperations) {
  eachSeed(1, "moe.yield", [](Graph &m) {
    Typed x = m.input({-1, m.hidden});
    bool norm = m.g.coin(), scale = m.g.coin();
    return m.weighed(m.weights(x), x.type, [&](int64_t) {
      Typed h = m.silu(m.linear(x, m.hidden, m.inter));
      h = m.g.one("Clip", {h, m.g.number(-0.1), m.g.number(0.4)}, h.type);
      if (norm) {
        Typed mean = m.g.one("ReduceMean", {m.mul(h, h, h.type), m.g.ints({-1})}, typed({-1, 1}),
                             kKeep);
        mean = m.g.one("Sqrt", {m.g.one("Add", {mean, m.g.number(0.1)}, mean.type)}, mean.type);
        h = m.g.one("Div", {h, mean}, h.type);
      }
      Typed y = m.linear(h, m.inter, m.hidden);
      return scale ? m.mul(y, m.g.weight({m.hidden}), y.type) : y;
    });
  });
}

// Samples of several axes; an expert with another kernel is a kind of its own.
TEST(Body, Convolutions) {
  eachSeed(1, "hidden(0)", [](Graph &m) {
    Typed x = m.input({-1, 2, 4, 4});
    Typed mean = m.g.one("ReduceMean", {x, m.g.ints({2, 3})}, typed({-1, 2}), kDrop);
    Typed z = m.linear(mean, 2, m.experts);
    Typed w = m.g.one("Softmax", {z}, z.type, "axis = -1 : i64");
    int64_t wide = m.g.between(0, m.experts);
    Typed sum;
    for (int64_t e = 0; e < m.experts; ++e) {
      int64_t size = e == wide ? 3 : 1, pad = size / 2;
      std::string p = std::to_string(pad), s = std::to_string(size);
      Typed y = m.g.one("Conv", {x, m.g.weight({2, 2, size, size}), m.g.none()}, x.type,
                        "dilations = array<i64: 1, 1>, group = 1 : i64, kernel_shape = array<i64: " +
                            s + ", " + s + ">, pads = array<i64: " + p + ", " + p + ", " + p +
                            ", " + p + ">, strides = array<i64: 1, 1>");
      y = m.unary("Relu", y);
      Typed c = m.g.one("Reshape", {m.column(w, e), m.g.ints({-1, 1, 1, 1})}, typed({-1, 1, 1, 1}));
      Typed term = m.mul(y, c, x.type);
      sum = e == 0 ? term : m.g.one("Add", {sum, term}, x.type);
    }
    return sum;
  });
}

// What several experts read is computed once, outside of them.
TEST(Body, SharedBaseAndLowRank) {
  eachSeed(1, "contexts = [\"rows\"]", [](Graph &m) {
    Typed x = m.input({-1, m.hidden});
    Typed base = m.linear(x, m.hidden, m.inter);
    return m.weighed(m.weights(x), x.type, [&](int64_t) {
      Typed delta = m.linear(m.linear(x, m.hidden, 1), 1, m.inter);
      Typed h = m.silu(m.g.one("Add", {base, delta}, base.type));
      return m.linear(h, m.inter, m.hidden);
    });
  });
}

TEST(Body, DifferentInnerSizes) {
  eachSeed(1, "widths([", [](Graph &m) {
    Typed x = m.input({-1, m.hidden});
    return m.weighed(m.weights(x), x.type, [&](int64_t e) {
      return m.linear(m.unary("Relu", m.linear(x, m.hidden, 1 + e)), 1 + e, m.hidden);
    });
  });
}

// All experts at once, in batched products, to another size.
TEST(Body, BatchedToAnotherSize) {
  eachSeed(1, "moe.yield", [](Graph &m) {
    Typed x = m.input({-1, m.hidden});
    int64_t out = m.hidden + 1;
    Typed h = m.g.one("MatMul", {x, m.g.weight({m.experts, m.hidden, m.inter})},
                      typed({m.experts, -1, m.inter}));
    h = m.unary("Tanh", h);
    h = m.g.one("MatMul", {h, m.g.weight({m.experts, m.inter, out})}, typed({m.experts, -1, out}));
    h = m.g.one("Transpose", {h}, typed({-1, m.experts, out}), "perm = array<i64: 1, 0, 2>");
    Typed w = m.g.one("Unsqueeze", {m.weights(x), m.g.ints({2})}, typed({-1, m.experts, 1}));
    return m.g.one("ReduceSum", {m.mul(h, w, h.type), m.g.ints({1})}, typed({-1, out}), kDrop);
  });
}

// Vectors of the chosen experts scale and shift what all share.
TEST(Body, ScaleAndShift) {
  eachSeed(1, "moe.yield", [](Graph &m) {
    Typed x = m.input({-1, m.hidden});
    Typed h = m.unary("Tanh", m.linear(x, m.hidden, m.inter));
    auto top = m.g.op("TopK", {m.weights(x), m.g.ints({2})}, {typed({-1, 2}), typed({-1, 2}, "i64")},
                      "axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64");
    auto vectors = [&] {
      return m.g.one("Gather", {m.g.weight({m.experts, m.inter}), top[1]}, typed({-1, 2, m.inter}),
                     "axis = 0 : i64");
    };
    Typed each = m.g.one("Unsqueeze", {h, m.g.ints({1})}, typed({-1, 1, m.inter}));
    std::string slots = typed({-1, 2, m.inter});
    Typed y = m.g.one("Add", {m.mul(each, vectors(), slots), vectors()}, slots);
    Typed w = m.g.one("Unsqueeze", {top[0], m.g.ints({2})}, typed({-1, 2, 1}));
    return m.g.one("ReduceSum", {m.mul(y, w, slots), m.g.ints({1})}, h.type, kDrop);
  });
}

// A softmax over the tokens is no expert's own business.
TEST(Body, MixedTokensAreRefused) {
  eachSeed(0, "onnx.Softmax", [](Graph &m) {
    Typed x = m.input({-1, m.hidden});
    return m.weighed(m.weights(x), x.type, [&](int64_t) {
      Typed h = m.linear(x, m.hidden, m.inter);
      h = m.g.one("Softmax", {h}, h.type, "axis = 0 : i64");
      return m.linear(h, m.inter, m.hidden);
    });
  });
}

// Parts of a token under weights are no experts.
TEST(Body, PartsWithoutParametersAreRefused) {
  eachSeed(0, "onnx.Slice", [](Graph &m) {
    Typed x = m.input({-1, m.hidden});
    Typed wide = m.unary("Tanh", m.linear(x, m.hidden, m.experts * 3));
    return m.weighed(m.weights(x), typed({-1, 3}), [&](int64_t e) {
      return m.g.one("Slice", {wide, m.g.ints({3 * e}), m.g.ints({3 * e + 3}), m.g.ints({1}),
                               m.g.ints({1})}, typed({-1, 3}));
    });
  });
}

// One formula over different tensors.
TEST(Body, SeveralSourcesAreRefused) {
  eachSeed(0, "onnx.Tanh", [](Graph &m) {
    Typed x = m.input({-1, m.hidden}), other = m.unary("Tanh", x);
    return m.weighed(m.weights(x), x.type, [&](int64_t e) {
      Typed h = m.unary("Relu", m.linear(e == 0 ? other : x, m.hidden, m.inter));
      return m.linear(h, m.inter, m.hidden);
    });
  });
}

} // namespace
