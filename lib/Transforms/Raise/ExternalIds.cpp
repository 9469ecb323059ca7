// Expert ids that are no top-k of scores: an input, an entry of a table, the
// argmax of some code, a part of a top-k. What computes them does not matter;
// that they are expert ids shows in what reads them.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

namespace {

// Integers of no known meaning, or a function of other ids.
bool isIdTensor(const Expr *e) {
  bool other = e->kind == Expr::IdTable && !isIdentity(e);
  auto type = e->kind == Expr::Leaf || other ? ranked(e->origin) : RankedTensorType();
  // A single id is no choice for each token.
  bool one = type && (type.getRank() == 0 || type.getShape() == ArrayRef<int64_t>{1});
  return type && !one && type.getElementType().isInteger() &&
         !type.getElementType().isInteger(1) && !isWeight(e->origin);
}

} // namespace

// `index` names one of `experts` experts.
void Analysis::noteIds(const Fact &index, int64_t experts, bool wraps) {
  if (!isIdTensor(index.expr) || experts < 1)
    return;
  ExternalIds &ids = noted_[index.expr->origin];
  ids.agree &= ids.experts == 0 || ids.experts == experts;
  ids.experts = experts;
  ids.wraps |= wraps;
}

// `index` is compared with a number, or with all ids along an axis.
void Analysis::noteTest(const Fact &index, const Fact &other) {
  if (!isIdTensor(index.expr))
    return;
  if (other.expr->kind == Expr::Splat) {
    noted_[index.expr->origin].tested.insert(
        static_cast<int64_t>(other.expr->nums[0]));
    return;
  }
  if (other.expr->kind != Expr::Weight)
    return;
  auto numbers = constNumbers(other.expr->origin);
  if (!numbers || numbers->size() < 2)
    return;
  for (auto [i, v] : llvm::enumerate(*numbers))
    if (v != static_cast<double>(i))
      return;
  noteIds(index, static_cast<int64_t>(numbers->size()), false);
}

namespace {

// The number of bins that ids are counted in: of what is scattered to, or the
// largest value that a clip leaves, plus one.
int64_t binsOf(Value sorted, int depth = 0) {
  for (Operation *user : sorted.getUsers()) {
    StringRef n = onnxName(user);
    if (n == "Clip" && user->getNumOperands() > 2) {
      auto low = constSplat(user->getOperand(1)), high = constSplat(user->getOperand(2));
      if (low && high && *low == 0 && *high >= 0)
        return static_cast<int64_t>(*high) + 1;
    }
    if (n == "ScatterElements" && user->getOperand(1) == sorted)
      if (auto type = ranked(user->getOperand(0)); type && type.getRank() == 1)
        return std::max<int64_t>(type.getDimSize(0), 0);
    bool through = n == "Cast" || n == "Reshape" || n == "Div" || n == "Sub" || n == "Floor";
    if (through && depth < 8)
      if (int64_t bins = binsOf(user->getResult(0), depth + 1))
        return bins;
  }
  return 0;
}

} // namespace

// A full sort of integers whose values are counted in bins: ids, sorted by expert.
void Analysis::noteSort(Operation *op, const Fact &ids) {
  if (ids.layout.size() != 1 || intAttr(op, "largest", 1) != 0 || !isIdTensor(ids.expr))
    return;
  if (int64_t bins = binsOf(op->getResult(0))) {
    noteIds(ids, bins, false);
    noted_[ids.expr->origin].clamps = true;
  } else if (int64_t counters = binsOf(op->getOperand(0))) {
    noteIds(ids, counters, false);
  }
}

llvm::MapVector<Value, ExternalIds> Analysis::externalIds() const {
  llvm::MapVector<Value, ExternalIds> out;
  for (const auto &[value, noted] : noted_) {
    ExternalIds ids = noted;
    // Tests alone: for 0, 1, 2, .. without a gap.
    auto tests = static_cast<int64_t>(ids.tested.size());
    if (ids.experts == 0 && tests >= 2 && *ids.tested.begin() == 0 &&
        *ids.tested.rbegin() == tests - 1)
      ids.experts = tests;
    if (ids.experts > 0 && ids.agree)
      out.insert({value, ids});
  }
  return out;
}

llvm::MapVector<Value, ExternalIds> Analysis::sequenceIds(Block &block) const {
  llvm::MapVector<Value, ExternalIds> out;
  auto add = [&](Value v, ExternalIds ids) {
    auto type = ranked(v);
    if (!type || type.getRank() != 1)
      return;
    ids.sequences = true;
    out.insert({v, ids});
  };
  for (const auto &[value, ids] : externalIds())
    add(value, ids);
  for (Operation &op : block)
    if (isOnnx(&op, "ArgMax"))
      if (auto type = ranked(op.getOperand(0)); type && type.getRank() == 2) {
        ExternalIds ids;
        ids.experts = type.getDimSize(1);
        if (ids.experts > 0 && ids.experts <= 65536)
          add(op.getResult(0), ids);
      }
  return out;
}

