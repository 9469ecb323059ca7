// An operator on experts' results side by side that treats each number by itself is the same
// operator on each expert's result, as the pairs of QuantizeLinear and DequantizeLinear are that
// a quantiser puts behind the stack. It is written out for each expert: copies that are part of
// the experts where a layer is raised, and have no use otherwise.
#include "Analysis.h"
#include "RowWise.h"

using namespace mlir;

namespace moec::raise {

namespace {

bool isQuantising(Operation *op) {
  return isOnnx(op, "QuantizeLinear") || isOnnx(op, "DequantizeLinear");
}

// Which operand is the stack when all others are parameters that do not reach axis `experts`;
// -1: none.
int64_t stackOf(Operation *op, int64_t experts, Value stack) {
  auto type = ranked(stack);
  int64_t at = -1;
  for (OpOperand &operand : op->getOpOperands()) {
    Value v = operand.get();
    auto other = ranked(v);
    if (v == stack && at < 0)
      at = operand.getOperandNumber();
    else if (!isAbsent(v) &&
             (!isWeight(v) || !other || other.getRank() >= type.getRank() - experts ||
              (isQuantising(op) && other.getNumElements() != 1)))
      return -1;
  }
  return at;
}

} // namespace

bool isEachOp(Operation *op) {
  return op->getNumResults() == 1 && ranked(op->getResult(0)) &&
         (isQuantising(op) || isElementwise(op));
}

Analysis::Result Analysis::eachOf(Operation *op, bool joined) {
  if (looped_ || !isEachOp(op))
    return std::nullopt;
  Fact in;
  Value stack;
  int64_t axis = -1;
  for (Value v : op->getOperands()) {
    if (isAbsent(v) || isWeight(v))
      continue;
    in = get(v);
    const Expr *e = in.expr;
    if (e->args.empty() || e->kind == Expr::Opaque || e->ids || e->perSlot ||
        (e->kind == Expr::Joined) != joined)
      return std::nullopt;
    for (auto [i, dim] : llvm::enumerate(in.layout))
      if (isAtom(dim, Atom::Expert))
        axis = static_cast<int64_t>(i);
    stack = v;
    break;
  }
  int64_t at = stack && axis >= 0 ? stackOf(op, axis, stack) : -1;
  // A number that weighs all experts is a factor of the sum.
  bool factor = isOnnx(op, "Mul") || isOnnx(op, "Div");
  if (at < 0 || (factor && llvm::all_of(op->getOperands(), [&](Value v) {
        return v == stack || get(v).expr->kind == Expr::Splat;
      })))
    return std::nullopt;
  SmallVector<Value> &copies = (*reading_.copies)[op];
  if (copies.empty()) {
    for (Expr *body : in.expr->args) {
      auto type = body->origin ? ranked(body->origin) : RankedTensorType();
      if (!type || body->origin.getParentBlock() != op->getBlock()) {
        copies.clear();
        return std::nullopt;
      }
      SmallVector<Value> operands(op->getOperands());
      operands[at] = body->origin;
      OperationState state(op->getLoc(), op->getName(), operands,
                           type.clone(ranked(op->getResult(0)).getElementType()), op->getAttrs());
      OpBuilder builder(op);
      copies.push_back(builder.create(state)->getResult(0));
      visit(copies.back().getDefiningOp());
    }
  }
  std::vector<Fact> parts;
  for (Value v : copies)
    parts.push_back(get(v));
  SmallVector<Expr *> exprs;
  for (const Fact &part : parts)
    exprs.push_back(part.expr);
  Fact out{nullptr, in.layout};
  std::string why;
  out.expr = zipExperts(*this, exprs, why);
  if (!out.expr || llvm::is_contained(exprs, out.expr)) {
    out.expr = joinExperts(*this, exprs);
    out.expr->offset = in.expr->kind == Expr::Joined ? in.expr->offset : axis;
  } else {
    out.expr->args.assign(exprs.begin(), exprs.end());
  }
  return out;
}

} // namespace moec::raise
