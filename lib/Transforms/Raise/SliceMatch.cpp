// Parts of an axis: features, single positions (an expert, a slot, a column of
// weights), the rows of one expert in the sorted order.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

// Features [offset, offset + size * stride) of one axis.
Analysis::Result Analysis::partOf(const Fact &in, int64_t axis, int64_t offset,
                                  int64_t size, int64_t stride) {
  Dim dim = in.layout[axis];
  if (dim.size() != 1 || dim[0].kind != Atom::Any || size <= 0)
    return std::nullopt;
  if (offset == 0 && size == dim[0].size && stride == 1)
    return in;
  if (offset < 0 || stride < 1 || offset + (size - 1) * stride >= dim[0].size)
    return std::nullopt;
  if (!in.expr->expertLinear)
    return std::nullopt;
  Expr *e = withChildren(Expr::Part, in.expr);
  e->offset = offset;
  e->size = size;
  e->stride = stride;
  Fact out{e, in.layout};
  out.layout[axis].clear();
  if (size > 1)
    out.layout[axis].push_back({Atom::Any, size});
  return out;
}

// One position of an axis.
Analysis::Result Analysis::pickOf(const Fact &in, int64_t axis, int64_t index,
                                  bool drop) {
  Fact out = in;
  if (drop)
    out.layout.erase(out.layout.begin() + axis);
  else
    out.layout[axis].clear();
  const Expr *e = in.expr;
  const Dim &dim = in.layout[axis];
  if (dim.empty() && (index == 0 || index == -1))
    return out; // the only position
  if (dim.size() != 1)
    return std::nullopt;
  int64_t n = dim[0].size;
  if (index < 0 && n > 0)
    index += n;
  if (index < 0 || (n > 0 && index >= n))
    return std::nullopt;
  int i = static_cast<int>(index);
  bool expertAxis = dim[0].kind == Atom::Expert;
  if (e->kind == Expr::Hits && dim[0].kind == Atom::Any) {
    // The coordinate axis of NonZero: rows name the axes of the mask.
    out.expr = make(e->nums[i] == 0 ? Expr::HitTok : Expr::HitSlot);
    out.expr->ids = e->ids;
    out.expr->expert = e->expert;
    out.expr->order = e->order;
    out.expr->b = e->b;
    return out;
  }
  // A column of some tensor: perhaps an expert's weights.
  if (isTokenTensor(e, in.layout, n)) {
    out.expr = make(Expr::Column);
    out.expr->a = in.expr;
    out.expr->expert = i;
    out.expr->size = n;
    return out;
  }
  if (e->kind == Expr::OneHot && expertAxis) {
    Expr *t = make(Expr::IdTable);
    t->ids = e->ids;
    t->perSlot = true;
    t->nums.assign(n, 0.0);
    t->nums[i] = 1.0;
    out.expr = t;
    return out;
  }
  if (e->kind == Expr::DenseW && expertAxis) {
    Expr *m = make(Expr::Masked);
    m->ids = e->ids;
    m->b = e->b;
    m->expert = i;
    m->perSlot = e->perSlot;
    out.expr = m;
    return out;
  }
  if (e->kind == Expr::Counts && expertAxis) {
    out.expr = make(Expr::Count);
    out.expr->ids = e->ids;
    out.expr->expert = i;
    return out;
  }
  if ((e->kind == Expr::Ends || e->kind == Expr::Starts) && expertAxis) {
    Expr *end = make(Expr::End);
    end->ids = e->ids;
    end->expert = e->kind == Expr::Ends ? i : i - 1;
    out.expr = end->expert < 0 ? splat(0) : end;
    return out;
  }
  return std::nullopt;
}

bool Analysis::split(Operation *op) {
  if (splitGroups(op))
    return true;
  Fact in = get(op->getOperand(0));
  int64_t rank = in.layout.size();
  int64_t axis = intAttr(op, "axis", 0);
  if (axis < 0)
    axis += rank;
  if (axis < 0 || axis >= rank)
    return false;
  auto type = ranked(op->getOperand(0));
  int64_t total = type ? type.getDimSize(axis) : -1;
  if (total < 0 && in.layout[axis].size() == 1)
    total = in.layout[axis][0].size;
  SmallVector<int64_t> sizes;
  if (op->getNumOperands() > 1 && !isAbsent(op->getOperand(1))) {
    auto given = evalAllInts(op->getOperand(1));
    if (!given || given->size() != op->getNumResults())
      return false;
    sizes = *given;
  } else {
    int64_t n = op->getNumResults();
    if (total < 0)
      return false;
    int64_t each = (total + n - 1) / n;
    for (int64_t i = 0; i < n; ++i)
      sizes.push_back(std::min(each, total - i * each));
  }
  int64_t at = 0;
  bool any = false;
  for (auto [result, size] : llvm::zip(op->getResults(), sizes)) {
    bool column = size == 1 && total > 1 && isTokenTensor(in.expr, in.layout, total);
    Result fact = column ? std::nullopt : partOf(in, axis, at, size, 1);
    if (!fact && size == 1)
      fact = pickOf(in, axis, at, false);
    if (fact) {
      set(result, *fact);
      any = true;
    }
    at += size;
  }
  return any;
}

