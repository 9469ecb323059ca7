// Folding of all ops by one hook, and the patterns that fold cannot express.
#include "Fold.h"
#include "Evaluate.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/FoldInterfaces.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include <cmath>

using namespace mlir;

namespace moec::onnx {

namespace {

// All elements of a small constant are this number.
bool isSplat(Value value, double number) {
  DenseElementsAttr dense;
  if (!matchPattern(value, m_Constant(&dense)) || !dense.isSplat())
    return false;
  auto known = evaluate(value);
  if (!known || known->values.empty())
    return false;
  const Number &v = *known->values.front();
  return known->isFloat() ? v.f == number && !(number == 0 && std::signbit(v.f))
                          : static_cast<double>(v.i) == number;
}

bool sameStaticType(Value value, Operation *op) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  return type && type.hasStaticShape() && type == op->getResult(0).getType();
}

bool isIdentityPerm(Operation *op) {
  auto perm = op->getAttrOfType<DenseI64ArrayAttr>("perm");
  if (!perm)
    return false;
  for (auto [i, p] : llvm::enumerate(perm.asArrayRef()))
    if (p != static_cast<int64_t>(i))
      return false;
  return true;
}

// A constant beside `value` that cannot broadcast it to something larger.
bool keepsShape(Value constant, Value value) {
  auto c = dyn_cast<RankedTensorType>(constant.getType());
  auto v = dyn_cast<RankedTensorType>(value.getType());
  if (!c || !v || c.getRank() > v.getRank())
    return false;
  auto tail = v.getShape().take_back(c.getRank());
  return llvm::all_of(llvm::zip(c.getShape(), tail), [](auto pair) {
    auto [a, b] = pair;
    return a == 1 || a == b;
  });
}

// The operand that an arithmetic op gives back unchanged.
Value neutral(Operation *op, StringRef name) {
  Value a = op->getOperand(0), b = op->getOperand(1);
  bool isFloat = isa<FloatType>(getElementTypeOrSelf(a.getType()));
  bool product = name == "Mul", sum = name == "Add" && !isFloat; // -0.0 + 0.0 is 0.0
  bool onRight = product || name == "Div" ? isSplat(b, 1) : (sum || name == "Sub") && isSplat(b, 0);
  if (onRight && keepsShape(b, a))
    return a;
  bool onLeft = product ? isSplat(a, 1) : sum && isSplat(a, 0);
  return onLeft && keepsShape(a, b) ? b : Value();
}

// The operand that is the op's result, or null. Its type is the result's.
Value unchanged(Operation *op) {
  StringRef name = op->getName().stripDialect();
  unsigned n = op->getNumOperands();
  if (n == 0 || op->getNumResults() != 1)
    return {};
  Value first = op->getOperand(0);
  Type type = op->getResult(0).getType();
  if (name == "Identity" || name == "Cast" || (name == "Concat" && n == 1))
    return first.getType() == type ? first : Value();
  if (name == "Reshape" || name == "Expand" || name == "Flatten" || name == "Squeeze" ||
      name == "Unsqueeze")
    return sameStaticType(first, op) ? first : Value();
  if (name == "Transpose")
    return isIdentityPerm(op) && first.getType() == type ? first : Value();
  if (name == "Add" || name == "Sub" || name == "Mul" || name == "Div") {
    Value same = n == 2 ? neutral(op, name) : Value();
    return same && same.getType() == type ? same : Value();
  }
  if (name == "Where" && n == 3) {
    Value same = isSplat(first, 1)   ? op->getOperand(1)
                 : isSplat(first, 0) ? op->getOperand(2)
                                     : Value();
    return same && sameStaticType(same, op) ? same : Value();
  }
  return {};
}

class Folding : public DialectFoldInterface {
public:
  using DialectFoldInterface::DialectFoldInterface;

  LogicalResult fold(Operation *op, ArrayRef<Attribute>,
                     SmallVectorImpl<OpFoldResult> &results) const override {
    if (Value value = unchanged(op)) {
      results.push_back(value);
      return success();
    }
    if (op->getNumResults() == 0 || op->getNumRegions() > 0)
      return failure();
    for (Value result : op->getResults()) {
      auto known = evaluate(result);
      DenseElementsAttr value = known ? toAttribute(*known, result.getType()) : nullptr;
      if (!value)
        return failure();
      results.push_back(value);
    }
    return success();
  }
};

// onnx.If of a constant: the branch taken, inline.
struct InlineIf : OpRewritePattern<IfOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(IfOp op, PatternRewriter &rewriter) const override {
    bool taken = isSplat(op.getCond(), 1);
    if (!taken && !isSplat(op.getCond(), 0))
      return failure();
    Block &block = (taken ? op.getThenBranch() : op.getElseBranch()).front();
    Operation *yield = block.getTerminator();
    rewriter.inlineBlockBefore(&block, op);
    SmallVector<Value> values;
    rewriter.setInsertionPoint(yield);
    // A branch may know its values less, or better, than the op does.
    for (auto [value, result] : llvm::zip(yield->getOperands(), op->getResults()))
      values.push_back(
          value.getType() == result.getType()
              ? value
              : IdentityOp::create(rewriter, op.getLoc(), result.getType(), value)->getResult(0));
    rewriter.eraseOp(yield);
    rewriter.replaceOp(op, values);
    return success();
  }
};

} // namespace

std::unique_ptr<DialectInterface> makeFolding(Dialect *dialect) {
  return std::make_unique<Folding>(dialect);
}

void addPatterns(RewritePatternSet &patterns) {
  patterns.add<InlineIf>(patterns.getContext());
  addSequencePatterns(patterns);
}

} // namespace moec::onnx
