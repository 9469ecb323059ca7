#include "Channels.h"
#include "OnnxAccess.h"
#include "RowWise.h"

using namespace mlir;

namespace moec::raise {

namespace {

int64_t axisOf(Operation *op, int64_t otherwise) {
  auto type = ranked(op->getOperand(0));
  int64_t axis = intAttr(op, "axis", otherwise);
  return axis < 0 && type ? axis + type.getRank() : axis;
}

// A convolution whose result at a place depends on that place alone.
bool isPointwise(Operation *op) {
  auto type = op->getNumOperands() > 1 ? ranked(op->getOperand(1)) : RankedTensorType();
  if (!isOnnx(op, "Conv") || !type || type.getRank() < 3 || !type.hasStaticShape() ||
      intAttr(op, "group", 1) != 1)
    return false;
  auto are = [&](StringRef name, int64_t number) {
    return llvm::all_of(intsAttr(op, name), [&](int64_t i) { return i == number; });
  };
  return llvm::all_of(type.getShape().drop_front(2), [](int64_t d) { return d == 1; }) &&
         are("strides", 1) && are("pads", 0);
}

// Operators that leave every axis but the first where it is.
bool keepsAxes(Operation *op) {
  StringRef n = onnxName(op);
  if (n == "Softmax" || n == "LogSoftmax" || n == "TopK")
    return axisOf(op, -1) == 1;
  if (n == "Split" || n == "Concat" || n == "Gather" || n == "ScatterElements" ||
      n == "GatherElements")
    return axisOf(op, 0) == 1;
  bool reduces = n.starts_with("Reduce") && intAttr(op, "keepdims", 1) != 0;
  return isElementwise(op) || reduces || n == "Conv" || n == "BatchNormalization" ||
         n == "InstanceNormalization" || n == "GroupNormalization" || n == "Slice";
}

} // namespace

Channels channelsOf(Block &block, WeightSteps &steps) {
  Channels out;
  auto wide = [](Value v) { return ranked(v) && ranked(v).getRank() >= 3; };
  SmallVector<Operation *> todo;
  auto add = [&](Value v) {
    if (!wide(v) || isWeight(v) || !out.values.insert(v).second)
      return;
    if (Operation *def = v.getDefiningOp())
      todo.push_back(def);
    todo.append(v.user_begin(), v.user_end());
  };
  for (Operation &op : block) {
    if (!isPointwise(&op))
      continue;
    add(op.getOperand(0));
    add(op.getResult(0));
    Value weight = isWeight(op.getOperand(1)) ? steps.of(op.getOperand(1)) : Value();
    if (!weight)
      continue;
    auto dims = ranked(op.getOperand(1)).getShape().take_front(2);
    OpBuilder builder(&op);
    out.matrices[op.getResult(0)] = steps.use(
        builder, op.getLoc(), steps.bind(steps.reshape(weight, dims), "matrix"));
  }
  while (!todo.empty()) {
    Operation *op = todo.pop_back_val();
    if (op->getBlock() != &block || !keepsAxes(op))
      continue;
    int64_t rank = 0;
    for (Value v : op->getOperands())
      if (out.values.contains(v))
        rank = ranked(v).getRank();
    for (Value v : op->getResults())
      if (out.values.contains(v))
        rank = ranked(v).getRank();
    auto beside = [&](ValueRange values) {
      for (Value v : values)
        if (wide(v) && ranked(v).getRank() == rank)
          add(v);
    };
    if (rank > 0) {
      beside(op->getOperands());
      beside(op->getResults());
    }
  }
  for (Operation &op : block)
    if (isOnnx(&op, "TopK") || isOnnx(&op, "ArgMax"))
      out.chooses |= out.values.contains(op.getOperand(0)) &&
                     axisOf(&op, isOnnx(&op, "TopK") ? -1 : 0) == 1;
  return out;
}

Layout channelLayout(RankedTensorType type) {
  SmallVector<int64_t> dims(type.getShape());
  int64_t features = dims[1];
  dims.erase(dims.begin() + 1);
  dims.push_back(std::max<int64_t>(features, 1)); // a number of them in any case
  Layout layout = leafLayout(RankedTensorType::get(dims, type.getElementType()));
  Dim last = layout.pop_back_val();
  if (features < 0)
    last = {Atom{Atom::Any, -1}};
  layout.insert(layout.begin() + 1, last);
  return layout;
}

} // namespace moec::raise
