// Quantised operators beside MatMulNBits: DynamicQuantizeMatMul, MatMulIntegerToFloat,
// GatherBlockQuantized, MatMulBlockQuantizedFp8Weight, and QuantizeLinear and DequantizeLinear of
// the contributed domain. Formulas: docs/ContribOperators.md of ONNX Runtime.
#include "Contrib.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace moec::prepare {

namespace {

Value orNone(OnnxBuilder &b, Value v) { return v ? v : b.none(); }

// a b with zero points, times their scales, plus a bias.
Value scaledProduct(const Custom &c, OnnxBuilder &b, Value a, Value aZero, Value aScale, Value w,
                    Value wZero, Value wScale, Value bias) {
  SmallVector<int64_t> dims(rankedType(a).getShape());
  dims.back() = rankedType(w).getShape().back();
  Type element = rankedType(aScale).getElementType();
  Value product = b.op("MatMulInteger", {a, w, orNone(b, aZero), orNone(b, wZero)},
                       RankedTensorType::get(dims, b.builder.getI32Type()));
  Value y = b.binary("Mul", b.cast(product, element), b.binary("Mul", wScale, aScale));
  return bias ? b.binary("Add", y, bias) : y;
}

bool areMatrices(const Custom &c, Value a, Value w) {
  if (a && w && rankedType(a) && rankedType(w) && rankedType(a).getRank() >= 2 &&
      rankedType(w).getRank() == 2)
    return true;
  return c.refuse("its operands are no matrices of known rank");
}

bool dynamicQuantizeMatMul(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 2}) || !areMatrices(c, c.in(0), c.in(1)))
    return false;
  Type f32 = b.builder.getF32Type();
  Type u8 = b.builder.getIntegerType(8, /*isSigned=*/false);
  OperationState state(b.loc, "onnx.DynamicQuantizeLinear");
  state.addOperands(c.in(0));
  state.addTypes({rankedType(c.in(0)).clone(u8), RankedTensorType::get({}, f32),
                  RankedTensorType::get({}, u8)});
  Operation *q = b.builder.create(state);
  c.replace(0, scaledProduct(c, b, q->getResult(0), q->getResult(2), q->getResult(1), c.in(1),
                             c.in(3), c.in(2), c.in(4)));
  return true;
}

bool matMulIntegerToFloat(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({2, 3}) || !areMatrices(c, c.in(0), c.in(1)))
    return false;
  if (rankedType(c.in(2)).getNumElements() != 1)
    return c.refuse("a scale for each column of its first operand is unsupported");
  c.replace(0, scaledProduct(c, b, c.in(0), c.in(4), c.in(2), c.in(1), c.in(5), c.in(3), c.in(6)));
  return true;
}

// The constant operand `i` as a weight; null with the reason.
Value constant(const Custom &c, unsigned i) {
  Value v = c.in(i) ? c.steps.of(c.in(i)) : Value();
  if (!v)
    c.refuse("input " + Twine(i) + (c.in(i) ? " is not constant" : " is missing"));
  return v;
}

Value bound(const Custom &c, OnnxBuilder &b, Value weight, unsigned source) {
  std::string hint = WeightSteps::nameOf(c.in(source).getDefiningOp()).str();
  return c.steps.use(b.builder, b.loc, c.steps.bind(weight, hint.empty() ? "quantised" : hint));
}

