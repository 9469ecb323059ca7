#include "LayerProof.h"
#include "StackedBody.h"
#include "InputWeights.h"

using namespace mlir;

namespace moec::raise {

namespace {

std::string list(ArrayRef<int64_t> ids) {
  std::string out;
  for (int64_t id : ids)
    out += (out.empty() ? "" : ", ") + std::to_string(id);
  return out;
}

// Every expert once: its body and its weight, in the order of the ids.
bool complete(const Routing &r, Expr *sum, SmallVectorImpl<Term> &terms,
              Refusal &no, int64_t experts) {
  std::vector<int> seen(experts, 0);
  for (const Term &t : sum->terms)
    if (t.expert >= 0 && t.expert < experts)
      ++seen[t.expert];
  SmallVector<int64_t> missing, doubled;
  for (auto [e, n] : llvm::enumerate(seen)) {
    if (n == 0)
      missing.push_back(e);
    if (n > 1)
      doubled.push_back(e);
  }
  if (!missing.empty() || !doubled.empty()) {
    if (!missing.empty())
      no.reason = "expert(s) " + list(missing) + " of " +
                  std::to_string(r.experts) + " missing" +
                  (doubled.empty() ? " (does the exporter drop experts that its sample does "
                                     "not reach?)"
                                   : "");
    if (!doubled.empty())
      no.reason += (no.reason.empty() ? "expert(s) " : ", ") + list(doubled) +
                   " duplicated";
    return false;
  }
  for (const Term &t : sum->terms)
    if (t.expert < experts)
      terms.push_back(t);
  llvm::sort(terms,
             [](const Term &a, const Term &b) { return a.expert < b.expert; });
  return true;
}

bool sameMask(const Term &a, const Term &b) {
  return a.positive == b.positive &&
         (a.mask == b.mask || (a.mask && b.mask && same(a.mask, b.mask)));
}

// One body for all experts of a sum of single contributions.
Expr *joinTerms(Analysis &analysis, const Routing &r, Expr *sum, Expr *&weight,
                Refusal &no) {
  SmallVector<Term> terms;
  if (!complete(r, sum, terms, no, realExperts(analysis, r, sum)))
    return nullptr;
  SmallVector<Expr *> bodies;
  weight = terms.front().weight;
  for (const Term &t : terms) {
    bodies.push_back(t.body);
    bool equal = t.weight ? weight && same(t.weight, weight) : !weight;
    equal &= sameMask(t, terms.front());
    if (!equal) {
      no = {t.op, "the experts' results have different routing weights"};
      return nullptr;
    }
  }
  return zipExperts(analysis, bodies, no.reason);
}

// The tensor [.., n] of an expression that has one value per token, where
// `block` can read it.
Value rowsOf(Expr *e, int64_t n, Block *block) {
  bool visible = e->origin && e->origin.getParentBlock() == block;
  auto type = visible ? ranked(e->origin) : RankedTensorType();
  if (n == 1 && type && isTokenRows(e->originLayout, 0))
    return e->origin; // [tokens], or with an axis of one
  if (!type || type.getRank() < 2 || type.getShape().back() != n)
    return {};
  if (isTokenRows(e->originLayout, n == 1 ? 0 : 1))
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
  if (e->kind == Expr::PlaceSum && e->origin.getParentBlock() == block) {
    out.push_back(e->origin);
    return true;
  }
  if (e->kind != Expr::Leaf)
    return false;
  // Dense weights that do not depend on the token: [experts].
  if (auto type = ranked(e->origin);
      type && type.getRank() == 1 && type.getDimSize(0) == n &&
      e->origin.getParentBlock() == block) {
    out.push_back(e->origin);
    return true;
  }
  Value v = n > 1 ? rowsOf(e, 1, block) : Value();
  if (v && ranked(v).getShape().back() == n)
    return false; // [rows, n] of tokens looks like a value for each slot
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
                        : r.experts;
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
    no.reason = layer.ffn.x->origin && layer.ffn.x->origin.getParentBlock() != block
                    ? "the experts' input is computed inside of a loop or branch"
                    : "the experts' input is not one row for each token";
    return false;
  }
  auto type = ranked(layer.result);
  Layout wide = dropUnits(candidate->originLayout);
  // A type that leaves the features open is as good as their layout.
  int64_t features = type ? type.getShape().back() : 0;
  if (features < 0 && !wide.empty() && isAtom(wide.back(), Atom::Any))
    features = wide.back()[0].size;
  if (!type || features != layer.shape.hidden || !isTokenRows(wide)) {
    no.reason = "the layer's result is not one row for each token";
    return false;
  }
  if (!shapeFollows(ranked(layer.x), type)) {
    no.reason = "the shape of the layer's result does not follow from its tokens";
    return false;
  }
  layer.stops.push_back(layer.ffn.x);
  return true;
}

// An expert's result without the factors that weigh it.
Expr *splitBody(Expr *body, SmallVectorImpl<Expr *> &weights, double &scale) {
  while (body->kind == Expr::Binary && body->expertLinear &&
         (body->name == "Mul" || body->name == "Div")) {
    bool left = body->a->expertLinear, right = body->b->expertLinear;
    Expr *factor = left ? body->b : body->a;
    bool number = factor->kind == Expr::Splat && factor->nums[0] != 0;
    if (left == right || (body->name == "Div" && (!left || !number)))
      break;
    if (number)
      scale = body->name == "Mul" ? scale * factor->nums[0] : scale / factor->nums[0];
    else
      weights.push_back(factor->kind == Expr::DenseW ? factor->b : factor);
    body = left ? body->a : body->b;
  }
  return body;
}

// The body of each expert of the sum, and the weights they share.
bool bodiesOf(const Routing &r, Expr *candidate, Layer &layer,
              SmallVectorImpl<Value> &bodies, Refusal &no) {
  SmallVector<Term> terms;
  SmallVector<Expr *> shared;
  if (candidate->kind == Expr::AllTerms) {
    SmallVector<Expr *> fs;
    splitResult(candidate->a, fs, layer.ffn.scale);
    Expr *joined = nullptr;
    for (Expr *f : fs)
      if (!f->args.empty() && f->kind != Expr::Opaque && !joined)
        joined = f;
      else if (f->expertLinear)
        return false;
      else
        shared.push_back(f->kind == Expr::DenseW ? f->b : f);
    if (!joined)
      return false;
    for (auto [e, body] : llvm::enumerate(joined->args))
      terms.push_back({static_cast<int>(e), body, nullptr, no.at});
  } else if (!complete(r, candidate, terms, no, r.experts)) {
    return false;
  }
  if (static_cast<int64_t>(terms.size()) != r.experts)
    return false;
  double firstScale = 1;
  for (auto [e, t] : llvm::enumerate(terms)) {
    double scale = 1;
    SmallVector<Expr *> weights;
    if (t.weight)
      weights.push_back(t.weight);
    bodies.push_back(splitBody(t.body, weights, scale)->origin);
    if (e == 0) {
      firstScale = scale;
      layer.ffn.scale *= scale;
      layer.ffn.weights.append(weights.begin(), weights.end());
    }
    ArrayRef<Expr *> first(layer.ffn.weights);
    bool equal = bodies.back() && scale == firstScale &&
                 sameMask(t, terms.front()) && weights.size() == first.size();
    for (size_t i = 0; equal && i < weights.size(); ++i)
      equal = same(weights[i], first[i]);
    if (!equal) {
      no = {t.op, "the experts' results have different routing weights"};
      return false;
    }
  }
  layer.ffn.weights.append(shared.begin(), shared.end());
  return true;
}

// How many axes in front of a body run over tokens.
int64_t rowAxesOf(Analysis &analysis, Expr *candidate, Value body) {
  if (candidate->kind == Expr::Terms && candidate->terms.front().rowAxes > 0)
    return candidate->terms.front().rowAxes;
  int64_t last = 0;
  for (auto [i, dim] : llvm::enumerate(analysis.get(body).layout))
    if (llvm::any_of(dim, [](const Atom &a) { return a.kind != Atom::Any; }))
      last = i + 1;
  return last;
}

// Experts as regions: of each its operations, or one expression for all.
std::optional<RegionBody> regionOf(Analysis &analysis, BankBuilder &banks, Expr *candidate,
                                   Layer &layer, Refusal &no) {
  const Routing &r = *layer.routing;
  SmallVector<Value> bodies;
  Refusal stacked = no;
  if (bodiesOf(r, candidate, layer, bodies, no)) {
    int64_t rowAxes = rowAxesOf(analysis, candidate, bodies.front());
    auto region = matchRegion(analysis, bodies, rowAxes, no.at, no.reason);
    if (region && banks.check(*region, no.reason))
      return region;
  }
  layer.ffn = Ffn();
  Expr *body = candidate->a;
  if (candidate->kind == Expr::Terms) {
    Expr *weight = nullptr;
    body = joinTerms(analysis, r, candidate, weight, stacked);
    if (weight)
      layer.ffn.weights.push_back(weight);
  }
  if (!body)
    return std::nullopt;
  body = splitBody(body, layer.ffn.weights, layer.ffn.scale);
  auto region = matchStacked(body, r.experts, stacked.reason);
  if (!region && (no.reason.empty() || candidate->kind == Expr::AllTerms))
    no = stacked;
  return region;
}

bool proveRegion(Analysis &analysis, BankBuilder &banks, Expr *candidate,
                 Layer &layer, Refusal &no) {
  layer.ffn = Ffn();
  if (layer.routing->experts < 2)
    return false;
  auto region = regionOf(analysis, banks, candidate, layer, no);
  if (!region)
    return false;
  layer.region = *region;
  layer.x = region->sources.front().value;
  Block *block = layer.result.getParentBlock();
  for (Source &source : layer.region->sources) {
    if (source.value.getParentBlock() != block) {
      no.reason = "the experts' input is computed inside of a loop or branch";
      return false;
    }
    layer.stops.push_back(analysis.get(source.value).expr);
  }
  layer.shape.experts = layer.routing->experts;
  auto type = ranked(layer.result);
  int64_t behind = 1;
  if (!region->stacked)
    behind = ranked(region->experts.front().result).getRank() - region->rowAxes;
  if (!type || (type.getRank() != behind + 1 && type.getNumDynamicDims() > 1 &&
                type.getRank() != behind + region->sources.front().rowAxes)) {
    no.reason = "the shape of the layer's result does not follow from its tokens";
    return false;
  }
  return true;
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
  layer.result = candidate->origin;
  no.at = layer.result.getDefiningOp();
  layer.routing = analysis.routing(candidate->ids);
  if (!layer.routing)
    return std::nullopt;
  if (candidate->kind == Expr::Terms && candidate->a)
    layer.base = candidate->a->origin;
  Layer other = layer;
  Refusal second = no;
  if (!proveFfn(analysis, banks, candidate, layer, no)) {
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
      inside.insert(op);
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
        if (!inside.contains(user) && !others.contains(user) && !readsShape(user))
          return user;
    }
  return nullptr;
}

} // namespace moec::raise
