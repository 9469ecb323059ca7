// The chosen expert's result picked out of all experts' results, by a chain of
// Where for each slot:
//   y_j = Where(id_j == 0, e0(x), Where(id_j == 1, e1(x), ..))
//   y = w_0 y_0 + w_1 y_1 + ..
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

namespace {

bool isOne(const Expr *e) { return e && e->kind == Expr::Splat && e->nums[0] == 1; }

bool hasExpert(const Expr *sum, int expert) {
  return llvm::any_of(sum->terms, [&](const Term &t) { return t.expert == expert; });
}

// Of all experts, each once, without another weight than 1.
bool isWhole(const Expr *e, const Routing *r) {
  if (!r || e->kind != Expr::Terms || e->apart || e->a ||
      static_cast<int64_t>(e->terms.size()) != r->experts)
    return false;
  for (int64_t i = 0; i < r->experts; ++i)
    if (!hasExpert(e, static_cast<int>(i)))
      return false;
  return true;
}

} // namespace

Analysis::Result Analysis::pickedBy(Operation *op, const Fact &cond, const Fact &a, const Fact &b) {
  int expert = onlyExpert(cond.expr);
  const Routing *r = routing(cond.expr->ids);
  if (expert < 0 || !r || r->k != 1 || a.expr->ids ||
      (!a.expr->expertLinear && !isExpertLeaf(op->getOperand(1))))
    return std::nullopt;
  auto layout = broadcast(cond.layout, a.layout);
  if (!layout || layout->size() != a.layout.size())
    return std::nullopt;
  Expr *sum = make(Expr::Terms);
  sum->ids = r->ids;
  const Expr *rest = b.expr;
  bool zero = rest->kind == Expr::Splat && rest->nums[0] == 0;
  if (rest->kind == Expr::Terms && rest->ids == r->ids && !rest->apart && !rest->a &&
      !hasExpert(rest, expert) &&
      llvm::all_of(rest->terms, [](const Term &t) { return isOne(t.weight); })) {
    sum->terms = rest->terms;
    consumed_.insert(b.expr);
  } else if ((rest->expertLinear || isExpertLeaf(op->getOperand(2))) && !rest->ids &&
             r->experts == 2) {
    sum->terms.push_back({1 - expert, asBody(op->getOperand(2)), splat(1), op});
  } else if (!zero) {
    return std::nullopt;
  }
  sum->terms.push_back({expert, asBody(op->getOperand(1)), splat(1), op});
  return Fact{sum, *layout};
}

// Weights of the picked result.
Analysis::Result Analysis::weighPicked(const Fact &a, const Fact &b, const Layout &layout) {
  for (bool flip : {false, true}) {
    const Fact &sum = flip ? b : a, &w = flip ? a : b;
    if (!isWhole(sum.expr, routing(sum.expr->ids)) || w.expr->expertLinear ||
        (w.expr->kind != Expr::Leaf && w.expr->kind != Expr::Column) ||
        !llvm::all_of(dropUnits(w.layout),
                      [](const Dim &dim) { return dim.size() == 1 && dim[0].kind == Atom::Tok; }))
      continue;
    Expr *out = make(Expr::Terms);
    *out = *sum.expr;
    out->origin = Value();
    for (Term &t : out->terms) {
      if (!isOne(t.weight))
        return std::nullopt;
      t.weight = w.expr;
    }
    consumed_.insert(sum.expr);
    return Fact{out, layout};
  }
  return std::nullopt;
}

// The slot of a top-k that ids [tokens] are.
std::optional<std::pair<const Routing *, int64_t>> Analysis::slotOf(Value ids) {
  Operation *op = ids ? ids.getDefiningOp() : nullptr;
  while (isOnnx(op, "Squeeze") || isOnnx(op, "Reshape") || isOnnx(op, "Cast") ||
         isOnnx(op, "Unsqueeze"))
    op = op->getOperand(0).getDefiningOp();
  bool gather = isOnnx(op, "Gather");
  if (!gather && !isOnnx(op, "Slice"))
    return std::nullopt;
  Fact from = get(op->getOperand(0));
  const Routing *r = isIdentity(from.expr) ? routing(from.expr->ids) : nullptr;
  auto rank = static_cast<int64_t>(from.layout.size());
  if (!r || r->k < 2 || rank == 0 || !isAtom(from.layout.back(), Atom::Slot))
    return std::nullopt;
  auto axis = gather ? std::optional(intAttr(op, "axis", 0))
              : op->getNumOperands() > 3 && !isAbsent(op->getOperand(3))
                  ? evalInt(op->getOperand(3))
                  : std::nullopt;
  auto slot = evalInt(op->getOperand(1));
  if (!axis || !slot || (*axis != -1 && *axis != rank - 1))
    return std::nullopt;
  if (auto end = gather ? std::nullopt : evalInt(op->getOperand(2));
      !gather && (!end || *end != *slot + 1))
    return std::nullopt;
  int64_t at = *slot < 0 ? *slot + r->k : *slot;
  if (at < 0 || at >= r->k)
    return std::nullopt;
  return std::pair{r, at};
}

