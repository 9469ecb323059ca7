// Products with parameters: of one expert, of the chosen expert of each slot,
// or of all experts along an axis.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

namespace {

bool holdsMatrices(const Fact &f) {
  return (f.expr->kind == Expr::Weight || f.expr->kind == Expr::Gathered) &&
         f.layout.size() >= 2;
}

// The stored axis of a matrix dimension: of its atom, or, for a dimension of
// one, whichever of the last two the other is not. -1: no axis of the matrix.
std::pair<int, int> storedAxes(const Fact &w, const Dim &n, const Dim &k) {
  auto type = ranked(w.expr->weights.items.front().value);
  int last = type ? static_cast<int>(type.getRank()) - 1 : -1;
  auto axis = [](const Dim &dim) { return dim.size() == 1 ? dim[0].axis : -1; };
  int an = axis(n), ak = axis(k);
  if (n.empty())
    an = k.empty() || ak == last ? last - 1 : last;
  if (k.empty())
    ak = n.empty() || an == last - 1 ? last : last - 1;
  bool matrix = (an == last && ak == last - 1) || (an == last - 1 && ak == last);
  return matrix && last >= 1 ? std::pair{an, ak} : std::pair{-1, -1};
}

// A batch dimension of the input beside one of the matrices: the same experts,
// slots or tokens, or copies of one input for all of them.
bool sameInput(const Dim &x) {
  return llvm::none_of(x, [](const Atom &atom) {
    return atom.kind == Atom::Any && !atom.copies;
  });
}

// Depends on routings through complete sums of experts' results only.
bool ofSums(const Expr *e) {
  if (!e || !e->ids)
    return true;
  if (e->kind == Expr::AllTerms || e->kind == Expr::Terms)
    return !e->apart && e->nums.empty() && e->args.empty();
  return (e->kind == Expr::Unary || e->kind == Expr::Binary) && !e->expertLinear &&
         ofSums(e->a) && ofSums(e->b);
}

} // namespace

// x * w, or w * x when `weightLeft` (then w is [.., N, K]).
Analysis::Result Analysis::linear(const Fact &x, const Fact &w,
                                  bool weightLeft) {
  size_t wr = w.layout.size(), xr = x.layout.size();
  if (xr < 1 || (weightLeft && xr < 2))
    return std::nullopt;
  Dim wn = w.layout[weightLeft ? wr - 2 : wr - 1];
  Dim wk = w.layout[weightLeft ? wr - 1 : wr - 2];
  Dim xk = x.layout[weightLeft ? xr - 2 : xr - 1];
  if (!unifyDims(wk, xk) || wk.empty() != xk.empty())
    return std::nullopt;
  auto [axisN, axisK] = storedAxes(w, wn, wk);
  if (axisN < 0)
    return std::nullopt;
  for (Dim *dim : {&wn, &wk})
    for (Atom &atom : *dim)
      atom.axis = -1;
  Layout wBatch(w.layout.begin(), w.layout.end() - 2);
  Layout xBatch(x.layout.begin(), x.layout.end() - std::min<size_t>(xr, 2));
  WeightSet set;
  set.items = w.expr->weights.items;
  bool gathered = w.expr->kind == Expr::Gathered;
  if (gathered) {
    set.kind = WeightSet::Stacked;
  } else if (!wBatch.empty()) {
    bool experts = wBatch.size() == 1 && set.items.size() == 1 &&
                   (wBatch[0].empty() || wBatch[0][0].axis == 0);
    if (!experts)
      return std::nullopt;
    set.kind = WeightSet::Stacked;
    if (!wBatch[0].empty())
      wBatch[0] = {Atom{Atom::Expert, wBatch[0][0].size}};
  }
  for (size_t i = 1; i <= std::min(wBatch.size(), xBatch.size()); ++i)
    if (!wBatch[wBatch.size() - i].empty() &&
        !sameInput(xBatch[xBatch.size() - i]))
      return std::nullopt;
  auto batch = broadcast(wBatch, xBatch);
  if (!batch)
    return std::nullopt;
  Layout layout = *batch;
  if (weightLeft) {
    layout.push_back(wn);
    layout.push_back(x.layout[xr - 1]);
  } else {
    if (xr >= 2)
      layout.push_back(x.layout[xr - 2]);
    layout.push_back(wn);
  }
  if (!weightLeft)
    if (Result sum = sumFeatures(x, set, axisN < axisK, layout))
      return sum;
  // What is computed from other layers' results alone is another layer's tokens.
  Expr *tokens = x.expr;
  if (tokens->ids && tokens->origin && ofSums(tokens)) {
    tokens = make(Expr::Leaf);
    tokens->origin = x.expr->origin;
    tokens->originLayout = x.expr->originLayout;
  }
  Expr *e = withChildren(Expr::Linear, tokens);
  e->weights = set;
  e->nk = axisN < axisK;
  e->expertLinear = true;
  if (gathered) {
    if (e->ids && e->ids != w.expr->ids)
      return std::nullopt;
    e->ids = w.expr->ids;
    e->perSlot = true;
  }
  return Fact{e, layout};
}

