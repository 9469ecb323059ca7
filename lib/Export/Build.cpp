#include "Build.h"

#include "moec/Dialect/Onnx/OnnxDialect.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Location.h"
#include "mlir/IR/Operation.h"

using namespace mlir;
using namespace moec::onnx_export;

std::string moec::onnx_export::nodeName(Location location) {
  if (auto named = dyn_cast<NameLoc>(location))
    return named.getName().str();
  if (auto fused = dyn_cast<FusedLoc>(location))
    for (Location part : fused.getLocations())
      if (std::string name = nodeName(part); !name.empty())
        return name;
  if (auto call = dyn_cast<CallSiteLoc>(location))
    return nodeName(call.getCallee());
  return "";
}

Build::Build(Operation *at, StringRef layer) : builder(at), layer(layer.str()) {}

Operation *Build::make(StringRef name, ValueRange operands, TypeRange types,
                       ArrayRef<NamedAttribute> attributes) {
  std::string label = layer + "/" + (part.empty() ? "" : part + "/") + name.str();
  OperationState state(NameLoc::get(builder.getStringAttr(label)), ("onnx." + name).str());
  state.addOperands(operands);
  state.addTypes(types);
  state.addAttributes(attributes);
  return builder.create(state);
}

Value Build::none() { return op("none", {}, builder.getNoneType()); }

Value Build::constant(DenseElementsAttr value) {
  return op("Constant", {}, value.getType(), builder.getNamedAttr("value", value));
}

Value Build::ints(ArrayRef<int64_t> values) { return constant(builder.getI64TensorAttr(values)); }

Value Build::index(int64_t value) {
  return constant(DenseElementsAttr::get(type({}, builder.getI64Type()), value));
}

static Attribute numberAttr(Type element, double value) {
  if (auto integer = dyn_cast<IntegerType>(element))
    return IntegerAttr::get(integer, static_cast<int64_t>(value));
  return FloatAttr::get(element, value);
}

Value Build::number(Type element, double value) {
  return constant(DenseElementsAttr::get(type({}, element), numberAttr(element, value)));
}

Value Build::zeros(Value shape, RankedTensorType result) {
  Type element = result.getElementType();
  auto value = DenseElementsAttr::get(type({1}, element), numberAttr(element, 0));
  return op("ConstantOfShape", shape, result, builder.getNamedAttr("value", value));
}

Value Build::unary(StringRef name, Value x) { return op(name, x, x.getType()); }

static SmallVector<int64_t> broadcast(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  SmallVector<int64_t> out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
    out[out.size() - 1 - i] = x == 1 || (ShapedType::isDynamic(x) && y != 1) ? y : x;
  }
  return out;
}

Value Build::binary(StringRef name, Value a, Value b) {
  auto shape = broadcast(rankedType(a).getShape(), rankedType(b).getShape());
  return op(name, {a, b}, type(shape, elementOf(a)));
}

Value Build::compare(StringRef name, Value a, Value b) {
  auto shape = broadcast(rankedType(a).getShape(), rankedType(b).getShape());
  return op(name, {a, b}, type(shape, builder.getI1Type()));
}

Value Build::where(Value condition, Value a, Value b) {
  auto shape = broadcast(rankedType(a).getShape(), rankedType(b).getShape());
  shape = broadcast(shape, rankedType(condition).getShape());
  return op("Where", {condition, a, b}, type(shape, elementOf(a)));
}

Value Build::cast(Value x, Type element) {
  if (elementOf(x) == element)
    return x;
  return op("Cast", x, rankedType(x).clone(element), attr("to", moec::onnx::typeCode(element)));
}

Value Build::softmax(Value x, int64_t axis) {
  return op("Softmax", x, x.getType(), attr("axis", axis));
}

Value Build::reduce(StringRef name, Value x, int64_t axis, bool keep) {
  SmallVector<int64_t> shape(rankedType(x).getShape());
  if (keep)
    shape[axis] = 1;
  else
    shape.erase(shape.begin() + axis);
  return op(name, {x, ints(axis)}, type(shape, elementOf(x)), attr("keepdims", int64_t(keep)));
}

