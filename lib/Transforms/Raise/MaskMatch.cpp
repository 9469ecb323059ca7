// Functions of the chosen ids: tables, masks, one-hot rows, and whether anybody
// chose an expert.
#include "Elementwise.h"

using namespace mlir;

namespace moec::raise {

// A function of the expert id, and a number or all ids along an axis.
std::optional<Analysis::Result> Analysis::foldTable(StringRef n, const Fact &a,
                                                    const Fact &b, bool floats,
                                                    Layout layout) {
  for (bool flip : {false, true}) {
    const Fact &table = flip ? b : a, &other = flip ? a : b;
    if (table.expr->kind != Expr::IdTable)
      continue;
    if (other.expr->kind == Expr::Splat) {
      Expr *out = make(Expr::IdTable);
      *out = *table.expr;
      out->origin = Value();
      double c = other.expr->nums[0];
      for (double &v : out->nums)
        v = flip ? fold(n, c, v, floats) : fold(n, v, c, floats);
      // Equal for every id: the routing does not matter. The test for the only
      // expert there is stays a test.
      bool only = out->nums.size() == 1 && n == "Equal" && out->nums[0] == 1;
      if (llvm::all_equal(out->nums) && !only)
        return Fact{splat(out->nums.front()), Layout(layout.size())};
      return Fact{out, layout};
    }
    if (other.expr->kind != Expr::Weight || n != "Equal" ||
        !isIdentity(table.expr))
      continue;
    auto numbers = constNumbers(other.expr->origin);
    if (!numbers || numbers->size() != table.expr->nums.size())
      continue;
    for (auto [i, v] : llvm::enumerate(*numbers))
      if (v != static_cast<double>(i))
        return Result();
    Expr *out = make(Expr::OneHot);
    out->ids = table.expr->ids;
    out->perSlot = true;
    for (size_t i = 0; i < other.layout.size(); ++i) {
      if (other.layout[other.layout.size() - 1 - i].empty())
        continue;
      // The ids must not vary along the axis of the numbers.
      if (i < table.layout.size() &&
          !table.layout[table.layout.size() - 1 - i].empty())
        return Result();
      layout[layout.size() - 1 - i] = {
          Atom{Atom::Expert, static_cast<int64_t>(numbers->size())}};
    }
    return Fact{out, layout};
  }
  return std::nullopt;
}

// Whether an expert was chosen at all, or by a token with a weight above 0.
Analysis::Result Analysis::compareCount(StringRef n, const Fact &a,
                                        const Fact &b) {
  if (b.expr->kind != Expr::Splat)
    return std::nullopt;
  double limit = b.expr->nums[0];
  const Expr *x = a.expr;
  if (x->kind == Expr::Counts && n == "Greater" && limit == 0)
    fail(a.expr->origin.getDefiningOp(), x->ids,
         "the experts that were hit are listed, and the length of the list was fixed with the "
         "exporter's sample,",
         true);
  if (x->kind == Expr::HitCount) {
    bool some = (n == "Greater" && limit == 0) ||
                (n == "GreaterOrEqual" && limit == 1);
    bool none = (n == "Equal" && limit == 0) || (n == "Less" && limit == 1) ||
                (n == "LessOrEqual" && limit == 0);
    if (!some && !none)
      return std::nullopt;
    Expr *e = make(Expr::Chosen);
    e->ids = x->ids;
    e->expert = x->expert;
    e->nums = {some ? 1.0 : 0.0};
    return Fact{e, a.layout};
  }
  bool column = x->kind == Expr::Column;
  if ((x->kind != Expr::Masked && !column) || n != "Greater" || limit != 0)
    return std::nullopt;
  Expr *e = make(Expr::Picked);
  e->ids = column ? denseRouting(x->a, x->size) : x->ids;
  if (!e->ids)
    return std::nullopt;
  e->expert = x->expert;
  Expr *weight = column ? x->a : x->b;
  bool ones = weight->kind == Expr::Splat && weight->nums[0] == 1;
  e->a = ones ? nullptr : weight;
  return Fact{e, a.layout};
}
// Whether the places of a mask's ones are taken, as a loop over experts does.
static bool feedsNonZero(Operation *op, int depth = 0) {
  if (isOnnx(op, "NonZero"))
    return true;
  StringRef n = onnxName(op);
  bool view = depth == 0 || n == "Cast" || n == "Gather" || n == "Transpose" ||
              n == "Squeeze" || n == "Split" || n == "Slice" || n == "Reshape";
  return view && depth < 8 && llvm::any_of(op->getUsers(), [&](Operation *user) {
           return feedsNonZero(user, depth + 1);
         });
}

Analysis::Result Analysis::oneHot(Operation *op) {
  Fact in = get(op->getOperand(0));
  auto type = ranked(op->getResult(0));
  auto values = constNumbers(op->getOperand(2));
  if (auto given = evalInt(op->getOperand(1)); given && feedsNonZero(op))
    noteIds(in, *given, true);
  if (!type || !values || values->size() != 2 || (*values)[0] != 0 || (*values)[1] != 1)
    return std::nullopt;
  if (auto given = evalInt(op->getOperand(1)); given && in.expr->kind == Expr::Place) {
    bool last = intAttr(op, "axis", -1) == -1 ||
                intAttr(op, "axis", -1) == type.getRank() - 1;
    Layout layout = in.layout;
    layout.push_back({Atom{Atom::Any, *given}});
    return last ? placeHot(in, *given, layout) : std::nullopt;
  }
  if (!isIdentity(in.expr))
    return std::nullopt;
  int64_t depth = static_cast<int64_t>(in.expr->nums.size());
  // A class more than there are experts has no ones.
  auto classes = evalInt(op->getOperand(1));
  if (!classes || *classes < depth) {
    fail(op, in.expr->ids,
         "the one-hot mask has another depth than the router has columns");
    return std::nullopt;
  }
  depth = *classes;
  int64_t axis = intAttr(op, "axis", -1);
  if (axis < 0)
    axis += type.getRank();
  if (axis < 0 || axis > static_cast<int64_t>(in.layout.size()))
    return std::nullopt;
  Expr *out = make(Expr::OneHot);
  out->ids = in.expr->ids;
  out->perSlot = true;
  Layout layout = in.layout;
  layout.insert(layout.begin() + axis, Dim{{Atom::Expert, depth}});
  return Fact{out, layout};
}

} // namespace moec::raise
