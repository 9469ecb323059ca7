// Operators on tensors quantised as a whole: dequantised, computed, quantised again. Formulas:
// docs/ContribOperators.md of ONNX Runtime.
#include "Contrib.h"

using namespace mlir;

namespace moec::prepare {

namespace {

Value orNone(OnnxBuilder &b, Value v) { return v ? v : b.none(); }

// Operands i, i + 1, i + 2: numbers, scale, zero point.
Value real(const Custom &c, OnnxBuilder &b, unsigned i) {
  return b.op("DequantizeLinear", {c.in(i), c.in(i + 1), orNone(b, c.in(i + 2))},
              rankedType(c.in(i)).clone(b.builder.getF32Type()),
              {b.attr("axis", int64_t(1)), b.attr("block_size", int64_t(0))});
}

// The result in the element type of result 0, with scale and zero point at i and i + 1.
bool finish(const Custom &c, OnnxBuilder &b, Value y, unsigned i) {
  Type element = cast<ShapedType>(c.op->getResult(0).getType()).getElementType();
  c.replace(
      0, b.op("QuantizeLinear", {y, c.in(i), orNone(b, c.in(i + 1))}, rankedType(y).clone(element),
              {b.attr("axis", int64_t(1)), b.attr("block_size", int64_t(0)),
               b.attr("output_dtype", onnxTypeCode(element)), b.attr("saturate", int64_t(1))}));
  return true;
}

bool areThere(const Custom &c, ArrayRef<unsigned> operands) {
  for (unsigned i : operands)
    if (!c.in(i) || !rankedType(c.in(i)))
      return c.refuse("input " + Twine(i) + " is missing or of unknown rank");
  return isa<ShapedType>(c.op->getResult(0).getType()) || c.refuse("its result has no type");
}

bool binary(const Custom &c, OnnxBuilder &b, StringRef name) {
  return areThere(c, {0, 1, 3, 4, 6}) &&
         finish(c, b, b.binary(name, real(c, b, 0), real(c, b, 3)), 6);
}
bool add(const Custom &c, OnnxBuilder &b) { return binary(c, b, "Add"); }
bool mul(const Custom &c, OnnxBuilder &b) { return binary(c, b, "Mul"); }

bool sigmoid(const Custom &c, OnnxBuilder &b) {
  return areThere(c, {0, 1, 3}) && finish(c, b, b.unary("Sigmoid", real(c, b, 0)), 3);
}

bool leakyRelu(const Custom &c, OnnxBuilder &b) {
  if (!areThere(c, {0, 1, 3}))
    return false;
  Value x = real(c, b, 0);
  return finish(c, b, b.op("LeakyRelu", x, x.getType(), b.attr("alpha", c.real("alpha", 0.01))), 3);
}

bool softmax(const Custom &c, OnnxBuilder &b) {
  if (!areThere(c, {0, 1, 3}))
    return false;
  int64_t rank = rankedType(c.in(0)).getRank(), axis = c.number("axis", -1);
  axis += axis < 0 ? rank : 0;
  // Before opset 13 all axes from `axis` on are one.
  if (axis < 0 || axis >= rank || (c.number("opset", 13) < 13 && axis != rank - 1))
    return c.refuse("its axis is not the last one");
  return finish(c, b, b.softmax(real(c, b, 0), axis), 3);
}

// Scale and zero point of the result, then three operands for each part.
bool concat(const Custom &c, OnnxBuilder &b) {
  unsigned count = c.op->getNumOperands();
  if (count < 5 || (count - 2) % 3 != 0)
    return c.refuse("its operands do not come in threes");
  SmallVector<Value> parts;
  for (unsigned i = 2; i < count; i += 3) {
    if (!areThere(c, {i, i + 1}))
      return false;
    parts.push_back(real(c, b, i));
  }
  return finish(c, b, b.concat(parts, c.number("axis", 0)), 0);
}

bool where(const Custom &c, OnnxBuilder &b) {
  if (!areThere(c, {0, 1, 2, 4, 5, 7}))
    return false;
  auto type = dyn_cast<RankedTensorType>(c.op->getResult(0).getType());
  if (!type)
    return c.refuse("its result has no type");
  return finish(
      c, b,
      b.op("Where", {c.in(0), real(c, b, 1), real(c, b, 4)}, type.clone(b.builder.getF32Type())),
      7);
}

bool reduceMean(const Custom &c, OnnxBuilder &b) {
  auto axes = dyn_cast_or_null<DenseI64ArrayAttr>(c.attr("axes"));
  if (!areThere(c, {0, 1, 3}))
    return false;
  if (!axes || axes.empty())
    return c.refuse("its axes are unknown");
  Value y = b.reduce("ReduceMean", real(c, b, 0), axes.asArrayRef(), c.number("keepdims", 1) != 0);
  return finish(c, b, y, 3);
}

// C is a whole number of steps of a_scale * b_scale.
bool gemm(const Custom &c, OnnxBuilder &b) {
  auto type = dyn_cast<RankedTensorType>(c.op->getResult(0).getType());
  if (!areThere(c, {0, 1, 3, 4}) || !type)
    return false;
  if (rankedType(c.in(4)).getNumElements() != 1)
    return c.refuse("a scale for each column is unsupported");
  Type f32 = b.builder.getF32Type();
  Value bias = b.none();
  double alpha = c.real("alpha", 1.0);
  if (c.in(6)) {
    Value steps = b.binary("Mul", b.reshape(c.in(1), {1}), b.reshape(c.in(4), {1}));
    bias = b.binary("Mul", b.cast(c.in(6), f32), steps);
    bias = b.binary("Mul", bias, b.scalar(f32, alpha));
  }
  Value y =
      b.op("Gemm", {real(c, b, 0), real(c, b, 3), bias}, type.clone(f32),
           {b.attr("alpha", alpha), b.attr("beta", 1.0), b.attr("transA", c.number("transA", 0)),
            b.attr("transB", c.number("transB", 0))});
  if (c.in(7))
    return finish(c, b, y, 7);
  c.replace(0, y);
  return true;
}

} // namespace

void addContribQLinear(ContribTable &table) {
  table["QLinearAdd"] = add;
  table["QLinearMul"] = mul;
  table["QLinearSigmoid"] = sigmoid;
  table["QLinearLeakyRelu"] = leakyRelu;
  table["QLinearSoftmax"] = softmax;
  table["QLinearConcat"] = concat;
  table["QLinearWhere"] = where;
  table["QLinearReduceMean"] = reduceMean;
  table["QGemm"] = gemm;
}

} // namespace moec::prepare
