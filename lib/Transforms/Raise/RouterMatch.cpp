// Where a routing begins: a top-k over expert scores, or a sort of its ids.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

// `count` is the number of slots: the length of a flat vector over them.
bool Analysis::isSlotCount(Value count, const Layout &slots) {
  for (int depth = 0; depth < 12; ++depth) {
    Operation *op = count ? count.getDefiningOp() : nullptr;
    StringRef n = onnxName(op);
    if (n == "Shape") {
      Fact of = get(op->getOperand(0));
      if (of.layout.size() != 1)
        return false;
      auto dim = unifyDims(of.layout[0], slots[0]);
      return dim && of.layout[0].size() == slots[0].size();
    }
    if (n == "Size") {
      auto dims = flatten(get(op->getOperand(0)).layout);
      return dims.size() == slots[0].size();
    }
    if (n != "Reshape" && n != "Squeeze" && n != "Unsqueeze" && n != "Cast" &&
        n != "Identity" && n != "Gather" && n != "Slice" && n != "Concat")
      return false;
    if (n == "Concat" && op->getNumOperands() != 1)
      return false;
    count = op->getOperand(0);
  }
  return false;
}

// Sorting ids groups the slots by expert; sorting the permutation inverts it.
bool Analysis::argsort(Operation *op, const Fact &in) {
  if (in.layout.size() != 1 || intAttr(op, "largest", 1) != 0 ||
      intAttr(op, "sorted", 1) == 0)
    return false;
  auto type = ranked(op->getOperand(0));
  auto given = evalInt(op->getOperand(1));
  bool all = given && type && type.hasStaticShape() &&
             *given == type.getNumElements();
  if (!all && !isSlotCount(op->getOperand(1), in.layout)) {
    fail(op, in.expr->ids, "the sort of the ids does not keep all of them");
    return false;
  }
  Value ids = in.expr->ids;
  if (in.expr->kind == Expr::Perm) {
    Expr *inverse = make(Expr::InvPerm);
    inverse->ids = ids;
    inverse->order = in.expr->order;
    inverse->perSlot = true;
    set(op->getResult(1), {inverse, {sortedFrom_[in.expr->order]}});
    return true;
  }
  if (!isFlatSlots(in.layout[0]) ||
      (in.expr->kind == Expr::IdTable && !isIdentity(in.expr)))
    return false;
  Atom rows{Atom::Sorted, -1};
  rows.order = op;
  rows.ids = ids;
  sortedFrom_[op] = in.layout[0];
  set(op->getResult(0), {in.expr, {Dim{rows}}});
  Expr *perm = make(Expr::Perm);
  perm->ids = ids;
  perm->order = op;
  perm->perSlot = true;
  set(op->getResult(1), {perm, {Dim{rows}}});
  return true;
}

// The axis experts are chosen along: the last, or that of channels; -1: none.
int64_t Analysis::chosenAxis(Operation *op, int64_t otherwise) {
  int64_t axis = intAttr(op, "axis", otherwise), rank = ranked(op->getOperand(0)).getRank();
  if (axis < 0)
    axis += rank;
  bool channels = axis == 1 && reading_.channels.values.contains(op->getOperand(0));
  return axis == rank - 1 || channels ? axis : -1;
}

Layout idLayout(const Layout &scores, RankedTensorType type, int64_t axis) {
  Layout layout = scores;
  bool last = axis == type.getRank() - 1;
  if (last ? !isTokenRows(scores) : innerFeatures(scores) != axis)
    layout = last ? leafLayout(type) : channelLayout(type);
  layout[axis].clear();
  return layout;
}

bool Analysis::topk(Operation *op) {
  Fact in = get(op->getOperand(0));
  noteSort(op, in);
  if (in.expr->kind == Expr::IdTable || in.expr->kind == Expr::Perm ||
      in.expr->kind == Expr::SortKey)
    return argsort(op, in);
  auto type = ranked(op->getOperand(0));
  if (!type || type.getRank() < 2 || reading_.ignored.contains(op->getResult(1)))
    return false;
  int64_t axis = chosenAxis(op, -1);
  int64_t experts = axis < 0 ? -1 : type.getDimSize(axis);
  auto elements = dyn_cast<FloatType>(type.getElementType());
  if (intAttr(op, "largest", 1) != 1 || experts < 1 ||
      experts > 65536 || !elements)
    return false;
  Routing r;
  r.topk = op;
  r.values = op->getResult(0);
  r.ids = op->getResult(1);
  r.scores = op->getOperand(0);
  r.experts = experts;
  r.axis = axis;
  auto k = evalInt(op->getOperand(1));
  if (!k || *k < 1 || *k > experts) {
    routings_.insert({r.ids, r});
    fail(op, r.ids,
         k ? "the top-k count is out of range" : "the top-k count is not a constant");
    return false;
  }
  r.k = *k;
  routings_.insert({r.ids, r});
  Layout layout = idLayout(in.layout, type, axis);
  if (*k > 1)
    layout[axis].push_back({Atom::Slot, *k});
  set(r.ids, {idTable(r.ids, experts), layout});
  return true;
}

} // namespace moec::raise
