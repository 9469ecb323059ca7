// Index vectors: gathers by ids, by a sort, by an expert's hits; histograms
// and the row ranges of experts.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

namespace {

} // namespace

// Parameters of the expert that each slot chose.
Analysis::Result Analysis::gatherWeights(Operation *op, const Fact &data,
                                         const Fact &index,
                                         const Layout &rows) {
  const Routing *r = routing(index.expr->ids);
  auto type = ranked(data.expr->weights.items.front().value);
  if (!r || !type || data.expr->weights.items.front().index >= 0)
    return std::nullopt;
  if (type.getDimSize(0) != r->experts) {
    fail(op, r->ids,
         "the number of experts in the bank (" + Twine(type.getDimSize(0)) +
             ") is not the number of columns of the router (" +
             Twine(r->experts) + ")");
    return std::nullopt;
  }
  Expr *e = make(Expr::Gathered);
  e->weights = {WeightSet::Stacked, data.expr->weights.items};
  e->ids = r->ids;
  e->perSlot = true;
  Layout layout = rows;
  layout.append(data.layout.begin() + 1, data.layout.end());
  return Fact{e, layout};
}

Analysis::Result Analysis::gatherRows(Operation *op, const Fact &data,
                                      size_t axis, const Fact &index,
                                      const Layout &rows) {
  if (axis >= data.layout.size())
    return std::nullopt;
  const Expr *i = index.expr;
  Dim from = data.layout[axis];
  auto stored = ranked(op->getOperand(0));
  if (i->kind == Expr::IdTable && data.expr->kind == Expr::Weight && stored &&
      stored.getElementType().isInteger())
    return tableOfIds(data, index);
  if (isIdentity(i) && data.expr->kind == Expr::Weight && axis == 0)
    return gatherWeights(op, data, index, rows);
  auto indices = ranked(index.expr->origin);
  bool slots = indices && indices.getRank() > 1 && indices.getShape().back() > 0;
  if (data.expr->kind == Expr::Weight && axis == 0 &&
      (data.layout.size() > 2 || (data.layout.size() == 2 && slots))) // a matrix or a row
    if (auto type = ranked(data.expr->weights.items.front().value))
      noteIds(index, type.getDimSize(0), true);
  Layout to = rows;
  bool ok = false;
  switch (i->kind) {
  case Expr::PermTok:
  case Expr::HitTok:
    ok = isAtom(from, Atom::Tok);
    break;
  case Expr::Perm:
  case Expr::HitFlat:
    ok = isFlatSlots(from) && (from.size() > 1 || routing(i->ids)->k == 1);
    break;
  case Expr::InvPerm:
    ok = isAtom(from, Atom::Sorted) && from[0].order == i->order;
    break;
  case Expr::GroupRows:
    ok = isAtom(from, Atom::Sorted) && from[0].ids == i->ids &&
         to.size() == 1 && to[0].size() == 1;
    if (ok && routing(i->ids)->experts == 1)
      to[0] = from; // the only expert's rows are all rows
    else if (ok)
      to[0][0].order = from[0].order;
    break;
  default:
    break;
  }
  if (!ok)
    return std::nullopt;
  Fact out{data.expr, Layout()};
  out.layout.append(data.layout.begin(), data.layout.begin() + axis);
  out.layout.append(to.begin(), to.end());
  out.layout.append(data.layout.begin() + axis + 1, data.layout.end());
  return out;
}

Analysis::Result Analysis::gather(Operation *op) {
  Fact data = get(op->getOperand(0)), index = get(op->getOperand(1));
  int64_t axis = intAttr(op, "axis", 0);
  auto indexType = ranked(op->getOperand(1));
  if (axis < 0)
    axis += data.layout.size();
  if ((!indexType && index.expr->kind == Expr::Leaf) || axis < 0 ||
      axis >= static_cast<int64_t>(data.layout.size()))
    return std::nullopt;
  if (index.expr->kind == Expr::Splat && indexType && indexType.getRank() <= 1) {
    int64_t i = static_cast<int64_t>(index.expr->nums[0]);
    bool drop = indexType.getRank() == 0;
    if (data.expr->kind == Expr::Weight && axis == 0 &&
        data.expr->weights.items.front().index < 0 && data.layout.size() > 1) {
      Fact out{make(Expr::Weight), data.layout};
      auto type = ranked(data.expr->weights.items.front().value);
      if (type.getRank() != static_cast<int64_t>(data.layout.size()))
        return std::nullopt;
      int64_t n = type.getDimSize(0);
      if (i < 0)
        i += n;
      if (i < 0 || i >= n)
        return std::nullopt;
      out.expr->weights.items = {{data.expr->weights.items.front().value, i}};
      out.layout[0].clear();
      if (drop)
        out.layout.erase(out.layout.begin());
      return out;
    }
    return pickOf(data, axis, i, drop);
  }
  return gatherRows(op, data, axis, index, index.layout);
}

