// The proof that a sum is a layer whose experts are regions.
#include "LayerTerms.h"
#include "StackedBody.h"
#include <map>
#include <set>

using namespace mlir;

namespace moec::raise {

namespace {

// An expert's result without the factors that weigh it.
Expr *splitBody(Expr *body, int64_t k, SmallVectorImpl<Expr *> &weights, double &scale) {
  // One number for each slot or token, not for each feature.
  auto weighs = [&](Expr *factor) {
    if (factor->kind == Expr::DenseW || factor->kind == Expr::Masked || factor->kind == Expr::Column)
      return true;
    auto type = factor->origin ? ranked(factor->origin) : RankedTensorType();
    bool features = type && type.getRank() >= 2 && type.getShape().back() != 1 &&
                    type.getShape().back() != k;
    return factor->kind != Expr::Weight && factor->kind != Expr::Gathered && !features;
  };
  while (body->kind == Expr::Binary && body->expertLinear &&
         (body->name == "Mul" || body->name == "Div")) {
    bool left = body->a->expertLinear, right = body->b->expertLinear;
    Expr *factor = left ? body->b : body->a;
    bool number = factor->kind == Expr::Splat && factor->nums[0] != 0;
    if (left == right || (!number && !weighs(factor)) || (body->name == "Div" && (!left || !number)))
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
    bodies.push_back(splitBody(t.body, r.k, weights, scale)->origin);
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
  SmallVector<Expr *> fs;
  double scale = 1;
  if (candidate->kind == Expr::AllTerms)
    splitResult(candidate->a, fs, scale);
  for (Expr *f : fs)
    if (f->kind == Expr::Joined && f->offset > 0)
      return f->offset;
  int64_t last = 0;
  for (auto [i, dim] : llvm::enumerate(analysis.get(body).layout))
    if (llvm::any_of(dim, [](const Atom &a) { return a.kind != Atom::Any; }))
      last = i + 1;
  return last;
}

// The tensors of tokens that an expert reads.
std::set<unsigned> tokensOf(const RegionBody &region, const Recipe &recipe) {
  std::set<unsigned> out;
  for (auto &[value, source] : recipe.sources)
    if (region.sources[source].rowAxes > 0)
      out.insert(source);
  return out;
}

// Experts of several gates, as in progressive layered extraction: each task's own read the task's
// tokens, those that several gates weigh read others. So which gates weigh an expert must say
// which tokens it reads, and some expert must have several.
bool tokensByGates(Analysis &analysis, Expr *candidate, ArrayRef<Value> bodies,
                   const RegionBody &region) {
  if (!analysis.routing(candidate->ids)->dense)
    return false;
  std::vector<std::vector<Expr *>> gates(bodies.size());
  for (Expr *other : analysis.candidates()) {
    const Routing *r = analysis.routing(other->ids);
    Layer layer;
    SmallVector<Value> theirs;
    Refusal no;
    if (other == candidate || !r || !r->dense || !bodiesOf(*r, other, layer, theirs, no))
      continue;
    for (auto [e, body] : llvm::enumerate(bodies))
      if (llvm::is_contained(theirs, body))
        gates[e].push_back(other);
  }
  std::map<std::vector<Expr *>, RegionBody> alike; // experts that the same gates weigh
  for (size_t e = 0; e < bodies.size(); ++e)
    alike[gates[e]].experts.push_back(region.experts[e]);
  for (auto &[gates, part] : alike)
    for (const Recipe &recipe : part.experts)
      if (tokensOf(region, recipe) != tokensOf(region, part.experts.front()) ||
          sameFormula(analysis, part))
        return false;
  return alike.size() > 1;
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
    if (region && region->other && !tokensByGates(analysis, candidate, bodies, *region))
      no = {Value(region->experts[*region->other].result).getDefiningOp(),
            "the experts read more than one source of tokens"};
    else if (region && banks.check(*region, no.reason))
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
  body = splitBody(body, r.k, layer.ffn.weights, layer.ffn.scale);
  auto region = matchStacked(body, r.experts, stacked.reason);
  if (!region && (no.reason.empty() || candidate->kind == Expr::AllTerms))
    no = stacked;
  return region;
}

} // namespace

bool proveRegion(Analysis &analysis, BankBuilder &banks, Expr *candidate,
                 Layer &layer, Refusal &no) {
  layer.ffn = Ffn();
  if (layer.routing->experts < 2)
    return false;
  bool fixed = candidate->a && withFixed(candidate->a);
  for (const Term &term : candidate->terms)
    fixed |= term.body && withFixed(term.body);
  if (fixed) { // no.reason says why they are no feed-forwards
    if (no.reason.empty())
      no.reason = "constant experts stand beside experts that are no feed-forwards";
    return false;
  }
  auto region = regionOf(analysis, banks, candidate, layer, no);
  if (!region)
    return false;
  layer.region = *region;
  layer.x = region->sources.front().value;
  Block *block = layer.result.getParentBlock();
  for (Source &source : layer.region->sources) {
    if (!isVisible(source.value, block)) {
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

} // namespace moec::raise
