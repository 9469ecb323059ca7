#include "Pattern.h"

using namespace mlir;

namespace moec::raise {

namespace {

// What index arithmetic of the analysis a layer makes use of.
struct Traits {
  bool capacity = false, sorted = false, hits = false, gathered = false, masked = false,
       loop = false;

  void add(const Expr *e) {
    switch (e->kind) {
    case Expr::Rank: case Expr::Below: case Expr::Place: case Expr::PlaceHot:
    case Expr::Dispatch: case Expr::Dispatched: case Expr::PlaceSum:
      capacity = true;
      break;
    case Expr::Perm: case Expr::PermTok: case Expr::InvPerm: case Expr::GroupRows:
    case Expr::Ends: case Expr::Starts: case Expr::End:
      sorted = true;
      break;
    case Expr::Hits: case Expr::HitTok: case Expr::HitSlot: case Expr::HitTokK:
    case Expr::HitFlat: case Expr::HitPair:
      hits = true;
      break;
    case Expr::Gathered:
      gathered = true;
      break;
    case Expr::Masked: case Expr::Picked: case Expr::Column:
      masked = true;
      break;
    default:
      break;
    }
  }
};

} // namespace

StringRef patternOf(Analysis &analysis, const Layer &layer) {
  Traits traits;
  for (Operation *op : insideOf(analysis, layer)) {
    traits.loop |= isOnnx(op, "Loop");
    for (Value operand : op->getOperands())
      traits.add(analysis.get(operand).expr);
  }
  if (traits.loop)
    return "loop operator";
  if (traits.capacity)
    return "capacity";
  if (traits.sorted)
    return "sorted groups";
  if (traits.hits)
    return "expert loop";
  if (traits.gathered)
    return "gathered weights";
  if (traits.masked)
    return "masks";
  return layer.routing->dense ? "dense gates" : "dense batch";
}

void markPattern(Value result, StringRef pattern) {
  SmallVector<Value> todo{result};
  for (size_t i = 0; i < todo.size() && i < 32; ++i) {
    Operation *op = todo[i].getDefiningOp();
    if (!op || op->hasAttr(patternAttr))
      continue;
    if (op->getName().getStringRef() == "moe.experts")
      return op->setAttr(patternAttr, StringAttr::get(op->getContext(), pattern));
    todo.append(op->operand_begin(), op->operand_end());
  }
}

} // namespace moec::raise
