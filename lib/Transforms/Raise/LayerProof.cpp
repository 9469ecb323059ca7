#include "LayerProof.h"
#include "llvm/ADT/SetVector.h"

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
              Refusal &no) {
  std::vector<int> seen(r.experts, 0);
  for (const Term &t : sum->terms)
    if (t.expert >= 0 && t.expert < r.experts)
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
                  std::to_string(r.experts) + " missing";
    if (!doubled.empty())
      no.reason += (no.reason.empty() ? "expert(s) " : ", ") + list(doubled) +
                   " duplicated";
    return false;
  }
  terms.assign(sum->terms.begin(), sum->terms.end());
  llvm::sort(terms,
             [](const Term &a, const Term &b) { return a.expert < b.expert; });
  return true;
}

// One body for all experts of a sum of single contributions.
Expr *joinTerms(Analysis &analysis, const Routing &r, Expr *sum, Expr *&weight,
                Refusal &no) {
  SmallVector<Term> terms;
  if (!complete(r, sum, terms, no))
    return nullptr;
  SmallVector<Expr *> bodies;
  weight = terms.front().weight;
  for (const Term &t : terms) {
    bodies.push_back(t.body);
    bool equal = t.weight ? weight && same(t.weight, weight) : !weight;
    if (!equal) {
      no = {t.op, "the experts' results have different routing weights"};
      return nullptr;
    }
  }
  return zipExperts(analysis, bodies, no.reason);
}

// The tensor [.., n] of an expression that has one value per token.
Value rowsOf(Expr *e, int64_t n) {
  auto type = e->origin ? ranked(e->origin) : RankedTensorType();
  if (!type || type.getRank() < 2 || type.getShape().back() != n)
    return {};
  if (isTokenRows(e->originLayout, n == 1 ? 0 : 1))
    return e->origin;
  return {};
}

// The tensors whose product the expression is.
bool collectRows(Expr *e, int64_t n, SmallVectorImpl<Value> &out) {
  if (e->origin)
    if (Value v = rowsOf(e, n)) {
      out.push_back(v);
      return true;
    }
  return e->kind == Expr::Binary && e->name == "Mul" &&
         collectRows(e->a, n, out) && collectRows(e->b, n, out);
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

// An operation outside that uses what an expert's matrix went into, between
// the sum and what it is made of (`stops`).
Operation *outsideUser(Analysis &analysis, Value result,
                       ArrayRef<Expr *> stops) {
  auto carries = [&](Value v) {
    const Expr *e = analysis.get(v).expr;
    return e->expertLinear || e->kind == Expr::Terms;
  };
  llvm::SetVector<Operation *> slice;
  slice.insert(result.getDefiningOp());
  for (size_t i = 0; i < slice.size(); ++i)
    for (Value operand : slice[i]->getOperands()) {
      Operation *def = operand.getDefiningOp();
      if (def && carries(operand) &&
          !llvm::is_contained(stops, analysis.get(operand).expr))
        slice.insert(def);
    }
  for (Operation *op : slice)
    for (Value v : op->getResults()) {
      if (v == result || !carries(v))
        continue;
      for (Operation *user : v.getUsers())
        if (!slice.contains(user) && !readsShape(user))
          return user;
    }
  return nullptr;
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

std::optional<Layer> prove(Analysis &analysis, BankBuilder &banks,
                           Expr *candidate, Refusal &no) {
  Layer layer;
  layer.result = candidate->origin;
  no.at = layer.result.getDefiningOp();
  layer.routing = analysis.routing(candidate->ids);
  if (!layer.routing)
    return std::nullopt;
  const Routing &r = *layer.routing;
  Expr *body = candidate->a, *weight = nullptr;
  if (candidate->kind == Expr::Terms) {
    body = joinTerms(analysis, r, candidate, weight, no);
    if (candidate->a)
      layer.base = candidate->a->origin;
  }
  // A single expert's parameters need no expert axis.
  if (body && r.experts == 1)
    body = zipExperts(analysis, body, no.reason);
  if (!body)
    return std::nullopt;
  auto ffn = matchFfn(body, weight, no.reason);
  if (!ffn)
    return std::nullopt;
  layer.ffn = *ffn;
  auto shape = banks.check(layer.ffn, r.experts, no.reason);
  if (!shape)
    return std::nullopt;
  layer.shape = *shape;
  if (layer.ffn.x->ids) {
    no.reason = "the experts' input depends on the routing";
    return std::nullopt;
  }
  layer.x = rowsOf(layer.ffn.x, layer.shape.hidden);
  if (!layer.x) {
    no.reason = "the experts' input is not one row for each token";
    return std::nullopt;
  }
  for (Expr *w : layer.ffn.weights)
    if (!collectRows(w, r.k, layer.weights)) {
      layer.weights.clear();
      break;
    }
  if (layer.weights.empty()) {
    no.reason = "the routing weights are not one value for each slot";
    return std::nullopt;
  }
  auto type = ranked(layer.result);
  if (!type || type.getShape().back() != layer.shape.hidden ||
      !isTokenRows(dropUnits(candidate->originLayout))) {
    no.reason = "the layer's result is not one row for each token";
    return std::nullopt;
  }
  if (!shapeFollows(ranked(layer.x), type)) {
    no.reason = "the shape of the layer's result does not follow from its tokens";
    return std::nullopt;
  }
  SmallVector<Expr *> stops(layer.ffn.weights.begin(), layer.ffn.weights.end());
  stops.push_back(layer.ffn.x);
  if (layer.base)
    stops.push_back(candidate->a);
  if (Operation *user = outsideUser(analysis, layer.result, stops)) {
    no = {user, "it also uses an intermediate result of an expert"};
    return std::nullopt;
  }
  return layer;
}

} // namespace moec::raise
