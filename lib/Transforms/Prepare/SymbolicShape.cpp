#include "SymbolicShape.h"
#include "SymbolicInternal.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/BuiltinAttributes.h"

using namespace mlir;

namespace moec::prepare {

namespace {

bool absentAt(Operation *op, unsigned i) {
  return op->getNumOperands() <= i || isa<NoneType>(op->getOperand(i).getType());
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

Sizes shapeVector(Operation *op, SymbolicSizes &sizes) {
  Sizes out;
  auto type = rankedType(op->getOperand(0));
  if (!type)
    return out;
  int64_t rank = type.getRank();
  int64_t lo = intAttr(op, "start", 0), hi = intAttr(op, "end", rank);
  lo = std::clamp<int64_t>(lo < 0 ? lo + rank : lo, 0, rank);
  hi = std::clamp<int64_t>(hi < 0 ? hi + rank : hi, lo, rank);
  for (int64_t i = lo; i < hi; ++i)
    out.push_back(dimOf(op->getOperand(0), i, sizes));
  return out;
}

Sizes sliced(Operation *op, SymbolicSizes &sizes) {
  Sizes all = vectorOf(op->getOperand(0), sizes);
  auto lo = numbersIn(op->getOperand(1), sizes);
  auto hi = numbersIn(op->getOperand(2), sizes);
  auto step = absentAt(op, 4) ? SmallVector<int64_t>{1}
                            : numbersIn(op->getOperand(4), sizes);
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

Sizes elementwise(Operation *op, StringRef n, SymbolicSizes &sizes) {
  Sizes a = vectorOf(op->getOperand(0), sizes);
  Sizes b = vectorOf(op->getOperand(1), sizes);
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

Sizes chosen(Operation *op, SymbolicSizes &sizes) {
  Sizes c = vectorOf(op->getOperand(0), sizes);
  Sizes a = vectorOf(op->getOperand(1), sizes);
  Sizes b = vectorOf(op->getOperand(2), sizes);
  if (c.size() != a.size() || c.size() != b.size())
    return {};
  Sizes out;
  for (auto [i, cond] : llvm::enumerate(c))
    out.push_back(!cond.number ? Size() : *cond.number ? a[i] : b[i]);
  return out;
}

Sizes gathered(Operation *op, SymbolicSizes &sizes) {
  auto type = rankedType(op->getOperand(0));
  Sizes all = vectorOf(op->getOperand(0), sizes);
  auto index = numbersIn(op->getOperand(1), sizes);
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

Sizes computed(Value v, SymbolicSizes &sizes) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  auto type = v ? rankedType(v) : RankedTensorType();
  if (!op || !type)
    return {};
  StringRef n = onnxName(op);
  Sizes out;
  if (n == "Constant")
    return constants(op);
  if (n == "Shape")
    return shapeVector(op, sizes);
  if (n == "Slice")
    return sliced(op, sizes);
  if (n == "Gather")
    return gathered(op, sizes);
  if (n == "Where")
    return chosen(op, sizes);
  if (n == "Squeeze" || n == "Unsqueeze" || n == "Reshape" || n == "Identity" ||
      n == "Cast")
    return vectorOf(op->getOperand(0), sizes);
  if (n == "Add" || n == "Mul" || n == "Div" || n == "Equal")
    return elementwise(op, n, sizes);
  if (n == "Concat")
    for (Value part : op->getOperands()) {
      Sizes elements = vectorOf(part, sizes);
      if (elements.empty())
        return {};
      out.append(elements);
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

} // namespace

// What is not understood is at least itself.
Sizes vectorOf(Value v, SymbolicSizes &sizes) {
  auto type = v ? rankedType(v) : RankedTensorType();
  if (!type || type.getRank() > 1 || !type.hasStaticShape() ||
      type.getNumElements() > 16)
    return {};
  Sizes out;
  if (Descent descent(sizes); descent.allowed())
    out = computed(v, sizes);
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

Size SymbolicSizes::of(Value v, int64_t dim) { return dimOf(v, dim, *this); }
Sizes SymbolicSizes::elements(Value vector) { return vectorOf(vector, *this); }

void SymbolicSizes::visit(Block &block) {
  for (Operation &op : block)
    for (Value v : op.getResults())
      if (auto type = rankedType(v))
        for (int64_t i = 0; i < type.getRank(); ++i)
          of(v, i);
}

} // namespace moec::prepare
