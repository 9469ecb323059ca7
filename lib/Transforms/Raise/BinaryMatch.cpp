// Operations on two tensors: on experts' values they grow the expression, on
// indices, masks and sums of experts they are looked up.
#include "Elementwise.h"

using namespace mlir;

namespace moec::raise {

Analysis::Result Analysis::binary(Operation *op) {
  StringRef n = onnxName(op);
  if (Result key = stableKey(op))
    return key;
  Fact acc = get(op->getOperand(0));
  auto number = [&](Value v, Fact &fact) {
    auto type = ranked(v);
    bool sizes = fact.expr->kind == Expr::Leaf || fact.expr->kind == Expr::Column;
    if (!sizes || !type || !type.getElementType().isInteger() || type.getRank() > 1)
      return;
    if (auto i = evalInt(v))
      fact.expr = splat(static_cast<double>(*i));
  };
  number(op->getOperand(0), acc);
  if (n == "Sum" || op->getNumOperands() == 1)
    n = n == "Sum" ? StringRef("Add") : n;
  if (n == "Add" && endsTopOne(op))
    return std::nullopt;
  for (Value v : op->getOperands().drop_front()) {
    Fact next = get(v);
    number(v, next);
    if (n == "Equal") {
      noteTest(acc, next);
      noteTest(next, acc);
    }
    Result sum = binaryFacts(n, acc, next, op);
    if (!sum)
      return std::nullopt;
    acc = *sum;
  }
  return acc;
}

// Index vectors: floor division by k, token * k + slot, sign tests.
Analysis::Result Analysis::indexArithmetic(StringRef n, const Fact &a,
                                           const Fact &b,
                                           const Layout &layout, bool floats) {
  Expr *x = a.expr, *y = b.expr;
  auto with = [&](Expr::Kind kind) {
    Expr *e = make(kind);
    e->ids = x->ids;
    e->expert = x->expert;
    e->order = x->order;
    e->b = x->b;
    e->perSlot = true;
    return Fact{e, layout};
  };
  const Routing *r = routing(x->ids);
  if (!r)
    return std::nullopt;
  int64_t slots = r->dense ? 1 : r->k;
  if (y->kind == Expr::Splat) {
    double c = y->nums[0];
    if (n == "Less" && c <= 0)
      return Fact{splat(0), Layout(layout.size())};
    if (n == "GreaterOrEqual" && c <= 0)
      return Fact{splat(1), Layout(layout.size())};
    if (x->kind == Expr::Perm && n == "Div" && c == slots)
      return with(floats && slots > 1 ? Expr::PermFrac : Expr::PermTok);
    if (x->kind == Expr::HitTok && n == "Mul" && c == slots)
      return with(Expr::HitTokK);
    return std::nullopt;
  }
  bool signs = x->kind == Expr::PermSign || y->kind == Expr::PermSign;
  if (signs && n == "Mul" && y->ids == x->ids && y->order == x->order &&
      (x->kind == Expr::PermTok || y->kind == Expr::PermTok))
    return with(Expr::PermTok);
  if (n == "Add" && y->ids == x->ids && y->order == x->order) {
    if (x->kind == Expr::HitTokK && y->kind == Expr::HitSlot)
      return with(Expr::HitFlat);
    if (x->kind == Expr::HitSlot && y->kind == Expr::HitTokK)
      return with(Expr::HitFlat);
    bool both = (x->kind == Expr::HitTok && y->kind == Expr::HitSlot) ||
                (x->kind == Expr::HitSlot && y->kind == Expr::HitTok);
    if (both && slots == 1) // a factor of one is gone
      return with(Expr::HitFlat);
  }
  return std::nullopt;
}

// Numbers that are the same everywhere: two of them, or one that changes nothing.
std::optional<Analysis::Result> Analysis::foldSplats(StringRef n, const Fact &a,
                                                     const Fact &b,
                                                     Operation *op) {
  const Expr *x = a.expr, *y = b.expr;
  bool xs = x->kind == Expr::Splat, ys = y->kind == Expr::Splat;
  // A number everywhere has no layout of its own.
  Layout units(std::max(a.layout.size(), b.layout.size()));
  if (xs && ys)
    return Fact{splat(fold(n, x->nums[0], y->nums[0], isFloat(op->getOperand(0)))),
                units};
  if (n == "And" && ((xs && x->nums[0] == 0) || (ys && y->nums[0] == 0)))
    return Fact{splat(0), units};
  auto neutral = [&](const Expr *e, bool right) {
    bool sum = n == "Add" || n == "Or" || (right && n == "Sub");
    bool product = n == "Mul" || n == "And" || (right && n == "Div");
    auto number = e->kind == Expr::Splat    ? std::optional(e->nums[0])
                  : e->kind == Expr::Weight ? constSplat(e->origin)
                                            : std::nullopt;
    return number && ((sum && *number == 0) || (product && *number == 1));
  };
  bool neutralY = neutral(y, true);
  if (!neutralY && !neutral(x, false))
    return std::nullopt;
  const Fact &kept = neutralY ? a : b;
  Value by;
  bool known = kept.expr->ids || kept.expr->expertLinear || asLeafTerm(kept.expr, op, by);
  return known && fits(kept.layout, op->getResult(0)) ? Result(kept)
                                                      : Result();
}

// One value for each token, the same for all experts.
static bool oneOfExperts(const Layout &layout) {
  for (const Dim &dim : layout)
    for (const Atom &atom : dim)
      if (atom.kind != Atom::Tok)
        return false;
  return true;
}

// Constants of several axes go with the experts, not with slots or tokens.
static bool constantsFit(const Fact &a, const Fact &b, const Layout &layout) {
  for (const Fact *f : {&a, &b}) {
    if (f->expr->kind != Expr::Weight || dropUnits(f->layout).size() < 2)
      continue;
    size_t shift = layout.size() - f->layout.size();
    for (size_t i = 0; i + 1 < f->layout.size(); ++i)
      if (!f->layout[i].empty() && !isAtom(layout[shift + i], Atom::Expert))
        return false;
  }
  return true;
}

// Sums of experts' terms, weights of picked results and masks.
Analysis::Result Analysis::combineFacts(StringRef n, const Fact &a, const Fact &b,
                                        const Layout &layout, Operation *op) {
  if (n == "Mul")
    if (Result weighed = weighPicked(a, b, layout))
      return weighed;
  if (n == "Add")
    if (Result slots = joinSlots(a, b))
      return slots;
  if (n == "Add")
    if (Result slots = joinGathered(a, b))
      return slots;
  if (n == "Add")
    if (Result terms = sumTerms(op, a, b))
      return terms;
  if (n == "Add")
    if (Result slots = sumSlotTerms(op, a, b))
      return slots;
  // The mask of the only slot times its weight.
  for (const Fact *mask : {&a, &b}) {
    const Fact &w = mask == &a ? b : a;
    const Routing *only = n == "Mul" && mask->expr->kind == Expr::OneHot
                              ? routing(mask->expr->ids)
                              : nullptr;
    if (!only || only->k != 1 || w.expr->expertLinear ||
        (w.expr->ids && w.expr->ids != only->ids) || !oneOfExperts(w.layout))
      continue;
    Expr *dense = make(Expr::DenseW);
    dense->ids = only->ids;
    dense->b = w.expr;
    return Fact{dense, layout};
  }
  return std::nullopt;
}

Analysis::Result Analysis::binaryFacts(StringRef n, const Fact &a,
                                       const Fact &b, Operation *op) {
  if (auto done = foldSplats(n, a, b, op))
    return *done;
  if (n == "Mul") {
    for (auto across : {&Analysis::acrossSequences, &Analysis::acrossExperts}) {
      if (auto w = (this->*across)(a, b))
        return binaryFacts(n, *w, b, op);
      if (auto w = (this->*across)(b, a))
        return binaryFacts(n, a, *w, op);
    }
  }
  if (Result count = compareCount(n, a, b))
    return count;
  auto layout = broadcast(a.layout, b.layout);
  if (!layout)
    return std::nullopt;
  if (auto done = foldTable(n, a, b, isFloat(op->getOperand(0)), *layout))
    return *done;
  Expr *x = a.expr, *y = b.expr;
  if (auto done = placeFacts(n, a, b, *layout))
    return *done;
  // Where an expert's rows end, less how many there are: where they begin.
  if (n == "Sub" && x->kind == Expr::End && y->kind == Expr::Count &&
      x->ids == y->ids && x->expert == y->expert) {
    Expr *begin = make(Expr::End);
    begin->ids = x->ids;
    begin->expert = x->expert - 1;
    return Fact{begin->expert < 0 ? splat(0) : begin, *layout};
  }
  if (!constantsFit(a, b, *layout))
    return std::nullopt;
  if (isIndexKind(x) && (y->kind == Expr::Splat || isIndexKind(y)))
    return indexArithmetic(n, a, b, *layout, isFloat(op->getOperand(0)));
  if (Result combined = combineFacts(n, a, b, *layout, op))
    return combined;
  return grow(n, a, b, *layout, op);
}

// One more operation in an expression of experts, or of weights.
Analysis::Result Analysis::grow(StringRef n, const Fact &a, const Fact &b,
                                const Layout &layout, Operation *op) {
  Expr *x = a.expr, *y = b.expr;
  // Weights that other ids made are some tensor to these.
  auto foreign = [&](Expr *&e, const Expr *other) {
    bool value = e->kind == Expr::Binary || e->kind == Expr::Unary;
    if (!value || e->expertLinear || !other->expertLinear || !e->ids ||
        !other->ids || e->ids == other->ids || !e->origin)
      return;
    Expr *leaf = make(Expr::Leaf);
    leaf->origin = e->origin;
    leaf->originLayout = e->originLayout;
    e = leaf;
  };
  foreign(x, y);
  foreign(y, x);
  bool known = x->expertLinear || y->expertLinear || x->ids || y->ids;
  if (!known || (x->ids && y->ids && x->ids != y->ids))
    return std::nullopt;
  static const llvm::StringSet<> arithmetic = {"Add", "Sub", "Mul", "Div",
                                               "Min", "Max", "Pow"};
  auto closed = [](const Expr *e) {
    return e->kind == Expr::Terms || e->kind == Expr::AllTerms || isIndexKind(e);
  };
  bool both = n == "And" && (x->kind == Expr::OneHot || y->kind == Expr::OneHot);
  for (Expr *e : {x, y})
    if (const Routing *r = e->kind == Expr::Terms && !e->apart ? routing(e->ids) : nullptr;
        r && n != "Add" && e->terms.size() > 1 &&
        static_cast<int64_t>(e->terms.size()) < r->experts) {
      fail(op, e->ids, "the sum is changed before all experts are added", true);
      consumed_.insert(e);
    }
  if ((!arithmetic.contains(n) && !both) || closed(x) || closed(y))
    return std::nullopt;
  Expr *out = withChildren(Expr::Binary, x, y);
  out->name = n.str();
  // Vectors of the chosen expert are its parameters like matrices.
  for (const Fact *f : {&a, &b})
    out->expertLinear |= f->expr->kind == Expr::Gathered &&
                         llvm::any_of(f->layout, [](const Dim &dim) { return isAtom(dim, Atom::Any); });
  // The contribution of the only expert is a sum already.
  const Routing *r = n == "Mul" ? routing(out->ids) : nullptr;
  Value by;
  if (auto term = r && r->experts == 1 ? asTerm(out, op, by) : std::nullopt) {
    out = make(Expr::Terms);
    out->ids = r->ids;
    out->terms.push_back(*term);
  }
  return Fact{out, layout};
}

} // namespace moec::raise