Value Build::transpose(Value x, ArrayRef<int64_t> perm) {
  SmallVector<int64_t> shape;
  for (int64_t axis : perm)
    shape.push_back(rankedType(x).getDimSize(axis));
  return op("Transpose", x, type(shape, elementOf(x)),
            builder.getNamedAttr("perm", builder.getDenseI64ArrayAttr(perm)));
}

Value Build::reshape(Value x, ArrayRef<int64_t> shape) {
  SmallVector<int64_t> known(shape);
  int64_t rest = 1;
  for (int64_t dim : shape)
    rest *= dim < 0 ? 1 : dim;
  auto from = rankedType(x);
  for (int64_t &dim : known)
    if (dim < 0)
      dim = from.hasStaticShape() && rest > 0 ? from.getNumElements() / rest : ShapedType::kDynamic;
  return reshape(x, ints(shape), type(known, elementOf(x)));
}

Value Build::reshape(Value x, Value shape, RankedTensorType type) {
  return op("Reshape", {x, shape}, type);
}

Value Build::unsqueeze(Value x, int64_t axis) {
  SmallVector<int64_t> shape(rankedType(x).getShape());
  shape.insert(shape.begin() + axis, 1);
  return op("Unsqueeze", {x, ints(axis)}, type(shape, elementOf(x)));
}

Value Build::concat(ValueRange xs, int64_t axis) {
  if (xs.size() == 1)
    return xs.front();
  SmallVector<int64_t> shape(rankedType(xs.front()).getShape());
  shape[axis] = 0;
  for (Value x : xs) {
    int64_t dim = rankedType(x).getDimSize(axis);
    bool open = ShapedType::isDynamic(dim) || ShapedType::isDynamic(shape[axis]);
    shape[axis] = open ? ShapedType::kDynamic : shape[axis] + dim;
  }
  return op("Concat", xs, type(shape, elementOf(xs.front())), attr("axis", axis));
}

Value Build::gather(Value data, Value rows, int64_t axis) {
  SmallVector<int64_t> shape(rankedType(data).getShape());
  auto index = rankedType(rows).getShape();
  shape.erase(shape.begin() + axis);
  shape.insert(shape.begin() + axis, index.begin(), index.end());
  return op("Gather", {data, rows}, type(shape, elementOf(data)), attr("axis", axis));
}

Value Build::gatherElements(Value data, Value indices) {
  auto result = rankedType(indices).clone(elementOf(data));
  return op("GatherElements", {data, indices}, result,
            attr("axis", rankedType(data).getRank() - 1));
}

Value Build::shape(Value x) {
  return op("Shape", x, type({rankedType(x).getRank()}, builder.getI64Type()));
}

Value Build::slice(Value x, Value start, Value end, int64_t axis) {
  SmallVector<int64_t> shape(rankedType(x).getShape());
  shape[axis] = ShapedType::kDynamic;
  return op("Slice", {x, start, end, ints(axis), none()}, type(shape, elementOf(x)));
}

Value Build::matmul(Value a, Value b) {
  auto x = rankedType(a).getShape(), y = rankedType(b).getShape();
  SmallVector<int64_t> shape = broadcast(x.drop_back(2), y.drop_back(2));
  shape.push_back(x[x.size() - 2]);
  shape.push_back(y.back());
  return op("MatMul", {a, b}, type(shape, elementOf(a)));
}

SmallVector<Value> Build::unitParts(Value x, int64_t axis) {
  SmallVector<int64_t> shape(rankedType(x).getShape());
  int64_t count = shape[axis];
  if (count == 1)
    return {x};
  shape[axis] = 1;
  SmallVector<Type> types(count, type(shape, elementOf(x)));
  Operation *split =
      make("Split", {x, none()}, types, {attr("axis", axis), attr("num_outputs", count)});
  return SmallVector<Value>(split->getResults());
}

std::pair<Value, Value> Build::topK(Value x, Value k, int64_t size, bool largest) {
  SmallVector<int64_t> shape(rankedType(x).getShape());
  shape.back() = size;
  Operation *top =
      make("TopK", {x, k}, {type(shape, elementOf(x)), type(shape, builder.getI64Type())},
           {attr("axis", -1), attr("largest", int64_t(largest)), attr("sorted", 1)});
  return {top->getResult(0), top->getResult(1)};
}