Analysis::Result Analysis::gatherND(Operation *op) {
  Fact data = get(op->getOperand(0)), index = get(op->getOperand(1));
  if (intAttr(op, "batch_dims", 0) != 0 || index.layout.empty())
    return std::nullopt;
  if (Result chosen = gatherPairs(op))
    return chosen;
  Layout rows(index.layout.begin(), index.layout.end() - 1);
  if (index.expr->kind == Expr::HitPair) {
    if (data.layout.size() < 2 || !isAtom(data.layout[0], Atom::Tok))
      return std::nullopt;
    Fact out{data.expr, rows};
    out.layout.append(data.layout.begin() + 2, data.layout.end());
    return out;
  }
  auto type = ranked(op->getOperand(1));
  if (!type || type.getShape().back() != 1)
    return std::nullopt;
  return gatherRows(op, data, 0, index, rows);
}

Analysis::Result Analysis::nonZero(Operation *op) {
  Fact in = get(op->getOperand(0));
  int expert = onlyExpert(in.expr);
  bool picked = in.expr->kind == Expr::Picked || in.expr->kind == Expr::Masked;
  bool column = in.expr->kind == Expr::Column;
  if (in.layout.size() == 1 && (picked || column))
    return pickedTokens(op, in);
  if (in.layout.size() != 2 || (expert < 0 && !column))
    return std::nullopt;
  lookedAt_.insert({in.expr->ids, expert});
  Expr *e = make(Expr::Hits);
  e->ids = in.expr->ids;
  if (column) { // of a mask that comes from elsewhere
    expert = in.expr->expert;
    e->ids = denseRouting(in.expr->a, in.expr->size);
    e->b = in.expr->a;
  }
  if (!e->ids)
    return std::nullopt;
  e->perSlot = true;
  e->expert = expert;
  e->order = op;
  for (const Dim &dim : in.layout) {
    bool tokens = isAtom(dim, Atom::Tok);
    if (!tokens && !dim.empty() && !isAtom(dim, Atom::Slot))
      return std::nullopt;
    e->nums.push_back(tokens ? 0 : 1);
  }
  if (e->nums[0] == e->nums[1])
    return std::nullopt;
  Atom hit{Atom::Hit, -1};
  hit.expert = expert;
  hit.ids = e->ids;
  hit.order = op;
  return Fact{e, {Dim{{Atom::Any, 2}}, Dim{hit}}};
}

// The tokens that chose an expert: each once, whatever the slot.
Analysis::Result Analysis::pickedTokens(Operation *op, const Fact &in) {
  if (in.layout.size() != 1 || !isAtom(in.layout[0], Atom::Tok))
    return std::nullopt;
  Expr *e = make(Expr::HitTok);
  if (in.expr->kind == Expr::Column) {
    e->ids = denseRouting(in.expr->a, in.expr->size);
    e->b = in.expr->a;
  } else {
    bool masked = in.expr->kind == Expr::Masked; // a weight other than 0
    e->ids = in.expr->ids;
    e->a = masked ? in.expr->b : in.expr->a;
    if (masked && e->a->kind == Expr::Splat)
      e->a = nullptr; // counts of slots
    else if (e->a && !masked)
      e->nums = {1};
  }
  if (!e->ids)
    return std::nullopt;
  e->perSlot = true;
  e->expert = in.expr->expert;
  e->order = op;
  Atom hit{Atom::Hit, -1};
  hit.expert = e->expert;
  hit.ids = e->ids;
  hit.order = op;
  return Fact{e, {Dim(), Dim{hit}}};
}

Analysis::Result Analysis::cumSum(Operation *op) {
  Fact in = get(op->getOperand(0));
  if (Result ranks = runningCount(op, in))
    return ranks;
  if (in.expr->kind != Expr::Counts || intAttr(op, "reverse", 0) != 0)
    return std::nullopt;
  Expr *e = make(intAttr(op, "exclusive", 0) ? Expr::Starts : Expr::Ends);
  e->ids = in.expr->ids;
  return Fact{e, in.layout};
}

