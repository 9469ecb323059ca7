// Operations inside of experts that no other transfer function describes: what
// they compute does not matter as long as they treat the expert's rows one by
// one (RowWise.h).
#include "Analysis.h"
#include "RowWise.h"

using namespace mlir;

namespace moec::raise {

namespace {

bool isRowAtom(const Atom &atom) { return atom.kind != Atom::Any; }

// The dimensions from the first to the last that hold more than features.
Rows rowsOf(const Layout &layout) {
  int64_t first = -1, last = -1;
  for (auto [i, dim] : llvm::enumerate(layout))
    if (llvm::any_of(dim, isRowAtom)) {
      first = first < 0 ? i : first;
      last = i;
    }
  return first < 0 ? Rows() : Rows{first, last - first + 1};
}

// Values that only an expert can hold: rows that chose it, or results of
// experts' matrices side by side.
bool inExpert(const Fact &fact) {
  for (const Dim &dim : fact.layout)
    for (const Atom &atom : dim) {
      if (atom.kind == Atom::Hit || atom.kind == Atom::Group)
        return true;
      bool beside = atom.kind == Atom::Expert || atom.kind == Atom::Slot ||
                    atom.kind == Atom::Sorted;
      if (beside && fact.expr->expertLinear)
        return true;
    }
  return false;
}

bool isValueKind(const Expr *e) {
  switch (e->kind) {
  case Expr::Leaf:
  case Expr::Splat:
  case Expr::Weight:
  case Expr::Linear:
  case Expr::Unary:
  case Expr::Binary:
  case Expr::Part:
  case Expr::Opaque:
    return true;
  default:
    return false;
  }
}

// Axes behind the rows that are more than one element long.
int64_t features(const Layout &layout) {
  int64_t n = 0;
  for (const Dim &dim : layout)
    n += !dim.empty() && !llvm::any_of(dim, isRowAtom);
  return n;
}

bool sameRows(const Layout &a, Rows x, const Layout &b, Rows y) {
  if (x.count != y.count)
    return false;
  for (int64_t i = 0; i < x.count; ++i) {
    const Dim &p = a[x.at + i], &q = b[y.at + i];
    if (p.empty() != q.empty() || !unifyDims(p, q))
      return false;
  }
  return true;
}

} // namespace

// An expert's values with several axes of features: as they are, an expression
// over one axis of features cannot describe them.
bool Analysis::manyFeatures(Operation *op) {
  int64_t most = 0;
  bool inside = false;
  StringRef n = onnxName(op);
  for (Value v : op->getOperands()) {
    auto it = facts_.find(v);
    if (it == facts_.end() || !inExpert(it->second))
      continue;
    if (it->second.expr->ids)
      return false;
    for (const Dim &dim : it->second.layout) // places are rows of all experts
      if (llvm::any_of(dim, [](const Atom &atom) { return atom.kind == Atom::Bucket; }))
        return false;
    inside = true;
    most = std::max(most, features(it->second.layout));
    // A routing weight stays a factor.
    if (n == "Mul" && features(it->second.layout) == 0 && !it->second.expr->expertLinear)
      return false;
  }
  if (!inside)
    return false;
  auto type = ranked(op->getResult(0));
  int64_t rest = 0;
  for (int64_t d : type ? type.getShape().drop_front(std::min<int64_t>(1, type.getRank()))
                        : ArrayRef<int64_t>())
    rest += d != 1;
  return most > 1 || (most == 1 && rest > 1 && (n == "Reshape" || n == "MatMul"));
}

bool Analysis::opaque(Operation *op) {
  const Fact *main = nullptr;
  std::vector<Fact> facts;
  for (Value v : op->getOperands()) {
    facts.push_back(get(v));
    auto type = ranked(v);
    if (!isAbsent(v) && (!type || static_cast<int64_t>(facts.back().layout.size()) != type.getRank()))
      return false;
  }
  for (const Fact &fact : facts) {
    if (!isValueKind(fact.expr))
      return false;
    bool given = inExpert(fact) && (fact.expr->expertLinear || features(fact.layout) > 0);
    if (given && (!main || fact.expr->expertLinear))
      main = &fact;
  }
  if (!main)
    return false;
  Rows rows = rowsOf(main->layout);
  SmallVector<Rows> operands;
  Expr *e = make(Expr::Opaque);
  for (const Fact &fact : facts) {
    Rows own = rowsOf(fact.layout);
    bool same = own.any() && sameRows(main->layout, rows, fact.layout, own);
    if (!same && inExpert(fact) && own.any())
      return false;
    operands.push_back(same ? own : Rows());
    if (fact.expr->ids && !e->ids)
      e->ids = fact.expr->ids;
    e->perSlot |= fact.expr->perSlot;
    e->args.push_back(fact.expr);
  }
  auto known = rowWise(op, operands);
  if (!known || known->results.size() != op->getNumResults())
    return false;
  e->op = op;
  e->expertLinear = true;
  for (auto [i, result] : llvm::enumerate(op->getResults())) {
    Expr *each = i == 0 ? e : make(Expr::Opaque);
    if (i > 0)
      *each = *e;
    each->origin = Value();
    each->offset = static_cast<int64_t>(i);
    Layout layout;
    auto type = ranked(result);
    Rows own = known->results[i];
    for (int64_t axis = 0; type && axis < type.getRank(); ++axis) {
      int64_t d = type.getDimSize(axis);
      if (own.has(axis))
        layout.push_back(main->layout[rows.at + axis - own.at]);
      else
        layout.push_back(d == 1 ? Dim() : Dim{Atom{Atom::Any, d}});
    }
    set(result, {each, layout});
  }
  return true;
}

} // namespace moec::raise
