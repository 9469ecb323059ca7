#include "OnnxAccess.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Location.h"

using namespace mlir;

namespace moec::raise {

bool isOnnx(Operation *op, StringRef name) { return onnxName(op) == name; }

bool isVisible(Value v, Block *block) {
  return v.getParentRegion()->isAncestor(block->getParent());
}

bool isAbsent(Value v) { return !v || isa<NoneType>(v.getType()); }

double floatAttr(Operation *op, StringRef name, double otherwise) {
  auto attr = op->getAttrOfType<FloatAttr>(name);
  return attr ? attr.getValueAsDouble() : otherwise;
}

std::string strAttr(Operation *op, StringRef name) {
  auto attr = op->getAttrOfType<StringAttr>(name);
  return attr ? attr.getValue().str() : std::string();
}

SmallVector<int64_t> intsAttr(Operation *op, StringRef name) {
  if (auto attr = op->getAttrOfType<DenseI64ArrayAttr>(name))
    return SmallVector<int64_t>(attr.asArrayRef());
  return {};
}

RankedTensorType ranked(Value v) {
  return v ? dyn_cast<RankedTensorType>(v.getType()) : RankedTensorType();
}

std::optional<SmallVector<double>> constNumbers(Value v) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  if (!isOnnx(op, "Constant"))
    return std::nullopt;
  auto dense = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"));
  if (!dense || dense.getNumElements() > 65536)
    return std::nullopt;
  SmallVector<double> out;
  Type type = dense.getElementType();
  if (isa<FloatType>(type)) {
    for (APFloat f : dense.getValues<APFloat>()) {
      bool lost;
      f.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
      out.push_back(f.convertToDouble());
    }
  } else if (auto integer = dyn_cast<IntegerType>(type)) {
    bool plain = integer.isUnsigned() || integer.getWidth() == 1;
    for (APInt i : dense.getValues<APInt>())
      out.push_back(plain ? static_cast<double>(i.getZExtValue())
                          : static_cast<double>(i.getSExtValue()));
  } else {
    return std::nullopt;
  }
  return out;
}

std::optional<double> constSplat(Value v) {
  // Splats of any size are one number.
  Operation *op = v ? v.getDefiningOp() : nullptr;
  auto dense = isOnnx(op, "Constant")
                   ? dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"))
                   : DenseElementsAttr();
  if (dense && dense.isSplat() && isa<FloatType>(dense.getElementType())) {
    bool lost;
    APFloat f = dense.getSplatValue<APFloat>();
    f.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
    return f.convertToDouble();
  }
  auto numbers = constNumbers(v);
  if (!numbers || numbers->empty() || !llvm::all_equal(*numbers))
    return std::nullopt;
  return numbers->front();
}