// A last axis of static size holds the slots of a token.
Fact Analysis::givenFact(Value v, const ExternalIds &given) {
  auto type = ranked(v);
  SmallVector<int64_t> shape(type.getShape());
  int64_t k = 1;
  bool slots = type.getRank() >= 2 && shape.back() > 0;
  if (slots)
    k = shape.back();
  else
    shape.push_back(1);
  Layout layout = leafLayout(RankedTensorType::get(shape, type.getElementType()));
  layout.back().clear();
  if (!slots)
    layout.pop_back();
  else if (k > 1)
    layout.back().push_back({Atom::Slot, k});
  if (given.sequences && !slots && type.getRank() == 1) {
    layout = {Dim{{Atom::Tok, -1}}};
    layout[0][0].parts = 2; // the other is the place in the sequence
  }
  Routing r;
  r.topk = v.getDefiningOp();
  r.ids = v;
  r.k = k;
  r.experts = given.experts;
  r.external = true;
  r.wraps = given.wraps;
  r.clamps = given.clamps;
  r.sequences = given.sequences && type.getRank() == 1;
  routings_.insert({v, r});
  return {idTable(v, given.experts), layout};
}

Expr *Analysis::idTable(Value ids, int64_t experts) {
  Expr *e = make(Expr::IdTable);
  e->ids = ids;
  e->perSlot = true;
  for (int64_t i = 0; i < experts; ++i)
    e->nums.push_back(static_cast<double>(i));
  return e;
}

// The best expert of each token.
bool Analysis::argmax(Operation *op) {
  Fact in = get(op->getOperand(0));
  auto type = ranked(op->getOperand(0));
  if (reading_.ids.contains(op->getResult(0)))
    return get(op->getResult(0)).expr != nullptr;
  if (!reading_.argmax || reading_.ignored.contains(op->getResult(0)) || !type ||
      type.getRank() < 2 || intAttr(op, "select_last_index", 0) != 0)
    return false;
  int64_t axis = chosenAxis(op, 0), experts = axis < 0 ? -1 : type.getDimSize(axis);
  if (experts < 1 || experts > 65536 || !isa<FloatType>(type.getElementType()))
    return false;
  Routing r;
  r.topk = op;
  r.ids = op->getResult(0);
  r.scores = op->getOperand(0);
  r.k = 1;
  r.experts = experts;
  r.axis = axis;
  routings_.insert({r.ids, r});
  Layout layout = idLayout(in.layout, type, axis);
  if (intAttr(op, "keepdims", 1) == 0)
    layout.erase(layout.begin() + axis);
  set(r.ids, {idTable(r.ids, experts), layout});
  return true;
}

// Integers by expert id, such as a renumbering of experts.
Analysis::Result Analysis::tableOfIds(const Fact &data, const Fact &index) {
  auto numbers = constNumbers(data.expr->origin);
  if (!numbers || data.layout.size() != 1)
    return std::nullopt;
  Expr *e = make(Expr::IdTable);
  e->ids = index.expr->ids;
  e->perSlot = true;
  auto size = static_cast<double>(numbers->size());
  for (double i : index.expr->nums) {
    if (i < -size || i >= size)
      return std::nullopt;
    e->nums.push_back((*numbers)[static_cast<size_t>(i < 0 ? i + size : i)]);
  }
  return Fact{e, index.layout};
}

// Ids of several choices side by side are the slots of one.
Analysis::Result Analysis::joinChoices(ArrayRef<Fact> parts, size_t axis,
                                       Operation *op) {
  int64_t slots = 0;
  for (const Fact &part : parts) {
    const Routing *r = isIdentity(part.expr) ? routing(part.expr->ids) : nullptr;
    const Routing *first = routing(parts[0].expr->ids);
    if (!r || !first || r->experts != first->experts ||
        axis + 1 != part.layout.size() ||
        !isTokenRows(part.layout, part.layout.back().size()) ||
        (!part.layout.back().empty() &&
         !isAtom(part.layout.back(), Atom::Slot)))
      return std::nullopt;
    slots += part.layout.back().empty() ? 1 : part.layout.back()[0].size;
  }
  Routing r;
  r.topk = op;
  r.ids = op->getResult(0);
  r.k = slots;
  r.experts = routing(parts[0].expr->ids)->experts;
  r.external = true;
  r.proven = true;
  routings_.insert({r.ids, r});
  Layout layout = parts[0].layout;
  layout.back() = {Atom{Atom::Slot, slots}};
  return Fact{idTable(r.ids, r.experts), layout};
}

} // namespace moec::raise
