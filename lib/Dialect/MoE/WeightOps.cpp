// moe.weights and its steps: verifiers, folding. Constraint numbers are those of
// docs/moe-dialect.md.
#include "Shapes.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace mlir;
using namespace moec::moe;

static ArrayRef<int64_t> shapeOf(Value value) { return rankedType(value).getShape(); }
static Type elementOf(Value value) { return rankedType(value).getElementType(); }

// The steps that only move elements keep their type.
static LogicalResult verifySameElement(Operation *op, Value input, Value result) {
  if (elementOf(input) != elementOf(result))
    return op->emitOpError("must keep the element type ") << elementOf(input);
  return success();
}

static LogicalResult verifyResultShape(Operation *op, ArrayRef<int64_t> wanted) {
  if (shapeOf(op->getResult(0)) != wanted)
    return op->emitOpError("makes the shape ")
           << shapeText(wanted) << ", not " << shapeText(shapeOf(op->getResult(0)));
  return success();
}

static LogicalResult verifyAxis(Operation *op, int64_t axis, int64_t rank) {
  if (axis < 0 || axis >= rank)
    return op->emitOpError("has axis ") << axis << " of a tensor of rank " << rank;
  return success();
}

// Nothing when the product does not fit 63 bits.
static std::optional<int64_t> countElements(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t d : shape)
    if (llvm::MulOverflow(count, d, count))
      return std::nullopt;
  return count;
}

//===--- weights, bind, use ----------------------------------------------------------------===//

LogicalResult WeightsOp::verify() {
  // weights.C1
  for (Operation &op : getBody().front())
    if (!isa<MoEDialect>(op.getDialect()) || !op.getName().stripDialect().starts_with("weight.") ||
        isa<WeightUseOp>(op))
      return op.emitOpError("cannot stand in moe.weights, which holds only weight steps");
  // weights.C2
  if (auto module = dyn_cast_or_null<ModuleOp>((*this)->getParentOp()))
    if (*module.getOps<WeightsOp>().begin() != *this)
      return emitOpError("is the second one of its module; a module has one");
  return success();
}

LogicalResult WeightUseOp::verifySymbolUses(SymbolTableCollection &symbols) {
  WeightsOp weights = findWeights(*this);
  auto bind = weights ? dyn_cast_or_null<WeightBindOp>(
                            symbols.lookupSymbolIn(weights, getWeightAttr().getAttr()))
                      : WeightBindOp();
  // weight.use.C1
  if (!bind)
    return emitOpError("reads the weight @") << getWeight() << ", which nothing binds";
  // weight.use.C2
  if (bind.getValue().getType() != getResult().getType())
    return emitOpError("reads the weight @")
           << getWeight() << " of type " << bind.getValue().getType() << " as "
           << getResult().getType();
  return success();
}

//===--- load, cast ------------------------------------------------------------------------===//

LogicalResult WeightLoadOp::verify() {
  // weight.load.C1
  if (getFile().empty())
    return emitOpError("needs the name of a file");
  // weight.load.C2
  if (static_cast<int64_t>(getOffset()) < 0)
    return emitOpError("needs an offset that is not negative");
  // weight.load.C3
  if (!elementOf(getResult()).isIntOrFloat())
    return emitOpError("cannot load elements of type ") << elementOf(getResult());
  return success();
}

LogicalResult WeightCastOp::verify() {
  // weight.cast.C1
  if (failed(verifyResultShape(*this, shapeOf(getInput()))))
    return failure();
  // weight.cast.C2
  if (!elementOf(getInput()).isIntOrFloat() || !elementOf(getResult()).isIntOrFloat())
    return emitOpError("converts between integers and floats only");
  return success();
}

// Every number of `from` is one of `to`.
static bool widens(Type from, Type to) {
  auto f = dyn_cast<FloatType>(from), t = dyn_cast<FloatType>(to);
  return f && t && APFloat::isRepresentableBy(f.getFloatSemantics(), t.getFloatSemantics());
}

OpFoldResult WeightCastOp::fold(FoldAdaptor) {
  if (getInput().getType() == getType())
    return getInput();
  // There and back through a wider type.
  if (auto first = getInput().getDefiningOp<WeightCastOp>())
    if (first.getInput().getType() == getType() &&
        widens(elementOf(getResult()), elementOf(getInput())))
      return first.getInput();
  return {};
}

//===--- transpose -------------------------------------------------------------------------===//

static bool isIdentity(ArrayRef<int64_t> perm) {
  for (auto [i, p] : llvm::enumerate(perm))
    if (p != static_cast<int64_t>(i))
      return false;
  return true;
}