// The table is dequantised when the model is linked.
bool gatherBlockQuantized(const Custom &c, OnnxBuilder &b) {
  Value data = constant(c, 0), scale = data ? constant(c, 2) : Value();
  Value zero = scale && c.in(3) ? constant(c, 3) : Value();
  if (!scale || (c.in(3) && !zero) || !c.in(1) || !rankedType(c.in(1)))
    return c.why.empty() ? c.refuse("its indices are unknown") : false;
  auto type = cast<RankedTensorType>(data.getType());
  auto scaleType = cast<RankedTensorType>(scale.getType());
  int64_t rank = type.getRank(), axis = c.number("quantize_axis", 1);
  int64_t gatherAxis = c.number("gather_axis", 0), block = c.number("block_size", 128);
  axis += axis < 0 ? rank : 0;
  gatherAxis += gatherAxis < 0 ? rank : 0;
  if (axis < 0 || axis >= rank || gatherAxis < 0 || gatherAxis >= rank ||
      scaleType.getRank() != rank)
    return c.refuse("its axes do not fit its operands");
  int64_t bits = c.number("bits", 4);
  if (type.getElementType().isUnsignedInteger(8)) {
    if (bits != 2 && bits != 4 && bits != 8)
      return c.refuse("numbers of " + Twine(bits) + " bits are unsupported");
    Type small = IntegerType::get(b.builder.getContext(), bits, IntegerType::Unsigned);
    data = c.steps.unpack(data, small);
    type = cast<RankedTensorType>(data.getType());
    if (zero) {
      zero = c.steps.unpack(zero, small);
      zero = c.steps.part(zero, rank - 1, 0, scaleType.getDimSize(rank - 1));
    } else {
      auto one = RankedTensorType::get(SmallVector<int64_t>(rank, 1), b.builder.getI32Type());
      zero = c.steps.literal(DenseElementsAttr::get(one, 1 << (bits - 1)));
    }
  }
  SmallVector<int64_t> blocks;
  for (int64_t i = 0; i < rank; ++i) {
    int64_t dim = type.getDimSize(i), size = i == axis && block > 0 ? block : 1;
    if (scaleType.getDimSize(i) == 1 && (i != axis || block == 0))
      size = std::max<int64_t>(1, dim);
    if (scaleType.getDimSize(i) != dim / size + (dim % size != 0))
      return c.refuse("its scales do not fit block_size");
    blocks.push_back(size);
  }
  if (zero && cast<RankedTensorType>(zero.getType()).getShape() != scaleType.getShape() &&
      cast<RankedTensorType>(zero.getType()).getNumElements() != 1)
    return c.refuse("its zero points do not fit its scales");
  Value table = c.steps.dequantize(data, scale, zero, blocks, scaleType.getElementType());
  c.replace(0, b.gather(bound(c, b, table, 0), c.in(1), gatherAxis));
  return true;
}

// Weights [N, K] with a scale for each block of K; activations as they are.
bool fp8Weight(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0}) || !c.hasNone({3}, {}))
    return false;
  Value q = constant(c, 1), scale = q ? constant(c, 2) : Value();
  if (!scale)
    return false;
  auto type = cast<RankedTensorType>(q.getType());
  auto scaleType = cast<RankedTensorType>(scale.getType());
  int64_t block = c.number("block_size", 128);
  if (type.getRank() != 2 || block < 1 || scaleType.getRank() != 2 ||
      rankedType(c.in(0)).getRank() < 2 || scaleType.getDimSize(0) != type.getDimSize(0) ||
      scaleType.getDimSize(1) != llvm::divideCeilSigned(type.getDimSize(1), block))
    return c.refuse("its weight and scales do not fit together");
  Type element = rankedType(c.in(0)).getElementType();
  Value w = c.steps.transpose(c.steps.dequantize(q, scale, {}, {1, block}, element), {1, 0});
  Value y = b.matmul(c.in(0), bound(c, b, w, 1));
  c.replace(0, c.in(4) ? b.binary("Add", y, c.in(4)) : y);
  return true;
}

// The contributed pair is the standard one of later opsets.
bool linear(const Custom &c, OnnxBuilder &b, StringRef name) {
  auto type = rankedType(c.op->getResult(0));
  if (!type || !c.in(0) || !c.in(1))
    return c.refuse("its types are unknown");
  SmallVector<NamedAttribute> attributes = {b.attr("axis", c.number("axis", 1)),
                                            b.attr("block_size", c.number("block_size", 0))};
  if (name == "QuantizeLinear")
    attributes.push_back(b.attr("saturate", int64_t(1)));
  c.replace(0, b.op(name, {c.in(0), c.in(1), orNone(b, c.in(2))}, type, attributes));
  return true;
}
bool quantize(const Custom &c, OnnxBuilder &b) { return linear(c, b, "QuantizeLinear"); }
bool dequantize(const Custom &c, OnnxBuilder &b) { return linear(c, b, "DequantizeLinear"); }

} // namespace

void addContribQuantised(ContribTable &table) {
  table["DynamicQuantizeMatMul"] = dynamicQuantizeMatMul;
  table["MatMulIntegerToFloat"] = matMulIntegerToFloat;
  table["GatherBlockQuantized"] = gatherBlockQuantized;
  table["MatMulBlockQuantizedFp8Weight"] = fp8Weight;
  table["QuantizeLinear"] = quantize;
  table["DequantizeLinear"] = dequantize;
}

} // namespace moec::prepare
