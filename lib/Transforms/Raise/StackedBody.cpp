#include "StackedBody.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include <cmath>

using namespace mlir;

namespace moec::raise {

namespace {

// Differs from expert to expert.
bool ofExperts(const Expr *e) {
  if (!e)
    return false;
  if (e->kind == Expr::Gathered || (e->kind == Expr::Linear && e->weights.kind != WeightSet::Single))
    return true;
  return ofExperts(e->a) || ofExperts(e->b);
}

RankedTensorType itemType(const Expr *e) {
  return e->weights.items.empty() ? RankedTensorType() : ranked(e->weights.items.front().value);
}

// How a constant stands beside the features: one number for each, for each
// expert and feature, or for each expert.
enum class Constant { none, features, experts, numbers };
Constant constantKind(const Expr *e, int64_t experts) {
  auto type = itemType(e);
  if (!type || !type.hasStaticShape() || e->weights.items.front().index >= 0)
    return Constant::none;
  SmallVector<int64_t> axes;
  for (auto [i, d] : llvm::enumerate(type.getShape()))
    if (d != 1)
      axes.push_back(i);
  bool last = !axes.empty() && axes.back() == type.getRank() - 1;
  if (e->weights.kind == WeightSet::PerExpert)
    return static_cast<int64_t>(e->weights.items.size()) == experts && axes.size() <= 1
               ? Constant::experts
               : Constant::none;
  if (axes.size() == 1 && last)
    return Constant::features;
  bool first = !axes.empty() && axes.front() == 0 && type.getDimSize(0) == experts;
  if (axes.size() == 2 && first)
    return Constant::experts;
  return axes.size() == 1 && first && type.getRank() == 3 ? Constant::numbers : Constant::none;
}

class Matcher {
public:
  Matcher(RegionBody &out, int64_t experts, std::string &why)
      : out(out), experts(experts), why(why) {}

  // The number of features of `e`, 0 for a number; -1: not known.
  int64_t visit(Expr *e, int depth = 0) {
    if (depth > 64)
      return refuse("the expert's body is too deep");
    if (e->kind == Expr::Splat)
      return 0;
    if (e->kind == Expr::Weight)
      return constant(e);
    if (e->kind == Expr::Gathered)
      return gathered(e);
    if (!ofExperts(e))
      return source(e);
    if (e->ids && e->kind == Expr::Opaque)
      return refuse("an operation inside of the experts is not known");
    switch (e->kind) {
    case Expr::Linear:
      return linear(e, depth);
    case Expr::Unary:
      return visit(e->a, depth + 1);
    case Expr::Binary: {
      int64_t x = visit(e->a, depth + 1), y = x < 0 ? -1 : visit(e->b, depth + 1);
      if (x < 0 || y < 0)
        return -1;
      if (x > 1 && y > 1 && x != y)
        return refuse("the sizes of the expert's layers do not fit together");
      return std::max(x, y);
    }
    case Expr::Part:
      return visit(e->a, depth + 1) < 0 ? -1 : e->size;
    default:
      return refuse("an operation inside of the experts is not known");
    }
  }

private:
  int64_t refuse(StringRef reason) {
    if (why.empty())
      why = reason.str();
    return -1;
  }

  int64_t constant(Expr *e) {
    auto kind = constantKind(e, experts);
    auto type = itemType(e);
    if (kind == Constant::none)
      return refuse("a constant inside of the experts is neither theirs nor the same for all");
    if (kind == Constant::numbers)
      return 1;
    return kind == Constant::features ? type.getNumElements()
           : e->weights.kind == WeightSet::PerExpert ? type.getNumElements()
                                                     : type.getNumElements() / experts;
  }

  int64_t gathered(Expr *e) {
    auto type = itemType(e);
    if (!type || !type.hasStaticShape() || type.getRank() < 1 || type.getDimSize(0) != experts)
      return refuse("a gathered parameter has no row for each expert");
    return type.getNumElements() / experts;
  }

