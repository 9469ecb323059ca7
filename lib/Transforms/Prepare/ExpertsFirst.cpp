// Experts that stand last, as in the layers of Keras for many tasks: one matrix
// [K, H, E] gives [tokens, H, E], which gates weigh and sum over the last axis.
// With the experts first they are matrices [E, K, H] for rows of tokens, the form
// that raise-moe reads. The numbers are the same.
#include "Decompose.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringSet.h"
#include <map>
#include <tuple>

using namespace mlir;

namespace moec::prepare {

namespace {

constexpr int64_t kTurned[] = {1, 0, 2};

// Parameters, as they are or as a decomposition turned them.
bool isWeight(Value v) {
  Operation *op = v.getDefiningOp();
  while (onnxName(op) == "Transpose" || onnxName(op) == "Reshape")
    op = op->getOperand(0).getDefiningOp();
  return op && op->getName().getStringRef() == "moe.weight.use";
}

// Axes in front, that a constant holds.
bool isAxis(Value v, int64_t axis, int64_t rank) {
  Operation *op = v.getDefiningOp();
  auto value = op ? dyn_cast_or_null<DenseIntElementsAttr>(op->getAttr("value")) : nullptr;
  if (!value || value.getNumElements() != 1)
    return false;
  int64_t at = (*value.begin()).getSExtValue();
  return at == axis || at + rank == axis;
}

bool has(RankedTensorType type, ArrayRef<int64_t> last) {
  return type && type.getRank() == 3 && type.getShape().take_back(last.size()) == last;
}

class ExpertsFirst {
public:
  ExpertsFirst(OpBuilder &builder, Location loc, int64_t hidden, int64_t experts)
      : b(builder, loc), hidden(hidden), experts(experts) {}

  // [E, tokens, H] of a value [tokens, H, E]; null where it is something else.
  Value first(Value v, int depth = 0) {
    if (Value known = done.lookup(v))
      return known;
    Value out = depth < 12 ? make(v, depth) : Value();
    if (out)
      done[v] = out;
    return out;
  }

  // The gates [tokens, E] as [E, tokens, 1].
  Value gates(Value w) {
    Operation *op = w.getDefiningOp();
    if (onnxName(op) == "Concat" && llvm::all_equal(op->getOperands()))
      op = op->getOperand(0).getDefiningOp();
    auto type = op ? rankedType(op->getOperand(0)) : nullptr;
    if (onnxName(op) != "Unsqueeze" || !type || type.getRank() != 2 ||
        type.getDimSize(1) != experts || !isAxis(op->getOperand(1), 1, 3))
      return {};
    return b.unsqueeze(b.transpose(op->getOperand(0), {1, 0}), {2});
  }

  OnnxBuilder b;

private:
  int64_t hidden, experts;
  llvm::DenseMap<Value, Value> done;

  Value make(Value v, int depth) {
    Operation *op = v.getDefiningOp();
    auto type = rankedType(v);
    StringRef n = onnxName(op);
    if (n.empty() || !has(type, {hidden, experts}))
      return {};
    static const llvm::StringSet<> each = {"Relu", "Sigmoid",  "Tanh", "Elu",      "Selu",
                                           "Erf",  "Softplus", "Exp",  "LeakyRelu"};
    if (each.contains(n)) {
      Value x = first(op->getOperand(0), depth + 1);
      return x ? b.op(n, {x}, x.getType(), op->getAttrs()) : Value();
    }
    if (n == "Add" || n == "Sub" || n == "Mul" || n == "Div") {
      Value x = operand(op->getOperand(0), depth), y = operand(op->getOperand(1), depth);
      return x && y ? b.binary(n, x, y) : Value();
    }
    if (n == "Reshape" || n == "Transpose")
      return product(op, n == "Transpose");
    return {};
  }

  // Of an elementwise operation: a number, a bias, or another value.
  Value operand(Value v, int depth) {
    auto type = rankedType(v);
    if (type && type.hasStaticShape() && type.getNumElements() == 1)
      return v;
    if (!isWeight(v))
      return first(v, depth + 1);
    ArrayRef<int64_t> dims = type.getShape();
    int64_t all[] = {hidden, experts};
    while (dims.size() > 1 && dims.front() == 1 && dims != ArrayRef(all))
      dims = dims.drop_front();
    if (dims == ArrayRef(all))
      return b.reshape(b.transpose(b.reshape(v, {hidden, experts}), {1, 0}), {experts, 1, hidden});
    if (dims.size() != 1 || dims[0] != experts || hidden > 1024)
      return {};
    // One number for each expert, at all of its features.
    Value column = b.reshape(v, {experts, 1, 1});
    return b.concat(SmallVector<Value>(hidden, column), 2);
  }

  // [tokens, K] x [K, H * E] cut in two axes, or [tokens, K] x [H, K, E] turned.
  Value product(Operation *op, bool turned) {
    Operation *product = op->getOperand(0).getDefiningOp();
    if (onnxName(product) != "MatMul" || !isWeight(product->getOperand(1)))
      return {};
    Value x = product->getOperand(0), w = product->getOperand(1);
    auto rows = rankedType(x), matrix = rankedType(w);
    if (!rows || rows.getRank() != 2 || matrix.getRank() != (turned ? 3 : 2))
      return {};
    if (turned) {
      auto perm = op->getAttrOfType<DenseI64ArrayAttr>("perm");
      if (!perm || perm.asArrayRef() != ArrayRef(kTurned) || matrix.getDimSize(0) != hidden ||
          matrix.getDimSize(2) != experts)
        return {};
      return b.matmul(x, b.transpose(w, {2, 1, 0}));
    }
    if (matrix.getDimSize(1) != hidden * experts)
      return {};
    w = b.reshape(w, {matrix.getDimSize(0), hidden, experts});
    return b.matmul(x, b.transpose(w, {2, 0, 1}));
  }
};

} // namespace

void expertsFirst(Operation *root) {
  SmallVector<Operation *> sums;
  root->walk([&](Operation *op) {
    if (onnxName(op) == "ReduceSum" && op->getNumOperands() == 2 &&
        intAttr(op->getAttr("keepdims"), 1) == 0 &&
        onnxName(op->getOperand(0).getDefiningOp()) == "Mul")
      sums.push_back(op);
  });
  // Gates over the same experts share what was made for the first of them.
  std::map<std::tuple<Block *, int64_t, int64_t>, ExpertsFirst> all;
  OpBuilder builder(root->getContext());
  for (Operation *op : sums) {
    Operation *weighed = op->getOperand(0).getDefiningOp();
    auto type = rankedType(op->getOperand(0));
    if (!type || type.getRank() != 3 || type.isDynamicDim(1) || type.isDynamicDim(2) ||
        type.getDimSize(2) < 2 || !isa<FloatType>(type.getElementType()) ||
        !isAxis(op->getOperand(1), 2, 3))
      continue;
    builder.setInsertionPoint(op);
    int64_t hidden = type.getDimSize(1), experts = type.getDimSize(2);
    ExpertsFirst &turn =
        all.try_emplace({op->getBlock(), hidden, experts}, builder, op->getLoc(), hidden, experts)
            .first->second;
    for (int i : {0, 1}) {
      Value w = turn.gates(weighed->getOperand(1 - i));
      Value x = w ? turn.first(weighed->getOperand(i)) : Value();
      if (!x)
        continue;
      Value sum = turn.b.reduce("ReduceSum", turn.b.binary("Mul", x, w), {0}, false);
      replaceResult(turn.b, op, 0, sum);
      op->erase();
      break;
    }
  }
}

} // namespace moec::prepare
