// y = FFN(x; sum over e of w[b, e] theta_e) for each sequence b: every matrix
// and bias of the layer is a product of the same weights w [B, E] with a stack.
#include "MergeWeights.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;

namespace moec::raise {

namespace {

// A parameter summed under weights: `stack` with its axes in the order
// [experts, rows, columns] that `perm` gives, and in that `shape`.
struct Merged {
  Value weights, stack;
  SmallVector<int64_t> perm, shape;
};

Value strip(Value v, std::initializer_list<StringRef> names) {
  while (Operation *op = v.getDefiningOp()) {
    if (!llvm::is_contained(names, onnxName(op)))
      break;
    v = op->getOperand(0);
  }
  return v;
}

// weights [B, E] times a stack that is [E, ...]; null when `op` is no such product.
std::optional<Merged> productOf(Operation *op) {
  if (!isOnnx(op, "MatMul"))
    return std::nullopt;
  Value w = op->getOperand(0), stack = op->getOperand(1);
  auto type = ranked(w), of = ranked(stack);
  if (!type || !of || type.getRank() != 2 || !isWeight(stack) || isWeight(w) ||
      !of.hasStaticShape() || (of.getRank() != 2 && of.getRank() != 3))
    return std::nullopt;
  return Merged{w, stack, {}, {}};
}

// m [B, K, N], what a row of tokens [B, S, K] is multiplied with.
std::optional<Merged> mergedMatrix(Value m) {
  auto type = ranked(m);
  if (!type || type.getRank() != 3 || type.isDynamicDim(1) || type.isDynamicDim(2))
    return std::nullopt;
  SmallVector<int64_t> axes = {0, 1, 2}; // of m, as they stand in the value walked to
  Operation *op = m.getDefiningOp();
  for (; isOnnx(op, "Transpose"); op = op->getOperand(0).getDefiningOp()) {
    SmallVector<int64_t> perm = intsAttr(op, "perm");
    if (perm.size() != 3)
      return std::nullopt;
    for (int64_t &axis : axes)
      axis = perm[axis];
  }
  int64_t k = type.getDimSize(1), n = type.getDimSize(2);
  if (isOnnx(op, "Reshape")) {
    // [B, K N] in rows, or in columns.
    auto merged = productOf(op->getOperand(0).getDefiningOp());
    auto of = merged ? ranked(merged->stack) : RankedTensorType();
    if (!of || of.getRank() != 2 || of.getDimSize(1) != k * n || axes[0] != 0)
      return std::nullopt;
    bool turned = axes[1] == 2;
    merged->shape = {of.getDimSize(0), turned ? n : k, turned ? k : n};
    merged->perm = turned ? SmallVector<int64_t>{0, 1, 2} : SmallVector<int64_t>{0, 2, 1};
    return merged;
  }
  // Batches of products: [P, B, Q] from [P, E, Q].
  auto merged = productOf(op);
  auto of = merged ? ranked(merged->stack) : RankedTensorType();
  if (!of || of.getRank() != 3 || axes[0] != 1)
    return std::nullopt;
  merged->shape.assign(of.getShape().begin(), of.getShape().end());
  merged->perm = {1, axes[2], axes[1]}; // [E, N, K]
  return merged;
}

std::optional<Merged> mergedBias(Value b) {
  auto merged = productOf(strip(b, {"Unsqueeze", "Reshape"}).getDefiningOp());
  if (!merged || ranked(merged->stack).getRank() != 2)
    return std::nullopt;
  return merged;
}

class Matcher {
public:
  explicit Matcher(Value top) : top(top) {}

  std::optional<Ffn> run() {
    Expr *body = expression(top, 0);
    std::string why;
    auto ffn = matchFfn(body, analysis.splat(1), why);
    if (!ffn || !ffn->x->origin || ffn->scale != 1)
      return std::nullopt;
    SmallVector<const Projection *> all = {&ffn->up, &ffn->down};
    if (ffn->gated)
      all.push_back(&ffn->gate);
    for (const Projection *p : all) {
      bool whole = merged.contains(p->linear) && p->size < 0 &&
                   (!p->bias || merged.contains(p->bias));
      if (!whole || merged[p->linear].weights != weights ||
          (p->bias && merged[p->bias].weights != weights))
        return std::nullopt;
    }
    return ffn;
  }

  Value matrix(WeightSteps &steps, const Projection &p) {
    const Merged &m = merged[p.linear];
    return steps.transpose(steps.reshape(steps.of(m.stack), m.shape), m.perm);
  }
  Value bias(WeightSteps &steps, const Projection &p) {
    return p.bias ? steps.of(merged[p.bias].stack) : Value();
  }

  Value weights; // [B, E] of the last matrix

private:
  Expr *leaf(Value v) {
    Expr *&known = leaves[v];
    if (!known) {
      known = analysis.make(Expr::Leaf);
      known->origin = v;
    }
    return known;
  }

  Expr *expression(Value v, int depth) {
    Operation *op = v.getDefiningOp();
    if (auto number = constSplat(v))
      return analysis.splat(*number);
    StringRef n = onnxName(op);
    if (depth > 24 || n.empty())
      return leaf(v);
    if (auto it = made.find(v); it != made.end())
      return it->second;
    return made[v] = build(op, n, v, depth + 1);
  }

