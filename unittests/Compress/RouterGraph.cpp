#include "RouterGraph.h"

#include <algorithm>

using namespace moec::test;

namespace {

constexpr const char *kKeepDims = "keepdims = 1 : i64, noop_with_empty_axes = 0 : i64";
constexpr const char *kLast = "axis = -1 : i64";

struct Writer {
  GraphText &g;
  const RouterOptions &o;
  std::vector<int64_t> keep;
  Typed x, extra; // a second result, a number for each slot
  std::string rows() const { return tensor({-1, o.experts}); }
  std::string slots(const std::string &type = "f32") const { return tensor({-1, o.k}, type); }

  Typed linear(const Typed &from, int64_t width) {
    return g.one("MatMul", {from, g.weight({o.hidden, width}, 2)}, tensor({-1, width}));
  }

  Typed cosine() {
    Typed w = g.weight({o.hidden, o.experts});
    Typed norm = g.one("ReduceL2", {w, g.ints({0})}, tensor({1, o.experts}), kKeepDims);
    Typed unit = g.one("Div", {w, norm}, w.type);
    Typed size = g.one("ReduceL2", {x, g.ints({-1})}, tensor({-1, 1}), kKeepDims);
    Typed z = g.one("MatMul", {g.one("Div", {x, size}, x.type), unit}, rows());
    return g.one("Mul", {z, g.number(4)}, rows());
  }

  Typed logits() {
    int64_t e = o.experts, h = o.hidden;
    switch (o.logits) {
    case 0:
      return linear(x, e);
    case 1:
      return g.one("Gemm", {x, g.weight({e, h}, 2), g.weight({e})}, rows(),
                   "alpha = 1.0 : f32, beta = 1.0 : f32, transA = 0 : i64, transB = 1 : i64");
    case 2: {
      Typed w = g.one("Transpose", {g.weight({e, h}, 2)}, tensor({h, e}),
                      "perm = array<i64: 1, 0>");
      Typed z = g.one("MatMul", {x, w}, rows());
      return g.one("Add", {g.weight({1, e}), z}, rows());
    }
    case 3: {
      Typed z = g.one("Mul", {linear(x, e), g.weight({e}, 2)}, rows());
      return g.one("Div", {g.one("Tanh", {z}, rows()), g.number(0.5)}, rows());
    }
    case 4:
      return cosine();
    case 5: {
      Typed x3 = g.one("Unsqueeze", {x, g.ints({0})}, tensor({1, -1, h}));
      Typed z = g.one("MatMul", {x3, g.weight({h, e}, 2)}, tensor({1, -1, e}));
      return g.one("Reshape", {z, g.ints({-1, e})}, rows(), "allowzero = 0 : i64");
    }
    case 6: {
      Typed turned = g.one("Transpose", {x}, tensor({h, -1}), "perm = array<i64: 1, 0>");
      Typed z = g.one("MatMul", {g.weight({e, h}, 2), turned}, tensor({e, -1}));
      return g.one("Transpose", {z}, rows(), "perm = array<i64: 1, 0>");
    }
    case 7: // columns among others
      return g.one("Slice", {linear(x, e + 3), g.ints({2}), g.ints({e + 2}), g.ints({1}),
                             g.ints({1})}, rows());
    case 8: {
      Typed low = linear(x, 3);
      Typed z = g.one("MatMul", {low, g.weight({3, e}, 2)}, rows());
      return g.one("Sub", {z, g.one("Sigmoid", {linear(x, e)}, rows())}, rows());
    }
    default: { // a shape that the graph computes
      Typed z = linear(x, e);
      Typed shape = g.one("Shape", {z}, tensor({2}, "i64"), "start = 0 : i64");
      Typed wide = g.one("Concat", {g.ints({1}), shape}, tensor({3}, "i64"), "axis = 0 : i64");
      Typed z3 = g.one("Reshape", {z, wide}, tensor({1, -1, e}), "allowzero = 0 : i64");
      return g.one("Squeeze", {z3, g.ints({0})}, rows());
    }
    }
  }

  // Adds -infinity to the logits of those that are not kept.
  Typed maskedLogits() {
    Typed z = logits();
    if (keep.empty())
      return z;
    Typed row;
    for (int64_t e = 0; e < o.experts; ++e) {
      bool kept = std::find(keep.begin(), keep.end(), e) != keep.end();
      Typed n = g.number(kept ? 0 : -INFINITY);
      Typed one = g.one("Unsqueeze", {n, g.ints({0})}, tensor({1}));
      row = e == 0 ? one : g.one("Concat", {row, one}, tensor({e + 1}), "axis = 0 : i64");
    }
    return g.one("Add", {z, row}, rows());
  }

  Typed softmax(const Typed &z) { return g.one("Softmax", {z}, z.type, kLast); }

  Typed spelledSoftmax(const Typed &z) {
    Typed best = g.one("ReduceMax", {z, g.ints({-1})}, tensor({-1, 1}), kKeepDims);
    Typed e = g.one("Exp", {g.one("Sub", {z, best}, z.type)}, z.type);
    return g.one("Div", {e, g.one("ReduceSum", {e, g.ints({-1})}, tensor({-1, 1}), kKeepDims)},
                 z.type);
  }