LogicalResult WeightTransposeOp::verify() {
  ArrayRef<int64_t> shape = shapeOf(getInput());
  // weight.transpose.C1
  SmallVector<int64_t> sorted(getPerm());
  llvm::sort(sorted);
  if (sorted.size() != shape.size() || !isIdentity(sorted))
    return emitOpError("needs each axis of its input once in perm");
  // weight.transpose.C2
  SmallVector<int64_t> wanted;
  for (int64_t p : getPerm())
    wanted.push_back(shape[p]);
  if (failed(verifyResultShape(*this, wanted)))
    return failure();
  return verifySameElement(*this, getInput(), getResult());
}

OpFoldResult WeightTransposeOp::fold(FoldAdaptor) {
  return isIdentity(getPerm()) ? OpFoldResult(getInput()) : OpFoldResult();
}

namespace {
// Two transposes are one.
struct MergeTransposes : OpRewritePattern<WeightTransposeOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(WeightTransposeOp op, PatternRewriter &rewriter) const override {
    auto first = op.getInput().getDefiningOp<WeightTransposeOp>();
    if (!first)
      return failure();
    SmallVector<int64_t> perm;
    for (int64_t p : op.getPerm())
      perm.push_back(first.getPerm()[p]);
    rewriter.replaceOpWithNewOp<WeightTransposeOp>(op, op.getType(), first.getInput(),
                                                   rewriter.getDenseI64ArrayAttr(perm));
    return success();
  }
};
} // namespace

void WeightTransposeOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                                    MLIRContext *context) {
  patterns.add<MergeTransposes>(context);
}

//===--- reshape ---------------------------------------------------------------------------===//

LogicalResult WeightReshapeOp::verify() {
  // weight.reshape.C1
  auto in = countElements(shapeOf(getInput())), out = countElements(shapeOf(getResult()));
  if (!in || !out || *in != *out)
    return emitOpError("cannot make ")
           << shapeText(shapeOf(getResult())) << " of " << shapeText(shapeOf(getInput()))
           << ": the numbers of elements differ";
  return verifySameElement(*this, getInput(), getResult());
}

OpFoldResult WeightReshapeOp::fold(FoldAdaptor) {
  return getInput().getType() == getType() ? OpFoldResult(getInput()) : OpFoldResult();
}

namespace {
// Only the last shape counts.
struct MergeReshapes : OpRewritePattern<WeightReshapeOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(WeightReshapeOp op, PatternRewriter &rewriter) const override {
    auto first = op.getInput().getDefiningOp<WeightReshapeOp>();
    if (!first)
      return failure();
    rewriter.replaceOpWithNewOp<WeightReshapeOp>(op, op.getType(), first.getInput());
    return success();
  }
};
} // namespace

void WeightReshapeOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                                  MLIRContext *context) {
  patterns.add<MergeReshapes>(context);
}

//===--- slice -----------------------------------------------------------------------------===//

LogicalResult WeightSliceOp::verify() {
  ArrayRef<int64_t> shape = shapeOf(getInput());
  // weight.slice.C1
  for (ArrayRef<int64_t> list : {getOffsets(), getSizes(), getStrides()})
    if (list.size() != shape.size())
      return emitOpError("needs an offset, a size and a stride for each of ")
             << shape.size() << " axes";
  // weight.slice.C2
  for (auto [axis, dim] : llvm::enumerate(shape)) {
    int64_t offset = getOffsets()[axis], size = getSizes()[axis], stride = getStrides()[axis];
    bool inside = offset >= 0 && size >= 0 && stride >= 1 && offset <= dim &&
                  (size == 0 || (offset < dim && size - 1 <= (dim - 1 - offset) / stride));
    if (!inside)
      return emitOpError("leaves its input along axis ")
             << axis << ": offset " << offset << ", size " << size << ", stride " << stride
             << ", of " << dim << " elements";
  }
  // weight.slice.C3
  if (failed(verifyResultShape(*this, getSizes())))
    return failure();
  return verifySameElement(*this, getInput(), getResult());
}

OpFoldResult WeightSliceOp::fold(FoldAdaptor) {
  // Of the input's size: nothing else than all of it fits.
  return shapeOf(getInput()) == getSizes() ? OpFoldResult(getInput()) : OpFoldResult();
}

