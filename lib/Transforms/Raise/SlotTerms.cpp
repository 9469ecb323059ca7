// Loops over slots and experts: a sum with a term for each pair of them,
//   y = sum_j sum_e where(id_j == e, w_j f_e(x), 0)
// in any order. The terms of each slot are kept apart until all are there.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

// The only factor of a product that is a column of some tensor.
static Expr *columnOf(Expr *e, int depth = 0) {
  if (e->kind == Expr::Column)
    return e;
  if (e->kind != Expr::Binary || e->name != "Mul" || depth > 16)
    return nullptr;
  Expr *a = columnOf(e->a, depth + 1), *b = columnOf(e->b, depth + 1);
  return a && b ? nullptr : a ? a : b;
}

// The terms of `f` by slot, each with its weight as a factor of its own.
bool Analysis::addSlotTerms(Operation *op, const Fact &f, Expr *out) {
  Expr *e = f.expr;
  // What the sum starts with.
  if (e->kind == Expr::Terms && e->a) {
    if (out->a)
      return false;
    out->a = e->a;
  }
  if (e->kind == Expr::Terms && !e->args.empty()) {
    for (Expr *slot : e->args)
      if (!addSlotTerms(op, {slot, f.layout}, out))
        return false;
    return true;
  }
  Value ids = e->ids;
  SmallVector<Term, 0> terms;
  if (e->kind == Expr::Terms) {
    if (e->apart || !e->nums.empty())
      return false;
    terms = e->terms;
  } else {
    auto term = asTerm(e, op, ids);
    if (!term)
      return false;
    terms.push_back(*term);
  }
  auto slot = slotOf(ids);
  if (!slot || (!out->args.empty() && slotOf(out->args.front()->ids)->first != slot->first))
    return false;
  for (Term &t : terms) {
    bool one = t.weight && t.weight->kind == Expr::Splat && t.weight->nums[0] == 1;
    Expr *column = one ? columnOf(t.body) : nullptr;
    Expr *body = column ? without(t.body, column) : nullptr;
    if (body) {
      t.weight = column;
      t.body = body;
    }
  }
  auto same = llvm::find_if(out->args, [&](Expr *s) { return s->ids == ids; });
  if (same == out->args.end()) {
    Expr *first = make(Expr::Terms);
    first->ids = ids;
    first->terms = terms;
    out->args.push_back(first);
    return true;
  }
  for (const Term &t : terms) {
    if (llvm::any_of((*same)->terms, [&](const Term &o) { return o.expert == t.expert; }))
      return false;
    (*same)->terms.push_back(t);
  }
  return true;
}

Analysis::Result Analysis::sumSlotTerms(Operation *op, const Fact &a, const Fact &b) {
  Expr *sum = make(Expr::Terms);
  auto layout = broadcast(a.layout, b.layout);
  if (!layout || !addSlotTerms(op, a, sum) || !addSlotTerms(op, b, sum) || sum->args.size() < 2)
    return std::nullopt;
  const Routing *all = slotOf(sum->args.front()->ids)->first;
  bool whole = static_cast<int64_t>(sum->args.size()) == all->k &&
               llvm::all_of(sum->args, [&](const Expr *slot) {
                 return static_cast<int64_t>(slot->terms.size()) == all->experts;
               });
  consumed_.insert(a.expr);
  consumed_.insert(b.expr);
  sum->ids = sum->args.front()->ids;
  sum->nums = {-1}; // no sum for itself yet
  if (!whole)
    return Fact{sum, *layout};
  Fact joined{sum->args.front(), *layout};
  for (Expr *slot : ArrayRef(sum->args).drop_front()) {
    Result next = joinSlots(joined, {slot, *layout});
    if (!next)
      return std::nullopt;
    joined = *next;
  }
  joined.expr->a = sum->a;
  return joined;
}

} // namespace moec::raise
