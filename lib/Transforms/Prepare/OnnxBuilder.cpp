#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;

namespace moec {

StringRef onnxName(Operation *op) {
  StringRef name = op ? op->getName().getStringRef() : StringRef();
  return name.consume_front("onnx.") ? name : StringRef();
}

int64_t intAttr(Operation *op, StringRef name, int64_t otherwise) {
  auto attr = op->getAttrOfType<IntegerAttr>(name);
  return attr ? attr.getInt() : otherwise;
}

RankedTensorType rankedType(Value v) {
  return v ? dyn_cast<RankedTensorType>(v.getType()) : RankedTensorType();
}

void eraseDeadOps(Block &block, const llvm::DenseSet<Operation *> &kept) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (!kept.contains(&op) && isOpTriviallyDead(&op))
      op.erase();
}

int64_t onnxTypeCode(Type t) {
  if (t.isF32())
    return 1;
  if (t.isF16())
    return 10;
  if (t.isBF16())
    return 16;
  if (t.isF64())
    return 11;
  auto i = dyn_cast<IntegerType>(t);
  if (!i)
    return 0;
  switch (i.getWidth()) {
  case 1:
    return 9;
  case 8:
    return i.isUnsigned() ? 2 : 3;
  case 16:
    return i.isUnsigned() ? 4 : 5;
  case 32:
    return i.isUnsigned() ? 12 : 6;
  case 64:
    return i.isUnsigned() ? 13 : 7;
  default:
    return 0;
  }
}

Value OnnxBuilder::op(StringRef name, ValueRange operands, Type result,
                      ArrayRef<NamedAttribute> attrs) {
  OperationState state(loc, ("onnx." + name).str());
  state.addOperands(operands);
  state.addTypes(result);
  state.addAttributes(attrs);
  return builder.create(state)->getResult(0);
}

Value OnnxBuilder::none() {
  OperationState state(loc, "onnx.none");
  state.addTypes(builder.getNoneType());
  return builder.create(state)->getResult(0);
}

Value OnnxBuilder::ints(ArrayRef<int64_t> values) {
  auto type = RankedTensorType::get({static_cast<int64_t>(values.size())},
                                    builder.getI64Type());
  return op("Constant", {}, type,
            {builder.getNamedAttr("value",
                                  DenseElementsAttr::get(type, values))});
}

Value OnnxBuilder::scalar(Type element, double value) {
  auto type = RankedTensorType::get({}, element);
  Attribute number =
      isa<FloatType>(element)
          ? Attribute(FloatAttr::get(element, value))
          : Attribute(IntegerAttr::get(element, static_cast<int64_t>(value)));
  return op("Constant", {}, type,
            {builder.getNamedAttr("value",
                                  DenseElementsAttr::get(type, number))});
}

NamedAttribute OnnxBuilder::attr(StringRef name, int64_t value) {
  return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
}
NamedAttribute OnnxBuilder::attr(StringRef name, double value) {
  return builder.getNamedAttr(name, builder.getF32FloatAttr(value));
}
NamedAttribute OnnxBuilder::attr(StringRef name, ArrayRef<int64_t> values) {
  return builder.getNamedAttr(name, builder.getDenseI64ArrayAttr(values));
}
NamedAttribute OnnxBuilder::attr(StringRef name, StringRef value) {
  return builder.getNamedAttr(name, builder.getStringAttr(value));
}

Value OnnxBuilder::unary(StringRef name, Value x) {
  return op(name, x, x.getType());
}

namespace {

SmallVector<int64_t> broadcastDims(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  SmallVector<int64_t> out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    int64_t d = x == 1 ? y : y == 1 ? x : (x < 0 ? y : x);
    out[out.size() - 1 - i] = d;
  }
  return out;
}

} // namespace

Value OnnxBuilder::binary(StringRef name, Value a, Value b) {
  auto ta = rankedType(a), tb = rankedType(b);
  bool compares = name == "Less" || name == "Greater" || name == "Equal" ||
                  name == "LessOrEqual" || name == "GreaterOrEqual";
  Type element = compares ? Type(builder.getI1Type()) : ta.getElementType();
  return op(name, {a, b},
            RankedTensorType::get(broadcastDims(ta.getShape(), tb.getShape()),
                                  element));
}

Value OnnxBuilder::cast(Value x, Type element) {
  auto type = rankedType(x);
  if (type.getElementType() == element)
    return x;
  return op("Cast", x, type.clone(element),
            {attr("to", onnxTypeCode(element)), attr("saturate", int64_t(1))});
}

Value OnnxBuilder::transpose(Value x, ArrayRef<int64_t> perm) {
  auto type = rankedType(x);
  SmallVector<int64_t> dims;
  for (int64_t p : perm)
    dims.push_back(type.getDimSize(p));
  return op("Transpose", x, RankedTensorType::get(dims, type.getElementType()),
            {attr("perm", perm)});
}

