#include "Elementwise.h"

using namespace mlir;

namespace moec::raise {

Expr *Analysis::make(Expr::Kind kind) {
  exprs_.emplace_back();
  exprs_.back().kind = kind;
  return &exprs_.back();
}

Expr *Analysis::splat(double number) {
  Expr *e = make(Expr::Splat);
  e->nums = {number};
  return e;
}

Expr *Analysis::withChildren(Expr::Kind kind, Expr *a, Expr *b) {
  Expr *e = make(kind);
  e->a = a;
  e->b = b;
  for (Expr *child : {a, b}) {
    if (!child)
      continue;
    if (!e->ids)
      e->ids = child->ids;
    e->expertLinear |= child->expertLinear;
    e->perSlot |= child->perSlot;
  }
  return e;
}

const Routing *Analysis::routing(Value ids) const {
  auto it = routings_.find(ids);
  return it == routings_.end() ? nullptr : &it->second;
}

void Analysis::fail(Operation *op, Value ids, Twine reason, bool late) {
  if (ids)
    failures_[ids].push_back({op, reason.str(), late});
}

void Analysis::set(Value v, Fact fact) {
  bool place = fact.expr->kind >= Expr::Rank && fact.expr->kind <= Expr::PlaceSum;
  if (auto it = reading_.ids.find(v); it != reading_.ids.end() && !place)
    fact = givenFact(v, it->second);
  if (!fact.expr->origin) {
    fact.expr->origin = v;
    fact.expr->originLayout = fact.layout;
  }
  facts_[v] = std::move(fact);
}

Fact Analysis::get(Value v) {
  auto it = facts_.find(v);
  if (it != facts_.end())
    return it->second;
  Fact fact;
  auto type = ranked(v);
  if (type && isWeight(v)) {
    if (auto number = constSplat(v); number && type.getNumElements() == 1)
      fact.expr = splat(*number);
    else
      fact.expr = make(Expr::Weight);
    if (fact.expr->kind == Expr::Weight)
      fact.expr->weights.items = {{v, -1}};
    for (auto [axis, d] : llvm::enumerate(type.getShape())) {
      Atom atom{Atom::Any, d};
      atom.axis = static_cast<int>(axis);
      fact.layout.push_back(d == 1 ? Dim() : Dim{atom});
    }
  } else {
    fact.expr = make(Expr::Leaf);
    // Each iteration of a loop has tensors of its own.
    if (looped_ && looped_->isAncestor(v.getParentRegion()))
      fact.expr->expert = iteration_;
    if (type)
      fact.layout = numbersOfTokens(v) ? Layout{Dim{{Atom::Tok, type.getDimSize(0)}}}
                    : reading_.channels.values.contains(v) ? channelLayout(type)
                                                           : leafLayout(type);
  }
  set(v, fact);
  return facts_[v];
}

// One number for each token, [tokens] of known size, which is no row of features:
// summed over another axis, or computed from such numbers.
bool Analysis::numbersOfTokens(Value v) {
  auto type = ranked(v);
  Operation *op = v.getDefiningOp();
  if (!op || !type || type.getRank() != 1 || type.getDimSize(0) < 2 || !isFloat(v))
    return false;
  StringRef n = onnxName(op);
  auto tokens = [&](Value x, int64_t rank) {
    auto from = ranked(x);
    return from && from.getRank() == rank && from.getDimSize(0) == type.getDimSize(0) &&
           isAtom(get(x).layout.front(), Atom::Tok);
  };
  if (n == "ReduceSum" || n == "ReduceMax") {
    auto axis = op->getNumOperands() > 1 ? evalInt(op->getOperand(1)) : std::nullopt;
    return axis && (*axis == 1 || *axis == -1) && tokens(op->getOperand(0), 2);
  }
  static const llvm::StringSet<> each = {"Add", "Sub", "Mul", "Div", "Clip", "Max", "Sqrt"};
  return each.contains(n) && llvm::any_of(op->getOperands(), [&](Value x) { return tokens(x, 1); });
}

void Analysis::run(Block &block) {
  block_ = &block;
  for (Operation &op : block)
    visit(&op);
}

void Analysis::setLeaves(Operation *op) {
  // A body reads what surrounds it without naming it as an operand.
  op->walk([&](Operation *inner) {
    // Pairs of a token and its id are read where they are used.
    if (isOnnx(inner, "Concat") && get(inner->getOperand(0)).expr->kind == Expr::Iota)
      return;
    for (Value operand : inner->getOperands()) {
      auto it = facts_.find(operand);
      if (it == facts_.end())
        continue;
      bool shapeOnly = isOnnx(inner, "Shape") || isOnnx(inner, "Size") || isOnnx(inner, "Mod");
      if (!shapeOnly)
        completeTopOne(operand);
      Expr *e = it->second.expr;
      bool done = (e->kind == Expr::Terms && !e->apart) ||
                  e->kind == Expr::AllTerms;
      if (e->ids && !done && !shapeOnly)
        fail(op, e->ids,
             e->expertLinear ? "an expert's result enters an operation that is "
                               "no part of an expert or a combine"
                             : "a routing index enters an operation that is no "
                               "part of a known dispatch",
             e->expertLinear);
    }
  });
}

void Analysis::visit(Operation *op) {
  StringRef name = onnxName(op);
  if ((name == "Loop" && loop(op)) || (name == "If" && branch(op)))
    return;
  if (name.empty() || op->getNumRegions() != 0 || op->getNumResults() == 0)
    return setLeaves(op);
  if (name == "TopK") {
    if (!topk(op))
      setLeaves(op);
    return;
  }
  if (name == "ArgMax") {
    if (!argmax(op))
      setLeaves(op);
    return;
  }
  if (name == "Split") {
    if (!(manyFeatures(op) && opaque(op)) && !split(op) && !opaque(op))
      setLeaves(op);
    return;
  }
  if (name == "Constant" || name == "None")
    return;
  // Integers of shape computations stay leaves unless a routing is inside.
  Result result = eachOf(op, /*joined=*/true);
  if (!result)
    result = eachWeighed(op);
  if (!result && manyFeatures(op) && opaque(op))
    return;
  if (!result)
    result = dispatch(op);
  if (!result)
    result = eachOf(op, /*joined=*/false);
  if (!result)
    result = roundedLeaf(op);
  if (!result && opaque(op))
    return;
  if (!result)
    return setLeaves(op);
  set(op->getResult(0), *result);
}

Analysis::Result Analysis::dispatch(Operation *op) {
  StringRef n = onnxName(op);
  using Fn = Result (Analysis::*)(Operation *);
  static const llvm::StringMap<Fn> table = {
      {"Reshape", &Analysis::reshape},
      {"Flatten", &Analysis::flattenOp},
      {"Squeeze", &Analysis::squeeze},
      {"Unsqueeze", &Analysis::squeeze},
      {"Transpose", &Analysis::transposeOp},
      {"Expand", &Analysis::expand},
      {"ConstantOfShape", &Analysis::expand},
      {"Tile", &Analysis::tile},
      {"Slice", &Analysis::slice},
      {"Cast", &Analysis::cast},
      {"Identity", &Analysis::cast},
      {"Clip", &Analysis::clip},
      {"Where", &Analysis::where},
      {"OneHot", &Analysis::oneHot},
      {"MatMul", &Analysis::matmul},
      {"Gemm", &Analysis::gemm},
      {"Conv", &Analysis::conv},
      {"Gather", &Analysis::gather},
      {"GatherElements", &Analysis::gatherElements},
      {"GatherND", &Analysis::gatherND},
      {"NonZero", &Analysis::nonZero},
      {"Concat", &Analysis::concat},
      {"CumSum", &Analysis::cumSum},
      {"Range", &Analysis::range},
      {"ScatterND", &Analysis::scatterND},
      {"ScatterElements", &Analysis::scatterElements},
      {"ReduceSum", &Analysis::reduceSum},
      {"ReduceMax", &Analysis::reduceMax},
  };
  auto it = table.find(n);
  if (it != table.end())
    return (this->*it->second)(op);
  if (n == "Softmax")
    return ofFilled(op, get(op->getOperand(0)));
  static const llvm::StringSet<> binaries = {
      "Add", "Sub", "Mul", "Div", "Min",  "Max",  "Pow",           "Sum",
      "And", "Or",  "Xor", "Mod", "Less", "Equal", "Greater", "GreaterOrEqual",
      "LessOrEqual"};
  if (binaries.contains(n))
    return binary(op);
  static const llvm::StringSet<> unaries = {
      "Sigmoid", "Tanh", "Relu", "Gelu", "Erf", "Swish", "Neg",
      "Floor",   "Abs",  "Sign", "Not",  "Exp",  "Softplus"};
  if (unaries.contains(n))
    return unary(op);
  return std::nullopt;
}

std::vector<Expr *> Analysis::candidates() {
  std::vector<Expr *> out;
  for (Expr &e : exprs_)
    if ((e.kind == Expr::Terms || e.kind == Expr::AllTerms) && e.origin &&
        e.origin.getParentBlock() == block_ && !e.apart && e.nums.empty() &&
        !consumed_.contains(&e))
      out.push_back(&e);
  return out;
}

namespace {

bool sameUpTo(const Expr *a, const Expr *b, int depth) {
  if (a == b)
    return true;
  if (!a || !b || depth > 10 || a->kind != b->kind || a->name != b->name ||
      a->nums != b->nums || a->ids != b->ids || a->nk != b->nk ||
      a->offset != b->offset || a->size != b->size ||
      a->stride != b->stride || a->expert != b->expert ||
      a->order != b->order || a->args.size() != b->args.size() ||
      a->weights.items.size() != b->weights.items.size())
    return false;
  for (auto [x, y] : llvm::zip(a->weights.items, b->weights.items))
    if (x.value != y.value || x.index != y.index)
      return false;
  if (a->kind == Expr::Joined)
    return llvm::all_of(llvm::zip(a->args, b->args), [&](auto pair) {
      return sameUpTo(std::get<0>(pair), std::get<1>(pair), depth + 1);
    });
  if (a->kind == Expr::Leaf || a->kind == Expr::Opaque || a->kind == Expr::Terms ||
      a->kind == Expr::AllTerms)
    return a->origin == b->origin;
  return sameUpTo(a->a, b->a, depth + 1) && sameUpTo(a->b, b->b, depth + 1);
}

// `linears` counts the linear maps above: what the second one reads is the
// expert's input, which all experts must share.
Expr *zipLevel(Analysis &analysis, ArrayRef<Expr *> exprs, int linears,
          std::string &why) {
  Expr *first = exprs.front();
  bool shared = llvm::all_of(exprs, [&](Expr *e) { return e == first; });
  // With one expert "shared" says nothing.
  if (shared && (linears >= 2 || exprs.size() > 1))
    return first;
  // More layers of pixels than two have no operations that a region could take as they are.
  bool layers = analysis.pixels() && llvm::none_of(exprs, [](Expr *e) {
    return !e || e->kind == Expr::Leaf || e->kind == Expr::Opaque;
  });
  if (linears >= 2 && !layers) {
    why = "the experts read more than one source of tokens";
    return nullptr;
  }
  for (Expr *e : exprs)
    if (!e || e->kind != first->kind || e->name != first->name ||
        e->nk != first->nk || e->offset != first->offset ||
        e->size != first->size || e->stride != first->stride ||
        e->nums != first->nums || e->expert != first->expert) {
      why = "the experts compute different functions";
      return nullptr;
    }
  bool parameters = first->kind == Expr::Weight || first->kind == Expr::Linear;
  if (!first->a && !parameters) {
    for (Expr *e : exprs)
      if (!same(e, first)) {
        why = "the experts read different tensors";
        return nullptr;
      }
    return first;
  }
  Expr *out = analysis.make(first->kind);
  *out = *first;
  out->origin = Value();
  if (parameters) {
    out->weights = {WeightSet::PerExpert, {}};
    for (Expr *e : exprs) {
      bool done = shared && e->weights.kind != WeightSet::Single;
      if (!done && (e->weights.kind != WeightSet::Single ||
                    e->weights.items.size() != 1)) {
        why = "an expert's parameters are not one matrix";
        return nullptr;
      }
      if (done)
        out->weights = e->weights;
      else
        out->weights.items.push_back(e->weights.items.front());
    }
  }
  for (Expr *Expr::*child : {&Expr::a, &Expr::b}) {
    if (!(first->*child))
      continue;
    SmallVector<Expr *> children;
    for (Expr *e : exprs)
      children.push_back(e->*child);
    if (llvm::is_contained(children, nullptr)) {
      why = "the experts compute different functions";
      return nullptr;
    }
    out->*child = zipLevel(analysis, children,
                      linears + (first->kind == Expr::Linear), why);
    if (!(out->*child))
      return nullptr;
  }
  return out;
}

} // namespace

int onlyExpert(const Expr *e) {
  if (e->kind != Expr::IdTable)
    return -1;
  int found = -1;
  for (auto [i, v] : llvm::enumerate(e->nums)) {
    if (v == 0)
      continue;
    if (v != 1 || found >= 0)
      return -1;
    found = static_cast<int>(i);
  }
  return found;
}

void factors(Expr *e, SmallVectorImpl<Expr *> &out) {
  if (e->kind == Expr::Binary && e->name == "Mul") {
    factors(e->a, out);
    factors(e->b, out);
    return;
  }
  out.push_back(e);
}

bool isIdentity(const Expr *e) {
  if (e->kind != Expr::IdTable)
    return false;
  for (auto [i, v] : llvm::enumerate(e->nums))
    if (v != static_cast<double>(i))
      return false;
  return true;
}

bool same(const Expr *a, const Expr *b) { return sameUpTo(a, b, 0); }

Expr *joinExperts(Analysis &analysis, ArrayRef<Expr *> exprs) {
  Expr *e = analysis.make(Expr::Joined);
  e->args.assign(exprs.begin(), exprs.end());
  e->expertLinear = true;
  return e;
}

Expr *zipExperts(Analysis &analysis, ArrayRef<Expr *> exprs, std::string &why) {
  return zipLevel(analysis, exprs, 0, why);
}

} // namespace moec::raise