  std::vector<Typed> select(const std::vector<Typed> &scores, const std::string &attributes,
                            int64_t k) {
    return g.op("@moe.select", scores, {tensor({-1, k}, "i32"), tensor({-1, k})}, attributes);
  }

  Typed shares(const Typed &w) {
    Typed sum = g.one("ReduceSum", {w, g.ints({-1})}, tensor({-1, 1}), kKeepDims);
    return g.one("Div", {w, g.one("Add", {sum, g.number(1e-6)}, sum.type)}, w.type);
  }

  Typed experts(const std::vector<Typed> &routing) {
    std::vector<Typed> operands{x};
    operands.insert(operands.end(), routing.begin(), routing.end());
    return g.one("@moe.experts", operands, x.type, "bank = @layer0");
  }

  // What else reads the ids: a number of each expert.
  void read(const Typed &ids) {
    Typed wide = g.one("Cast", {ids}, slots("i64"), "to = 7 : i64");
    Typed doubled = g.one("Mul", {wide, g.scalar(2)}, wide.type);
    extra = g.one("Cast", {doubled}, slots(), "to = 1 : i64");
  }

  Typed layer() {
    std::string top = "k = " + std::to_string(o.k) + " : i64";
    Typed z = maskedLogits();
    auto tail = [&](std::vector<Typed> chosen, bool normalise) {
      read(chosen[0]);
      return experts({chosen[0], normalise ? shares(chosen[1]) : chosen[1]});
    };
    auto gathered = [&](const Typed &scores, const Typed &ids) {
      Typed wide = g.one("Cast", {ids}, slots("i64"), "to = 7 : i64");
      return g.one("GatherElements", {scores, wide}, slots(), "axis = 1 : i64");
    };
    switch (o.formula) {
    case 0:
      return tail(select({softmax(z)}, top, o.k), true);
    case 1:
      return tail(select({softmax(z)}, top, o.k), false);
    case 2: {
      auto chosen = select({z}, top, o.k);
      return experts({chosen[0], softmax(chosen[1])});
    }
    case 3: {
      Typed s = g.one("Sigmoid", {z}, rows());
      auto chosen = select({g.one("Add", {s, g.weight({o.experts}, 0.1f)}, rows())}, top, o.k);
      return tail({chosen[0], gathered(s, chosen[0])}, true);
    }
    case 4:
      return tail(select({spelledSoftmax(z)}, top, o.k), false);
    case 5:
      return tail(select({softmax(z)}, top + ", kind = \"top_p\", p = 0.6 : f64", o.k), false);
    case 6:
      return tail(select({g.one("Sigmoid", {z}, rows())},
                         top + ", kind = \"threshold\", threshold = 0.5 : f64", o.k),
                  false);
    case 7:
      return experts({softmax(z)});
    case 8: {
      auto all = select({softmax(z)}, "kind = \"all\"", o.experts);
      return experts({all[0], g.one("Mul", {all[1], g.number(1.5)}, all[1].type)});
    }
    case 9: {
      auto chosen = select({softmax(z)},
                           top + ", kind = \"grouped_top_k\", groups = 2 : i64, group_k = 1 : i64",
                           o.k);
      return tail(chosen, true);
    }
    case 10: { // a factor of each expert
      auto chosen = select({softmax(z)}, top, o.k);
      Typed scale = g.one("Gather", {g.weight({o.experts}), chosen[0]}, slots(), "axis = 0 : i64");
      return experts({chosen[0], g.one("Mul", {chosen[1], scale}, slots())});
    }
    case 11: { // selection by other scores than the weights
      auto chosen = select({g.one("Mul", {z, g.number(2)}, rows()), softmax(z)}, top, o.k);
      return tail(chosen, false);
    }
    default: { // the best k of dense weights
      auto best = g.op("TopK", {z, g.ints({o.k})}, {slots(), slots("i64")},
                       "axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64");
      Typed bound = g.one("Slice", {best[0], g.ints({o.k - 1}), g.ints({o.k}), g.ints({1}),
                                    g.ints({1})}, tensor({-1, 1}));
      Typed chosen = g.one("GreaterOrEqual", {z, bound}, tensor({-1, o.experts}, "i1"));
      return experts({softmax(g.one("Where", {chosen, z, g.number(-INFINITY)}, rows()))});
    }
    }
  }
};

void replaceAll(std::string &text, const std::string &from, const std::string &to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

} // namespace

std::string moec::test::routerModule(unsigned seed, const RouterOptions &o,
                                     const std::vector<int64_t> &keep) {
  GraphText g(seed);
  g.weight({o.experts, 3, o.hidden});
  g.weight({o.experts, o.hidden, 3});
  Typed x = g.argument(tensor({-1, o.hidden}));
  Writer w{g, o, keep, x, {}};
  Typed y = w.layer();
  std::vector<Typed> results{y};
  if (!w.extra.name.empty() && keep.empty())
    results.push_back(w.extra);
  else if (!w.extra.name.empty())
    results.push_back(w.extra);
  std::string text = g.module(results);
  replaceAll(text, "\"onnx.@", "\"");
  replaceAll(text, "  func.func @main",
             "  moe.bank @layer0 experts(" + std::to_string(o.experts) + ") hidden(" +
                 std::to_string(o.hidden) + ") inter(3) body(#moe.ffn<gated = false, activation = "
                 "\"silu\">) up(@w0) down(@w1)\n  func.func @main");
  return text;
}
