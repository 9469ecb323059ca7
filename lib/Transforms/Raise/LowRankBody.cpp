// Experts of rank one: the features between two matrices, weighed one by one.
//   y = B (g * (A x)),  g zero for features that were not chosen
// Expert e is row e of A and column e of B.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

namespace {

// The product's only factor of dense weights, and its only linear map.
bool factorsOf(Expr *e, Expr *&weights, Expr *&linear) {
  if (e->kind == Expr::Binary && e->name == "Mul")
    return factorsOf(e->a, weights, linear) && factorsOf(e->b, weights, linear);
  if (e->kind == Expr::DenseW && !weights) {
    weights = e;
    return true;
  }
  if (e->kind == Expr::Linear && !linear && e->weights.kind == WeightSet::Single) {
    linear = e;
    return true;
  }
  return false;
}

} // namespace

// The product of `x` [.., E], whose features are experts, with a matrix [E, N].
Analysis::Result Analysis::sumFeatures(const Fact &x, const WeightSet &down, bool nk,
                                       const Layout &layout) {
  if (x.layout.empty() || !isAtom(x.layout.back(), Atom::Expert) || !x.expr->ids ||
      down.kind != WeightSet::Single)
    return std::nullopt;
  Expr *weights = nullptr, *up = nullptr;
  if (!factorsOf(x.expr, weights, up) || !weights || !up)
    return std::nullopt;
  Expr *rows = make(Expr::Linear);
  *rows = *up;
  rows->origin = Value();
  rows->weights.kind = WeightSet::Rows;
  Expr *columns = withChildren(Expr::Linear, rows);
  columns->weights = down;
  columns->weights.kind = WeightSet::Columns;
  columns->nk = nk;
  columns->expertLinear = true;
  Expr *product = withChildren(Expr::Binary, weights, columns);
  product->name = "Mul";
  Expr *all = make(Expr::AllTerms);
  all->a = product;
  all->ids = x.expr->ids;
  return Fact{all, layout};
}

} // namespace moec::raise
