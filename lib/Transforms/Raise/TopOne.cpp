// One expert for each token: its result is the layer's, with no sum over slots
// that would show it.
#include "FfnMatch.h"

using namespace mlir;

namespace moec::raise {

// Makes a layer's result of `v` where it is what the only chosen expert gives
// for each token. What follows is no part of the layer then.
bool Analysis::completeTopOne(Value v) {
  auto it = facts_.find(v);
  if (it == facts_.end())
    return false;
  Expr *e = it->second.expr;
  const Routing *r = e->expertLinear && e->perSlot ? routing(e->ids) : nullptr;
  if (!r || r->dense || r->k != 1 || e->kind == Expr::Terms ||
      e->kind == Expr::AllTerms ||
      (!isTokenRows(dropUnits(featuresLast(it->second.layout))) &&
       !isTokenBlocks(it->second.layout)))
    return false;
  std::string why;
  SmallVector<Expr *> product;
  factors(e, product);
  bool each = llvm::any_of(product, [](Expr *f) { return !f->args.empty(); });
  if (!readsChosen(e) || (!each && !matchFfn(e, nullptr, why)))
    return false;
  Expr *all = make(Expr::AllTerms);
  all->a = e;
  all->ids = e->ids;
  all->origin = v;
  all->originLayout = it->second.layout;
  it->second.expr = all;
  return true;
}

// The end of the experts in a sum with something else, such as a residual.
bool Analysis::endsTopOne(Operation *op) {
  if (op->getNumOperands() != 2)
    return false;
  Value a = op->getOperand(0), b = op->getOperand(1);
  Expr *x = get(a).expr, *y = get(b).expr;
  if (!x->ids == !y->ids)
    return false;
  Value result = x->ids ? a : b;
  const Expr *other = x->ids ? y : x;
  return other->kind != Expr::Weight && other->kind != Expr::Splat &&
         completeTopOne(result);
}

} // namespace moec::raise