namespace {

// Size of an axis, also where the type does not say it.
std::optional<int64_t> sizeOf(Value v, int64_t axis, int depth) {
  auto type = ranked(v);
  if (!type || axis < 0 || axis >= type.getRank() || depth > 24)
    return std::nullopt;
  if (!type.isDynamicDim(axis))
    return type.getDimSize(axis);
  Operation *op = v.getDefiningOp();
  StringRef n = onnxName(op);
  if (n == "Cast" || n == "Identity" || n == "Relu" || n == "Sigmoid")
    return sizeOf(op->getOperand(0), axis, depth + 1);
  if (n == "GatherElements")
    return sizeOf(op->getOperand(1), axis, depth + 1);
  if (n == "Transpose") {
    SmallVector<int64_t> perm = intsAttr(op, "perm");
    return perm.empty() ? std::nullopt : sizeOf(op->getOperand(0), perm[axis], depth + 1);
  }
  auto target = n == "Reshape" ? evalInts(op->getOperand(1), depth + 1) : std::nullopt;
  bool known = target && static_cast<int64_t>(target->size()) == type.getRank() &&
               (*target)[axis] && *(*target)[axis] > 0;
  return known ? (*target)[axis] : std::nullopt;
}

std::optional<Ints> evalShape(Operation *op, int depth) {
  auto type = ranked(op->getOperand(0));
  if (!type)
    return std::nullopt;
  int64_t rank = type.getRank();
  int64_t start = intAttr(op, "start", 0), end = intAttr(op, "end", rank);
  if (start < 0)
    start += rank;
  if (end < 0)
    end += rank;
  start = std::clamp<int64_t>(start, 0, rank);
  end = std::clamp<int64_t>(end, start, rank);
  Ints out;
  for (int64_t i = start; i < end; ++i)
    out.push_back(sizeOf(op->getOperand(0), i, depth));
  return out;
}

std::optional<Ints> evalBinary(StringRef name, const Ints &a, const Ints &b) {
  size_t n = std::max(a.size(), b.size());
  if ((a.size() != n && a.size() != 1) || (b.size() != n && b.size() != 1))
    return std::nullopt;
  Ints out;
  for (size_t i = 0; i < n; ++i) {
    auto x = a[a.size() == 1 ? 0 : i], y = b[b.size() == 1 ? 0 : i];
    if (!x || !y || (name == "Div" && *y == 0)) {
      out.push_back(std::nullopt);
      continue;
    }
    out.push_back(name == "Add"   ? *x + *y
                  : name == "Sub" ? *x - *y
                  : name == "Mul" ? *x * *y
                  : name == "Max" ? std::max(*x, *y)
                  : name == "Min" ? std::min(*x, *y)
                  : name == "Equal" ? *x == *y
                                  : *x / *y);
  }
  return out;
}

std::optional<Ints> evalGather(Operation *op, int depth) {
  auto data = evalInts(op->getOperand(0), depth);
  auto index = evalInts(op->getOperand(1), depth);
  auto type = ranked(op->getOperand(0));
  if (!data || !index || !type || type.getRank() != 1)
    return std::nullopt;
  Ints out;
  for (auto i : *index) {
    if (!i)
      return std::nullopt;
    int64_t at = *i < 0 ? *i + static_cast<int64_t>(data->size()) : *i;
    if (at < 0 || at >= static_cast<int64_t>(data->size()))
      return std::nullopt;
    out.push_back((*data)[at]);
  }
  return out;
}

// Slice of a vector, step 1.
std::optional<Ints> evalSlice(Operation *op, int depth) {
  auto data = evalInts(op->getOperand(0), depth);
  auto type = ranked(op->getOperand(0));
  auto start = evalInts(op->getOperand(1), depth);
  auto end = evalInts(op->getOperand(2), depth);
  if (!data || !type || type.getRank() != 1 || !start || !end ||
      start->size() != 1 || end->size() != 1 || !start->front() ||
      !end->front())
    return std::nullopt;
  if (op->getNumOperands() > 4 && !isAbsent(op->getOperand(4))) {
    auto step = evalInts(op->getOperand(4), depth);
    if (!step || step->size() != 1 || step->front() != 1)
      return std::nullopt;
  }
  int64_t n = static_cast<int64_t>(data->size());
  auto bound = [&](int64_t i) {
    return std::clamp<int64_t>(i < 0 ? std::max<int64_t>(i, -n) + n : i, 0, n);
  };
  int64_t lo = bound(*start->front()), hi = bound(*end->front());
  return hi > lo ? Ints(data->begin() + lo, data->begin() + hi) : Ints();
}

// One index as a row of `on` and `off`.
std::optional<Ints> evalOneHot(Operation *op, int depth) {
  auto index = evalInts(op->getOperand(0), depth);
  auto size = evalInts(op->getOperand(1), depth);
  auto values = evalInts(op->getOperand(2), depth);
  if (!index || !size || !values || index->size() != 1 || size->size() != 1 ||
      values->size() != 2 || !index->front() || !size->front() ||
      *size->front() < 0 || *size->front() > 64)
    return std::nullopt;
  Ints out(*size->front(), (*values)[0]);
  int64_t i = *index->front();
  if (i < 0)
    i += *size->front();
  if (i >= 0 && i < *size->front())
    out[i] = (*values)[1];
  return out;
}

} // namespace

