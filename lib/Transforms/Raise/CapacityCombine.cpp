// Capacities (Switch, GShard): tokens are dispatched to the places of their
// experts, [experts, places, H], and what the experts make of them is combined.
//
// A token's place is the number of tokens before it that chose its expert, so
// that no two tokens share one. Then the combine gives each token the result of
// its own experts, under the weights that stand at its places; a token without
// a place has none. What limits the places does not matter.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

namespace {

void factorsOf(Expr *e, SmallVectorImpl<Expr *> &out) {
  if (e->kind == Expr::Binary && (e->name == "Mul" || e->name == "And")) {
    factorsOf(e->a, out);
    factorsOf(e->b, out);
  } else {
    out.push_back(e);
  }
}

// A tensor of nothing but 0 and 1.
bool isBoolean(const Expr *e) {
  if (e->kind == Expr::OneHot || e->kind == Expr::Below)
    return true;
  Value v = e->origin;
  for (int depth = 0; v && depth < 6; ++depth) {
    auto type = ranked(v);
    if (type && type.getElementType().isInteger(1))
      return true;
    Operation *op = v.getDefiningOp();
    StringRef n = onnxName(op);
    if (n != "Cast" && n != "Unsqueeze" && n != "Squeeze" && n != "Reshape")
      return false;
    v = op->getOperand(0);
  }
  return false;
}

// `e` is 0 wherever `root`, its only factor of the kind, is 0.
struct Support {
  Expr *root = nullptr;
  bool boolean = true;
  std::optional<int64_t> limit; // of the number of tokens up to this one
  SmallVector<Expr *> factors;
};
std::optional<Support> supportOf(Expr *e) {
  Support s;
  factorsOf(e, s.factors);
  for (Expr *f : s.factors) {
    if (f->kind == Expr::OneHot && (!s.root || s.root == f))
      s.root = f;
    else if (f->kind == Expr::OneHot)
      return std::nullopt;
    s.boolean &= isBoolean(f);
  }
  for (Expr *f : s.factors)
    if (f->kind == Expr::Below && f->a == s.root)
      s.limit = std::min(s.limit.value_or(f->size), f->size);
  return s.root ? std::optional(s) : std::nullopt;
}

bool isCapacityKind(const Expr *e) { return e->kind >= Expr::Rank && e->kind <= Expr::PlaceSum; }

// A choice of at most one expert for each token, along [tokens, experts].
bool isChoice(const Fact &f) {
  Layout wide = dropUnits(f.layout);
  return f.expr->kind == Expr::OneHot && wide.size() == 2 && isAtom(wide[0], Atom::Tok) &&
         isAtom(wide[1], Atom::Expert);
}

bool isTokens(const Dim &dim) { return isAtom(dim, Atom::Tok); }

// No element is below 0, as far as the operations that make it say.
bool nonNegative(Value v, int depth = 0) {
  auto type = ranked(v);
  if (type && (type.getElementType().isInteger(1) || type.getElementType().isUnsignedInteger()))
    return true;
  if (auto numbers = constNumbers(v))
    return llvm::all_of(*numbers, [](double x) { return x >= 0; });
  Operation *op = v.getDefiningOp();
  StringRef n = onnxName(op);
  if (!op || depth > 24)
    return false;
  static const llvm::StringSet<> always = {"Softmax", "Sigmoid", "Relu",  "Exp",    "Softplus",
                                           "Abs",     "OneHot",  "Shape", "NonZero"};
  static const llvm::StringSet<> kept = {
      "Cast",   "Unsqueeze", "Squeeze",   "Reshape",    "Transpose", "Identity",       "Flatten",
      "Expand", "Slice",     "Split",     "Tile",       "Gather",    "GatherElements", "GatherND",
      "TopK",   "ReduceSum", "ReduceMax", "ReduceMean", "Sqrt",      "CumSum"};
  static const llvm::StringSet<> both = {"Add", "Mul", "Div", "Max", "Min", "Sum", "Pow"};
  if (always.contains(n))
    return n != "OneHot" || nonNegative(op->getOperand(2), depth + 1);
  if (n == "Clip" && op->getNumOperands() > 1 && !isAbsent(op->getOperand(1)) &&
      nonNegative(op->getOperand(1), depth + 1))
    return true;
  if (n == "TopK" && v != op->getResult(0))
    return true;
  if (kept.contains(n))
    return nonNegative(op->getOperand(0), depth + 1);
  return both.contains(n) &&
         llvm::all_of(op->getOperands(), [&](Value x) { return nonNegative(x, depth + 1); });
}

// All places of `later` are behind those of `first`.
bool behind(const Expr *later, const Expr *first) {
  return llvm::is_contained(later->args, first->a) && later->offset >= first->offset;
}

} // namespace

