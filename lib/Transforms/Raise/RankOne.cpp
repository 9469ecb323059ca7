// Experts of one neuron (product-key experts, Doge): each is a row d of one
// table and a row u of another,
//   y = act(x . d) u,
// gathered for the chosen slots like embeddings.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

namespace {

// Rows [.., slot, n] of a table [experts, n].
bool isRows(const Fact &f) {
  size_t rank = f.layout.size();
  auto type = f.expr->kind == Expr::Gathered ? ranked(f.expr->weights.items.front().value)
                                             : RankedTensorType();
  return type && type.getRank() == 2 && rank >= 2 && isAtom(f.layout[rank - 2], Atom::Slot) &&
         f.layout[rank - 1].size() == 1 && f.layout[rank - 1][0].axis == 1;
}

bool tokensOnly(ArrayRef<Dim> dims) {
  return llvm::all_of(dims, [](const Dim &dim) {
    return dim.empty() || (dim.size() == 1 && dim[0].kind == Atom::Tok);
  });
}

} // namespace

// The product of gathered rows and a vector of the token, or of the slots.
Analysis::Result Analysis::rankOne(Operation *op, const Fact &a, const Fact &b) {
  size_t n = a.layout.size(), m = b.layout.size();
  if (n != m || n < 3)
    return std::nullopt;
  auto product = [&](const Fact &x, const Fact &rows, bool nk) {
    Expr *e = withChildren(Expr::Linear, x.expr);
    e->weights = {WeightSet::Stacked, rows.expr->weights.items};
    e->nk = nk;
    e->expertLinear = true;
    e->ids = rows.expr->ids;
    e->perSlot = true;
    return e;
  };
  auto leading = [](const Fact &f, size_t rank) {
    return ArrayRef<Dim>(f.layout).take_front(rank - 2);
  };
  // [.., slot, K] x [.., K, 1]: a neuron for each slot.
  if (isRows(a) && b.layout[m - 1].empty() && tokensOnly(leading(b, m)) && !b.expr->ids &&
      unifyDims(a.layout[n - 1], b.layout[m - 2])) {
    auto batch = broadcast(Layout(leading(a, n)), Layout(leading(b, m)));
    if (!batch)
      return std::nullopt;
    Layout layout = *batch;
    layout.push_back(a.layout[n - 2]);
    layout.push_back({});
    return Fact{product(b, a, true), layout};
  }
  // [.., 1, slot] x [.., slot, N]: their results, summed over the slots.
  if (!isRows(b) || !a.layout[n - 2].empty() || !isAtom(a.layout[n - 1], Atom::Slot) ||
      !a.expr->expertLinear || a.expr->ids != b.expr->ids)
    return std::nullopt;
  auto batch = broadcast(Layout(leading(a, n)), Layout(leading(b, m)));
  if (!batch)
    return std::nullopt;
  Fact all{product(a, b, false), *batch};
  Dim features = b.layout[m - 1];
  features[0].axis = -1;
  Layout rest = *batch;
  rest.push_back({});
  rest.push_back(features);
  all.layout.push_back(a.layout[n - 1]);
  all.layout.push_back(features);
  return sumSlots(op, all, rest);
}

} // namespace moec::raise
