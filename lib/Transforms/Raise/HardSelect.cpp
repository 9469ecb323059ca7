// Experts' results side by side, of which the chosen one is taken, with no
// weight and no sum.
#include "Analysis.h"
#include "moec/Transforms/Prepare/Sizes.h"

using namespace mlir;

namespace moec::raise {

namespace {

// Computed with parameters of its own a few operations back. What is taken from
// a top-k is a routing weight, though a router's parameters are behind it.
bool holdsParameters(Value v, int depth = 0) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  auto rounds = [&] { return isOnnx(op, "DequantizeLinear") || isOnnx(op, "QuantizeLinear"); };
  for (int pairs = 0; pairs < 16 && rounds(); ++pairs)
    op = op->getOperand(0).getDefiningOp();
  if (!op || depth > 5 || isOnnx(op, "TopK"))
    return false;
  if (isOnnx(op, "custom") && strAttr(op, "domain") == "ai.onnx.ml")
    return true;
  for (Value operand : op->getOperands())
    if (auto type = ranked(operand); type && isWeight(operand) && type.getRank() >= 2)
      return true;
  return llvm::any_of(op->getOperands(),
                      [&](Value operand) { return holdsParameters(operand, depth + 1); });
}

bool chosenFrom(Value stack, int depth = 0) {
  return llvm::any_of(stack.getUsers(), [&](Operation *user) {
    return isOnnx(user, "GatherElements") || isOnnx(user, "GatherND") || isOnnx(user, "Mul") ||
           isOnnx(user, "MatMul") ||
           (depth < 8 && isEachOp(user) && chosenFrom(user->getResult(0), depth + 1));
  });
}

// The index copies ids over all features of a row, no fewer.
bool coversRow(Value index, Value data, int64_t axis) {
  int64_t size = ranked(index).getDimSize(axis), all = ranked(data).getDimSize(axis);
  bool open = ShapedType::isDynamic(size) || ShapedType::isDynamic(all);
  return open ? sameSize(index, axis, data, axis) : size == all;
}

} // namespace

// An expert's result that no expression describes, such as a convolution's or
// a tree's: `v` is what the graph has of it, `stack` where several lie.
bool Analysis::isExpertLeaf(Value v, Value stack) {
  Expr *e = get(v).expr;
  return e->kind == Expr::Leaf && (!stack || chosenFrom(stack)) && holdsParameters(v);
}

Expr *Analysis::asBody(Value v) {
  Fact fact = get(v);
  if (fact.expr->kind != Expr::Leaf || fact.expr->origin == v)
    return fact.expr;
  Expr *e = make(Expr::Leaf);
  e->origin = v;
  e->originLayout = fact.layout;
  return e;
}

Analysis::Result Analysis::gatherElements(Operation *op) {
  Fact data = get(op->getOperand(0)), index = get(op->getOperand(1));
  auto type = ranked(op->getOperand(0));
  int64_t axis = intAttr(op, "axis", 0);
  if (!type || !data.expr->expertLinear || data.expr->ids ||
      index.layout.size() != data.layout.size())
    return std::nullopt;
  if (axis < 0)
    axis += type.getRank();
  if (axis < 0 || axis >= type.getRank() || !isAtom(data.layout[axis], Atom::Expert))
    return std::nullopt;
  noteIds(index, data.layout[axis][0].size, true);
  if (!isIdentity(index.expr) ||
      data.layout[axis][0].size != static_cast<int64_t>(index.expr->nums.size()))
    return std::nullopt;
  for (auto [i, dim] : llvm::enumerate(index.layout)) {
    bool along = static_cast<int64_t>(i) == axis;
    bool slot = dim.empty() || isAtom(dim, Atom::Slot);
    bool copies = llvm::all_of(dim, [](const Atom &a) { return a.kind == Atom::Any && a.copies; });
    bool rows = llvm::all_of(dim, [](const Atom &a) { return a.kind == Atom::Tok; });
    if (along ? !slot : !copies && !rows)
      return std::nullopt;
    if (!along && !rows && !dim.empty() && !coversRow(op->getOperand(1), op->getOperand(0), i)) {
      fail(op, index.expr->ids, "not all of the chosen expert's result is taken", true);
      return std::nullopt;
    }
    if (!along && dim.empty() && !data.layout[i].empty())
      return std::nullopt;
  }
  Fact out = data;
  // What only the experts' operations know the rows of has those of the ids.
  if (data.expr->kind == Expr::Joined)
    for (auto [dim, ids, size] : llvm::zip(out.layout, index.layout, type.getShape())) {
      bool rows = !ids.empty() && ids[0].kind == Atom::Tok;
      dim = rows ? ids : size == 1 ? Dim() : Dim{Atom{Atom::Any, size < 0 ? -1 : size}};
    }
  out.layout[axis] = index.layout[axis];
  out.expr = make(data.expr->kind);
  *out.expr = *data.expr;
  out.expr->origin = Value();
  out.expr->ids = index.expr->ids;
  out.expr->perSlot = true;
  return out;
}

// The same by pairs of numbers: (0, id of token 0), (1, id of token 1), ..
Analysis::Result Analysis::gatherPairs(Operation *op) {
  Fact data = get(op->getOperand(0));
  auto type = ranked(op->getOperand(0)), pairs = ranked(op->getOperand(1));
  Operation *join = op->getOperand(1).getDefiningOp();
  bool joined = isOnnx(join, "Concat") && join->getNumOperands() == 2 && pairs &&
                pairs.getRank() == 2 && (intAttr(join, "axis", 0) + 2) % 2 == 1;
  if (!joined || !type || data.layout.size() < 3 || !data.expr->expertLinear || data.expr->ids ||
      !isAtom(data.layout[1], Atom::Expert) || data.layout[0].size() != 1 ||
      data.layout[0][0].kind != Atom::Tok)
    return std::nullopt;
  Fact place = get(join->getOperand(0)), index = get(join->getOperand(1));
  int64_t experts = data.layout[1][0].size;
  if (place.expr->kind != Expr::Iota || dropUnits(place.layout).size() != 1)
    return std::nullopt;
  noteIds(index, experts, true);
  if (!isIdentity(index.expr) || experts != static_cast<int64_t>(index.expr->nums.size()) ||
      index.layout.size() != 2 || !isAtom(index.layout[0], Atom::Tok) || !index.layout[1].empty())
    return std::nullopt;
  Fact out{make(data.expr->kind), Layout(data.layout.begin() + 1, data.layout.end())};
  *out.expr = *data.expr;
  out.expr->origin = Value();
  out.expr->ids = index.expr->ids;
  out.expr->perSlot = true;
  out.layout[0] = index.layout[0];
  if (data.expr->kind == Expr::Joined)
    for (auto [dim, size] : llvm::zip(llvm::drop_begin(out.layout), type.getShape().drop_front(2)))
      dim = size == 1 ? Dim() : Dim{Atom{Atom::Any, size < 0 ? -1 : size}};
  return out;
}

// Matrices that the expert id picked, not a mask.
bool readsChosen(const Expr *e) {
  if (!e)
    return false;
  if (e->perSlot && (e->kind == Expr::Joined || !e->args.empty()))
    return true;
  if (e->kind == Expr::Linear && e->weights.kind != WeightSet::Single)
    return true;
  return readsChosen(e->a) || readsChosen(e->b);
}

} // namespace moec::raise