  Expr *build(Operation *op, StringRef n, Value v, int depth) {
    static const llvm::StringSet<> unaries = {"Sigmoid", "Tanh", "Relu", "Gelu", "Erf", "Neg",
                                              "Exp"};
    static const llvm::StringSet<> binaries = {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"};
    if (n == "MatMul")
      if (auto m = mergedMatrix(op->getOperand(1))) {
        weights = weights ? weights : m->weights;
        Expr *e = analysis.make(Expr::Linear);
        e->a = expression(op->getOperand(0), depth);
        e->expertLinear = true;
        e->nk = true;
        merged[e] = *m;
        return e;
      }
    if (unaries.contains(n)) {
      Expr *e = analysis.withChildren(Expr::Unary, expression(op->getOperand(0), depth));
      e->name = n == "Gelu" && strAttr(op, "approximate") == "tanh" ? "GeluTanh" : n.str();
      return e->expertLinear ? e : leaf(v);
    }
    if (!binaries.contains(n) || op->getNumOperands() != 2)
      return leaf(v);
    if (n == "Add")
      for (unsigned i : {0u, 1u})
        if (auto m = mergedBias(op->getOperand(i))) {
          Expr *bias = analysis.make(Expr::Weight);
          merged[bias] = *m;
          Expr *e = analysis.withChildren(Expr::Binary,
                                          expression(op->getOperand(1 - i), depth), bias);
          e->name = "Add";
          return e;
        }
    Expr *e = analysis.withChildren(Expr::Binary, expression(op->getOperand(0), depth),
                                    expression(op->getOperand(1), depth));
    e->name = n.str();
    return e->expertLinear ? e : leaf(v);
  }

  Value top;
  Analysis analysis{Reading()};
  llvm::DenseMap<Value, Expr *> leaves, made;
  llvm::DenseMap<Expr *, Merged> merged;
};

bool raiseOne(Value top, BankBuilder &banks, WeightSteps &steps, bool remarks) {
  Matcher matcher(top);
  auto ffn = matcher.run();
  if (!ffn)
    return false;
  Value x = ffn->x->origin, w = matcher.weights;
  auto xType = ranked(x), type = ranked(top), wType = ranked(w);
  if (!xType || !type || xType.getRank() != 3 || type.getRank() != 3 || xType.isDynamicDim(2) ||
      wType.isDynamicDim(1))
    return false;
  BankBuilder::Parts parts;
  parts.up = matcher.matrix(steps, ffn->up);
  parts.down = matcher.matrix(steps, ffn->down);
  parts.upBias = matcher.bias(steps, ffn->up);
  parts.downBias = matcher.bias(steps, ffn->down);
  if (ffn->gated) {
    parts.gate = matcher.matrix(steps, ffn->gate);
    parts.gateBias = matcher.bias(steps, ffn->gate);
  }
  auto dims = [](Value v) { return cast<ShapedType>(v.getType()).getShape(); };
  BankShape shape;
  shape.experts = wType.getDimSize(1);
  shape.hidden = xType.getDimSize(2);
  shape.inter = dims(parts.up)[1];
  SmallVector<int64_t> up = {shape.experts, shape.inter, shape.hidden};
  SmallVector<int64_t> down = {shape.experts, shape.hidden, shape.inter};
  if (dims(parts.up) != ArrayRef(up) || dims(parts.down) != ArrayRef(down) ||
      (parts.gate && dims(parts.gate) != ArrayRef(up)) || type.getDimSize(2) != shape.hidden)
    return false;
  Operation *at = top.getDefiningOp();
  FlatSymbolRefAttr bank = banks.build(parts, *ffn, shape, at->getLoc());
  OpBuilder builder(at);
  OnnxBuilder b(builder, at->getLoc());
  Value rows = b.reshape(x, {-1, shape.hidden});
  OperationState state(at->getLoc(), "moe.merge_weights");
  state.addOperands({rows, w});
  state.addTypes(rows.getType());
  state.addAttribute("bank", bank);
  Value y = builder.create(state)->getResult(0);
  y = b.reshapeLike(y, b.shape(x, 0, 3), type);
  top.replaceAllUsesWith(y);
  if (remarks)
    mlir::emitRemark(at->getLoc()) << "moe-raise: raised " << shape.experts
                                   << " experts with merged parameters, as " << bank;
  return true;
}

} // namespace

unsigned raiseMergedExperts(Block &block, BankBuilder &banks, WeightSteps &steps, bool remarks) {
  unsigned raised = 0;
  for (Operation &op : llvm::make_early_inc_range(block)) {
    if (!isOnnx(&op, "MatMul") || !mergedMatrix(op.getOperand(1)))
      continue;
    Value top = op.getResult(0);
    Operation *user = top.hasOneUse() ? *top.getUsers().begin() : nullptr;
    if (isOnnx(user, "Add") && (mergedBias(user->getOperand(0)) || mergedBias(user->getOperand(1))))
      top = user->getResult(0);
    raised += raiseOne(top, banks, steps, remarks);
  }
  if (raised)
    eraseDeadOps(block);
  return raised;
}

} // namespace moec::raise