// Rows of one expert in the sorted order, cut out by the running counts.
static std::optional<Fact> expertRows(const Fact &in, int64_t axis,
                                      const Fact &first, const Fact &last) {
  if (last.expr->kind != Expr::End || !isAtom(in.layout[axis], Atom::Sorted))
    return std::nullopt;
  const Atom &rows = in.layout[axis][0];
  int e = last.expr->expert;
  bool begins = e == 0 ? first.expr->kind == Expr::Splat &&
                             first.expr->nums[0] == 0
                       : first.expr->kind == Expr::End &&
                             first.expr->expert == e - 1 &&
                             first.expr->ids == last.expr->ids;
  if (!begins || rows.ids != last.expr->ids)
    return std::nullopt;
  Fact out = in;
  Atom group = rows;
  group.kind = Atom::Group;
  group.expert = e;
  group.size = -1;
  out.layout[axis] = {group};
  return out;
}

// Positions start, start + step, .. before `end` of one axis of `total`
// positions (-1: not known).
Analysis::Result Analysis::sliceAxis(const Fact &in, int64_t axis, int64_t total,
                                     int64_t start, int64_t end, int64_t step) {
  if (total < 0 && in.layout[axis].size() == 1)
    total = in.layout[axis][0].size;
  if (in.layout[axis].empty())
    total = 1;
  if (step < 1)
    return std::nullopt;
  if (start == 0 && step == 1 && (end > (1ll << 29) || (total >= 0 && end >= total)))
    return in; // all of them, as INT_MAX and the like say
  if (total < 0)
    return start >= 0 && end == start + 1 ? pickOf(in, axis, start, false)
                                          : std::nullopt;
  int64_t lo = start < 0 ? start + total : start;
  int64_t hi = std::min(end < 0 ? end + total : end, total);
  lo = std::clamp<int64_t>(lo, 0, total);
  int64_t size = hi > lo ? (hi - lo + step - 1) / step : 0;
  // One feature of a router's scores is a column of weights.
  if (size == 1 && isTokenTensor(in.expr, in.layout, total))
    return pickOf(in, axis, lo, false);
  if (Result part = partOf(in, axis, lo, size, step))
    return part;
  return size == 1 ? pickOf(in, axis, lo, false) : std::nullopt;
}

Analysis::Result Analysis::slice(Operation *op) {
  Fact in = get(op->getOperand(0));
  auto type = ranked(op->getOperand(0)), starts = ranked(op->getOperand(1));
  auto arg = [&](unsigned i) {
    return op->getNumOperands() > i ? op->getOperand(i) : Value();
  };
  if (!type || !starts || starts.getNumElements() < 1 || !starts.hasStaticShape() ||
      static_cast<int64_t>(in.layout.size()) != type.getRank())
    return std::nullopt;
  size_t n = starts.getNumElements();
  SmallVector<int64_t> axes, steps(n, 1);
  for (size_t i = 0; i < n; ++i)
    axes.push_back(i);
  for (auto [i, list] : {std::pair{3u, &axes}, std::pair{4u, &steps}}) {
    if (isAbsent(arg(i)))
      continue;
    auto given = evalAllInts(arg(i));
    if (!given || given->size() != n)
      return std::nullopt;
    *list = *given;
  }
  for (int64_t &axis : axes) {
    axis += axis < 0 ? type.getRank() : 0;
    if (axis < 0 || axis >= type.getRank())
      return std::nullopt;
  }
  if (n == 1 && steps[0] == 1)
    if (auto rows = expertRows(in, axes[0], get(arg(1)), get(arg(2))))
      return rows;
  auto start = evalAllInts(arg(1)), end = evalAllInts(arg(2));
  // From 0 up to the shape of a tensor that is laid out alike.
  Operation *shape = arg(2).getDefiningOp();
  if (isOnnx(shape, "Shape") && start && n == in.layout.size() &&
      llvm::all_of(*start, [](int64_t i) { return i == 0; }) &&
      llvm::all_of(steps, [](int64_t i) { return i == 1; })) {
    Fact like = get(shape->getOperand(0));
    bool alike = like.layout.size() == n;
    for (size_t i = 0; alike && i < n; ++i)
      alike = axes[i] == static_cast<int64_t>(i) && unifyDims(in.layout[i], like.layout[i]) &&
              in.layout[i].empty() == like.layout[i].empty();
    if (alike)
      return in;
  }
  if (!start || !end || start->size() != n || end->size() != n)
    return std::nullopt;
  bool whole = (*start)[0] == 0 && (*end)[0] > (1ll << 29);
  if (n == 1 && isAtom(in.layout[axes[0]], Atom::Sorted) && !whole)
    fail(op, in.layout[axes[0]][0].ids,
         "the experts' rows are cut at fixed places: how many rows an expert has was fixed with "
         "the exporter's sample,",
         true);
  Result out = in;
  for (size_t i = 0; out && i < n; ++i)
    out = sliceAxis(*out, axes[i], type.getDimSize(axes[i]), (*start)[i],
                    (*end)[i], steps[i]);
  return out;
}

} // namespace moec::raise