Value OnnxBuilder::reshape(Value x, ArrayRef<int64_t> shape) {
  auto type = rankedType(x);
  SmallVector<int64_t> dims;
  int64_t known = 1;
  for (auto [i, s] : llvm::enumerate(shape)) {
    int64_t d = s == 0 ? type.getDimSize(i) : s;
    dims.push_back(d < 0 ? ShapedType::kDynamic : d);
    if (s != -1)
      known = d < 0 || known < 0 ? -1 : known * d;
  }
  if (type.hasStaticShape() && known > 0)
    for (auto [d, s] : llvm::zip(dims, shape))
      if (s == -1)
        d = type.getNumElements() / known;
  return op("Reshape", {x, ints(shape)},
            RankedTensorType::get(dims, type.getElementType()),
            {attr("allowzero", int64_t(0))});
}

Value OnnxBuilder::reshapeLike(Value x, Value shape, Type type) {
  return op("Reshape", {x, shape}, type, {attr("allowzero", int64_t(0))});
}

Value OnnxBuilder::unsqueeze(Value x, ArrayRef<int64_t> axes) {
  auto type = rankedType(x);
  SmallVector<int64_t> dims(type.getShape());
  for (int64_t axis : axes)
    dims.insert(dims.begin() + axis, 1);
  return op("Unsqueeze", {x, ints(axes)},
            RankedTensorType::get(dims, type.getElementType()));
}

Value OnnxBuilder::slice(Value x, int64_t axis, int64_t start, int64_t end,
                         int64_t step) {
  auto type = rankedType(x);
  SmallVector<int64_t> dims(type.getShape());
  if (dims[axis] >= 0) {
    int64_t stop = std::min(end, dims[axis]);
    dims[axis] = stop > start ? (stop - start + step - 1) / step : 0;
  }
  return op("Slice", {x, ints(start), ints(end), ints(axis), ints(step)},
            RankedTensorType::get(dims, type.getElementType()));
}

Value OnnxBuilder::concat(ValueRange xs, int64_t axis) {
  auto type = rankedType(xs.front());
  SmallVector<int64_t> dims(type.getShape());
  int64_t at = axis < 0 ? axis + type.getRank() : axis;
  int64_t sum = 0;
  for (Value x : xs) {
    int64_t d = rankedType(x).getDimSize(at);
    sum = d < 0 || sum < 0 ? -1 : sum + d;
  }
  dims[at] = sum < 0 ? ShapedType::kDynamic : sum;
  return op("Concat", xs, RankedTensorType::get(dims, type.getElementType()),
            {attr("axis", axis)});
}

Value OnnxBuilder::gather(Value data, Value index, int64_t axis) {
  auto type = rankedType(data), it = rankedType(index);
  SmallVector<int64_t> dims(type.getShape().take_front(axis));
  dims.append(it.getShape().begin(), it.getShape().end());
  dims.append(type.getShape().begin() + axis + 1, type.getShape().end());
  return op("Gather", {data, index},
            RankedTensorType::get(dims, type.getElementType()),
            {attr("axis", axis)});
}

Value OnnxBuilder::matmul(Value a, Value b) {
  auto ta = rankedType(a), tb = rankedType(b);
  ArrayRef<int64_t> da = ta.getShape(), db = tb.getShape();
  SmallVector<int64_t> dims = broadcastDims(da.drop_back(2), db.drop_back(2));
  dims.push_back(da[da.size() - 2]);
  dims.push_back(db.back());
  return op("MatMul", {a, b}, RankedTensorType::get(dims, ta.getElementType()));
}

Value OnnxBuilder::softmax(Value x, int64_t axis) {
  return op("Softmax", x, x.getType(), {attr("axis", axis)});
}

Value OnnxBuilder::reduce(StringRef name, Value x, ArrayRef<int64_t> axes,
                          bool keep) {
  auto type = rankedType(x);
  SmallVector<int64_t> dims;
  for (auto [i, d] : llvm::enumerate(type.getShape())) {
    bool gone = llvm::is_contained(axes, static_cast<int64_t>(i)) ||
                llvm::is_contained(axes, static_cast<int64_t>(i) -
                                             type.getRank());
    if (!gone)
      dims.push_back(d);
    else if (keep)
      dims.push_back(1);
  }
  return op(name, {x, ints(axes)},
            RankedTensorType::get(dims, type.getElementType()),
            {attr("keepdims", int64_t(keep)),
             attr("noop_with_empty_axes", int64_t(0))});
}

Value OnnxBuilder::shape(Value x, int64_t start, int64_t end) {
  return op("Shape", x,
            RankedTensorType::get({end - start}, builder.getI64Type()),
            {attr("start", start), attr("end", end)});
}

} // namespace moec
