#include "MoEGraph.h"

#include <sstream>

using namespace moec::test;

namespace {

constexpr const char *kKeep = "keepdims = 1 : i64, noop_with_empty_axes = 0 : i64";
constexpr const char *kDrop = "keepdims = 0 : i64, noop_with_empty_axes = 0 : i64";

/// Writes one layer: the router, then the experts in one of the forms.
struct Writer {
  GraphText &g;
  const LayerOptions &o;
  Typed x, last, one, ids, weights;
  int64_t rows() const { return o.gated ? 2 * o.inter : o.inter; }

  // ids and weights [?, k]
  void router() {
    int64_t e = o.experts, k = o.k;
    last = g.ints({-1});
    one = g.ints({1});
    Typed z = g.one("MatMul", {x, g.weight({o.hidden, e}, 2)}, tensor({-1, e}));
    Typed scores = z;
    if (o.router == 3)
      scores = g.one("Sigmoid", {z}, tensor({-1, e}));
    else if (o.router != 2)
      scores = g.one("Softmax", {z}, tensor({-1, e}), "axis = -1 : i64");
    Typed chosenBy = scores;
    if (o.router == 3)
      chosenBy = g.one("Add", {scores, g.weight({e})}, tensor({-1, e}));
    auto top = g.op("TopK", {chosenBy, g.ints({k})}, {tensor({-1, k}), tensor({-1, k}, "i64")},
                    "axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64");
    ids = top[1];
    Typed w = top[0];
    if (o.router == 3)
      w = g.one("GatherElements", {scores, ids}, w.type, "axis = 1 : i64");
    if (o.router == 2) {
      w = g.one("Softmax", {w}, w.type, "axis = -1 : i64");
    } else if (o.router != 1) {
      Typed sum = g.one("ReduceSum", {w, last}, tensor({-1, 1}), kKeep);
      if (o.router == 3)
        sum = g.one("Add", {sum, g.number(1e-6)}, sum.type);
      w = g.one("Div", {w, sum}, w.type);
    }
    if (o.scale != 1)
      w = g.one("Mul", {w, g.number(o.scale)}, w.type);
    weights = w;
  }

  // act(h), or act(gate) * up of the halves of h, along the last axis.
  Typed hidden(Typed h, std::vector<int64_t> shape) {
    size_t axis = shape.size() - 1;
    shape[axis] = o.inter;
    std::string type = tensor(shape);
    if (!o.gated)
      return activation(h, type);
    Typed gate, up;
    std::string at = std::to_string(axis);
    if (o.interleaved) {
      Typed end = g.ints({1 << 30}), two = g.ints({2});
      Typed where = g.ints({static_cast<int64_t>(axis)});
      gate = g.one("Slice", {h, g.ints({0}), end, where, two}, type);
      up = g.one("Slice", {h, g.ints({1}), end, where, two}, type);
    } else {
      auto parts = g.op("Split", {h, g.none()}, {type, type},
                        "axis = " + at + " : i64, num_outputs = 2 : i64");
      gate = parts[0];
      up = parts[1];
    }
    return g.one("Mul", {activation(gate, type), up}, type);
  }

  Typed activation(Typed v, const std::string &type) {
    switch (o.activation) {
    case 0:
      return g.one("Mul", {v, g.one("Sigmoid", {v}, type)}, type);
    case 1: {
      Typed erf = g.one("Erf", {g.one("Mul", {v, g.number(0.70710678118)}, type)}, type);
      Typed sum = g.one("Add", {erf, g.number(1)}, type);
      return g.one("Mul", {g.one("Mul", {v, g.number(0.5)}, type), sum}, type);
    }
    case 2:
      return g.one("Gelu", {v}, type, "approximate = \"tanh\"");
    case 3:
      return g.one("Relu", {v}, type);
    case 4:
      return g.one("Pow", {g.one("Relu", {v}, type), g.number(2)}, type);
    default: {
      Typed inner = g.one("Sigmoid", {g.one("Mul", {v, g.number(1.702)}, type)}, type);
      return g.one("Mul", {v, inner}, type);
    }
    }
  }

  // Stacked matrices [E, N, K], or [E, K, N].
  Typed matrices(int64_t n, int64_t k) {
    return g.weight(o.transposed ? std::vector<int64_t>{o.experts, k, n}
                                 : std::vector<int64_t>{o.experts, n, k});
  }

