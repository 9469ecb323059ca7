// Sequences of known elements disappear: exporters write torch.split, chunk and lists that unrolled
// loops fill by them.
#include "Evaluate.h"
#include "Fold.h"
#include "moec/Dialect/Onnx/Onnx.h"

using namespace mlir;

namespace moec::onnx {

namespace {

// More parts than this stay a sequence.
constexpr int64_t kMaxParts = 256;

// Known integers of any shape; nothing when the value is no constant.
std::optional<SmallVector<int64_t>> integers(Value value) {
  auto known = evaluate(value);
  if (!known || !known->complete() || known->isFloat())
    return std::nullopt;
  SmallVector<int64_t> out;
  for (auto &number : known->values)
    out.push_back(number->i);
  return out;
}

Value constant(PatternRewriter &rewriter, Location loc, ArrayRef<int64_t> values, bool scalar) {
  SmallVector<int64_t> shape;
  if (!scalar)
    shape.push_back(static_cast<int64_t>(values.size()));
  auto type = RankedTensorType::get(shape, rewriter.getI64Type());
  return ConstantOp::create(rewriter, loc, type, ValueRange{},
                            rewriter.getNamedAttr("value", DenseIntElementsAttr::get(type, values)))
      ->getResult(0);
}

Value retyped(PatternRewriter &rewriter, Location loc, Value value, Type type) {
  return value.getType() == type ? value
                                 : IdentityOp::create(rewriter, loc, type, value)->getResult(0);
}

// The elements of a sequence that is built here.
std::optional<ValueRange> elementsOf(Value sequence) {
  if (auto construct = sequence.getDefiningOp<SequenceConstructOp>())
    return ValueRange(construct->getOperands());
  if (sequence.getDefiningOp<SequenceEmptyOp>())
    return ValueRange();
  return std::nullopt;
}

// A position operand among `count` places; absent ones mean the end.
std::optional<int64_t> place(Value position, int64_t size, int64_t places) {
  if (isAbsent(position))
    return places - 1;
  auto value = integers(position);
  if (!value || value->size() != 1)
    return std::nullopt;
  int64_t at = value->front() < 0 ? value->front() + size : value->front();
  return at >= 0 && at < places ? std::optional(at) : std::nullopt;
}

struct ReadElement : OpRewritePattern<SequenceAtOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(SequenceAtOp op, PatternRewriter &rewriter) const override {
    auto elements = elementsOf(op->getOperand(0));
    auto size = elements ? static_cast<int64_t>(elements->size()) : 0;
    auto at = elements ? place(op->getOperand(1), size, size) : std::nullopt;
    if (!at)
      return failure();
    rewriter.replaceOp(
        op, retyped(rewriter, op.getLoc(), (*elements)[*at], op->getResult(0).getType()));
    return success();
  }
};

struct ReadLength : OpRewritePattern<SequenceLengthOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(SequenceLengthOp op, PatternRewriter &rewriter) const override {
    auto elements = elementsOf(op->getOperand(0));
    if (!elements)
      return failure();
    auto size = static_cast<int64_t>(elements->size());
    rewriter.replaceOp(op,
                       retyped(rewriter, op.getLoc(), constant(rewriter, op.getLoc(), {size}, true),
                               op->getResult(0).getType()));
    return success();
  }
};

// Insertions into, and erasures from, a sequence that is built here.
template <typename Op>
struct Edit : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;
  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const override {
    constexpr bool inserts = std::is_same_v<Op, SequenceInsertOp>;
    auto elements = elementsOf(op->getOperand(0));
    auto size = elements ? static_cast<int64_t>(elements->size()) : 0;
    auto at =
        elements ? place(op->getOperand(inserts ? 2 : 1), size, size + inserts) : std::nullopt;
    if (!at || size >= kMaxParts || (!inserts && size < 2))
      return failure();
    SmallVector<Value> list(*elements);
    if (inserts)
      list.insert(list.begin() + *at, op->getOperand(1));
    else
      list.erase(list.begin() + *at);
    rewriter.replaceOpWithNewOp<SequenceConstructOp>(op, op->getResultTypes(), list);
    return success();
  }
};

// Parts whose number is known are those of onnx.Split.
struct SplitKnown : OpRewritePattern<SplitToSequenceOp> {
  using OpRewritePattern::OpRewritePattern;

