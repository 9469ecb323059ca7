#include "OwnRows.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include <algorithm>

using namespace mlir;

namespace moec::raise {

namespace {

RowAxis merged(ArrayRef<RowAtom> atoms) {
  RowAxis out;
  for (const RowAtom &a : atoms) {
    if (!out.empty() && out.back().source == a.source && a.size > 0 && out.back().size > 0 &&
        out.back().stride == a.stride * a.size)
      out.back() = {a.source, a.stride, out.back().size * a.size};
    else
      out.push_back(a);
  }
  return out;
}

// The atoms as axes of the sizes `dims`, at most one of which is unknown.
std::optional<SmallVector<RowAxis, 4>> regroup(RowAxis rest, ArrayRef<int64_t> dims) {
  auto take = [&](int64_t d, bool front, RowAxis &axis) {
    while (d > 1) {
      if (rest.empty())
        return false;
      RowAtom &a = front ? rest.front() : rest.back();
      if (a.size <= 0 || (d % a.size != 0 && a.size % d != 0))
        return false;
      bool whole = d % a.size == 0;
      RowAtom taken = a;
      if (whole) {
        d /= a.size;
        rest.erase(front ? rest.begin() : rest.end() - 1);
      } else {
        int64_t other = a.size / d;
        taken = {a.source, front ? a.stride * other : a.stride, d};
        a = {a.source, front ? a.stride : a.stride * d, other};
        d = 1;
      }
      axis.insert(front ? axis.end() : axis.begin(), taken);
    }
    return d == 1;
  };
  SmallVector<RowAxis, 4> out(dims.size());
  size_t left = 0, right = dims.size();
  for (; left < right && !ShapedType::isDynamic(dims[left]); ++left)
    if (!take(dims[left], true, out[left]))
      return std::nullopt;
  for (; right > left + 1 && !ShapedType::isDynamic(dims[right - 1]); --right)
    if (!take(dims[right - 1], false, out[right - 1]))
      return std::nullopt;
  if (left < dims.size()) {
    if (right != left + 1)
      return std::nullopt;
    out[left].assign(rest.begin(), rest.end());
  } else if (!rest.empty()) {
    return std::nullopt;
  }
  for (RowAxis &axis : out)
    axis = merged(axis);
  return out;
}

} // namespace

bool isFeatures(const RowAxis &axis) {
  return axis.empty() ||
         (axis.size() == 1 && axis[0].source == RowAtom::Features && axis[0].stride == 1);
}

RowAxis features(int64_t n) { return n == 1 ? RowAxis{} : RowAxis{{RowAtom::Features, 1, n}}; }

RowAxis flatRows(ArrayRef<RowAxis> axes) {
  RowAxis all;
  for (const RowAxis &axis : axes)
    all.append(axis.begin(), axis.end());
  return merged(all);
}

Operation *softmaxBehind(Value v, int64_t &axis) {
  for (Operation *op = v.getDefiningOp(); op; op = v.getDefiningOp()) {
    StringRef n = onnxName(op);
    auto type = ranked(v);
    if (!type)
      return nullptr;
    if (n == "Softmax") {
      int64_t over = intAttr(op, "axis", -1);
      over += over < 0 ? type.getRank() : 0;
      axis = axis == over ? axis : -1;
      return op;
    }
    if (n == "Transpose") {
      SmallVector<int64_t> perm = intsAttr(op, "perm");
      if (axis >= 0)
        axis = axis < static_cast<int64_t>(perm.size()) ? perm[axis] : -1;
    } else if (n == "Reshape") {
      axis = -1;
    } else if (n != "Cast" && n != "Identity") {
      return nullptr;
    }
    v = op->getOperand(0);
  }
  return nullptr;
}

std::optional<OwnRows> OwnRowsWalk::at(Value v) {
  if (auto it = known.find(v); it != known.end())
    return it->second;
  Operation *op = v.getDefiningOp();
  if (!op || depth > 80 || !ranked(v) || onnxName(op).empty())
    return std::nullopt;
  if (llvm::any_of(op->getOperands(), [](Value in) { return !ranked(in) && !isAbsent(in); }))
    return std::nullopt;
  ++depth;
  Result result = source(v);
  if (!result)
    result = visit(op, v);
  --depth;
  if (!result && !failed && llvm::any_of(op->getOperands(), [&](Value in) {
        auto it = known.find(in);
        return it != known.end() && it->second;
      }))
    failed = op;
  return known[v] = result;
}

std::optional<OwnRows> OwnRowsWalk::visit(Operation *op, Value v) {
  static const llvm::StringSet<> unaries = {"Sigmoid", "Tanh", "Relu", "Gelu", "Erf", "Neg", "Exp"};
  static const llvm::StringSet<> binaries = {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"};
  StringRef n = onnxName(op);
  if (unaries.contains(n)) {
    Result in = at(op->getOperand(0));
    if (!in)
      return std::nullopt;
    Expr *e = analysis.withChildren(Expr::Unary, in->expr);
    e->name = n == "Gelu" && strAttr(op, "approximate") == "tanh" ? "GeluTanh" : n.str();
    in->expr = e;
    return in;
  }
  if (binaries.contains(n) && op->getNumOperands() == 2)
    return binary(op);
  if (n == "MatMul")
    return matmul(op);
  if (n == "Gemm")
    return gemm(op);
  if (n == "Concat")
    return concat(op);
  if (n == "Slice" || n == "Split" || n == "Gather")
    return n == "Split" || n == "Gather" || ranked(v) != ranked(op->getOperand(0)) ||
                   !ranked(v).hasStaticShape()
               ? slice(op, v)
               : at(op->getOperand(0));
  return view(op, v);
}

std::optional<OwnRows> OwnRowsWalk::view(Operation *op, Value v) {
  StringRef n = onnxName(op);
  auto type = ranked(v);
  bool same = n == "Identity" || ((n == "Expand" || n == "Cast") && type.hasStaticShape() &&
                                  type == ranked(op->getOperand(0)));
  bool shapes = n == "Reshape" || n == "Unsqueeze" || n == "Squeeze" || n == "Flatten";
  if (!same && !shapes && n != "Transpose")
    return std::nullopt;
  Result in = at(op->getOperand(0));
  if (!in || same)
    return in;
  if (shapes) {
    auto axes = regroup(flatRows(in->axes), type.getShape());
    if (!axes)
      return std::nullopt;
    in->axes = *axes;
    return in;
  }
  SmallVector<int64_t> perm = intsAttr(op, "perm");
  if (perm.size() != in->axes.size())
    return std::nullopt;
  SmallVector<RowAxis, 4> axes;
  for (int64_t p : perm) {
    if (p < 0 || p >= static_cast<int64_t>(perm.size()))
      return std::nullopt;
    axes.push_back(in->axes[p]);
  }
  in->axes = axes;
  return in;
}

// [start, start + size) of an axis.
std::optional<OwnRows> OwnRowsWalk::part(const OwnRows &in, int64_t axis, int64_t start,
                                         int64_t size) {
  OwnRows out = in;
  RowAxis &atoms = out.axes[axis];
  if (atoms.size() != 1 || start < 0 || size < 1 || atoms[0].size < start + size)
    return std::nullopt;
  if (atoms[0].source == RowAtom::Places) {
    out.offset += start * atoms[0].stride;
    atoms[0].size = size;
    if (size == 1)
      atoms.clear();
    return out;
  }
  if (!isFeatures(atoms) || !in.expr->expertLinear)
    return std::nullopt;
  Expr *e = analysis.withChildren(Expr::Part, in.expr);
  e->offset = start;
  e->size = size;
  atoms = features(size);
  out.expr = e;
  return out;
}

std::optional<OwnRows> OwnRowsWalk::slice(Operation *op, Value v) {
  Result in = at(op->getOperand(0));
  StringRef n = onnxName(op);
  if (!in)
    return std::nullopt;
  int64_t rank = in->axes.size();
  auto type = ranked(op->getOperand(0));
  if (n == "Gather" || n == "Split") {
    int64_t axis = intAttr(op, "axis", 0);
    axis += axis < 0 ? rank : 0;
    if (axis < 0 || axis >= rank)
      return std::nullopt;
    if (n == "Gather") {
      auto index = evalInt(op->getOperand(1));
      auto of = ranked(op->getOperand(1));
      if (!index || !of || of.getRank() > 1 || type.isDynamicDim(axis))
        return std::nullopt;
      Result out = part(*in, axis, *index < 0 ? *index + type.getDimSize(axis) : *index, 1);
      if (out && of.getRank() == 0)
        out->axes.erase(out->axes.begin() + axis);
      return out;
    }
    int64_t start = 0;
    for (Value before : op->getResults().take_front(cast<OpResult>(v).getResultNumber())) {
      if (ranked(before).isDynamicDim(axis))
        return std::nullopt;
      start += ranked(before).getDimSize(axis);
    }
    return part(*in, axis, start, ranked(v).getDimSize(axis));
  }
  auto starts = evalAllInts(op->getOperand(1)), ends = evalAllInts(op->getOperand(2));
  std::optional<SmallVector<int64_t>> axes, steps;
  bool hasAxes = op->getNumOperands() > 3 && !isAbsent(op->getOperand(3));
  if (hasAxes)
    axes = evalAllInts(op->getOperand(3));
  bool hasSteps = op->getNumOperands() > 4 && !isAbsent(op->getOperand(4));
  if (hasSteps)
    steps = evalAllInts(op->getOperand(4));
  if (!starts || !ends || (hasAxes && !axes) || (hasSteps && !steps) ||
      starts->size() != ends->size())
    return std::nullopt;
  for (size_t i = 0; i < starts->size(); ++i) {
    int64_t axis = axes ? (*axes)[i] : static_cast<int64_t>(i);
    axis += axis < 0 ? rank : 0;
    if (axis < 0 || axis >= rank || type.isDynamicDim(axis) || (steps && (*steps)[i] != 1))
      return std::nullopt;
    int64_t dim = type.getDimSize(axis);
    auto at = [&](int64_t p) { return std::clamp<int64_t>(p < 0 ? p + dim : p, 0, dim); };
    int64_t from = at((*starts)[i]), to = at((*ends)[i]);
    if (from == 0 && to == dim)
      continue;
    in = part(*in, axis, from, to - from);
    if (!in)
      return std::nullopt;
  }
  return in;
}

bool countsRows(Value shape, Value of) {
  while (Operation *op = shape.getDefiningOp()) {
    StringRef n = onnxName(op);
    if (n == "Shape")
      return op->getOperand(0) == of && intAttr(op, "start", 0) == 0;
    if (n == "Slice") {
      auto start = evalAllInts(op->getOperand(1));
      if (!start || start->size() != 1 || start->front() != 0)
        return false;
    } else if (n == "Gather") {
      if (evalInt(op->getOperand(1)) != 0)
        return false;
    } else if (n != "Concat" && n != "Unsqueeze" && n != "Squeeze" && n != "Reshape" &&
               n != "Cast" && n != "Identity") {
      return false;
    }
    shape = op->getOperand(0);
  }
  return false;
}

bool isZero(Value v) {
  Operation *op = v.getDefiningOp();
  if (auto number = constSplat(v))
    return *number == 0;
  if (isOnnx(op, "ConstantOfShape")) {
    auto value = op->getAttrOfType<DenseElementsAttr>("value");
    return !value || (value.isSplat() && isa<FloatType>(value.getElementType()) &&
                      value.getSplatValue<APFloat>().isZero());
  }
  return (isOnnx(op, "Expand") || isOnnx(op, "Reshape")) && isZero(op->getOperand(0));
}

} // namespace moec::raise