std::optional<Ints> evalInts(Value v, int depth) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  if (!op || depth > 24)
    return std::nullopt;
  ++depth;
  StringRef name = onnxName(op);
  if (name == "Constant") {
    auto numbers = constNumbers(v);
    auto type = ranked(v);
    if (!numbers || !type || !type.getElementType().isIntOrIndex() ||
        numbers->size() > 256)
      return std::nullopt;
    Ints out;
    auto dense = cast<DenseElementsAttr>(op->getAttr("value"));
    for (APInt i : dense.getValues<APInt>())
      out.push_back(i.getBitWidth() > 1 ? i.getSExtValue()
                                        : static_cast<int64_t>(i.getZExtValue()));
    return out;
  }
  if (name == "Shape")
    return evalShape(op, depth);
  if (name == "Gather")
    return evalGather(op, depth);
  if (name == "Slice")
    return evalSlice(op, depth);
  if (name == "Where") {
    auto c = evalInts(op->getOperand(0), depth);
    auto a = evalInts(op->getOperand(1), depth);
    auto b = evalInts(op->getOperand(2), depth);
    if (!c || !a || !b || c->size() != a->size() || c->size() != b->size())
      return std::nullopt;
    Ints out;
    for (auto [i, cond] : llvm::enumerate(*c))
      out.push_back(!cond ? std::nullopt : *cond ? (*a)[i] : (*b)[i]);
    return out;
  }
  if (name == "ConstantOfShape") {
    auto n = evalInts(op->getOperand(0), depth);
    auto value = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"));
    if (!n || n->size() != 1 || !n->front() || *n->front() < 0 ||
        *n->front() > 64 || !value || !value.getElementType().isInteger())
      return std::nullopt;
    return Ints(*n->front(), (*value.getValues<APInt>().begin()).getSExtValue());
  }
  if (name == "OneHot")
    return evalOneHot(op, depth);
  if (name == "Cast") {
    auto type = ranked(v), from = ranked(op->getOperand(0));
    if (!type || !type.getElementType().isInteger() || !from ||
        !from.getElementType().isInteger())
      return std::nullopt;
    return evalInts(op->getOperand(0), depth);
  }
  if (name == "Squeeze" || name == "Unsqueeze" || name == "Identity" ||
      name == "Reshape") {
    return evalInts(op->getOperand(0), depth);
  }
  if (name == "Concat") {
    Ints out;
    for (Value operand : op->getOperands()) {
      auto part = evalInts(operand, depth);
      auto type = ranked(operand);
      if (!part || !type || type.getRank() != 1)
        return std::nullopt;
      out.append(part->begin(), part->end());
    }
    return out;
  }
  if (name == "ReduceProd") { // of a vector
    auto in = evalInts(op->getOperand(0), depth);
    auto type = ranked(op->getOperand(0));
    if (!in || !type || type.getRank() != 1)
      return std::nullopt;
    int64_t product = 1;
    for (auto i : *in) {
      if (!i)
        return Ints(1, std::nullopt);
      product *= *i;
    }
    return Ints(1, product);
  }
  bool pair = op->getNumOperands() == 2 && (name == "Max" || name == "Min");
  if (pair || name == "Add" || name == "Sub" || name == "Mul" || name == "Div" ||
      name == "Equal") {
    auto a = evalInts(op->getOperand(0), depth);
    auto b = evalInts(op->getOperand(1), depth);
    if (!a || !b)
      return std::nullopt;
    return evalBinary(name, *a, *b);
  }
  return std::nullopt;
}

std::optional<SmallVector<int64_t>> evalAllInts(Value v) {
  auto ints = evalInts(v);
  if (!ints)
    return std::nullopt;
  SmallVector<int64_t> out;
  for (auto i : *ints) {
    if (!i)
      return std::nullopt;
    out.push_back(*i);
  }
  return out;
}

std::optional<int64_t> evalInt(Value v) {
  auto ints = evalAllInts(v);
  if (!ints || ints->size() != 1)
    return std::nullopt;
  return ints->front();
}

bool isWeight(Value v) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  return op && (op->getName().getStringRef() == "moe.weight.use" ||
                isOnnx(op, "Constant"));
}

std::string describe(Operation *op) {
  std::string name;
  if (auto loc = dyn_cast<NameLoc>(op->getLoc()))
    name = loc.getName().str();
  StringRef type = onnxName(op);
  std::string kind = (type.empty() ? op->getName().getStringRef() : type).str();
  return name.empty() ? kind : "node \"" + name + "\" (" + kind + ")";
}

void remarkRefused(Operation *op, StringRef reason, Operation *at, StringRef kind) {
  InFlightDiagnostic remark = op->emitRemark();
  remark << "moe-raise: refused because " << reason << " at " << describe(at);
  if (Diagnostic *diagnostic = remark.getUnderlyingDiagnostic())
    diagnostic->getMetadata().emplace_back(kind);
}

} // namespace moec::raise
