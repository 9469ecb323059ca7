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

// A quantised pair keeps the axes of a tensor of tokens as it was viewed.
Analysis::Result Analysis::roundedLeaf(Operation *op) {
  if (!isQuantising(op) || op->getNumOperands() < 2)
    return std::nullopt;
  Fact in = get(op->getOperand(0));
  auto scale = ranked(op->getOperand(1));
  if (in.expr->kind != Expr::Leaf || isWeight(op->getOperand(0)) || !scale ||
      !scale.hasStaticShape() || scale.getNumElements() != 1)
    return std::nullopt;
  return Fact{make(Expr::Leaf), in.layout};
}

// Experts' results under dense weights, rounded before they are added: each expert reads its
// weight then, and what is left is the sum.
Analysis::Result Analysis::eachWeighed(Operation *op) {
  if (looped_ || !isQuantising(op) || op->getNumOperands() < 2)
    return std::nullopt;
  Value stack = op->getOperand(0);
  Fact in = get(stack);
  SmallVector<Expr *> product;
  if (in.expr->kind == Expr::Binary)
    factors(in.expr, product);
  if (product.size() != 2)
    return std::nullopt;
  if (product[0]->kind == Expr::DenseW)
    std::swap(product[0], product[1]);
  Expr *each = product[0], *w = product[1];
  const Routing *r = routing(in.expr->ids);
  int64_t axis = -1;
  for (auto [i, dim] : llvm::enumerate(in.layout))
    axis = isAtom(dim, Atom::Expert) ? static_cast<int64_t>(i) : axis;
  Value tensor = w->kind == Expr::DenseW ? w->b->origin : Value();
  auto type = ranked(tensor);
  if (!type || each->args.empty() || each->kind == Expr::Opaque || each->ids || !r || !r->dense ||
      r->sequences || axis < 1 || stackOf(op, axis, stack) != 0 ||
      static_cast<int64_t>(each->args.size()) != r->experts)
    return std::nullopt;
  SmallVector<Value> &copies = (*reading_.copies)[op];
  if (copies.empty()) {
    for (Expr *body : each->args)
      if (!ranked(body->origin) || ranked(body->origin).getRank() < 2 ||
          body->origin.getParentBlock() != op->getBlock() ||
          !isAtom(body->originLayout.front(), Atom::Tok))
        return std::nullopt;
    OpBuilder builder(op);
    OnnxBuilder b(builder, op->getLoc());
    if (int64_t inner = innerFeatures(w->b->originLayout); inner >= 0)
      tensor = b.transpose(tensor, axisToEnd(inner, type.getRank()));
    if (type.getRank() != 2)
      tensor = b.reshape(tensor, {-1, r->experts});
    for (auto [i, body] : llvm::enumerate(each->args)) {
      Value index = b.scalar(b.builder.getI64Type(), static_cast<double>(i));
      auto rows = ranked(body->origin);
      SmallVector<int64_t> behind;
      for (int64_t i = 1; i < rows.getRank(); ++i)
        behind.push_back(i);
      Value weight = b.unsqueeze(b.gather(tensor, index, 1), behind);
      SmallVector<Value> operands(op->getOperands());
      operands[0] = b.op("Mul", {body->origin, weight}, rows);
      copies.push_back(b.op(onnxName(op), operands,
                            rows.clone(ranked(op->getResult(0)).getElementType()),
                            op->getAttrs()));
    }
  }
  SmallVector<Expr *> exprs;
  for (Value v : copies)
    exprs.push_back(get(v).expr);
  Fact out{joinExperts(*this, exprs), in.layout};
  out.expr->offset = axis;
  out.expr->ids = in.expr->ids;
  out.expr->b = w;
  return out;
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
    bool weighed = e->kind == Expr::Joined && e->b;
    if (e->args.empty() || e->kind == Expr::Opaque || (e->ids && !weighed) || e->perSlot ||
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
  if (!in.expr->b || !joined)
    out.expr = zipExperts(*this, exprs, why);
  if (!out.expr || llvm::is_contained(exprs, out.expr)) {
    out.expr = joinExperts(*this, exprs);
    out.expr->offset = in.expr->kind == Expr::Joined ? in.expr->offset : axis;
    if (joined && in.expr->b) {
      out.expr->ids = in.expr->ids;
      out.expr->b = in.expr->b;
    }
  } else {
    out.expr->args.assign(exprs.begin(), exprs.end());
  }
  return out;
}

} // namespace moec::raise