  static std::optional<SmallVector<int64_t>> sizes(SplitToSequenceOp op, int64_t dim) {
    Value split = op->getOperand(1);
    auto type = dyn_cast<RankedTensorType>(split.getType());
    // How many parts there are is known, how long they are need not be.
    SmallVector<int64_t> open;
    if (type && type.getRank() == 1 && type.hasStaticShape())
      open.assign(type.getDimSize(0), ShapedType::kDynamic);
    auto given = isAbsent(split) ? SmallVector<int64_t>{1} : integers(split).value_or(open);
    if (given.empty() || (!isAbsent(split) && !type))
      return std::nullopt;
    if (type && type.getRank() == 1)
      return given;
    if (ShapedType::isDynamic(dim) || given[0] < 1)
      return std::nullopt;
    SmallVector<int64_t> out;
    for (int64_t from = 0; from < dim && out.size() <= kMaxParts; from += given[0])
      out.push_back(std::min(given[0], dim - from));
    return out;
  }

  LogicalResult matchAndRewrite(SplitToSequenceOp op, PatternRewriter &rewriter) const override {
    Value x = op->getOperand(0);
    auto type = dyn_cast<RankedTensorType>(x.getType());
    int64_t axis = op.getAxis();
    if (!type || axis < -type.getRank() || axis >= type.getRank())
      return failure();
    axis += axis < 0 ? type.getRank() : 0;
    auto parts = sizes(op, type.getDimSize(axis));
    if (!parts || parts->empty() || parts->size() > kMaxParts)
      return failure();
    Location loc = op.getLoc();
    SmallVector<Type> types;
    for (int64_t size : *parts) {
      SmallVector<int64_t> shape(type.getShape());
      shape[axis] = size;
      types.push_back(type.clone(shape));
    }
    bool known = llvm::none_of(*parts, ShapedType::isDynamic);
    SmallVector<Value> operands = {x, known ? constant(rewriter, loc, *parts, false)
                                            : op->getOperand(1)};
    SmallVector<Value> values(
        SplitOp::create(rewriter, loc, types, operands,
                        rewriter.getNamedAttr("axis", rewriter.getI64IntegerAttr(axis)))
            ->getResults());
    if (isAbsent(op->getOperand(1)) && !op.getKeepdims()) {
      SmallVector<int64_t> shape(type.getShape());
      shape.erase(shape.begin() + axis);
      Value axes = constant(rewriter, loc, {axis}, false);
      for (Value &value : values)
        value = SqueezeOp::create(rewriter, loc, type.clone(shape), ValueRange{value, axes})
                    ->getResult(0);
    }
    rewriter.replaceOpWithNewOp<SequenceConstructOp>(op, op->getResultTypes(), values);
    return success();
  }
};

struct JoinKnown : OpRewritePattern<ConcatFromSequenceOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ConcatFromSequenceOp op, PatternRewriter &rewriter) const override {
    auto elements = elementsOf(op->getOperand(0));
    if (!elements || elements->empty())
      return failure();
    SmallVector<Value> values(*elements);
    Location loc = op.getLoc();
    auto axis = op.getAxisAttr();
    if (op.getNewAxis()) {
      for (Value value : values) {
        auto type = dyn_cast<RankedTensorType>(value.getType());
        if (!type || axis.getInt() < -type.getRank() - 1 || axis.getInt() > type.getRank())
          return failure();
      }
      Value axes = constant(rewriter, loc, {axis.getInt()}, false);
      for (Value &value : values) {
        auto type = cast<RankedTensorType>(value.getType());
        SmallVector<int64_t> shape(type.getShape());
        int64_t at = axis.getInt() < 0 ? axis.getInt() + type.getRank() + 1 : axis.getInt();
        shape.insert(shape.begin() + at, 1);
        value = UnsqueezeOp::create(rewriter, loc, type.clone(shape), ValueRange{value, axes})
                    ->getResult(0);
      }
    }
    rewriter.replaceOpWithNewOp<ConcatOp>(op, op->getResultTypes(), values,
                                          rewriter.getNamedAttr("axis", axis));
    return success();
  }
};

} // namespace

void addSequencePatterns(RewritePatternSet &patterns) {
  patterns.add<ReadElement, ReadLength, Edit<SequenceInsertOp>, Edit<SequenceEraseOp>, SplitKnown,
               JoinKnown>(patterns.getContext());
}

} // namespace moec::onnx
