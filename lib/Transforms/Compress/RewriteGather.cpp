#include "RewriteGather.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"

using namespace mlir;

namespace moec::compress {

static bool isAll(ArrayRef<int64_t> indices, int64_t size) {
  if (static_cast<int64_t>(indices.size()) != size)
    return false;
  for (auto [i, index] : llvm::enumerate(indices))
    if (index != static_cast<int64_t>(i))
      return false;
  return true;
}

// Of tensors joined along the axis: the chosen ones, when none is cut. Null otherwise.
static Value gatherParts(WeightSteps &steps, moe::WeightConcatOp op, ArrayRef<int64_t> indices) {
  int64_t axis = op.getAxis();
  SmallVector<Value> chosen;
  for (size_t i = 0; i < indices.size();) {
    int64_t first = 0;
    Value part;
    for (Value input : op.getInputs()) {
      int64_t size = rankedType(input).getDimSize(axis);
      if (indices[i] == first && size > 0 && i + size <= indices.size()) {
        part = input;
        break;
      }
      first += size;
    }
    if (!part)
      return {};
    for (int64_t n = rankedType(part).getDimSize(axis), j = 0; j < n; ++j, ++i)
      if (indices[i] != first + j)
        return {};
    chosen.push_back(part);
  }
  if (chosen.empty())
    return {};
  return chosen.size() == 1 ? chosen.front() : steps.concat(chosen, axis);
}

static Value gatherQuantised(WeightSteps &steps, moe::WeightDequantizeOp op, int64_t axis,
                             ArrayRef<int64_t> indices) {
  int64_t size = rankedType(op.getResult()).getDimSize(axis), block = op.getBlocks()[axis];
  Type element = rankedType(op.getResult()).getElementType();
  Value zero = op.getZeroPoint();
  int64_t count = static_cast<int64_t>(indices.size());
  if (block > 1 && block >= std::max(size, count)) // one scale for all of the axis
    return steps.dequantize(gatherSlices(steps, op.getInput(), axis, indices), op.getScale(), zero,
                            op.getBlocks(), element);
  if (block != 1)
    return {};
  if (zero && rankedType(zero).getNumElements() > 1)
    zero = gatherSlices(steps, zero, axis, indices);
  return steps.dequantize(gatherSlices(steps, op.getInput(), axis, indices),
                          gatherSlices(steps, op.getScale(), axis, indices), zero, op.getBlocks(),
                          element);
}

// Slices of a part of a tensor are slices of the tensor.
static Value gatherOfSlice(WeightSteps &steps, moe::WeightSliceOp op, int64_t axis,
                           ArrayRef<int64_t> indices) {
  SmallVector<int64_t> offsets(op.getOffsets()), sizes(op.getSizes()), strides(op.getStrides());
  SmallVector<int64_t> from;
  for (int64_t index : indices)
    from.push_back(offsets[axis] + index * strides[axis]);
  offsets[axis] = 0;
  sizes[axis] = static_cast<int64_t>(indices.size());
  strides[axis] = 1;
  return steps.slice(gatherSlices(steps, op.getInput(), axis, from), offsets, sizes, strides);
}

Value gatherSlices(WeightSteps &steps, Value value, int64_t axis, ArrayRef<int64_t> indices) {
  auto type = rankedType(value);
  if (isAll(indices, type.getDimSize(axis)))
    return value;
  Operation *op = value.getDefiningOp();
  if (auto cast = dyn_cast_or_null<moe::WeightCastOp>(op))
    return steps.cast(gatherSlices(steps, cast.getInput(), axis, indices), type.getElementType());
  if (auto transpose = dyn_cast_or_null<moe::WeightTransposeOp>(op)) {
    ArrayRef<int64_t> perm = transpose.getPerm();
    return steps.transpose(gatherSlices(steps, transpose.getInput(), perm[axis], indices), perm);
  }
  if (auto unpack = dyn_cast_or_null<moe::WeightUnpackOp>(op);
      unpack && axis + 1 < type.getRank())
    return steps.unpack(gatherSlices(steps, unpack.getInput(), axis, indices),
                        type.getElementType());
  if (auto gather = dyn_cast_or_null<moe::WeightGatherOp>(op);
      gather && static_cast<int64_t>(gather.getAxis()) == axis) {
    SmallVector<int64_t> from;
    for (int64_t index : indices)
      from.push_back(gather.getIndices()[index]);
    return gatherSlices(steps, gather.getInput(), axis, from);
  }
  if (auto slice = dyn_cast_or_null<moe::WeightSliceOp>(op))
    return gatherOfSlice(steps, slice, axis, indices);
  if (auto reshape = dyn_cast_or_null<moe::WeightReshapeOp>(op); reshape && axis == 0) {
    auto from = rankedType(reshape.getInput());
    SmallVector<int64_t> shape(type.getShape());
    shape[0] = static_cast<int64_t>(indices.size());
    if (from.getRank() > 0 && from.getDimSize(0) == type.getDimSize(0))
      return steps.reshape(gatherSlices(steps, reshape.getInput(), 0, indices), shape);
  }
  Value parts;
  if (auto concat = dyn_cast_or_null<moe::WeightConcatOp>(op)) {
    if (static_cast<int64_t>(concat.getAxis()) == axis) {
      parts = gatherParts(steps, concat, indices);
    } else {
      SmallVector<Value> inputs;
      for (Value input : concat.getInputs())
        inputs.push_back(gatherSlices(steps, input, axis, indices));
      parts = steps.concat(inputs, concat.getAxis());
    }
  } else if (auto dequantize = dyn_cast_or_null<moe::WeightDequantizeOp>(op)) {
    parts = gatherQuantised(steps, dequantize, axis, indices);
  }
  return parts ? parts : steps.gather(value, axis, indices);
}

} // namespace moec::compress