  int64_t linear(Expr *e, int depth) {
    auto type = itemType(e);
    bool stacked = e->weights.kind == WeightSet::Stacked;
    bool parts = e->weights.kind == WeightSet::Rows || e->weights.kind == WeightSet::Columns;
    if (!type || type.getRank() < 2 || !type.hasStaticShape() || parts ||
        (stacked && (type.getRank() != 3 || type.getDimSize(0) != experts)) ||
        (e->weights.kind == WeightSet::PerExpert &&
         (static_cast<int64_t>(e->weights.items.size()) != experts ||
          llvm::any_of(e->weights.items,
                       [&](const WeightItem &item) { return ranked(item.value) != type; }))))
      return refuse("an expert's parameters are not static matrices");
    int64_t n = type.getShape()[type.getRank() - 1], k = type.getShape()[type.getRank() - 2];
    if (e->nk)
      std::swap(n, k);
    int64_t in = visit(e->a, depth + 1);
    if (in >= 0 && in != k)
      return refuse("the sizes of the expert's layers do not fit together");
    return in < 0 ? -1 : n;
  }

  int64_t source(Expr *e) {
    auto type = e->origin ? ranked(e->origin) : RankedTensorType();
    int64_t axis = innerFeatures(e->originLayout);
    if (axis < 0 && type)
      axis = type.getRank() - 1;
    if (!type || type.getRank() < 2 || type.isDynamicDim(axis) || e->ids ||
        !isTokenRows(featuresLast(e->originLayout), type.getDimSize(axis) == 1 ? 0 : 1))
      return refuse("the experts' input is not one row for each token");
    if (!llvm::any_of(out.sources, [&](const Source &s) { return s.value == e->origin; })) {
      auto rows = RankedTensorType::get({ShapedType::kDynamic, type.getDimSize(axis)},
                                        type.getElementType());
      out.sources.push_back({e->origin, type.getRank() - 1, rows});
    }
    return type.getDimSize(axis);
  }

  RegionBody &out;
  int64_t experts;
  std::string &why;
};

class Emitter {
public:
  Emitter(WeightSteps &steps, const RegionBody &body, Block *block, StringRef name, Location loc,
          SmallVectorImpl<Attribute> &parameters)
      : steps(steps), body(body), block(block), name(name), loc(loc), parameters(parameters),
        builder(loc.getContext()), b(builder, loc) {
    builder.setInsertionPointToEnd(block);
    experts = body.stackedExperts;
  }

  Value emit(Expr *e) {
    Value &known = made[e];
    if (known)
      return known;
    Value v = build(e);
    made[e] = v;
    return v;
  }

private:
  Value build(Expr *e) {
    if (e->kind == Expr::Splat)
      return b.scalar(element, e->nums[0]);
    if (e->kind == Expr::Weight)
      return constant(e);
    if (e->kind == Expr::Gathered)
      return slab(vector(e->weights.items.front().value));
    if (!ofExperts(e)) {
      auto it = llvm::find_if(body.sources,
                              [&](const Source &s) { return s.value == e->origin; });
      Value v = sources[it - body.sources.begin()];
      element = rankedType(v).getElementType();
      return v;
    }
    if (e->kind == Expr::Linear)
      return linear(e);
    if (e->kind == Expr::Part)
      return b.slice(emit(e->a), 1, e->offset, e->offset + (e->size - 1) * e->stride + 1,
                     e->stride);
    if (e->kind == Expr::Unary)
      return unary(e);
    Value x, y; // what gives the type of numbers comes first
    if (e->a->kind == Expr::Splat) {
      y = emit(e->b);
      x = emit(e->a);
    } else {
      x = emit(e->a);
      y = emit(e->b);
    }
    return b.binary(e->name, x, y);
  }

  // [E, F] of a parameter [E, ...] in which all else is one axis.
  Value vector(Value use) {
    Value v = steps.of(use);
    int64_t n = cast<ShapedType>(v.getType()).getNumElements();
    return steps.reshape(v, {experts, n / experts});
  }

  // The expert's slab of a stacked parameter.
  Value slab(Value stacked) {
    parameters.push_back(steps.bind(stacked, (name + ".p" + Twine(parameters.size())).str()));
    auto type = cast<RankedTensorType>(stacked.getType());
    auto each = RankedTensorType::get(type.getShape().drop_front(), type.getElementType());
    unsigned at = 1 + parameters.size() - 1;
    return block->insertArgument(at, each, loc);
  }

  Value constant(Expr *e) {
    auto kind = constantKind(e, experts);
    Value use = e->weights.items.front().value;
    if (kind == Constant::features) {
      Value v = steps.of(use);
      int64_t n = cast<ShapedType>(v.getType()).getNumElements();
      return shared(steps.reshape(v, {n}));
    }
    if (e->weights.kind != WeightSet::PerExpert)
      return slab(vector(use));
    SmallVector<Value> rows;
    for (const WeightItem &item : e->weights.items) {
      Value v = steps.of(item.value);
      int64_t n = cast<ShapedType>(v.getType()).getNumElements();
      rows.push_back(steps.reshape(v, {1, n}));
    }
    return slab(steps.concat(rows, 0));
  }

