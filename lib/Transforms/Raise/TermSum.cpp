// Sums of one term for each expert.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

namespace {

// A weight in front of an expert's last layer, which has no bias, weighs its
// result: (w h) W = w (h W).
void pullWeights(Analysis &analysis, SmallVectorImpl<Expr *> &product) {
  for (size_t i = 0, n = product.size(); i < n; ++i) {
    if (product[i]->kind != Expr::Linear)
      continue;
    SmallVector<Expr *> inner;
    factors(product[i]->a, inner);
    auto weighs = [](const Expr *f) {
      return f->kind == Expr::Masked || f->kind == Expr::Column;
    };
    if (llvm::count_if(inner, weighs) != 1 || inner.size() < 2)
      continue;
    Expr *out = analysis.make(Expr::Linear), *rest = nullptr;
    *out = *product[i];
    out->origin = Value();
    out->ids = Value();
    for (Expr *f : inner) {
      if (weighs(f)) {
        product.push_back(f);
        continue;
      }
      Expr *both = rest ? analysis.withChildren(Expr::Binary, rest, f) : f;
      if (rest)
        both->name = "Mul";
      rest = both;
    }
    out->a = rest;
    product[i] = out;
  }
}

} // namespace

// The same for a result that no expression describes, a convolution's for
// instance: whatever the product of a masked weight and another tensor is.
std::optional<Term> Analysis::asLeafTerm(Expr *expr, Operation *op, Value &ids) {
  Operation *mul = expr->origin ? expr->origin.getDefiningOp() : nullptr;
  if (!isOnnx(mul, "Mul"))
    return std::nullopt;
  for (unsigned i : {0u, 1u}) {
    Fact w = get(mul->getOperand(i));
    Value body = mul->getOperand(1 - i);
    Expr *of = get(body).expr;
    bool column = w.expr->kind == Expr::Column;
    auto type = ranked(body);
    if ((!column && w.expr->kind != Expr::Masked) || of->kind != Expr::Leaf || !type ||
        static_cast<int64_t>(w.layout.size()) != type.getRank())
      continue;
    Term term{w.expr->expert, of, column ? w.expr->a : w.expr->b, mul};
    // Tokens run along the weight's axes; the others are the result's own.
    for (auto [axis, dim] : llvm::enumerate(w.layout)) {
      bool tokens = !dim.empty();
      if (tokens && (dim.size() != 1 || dim[0].kind != Atom::Tok))
        return std::nullopt;
      if (tokens || (term.rowAxes == 0 && axis == 0))
        term.rowAxes = static_cast<int64_t>(axis) + 1;
    }
    if (term.rowAxes >= type.getRank())
      continue;
    ids = column ? denseRouting(w.expr->a, w.expr->size) : w.expr->ids;
    if (!ids)
      return std::nullopt;
    if (of->origin != body) {
      term.body = make(Expr::Leaf);
      term.body->origin = body;
      term.body->originLayout = get(body).layout;
    }
    return term;
  }
  return std::nullopt;
}

// What one expert adds to every token: its result times its masked weight.
// A product without one of its factors.
Expr *Analysis::without(Expr *product, Expr *factor) {
  if (product == factor || product->kind != Expr::Binary || product->name != "Mul")
    return product == factor ? nullptr : product;
  Expr *a = without(product->a, factor), *b = without(product->b, factor);
  if (a == product->a && b == product->b)
    return product;
  if (!a || !b)
    return a ? a : b;
  Expr *rest = withChildren(Expr::Binary, a, b);
  rest->name = "Mul";
  return rest;
}

// With one slot for each token its mask needs no sum: the mask among factors.
Expr *Analysis::onlySlotMask(Expr *expr, ArrayRef<Expr *> factors) {
  const Routing *r = routing(expr->ids);
  Expr *mask = nullptr;
  if (r && r->k == 1 && !r->dense)
    for (Expr *f : factors)
      if (onlyExpert(f) >= 0) {
        if (mask)
          return nullptr;
        mask = f;
      }
  return mask;
}

std::optional<Term> Analysis::asTerm(Expr *expr, Operation *op, Value &ids) {
  if (!expr->expertLinear)
    return asLeafTerm(expr, op, ids);
  SmallVector<Expr *> product;
  factors(expr, product);
  SmallVector<Expr *> written = product;
  pullWeights(*this, product);
  Term term{-1, nullptr, nullptr, op};
  Expr *column = nullptr, *mask = onlySlotMask(expr, product), *by = nullptr;
  for (Expr *f : product) {
    if (mask && !f->expertLinear) {
      term.expert = onlyExpert(mask);
      Expr *factor = f == mask ? splat(1) : f;
      bool both = term.weight && term.weight->kind != Expr::Splat && f != mask;
      if (both) {
        factor = withChildren(Expr::Binary, term.weight, f);
        factor->name = "Mul";
      }
      if (!term.weight || f != mask)
        term.weight = factor;
      continue;
    }
    if ((f->kind == Expr::Masked || f->kind == Expr::Column) && !term.weight) {
      term.expert = f->expert;
      term.weight = f->kind == Expr::Column ? f->a : f->b;
      column = f->kind == Expr::Column ? f : nullptr;
      by = f;
    } else if (term.body) {
      term.body = withChildren(Expr::Binary, term.body, f);
      term.body->name = "Mul";
    } else {
      term.body = f;
    }
  }
  if (by && product == written) // as the graph has it, where it has it
    term.body = without(expr, by);
  if (!term.weight || !term.body || !term.body->expertLinear)
    return std::nullopt;
  if (column && expr->ids)
    return std::nullopt;
  ids = column ? denseRouting(column->a, column->size) : expr->ids;
  if (!ids)
    return std::nullopt;
  if (Operation *at = expr->origin ? expr->origin.getDefiningOp() : nullptr)
    term.op = at;
  return term;
}

Analysis::Result Analysis::sumTerms(Operation *op, const Fact &a,
                                    const Fact &b) {
  const Fact *facts[2] = {&a, &b};
  std::optional<Term> terms[2];
  Value ids;
  for (int i : {0, 1}) {
    Expr *e = facts[i]->expr;
    Value by = e->kind == Expr::Terms ? e->ids : Value();
    if (!by && (terms[i] = asTerm(e, op, by), !terms[i]))
      continue;
    if (ids && by != ids)
      return std::nullopt;
    ids = by;
  }
  const Routing *r = routing(ids);
  auto ofSlots = [](const Expr *e) { return e->kind == Expr::Terms && !e->args.empty(); };
  if (!r || a.expr->apart || b.expr->apart || ofSlots(a.expr) || ofSlots(b.expr))
    return std::nullopt;
  Expr *sum = make(Expr::Terms);
  sum->ids = ids;
  for (int i : {0, 1}) {
    Expr *e = facts[i]->expr;
    if (e->kind == Expr::Terms) {
      // A complete sum is a result, not a part of a larger one.
      if (static_cast<int64_t>(e->terms.size()) >= r->experts)
        return std::nullopt;
      sum->terms.append(e->terms.begin(), e->terms.end());
      if (e->a && sum->a)
        return std::nullopt;
      if (e->a)
        sum->a = e->a;
    } else if (terms[i]) {
      sum->terms.push_back(*terms[i]);
    } else {
      if (e->ids || sum->a || !e->origin)
        return std::nullopt;
      sum->a = e;
    }
  }
  for (const Fact *f : facts)
    consumed_.insert(f->expr);
  auto layout = broadcast(a.layout, b.layout);
  return layout ? Result(Fact{sum, *layout}) : std::nullopt;
}

} // namespace moec::raise
