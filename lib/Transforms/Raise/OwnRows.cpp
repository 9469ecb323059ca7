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

bool isFeatures(const RowAxis &axis) {
  return axis.empty() || (axis.size() == 1 && axis[0].source == RowAtom::Features &&
                          axis[0].stride == 1);
}

RowAxis features(int64_t n) {
  return n == 1 ? RowAxis{} : RowAxis{{RowAtom::Features, 1, n}};
}

} // namespace

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
  for (int64_t p : perm)
    axes.push_back(in->axes[p]);
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
      if (!index || !of || of.getRank() > 1)
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

bool OwnRowsWalk::setExperts(int64_t n) {
  if (experts == 0 && n > 0 && places % n == 0)
    experts = n;
  return experts == n;
}

// One position for each expert, of all of them.
bool OwnRowsWalk::isExpertAxis(const RowAxis &axis, int64_t offset) {
  return axis.size() == 1 && axis[0].source == RowAtom::Places && offset == 0 &&
         axis[0].size > 1 && axis[0].stride * axis[0].size == places && setExperts(axis[0].size);
}

std::optional<OwnRows> OwnRowsWalk::linear(const OwnRows &x, Value w, bool nk, bool stacked) {
  if (x.axes.empty() || !isFeatures(x.axes.back()))
    return std::nullopt;
  auto type = ranked(w);
  OwnRows out = x;
  Expr *e = analysis.withChildren(Expr::Linear, x.expr);
  e->weights = {stacked ? WeightSet::Stacked : WeightSet::Single, {WeightItem{w}}};
  e->nk = nk;
  e->expertLinear = true;
  out.expr = e;
  out.axes.back() = features(type.getDimSize(type.getRank() - (nk ? 2 : 1)));
  return out;
}

std::optional<OwnRows> OwnRowsWalk::matmul(Operation *op) {
  Value w = op->getOperand(1);
  auto type = ranked(w);
  if (!type || !type.hasStaticShape() || !isWeight(w))
    return std::nullopt;
  Result x = at(op->getOperand(0));
  if (!x)
    return std::nullopt;
  if (type.getRank() == 2)
    return linear(*x, w, false, false);
  size_t rank = x->axes.size();
  if (type.getRank() != 3 || rank < 3 || !isExpertAxis(x->axes[rank - 3], x->offset) ||
      type.getDimSize(0) != experts)
    return std::nullopt;
  return linear(*x, w, false, true);
}

std::optional<OwnRows> OwnRowsWalk::gemm(Operation *op) {
  Value w = op->getOperand(1);
  auto type = ranked(w);
  if (!type || !type.hasStaticShape() || !isWeight(w) || intAttr(op, "transA", 0) != 0 ||
      floatAttr(op, "alpha", 1.0) != 1.0 || floatAttr(op, "beta", 1.0) != 1.0)
    return std::nullopt;
  Result x = at(op->getOperand(0));
  if (x)
    x = linear(*x, w, intAttr(op, "transB", 0) != 0, false);
  if (x && op->getNumOperands() > 2 && !isAbsent(op->getOperand(2)))
    return withBias(*x, op->getOperand(2));
  return x;
}

// x + bias: of one expert [N], or of all experts [E, 1, .., N].
std::optional<OwnRows> OwnRowsWalk::withBias(const OwnRows &x, Value bias) {
  auto type = ranked(bias);
  if (!type || !type.hasStaticShape() || type.getRank() < 1 ||
      type.getRank() > static_cast<int64_t>(x.axes.size()) || !isFeatures(x.axes.back()))
    return std::nullopt;
  ArrayRef<int64_t> dims = type.getShape();
  int64_t n = x.axes.back().empty() ? 1 : x.axes.back()[0].size;
  bool single = type.getNumElements() == n && dims.back() == n;
  bool stacked = !single && dims.back() == n && dims[0] > 1 &&
                 type.getNumElements() == dims[0] * n && type.getRank() > 1 &&
                 isExpertAxis(x.axes[x.axes.size() - dims.size()], x.offset) &&
                 dims[0] == experts;
  if (!single && !stacked)
    return std::nullopt;
  Expr *b = analysis.make(Expr::Weight);
  b->weights = {single ? WeightSet::Single : WeightSet::Stacked, {WeightItem{bias}}};
  b->origin = bias;
  OwnRows out = x;
  out.expr = analysis.withChildren(Expr::Binary, x.expr, b);
  out.expr->name = "Add";
  return out;
}

