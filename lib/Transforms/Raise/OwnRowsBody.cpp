// What experts do to their own rows: products, biases, elementwise operators, and
// the results of all of them side by side.
#include "OwnRows.h"

using namespace mlir;

namespace moec::raise {

bool OwnRowsWalk::setExperts(int64_t n) {
  if (experts == 0 && n > 0 && places % n == 0)
    experts = n;
  return experts == n;
}

// One position for each expert, of all of them.
bool OwnRowsWalk::isExpertAxis(const RowAxis &axis, int64_t offset) {
  return axis.size() == 1 && axis[0].source == RowAtom::Places && offset == 0 && axis[0].size > 1 &&
         axis[0].stride * axis[0].size == places && setExperts(axis[0].size);
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
                 isExpertAxis(x.axes[x.axes.size() - dims.size()], x.offset) && dims[0] == experts;
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
    if (p.offset != static_cast<int64_t>(i) * each || last != p.offset + each - 1 || rows != each) {
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