  // One row [?, k] times the matrix of its own expert [?, N, K]: [?, n].
  Typed product(Typed row, Typed matrix, int64_t n, int64_t k) {
    Typed y;
    if (o.transposed) {
      Typed r = g.one("Unsqueeze", {row, one}, tensor({-1, 1, k}));
      y = g.one("MatMul", {r, matrix}, tensor({-1, 1, n}));
      return g.one("Squeeze", {y, one}, tensor({-1, n}));
    }
    Typed column = g.one("Unsqueeze", {row, last}, tensor({-1, k, 1}));
    y = g.one("MatMul", {matrix, column}, tensor({-1, n, 1}));
    return g.one("Squeeze", {y, last}, tensor({-1, n}));
  }

  Typed slice(Typed stacked, int64_t e, std::vector<int64_t> shape) {
    return g.one("Gather", {stacked, g.scalar(e)}, tensor(shape), "axis = 0 : i64");
  }

  // [?, k] times matrix e of a stack: [?, n].
  Typed times(Typed rowsIn, Typed stacked, int64_t e, int64_t n, int64_t k) {
    if (o.transposed)
      return g.one("MatMul", {rowsIn, slice(stacked, e, {k, n})}, tensor({-1, n}));
    return g.one("Gemm", {rowsIn, slice(stacked, e, {n, k}), g.none()}, tensor({-1, n}),
                 "alpha = 1.0 : f32, beta = 1.0 : f32, transA = 0 : i64, transB = 1 : i64");
  }

  Typed gathered() {
    int64_t h = o.hidden, k = o.k;
    Typed tiled = g.one("Tile", {g.one("Unsqueeze", {x, one}, tensor({-1, 1, h})),
                                 g.ints({1, k, 1})}, tensor({-1, k, h}));
    Typed flat = g.one("Reshape", {tiled, g.ints({-1, h})}, tensor({-1, h}));
    Typed index = g.one("Unsqueeze", {g.one("Reshape", {ids, last}, tensor({-1}, "i64")), last},
                        tensor({-1, 1}, "i64"));
    auto pick = [&](Typed stacked, std::vector<int64_t> shape) {
      return g.one("GatherND", {stacked, index}, tensor(shape), "batch_dims = 0 : i64");
    };
    auto matrix = [&](int64_t n, int64_t kk) {
      return pick(matrices(n, kk), o.transposed ? std::vector<int64_t>{-1, kk, n}
                                                : std::vector<int64_t>{-1, n, kk});
    };
    Typed y = product(flat, matrix(rows(), h), rows(), h);
    if (o.bias)
      y = g.one("Add", {y, pick(g.weight({o.experts, rows()}), {-1, rows()})}, y.type);
    y = hidden(y, {-1, rows()});
    y = product(y, matrix(h, o.inter), h, o.inter);
    if (o.bias)
      y = g.one("Add", {y, pick(g.weight({o.experts, h}), {-1, h})}, y.type);
    Typed w = g.one("Unsqueeze", {g.one("Reshape", {weights, last}, tensor({-1})), last},
                    tensor({-1, 1}));
    y = g.one("Mul", {y, w}, y.type);
    y = g.one("Reshape", {y, g.ints({-1, k, h})}, tensor({-1, k, h}));
    return g.one("ReduceSum", {y, one}, tensor({-1, h}), kDrop);
  }

  // Expert e on rows [?, hidden].
  Typed expert(Typed rowsIn, Typed up, Typed down, Typed upBias, Typed downBias, int64_t e) {
    Typed y = times(rowsIn, up, e, rows(), o.hidden);
    if (o.bias)
      y = g.one("Add", {y, slice(upBias, e, {rows()})}, y.type);
    y = times(hidden(y, {-1, rows()}), down, e, o.hidden, o.inter);
    if (o.bias)
      y = g.one("Add", {y, slice(downBias, e, {o.hidden})}, y.type);
    return y;
  }

  struct Stacks {
    Typed up, down, upBias, downBias;
  };
  Stacks stacks() {
    Stacks s{matrices(rows(), o.hidden), matrices(o.hidden, o.inter), {}, {}};
    if (o.bias) {
      s.upBias = g.weight({o.experts, rows()});
      s.downBias = g.weight({o.experts, o.hidden});
    }
    return s;
  }

  Typed masked() {
    Stacks s = stacks();
    Typed sum;
    for (int64_t e = 0; e < o.experts; ++e) {
      Typed hit = g.one("Equal", {ids, g.scalar(e)}, tensor({-1, o.k}, "i1"));
      Typed mask = g.one("Cast", {hit}, weights.type, "to = 1 : i64");
      Typed w = g.one("ReduceSum", {g.one("Mul", {mask, weights}, weights.type), last},
                      tensor({-1, 1}), kKeep);
      Typed y = expert(x, s.up, s.down, s.upBias, s.downBias, e);
      Typed term = g.one("Mul", {y, w}, y.type);
      sum = e == 0 ? term : g.one("Add", {sum, term}, term.type);
    }
    return sum;
  }