std::optional<OwnRows> OwnRowsWalk::binary(Operation *op) {
  StringRef n = onnxName(op);
  Value lhs = op->getOperand(0), rhs = op->getOperand(1);
  auto make = [&](const OwnRows &like, Expr *a, Expr *b) {
    OwnRows out = like;
    out.expr = analysis.withChildren(Expr::Binary, a, b);
    out.expr->name = n.str();
    return out;
  };
  if (auto number = constSplat(rhs)) {
    Result a = at(lhs);
    return a && ranked(rhs).getNumElements() == 1
               ? Result(make(*a, a->expr, analysis.splat(*number)))
               : std::nullopt;
  }
  if (auto number = constSplat(lhs)) {
    Result b = at(rhs);
    return b && ranked(lhs).getNumElements() == 1
               ? Result(make(*b, analysis.splat(*number), b->expr))
               : std::nullopt;
  }
  if (n == "Add" && (isWeight(lhs) || isWeight(rhs))) {
    Result x = at(isWeight(lhs) ? rhs : lhs);
    return x ? withBias(*x, isWeight(lhs) ? lhs : rhs) : std::nullopt;
  }
  Result a = at(lhs), b = at(rhs);
  if (!a || !b || a->offset != b->offset)
    return std::nullopt;
  OwnRows out = make(*a, a->expr, b->expr);
  size_t rank = std::max(a->axes.size(), b->axes.size());
  out.axes.assign(rank, {});
  for (const OwnRows *in : {&*a, &*b})
    for (size_t i = 0; i < in->axes.size(); ++i) {
      RowAxis &to = out.axes[rank - in->axes.size() + i];
      if (!to.empty() && !in->axes[i].empty() && to != in->axes[i])
        return std::nullopt;
      to = to.empty() ? in->axes[i] : to;
    }
  // Neither may stretch over the other's places or sequences.
  for (const OwnRows *in : {&*a, &*b})
    for (size_t i = 0; i + 1 < rank; ++i) {
      size_t missing = rank - in->axes.size();
      if (!out.axes[i].empty() && (i < missing || in->axes[i - missing].empty()))
        return std::nullopt;
    }
  return out;
}

Expr *OwnRowsWalk::joined(ArrayRef<OwnRows> parts) {
  int64_t n = parts.size();
  if (n < 1 || places % n != 0 || !setExperts(n)) {
    why = "not every expert has as many rows as the others";
    return nullptr;
  }
  int64_t each = places / n;
  SmallVector<Expr *> exprs;
  for (auto [i, p] : llvm::enumerate(parts)) {
    int64_t last = p.offset, rows = 1;
    for (const RowAxis &axis : p.axes)
      for (const RowAtom &atom : axis)
        if (atom.source == RowAtom::Places) {
          last += (atom.size - 1) * atom.stride;
          rows *= atom.size;
        }
    if (p.offset != static_cast<int64_t>(i) * each || last != p.offset + each - 1 ||
        rows != each) {
      why = "expert " + std::to_string(i) + " is not applied to all of its own rows alone";
      return nullptr;
    }
    exprs.push_back(p.expr);
  }
  return zipExperts(analysis, exprs, why);
}

std::optional<OwnRows> OwnRowsWalk::concat(Operation *op) {
  std::vector<OwnRows> parts;
  for (Value v : op->getOperands()) {
    Result part = at(v);
    if (!part || (!parts.empty() && part->axes != parts[0].axes))
      return std::nullopt;
    parts.push_back(*part);
  }
  OwnRows out = parts.front();
  int64_t axis = intAttr(op, "axis", 0), n = parts.size();
  axis += axis < 0 ? static_cast<int64_t>(out.axes.size()) : 0;
  if (n < 2 || axis < 0 || axis >= static_cast<int64_t>(out.axes.size()))
    return std::nullopt;
  out.expr = joined(parts);
  if (!out.expr)
    return std::nullopt;
  RowAxis &atoms = out.axes[axis];
  RowAtom all{RowAtom::Places, places / n, n};
  if (atoms.empty())
    atoms = {all};
  else if (atoms.size() == 1 && atoms[0] == RowAtom{RowAtom::Places, 1, places / n})
    atoms = {{RowAtom::Places, 1, places}};
  else
    return std::nullopt;
  return out;
}

} // namespace moec::raise
