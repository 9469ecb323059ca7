// The losses of the standard by its own formulas: logarithmic softmax, one
// gathered score for each target, a weighted mean.
#include "Decompose.h"

using namespace mlir;

namespace moec::prepare {

namespace {

struct Loss {
  OnnxBuilder &b;
  Operation *op;
  Value scores, target, weight; // scores [N, C, ...], target [N, ...]

  Value filled(Value mask, Value x, double otherwise) {
    Type element = rankedType(x).getElementType();
    return b.op("Where", {mask, x, b.scalar(element, otherwise)}, x.getType());
  }
  Value sumOf(Value x) {
    SmallVector<int64_t> axes;
    for (int64_t i = 0; i < rankedType(x).getRank(); ++i)
      axes.push_back(i);
    return axes.empty() ? x : b.reduce("ReduceSum", x, axes, /*keep=*/false);
  }
  Value result(Value logs);
};

// The loss from logarithms of probabilities.
Value Loss::result(Value logs) {
  auto type = rankedType(logs), targetType = rankedType(target);
  Type element = type.getElementType(), index = targetType.getElementType();
  auto one = targetType.clone(element);
  Value valid; // null: all
  if (auto ignored = op->getAttrOfType<IntegerAttr>("ignore_index")) {
    Value hit = b.binary("Equal", target, b.scalar(index, static_cast<double>(ignored.getInt())));
    valid = b.unary("Not", hit);
    target = filled(valid, target, 0);
  }
  Value at = b.unsqueeze(target, 1);
  SmallVector<int64_t> dims(targetType.getShape());
  dims.insert(dims.begin() + 1, 1);
  Value picked = b.op("GatherElements", {logs, at}, RankedTensorType::get(dims, element),
                      {b.attr("axis", int64_t(1))});
  Value loss = b.unary("Neg", b.op("Squeeze", {picked, b.ints(1)}, one));
  Value weights;
  if (weight) {
    weights = b.gather(weight, target, 0);
    loss = b.binary("Mul", loss, weights);
  }
  if (valid) {
    loss = filled(valid, loss, 0);
    weights = weights ? filled(valid, weights, 0) : b.cast(valid, element);
  }
  auto reduction = op->getAttrOfType<StringAttr>("reduction");
  StringRef kind = reduction ? reduction.getValue() : "mean";
  if (kind == "none")
    return loss;
  if (kind == "sum")
    return sumOf(loss);
  if (!weights)
    weights = b.op("Expand", {b.scalar(element, 1), b.shape(target, 0, targetType.getRank())}, one);
  return b.binary("Div", sumOf(loss), sumOf(weights));
}

bool fits(Operation *op) {
  auto type = rankedType(op->getOperand(0)), target = rankedType(op->getOperand(1));
  return type && target && isa<FloatType>(type.getElementType()) && type.getRank() >= 2 &&
         target.getRank() + 1 == type.getRank();
}

Loss lossOf(Operation *op, OnnxBuilder &b) {
  Value weight = op->getNumOperands() > 2 && !absent(op->getOperand(2)) ? op->getOperand(2) : Value();
  return {b, op, op->getOperand(0), op->getOperand(1), weight};
}

} // namespace

bool negativeLogLikelihood(Operation *op, OnnxBuilder &b) {
  if (!fits(op))
    return false;
  Loss loss = lossOf(op, b);
  replaceResult(b, op, 0, loss.result(loss.scores));
  return true;
}

bool softmaxCrossEntropy(Operation *op, OnnxBuilder &b) {
  if (!fits(op))
    return false;
  Loss loss = lossOf(op, b);
  Value logs = b.op("LogSoftmax", loss.scores, loss.scores.getType(), {b.attr("axis", int64_t(1))});
  replaceResult(b, op, 0, loss.result(logs));
  if (op->getNumResults() > 1)
    replaceResult(b, op, 1, logs);
  return true;
}

} // namespace moec::prepare