Analysis::Result Analysis::range(Operation *op) {
  Fact start = get(op->getOperand(0)), end = get(op->getOperand(1)),
       step = get(op->getOperand(2));
  if (step.expr->kind != Expr::Splat || step.expr->nums[0] != 1)
    return std::nullopt;
  bool zero = start.expr->kind == Expr::Splat && start.expr->nums[0] == 0;
  if (end.expr->kind == Expr::End) {
    int expert = end.expr->expert;
    bool follows = expert == 0 ? zero
                               : start.expr->kind == Expr::End &&
                                     start.expr->ids == end.expr->ids &&
                                     start.expr->expert == expert - 1;
    if (!follows) {
      fail(op, end.expr->ids,
           "the rows of expert " + Twine(expert) +
               " do not begin where those of the expert before end");
      return std::nullopt;
    }
    Expr *e = make(Expr::GroupRows);
    e->ids = end.expr->ids;
    e->expert = expert;
    e->perSlot = true;
    Atom group{Atom::Group, -1};
    group.expert = expert;
    group.ids = e->ids;
    return Fact{e, {Dim{group}}};
  }
  if (!zero)
    return std::nullopt;
  return Fact{make(Expr::Iota), {Dim{{Atom::Any, -1}}}};
}

// The rows of one expert inside a sorted order.
static bool isGroup(const Fact &f) {
  return !f.layout.empty() && isAtom(f.layout[0], Atom::Group);
}

// Coordinates side by side, or the experts' rows one after the other.
Analysis::Result Analysis::concat(Operation *op) {
  auto type = ranked(op->getResult(0));
  if (!type || op->getNumOperands() == 0)
    return std::nullopt;
  int64_t axis = intAttr(op, "axis", 0);
  if (axis < 0)
    axis += type.getRank();
  std::vector<Fact> parts;
  for (Value v : op->getOperands())
    parts.push_back(get(v));
  if (axis == 0 && llvm::any_of(parts, isGroup))
    return joinGroups(parts, op);
  if (parts[0].expr->kind == Expr::Count)
    return joinCounts(parts);
  if (parts.size() == 1)
    return parts[0];
  if (parts.size() == 2 && parts[0].expr->kind == Expr::HitTok &&
      parts[1].expr->kind == Expr::HitSlot &&
      parts[0].expr->order == parts[1].expr->order &&
      axis == type.getRank() - 1 && parts[0].layout.size() == 2) {
    Expr *e = make(Expr::HitPair);
    e->ids = parts[0].expr->ids;
    e->expert = parts[0].expr->expert;
    e->order = parts[0].expr->order;
    e->b = parts[0].expr->b;
    e->perSlot = true;
    return Fact{e, {parts[0].layout[0], Dim{{Atom::Any, 2}}}};
  }
  if (axis >= 0 && isIdentity(parts[0].expr))
    return joinChoices(parts, axis, op);
  return axis >= 0 ? stack(parts, axis, op) : std::nullopt;
}

// Experts' results side by side along a new axis: the expert axis when each
// is one expert's function of all tokens, a list of terms when each carries
// its masked weight.
Analysis::Result Analysis::stack(ArrayRef<Fact> parts, size_t axis,
                                 Operation *op) {
  if (parts.size() < 2)
    return std::nullopt;
  bool terms = true;
  for (auto [i, part] : llvm::enumerate(parts)) {
    Value v = op->getOperand(i);
    if (axis >= part.layout.size() || !part.layout[axis].empty() ||
        (!part.expr->expertLinear && !isExpertLeaf(v, op->getResult(0))) ||
        part.layout.size() != parts[0].layout.size())
      return std::nullopt;
    Value by;
    terms &= asTerm(part.expr, op, by).has_value();
  }
  Fact out{nullptr, parts[0].layout};
  out.layout[axis] = {Atom{Atom::Expert, static_cast<int64_t>(parts.size())}};
  if (terms) {
    out.expr = make(Expr::Terms);
    out.expr->apart = true;
    out.expr->expertLinear = true;
    for (const Fact &part : parts) {
      Value by;
      out.expr->terms.push_back(*asTerm(part.expr, op, by));
      if (out.expr->ids && by != out.expr->ids)
        return std::nullopt;
      out.expr->ids = by;
    }
    return out;
  }
  SmallVector<Expr *> exprs;
  for (const Fact &part : parts) {
    if (part.expr->ids)
      return std::nullopt;
    exprs.push_back(part.expr);
  }
  std::string why;
  out.expr = zipExperts(*this, exprs, why);
  if (!out.expr) {
    out.expr = joinExperts(*this, exprs);
    out.expr->offset = static_cast<int64_t>(axis); // behind the tokens
  } else if (!llvm::is_contained(exprs, out.expr))
    out.expr->args.assign(exprs.begin(), exprs.end()); // should it be no ffn
  return out;
}