  Typed dense() {
    int64_t e = o.experts, h = o.hidden;
    Typed count = g.one("Shape", {x}, tensor({1}, "i64"), "start = 0 : i64, end = 1 : i64");
    Typed shape = g.one("Concat", {count, g.ints({e})}, tensor({2}, "i64"), "axis = 0 : i64");
    Typed zeros = g.one("Expand", {g.number(0), shape}, tensor({-1, e}));
    Typed all = g.one("ScatterElements", {zeros, ids, weights}, zeros.type,
                      "axis = 1 : i64, reduction = \"none\"");
    Typed tiled = g.one("Tile", {x, g.ints({e, 1})}, tensor({-1, h}));
    Typed y = g.one("Reshape", {tiled, g.ints({e, -1, h})}, tensor({e, -1, h}));
    auto stack = [&](int64_t n, int64_t k) { return g.weight({e, k, n}); };
    y = g.one("MatMul", {y, stack(rows(), h)}, tensor({e, -1, rows()}));
    if (o.bias)
      y = g.one("Add", {y, g.weight({e, 1, rows()})}, y.type);
    y = g.one("MatMul", {hidden(y, {e, -1, rows()}), stack(h, o.inter)}, tensor({e, -1, h}));
    if (o.bias)
      y = g.one("Add", {y, g.weight({e, 1, h})}, y.type);
    Typed turned = g.one("Transpose", {all}, tensor({e, -1}), "perm = array<i64: 1, 0>");
    Typed w = g.one("Unsqueeze", {turned, g.ints({2})}, tensor({e, -1, 1}));
    y = g.one("Mul", {y, w}, y.type);
    return g.one("ReduceSum", {y, g.ints({0})}, tensor({-1, h}), kDrop);
  }

  Typed scattered() {
    Stacks s = stacks();
    std::vector<int64_t> all;
    for (int64_t e = 0; e < o.experts; ++e)
      all.push_back(e);
    Typed shape = g.one("Shape", {x}, tensor({2}, "i64"), "start = 0 : i64");
    Typed sum = g.one("Expand", {g.number(0), shape}, x.type);
    Typed hits = g.one("Equal", {g.one("Unsqueeze", {ids, last}, tensor({-1, o.k, 1}, "i64")),
                                 g.ints(all)}, tensor({-1, o.k, o.experts}, "i1"));
    Typed mask = g.one("Transpose", {g.one("Cast", {hits}, tensor({-1, o.k, o.experts}, "i64"),
                                           "to = 7 : i64")},
                       tensor({o.experts, o.k, -1}, "i64"), "perm = array<i64: 2, 1, 0>");
    for (int64_t e = 0; e < o.experts; ++e) {
      Typed mine = g.one("Gather", {mask, g.scalar(e)}, tensor({o.k, -1}, "i64"), "axis = 0 : i64");
      Typed found = g.one("Transpose", {g.one("NonZero", {mine}, tensor({2, -1}, "i64"))},
                          tensor({-1, 2}, "i64"), "perm = array<i64: 1, 0>");
      auto column = [&](int64_t i) {
        return g.one("Slice", {found, g.ints({i}), g.ints({i + 1}), g.ints({1}), g.ints({1})},
                     tensor({-1, 1}, "i64"));
      };
      Typed slot = column(0), token = column(1);
      Typed mineX = g.one("GatherND", {x, token}, x.type, "batch_dims = 0 : i64");
      Typed y = expert(mineX, s.up, s.down, s.upBias, s.downBias, e);
      Typed pair = g.one("Concat", {token, slot}, tensor({-1, 2}, "i64"), "axis = -1 : i64");
      Typed w3 = g.one("Unsqueeze", {weights, g.ints({2})}, tensor({-1, o.k, 1}));
      Typed w = g.one("GatherND", {w3, pair}, tensor({-1, 1}), "batch_dims = 0 : i64");
      sum = g.one("ScatterND", {sum, token, g.one("Mul", {y, w}, y.type)}, sum.type,
                  "reduction = \"add\"");
    }
    return sum;
  }