// The weighted results of different slots.
Analysis::Result Analysis::joinSlots(const Fact &a, const Fact &b) {
  Expr *out = make(Expr::Terms);
  const Routing *all = nullptr;
  Expr *weights = nullptr;
  for (const Fact *f : {&a, &b}) {
    const Expr *e = f->expr;
    bool joined = !e->nums.empty(); // of some slots already
    const Routing *own = routing(e->ids);
    if (!isWhole(e, own))
      return std::nullopt;
    auto slot = joined ? std::optional(std::pair{own, int64_t(0)}) : slotOf(e->ids);
    Expr *w = e->terms.front().weight;
    if (!slot || !w || (all && slot->first != all) ||
        !llvm::all_of(e->terms, [&](const Term &t) { return t.weight && same(t.weight, w); }))
      return std::nullopt;
    Expr *tensor = joined ? w : w->kind == Expr::Column ? w->a : nullptr;
    if (!tensor || (weights && !same(weights, tensor)) ||
        (!joined && (w->expert != slot->second || w->size != slot->first->k)))
      return std::nullopt;
    all = slot->first;
    weights = tensor;
    if (joined)
      out->nums.append(e->nums.begin(), e->nums.end());
    else
      out->nums.push_back(static_cast<double>(slot->second));
    for (const Term &t : e->terms) {
      auto mine = llvm::find_if(out->terms, [&](const Term &o) { return o.expert == t.expert; });
      if (mine == out->terms.end())
        out->terms.push_back({t.expert, t.body, tensor, t.op});
      else if (!same(mine->body, t.body))
        return std::nullopt;
    }
  }
  llvm::sort(out->nums);
  if (std::adjacent_find(out->nums.begin(), out->nums.end()) != out->nums.end())
    return std::nullopt;
  if (static_cast<int64_t>(out->nums.size()) == all->k)
    out->nums.clear();
  out->ids = all->ids;
  consumed_.insert(a.expr);
  consumed_.insert(b.expr);
  auto layout = broadcast(a.layout, b.layout);
  return layout ? Result(Fact{out, *layout}) : std::nullopt;
}

// `e`, what slot `slot` gives, as a function of the slot: its ids are `from`, those
// of all slots `to`, and its weight is a column of theirs. Null where it is more.
static Expr *atSlot(Analysis &analysis, Expr *e, Value from, Value to, int64_t k, int64_t slot,
                    int depth = 0) {
  if (!e || depth > 32)
    return nullptr;
  if (e->kind == Expr::Column)
    return e->size == k && e->expert == slot ? e->a : nullptr;
  bool plain = e->kind == Expr::Leaf || e->kind == Expr::Splat || e->kind == Expr::Weight;
  if (plain || e->ids != from)
    return e->kind == Expr::Opaque ? nullptr : e;
  bool known = e->kind == Expr::Gathered || e->kind == Expr::Linear || e->kind == Expr::Unary ||
               e->kind == Expr::Binary || e->kind == Expr::Part || e->kind == Expr::Joined;
  Expr *out = known ? analysis.make(e->kind) : nullptr;
  if (!out)
    return nullptr;
  *out = *e;
  out->origin = Value();
  out->ids = to;
  for (Expr *Expr::*child : {&Expr::a, &Expr::b})
    if (e->*child && !(out->*child = atSlot(analysis, e->*child, from, to, k, slot, depth + 1)))
      return nullptr;
  return out;
}

// The same for experts gathered slot by slot: w_0 f(id_0) + w_1 f(id_1) + ..
Analysis::Result Analysis::joinGathered(const Fact &a, const Fact &b) {
  Expr *out = make(Expr::AllTerms);
  const Routing *all = nullptr;
  for (const Fact *f : {&a, &b}) {
    Expr *e = f->expr;
    bool joined = e->kind == Expr::AllTerms && !e->nums.empty(); // of some slots already
    auto slot = joined ? std::optional(std::pair{routing(e->ids), int64_t(0)})
                : e->expertLinear && e->perSlot ? slotOf(e->ids)
                                                : std::nullopt;
    if (!slot || !slot->first || (all && slot->first != all) || (!isTokenRows(dropUnits(featuresLast(f->layout))) && !isTokenBlocks(f->layout)))
      return std::nullopt;
    all = slot->first;
    Expr *body = joined ? e->a : atSlot(*this, e, e->ids, all->ids, all->k, slot->second);
    if (!body || (out->a && !same(out->a, body)))
      return std::nullopt;
    out->a = body;
    if (joined)
      out->nums.append(e->nums.begin(), e->nums.end());
    else
      out->nums.push_back(static_cast<double>(slot->second));
  }
  llvm::sort(out->nums);
  auto layout = broadcast(a.layout, b.layout);
  if (!layout || std::adjacent_find(out->nums.begin(), out->nums.end()) != out->nums.end())
    return std::nullopt;
  if (static_cast<int64_t>(out->nums.size()) == all->k)
    out->nums.clear();
  out->ids = all->ids;
  consumed_.insert(a.expr);
  consumed_.insert(b.expr);
  return Fact{out, *layout};
}

} // namespace moec::raise
