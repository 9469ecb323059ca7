#include "SymbolicShape.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;

namespace moec::prepare {

namespace {

constexpr int depthLimit = 32;

StringRef nameOf(Operation *op) {
  StringRef name = op ? op->getName().getStringRef() : StringRef();
  return name.consume_front("onnx.") ? name : StringRef();
}

Size number(int64_t n) {
  Size size;
  size.number = n;
  return size;
}

int64_t intAttr(Operation *op, StringRef name, int64_t otherwise) {
  auto attr = op->getAttrOfType<IntegerAttr>(name);
  return attr ? attr.getInt() : otherwise;
}

bool absent(Operation *op, unsigned i) {
  return op->getNumOperands() <= i || isa<NoneType>(op->getOperand(i).getType());
}

Sizes vectorOf(Value v, int depth);

std::optional<SmallVector<int64_t>> numbersIn(Value v, int depth) {
  SmallVector<int64_t> out;
  for (const Size &size : vectorOf(v, depth)) {
    if (!size.number)
      return std::nullopt;
    out.push_back(*size.number);
  }
  return out;
}

Size dimOf(Value v, int64_t dim, int depth);

// The size a reshape's target gives to a dimension; -1 and 0 say nothing here.
Size targetSize(Operation *op, int64_t dim, int depth) {
  Sizes target = vectorOf(op->getOperand(1), depth);
  if (dim >= static_cast<int64_t>(target.size()))
    return {};
  const Size &size = target[dim];
  return size.isDim() || (size.number && *size.number > 0) ? size : Size();
}

Size dimOf(Value v, int64_t dim, int depth) {
  auto type = rankedType(v);
  if (!type || dim < 0 || dim >= type.getRank())
    return {};
  if (!type.isDynamicDim(dim))
    return number(type.getDimSize(dim));
  Size self;
  self.of = v;
  self.dim = dim;
  Operation *op = v.getDefiningOp();
  StringRef n = nameOf(op);
  if (auto arg = dyn_cast<BlockArgument>(v)) {
    auto func = dyn_cast<FunctionOpInterface>(arg.getOwner()->getParentOp());
    auto dims = func ? dyn_cast_or_null<ArrayAttr>(
                           func.getArgAttr(arg.getArgNumber(), "onnx.dims"))
                     : ArrayAttr();
    auto name = dims && dim < static_cast<int64_t>(dims.size())
                    ? dyn_cast<StringAttr>(dims[dim])
                    : StringAttr();
    if (!name || name.getValue().empty())
      return self;
    Size named;
    named.symbol = name;
    return named;
  }
  if (depth > depthLimit)
    return self;
  ++depth;
  if (n == "Cast" || n == "Identity" || n == "Neg" || n == "Sigmoid" ||
      n == "Softmax" || n == "Not")
    return dimOf(op->getOperand(0), dim, depth);
  if (n == "Transpose") {
    auto perm = op->getAttrOfType<DenseI64ArrayAttr>("perm");
    if (perm && perm.size() == type.getRank())
      return dimOf(op->getOperand(0), perm[dim], depth);
  }
  if (n == "Concat" && rankedType(op->getOperand(0))) {
    int64_t axis = intAttr(op, "axis", 0);
    if (dim != (axis < 0 ? axis + type.getRank() : axis))
      return dimOf(op->getOperand(0), dim, depth);
  }
  if (n == "Reshape")
    if (Size size = targetSize(op, dim, depth); size.known())
      return size;
  if (n == "Unsqueeze") {
    auto axes = numbersIn(op->getOperand(1), depth);
    int64_t at = dim;
    for (int64_t axis : axes.value_or(SmallVector<int64_t>{})) {
      axis = axis < 0 ? axis + type.getRank() : axis;
      at -= axis < dim;
    }
    if (axes)
      return dimOf(op->getOperand(0), at, depth);
  }
  if (n == "Add" || n == "Mul" || n == "Sub" || n == "Div") {
    // The operand that is not one there; of two, only when they agree.
    Size found;
    for (Value operand : op->getOperands()) {
      auto from = rankedType(operand);
      int64_t at = from ? dim - (type.getRank() - from.getRank()) : 0;
      if (!from)
        return self;
      if (at < 0 || from.getDimSize(at) == 1)
        continue;
      Size size = dimOf(operand, at, depth);
      if (found.known() && !(found == size))
        return self;
      found = size;
    }
    return found.known() ? found : self;
  }
  return self;
}

Sizes constants(Operation *op) {
  auto dense = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"));
  Sizes out;
  if (!dense || !dense.getElementType().isInteger() ||
      dense.getNumElements() > 16)
    return out;
  bool flag = dense.getElementType().isInteger(1);
  for (APInt i : dense.getValues<APInt>())
    out.push_back(number(flag ? static_cast<int64_t>(i.getZExtValue())
                              : i.getSExtValue()));
  return out;
}

Sizes shapeVector(Operation *op, int depth) {
  Sizes out;
  auto type = rankedType(op->getOperand(0));
  if (!type)
    return out;
  int64_t rank = type.getRank();
  int64_t lo = intAttr(op, "start", 0), hi = intAttr(op, "end", rank);
  lo = std::clamp<int64_t>(lo < 0 ? lo + rank : lo, 0, rank);
  hi = std::clamp<int64_t>(hi < 0 ? hi + rank : hi, lo, rank);
  for (int64_t i = lo; i < hi; ++i)
    out.push_back(dimOf(op->getOperand(0), i, depth));
  return out;
}

Sizes sliced(Operation *op, int depth) {
  Sizes all = vectorOf(op->getOperand(0), depth);
  auto lo = numbersIn(op->getOperand(1), depth);
  auto hi = numbersIn(op->getOperand(2), depth);
  auto step = absent(op, 4) ? SmallVector<int64_t>{1}
                            : numbersIn(op->getOperand(4), depth);
  if (!lo || !hi || !step || lo->size() != 1 || hi->size() != 1 ||
      *step != SmallVector<int64_t>{1})
    return {};
  int64_t n = static_cast<int64_t>(all.size());
  auto bound = [&](int64_t i) {
    return std::clamp<int64_t>(i < 0 ? std::max(i, -n) + n : i, 0, n);
  };
  int64_t from = bound(lo->front()), to = bound(hi->front());
  return from < to ? Sizes(all.begin() + from, all.begin() + to) : Sizes();
}

Sizes elementwise(Operation *op, StringRef n, int depth) {
  Sizes a = vectorOf(op->getOperand(0), depth);
  Sizes b = vectorOf(op->getOperand(1), depth);
  size_t length = std::max(a.size(), b.size());
  if (a.empty() || b.empty() || (a.size() != length && a.size() != 1) ||
      (b.size() != length && b.size() != 1))
    return {};
  Sizes out;
  for (size_t i = 0; i < length; ++i) {
    const Size &x = a[a.size() == 1 ? 0 : i], &y = b[b.size() == 1 ? 0 : i];
    Size r;
    bool both = x.number && y.number;
    if (n == "Equal" && both)
      r = number(*x.number == *y.number);
    else if (n == "Equal" && ((x.isDim() && y.number && *y.number < 0) ||
                              (y.isDim() && x.number && *x.number < 0)))
      r = number(0); // no size is negative
    else if (n == "Mul" && x.number == 1)
      r = y;
    else if (n == "Mul" && y.number == 1)
      r = x;
    else if (n == "Mul" && both)
      r = number(*x.number * *y.number);
    else if (n == "Add" && both)
      r = number(*x.number + *y.number);
    else if (n == "Div" && both && *y.number > 0 && *x.number >= 0)
      r = number(*x.number / *y.number);
    out.push_back(r);
  }
  return out;
}

Sizes chosen(Operation *op, int depth) {
  Sizes c = vectorOf(op->getOperand(0), depth);
  Sizes a = vectorOf(op->getOperand(1), depth);
  Sizes b = vectorOf(op->getOperand(2), depth);
  if (c.size() != a.size() || c.size() != b.size())
    return {};
  Sizes out;
  for (auto [i, cond] : llvm::enumerate(c))
    out.push_back(!cond.number ? Size() : *cond.number ? a[i] : b[i]);
  return out;
}

Sizes gathered(Operation *op, int depth) {
  auto type = rankedType(op->getOperand(0));
  Sizes all = vectorOf(op->getOperand(0), depth);
  auto index = numbersIn(op->getOperand(1), depth);
  if (!type || type.getRank() != 1 || !index)
    return {};
  Sizes out;
  for (int64_t i : *index) {
    i = i < 0 ? i + static_cast<int64_t>(all.size()) : i;
    if (i < 0 || i >= static_cast<int64_t>(all.size()))
      return {};
    out.push_back(all[i]);
  }
  return out;
}

Sizes computed(Value v, int depth) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  auto type = v ? rankedType(v) : RankedTensorType();
  if (!op || !type || depth > depthLimit)
    return {};
  ++depth;
  StringRef n = nameOf(op);
  Sizes out;
  if (n == "Constant")
    return constants(op);
  if (n == "Shape")
    return shapeVector(op, depth);
  if (n == "Slice")
    return sliced(op, depth);
  if (n == "Gather")
    return gathered(op, depth);
  if (n == "Where")
    return chosen(op, depth);
  if (n == "Squeeze" || n == "Unsqueeze" || n == "Reshape" || n == "Identity" ||
      n == "Cast")
    return vectorOf(op->getOperand(0), depth);
  if (n == "Add" || n == "Mul" || n == "Div" || n == "Equal")
    return elementwise(op, n, depth);
  if (n == "Concat")
    for (Value part : op->getOperands()) {
      Sizes sizes = vectorOf(part, depth);
      if (sizes.empty())
        return {};
      out.append(sizes);
    }
  if (n == "ConstantOfShape" && type.hasStaticShape() &&
      type.getNumElements() <= 16) {
    auto value = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"));
    if (value && value.getElementType().isInteger())
      out.assign(type.getNumElements(),
                 number((*value.getValues<APInt>().begin()).getSExtValue()));
  }
  return out;
}

// What is not understood is at least itself.
Sizes vectorOf(Value v, int depth) {
  auto type = v ? rankedType(v) : RankedTensorType();
  if (!type || type.getRank() > 1 || !type.hasStaticShape() ||
      type.getNumElements() > 16)
    return {};
  Sizes out = computed(v, depth);
  if (out.empty())
    out.resize(type.getNumElements());
  for (auto [i, size] : llvm::enumerate(out)) {
    if (size.known())
      continue;
    size.of = v;
    size.dim = static_cast<int64_t>(i);
    size.element = true;
  }
  return out;
}

} // namespace

Size sizeOf(Value v, int64_t dim) { return dimOf(v, dim, 0); }
Sizes sizesIn(Value vector) { return vectorOf(vector, 0); }

} // namespace moec::prepare