// CumSum of a choice over the tokens.
Analysis::Result Analysis::runningCount(Operation *op, const Fact &in) {
  auto axis = op->getNumOperands() > 1 ? evalInt(op->getOperand(1)) : std::nullopt;
  if (!isChoice(in) || !axis || intAttr(op, "reverse", 0) != 0)
    return std::nullopt;
  int64_t at = *axis < 0 ? *axis + in.layout.size() : *axis;
  if (at < 0 || at >= static_cast<int64_t>(in.layout.size()) || !isTokens(in.layout[at]))
    return std::nullopt;
  Expr *e = make(Expr::Rank);
  e->ids = in.expr->ids;
  e->a = in.expr;
  e->offset = intAttr(op, "exclusive", 0) ? -1 : 0;
  return Fact{e, in.layout};
}

// A choice summed over the tokens; a rank summed over the experts.
Analysis::Result Analysis::countOrPlace(const Fact &in, const Dim &summed, const Layout &rest) {
  Expr *x = in.expr;
  if (isChoice(in) && isTokens(summed)) {
    Expr *e = make(Expr::Counts);
    e->ids = x->ids;
    e->a = x;
    return Fact{e, rest};
  }
  if (x->kind != Expr::Rank || !x->b || !isAtom(summed, Atom::Expert))
    return std::nullopt;
  auto support = supportOf(x->b);
  if (!support || !support->boolean)
    return std::nullopt;
  Expr *e = make(Expr::Place);
  *e = *x;
  e->kind = Expr::Place;
  e->origin = Value();
  e->size = std::numeric_limits<int64_t>::max();
  return Fact{e, rest};
}

// The place as a one-hot row.
Analysis::Result Analysis::placeHot(const Fact &place, int64_t places, Layout layout) {
  if (place.expr->kind != Expr::Place || places < 1)
    return std::nullopt;
  Expr *e = make(Expr::PlaceHot);
  e->ids = place.expr->ids;
  e->a = place.expr;
  e->size = places;
  return Fact{e, layout};
}

// [tokens, experts] weights times [tokens, places].
Analysis::Result Analysis::dispatchOf(const Fact &weights, const Fact &hot, const Layout &layout) {
  Expr *place = hot.expr->a;
  auto support = supportOf(weights.expr);
  Layout wide = dropUnits(layout);
  bool axes = wide.size() == 3 && isTokens(wide[0]) && isAtom(wide[1], Atom::Expert) &&
              isAtom(wide[2], Atom::Any);
  if (!support || !axes || support->root != place->a)
    return std::nullopt;
  // The place is the rank wherever the weights are not 0.
  SmallVector<Expr *> kept;
  factorsOf(place->b, kept);
  for (Expr *f : kept)
    if (f != support->root && llvm::none_of(support->factors, [&](Expr *g) { return same(f, g); }))
      return std::nullopt;
  // A place that was limited is not one that is dropped.
  if (place->size != std::numeric_limits<int64_t>::max() &&
      (!support->limit || !place->args.empty() || *support->limit + place->offset > place->size))
    return std::nullopt;
  Expr *e = make(Expr::Dispatch);
  e->ids = weights.expr->ids;
  e->places.push_back({support->root, place, support->boolean});
  return Fact{e, layout};
}

Analysis::Result Analysis::joinDispatches(const Fact &a, const Fact &b, const Layout &layout) {
  for (const Placing &p : a.expr->places)
    for (const Placing &q : b.expr->places)
      if (!behind(p.place, q.place) && !behind(q.place, p.place))
        return std::nullopt;
  Expr *e = make(Expr::Dispatch);
  e->ids = a.expr->ids;
  e->places = a.expr->places;
  e->places.append(b.expr->places.begin(), b.expr->places.end());
  return Fact{e, layout};
}

