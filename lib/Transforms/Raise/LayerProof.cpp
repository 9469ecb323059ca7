#include "LayerProof.h"
#include "LayerTerms.h"
#include "InputWeights.h"

using namespace mlir;

namespace moec::raise {

namespace {

// The type with the axis of features last.
RankedTensorType featuresLast(RankedTensorType type, const Layout &layout) {
  int64_t axis = innerFeatures(layout);
  if (!type || axis < 0 || axis >= type.getRank())
    return type;
  SmallVector<int64_t> dims(type.getShape());
  std::rotate(dims.begin() + axis, dims.begin() + axis + 1, dims.end());
  return RankedTensorType::get(dims, type.getElementType());
}

// The tensor [.., n] of an expression that has one value per token, where
// `block` can read it; its features may stand along another axis.
Value rowsOf(Expr *e, int64_t n, Block *block) {
  bool visible = e->origin && isVisible(e->origin, block);
  auto type = visible ? ranked(e->origin) : RankedTensorType();
  if (n == 1 && type && isTokenRows(e->originLayout, 0))
    return e->origin; // [tokens], or with an axis of one
  type = featuresLast(type, e->originLayout);
  if (!type || type.getRank() < 2 || type.getShape().back() != n)
    return {};
  if (isTokenRows(featuresLast(e->originLayout), n == 1 ? 0 : 1))
    return e->origin;
  return {};
}

// The tensors whose product the expression is: a value for each slot, or one
// for all slots of a token.
bool collectRows(Expr *e, int64_t n, Block *block, SmallVectorImpl<Value> &out) {
  if (e->origin)
    if (Value v = rowsOf(e, n, block)) {
      out.push_back(v);
      return true;
    }
  if (e->kind == Expr::Binary && e->name == "Mul")
    return collectRows(e->a, n, block, out) && collectRows(e->b, n, block, out);
  if (e->kind == Expr::PlaceSum && isVisible(e->origin, block)) {
    out.push_back(e->origin);
    return true;
  }
  if (e->kind != Expr::Leaf)
    return false;
  // Dense weights that do not depend on the token: [experts].
  if (auto type = ranked(e->origin);
      type && type.getRank() == 1 && type.getDimSize(0) == n &&
      isVisible(e->origin, block)) {
    out.push_back(e->origin);
    return true;
  }
  Value v = n > 1 ? rowsOf(e, 1, block) : Value();
  if (v)
    out.push_back(v);
  return static_cast<bool>(v);
}

// What a weight is a sigmoid or softmax of, when no value holds the weight.
Expr *bare(Expr *w, std::string &activation) {
  if (w->kind != Expr::Unary || w->origin || !activation.empty() ||
      (w->name != "Sigmoid" && w->name != "Softmax"))
    return w;
  activation = w->name;
  return w->a;
}

// Reads no more than the sizes of its operand.
bool readsShape(Operation *op, int depth = 0) {
  if (isOnnx(op, "Shape") || isOnnx(op, "Size"))
    return true;
  if (onnxName(op).empty() || depth > 4)
    return false;
  return llvm::all_of(op->getUsers(), [&](Operation *user) {
    return readsShape(user, depth + 1);
  });
}

// An expert's matrix went into it, or it is a sum of experts.
bool carries(Analysis &analysis, Value v) {
  const Expr *e = analysis.get(v).expr;
  return e->expertLinear || e->kind == Expr::Terms;
}

// The sizes of a result are those of x's rows, with axes of one after them, or
// its type leaves at most one of them open.
bool shapeFollows(RankedTensorType x, RankedTensorType result) {
  if (result.getRank() <= 2 || result.getNumDynamicDims() <= 1)
    return true;
  auto rows = x.getShape().drop_back(), dims = result.getShape().drop_back();
  return dims.size() >= rows.size() && dims.take_front(rows.size()) == rows &&
         llvm::all_of(dims.drop_front(rows.size()), [](int64_t d) { return d == 1; });
}

} // namespace

namespace {

// Experts as a #moe.ffn.
bool proveFfn(Analysis &analysis, BankBuilder &banks, Expr *candidate,
              Layer &layer, Refusal &no) {
  const Routing &r = *layer.routing;
  Expr *body = candidate->a, *weight = nullptr;
  Block *block = layer.result.getParentBlock();
  if (candidate->kind == Expr::Terms)
    body = joinTerms(analysis, r, candidate, weight, no);
  // A single expert's parameters need no expert axis.
  if (body && r.experts == 1)
    body = zipExperts(analysis, body, no.reason);
  if (!body)
    return false;
  auto ffn = matchFfn(body, weight, no.reason);
  if (!ffn)
    return false;
  layer.ffn = *ffn;
  int64_t experts = candidate->kind == Expr::Terms
                        ? realExperts(analysis, r, candidate)
                        : r.real ? r.real : r.experts;
  layer.identities = candidate->kind == Expr::Terms && identityExperts(r, candidate);
  for (const Term &t : candidate->terms)
    if (layer.identities && t.expert >= experts && !givesTokens(t, *ffn)) {
      no = {t.op, "an expert without parameters does not give its token"};
      return false;
    }
  auto shape = banks.check(layer.ffn, experts, no.reason);
  if (!shape)
    return false;
  layer.shape = *shape;
  SmallVector<Expr *> inputs;
  auto isTokens = [&](Expr *e) {
    return !e->ids && rowsOf(e, layer.shape.hidden, block);
  };
  if (!splitInput(layer.ffn, isTokens, inputs, no.reason))
    return false;
  if (!inputs.empty() && r.dense) {
    no.reason = "dense weights multiply the experts' input";
    return false;
  }
  for (Expr *w : inputs)
    if (!collectRows(bare(w, layer.inputActivation), r.k, block, layer.inputs)) {
      no.reason = "the weights of the experts' input are not one value for each slot";
      return false;
    }
  layer.stops.append(inputs.begin(), inputs.end());
  if (layer.ffn.x->ids) {
    no.reason = "the experts' input depends on the routing";
    return false;
  }
  layer.x = rowsOf(layer.ffn.x, layer.shape.hidden, block);
  if (!layer.x) {
    no.reason = layer.ffn.x->origin && !isVisible(layer.ffn.x->origin, block)
                    ? "the experts' input is computed inside of a loop or branch"
                    : "the experts' input is not one row for each token";
    return false;
  }
  Layout axes = analysis.get(layer.result).layout;
  auto type = featuresLast(ranked(layer.result), axes);
  Layout wide = dropUnits(featuresLast(axes));
  // A type that leaves the features open is as good as their layout.
  int64_t features = type ? type.getShape().back() : 0;
  if (features < 0 && !wide.empty() && isAtom(wide.back(), Atom::Any))
    features = wide.back()[0].size;
  if (!type || features != layer.shape.hidden || !isTokenRows(wide)) {
    no.reason = "the layer's result is not one row for each token";
    return false;
  }
  if (!shapeFollows(featuresLast(ranked(layer.x), layer.ffn.x->originLayout), type)) {
    no.reason = "the shape of the layer's result does not follow from its tokens";
    return false;
  }
  layer.stops.push_back(layer.ffn.x);
  return true;
}

// What the block sees of a combine: rows that stood as columns [..., H, 1] are
// turned back.
Value resultOf(Analysis &analysis, Expr *candidate) {
  Value v = candidate->origin;
  for (auto type = ranked(v); type && type.getRank() > 2 && type.getShape().back() == 1 &&
                              v.hasOneUse();
       type = ranked(v)) {
    Operation *user = *v.user_begin();
    if (!isOnnx(user, "Squeeze") && !isOnnx(user, "Reshape"))
      break;
    Fact next = analysis.get(user->getResult(0));
    if (next.expr != candidate || next.layout.empty() || !isAtom(next.layout.back(), Atom::Any))
      break;
    v = user->getResult(0);
  }
  return v;
}

// Where the axes of what the layer reads and gives are in another order than its own.
void noteAxes(Analysis &analysis, Layer &layer) {
  SmallVector<Value> tensors{layer.x, layer.result};
  for (ArrayRef<Value> more : {ArrayRef<Value>(layer.weights), ArrayRef<Value>(layer.inputs),
                               ArrayRef<Value>(layer.masks)}) {
    tensors.append(more.begin(), more.end());
    for (Value v : more)
      if (ranked(v).getRank() > 1 && isTokenRows(analysis.get(v).layout, 0))
        layer.single.insert(v);
  }
  if (layer.region && layer.region->stacked)
    for (const Source &source : layer.region->sources)
      tensors.push_back(source.value);
  for (Value v : tensors)
    if (int64_t axis = innerFeatures(analysis.get(v).layout); axis >= 0)
      layer.inner[v] = axis;
}

// Says no more than that the experts are no #moe.ffn.
bool isGeneric(StringRef reason) {
  return reason.contains("different functions") || reason.contains("different tensors") ||
         reason.contains("perceptron") || reason.contains("does not end in a linear map") ||
         reason.contains("are not one matrix") || reason.contains("no linear map of the tokens");
}

} // namespace

std::optional<Layer> prove(Analysis &analysis, BankBuilder &banks,
                           Expr *candidate, Refusal &no) {
  Layer layer;
  layer.result = resultOf(analysis, candidate);
  no.at = layer.result.getDefiningOp();
  layer.routing = analysis.routing(candidate->ids);
  if (!layer.routing)
    return std::nullopt;
  if (candidate->kind == Expr::Terms && candidate->a)
    layer.base = candidate->a->origin;
  if (layer.base && !isVisible(layer.base, layer.result.getParentBlock())) {
    no.reason = "what the experts' results are added to is computed inside of a loop or branch";
    return std::nullopt;
  }
  Layer other = layer;
  Refusal second = no;
  if (!proveFfn(analysis, banks, candidate, layer, no)) {
    if (StringRef(no.reason).contains("is given the parameters of"))
      return std::nullopt; // also as a region
    if (!proveRegion(analysis, banks, candidate, other, second)) {
      if (!second.reason.empty() && isGeneric(no.reason))
        no = second;
      return std::nullopt;
    }
    layer = other;
  }
  for (Expr *w : layer.ffn.weights)
    if (w->kind == Expr::Splat) {
      layer.ffn.scale *= w->nums[0];
    } else if (!collectRows(bare(w, layer.activation), layer.routing->k, layer.result.getParentBlock(),
                            layer.weights)) {
      no.reason = "the routing weights are not one value for each slot";
      return std::nullopt;
    }
  if (candidate->kind == Expr::Terms && candidate->terms.front().mask) {
    const Term &term = candidate->terms.front(); // all have the same
    layer.positive = term.positive;
    if (!collectRows(term.mask, layer.routing->k, layer.result.getParentBlock(),
                     layer.masks)) {
      no.reason = "the mask of the experts' tokens is not one value for each slot";
      return std::nullopt;
    }
    layer.stops.push_back(term.mask);
  }
  if (layer.routing->sequences && ranked(layer.x).getRank() != 3) {
    no.reason = "the tokens are not one row of them for each id";
    return std::nullopt;
  }
  layer.stops.append(layer.ffn.weights.begin(), layer.ffn.weights.end());
  if (layer.base)
    layer.stops.push_back(candidate->a);
  if (!layer.region || layer.region->stacked)
    noteAxes(analysis, layer);
  return layer;
}

namespace {

// The operations from the experts' results on to the layer's.
void addCombine(Operation *end, llvm::SetVector<Operation *> &inside) {
  llvm::DenseMap<Operation *, bool> reaches;
  Operation *first = end;
  for (Operation *op : inside)
    if (op->getBlock() == end->getBlock() && op->isBeforeInBlock(first))
      first = op;
  std::function<bool(Operation *)> visit = [&](Operation *op) {
    if (!op || op->getBlock() != end->getBlock() || op->isBeforeInBlock(first))
      return false;
    if (inside.contains(op) && op != end)
      return true;
    auto [it, isNew] = reaches.insert({op, false});
    if (!isNew)
      return it->second;
    bool any = false;
    for (Value operand : op->getOperands())
      any |= visit(operand.getDefiningOp());
    return reaches[op] = any;
  };
  visit(end);
  for (auto [op, any] : reaches)
    if (any)
      op->walk([&](Operation *inner) { inside.insert(inner); });
}

// Computes what nobody reads.
bool isDead(Operation *op, int depth = 0) {
  return depth < 16 && !onnxName(op).empty() && op->getNumResults() > 0 &&
         !op->hasTrait<OpTrait::IsTerminator>() &&
         llvm::all_of(op->getUsers(), [&](Operation *user) { return isDead(user, depth + 1); });
}

} // namespace

llvm::SetVector<Operation *> insideOf(Analysis &analysis, const Layer &layer) {
  llvm::SetVector<Operation *> inside;
  inside.insert(layer.result.getDefiningOp());
  if (layer.region && !layer.region->stacked) {
    inside.insert(layer.region->inside.begin(), layer.region->inside.end());
    addCombine(layer.result.getDefiningOp(), inside);
    return inside;
  }
  for (size_t i = 0; i < inside.size(); ++i) {
    // Of an If or a Loop also what stands in it.
    for (Region &region : inside[i]->getRegions())
      region.walk([&](Operation *op) { inside.insert(op); });
    for (Value operand : inside[i]->getOperands()) {
      Operation *def = operand.getDefiningOp();
      if (def && carries(analysis, operand) &&
          !llvm::is_contained(layer.stops, analysis.get(operand).expr))
        inside.insert(def);
    }
  }
  return inside;
}

Operation *outsideUser(Analysis &analysis, const Layer &layer,
                       const llvm::SetVector<Operation *> &inside,
                       const llvm::DenseSet<Operation *> &others) {
  for (Operation *op : inside)
    for (Value v : op->getResults()) {
      if (v == layer.result || ((!layer.region || layer.region->stacked) && !carries(analysis, v)))
        continue;
      for (Operation *user : v.getUsers())
        if (!inside.contains(user) && !others.contains(user) && !readsShape(user) &&
            !isDead(user))
          return user;
    }
  return nullptr;
}

} // namespace moec::raise