Analysis::Result Analysis::matmul(Operation *op) {
  Fact a = get(op->getOperand(0)), b = get(op->getOperand(1));
  if (Result neurons = rankOne(op, a, b))
    return neurons;
  bool wa = holdsMatrices(a), wb = holdsMatrices(b);
  if (wb && !wa)
    return linear(a, b, false);
  bool stacked = a.layout.size() == 3 && b.expr->expertLinear &&
                 isAtom(b.layout.size() == 3 ? b.layout[0] : Dim(), Atom::Expert);
  if (wa && !wb && (a.expr->kind == Expr::Gathered || a.layout.size() == 2 || stacked))
    return linear(b, a, true);
  if (Result buckets = bucketsOf(a, b))
    return buckets;
  if (Result combined = combineBuckets(op, a, b))
    return combined;
  return weightedSum(op, a, b);
}

Analysis::Result Analysis::gemm(Operation *op) {
  Fact x = get(op->getOperand(0)), w = get(op->getOperand(1));
  bool plain = intAttr(op, "transA", 0) == 0 && floatAttr(op, "alpha", 1.0) == 1.0 &&
               (op->getNumOperands() < 3 || isAbsent(op->getOperand(2)));
  if (plain && x.layout.size() == 2 && w.layout.size() == 2 && !holdsMatrices(w)) {
    if (intAttr(op, "transB", 0) != 0)
      std::swap(w.layout[0], w.layout[1]);
    Result buckets = bucketsOf(x, w);
    return buckets ? buckets : combineBuckets(op, x, w);
  }
  if (!holdsMatrices(w) || w.layout.size() != 2 || x.layout.size() != 2 ||
      intAttr(op, "transA", 0) != 0 || floatAttr(op, "alpha", 1.0) != 1.0)
    return std::nullopt;
  if (intAttr(op, "transB", 0) != 0)
    std::swap(w.layout[0], w.layout[1]);
  Result out = linear(x, w, false);
  if (!out)
    return std::nullopt;
  if (op->getNumOperands() > 2 && !isAbsent(op->getOperand(2))) {
    if (floatAttr(op, "beta", 1.0) != 1.0)
      return std::nullopt;
    return binaryFacts("Add", *out, get(op->getOperand(2)), op);
  }
  return out;
}

// A convolution that is a product for each pixel.
Analysis::Result Analysis::conv(Operation *op) {
  auto matrix = reading_.channels.matrices.find(op->getResult(0));
  if (matrix == reading_.channels.matrices.end())
    return std::nullopt;
  Fact x = get(op->getOperand(0));
  auto type = ranked(matrix->second);
  auto dimOf = [](int64_t size) { return size == 1 ? Dim() : Dim{Atom{Atom::Any, size}}; };
  if (x.layout.size() < 3 || !unifyDims(x.layout[1], dimOf(type.getDimSize(1))) ||
      x.layout[1].empty() != (type.getDimSize(1) == 1))
    return std::nullopt;
  Expr *e = withChildren(Expr::Linear, x.expr);
  e->weights.items = {{matrix->second, -1}};
  e->nk = true;
  e->expertLinear = true;
  Fact out{e, x.layout};
  out.layout[1] = dimOf(type.getDimSize(0));
  if (op->getNumOperands() < 3 || isAbsent(op->getOperand(2)))
    return out;
  Fact bias = get(op->getOperand(2));
  bias.layout.resize(x.layout.size() - 1); // behind the features the places
  return bias.expr->kind == Expr::Weight ? binaryFacts("Add", out, bias, op) : std::nullopt;
}

} // namespace moec::raise
