// Elementwise operations: on experts' values they grow the expression, on
// routing indices they are computed for every expert id at once.
#include "Analysis.h"
#include <cmath>

using namespace mlir;

namespace moec::raise {

namespace {

bool isFloat(Value v) {
  auto type = dyn_cast<ShapedType>(v.getType());
  return type && isa<FloatType>(type.getElementType());
}

bool isIndexKind(const Expr *e) {
  return e->kind == Expr::Perm || e->kind == Expr::PermTok ||
         e->kind == Expr::InvPerm || e->kind == Expr::HitTok ||
         e->kind == Expr::HitSlot || e->kind == Expr::HitFlat ||
         e->kind == Expr::HitTokK || e->kind == Expr::PermSign;
}

// A product of a choice with other masks.
bool isChoiceMask(const Expr *e) {
  if (e->kind == Expr::Binary && (e->name == "Mul" || e->name == "And"))
    return isChoiceMask(e->a) || isChoiceMask(e->b);
  return e->kind == Expr::OneHot;
}

// One element of a binary op, in the arithmetic of the result type.
double fold(StringRef n, double x, double y, bool floats) {
  double r = n == "Add"   ? x + y
             : n == "Sub" ? x - y
             : n == "Mul" ? x * y
             : n == "Div" ? (floats ? static_cast<double>(static_cast<float>(x) /
                                                          static_cast<float>(y))
                                    : std::trunc(x / y))
             : n == "Mod" ? x - y * std::floor(x / y)
             : n == "Min" ? std::min(x, y)
             : n == "Max" ? std::max(x, y)
             : n == "Pow" ? std::pow(x, y)
             : n == "Equal"          ? x == y
             : n == "Less"           ? x < y
             : n == "Greater"        ? x > y
             : n == "GreaterOrEqual" ? x >= y
             : n == "LessOrEqual"    ? x <= y
             : n == "And"            ? (x != 0 && y != 0)
             : n == "Or"             ? (x != 0 || y != 0)
             : n == "Xor"            ? ((x != 0) != (y != 0))
                                     : std::nan("");
  return floats ? static_cast<double>(static_cast<float>(r)) : r;
}

// The layout describes a value of this type without further broadcasting.
bool fits(const Layout &layout, Value v) {
  auto type = ranked(v);
  if (!type) // inside of a branch or a loop
    return !layout.empty();
  if (type.getRank() != static_cast<int64_t>(layout.size()))
    return false;
  for (auto [dim, size] : llvm::zip(layout, type.getShape()))
    if (dim.empty() && size != 1)
      return false;
  return true;
}

} // namespace

Analysis::Result Analysis::cast(Operation *op) {
  Fact in = get(op->getOperand(0));
  auto type = ranked(op->getResult(0));
  Expr *e = in.expr;
  if (onnxName(op) == "Identity" || !type)
    return in;
  Type to = type.getElementType();
  if (e->kind == Expr::IdTable || e->kind == Expr::Splat) {
    Expr *out = make(e->kind);
    *out = *e;
    out->origin = Value();
    for (double &v : out->nums)
      v = to.isInteger(1)      ? (v != 0)
          : isa<FloatType>(to) ? static_cast<double>(static_cast<float>(v))
                               : std::trunc(v);
    return Fact{out, in.layout};
  }
  // Positions and counts stay what they are in every integer type, and in
  // float as long as they are counted exactly (below 2^24).
  if (to.isInteger(1)) {
    if (e->kind == Expr::HitCount || e->kind == Expr::Masked)
      return compareCount("Greater", in, {splat(0), Layout(in.layout.size())});
    bool boolean = e->kind == Expr::OneHot || e->kind == Expr::Picked ||
                   e->kind == Expr::Chosen || e->kind == Expr::Below ||
                   e->kind == Expr::Dispatched;
    if (e->kind == Expr::Dispatch) {
      Fact zero{splat(0), Layout(in.layout.size())};
      Result none = capacity("Equal", in, zero, in.layout);
      none->expr->nums = {1};
      return none;
    }
    return boolean ? Result(in) : std::nullopt;
  }
  bool floats = isFloat(op->getOperand(0)), toFloat = isa<FloatType>(to);
  if (e->kind == Expr::Column && toFloat)
    return in; // of a mask: 0 and 1
  bool places = (e->kind >= Expr::Rank && e->kind <= Expr::Dispatched) ||
                (e->kind == Expr::Binary && e->name == "And");
  if (e->kind == Expr::PermFrac && !toFloat) { // toward zero
    Expr *out = make(Expr::PermTok);
    out->ids = e->ids;
    out->order = e->order;
    out->perSlot = true;
    return Fact{out, in.layout};
  }
  if (e->kind == Expr::Binary && toFloat && isChoiceMask(e))
    return in;
  bool ones = e->kind == Expr::DenseW && e->b->kind == Expr::Splat;
  if (places || ones || isIndexKind(e) || floats == toFloat || e->kind == Expr::Counts || e->kind == Expr::OneHot ||
      e->kind == Expr::HitCount || e->kind == Expr::Chosen ||
      e->kind == Expr::Ends || e->kind == Expr::Starts)
    return in;
  return std::nullopt;
}

Analysis::Result Analysis::unary(Operation *op) {
  StringRef n = onnxName(op);
  Fact in = get(op->getOperand(0));
  Expr *e = in.expr;
  if (e->kind == Expr::FilledW)
    return ofFilled(op, in);
  if (n == "Not" && (e->kind == Expr::Chosen || e->kind == Expr::Dispatched)) {
    Expr *out = make(e->kind);
    *out = *e;
    out->origin = Value();
    out->nums = {e->nums[0] == 0 ? 1.0 : 0.0};
    return Fact{out, in.layout};
  }
  if (n == "Not" && (e->kind == Expr::Splat || e->kind == Expr::IdTable)) {
    Expr *out = make(e->kind);
    *out = *e;
    out->origin = Value();
    for (double &v : out->nums)
      v = v == 0;
    return Fact{out, in.layout};
  }
  if ((n == "Floor" || n == "Abs") && (isIndexKind(e) || isIdentity(e)))
    return in;
  if (e->kind == Expr::PermFrac && n == "Abs")
    return in;
  if (e->kind == Expr::PermFrac && (n == "Floor" || n == "Sign")) {
    Expr *out = make(n == "Floor" ? Expr::PermTok : Expr::PermSign);
    out->ids = e->ids;
    out->order = e->order;
    out->perSlot = true;
    return Fact{out, in.layout};
  }
  if (!e->expertLinear || n == "Not")
    return std::nullopt;
  Expr *out = withChildren(Expr::Unary, e);
  out->name = n.str();
  if (n == "Swish")
    out->nums = {floatAttr(op, "alpha", 1.0)};
  if (n == "Gelu" && strAttr(op, "approximate") == "tanh")
    out->name = "GeluTanh";
  return Fact{out, in.layout};
}

Analysis::Result Analysis::clip(Operation *op) {
  Fact in = get(op->getOperand(0));
  double bounds[2] = {-INFINITY, INFINITY};
  for (unsigned i : {1u, 2u}) {
    if (op->getNumOperands() <= i || isAbsent(op->getOperand(i)))
      continue;
    Fact bound = get(op->getOperand(i));
    if (bound.expr->kind != Expr::Splat)
      return std::nullopt;
    bounds[i - 1] = bound.expr->nums[0];
  }
  Expr *e = in.expr;
  if (e->kind == Expr::IdTable) {
    Expr *out = make(Expr::IdTable);
    *out = *e;
    out->origin = Value();
    for (double &v : out->nums)
      v = std::min(std::max(v, bounds[0]), bounds[1]);
    return Fact{out, in.layout};
  }
  if (e->kind == Expr::Place && bounds[0] <= 1 + e->offset && std::isfinite(bounds[1])) {
    Expr *out = make(Expr::Place);
    *out = *e;
    out->origin = Value();
    out->size = std::min(e->size, static_cast<int64_t>(std::floor(bounds[1])));
    return Fact{out, in.layout};
  }
  if (!e->expertLinear)
    return std::nullopt;
  Expr *out = withChildren(Expr::Unary, e);
  out->name = "Clip";
  out->nums = {bounds[0], bounds[1]};
  return Fact{out, in.layout};
}

Analysis::Result Analysis::where(Operation *op) {
  Fact cond = get(op->getOperand(0)), a = get(op->getOperand(1)),
       b = get(op->getOperand(2));
  if (cond.expr->kind == Expr::Splat) {
    const Fact &chosen = cond.expr->nums[0] != 0 ? a : b;
    return fits(chosen.layout, op->getResult(0)) ? Result(chosen)
                                                 : std::nullopt;
  }
  if (Result picked = pickedBy(op, cond, a, b))
    return picked;
  // where(id == e, w, 0) is (id == e) * w for finite w.
  bool zero = b.expr->kind == Expr::Splat && b.expr->nums[0] == 0;
  if (zero && (cond.expr->kind == Expr::IdTable || cond.expr->kind == Expr::OneHot))
    return binaryFacts("Mul", cond, a, op);
  return std::nullopt;
}

Analysis::Result Analysis::binary(Operation *op) {
  StringRef n = onnxName(op);
  if (Result key = stableKey(op))
    return key;
  Fact acc = get(op->getOperand(0));
  auto number = [&](Value v, Fact &fact) {
    auto type = ranked(v);
    if (fact.expr->kind != Expr::Leaf || !type ||
        !type.getElementType().isInteger() || type.getRank() > 1)
      return;
    if (auto i = evalInt(v))
      fact.expr = splat(static_cast<double>(*i));
  };
  number(op->getOperand(0), acc);
  if (n == "Sum" || op->getNumOperands() == 1)
    n = n == "Sum" ? StringRef("Add") : n;
  if (n == "Add" && endsTopOne(op))
    return std::nullopt;
  for (Value v : op->getOperands().drop_front()) {
    Fact next = get(v);
    number(v, next);
    if (n == "Equal") {
      noteTest(acc, next);
      noteTest(next, acc);
    }
    Result sum = binaryFacts(n, acc, next, op);
    if (!sum)
      return std::nullopt;
    acc = *sum;
  }
  return acc;
}

// Index vectors: floor division by k, token * k + slot, sign tests.
Analysis::Result Analysis::indexArithmetic(StringRef n, const Fact &a,
                                           const Fact &b,
                                           const Layout &layout, bool floats) {
  Expr *x = a.expr, *y = b.expr;
  auto with = [&](Expr::Kind kind) {
    Expr *e = make(kind);
    e->ids = x->ids;
    e->expert = x->expert;
    e->order = x->order;
    e->b = x->b;
    e->perSlot = true;
    return Fact{e, layout};
  };
  const Routing *r = routing(x->ids);
  if (!r)
    return std::nullopt;
  int64_t slots = r->dense ? 1 : r->k;
  if (y->kind == Expr::Splat) {
    double c = y->nums[0];
    if (n == "Less" && c <= 0)
      return Fact{splat(0), Layout(layout.size())};
    if (n == "GreaterOrEqual" && c <= 0)
      return Fact{splat(1), Layout(layout.size())};
    if (x->kind == Expr::Perm && n == "Div" && c == slots)
      return with(floats && slots > 1 ? Expr::PermFrac : Expr::PermTok);
    if (x->kind == Expr::HitTok && n == "Mul" && c == slots)
      return with(Expr::HitTokK);
    return std::nullopt;
  }
  bool signs = x->kind == Expr::PermSign || y->kind == Expr::PermSign;
  if (signs && n == "Mul" && y->ids == x->ids && y->order == x->order &&
      (x->kind == Expr::PermTok || y->kind == Expr::PermTok))
    return with(Expr::PermTok);
  if (n == "Add" && y->ids == x->ids && y->order == x->order) {
    if (x->kind == Expr::HitTokK && y->kind == Expr::HitSlot)
      return with(Expr::HitFlat);
    if (x->kind == Expr::HitSlot && y->kind == Expr::HitTokK)
      return with(Expr::HitFlat);
    bool both = (x->kind == Expr::HitTok && y->kind == Expr::HitSlot) ||
                (x->kind == Expr::HitSlot && y->kind == Expr::HitTok);
    if (both && slots == 1) // a factor of one is gone
      return with(Expr::HitFlat);
  }
  return std::nullopt;
}

// Numbers that are the same everywhere: two of them, or one that changes nothing.
std::optional<Analysis::Result> Analysis::foldSplats(StringRef n, const Fact &a,
                                                     const Fact &b,
                                                     Operation *op) {
  const Expr *x = a.expr, *y = b.expr;
  bool xs = x->kind == Expr::Splat, ys = y->kind == Expr::Splat;
  // A number everywhere has no layout of its own.
  Layout units(std::max(a.layout.size(), b.layout.size()));
  if (xs && ys)
    return Fact{splat(fold(n, x->nums[0], y->nums[0], isFloat(op->getOperand(0)))),
                units};
  if (n == "And" && ((xs && x->nums[0] == 0) || (ys && y->nums[0] == 0)))
    return Fact{splat(0), units};
  auto neutral = [&](const Expr *e, bool right) {
    bool sum = n == "Add" || n == "Or" || (right && n == "Sub");
    bool product = n == "Mul" || n == "And" || (right && n == "Div");
    auto number = e->kind == Expr::Splat    ? std::optional(e->nums[0])
                  : e->kind == Expr::Weight ? constSplat(e->origin)
                                            : std::nullopt;
    return number && ((sum && *number == 0) || (product && *number == 1));
  };
  bool neutralY = neutral(y, true);
  if (!neutralY && !neutral(x, false))
    return std::nullopt;
  const Fact &kept = neutralY ? a : b;
  Value by;
  bool known = kept.expr->ids || kept.expr->expertLinear || asLeafTerm(kept.expr, op, by);
  return known && fits(kept.layout, op->getResult(0)) ? Result(kept)
                                                      : Result();
}

// A function of the expert id, and a number or all ids along an axis.
std::optional<Analysis::Result> Analysis::foldTable(StringRef n, const Fact &a,
                                                    const Fact &b, bool floats,
                                                    Layout layout) {
  for (bool flip : {false, true}) {
    const Fact &table = flip ? b : a, &other = flip ? a : b;
    if (table.expr->kind != Expr::IdTable)
      continue;
    if (other.expr->kind == Expr::Splat) {
      Expr *out = make(Expr::IdTable);
      *out = *table.expr;
      out->origin = Value();
      double c = other.expr->nums[0];
      for (double &v : out->nums)
        v = flip ? fold(n, c, v, floats) : fold(n, v, c, floats);
      // Equal for every id: the routing does not matter. The test for the only
      // expert there is stays a test.
      bool only = out->nums.size() == 1 && n == "Equal" && out->nums[0] == 1;
      if (llvm::all_equal(out->nums) && !only)
        return Fact{splat(out->nums.front()), Layout(layout.size())};
      return Fact{out, layout};
    }
    if (other.expr->kind != Expr::Weight || n != "Equal" ||
        !isIdentity(table.expr))
      continue;
    auto numbers = constNumbers(other.expr->origin);
    if (!numbers || numbers->size() != table.expr->nums.size())
      continue;
    for (auto [i, v] : llvm::enumerate(*numbers))
      if (v != static_cast<double>(i))
        return Result();
    Expr *out = make(Expr::OneHot);
    out->ids = table.expr->ids;
    out->perSlot = true;
    for (size_t i = 0; i < other.layout.size(); ++i) {
      if (other.layout[other.layout.size() - 1 - i].empty())
        continue;
      // The ids must not vary along the axis of the numbers.
      if (i < table.layout.size() &&
          !table.layout[table.layout.size() - 1 - i].empty())
        return Result();
      layout[layout.size() - 1 - i] = {
          Atom{Atom::Expert, static_cast<int64_t>(numbers->size())}};
    }
    return Fact{out, layout};
  }
  return std::nullopt;
}

// Whether an expert was chosen at all, or by a token with a weight above 0.
Analysis::Result Analysis::compareCount(StringRef n, const Fact &a,
                                        const Fact &b) {
  if (b.expr->kind != Expr::Splat)
    return std::nullopt;
  double limit = b.expr->nums[0];
  const Expr *x = a.expr;
  if (x->kind == Expr::Counts && n == "Greater" && limit == 0)
    fail(a.expr->origin.getDefiningOp(), x->ids,
         "the experts that were hit are listed, and the length of the list was fixed with the "
         "exporter's sample,",
         true);
  if (x->kind == Expr::HitCount) {
    bool some = (n == "Greater" && limit == 0) ||
                (n == "GreaterOrEqual" && limit == 1);
    bool none = (n == "Equal" && limit == 0) || (n == "Less" && limit == 1) ||
                (n == "LessOrEqual" && limit == 0);
    if (!some && !none)
      return std::nullopt;
    Expr *e = make(Expr::Chosen);
    e->ids = x->ids;
    e->expert = x->expert;
    e->nums = {some ? 1.0 : 0.0};
    return Fact{e, a.layout};
  }
  bool column = x->kind == Expr::Column;
  if ((x->kind != Expr::Masked && !column) || n != "Greater" || limit != 0)
    return std::nullopt;
  Expr *e = make(Expr::Picked);
  e->ids = column ? denseRouting(x->a, x->size) : x->ids;
  if (!e->ids)
    return std::nullopt;
  e->expert = x->expert;
  Expr *weight = column ? x->a : x->b;
  bool ones = weight->kind == Expr::Splat && weight->nums[0] == 1;
  e->a = ones ? nullptr : weight;
  return Fact{e, a.layout};
}

// One value for each token, the same for all experts.
static bool oneOfExperts(const Layout &layout) {
  for (const Dim &dim : layout)
    for (const Atom &atom : dim)
      if (atom.kind != Atom::Tok)
        return false;
  return true;
}

Analysis::Result Analysis::binaryFacts(StringRef n, const Fact &a,
                                       const Fact &b, Operation *op) {
  if (auto done = foldSplats(n, a, b, op))
    return *done;
  if (n == "Mul") {
    if (auto w = acrossExperts(a, b))
      return binaryFacts(n, *w, b, op);
    if (auto w = acrossExperts(b, a))
      return binaryFacts(n, a, *w, op);
  }
  if (Result count = compareCount(n, a, b))
    return count;
  auto layout = broadcast(a.layout, b.layout);
  if (!layout)
    return std::nullopt;
  if (auto done = foldTable(n, a, b, isFloat(op->getOperand(0)), *layout))
    return *done;
  Expr *x = a.expr, *y = b.expr;
  for (bool flip : {false, true}) {
    const Fact &place = flip ? b : a, &other = flip ? a : b;
    auto numbers = n == "Equal" && place.expr->kind == Expr::Place &&
                           other.expr->kind == Expr::Weight
                       ? constNumbers(other.expr->origin)
                       : std::nullopt;
    bool inOrder = numbers && layout->back().size() == 1 &&
                   (place.layout.empty() || place.layout.back().empty());
    for (size_t i = 0; inOrder && i < numbers->size(); ++i)
      inOrder = (*numbers)[i] == static_cast<double>(i);
    if (inOrder)
      return placeHot(place, static_cast<int64_t>(numbers->size()), *layout);
  }
  // Of a one-hot row whether its element is 1.
  if (n == "Greater" && x->kind == Expr::OneHot && y->kind == Expr::Splat &&
      y->nums[0] >= 0 && y->nums[0] < 1)
    return a;
  if (Result places = capacity(n, a, b, *layout))
    return places;
  auto aboutPlaces = [](const Expr *e) {
    return e->kind >= Expr::Rank && e->kind <= Expr::PlaceSum;
  };
  if ((aboutPlaces(x) && x->kind != Expr::Below) || (aboutPlaces(y) && y->kind != Expr::Below))
    return std::nullopt;
  // Where an expert's rows end, less how many there are: where they begin.
  if (n == "Sub" && x->kind == Expr::End && y->kind == Expr::Count &&
      x->ids == y->ids && x->expert == y->expert) {
    Expr *begin = make(Expr::End);
    begin->ids = x->ids;
    begin->expert = x->expert - 1;
    return Fact{begin->expert < 0 ? splat(0) : begin, *layout};
  }
  // Constants of several axes go with the experts, not with slots or tokens.
  for (const Fact *f : {&a, &b}) {
    if (f->expr->kind != Expr::Weight || dropUnits(f->layout).size() < 2)
      continue;
    size_t shift = layout->size() - f->layout.size();
    for (size_t i = 0; i + 1 < f->layout.size(); ++i)
      if (!f->layout[i].empty() && !isAtom((*layout)[shift + i], Atom::Expert))
        return std::nullopt;
  }
  if (isIndexKind(x) && (y->kind == Expr::Splat || isIndexKind(y)))
    return indexArithmetic(n, a, b, *layout, isFloat(op->getOperand(0)));
  if (n == "Mul")
    if (Result weighed = weighPicked(a, b, *layout))
      return weighed;
  if (n == "Add")
    if (Result slots = joinSlots(a, b))
      return slots;
  if (n == "Add")
    if (Result terms = sumTerms(op, a, b))
      return terms;
  // The mask of the only slot times its weight.
  for (const Fact *mask : {&a, &b}) {
    const Fact &w = mask == &a ? b : a;
    const Routing *only = n == "Mul" && mask->expr->kind == Expr::OneHot
                              ? routing(mask->expr->ids)
                              : nullptr;
    if (!only || only->k != 1 || w.expr->expertLinear ||
        (w.expr->ids && w.expr->ids != only->ids) || !oneOfExperts(w.layout))
      continue;
    Expr *dense = make(Expr::DenseW);
    dense->ids = only->ids;
    dense->b = w.expr;
    return Fact{dense, *layout};
  }
  // Weights that other ids made are some tensor to these.
  auto foreign = [&](Expr *&e, const Expr *other) {
    bool value = e->kind == Expr::Binary || e->kind == Expr::Unary;
    if (!value || e->expertLinear || !other->expertLinear || !e->ids ||
        !other->ids || e->ids == other->ids || !e->origin)
      return;
    Expr *leaf = make(Expr::Leaf);
    leaf->origin = e->origin;
    leaf->originLayout = e->originLayout;
    e = leaf;
  };
  foreign(x, y);
  foreign(y, x);
  bool known = x->expertLinear || y->expertLinear || x->ids || y->ids;
  if (!known || (x->ids && y->ids && x->ids != y->ids))
    return std::nullopt;
  static const llvm::StringSet<> arithmetic = {"Add", "Sub", "Mul", "Div",
                                               "Min", "Max", "Pow"};
  auto closed = [](const Expr *e) {
    return e->kind == Expr::Terms || e->kind == Expr::AllTerms || isIndexKind(e);
  };
  bool both = n == "And" && (x->kind == Expr::OneHot || y->kind == Expr::OneHot);
  for (Expr *e : {x, y})
    if (const Routing *r = e->kind == Expr::Terms && !e->apart ? routing(e->ids) : nullptr;
        r && n != "Add" && e->terms.size() > 1 &&
        static_cast<int64_t>(e->terms.size()) < r->experts) {
      fail(op, e->ids, "the sum is changed before all experts are added", true);
      consumed_.insert(e);
    }
  if ((!arithmetic.contains(n) && !both) || closed(x) || closed(y))
    return std::nullopt;
  Expr *out = withChildren(Expr::Binary, x, y);
  out->name = n.str();
  // Vectors of the chosen expert are its parameters like matrices.
  for (const Fact *f : {&a, &b})
    out->expertLinear |= f->expr->kind == Expr::Gathered &&
                         llvm::any_of(f->layout, [](const Dim &dim) { return isAtom(dim, Atom::Any); });
  // The contribution of the only expert is a sum already.
  const Routing *r = n == "Mul" ? routing(out->ids) : nullptr;
  Value by;
  if (auto term = r && r->experts == 1 ? asTerm(out, op, by) : std::nullopt) {
    out = make(Expr::Terms);
    out->ids = r->ids;
    out->terms.push_back(*term);
  }
  return Fact{out, *layout};
}

// Whether the places of a mask's ones are taken, as a loop over experts does.
static bool feedsNonZero(Operation *op, int depth = 0) {
  if (isOnnx(op, "NonZero"))
    return true;
  StringRef n = onnxName(op);
  bool view = depth == 0 || n == "Cast" || n == "Gather" || n == "Transpose" ||
              n == "Squeeze" || n == "Split" || n == "Slice" || n == "Reshape";
  return view && depth < 8 && llvm::any_of(op->getUsers(), [&](Operation *user) {
           return feedsNonZero(user, depth + 1);
         });
}

Analysis::Result Analysis::oneHot(Operation *op) {
  Fact in = get(op->getOperand(0));
  auto type = ranked(op->getResult(0));
  auto values = constNumbers(op->getOperand(2));
  if (auto given = evalInt(op->getOperand(1)); given && feedsNonZero(op))
    noteIds(in, *given, true);
  if (!type || !values || values->size() != 2 || (*values)[0] != 0 || (*values)[1] != 1)
    return std::nullopt;
  if (auto given = evalInt(op->getOperand(1)); given && in.expr->kind == Expr::Place) {
    bool last = intAttr(op, "axis", -1) == -1 ||
                intAttr(op, "axis", -1) == type.getRank() - 1;
    Layout layout = in.layout;
    layout.push_back({Atom{Atom::Any, *given}});
    return last ? placeHot(in, *given, layout) : std::nullopt;
  }
  if (!isIdentity(in.expr))
    return std::nullopt;
  int64_t depth = static_cast<int64_t>(in.expr->nums.size());
  // A class more than there are experts has no ones.
  auto classes = evalInt(op->getOperand(1));
  if (!classes || *classes < depth) {
    fail(op, in.expr->ids,
         "the one-hot mask has another depth than the router has columns");
    return std::nullopt;
  }
  depth = *classes;
  int64_t axis = intAttr(op, "axis", -1);
  if (axis < 0)
    axis += type.getRank();
  if (axis < 0 || axis > static_cast<int64_t>(in.layout.size()))
    return std::nullopt;
  Expr *out = make(Expr::OneHot);
  out->ids = in.expr->ids;
  out->perSlot = true;
  Layout layout = in.layout;
  layout.insert(layout.begin() + axis, Dim{{Atom::Expert, depth}});
  return Fact{out, layout};
}

} // namespace moec::raise