// Operations on two tensors of which one is about places. `layout` is theirs.
Analysis::Result Analysis::capacity(StringRef n, const Fact &a, const Fact &b,
                                    const Layout &layout) {
  for (bool flip : {false, true}) {
    const Fact &f = flip ? b : a, &g = flip ? a : b;
    Expr *x = f.expr, *y = g.expr;
    bool number = y->kind == Expr::Splat;
    double c = number ? y->nums[0] : 0;
    auto like = [&](Expr::Kind kind) {
      Expr *e = make(kind);
      *e = *x;
      e->kind = kind;
      e->origin = Value();
      return e;
    };
    if (x->kind == Expr::Rank || x->kind == Expr::Place) {
      bool adds = n == "Add" || (n == "Sub" && !flip);
      if (number && adds && c == std::floor(c)) {
        Expr *e = like(x->kind);
        e->offset += static_cast<int64_t>(n == "Sub" ? -c : c);
        if (x->kind == Expr::Rank)
          e->b = nullptr; // no longer 0 elsewhere
        return Fact{e, f.layout};
      }
      if (x->kind == Expr::Rank && n == "Add" && y->kind == Expr::Counts && y->a) {
        Expr *e = like(Expr::Rank);
        e->args.push_back(y->a);
        e->b = nullptr;
        return Fact{e, layout};
      }
      auto support = x->kind == Expr::Rank && n == "Mul" ? supportOf(y) : std::nullopt;
      if (support && support->root == x->a) {
        Expr *e = like(Expr::Rank);
        e->b = y;
        return Fact{e, layout};
      }
      bool less = n == "Less" || n == "LessOrEqual";
      if (x->kind == Expr::Rank && number && !flip && less) {
        Expr *e = like(Expr::Below);
        e->size = static_cast<int64_t>(n == "Less" ? std::ceil(c) - 1 : std::floor(c)) - x->offset;
        return Fact{e, f.layout};
      }
    }
    if (x->kind == Expr::PlaceHot && n == "Mul")
      return dispatchOf(g, f, layout);
    if (x->kind == Expr::Dispatch && n == "Add" && y->kind == Expr::Dispatch)
      return joinDispatches(f, g, layout);
    if (x->kind == Expr::Dispatch && n == "Mul" && !isCapacityKind(y)) {
      Expr *e = like(Expr::Dispatch); // other weights at the same places
      e->a = x;
      for (Placing &p : e->places)
        p.ones = false;
      return Fact{e, layout};
    }
    if (x->kind == Expr::Dispatch && number && c == 0 && !flip &&
        (n == "Greater" || n == "Equal")) {
      Expr *e = make(Expr::Dispatched);
      e->ids = x->ids;
      e->a = x;
      e->name = n.str();
      e->nums = {n == "Equal" ? 0.0 : 1.0};
      return Fact{e, f.layout};
    }
  }
  return std::nullopt;
}

// Places of capacities; a result of none: nothing more is known.
std::optional<Analysis::Result> Analysis::placeFacts(StringRef n, const Fact &a, const Fact &b,
                                                     const Layout &layout) {
  const Expr *x = a.expr, *y = b.expr;
  for (bool flip : {false, true}) {
    const Fact &place = flip ? b : a, &other = flip ? a : b;
    auto numbers =
        n == "Equal" && place.expr->kind == Expr::Place && other.expr->kind == Expr::Weight
            ? constNumbers(other.expr->origin)
            : std::nullopt;
    bool inOrder = numbers && layout.back().size() == 1 &&
                   (place.layout.empty() || place.layout.back().empty());
    for (size_t i = 0; inOrder && i < numbers->size(); ++i)
      inOrder = (*numbers)[i] == static_cast<double>(i);
    if (inOrder)
      return placeHot(place, static_cast<int64_t>(numbers->size()), layout);
  }
  // Of a one-hot row whether its element is 1.
  if (n == "Greater" && x->kind == Expr::OneHot && y->kind == Expr::Splat && y->nums[0] >= 0 &&
      y->nums[0] < 1)
    return Result(a);
  if (Result places = capacity(n, a, b, layout))
    return places;
  auto about = [](const Expr *e) {
    return e->kind >= Expr::Rank && e->kind <= Expr::PlaceSum && e->kind != Expr::Below;
  };
  if (about(x) || about(y))
    return Result(); // engaged: nothing more is known
  return std::nullopt;
}

