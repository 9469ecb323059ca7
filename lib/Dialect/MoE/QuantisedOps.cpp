// The steps of quantised weights: verifiers, folding. Constraint numbers are those of
// docs/moe-dialect.md.
#include "Shapes.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace moec::moe;

static ArrayRef<int64_t> shapeOf(Value value) { return rankedType(value).getShape(); }
static Type elementOf(Value value) { return rankedType(value).getElementType(); }

LogicalResult WeightUnpackOp::verify() {
  Type from = elementOf(getInput()), to = elementOf(getResult());
  // weight.unpack.C1
  unsigned width = to.isIntOrFloat() ? to.getIntOrFloatBitWidth() : 0;
  if (!from.isIntOrFloat() || from.getIntOrFloatBitWidth() != 8 ||
      (width != 2 && width != 4 && width != 8))
    return emitOpError("reads bytes as elements of 2, 4 or 8 bits, not ") << from << " as " << to;
  // weight.unpack.C2
  SmallVector<int64_t> wanted(shapeOf(getInput()));
  if (wanted.empty() || llvm::MulOverflow<int64_t>(wanted.back(), 8 / width, wanted.back()) ||
      ArrayRef(wanted) != shapeOf(getResult()))
    return emitOpError("makes the shape ")
           << shapeText(wanted) << ", not " << shapeText(shapeOf(getResult()));
  return success();
}

OpFoldResult WeightUnpackOp::fold(FoldAdaptor) {
  return getInput().getType() == getType() ? OpFoldResult(getInput()) : OpFoldResult();
}

LogicalResult WeightDequantizeOp::verify() {
  ArrayRef<int64_t> shape = shapeOf(getInput()), scales = shapeOf(getScale());
  Value zero = getZeroPoint();
  // weight.dequantize.C1
  if (scales.size() != shape.size() || (zero && shapeOf(zero).size() != shape.size()))
    return emitOpError("needs scales and zero points of its input's rank, ") << shape.size();
  // weight.dequantize.C2
  if (getBlocks().size() != shape.size() ||
      llvm::any_of(getBlocks(), [](int64_t block) { return block < 1; }))
    return emitOpError("needs a block size of at least 1 for each of ") << shape.size() << " axes";
  // weight.dequantize.C3
  SmallVector<int64_t> wanted;
  for (auto [dim, block] : llvm::zip(shape, getBlocks()))
    wanted.push_back(dim / block + (dim % block != 0));
  if (scales != ArrayRef(wanted))
    return emitOpError("has scales ") << shapeText(scales) << " for blocks " << shapeText(wanted);
  // weight.dequantize.C4
  if (zero && shapeOf(zero) != scales &&
      !llvm::all_of(shapeOf(zero), [](int64_t dim) { return dim == 1; }))
    return emitOpError("has zero points ")
           << shapeText(shapeOf(zero)) << " beside scales " << shapeText(scales);
  // weight.dequantize.C5
  if (!elementOf(getInput()).isIntOrFloat() || (zero && !elementOf(zero).isIntOrFloat()) ||
      !isa<FloatType>(elementOf(getScale())) || !isa<FloatType>(elementOf(getResult())))
    return emitOpError("makes floats of integers or floats with scales that are floats");
  if (shapeOf(getResult()) != shape)
    return emitOpError("makes the shape ")
           << shapeText(shape) << ", not " << shapeText(shapeOf(getResult()));
  return success();
}
