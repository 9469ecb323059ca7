// decompose-quantised: products of quantised tensors in terms of DequantizeLinear and MatMul.
#include "Decompose.h"
#include "moec/Transforms/Prepare/Passes.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_DECOMPOSEQUANTISED
#include "moec/Transforms/Prepare/Passes.h.inc"

namespace {

using prepare::absent;

// Products of that many pairs of 8-bit numbers less their zero points, each at
// most 255 * 255, sum to whole numbers that f32 holds.
constexpr int64_t kExactTerms = 256;

Value in(Operation *op, unsigned i) {
  return i < op->getNumOperands() && !absent(op->getOperand(i))
             ? op->getOperand(i)
             : Value();
}

bool isByte(Value v) {
  auto type = rankedType(v);
  return type && type.getElementType().isInteger(8);
}

// The element of a scalar or of a vector of one as a scalar.
Value asScalar(OnnxBuilder &b, Value x) {
  auto type = rankedType(x);
  if (type.getRank() == 0)
    return x;
  return b.op("Squeeze", {x, b.ints(0)}, RankedTensorType::get({}, type.getElementType()));
}

bool isOne(Value v) {
  auto type = rankedType(v);
  return type && type.hasStaticShape() && type.getNumElements() == 1 &&
         type.getRank() <= 1;
}

// x less its zero point as floats, by a DequantizeLinear of scale 1, which folds
// into weights. `zero`: absent, one number, or one for each index of `axis`.
// Null when it has another shape. A weight is kept in bf16, which holds whole
// numbers up to 256, and widened.
Value centred(OnnxBuilder &b, Value x, Value zero, int64_t axis) {
  Type f32 = b.builder.getF32Type();
  Operation *from = x.getDefiningOp();
  bool weight = from && from->getName().getStringRef() == "moe.weight.use";
  Type element = weight ? Type(b.builder.getBF16Type()) : f32;
  NamedAttribute attrs[] = {b.attr("axis", axis), b.attr("block_size", int64_t(0)),
                            b.attr("output_dtype", int64_t(0))};
  Value scale = b.scalar(element, 1), point = b.none();
  if (zero && isOne(zero)) {
    point = asScalar(b, zero);
  } else if (zero) {
    auto type = rankedType(zero);
    if (!type || type.getRank() != 1 || type.isDynamicDim(0))
      return {};
    auto ones = RankedTensorType::get(type.getShape(), element);
    Attribute one = FloatAttr::get(element, 1.0);
    scale = b.op("Constant", {}, ones,
                 {b.builder.getNamedAttr("value", DenseElementsAttr::get(ones, one))});
    point = zero;
  }
  Value y = b.op("DequantizeLinear", {x, scale, point}, rankedType(x).clone(element), attrs);
  return b.cast(y, f32);
}

// The exact product of whole numbers as i32: parts along the inner dimension
// are summed in f32, and the parts' sums in i32.
Value exactProduct(OnnxBuilder &b, Value x, Value y) {
  Type i32 = b.builder.getI32Type();
  int64_t rank = rankedType(y).getRank(), inner = rankedType(y).getDimSize(rank - 2);
  int64_t last = rankedType(x).getRank() - 1;
  if (ShapedType::isDynamic(inner))
    inner = rankedType(x).getDimSize(last);
  if (inner <= kExactTerms) // also when nobody knows it
    return b.cast(b.matmul(x, y), i32);
  Value sum;
  for (int64_t at = 0; at < inner; at += kExactTerms) {
    int64_t end = std::min(inner, at + kExactTerms);
    Value part = b.cast(b.matmul(b.slice(x, last, at, end), b.slice(y, rank - 2, at, end)), i32);
    sum = sum ? b.binary("Add", sum, part) : part;
  }
  return sum;
}

// x * y of 8-bit matrices with their zero points as i32; null when a shape or
// zero point is not covered.
Value integerProduct(OnnxBuilder &b, Value x, Value xZero, Value y, Value yZero) {
  if (!isByte(x) || !isByte(y) || rankedType(x).getRank() < 2 || rankedType(y).getRank() < 2)
    return {};
  // A zero point for each row of x or column of y.
  Value left = centred(b, x, xZero, rankedType(x).getRank() - 2);
  Value right = centred(b, y, yZero, rankedType(y).getRank() - 1);
  return left && right ? exactProduct(b, left, right) : Value();
}

bool matMulInteger(Operation *op, OnnxBuilder &b) {
  Value sum = integerProduct(b, in(op, 0), in(op, 2), in(op, 1), in(op, 3));
  if (!sum)
    return false;
  prepare::replaceResult(b, op, 0, sum);
  return true;
}

SmallVector<NamedAttribute> quantizeAttrs(OnnxBuilder &b) {
  return {b.attr("axis", int64_t(1)), b.attr("block_size", int64_t(0)),
          b.attr("output_dtype", int64_t(0)), b.attr("precision", int64_t(0)),
          b.attr("saturate", int64_t(1))};
}

// a, scale, zero point; b, scale, zero point; the result's scale and zero point.
bool qLinearMatMul(Operation *op, OnnxBuilder &b) {
  for (unsigned i : {1u, 4u, 6u, 7u})
    if (!isOne(in(op, i)))
      return false;
  Value sum = integerProduct(b, in(op, 0), in(op, 2), in(op, 3), in(op, 5));
  if (!sum)
    return false;
  Type f32 = b.builder.getF32Type();
  auto scale = [&](unsigned i) { return asScalar(b, b.cast(in(op, i), f32)); };
  Value factor = b.binary("Div", b.binary("Mul", scale(1), scale(4)), scale(6));
  Value y = b.binary("Mul", b.cast(sum, f32), factor);
  y = b.op("QuantizeLinear", {y, b.scalar(f32, 1), asScalar(b, in(op, 7))},
           op->getResult(0).getType(), quantizeAttrs(b));
  prepare::replaceResult(b, op, 0, y);
  return true;
}

// x, scale, zero point; w, scale, zero point; the result's scale and zero point;
// a bias of whole numbers. Sums beyond 2^24 are rounded.
bool qLinearConv(Operation *op, OnnxBuilder &b) {
  Value x = in(op, 0), w = in(op, 3), bias = in(op, 8);
  for (unsigned i : {1u, 2u, 6u, 7u})
    if (!isOne(in(op, i)))
      return false;
  auto type = rankedType(op->getResult(0));
  if (!isByte(x) || !isByte(w) || !type || type.getRank() < 3)
    return false;
  Value left = centred(b, x, in(op, 2), 1), right = centred(b, w, in(op, 5), 0);
  if (!left || !right)
    return false;
  Type f32 = b.builder.getF32Type();
  SmallVector<Value> operands = {left, right, b.none()};
  Value sum = b.op("Conv", operands, type.clone(f32), op->getAttrs());
  // A vector along the channels, or one number for all of them.
  auto perChannel = [&](Value v) {
    SmallVector<int64_t> shape(type.getRank() - 1, 1);
    shape[0] = -1;
    v = b.cast(v, f32);
    return isOne(v) ? asScalar(b, v) : b.reshape(v, shape);
  };
  if (bias)
    sum = b.binary("Add", sum, perChannel(bias));
  Value factor = b.binary("Mul", asScalar(b, b.cast(in(op, 1), f32)), perChannel(in(op, 4)));
  factor = b.binary("Div", factor, asScalar(b, b.cast(in(op, 6), f32)));
  Value y = b.op("QuantizeLinear",
                 {b.binary("Mul", sum, factor), b.scalar(f32, 1), asScalar(b, in(op, 7))}, type,
                 quantizeAttrs(b));
  prepare::replaceResult(b, op, 0, y);
  return true;
}

// The formula of the standard. A constant 0 has the scale 0 and the code 0.
bool dynamicQuantizeLinear(Operation *op, OnnxBuilder &b) {
  Value x = in(op, 0);
  auto type = rankedType(x);
  if (!type || !type.getElementType().isF32())
    return false;
  Type f32 = b.builder.getF32Type();
  SmallVector<int64_t> axes;
  for (int64_t i = 0; i < type.getRank(); ++i)
    axes.push_back(i);
  Value zero = b.scalar(f32, 0), top = b.scalar(f32, 255);
  auto bound = [&](StringRef reduce, StringRef limit) {
    Value all = axes.empty() ? x : b.reduce(reduce, x, axes, /*keep=*/false);
    return b.binary(limit, all, zero);
  };
  Value low = bound("ReduceMin", "Min"), high = bound("ReduceMax", "Max");
  Value scale = b.binary("Div", b.binary("Sub", high, low), top);
  Value empty = b.binary("Equal", scale, zero);
  Value divisor = b.op("Where", {empty, b.scalar(f32, 1), scale}, scale.getType());
  Value code = b.unary("Round", b.binary("Div", b.binary("Sub", zero, low), divisor));
  code = b.binary("Min", b.binary("Max", code, zero), top);
  Type u8 = rankedType(op->getResult(0)).getElementType();
  Value point = b.cast(code, u8);
  Value y = b.op("QuantizeLinear", {x, divisor, point}, type.clone(u8), quantizeAttrs(b));
  prepare::replaceResult(b, op, 0, y);
  prepare::replaceResult(b, op, 1, scale);
  prepare::replaceResult(b, op, 2, point);
  return true;
}

struct DecomposeQuantised : impl::DecomposeQuantisedBase<DecomposeQuantised> {
  void runOnOperation() override {
    using Fn = bool (*)(Operation *, OnnxBuilder &);
    const llvm::StringMap<Fn> table = {
        {"onnx.MatMulInteger", matMulInteger},
        {"onnx.QLinearMatMul", qLinearMatMul},
        {"onnx.QLinearConv", qLinearConv},
        {"onnx.DynamicQuantizeLinear", dynamicQuantizeLinear},
    };
    SmallVector<Operation *> ops;
    getOperation()->walk([&](Operation *op) {
      if (table.contains(op->getName().getStringRef()))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      OpBuilder builder(op);
      OnnxBuilder b(builder, op->getLoc());
      if (!table.lookup(op->getName().getStringRef())(op, b)) {
        ++numKept;
        continue;
      }
      op->erase();
      ++numDecomposed;
    }
  }
};

} // namespace
} // namespace moec
