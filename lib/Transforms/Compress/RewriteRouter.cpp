#include "RewriteRouter.h"

#include "RewriteGather.h"
#include "moec/Dialect/MoE/MoE.h"
#include "llvm/ADT/SetVector.h"
#include <limits>

using namespace mlir;

namespace moec::compress {

namespace {

// One element of the result for one element of the operands, under broadcasting.
bool isElementwise(Operation *op) {
  static constexpr StringLiteral names[] = {
      "Abs",   "Add",     "And",        "Cast",     "Ceil",       "Clip",        "Div",
      "Equal", "Erf",     "Exp",        "Floor",    "Greater",    "HardSigmoid", "Identity",
      "Less",  "Log",     "LeakyRelu",  "Max",      "Min",        "Mul",         "Neg",
      "Not",   "Or",      "Pow",        "Relu",     "Reciprocal", "Round",       "Sigmoid",
      "Sign",  "Softplus", "Sqrt",      "Sub",      "Tanh",       "Where",       "LessOrEqual",
      "Elu",   "GreaterOrEqual"};
  return llvm::is_contained(names, onnxName(op)) ||
         op->getName().getStringRef() == "moe.logit_hook";
}

// A constant's integers; nothing for other values.
std::optional<SmallVector<int64_t>> constInts(Value v) {
  Operation *op = v.getDefiningOp();
  auto dense = onnxName(op) == "Constant"
                   ? dyn_cast_or_null<DenseIntElementsAttr>(op->getAttr("value"))
                   : DenseIntElementsAttr();
  if (!dense)
    return std::nullopt;
  SmallVector<int64_t> out;
  for (const APInt &n : dense.getValues<APInt>())
    out.push_back(n.getSExtValue());
  return out;
}

int64_t rankOf(Value v) { return rankedType(v).getRank(); }

// Axes of a reduction, a squeeze or an unsqueeze of rank `rank`, counted from the end; nothing when
// they are not constants.
std::optional<SmallVector<int64_t>> backAxes(Operation *op, int64_t rank) {
  std::optional<SmallVector<int64_t>> axes;
  if (op->getNumOperands() > 1 && !isa<NoneType>(op->getOperand(1).getType()))
    axes = constInts(op->getOperand(1));
  else if (auto list = op->getAttrOfType<DenseI64ArrayAttr>("axes"))
    axes = SmallVector<int64_t>(list.asArrayRef());
  if (axes)
    for (int64_t &axis : *axes)
      axis = axis < 0 ? -axis : rank - axis;
  return axes;
}

bool isReduction(Operation *op) { return onnxName(op).starts_with("Reduce"); }

// Whether some op is behind `v`, or behind elementwise steps and views in front of it.
bool anyBehind(Value v, llvm::function_ref<bool(Operation *)> is) {
  static constexpr StringLiteral views[] = {"Reshape", "Expand", "Squeeze", "Unsqueeze", "Transpose"};
  llvm::SetVector<Value> behind;
  behind.insert(v);
  for (size_t i = 0; i < behind.size(); ++i) {
    Operation *op = behind[i].getDefiningOp();
    if (!op)
      continue;
    if (is(op))
      return true;
    if (isElementwise(op) || llvm::is_contained(views, onnxName(op)))
      behind.insert(op->operand_begin(), op->operand_end());
  }
  return false;
}

// Scattered or looked up, so that it cannot be computed anew for fewer experts.
bool isLookedUp(Value v) {
  return anyBehind(v, [](Operation *op) {
    StringRef name = onnxName(op);
    return name.starts_with("Scatter") || name.starts_with("Gather") || name == "OneHot";
  });
}

// Scores of which a choice has been made already: where the kept experts are none of the chosen, a
// softmax of what is left of them is no number, or one of scores that were meant to be nothing.
bool holdsChoice(Value scores) {
  return anyBehind(scores, [](Operation *op) {
    return onnxName(op) == "Where" && isLookedUp(op->getOperand(0));
  });
}

} // namespace

bool vanishes(Value v) {
  Operation *op = v.getDefiningOp();
  StringRef name = onnxName(op);
  if (name == "Cast" || name == "Identity" || name == "Reshape")
    return vanishes(op->getOperand(0));
  return name == "Exp" || name == "Softmax" || name == "Sigmoid" || name == "Softplus" ||
         name == "Relu";
}

ExpertAxis::ExpertAxis(ModuleOp module, int64_t experts, ArrayRef<int64_t> keep, bool mask)
    : builder(module.getContext()), steps(module), experts(experts), keep(keep), mask(mask) {}

bool ExpertAxis::isExperts(Value value, int64_t back) const {
  auto type = rankedType(value);
  return type && back >= 1 && back <= type.getRank() &&
         type.getDimSize(type.getRank() - back) == experts;
}

Value ExpertAxis::narrow(Value value, int64_t axis) {
  int64_t back = rankOf(value) - axis;
  if (Value known = made.lookup({value, -1}))
    return known;
  if (Value known = made.lookup({value, back}))
    return known;
  Value out = build(value, back);
  if (!out)
    out = mask ? value : gathered(value, axis);
  made[{value, back}] = out;
  return out;
}

// Null: the axis comes from here.
Value ExpertAxis::build(Value value, int64_t back) {
  Operation *op = value.getDefiningOp();
  if (!op || !isExperts(value, back) || op->getNumResults() != 1)
    return {};
  int64_t axis = rankOf(value) - back;
  StringRef name = onnxName(op);
  if (isa<moe::WeightUseOp>(op) || name == "Constant")
    return mask ? Value() : weight(value, axis);
  if (mask && name == "Exp")
    return clone(op, {masked(narrow(op->getOperand(0), axis), back)}, back);
  if (isElementwise(op))
    return elementwise(op, back, false);
  if (name == "Softmax" || name == "LogSoftmax") {
    int64_t over = intAttr(op, "axis", -1);
    bool ofExperts = (over < 0 ? over + rankOf(value) : over) == axis;
    if (ofExperts && holdsChoice(op->getOperand(0)))
      return {};
    Value logits = narrow(op->getOperand(0), axis);
    if (mask && ofExperts)
      logits = masked(logits, back);
    return clone(op, {logits}, back);
  }
  if (name == "MatMul" || name == "Gemm")
    return mask ? Value() : linear(op, back);
  if (name == "Transpose") {
    SmallVector<int64_t> perm;
    if (auto list = op->getAttrOfType<DenseI64ArrayAttr>("perm"))
      perm.assign(list.asArrayRef().begin(), list.asArrayRef().end());
    else
      for (int64_t i = rankOf(value); i-- > 0;)
        perm.push_back(i);
    return clone(op, {narrow(op->getOperand(0), perm[axis])}, back);
  }
  if (name == "Reshape" || name == "Expand" || name == "Flatten")
    return reshaped(op, back);
  if (name == "Squeeze" || name == "Unsqueeze" || isReduction(op))
    return overOtherAxis(op, back);
  if (name == "Concat")
    return joined(op, back);
  return {};
}

// A copy of `op` behind it; the axis of experts has the kept ones where `back` says which it is.
Value ExpertAxis::clone(Operation *op, ArrayRef<Value> operands, std::optional<int64_t> back) {
  if (llvm::equal(operands, op->getOperands()))
    return op->getResult(0);
  builder.setInsertionPointAfter(op);
  Operation *copy = builder.clone(*op);
  copy->setOperands(operands);
  if (back) {
    auto type = rankedType(copy->getResult(0));
    SmallVector<int64_t> shape(type.getShape());
    shape[type.getRank() - *back] = kept();
    copy->getResult(0).setType(type.clone(shape));
  }
  return copy->getResult(0);
}

Value ExpertAxis::weight(Value value, int64_t axis) {
  Value stored = steps.of(value);
  if (!stored || rankedType(stored) != rankedType(value))
    return {};
  StringRef name = WeightSteps::nameOf(value.getDefiningOp());
  builder.setInsertionPointAfter(value.getDefiningOp());
  Value slices = gatherSlices(steps, stored, axis, keep);
  return steps.use(builder, value.getLoc(), steps.bind(slices, name.empty() ? "router" : name));
}

Value ExpertAxis::gathered(Value value, int64_t axis) {
  builder.setInsertionPointAfterValue(value);
  OnnxBuilder b(builder, value.getLoc());
  return b.gather(value, b.ints(keep), axis);
}

Value ExpertAxis::masked(Value value, int64_t back, bool product) {
  builder.setInsertionPointAfterValue(value);
  OnnxBuilder b(builder, value.getLoc());
  float none = product ? 0.0f : -std::numeric_limits<float>::infinity();
  SmallVector<float> row(experts, none);
  for (int64_t e : keep)
    row[e] = product ? 1.0f : 0.0f;
  SmallVector<int64_t> shape(back, 1);
  shape[0] = experts;
  auto type = RankedTensorType::get(shape, builder.getF32Type());
  auto numbers = builder.getNamedAttr("value", DenseElementsAttr::get(type, ArrayRef(row)));
  Value constant = b.op("Constant", {}, type, {numbers});
  constant = b.cast(constant, rankedType(value).getElementType());
  return b.op(product ? "Mul" : "Add", {value, constant}, value.getType());
}

// An operand that is broadcast to a result with the experts at `back`.
Value ExpertAxis::operand(Value value, int64_t back) {
  auto type = rankedType(value);
  if (!type || back > type.getRank())
    return value;
  return isExperts(value, back) ? narrow(value, type.getRank() - back) : reduced(value, back);
}

Value ExpertAxis::elementwise(Operation *op, int64_t back, bool reducedOnly) {
  SmallVector<Value> operands;
  for (Value v : op->getOperands()) {
    auto type = rankedType(v);
    if (!reducedOnly && type && back <= type.getRank() &&
        type.isDynamicDim(type.getRank() - back))
      return {};
    operands.push_back(reducedOnly ? reduced(v, back) : operand(v, back));
  }
  return clone(op, operands, reducedOnly ? std::nullopt : std::optional<int64_t>(back));
}

Value ExpertAxis::linear(Operation *op, int64_t back) {
  SmallVector<Value> operands(op->getOperands());
  bool gemm = onnxName(op) == "Gemm";
  if (back > 2 || rankOf(operands[0]) < 2 || rankOf(operands[1]) < 2)
    return {};
  unsigned side = back == 1 ? 1 : 0;
  bool turned = gemm && intAttr(op, side ? "transB" : "transA", 0) != 0;
  int64_t from = turned ? 3 - back : back;
  if (!isExperts(operands[side], from))
    return {};
  operands[side] = narrow(operands[side], rankOf(operands[side]) - from);
  if (gemm && operands.size() > 2 && rankedType(operands[2]))
    operands[2] = operand(operands[2], back);
  return clone(op, operands, back);
}

// A change of the axes in front of the last, which is the experts before and after.
Value ExpertAxis::reshaped(Operation *op, int64_t back) {
  Value from = op->getOperand(0);
  bool expand = onnxName(op) == "Expand";
  if (back != 1 || !(isExperts(from, 1) || expand))
    return {};
  SmallVector<Value> operands(op->getOperands());
  operands[0] = operand(from, 1);
  if (operands[0] == from)
    return {};
  if (operands.size() == 1 || mask)
    return clone(op, operands, back);
  builder.setInsertionPointAfter(op);
  OnnxBuilder b(builder, op->getLoc());
  auto type = rankedType(op->getResult(0));
  if (auto shape = constInts(operands[1])) {
    shape->back() = kept();
    operands[1] = b.ints(*shape);
  } else {
    Value size = b.ints({kept()});
    operands[1] = type.getRank() == 1
                      ? size
                      : b.concat({b.slice(operands[1], 0, 0, type.getRank() - 1), size}, 0);
  }
  SmallVector<int64_t> dims(type.getShape());
  dims.back() = kept();
  return b.op(onnxName(op), operands, type.clone(dims), op->getAttrs());
}

// Squeeze, Unsqueeze, and reductions over other axes than the experts'.
Value ExpertAxis::overOtherAxis(Operation *op, int64_t back) {
  Value from = op->getOperand(0);
  bool squeeze = onnxName(op) == "Squeeze", unsqueeze = onnxName(op) == "Unsqueeze";
  auto axes = backAxes(op, unsqueeze ? rankOf(op->getResult(0)) : rankOf(from));
  if (!axes || axes->empty())
    return {};
  bool removes = squeeze || (isReduction(op) && intAttr(op, "keepdims", 1) == 0);
  llvm::sort(*axes);
  int64_t at = back;
  if (removes) {
    for (int64_t axis : *axes)
      at += axis <= at;
  } else if (unsqueeze) {
    at -= llvm::count_if(*axes, [&](int64_t axis) { return axis < back; });
  }
  if (!isExperts(from, at) || (!unsqueeze && llvm::is_contained(*axes, at)))
    return {};
  SmallVector<Value> operands(op->getOperands());
  operands[0] = narrow(from, rankOf(from) - at);
  return clone(op, operands, back);
}

Value ExpertAxis::joined(Operation *op, int64_t back) {
  int64_t rank = rankOf(op->getResult(0)), axis = intAttr(op, "axis", 0);
  bool along = (axis < 0 ? axis + rank : axis) == rank - back;
  if (along)
    return {};
  SmallVector<Value> operands;
  for (Value v : op->getOperands()) {
    if (!isExperts(v, back))
      return {};
    operands.push_back(narrow(v, rank - back));
  }
  return clone(op, operands, back);
}

// A value with one element along the experts' axis: computed again where it is reduced from them.
Value ExpertAxis::reduced(Value value, int64_t back) {
  auto type = rankedType(value);
  if (!type || !value.getDefiningOp())
    return value;
  auto [it, fresh] = reductions.try_emplace({value, back}, value);
  if (!fresh)
    return it->second;
  Value out = buildReduced(value, back);
  reductions[{value, back}] = out ? out : value;
  return out ? out : value;
}

Value ExpertAxis::buildReduced(Value value, int64_t back) {
  Operation *op = value.getDefiningOp();
  StringRef name = onnxName(op);
  auto one = [&](Value v) {
    auto type = rankedType(v);
    return !type || back > type.getRank() || type.getDimSize(type.getRank() - back) == 1;
  };
  if (isElementwise(op))
    return llvm::all_of(op->getOperands(), one) ? elementwise(op, back, true) : Value();
  if (op->getNumOperands() == 0 || !rankedType(op->getOperand(0)))
    return {};
  Value from = op->getOperand(0);
  SmallVector<Value> operands(op->getOperands());
  if (isReduction(op)) {
    auto axes = backAxes(op, rankOf(from));
    bool exact = name == "ReduceMax" || name == "ReduceLogSumExp" ||
                 ((name == "ReduceSum" || name == "ReduceL1") && vanishes(from));
    if (!axes || axes->size() != 1 || axes->front() != back || intAttr(op, "keepdims", 1) != 1 ||
        !isExperts(from, back) || !exact)
      return {};
    operands[0] = narrow(from, rankOf(from) - back);
    if (mask)
      operands[0] = masked(operands[0], back, name == "ReduceSum" || name == "ReduceL1");
    return clone(op, operands, std::nullopt);
  }
  // One of the best scores, as a bound.
  Operation *top = from.getDefiningOp();
  if ((name != "Slice" && name != "Gather") || onnxName(top) != "TopK" ||
      from != top->getResult(0) || !isExperts(top->getOperand(0), back))
    return {};
  int64_t over = intAttr(top, "axis", -1), rank = rankOf(from);
  if ((over < 0 ? over + rank : over) != rank - back)
    return {};
  Value scores = narrow(top->getOperand(0), rank - back);
  if (mask)
    scores = masked(scores, back);
  builder.setInsertionPointAfter(top);
  Operation *copy = builder.clone(*top);
  copy->setOperand(0, scores);
  operands[0] = copy->getResult(0);
  return clone(op, operands, std::nullopt);
}

} // namespace moec::compress