  // What all experts read.
  Value shared(Value v) {
    FlatSymbolRefAttr symbol = steps.bind(v, (name + ".shared").str());
    return steps.use(builder, loc, symbol);
  }

  // [.., K, N], whatever the order it is stored in.
  Value matrix(Expr *e, Value v) {
    int64_t rank = cast<ShapedType>(v.getType()).getRank();
    SmallVector<int64_t> perm;
    for (int64_t i = 0; i < rank; ++i)
      perm.push_back(i);
    std::swap(perm[rank - 1], perm[rank - 2]);
    return e->nk ? steps.transpose(v, perm) : v;
  }

  Value linear(Expr *e) {
    Value x = emit(e->a), w;
    const WeightItem &first = e->weights.items.front();
    if (e->weights.kind == WeightSet::Stacked) {
      w = slab(matrix(e, steps.of(first.value)));
    } else {
      SmallVector<Value> rows;
      for (const WeightItem &item : e->weights.items) {
        Value v = steps.of(item.value);
        if (item.index >= 0) {
          v = steps.part(v, 0, item.index, 1);
          SmallVector<int64_t> dims(cast<ShapedType>(v.getType()).getShape().drop_front());
          v = steps.reshape(v, dims);
        }
        v = matrix(e, v);
        SmallVector<int64_t> dims(cast<ShapedType>(v.getType()).getShape());
        if (e->weights.kind == WeightSet::PerExpert) {
          dims.insert(dims.begin(), 1);
          v = steps.reshape(v, dims);
        }
        rows.push_back(v);
      }
      w = e->weights.kind == WeightSet::Single ? shared(rows.front())
                                               : slab(steps.concat(rows, 0));
    }
    return b.matmul(x, w);
  }

  Value unary(Expr *e) {
    Value x = emit(e->a);
    if (e->name == "Clip") {
      auto bound = [&](double v) { return std::isinf(v) ? b.none() : b.scalar(element, v); };
      Value lo = bound(e->nums[0]), hi = bound(e->nums[1]);
      return b.op("Clip", {x, lo, hi}, x.getType());
    }
    if (e->name == "Swish") {
      Value z = e->nums[0] == 1 ? x : b.binary("Mul", x, b.scalar(element, e->nums[0]));
      return b.binary("Mul", x, b.unary("Sigmoid", z));
    }
    if (e->name == "Gelu" || e->name == "GeluTanh")
      return b.op("Gelu", {x}, x.getType(),
                  b.attr("approximate", StringRef(e->name == "Gelu" ? "none" : "tanh")));
    return b.unary(e->name, x);
  }

public:
  SmallVector<Value> sources; // arguments of the block

private:
  WeightSteps &steps;
  const RegionBody &body;
  Block *block;
  StringRef name;
  Location loc;
  SmallVectorImpl<Attribute> &parameters;
  OpBuilder builder;
  OnnxBuilder b;
  int64_t experts = 0;
  Type element = Float32Type::get(loc.getContext());
  llvm::DenseMap<Expr *, Value> made;
};

} // namespace

std::optional<RegionBody> matchStacked(Expr *body, int64_t experts, std::string &why) {
  RegionBody out;
  out.stacked = body;
  out.stackedExperts = experts;
  why.clear();
  if (!ofExperts(body)) {
    why = "the experts share one matrix";
    return std::nullopt;
  }
  out.stackedWidth = Matcher(out, experts, why).visit(body);
  if (out.stackedWidth < 1 || out.sources.empty()) {
    if (why.empty())
      why = "the experts read no tokens";
    return std::nullopt;
  }
  return out;
}

RankedTensorType buildStacked(WeightSteps &steps, const RegionBody &body, Block *block,
                              StringRef name, Location loc,
                              SmallVectorImpl<Attribute> &parameters) {
  Emitter emitter(steps, body, block, name, loc, parameters);
  for (const Source &source : body.sources)
    emitter.sources.push_back(block->addArgument(source.type, loc));
  Value y = emitter.emit(body.stacked);
  OpBuilder builder(loc.getContext());
  builder.setInsertionPointToEnd(block);
  OperationState state(loc, "moe.yield");
  state.addOperands(y);
  builder.create(state);
  return cast<RankedTensorType>(y.getType());
}

} // namespace moec::raise