  // Sorted by expert, one product for each group of rows.
  Typed grouped() {
    int64_t h = o.hidden, k = o.k, e = o.experts;
    std::string i64 = tensor({-1}, "i64");
    Typed flat = g.one("Reshape", {ids, last}, i64);
    Typed size = g.one("Shape", {flat}, tensor({1}, "i64"), "start = 0 : i64");
    auto sorted = g.op("TopK", {flat, size}, {i64, i64},
                       "axis = -1 : i64, largest = 0 : i64, sorted = 1 : i64");
    Typed perm = sorted[1];
    Typed token = g.one("Div", {perm, g.scalar(k)}, i64);
    auto rowsOf = [&](Typed from, Typed index, const std::string &type) {
      Typed i = g.one("Unsqueeze", {index, last}, tensor({-1, 1}, "i64"));
      return g.one("GatherND", {from, i}, type, "batch_dims = 0 : i64");
    };
    Typed xs = rowsOf(x, token, x.type);
    Typed ws = rowsOf(g.one("Reshape", {weights, last}, tensor({-1})), perm, tensor({-1}));
    Typed ones = g.one("Expand", {g.scalar(1), size}, i64);
    Typed counts = g.one("ScatterElements",
                         {g.one("Expand", {g.scalar(0), g.ints({e})}, tensor({e}, "i64")), flat, ones},
                         tensor({e}, "i64"), "axis = 0 : i64, reduction = \"add\"");
    Typed ends = g.one("CumSum", {counts, g.scalar(0)}, counts.type,
                       "exclusive = 0 : i64, reverse = 0 : i64");
    std::vector<Typed> ranges;
    Typed begin = g.scalar(0);
    for (int64_t i = 0; i < e; ++i) {
      Typed end = g.one("Gather", {ends, g.scalar(i)}, "tensor<i64>", "axis = 0 : i64");
      ranges.push_back(g.one("Range", {begin, end, g.scalar(1)}, i64));
      begin = end;
    }
    Stacks s = stacks();
    auto groups = [&](Typed from, Typed stacked, int64_t n, int64_t kk) {
      std::vector<Typed> parts;
      for (int64_t i = 0; i < e; ++i) {
        Typed mine = g.one("Gather", {from, ranges[i]}, from.type, "axis = 0 : i64");
        parts.push_back(times(mine, stacked, i, n, kk));
      }
      return g.one("Concat", parts, tensor({-1, n}), "axis = 0 : i64");
    };
    Typed y = groups(xs, s.up, rows(), h);
    if (o.bias)
      y = g.one("Add", {y, rowsOf(s.upBias, sorted[0], y.type)}, y.type);
    y = groups(hidden(y, {-1, rows()}), s.down, h, o.inter);
    if (o.bias)
      y = g.one("Add", {y, rowsOf(s.downBias, sorted[0], y.type)}, y.type);
    y = g.one("Mul", {y, g.one("Unsqueeze", {ws, last}, tensor({-1, 1}))}, y.type);
    Typed positions = g.one("Range", {g.scalar(0), g.one("Squeeze", {size, g.none()}, "tensor<i64>"),
                                      g.scalar(1)}, i64);
    Typed inverse = g.one("ScatterND", {g.one("Expand", {g.scalar(0), size}, i64),
                                        g.one("Unsqueeze", {perm, last}, tensor({-1, 1}, "i64")),
                                        positions}, i64, "reduction = \"none\"");
    y = rowsOf(y, inverse, y.type);
    y = g.one("Reshape", {y, g.ints({-1, k, h})}, tensor({-1, k, h}));
    return g.one("ReduceSum", {y, one}, tensor({-1, h}), kDrop);
  }
};

} // namespace

LayerOptions moec::test::randomOptions(GraphText &g, Form form) {
  LayerOptions o;
  o.form = form;
  o.experts = g.between(form == Form::grouped || form == Form::dense ? 2 : 1, 5);
  o.k = g.between(1, std::min<int64_t>(o.experts, 3));
  o.hidden = g.between(2, 6);
  o.inter = g.between(2, 5);
  o.activation = static_cast<int>(g.between(0, 5));
  o.gated = g.coin();
  o.interleaved = g.coin();
  o.bias = g.coin();
  o.transposed = g.coin();
  o.router = static_cast<int>(g.between(0, 3));
  o.scale = g.coin() ? 1.0 : 2.5;
  return o;
}

Typed moec::test::layer(GraphText &g, const LayerOptions &o, const Typed &x) {
  Writer w{g, o, x, {}, {}, {}, {}};
  w.router();
  switch (o.form) {
  case Form::gathered:
    return w.gathered();
  case Form::grouped:
    return w.grouped();
  case Form::masked:
    return w.masked();
  case Form::dense:
    return w.dense();
  case Form::scattered:
    break;
  }
  return w.scattered();
}

std::string moec::test::describe(const LayerOptions &o) {
  std::ostringstream text;
  text << "form " << static_cast<int>(o.form) << ", experts " << o.experts << ", k " << o.k
       << ", hidden " << o.hidden << ", inter " << o.inter << ", activation " << o.activation
       << (o.gated ? ", gated" : "") << (o.interleaved ? ", interleaved" : "")
       << (o.bias ? ", bias" : "") << (o.transposed ? ", transposed" : "") << ", router "
       << o.router << ", scale " << o.scale;
  return text.str();
}
