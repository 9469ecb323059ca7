// Slots sorted by expert, and the rows of each expert cut out of them: the ways
// of writing the sort's key, the counts and the cuts.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

namespace {

Operation *definer(Value v) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  while (isOnnx(op, "Cast") || isOnnx(op, "Identity"))
    op = op->getOperand(0).getDefiningOp();
  return op;
}

} // namespace

// id * slots + slot: a sort by it keeps the order of an expert's slots.
Analysis::Result Analysis::stableKey(Operation *op) {
  if (!isOnnx(op, "Add") || op->getNumOperands() != 2)
    return std::nullopt;
  for (unsigned i : {0u, 1u}) {
    Operation *mul = definer(op->getOperand(i));
    Operation *range = definer(op->getOperand(1 - i));
    if (!isOnnx(mul, "Mul") || !isOnnx(range, "Range"))
      continue;
    auto start = evalInt(range->getOperand(0)), step = evalInt(range->getOperand(2));
    if (!start || *start != 0 || !step || *step != 1)
      continue;
    for (unsigned j : {0u, 1u}) {
      Fact ids = get(mul->getOperand(j));
      if (!isIdentity(ids.expr) || ids.layout.size() != 1 || !isFlatSlots(ids.layout[0]) ||
          !isSlotCount(mul->getOperand(1 - j), ids.layout) ||
          !isSlotCount(range->getOperand(1), ids.layout))
        continue;
      Expr *e = make(Expr::SortKey);
      e->ids = ids.expr->ids;
      e->perSlot = true;
      return Fact{e, ids.layout};
    }
  }
  return std::nullopt;
}

// Counts of the experts one by one, in order.
Analysis::Result Analysis::joinCounts(ArrayRef<Fact> parts) {
  const Routing *r = routing(parts[0].expr->ids);
  if (!r || static_cast<int64_t>(parts.size()) != r->experts)
    return std::nullopt;
  for (auto [i, part] : llvm::enumerate(parts))
    if (part.expr->kind != Expr::Count || part.expr->ids != r->ids ||
        part.expr->expert != static_cast<int>(i))
      return std::nullopt;
  Expr *e = make(Expr::Counts);
  e->ids = r->ids;
  return Fact{e, {Dim{{Atom::Expert, r->experts}}}};
}

// One-hot rows of all slots, summed: how many chose each expert.
Analysis::Result Analysis::countSlots(const Fact &in, const Layout &summed, const Layout &rest) {
  if (in.expr->kind != Expr::OneHot || dropUnits(rest).size() != 1)
    return std::nullopt;
  SmallVector<Atom, 8> atoms = flatten(summed);
  auto tokens = [](const Atom &a) { return a.kind == Atom::Tok && a.parts == 1; };
  auto slot = [](const Atom &a) { return a.kind == Atom::Slot; };
  bool all = llvm::count_if(atoms, tokens) == 1 &&
             llvm::count_if(atoms, slot) + 1 == static_cast<int64_t>(atoms.size()) &&
             atoms.size() <= 2;
  const Routing *r = routing(in.expr->ids);
  if (!all || !r || (atoms.size() == 1) != (r->k == 1))
    return std::nullopt;
  Expr *e = make(Expr::Counts);
  e->ids = r->ids;
  if (r->k == 1)
    e->a = in.expr;
  return Fact{e, rest};
}

// Split of the sorted rows by the experts' counts.
bool Analysis::splitGroups(Operation *op) {
  if (op->getNumOperands() < 2 || isAbsent(op->getOperand(1)))
    return false;
  Fact in = get(op->getOperand(0)), counts = get(op->getOperand(1));
  int64_t axis = intAttr(op, "axis", 0);
  axis += axis < 0 ? static_cast<int64_t>(in.layout.size()) : 0;
  if (counts.expr->kind != Expr::Counts || axis < 0 ||
      axis >= static_cast<int64_t>(in.layout.size()) || !isAtom(in.layout[axis], Atom::Sorted) ||
      in.layout[axis][0].ids != counts.expr->ids)
    return false;
  const Routing *r = routing(counts.expr->ids);
  if (!r || static_cast<int64_t>(op->getNumResults()) != r->experts) {
    fail(op, counts.expr->ids, "the sorted rows are not cut into one part for each expert");
    return false;
  }
  for (auto [e, result] : llvm::enumerate(op->getResults())) {
    Fact out = in;
    Atom &group = out.layout[axis][0];
    group.kind = Atom::Group;
    group.expert = static_cast<int>(e);
    group.size = -1;
    set(result, out);
  }
  return true;
}

} // namespace moec::raise