// Zeros, or one row of parameters, for each row of an expert's group; which expert's, the sizes say.
std::optional<FixedExpert> Analysis::fixedRows(Value rows, const Atom &group) {
  Operation *op = rows.getDefiningOp();
  while (isOnnx(op, "Cast") || isOnnx(op, "Identity"))
    op = op->getOperand(0).getDefiningOp();
  bool expand = isOnnx(op, "Expand");
  if (!expand && !isOnnx(op, "ConstantOfShape"))
    return std::nullopt;
  Value row = expand ? op->getOperand(0) : Value();
  auto zero = op->getAttrOfType<DenseElementsAttr>("value");
  if (expand ? !isWeight(row) || !ranked(row) || !ranked(row).hasStaticShape() ||
                   ranked(row).getRank() == 0 ||
                   ranked(row).getNumElements() != ranked(row).getShape().back()
             : zero && !matchPattern(zero, m_AnyZeroFloat()))
    return std::nullopt;
  Operation *size = op->getOperand(expand ? 1 : 0).getDefiningOp();
  if (isOnnx(size, "Concat"))
    size = size->getOperand(0).getDefiningOp();
  if (isOnnx(size, "Slice") && evalInt(size->getOperand(1)) == 0 && evalInt(size->getOperand(2)) == 1)
    size = size->getOperand(0).getDefiningOp();
  if (!isOnnx(size, "Shape") || intAttr(size, "start", 0) != 0)
    return std::nullopt;
  Fact of = get(size->getOperand(0));
  if (!isGroup(of) || of.layout[0][0].order != group.order || of.layout[0][0].ids != group.ids)
    return std::nullopt;
  return FixedExpert{of.layout[0][0].expert, row};
}

Analysis::Result Analysis::joinGroups(ArrayRef<Fact> parts, Operation *op) {
  const Fact &like = *llvm::find_if(parts, isGroup);
  const Atom &first = like.layout[0][0];
  const Routing *r = routing(first.ids);
  if (!r)
    return std::nullopt;
  // The rows of ids that name no expert come last and are zeros; a router's own column is one.
  auto scores = r->topk && !r->external ? ranked(r->scores) : RankedTensorType();
  int64_t columns = scores ? r->axis + (r->axis < 0 ? scores.getRank() : 0) : -1;
  bool own = columns >= 0 && columns < scores.getRank() && scores.getDimSize(columns) == r->experts;
  bool zeros = !own && static_cast<int64_t>(parts.size()) == r->experts && parts.size() > 1 &&
               parts.back().expr->kind == Expr::Splat && parts.back().expr->nums[0] == 0;
  int64_t experts = r->experts - zeros;
  parts = parts.drop_back(zeros);
  SmallVector<Expr *> exprs;
  SmallVector<FixedExpert> fixed;
  for (auto [i, part] : llvm::enumerate(parts)) {
    int64_t expert = -1;
    if (isGroup(part)) {
      if (part.layout[0][0].order != first.order || part.layout.size() != like.layout.size())
        return std::nullopt;
      expert = part.layout[0][0].expert;
    } else {
      auto rows = fixedRows(op->getOperand(i), first);
      if (!rows)
        return std::nullopt;
      expert = rows->expert;
      fixed.push_back(*rows);
    }
    if (expert != static_cast<int64_t>(i)) {
      fail(op, r->ids, "expert " + Twine(i) + " is not in its place", true);
      return std::nullopt;
    }
    exprs.push_back(isGroup(part) ? part.expr : like.expr);
  }
  if (static_cast<int64_t>(parts.size()) != experts) {
    fail(op, r->ids,
         Twine(parts.size()) + " experts are joined, the router has " +
             Twine(r->experts),
         true);
    return std::nullopt;
  }
  std::string why;
  Expr *all = zipExperts(*this, exprs, why);
  if (!fixed.empty() && (!all || llvm::is_contained(exprs, all))) {
    fail(op, r->ids, "constant experts stand beside experts of no one formula", true);
    return std::nullopt;
  }
  if (!fixed.empty())
    all->fixed.assign(fixed.begin(), fixed.end());
  else if (!all) // no one formula with parameters: the experts may be regions
    all = joinExperts(*this, exprs);
  else if (!llvm::is_contained(exprs, all))
    all->args.assign(exprs.begin(), exprs.end());
  if (llvm::is_contained(exprs, all)) {
    // Nothing of an expert in it: the sorted rows themselves again.
  } else {
    all->ids = r->ids;
    all->perSlot = true;
  }
  if (zeros)
    routings_[r->ids].real = experts;
  Fact out{all, like.layout};
  out.layout[0][0].kind = Atom::Sorted;
  out.layout[0][0].expert = -1;
  return out;
}

} // namespace moec::raise