// Tokens at the places of their experts: [experts, places, tokens] x [tokens, H].
Analysis::Result Analysis::bucketsOf(const Fact &a, const Fact &b) {
  const Expr *d = a.expr;
  bool ones = d->kind == Expr::Dispatched && d->nums[0] == 1;
  if (d->kind == Expr::Dispatch)
    ones = llvm::all_of(d->places, [](const Placing &p) { return p.ones; });
  size_t n = b.layout.size();
  if (!ones || a.layout.size() < 2 || n < 2 || !isTokens(a.layout.back()) ||
      !isTokens(b.layout[n - 2]) || isCapacityKind(b.expr) || b.expr->ids)
    return std::nullopt;
  for (size_t i = 0; i + 2 < n; ++i)
    if (!b.layout[i].empty())
      return std::nullopt;
  Fact out{b.expr, a.layout};
  out.layout.pop_back();
  SmallVector<Atom, 8> atoms = flatten(out.layout);
  if (atoms.size() != 2 || atoms[0].kind != Atom::Expert || atoms[1].kind != Atom::Any)
    return std::nullopt;
  for (Dim &dim : out.layout)
    for (Atom &atom : dim)
      if (atom.kind == Atom::Any) {
        atom.kind = Atom::Bucket;
        atom.ids = d->origin;
      }
  out.layout.push_back(b.layout.back());
  return out;
}

// The experts' results back at their tokens: [tokens, experts * places] x
// [experts * places, H].
Analysis::Result Analysis::combineBuckets(Operation *op, const Fact &a, const Fact &b) {
  Expr *d = a.expr;
  size_t n = b.layout.size(), m = a.layout.size();
  if (d->kind != Expr::Dispatch || !b.expr->expertLinear || b.expr->ids || n < 2 || m < 2 ||
      !isTokens(a.layout[m - 2]))
    return std::nullopt;
  const Dim &from = a.layout[m - 1], &to = b.layout[n - 2];
  if (from.size() != 2 || to.size() != 2 || from[0].kind != Atom::Expert ||
      from[1].kind != Atom::Any || to[0].kind != Atom::Expert || to[1].kind != Atom::Bucket ||
      from[1].size != to[1].size)
    return std::nullopt;
  // The places that the tokens were brought to.
  Expr *brought = get(to[1].ids).expr;
  bool matches = brought->kind == Expr::Dispatched && brought->a == d;
  for (Expr *e = d; e && !matches; e = e->a)
    matches = e == brought;
  if (matches && brought->kind == Expr::Dispatched && brought->name == "Greater")
    matches = nonNegative(d->origin);
  auto type = ranked(d->origin);
  Layout stored = dropUnits(d->originLayout);
  bool inOrder = type && type.getRank() == 3 && stored.size() == 3 && isTokens(stored[0]) &&
                 isAtom(stored[1], Atom::Expert);
  if (!matches || !inOrder) {
    fail(op, d->ids, "the results are not combined at the places of their tokens", true);
    return std::nullopt;
  }
  Routing r;
  r.topk = d->origin.getDefiningOp();
  r.ids = r.values = r.scores = d->origin;
  r.k = r.experts = from[0].size;
  r.dense = r.places = true;
  routings_.insert({r.ids, r});
  Expr *weight = make(Expr::PlaceSum);
  weight->a = d;
  weight->origin = d->origin;
  Expr *w = make(Expr::DenseW);
  w->ids = r.ids;
  w->b = weight;
  Expr *product = withChildren(Expr::Binary, w, b.expr);
  product->name = "Mul";
  Expr *all = make(Expr::AllTerms);
  all->a = product;
  all->ids = r.ids;
  Layout layout(a.layout.begin(), a.layout.end() - 1);
  layout.push_back(b.layout.back());
  return Fact{all, layout};
}

} // namespace moec::raise
