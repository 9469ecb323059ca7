#include "FfnMatch.h"
#include <cmath>

using namespace mlir;

namespace moec::raise {

namespace {

using Factors = SmallVector<Expr *>;

// Equal up to the rounding of a constant to bf16.
bool near(double a, double b) { return std::fabs(a - b) <= 2e-3 * std::fabs(b); }

bool isSplat(Expr *e, double v) {
  return e && e->kind == Expr::Splat && e->nums[0] == v;
}

// Product tree as a list; division by a number counts as a factor.
void split(Expr *e, Factors &out, double &scale) {
  if (e->kind == Expr::Splat) {
    scale *= e->nums[0];
  } else if (e->kind == Expr::Binary && e->name == "Mul") {
    split(e->a, out, scale);
    split(e->b, out, scale);
  } else if (e->kind == Expr::Binary && e->name == "Div" &&
             e->b->kind == Expr::Splat && e->b->nums[0] != 0) {
    split(e->a, out, scale);
    scale /= e->b->nums[0];
  } else {
    out.push_back(e);
  }
}

std::optional<Projection> projection(Expr *e) {
  if (e->kind == Expr::Linear) {
    Projection p;
    p.linear = e;
    return p;
  }
  if (e->kind == Expr::Part) {
    auto p = projection(e->a);
    if (!p)
      return std::nullopt;
    p->offset += e->offset * p->stride;
    p->stride *= e->stride;
    p->size = e->size;
    p->biasOffset += e->offset * p->biasStride;
    p->biasStride *= e->stride;
    return p;
  }
  if (e->kind != Expr::Binary || e->name != "Add")
    return std::nullopt;
  for (auto [x, b] : {std::pair{e->a, e->b}, std::pair{e->b, e->a}}) {
    if (b->kind != Expr::Weight && b->kind != Expr::Gathered)
      continue;
    auto p = projection(x);
    if (!p || p->bias)
      return std::nullopt;
    p->bias = b;
    p->biasOffset = 0;
    p->biasStride = 1;
    return p;
  }
  return std::nullopt;
}

// Value limited to [lo, hi].
struct Clamped {
  Expr *inner;
  double lo = -INFINITY, hi = INFINITY;
};
Clamped clamped(Expr *e) {
  Clamped c{e};
  while (true) {
    if (c.inner->kind == Expr::Unary && c.inner->name == "Clip") {
      c.lo = std::max(c.lo, c.inner->nums[0]);
      c.hi = std::min(c.hi, c.inner->nums[1]);
      c.inner = c.inner->a;
      continue;
    }
    if (c.inner->kind == Expr::Binary &&
        (c.inner->name == "Min" || c.inner->name == "Max")) {
      Expr *x = c.inner->a, *s = c.inner->b;
      if (x->kind == Expr::Splat)
        std::swap(x, s);
      if (s->kind != Expr::Splat)
        return c;
      if (c.inner->name == "Min")
        c.hi = std::min(c.hi, s->nums[0]);
      else
        c.lo = std::max(c.lo, s->nums[0]);
      c.inner = x;
      continue;
    }
    return c;
  }
}

bool take(Factors &fs, Expr *e) {
  for (auto it = fs.begin(); it != fs.end(); ++it)
    if (same(*it, e)) {
      fs.erase(it);
      return true;
    }
  return false;
}

// sum of `a` and the number `n`, in either order
Expr *plus(Expr *e, double n) {
  if (e->kind != Expr::Binary || e->name != "Add")
    return nullptr;
  if (isSplat(e->a, n))
    return e->b;
  return isSplat(e->b, n) ? e->a : nullptr;
}

// e == factor * inner
Expr *scaled(Expr *e, double factor) {
  Factors fs;
  double s = 1;
  split(e, fs, s);
  return fs.size() == 1 && near(s, factor) ? fs[0] : nullptr;
}

// p + 0.044715 p^3
Expr *cubic(Expr *e) {
  if (e->kind != Expr::Binary || e->name != "Add")
    return nullptr;
  for (auto [p, c] : {std::pair{e->a, e->b}, std::pair{e->b, e->a}}) {
    Factors fs;
    double s = 1;
    split(c, fs, s);
    if (!near(s, 0.044715))
      continue;
    if (fs.size() == 1 && fs[0]->kind == Expr::Binary && fs[0]->name == "Pow" &&
        isSplat(fs[0]->b, 3) && same(fs[0]->a, p))
      return p;
    if (fs.size() == 3 &&
        llvm::all_of(fs, [&, p = p](Expr *f) { return same(f, p); }))
      return p;
  }
  return nullptr;
}

struct Activation {
  std::string name;
  double alpha = 1.0;
  Expr *arg = nullptr;
};

// Removes an activation's factors from the product `fs` (with `scale`).
std::optional<Activation> activation(Factors &fs, double &scale) {
  for (Expr *f : Factors(fs)) {
    if (f->kind == Expr::Unary && f->name == "Sigmoid") {
      Factors arg;
      double alpha = 1;
      split(f->a, arg, alpha);
      if (arg.size() != 1 || !llvm::is_contained(fs, f))
        continue;
      Factors rest = fs;
      if (take(rest, f) && take(rest, arg[0])) {
        fs = rest;
        bool silu = std::fabs(alpha - 1.0) < 1e-6;
        return Activation{silu ? "silu" : "swish", silu ? 1.0 : alpha, arg[0]};
      }
    }
    if (f->kind == Expr::Unary &&
        (f->name == "Swish" || f->name == "Gelu" || f->name == "GeluTanh" ||
         f->name == "Relu")) {
      Factors rest = fs;
      take(rest, f);
      Activation a{"relu", 1.0, f->a};
      if (f->name == "Swish") {
        a.alpha = f->nums[0];
        a.name = a.alpha == 1.0 ? "silu" : "swish";
      } else if (f->name != "Relu") {
        a.name = f->name == "Gelu" ? "gelu" : "gelu_tanh";
      } else if (take(rest, f)) {
        a.name = "relu2";
      }
      fs = rest;
      return a;
    }
    if (f->kind == Expr::Binary && f->name == "Pow" && isSplat(f->b, 2) &&
        f->a->kind == Expr::Unary && f->a->name == "Relu") {
      take(fs, f);
      return Activation{"relu2", 1.0, f->a->a};
    }
    Clamped c = clamped(f);
    if (c.lo == 0 && std::isinf(c.hi)) {
      take(fs, f);
      return Activation{"relu", 1.0, c.inner};
    }
    Expr *inner = plus(f, 1.0);
    if (!inner || inner->kind != Expr::Unary)
      continue;
    Expr *arg = nullptr;
    if (inner->name == "Erf")
      arg = scaled(inner->a, M_SQRT1_2);
    else if (inner->name == "Tanh")
      if (Expr *poly = scaled(inner->a, 0.7978845608))
        arg = cubic(poly);
    Factors rest = fs;
    if (arg && take(rest, f) && take(rest, arg)) {
      fs = rest;
      scale *= 2; // the half of gelu is part of the activation
      return Activation{inner->name == "Erf" ? "gelu" : "gelu_tanh", 1.0, arg};
    }
  }
  // Plain functions last: a sigmoid may be a part of silu.
  for (Expr *f : Factors(fs))
    if (f->kind == Expr::Unary && (f->name == "Sigmoid" || f->name == "Tanh")) {
      take(fs, f);
      return Activation{f->name == "Tanh" ? "tanh" : "sigmoid", 1.0, f->a};
    }
  return std::nullopt;
}

bool matchHidden(Expr *hidden, Ffn &ffn, std::string &why) {
  Factors fs;
  double scale = 1;
  split(hidden, fs, scale);
  // A weight in front of the last layer weighs its result; a tensor with a value
  // for each neuron is none.
  const Expr *down = ffn.down.linear;
  auto matrix = ranked(down->weights.items.front().value);
  int64_t rank = matrix ? matrix.getRank() : 0, inter = -1;
  if (rank > 1 && !(rank == 2 && down->weights.kind == WeightSet::Stacked))
    inter = matrix.getDimSize(down->nk ? rank - 1 : rank - 2);
  for (Expr *f : Factors(ffn.down.bias ? Factors() : fs)) {
    auto type = ranked(f->origin);
    int64_t last = type && type.getRank() > 0 ? type.getShape().back() : 1;
    bool neurons = last > 1 && last == inter && f->kind == Expr::Leaf;
    if (f->expertLinear || f->kind == Expr::Weight || f->kind == Expr::Gathered || neurons ||
        fs.size() < 2)
      continue;
    take(fs, f);
    ffn.weights.push_back(f->kind == Expr::DenseW ? f->b : f);
  }
  auto act = activation(fs, scale);
  if (fs.size() > (act ? 1u : 2u) || (!act && fs.empty())) {
    why = "the expert's body is no (gated) two-layer perceptron";
    return false;
  }
  if (scale != 1 && ffn.down.bias) {
    why = "a constant factor stands between the expert's two layers";
    return false;
  }
  ffn.scale *= scale;
  Expr *gate = act ? act->arg : fs[0];
  Expr *up = act ? (fs.empty() ? nullptr : fs[0])
                 : (fs.size() == 2 ? fs[1] : nullptr);
  if (act) {
    ffn.activation = act->name;
    ffn.alpha = act->alpha;
  }
  Clamped limited = clamped(gate);
  if (std::isfinite(limited.hi) || std::isfinite(limited.lo)) {
    if (std::isfinite(limited.lo) || !up) {
      why = "the expert's activation is limited in a way no known expert is";
      return false;
    }
    ffn.limit = limited.hi;
  }
  auto gateP = projection(limited.inner);
  if (!gateP) {
    why = "the argument of the activation is no linear map of the tokens";
    return false;
  }
  if (!up) {
    ffn.up = *gateP;
    ffn.x = gateP->linear->a;
    return true;
  }
  ffn.gated = true;
  if (up->kind == Expr::Binary && up->name == "Add") {
    for (auto [x, s] : {std::pair{up->a, up->b}, std::pair{up->b, up->a}})
      if (s->kind == Expr::Splat) {
        ffn.upOffset = s->nums[0];
        up = x;
        break;
      }
  }
  Clamped upLimit = clamped(up);
  bool symmetric = ffn.limit && upLimit.hi == *ffn.limit &&
                   upLimit.lo == -*ffn.limit;
  bool free = !ffn.limit && std::isinf(upLimit.hi) && std::isinf(upLimit.lo);
  auto upP = projection(upLimit.inner);
  if (!upP || (!symmetric && !free)) {
    why = upP ? "the expert's gate and up parts have different limits"
              : "the factor of the gate is no linear map of the tokens";
    return false;
  }
  if (gateP->linear->a != upP->linear->a) {
    why = "gate and up read more than one source of tokens";
    return false;
  }
  ffn.gate = *gateP;
  ffn.up = *upP;
  ffn.x = gateP->linear->a;
  return true;
}

} // namespace

// The same for an expert's result: products of weights alone stay together,
// some value of the graph holds them.
void splitResult(Expr *e, SmallVectorImpl<Expr *> &out, double &scale) {
  if (e->kind == Expr::Binary && e->name == "Mul" && e->expertLinear) {
    splitResult(e->a, out, scale);
    splitResult(e->b, out, scale);
  } else if (e->kind == Expr::Splat) {
    scale *= e->nums[0];
  } else if (e->kind == Expr::Binary && e->name == "Div" && e->expertLinear &&
             e->b->kind == Expr::Splat && e->b->nums[0] != 0) {
    splitResult(e->a, out, scale);
    scale /= e->b->nums[0];
  } else {
    out.push_back(e);
  }
}

const Expr *withFixed(const Expr *body) {
  llvm::SetVector<const Expr *> parts;
  parts.insert(body);
  for (size_t i = 0; i < parts.size(); ++i) {
    const Expr *e = parts[i];
    if (!e->fixed.empty())
      return e;
    for (const Expr *part : {static_cast<const Expr *>(e->a), static_cast<const Expr *>(e->b)})
      if (part)
        parts.insert(part);
    parts.insert(e->args.begin(), e->args.end());
  }
  return nullptr;
}

std::optional<Ffn> matchFfn(Expr *body, Expr *weight, std::string &why) {
  Ffn ffn;
  Factors fs;
  splitResult(body, fs, ffn.scale);
  const Expr *holder = withFixed(body);
  const double scale = ffn.scale;
  Expr *down = nullptr;
  if (weight)
    ffn.weights.push_back(weight);
  for (Expr *f : fs) {
    if (f->kind == Expr::DenseW) {
      ffn.weights.push_back(f->b);
    } else if (!f->expertLinear) {
      ffn.weights.push_back(f);
    } else if (!down && projection(f)) {
      down = f;
    } else {
      why = down ? "two experts' results are multiplied"
                 : "the combine is not a weighted sum of the experts";
      return std::nullopt;
    }
  }
  if (!down) {
    why = "the expert does not end in a linear map";
    return std::nullopt;
  }
  auto p = projection(down);
  if (!p || p->size >= 0) {
    why = "only a part of the expert's result is used";
    return std::nullopt;
  }
  ffn.down = *p;
  if (!matchHidden(p->linear->a, ffn, why))
    return std::nullopt;
  if (!holder)
    return ffn;
  // What is computed of the joined results would be of the constants, too; a number from within the
  // experts, which stands among the weights now, would not.
  if (holder != down || scale != ffn.scale) {
    why = "something else than weights is applied to the results of constant experts";
    return std::nullopt;
  }
  ffn.fixed.assign(holder->fixed.begin(), holder->fixed.end());
  return ffn;
}

} // namespace moec::raise