namespace {
// A slice of a slice is a slice.
struct MergeSlices : OpRewritePattern<WeightSliceOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(WeightSliceOp op, PatternRewriter &rewriter) const override {
    auto first = op.getInput().getDefiningOp<WeightSliceOp>();
    if (!first)
      return failure();
    SmallVector<int64_t> offsets, strides;
    for (size_t i = 0; i < op.getSizes().size(); ++i) {
      int64_t stride = first.getStrides()[i];
      offsets.push_back(first.getOffsets()[i] + op.getOffsets()[i] * stride);
      strides.push_back(op.getStrides()[i] * stride);
    }
    rewriter.replaceOpWithNewOp<WeightSliceOp>(
        op, op.getType(), first.getInput(), rewriter.getDenseI64ArrayAttr(offsets),
        op.getSizesAttr(), rewriter.getDenseI64ArrayAttr(strides));
    return success();
  }
};
} // namespace

void WeightSliceOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<MergeSlices>(context);
}

//===--- gather, concat --------------------------------------------------------------------===//

LogicalResult WeightGatherOp::verify() {
  SmallVector<int64_t> wanted(shapeOf(getInput()));
  int64_t axis = getAxis();
  // weight.gather.C1
  if (failed(verifyAxis(*this, axis, wanted.size())))
    return failure();
  // weight.gather.C2
  for (int64_t index : getIndices())
    if (index < 0 || index >= wanted[axis])
      return emitOpError("has index ") << index << " among " << wanted[axis] << " slices";
  // weight.gather.C3
  wanted[axis] = getIndices().size();
  if (failed(verifyResultShape(*this, wanted)))
    return failure();
  return verifySameElement(*this, getInput(), getResult());
}

OpFoldResult WeightGatherOp::fold(FoldAdaptor) {
  bool all = getInput().getType() == getType() && isIdentity(getIndices());
  return all ? OpFoldResult(getInput()) : OpFoldResult();
}

LogicalResult WeightConcatOp::verify() {
  // weight.concat.C1
  if (getInputs().empty())
    return emitOpError("needs at least one input");
  SmallVector<int64_t> wanted(shapeOf(getInputs().front()));
  int64_t axis = getAxis();
  // weight.concat.C2
  if (failed(verifyAxis(*this, axis, wanted.size())))
    return failure();
  // weight.concat.C3
  int64_t total = 0;
  for (Value input : getInputs()) {
    SmallVector<int64_t> shape(shapeOf(input));
    if (shape.size() != wanted.size())
      return emitOpError("joins tensors of one rank only");
    total += shape[axis];
    shape[axis] = wanted[axis];
    if (shape != wanted)
      return emitOpError("joins tensors that differ along axis ")
             << axis << " only, not " << shapeText(shapeOf(getInputs().front())) << " and "
             << shapeText(shapeOf(input));
    if (failed(verifySameElement(*this, input, getResult())))
      return failure();
  }
  wanted[axis] = total;
  return verifyResultShape(*this, wanted);
}

OpFoldResult WeightConcatOp::fold(FoldAdaptor) {
  return getInputs().size() == 1 ? OpFoldResult(getInputs().front()) : OpFoldResult();
}

//===--- combine, low_rank -----------------------------------------------------------------===//

LogicalResult WeightCombineOp::verify() {
  // weight.combine.C1
  if (getInputs().empty() || getInputs().size() != getCoefficients().size())
    return emitOpError("needs one coefficient for each input, and an input; it has ")
           << getInputs().size() << " inputs and " << getCoefficients().size() << " coefficients";
  // weight.combine.C2
  for (Value input : getInputs())
    if (input.getType() != getType())
      return emitOpError("combines tensors of its result's type only, not ") << input.getType();
  if (!isa<FloatType>(elementOf(getResult())))
    return emitOpError("combines floats only");
  // weight.combine.C3
  if (!llvm::all_of(getCoefficients(), [](double c) { return std::isfinite(c); }))
    return emitOpError("needs finite coefficients");
  return success();
}

OpFoldResult WeightCombineOp::fold(FoldAdaptor) {
  bool same = getInputs().size() == 1 && getCoefficients().front() == 1.0;
  return same ? OpFoldResult(getInputs().front()) : OpFoldResult();
}

LogicalResult WeightLowRankOp::verify() {
  ArrayRef<int64_t> a = shapeOf(getA()), b = shapeOf(getB());
  // weight.low_rank.C1
  if (a.size() < 2 || a.size() != b.size() || a.drop_back(2) != b.drop_back(2) ||
      a.back() != b[b.size() - 2])
    return emitOpError("cannot multiply ") << shapeText(a) << " by " << shapeText(b);
  // weight.low_rank.C2
  SmallVector<int64_t> wanted(a);
  wanted.back() = b.back();
  if (failed(verifyResultShape(*this, wanted)) ||
      failed(verifySameElement(*this, getA(), getResult())) ||
      failed(verifySameElement(*this, getB(), getResult())))
    return failure();
  if (!isa<FloatType>(elementOf(getResult())))
    return emitOpError("multiplies floats only");
  return success();
}
