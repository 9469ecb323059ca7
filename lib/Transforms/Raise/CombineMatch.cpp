// Where experts' results come together: scatters back to tokens, sums over
// slots, sums of one term for each expert.
#include "Analysis.h"
#include "InputWeights.h"
#include <cmath>

using namespace mlir;

namespace moec::raise {

namespace {

bool isZero(const Fact &f) {
  if (f.expr->kind == Expr::Splat)
    return f.expr->nums[0] == 0;
  if (f.expr->kind != Expr::Weight)
    return false;
  auto number = constSplat(f.expr->origin);
  return number && *number == 0;
}

bool isOne(const Fact &f) {
  if (f.expr->kind == Expr::Splat)
    return f.expr->nums[0] == 1;
  if (f.expr->kind != Expr::Weight)
    return false;
  auto number = constSplat(f.expr->origin);
  return number && *number == 1;
}

// All slots exactly once, in whatever order.
bool coversSlots(const Layout &layout) {
  SmallVector<Atom, 8> atoms = flatten(layout);
  if (atoms.size() == 1)
    return atoms[0].kind == Atom::Sorted ||
           (atoms[0].kind == Atom::Tok && atoms[0].parts == 1);
  return atoms.size() == 2 && atoms[0].kind == Atom::Tok &&
         atoms[1].kind == Atom::Slot;
}

} // namespace

// Scatters whose indices are expert ids: a histogram, or dense weights [T, E].
Analysis::Result Analysis::scatterIds(Operation *op, const Fact &data,
                                      const Fact &index, const Fact &update,
                                      bool adds) {
  const Routing *r = routing(index.expr->ids);
  auto type = ranked(op->getResult(0));
  bool fills = !adds && data.expr->kind == Expr::Splat &&
               std::isinf(data.expr->nums[0]) && data.expr->nums[0] < 0;
  if (!r || !type || (!isZero(data) && !fills))
    return std::nullopt;
  int64_t axis = type.getRank() > 1 ? chosenAxis(op, 0) : 0;
  if (axis < 0 || type.getDimSize(axis) != r->experts)
    return std::nullopt;
  Dim experts{{Atom::Expert, r->experts}};
  if (type.getRank() == 1 && adds && isOne(update) && coversSlots(index.layout)) {
    Expr *e = make(Expr::Counts);
    e->ids = r->ids;
    return Fact{e, {experts}};
  }
  if (type.getRank() < 2 || axis >= static_cast<int64_t>(index.layout.size()) ||
      !broadcast(index.layout, update.layout) || update.expr->expertLinear)
    return std::nullopt;
  Expr *e = make(fills ? Expr::FilledW : Expr::DenseW);
  e->ids = r->ids;
  e->b = update.expr;
  Layout layout = index.layout;
  layout[axis] = experts;
  return Fact{e, layout};
}

Analysis::Result Analysis::addHits(Operation *op, const Fact &data,
                                   const Fact &index, const Fact &update,
                                   bool adds) {
  const Routing *r = routing(index.expr->ids);
  if (!r || update.layout.size() < 2 || !update.expr->expertLinear)
    return std::nullopt;
  if (!isAtom(update.layout[0], Atom::Hit) ||
      update.layout[0][0].order != index.expr->order) {
    fail(op, r->ids, "the rows added are not the rows the expert was given",
         true);
    return std::nullopt;
  }
  bool zero = isZero(data);
  if (!zero && !adds) {
    fail(op, r->ids, "the combine overwrites what it should add to", true);
    return std::nullopt;
  }
  Expr *sum = make(Expr::Terms);
  sum->ids = r->ids;
  if (data.expr->kind == Expr::Terms) {
    sum->terms = data.expr->terms;
    sum->a = data.expr->a;
    consumed_.insert(data.expr);
  } else if (!zero) {
    if (data.expr->ids)
      return std::nullopt;
    sum->a = data.expr;
  }
  // The weight may have been summed over the slots before.
  Value by;
  auto term = asTerm(update.expr, op, by);
  if (term && (by != r->ids || term->expert != index.expr->expert))
    return std::nullopt;
  if (!term)
    term = Term{index.expr->expert, update.expr, nullptr, op};
  // Hits of a mask; a weight of 0 masks itself.
  term->mask = index.expr->b ? index.expr->b : index.expr->a;
  term->positive = term->mask && !index.expr->nums.empty();
  if (term->mask && !term->positive && term->weight && same(term->weight, term->mask))
    term->mask = nullptr;
  sum->terms.push_back(*term);
  Layout layout = update.layout;
  layout[0] = {Atom{Atom::Tok, -1}};
  return Fact{sum, layout};
}

Analysis::Result Analysis::scatterRows(Operation *op, const Fact &data,
                                       const Fact &index, const Dim &rows,
                                       const Fact &update, bool adds) {
  Value ids = index.expr->ids;
  if (index.expr->kind == Expr::HitTok)
    return addHits(op, data, index, update, adds);
  bool sorted = isAtom(rows, Atom::Sorted) && !update.layout.empty() &&
                isAtom(update.layout[0], Atom::Sorted) &&
                update.layout[0][0].order == rows[0].order;
  // Every slot once: what stood there before does not matter, or is zero.
  if (index.expr->kind == Expr::Perm && (!adds || isZero(data))) {
    Layout layout{sortedFrom_[index.expr->order]};
    if (update.expr->kind == Expr::Iota) {
      Expr *e = make(Expr::InvPerm);
      e->ids = ids;
      e->order = index.expr->order;
      e->perSlot = true;
      return Fact{e, layout};
    }
    if (!sorted)
      return std::nullopt;
    layout.append(update.layout.begin() + 1, update.layout.end());
    return Fact{update.expr, layout};
  }
  if (index.expr->kind != Expr::PermTok || !sorted)
    return std::nullopt;
  if (!adds) {
    fail(op, ids, "the combine scatters without reduction on repeated indices",
         update.expr->expertLinear);
    return std::nullopt;
  }
  if (!isZero(data) || !update.expr->expertLinear)
    return std::nullopt;
  Layout rest{Dim{{Atom::Tok, -1}}};
  rest.append(update.layout.begin() + 1, update.layout.end());
  return sumSlots(op, update, rest);
}

Analysis::Result Analysis::scatterND(Operation *op) {
  Fact data = get(op->getOperand(0)), index = get(op->getOperand(1)),
       update = get(op->getOperand(2));
  std::string reduction = strAttr(op, "reduction");
  auto type = ranked(op->getOperand(1));
  if (!index.expr->ids || !type || type.getShape().back() != 1 ||
      index.layout.size() != 2 || (reduction != "add" && reduction != "none" && !reduction.empty()))
    return std::nullopt;
  return scatterRows(op, data, index, index.layout[0], update,
                     reduction == "add");
}

Analysis::Result Analysis::scatterElements(Operation *op) {
  Fact data = get(op->getOperand(0)), index = get(op->getOperand(1)),
       update = get(op->getOperand(2));
  std::string reduction = strAttr(op, "reduction");
  if (!index.expr->ids ||
      (reduction != "add" && reduction != "none" && !reduction.empty()))
    return std::nullopt;
  bool adds = reduction == "add";
  if (isIdentity(index.expr))
    return scatterIds(op, data, index, update, adds);
  if (intAttr(op, "axis", 0) != 0 || index.layout.empty())
    return std::nullopt;
  // Every feature of a row goes the same way.
  if (index.layout.size() > 1 && index.layout.size() != update.layout.size())
    return std::nullopt;
  for (size_t i = 1; i < index.layout.size(); ++i)
    if (index.layout[i].size() != update.layout[i].size())
      return std::nullopt;
  return scatterRows(op, data, index, index.layout[0], update, adds);
}

// The sum over all slots of a token: `in` is a product with the routing weight.
Analysis::Result Analysis::sumSlots(Operation *op, const Fact &in,
                                    const Layout &rest) {
  if (!in.expr->expertLinear || !in.expr->ids ||
      (!isTokenRows(dropUnits(featuresLast(rest))) && !isTokenBlocks(rest)))
    return std::nullopt;
  Expr *e = make(Expr::AllTerms);
  e->a = in.expr;
  e->ids = in.expr->ids;
  return Fact{e, rest};
}

// Weight of one expert (or each) for a token: sum_k (id == e) * w.
Analysis::Result Analysis::maskedWeight(const Fact &in, const Layout &rest) {
  SmallVector<Expr *> product;
  factors(in.expr, product);
  Expr *mask = nullptr, *weight = nullptr;
  for (Expr *f : product) {
    bool isMask = f->kind == Expr::IdTable || f->kind == Expr::OneHot;
    if (isMask && mask)
      return std::nullopt;
    if (isMask) {
      mask = f;
    } else if (weight) {
      weight = withChildren(Expr::Binary, weight, f);
      weight->name = "Mul";
    } else {
      weight = f;
    }
  }
  if (!mask)
    return std::nullopt;
  if (!weight) // how many slots chose the expert
    weight = splat(1);
  Expr *e = make(mask->kind == Expr::OneHot ? Expr::DenseW : Expr::Masked);
  e->ids = in.expr->ids;
  e->b = weight;
  if (e->kind == Expr::Masked) {
    for (auto [i, v] : llvm::enumerate(mask->nums)) {
      if (v != 0 && (v != 1 || e->expert >= 0))
        return std::nullopt;
      if (v == 1)
        e->expert = static_cast<int>(i);
    }
    if (e->expert < 0)
      return std::nullopt;
    lookedAt_.insert({e->ids, e->expert});
  }
  return Fact{e, rest};
}

// All elements of a mask: the number of slots that chose the expert.
Analysis::Result Analysis::sumAll(Operation *op, const Fact &in) {
  auto type = ranked(op->getOperand(0));
  int expert = onlyExpert(in.expr);
  if (!type || expert < 0 || !coversSlots(in.layout) ||
      intAttr(op, "noop_with_empty_axes", 0) != 0)
    return std::nullopt;
  Expr *e = make(Expr::HitCount);
  e->ids = in.expr->ids;
  e->expert = expert;
  bool keep = intAttr(op, "keepdims", 1) != 0;
  return Fact{e, Layout(keep ? type.getRank() : 0)};
}

Analysis::Result Analysis::reduceSum(Operation *op) {
  Fact in = get(op->getOperand(0));
  auto rank = static_cast<int64_t>(in.layout.size());
  auto type = ranked(op->getOperand(0));
  if (!in.expr->ids || (type && type.getRank() != rank))
    return std::nullopt;
  if (op->getNumOperands() < 2 || isAbsent(op->getOperand(1)))
    return sumAll(op, in);
  auto axes = evalAllInts(op->getOperand(1));
  if (!axes || axes->empty())
    return std::nullopt;
  Layout summed, rest = in.layout;
  for (int64_t &axis : *axes) {
    axis += axis < 0 ? rank : 0;
    if (axis < 0 || axis >= rank)
      return std::nullopt;
  }
  llvm::sort(*axes);
  for (int64_t axis : *axes) {
    summed.push_back(in.layout[axis]);
    rest[axis].clear();
  }
  if (intAttr(op, "keepdims", 1) == 0)
    for (int64_t axis : llvm::reverse(*axes))
      rest.erase(rest.begin() + axis);
  if (Result counts = countSlots(in, summed, rest))
    return counts;
  return axes->size() == 1 ? sumOver(op, in, summed[0], rest) : std::nullopt;
}

// Whether some slot chose an expert: no more than one did.
Analysis::Result Analysis::reduceMax(Operation *op) {
  Expr *e = get(op->getOperand(0)).expr;
  const Routing *r = e->ids ? routing(e->ids) : nullptr;
  bool mask = e->kind == Expr::OneHot || (e->kind == Expr::IdTable && onlyExpert(e) >= 0);
  return mask && r && (!r->external || r->k == 1) ? reduceSum(op) : std::nullopt;
}

Analysis::Result Analysis::sumOver(Operation *op, const Fact &in,
                                   const Dim &dim, const Layout &rest) {
  if (Result counted = countOrPlace(in, dim, rest))
    return counted;
  const Routing *r = routing(in.expr->ids);
  // Ones scattered to [tokens, experts] (or a one-hot), summed over tokens.
  if (in.expr->kind == Expr::DenseW && in.expr->b->kind == Expr::Splat &&
      in.expr->b->nums[0] == 1 && isAtom(dim, Atom::Tok) && r &&
      dropUnits(rest).size() == 1) {
    Expr *e = make(Expr::Counts);
    e->ids = r->ids;
    return Fact{e, rest};
  }
  if (in.expr->kind == Expr::Terms) {
    // A stack of single contributions, summed.
    if (!in.expr->apart || !isAtom(dim, Atom::Expert))
      return std::nullopt;
    Expr *e = make(Expr::Terms);
    e->ids = in.expr->ids;
    e->terms = in.expr->terms;
    consumed_.insert(in.expr);
    return Fact{e, rest};
  }
  bool slots = isAtom(dim, Atom::Slot) ||
               (dim.empty() && r && r->k == 1 && !r->dense);
  if (slots)
    return in.expr->expertLinear ? sumSlots(op, in, rest)
                                 : maskedWeight(in, rest);
  if (!isAtom(dim, Atom::Expert) || !in.expr->expertLinear)
    return std::nullopt;
  SmallVector<Expr *> product;
  factors(in.expr, product);
  auto isWeights = [](const Expr *f) { return f->kind == Expr::DenseW; };
  bool inside = in.expr->kind == Expr::Joined && in.expr->b;
  return llvm::count_if(product, isWeights) == 1 || inside || readsWeighed(in.expr)
             ? sumSlots(op, in, rest)
             : std::nullopt;
}

} // namespace moec::raise
