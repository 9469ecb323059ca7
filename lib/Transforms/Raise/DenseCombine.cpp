// Dense weights: a tensor [tokens, experts] of any origin whose columns weigh
// the experts' results. What computes it (a softmax over all experts, a
// threshold, a scatter into zeros) does not matter: the layer takes the tensor.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

// What speaks against weights from a top-k as a choice of experts for each token;
// looks behind no product with parameters.
static const char *strangeChoice(Value weights, const Channels &channels, Operation *&at) {
  SmallVector<Value, 16> todo{weights};
  for (size_t i = 0; i < todo.size() && i < 24; ++i) {
    Operation *op = todo[i].getDefiningOp();
    StringRef n = onnxName(op);
    if (n.empty() || n == "MatMul" || n == "Gemm" || n == "Conv" || n == "Constant" || n == "Shape")
      continue;
    if (n != "TopK") {
      todo.append(op->operand_begin(), op->operand_end());
      continue;
    }
    at = op;
    auto type = ranked(op->getOperand(0));
    int64_t axis = intAttr(op, "axis", -1);
    if (type && axis != -1 && axis != type.getRank() - 1 &&
        (axis != 1 || !channels.values.contains(op->getOperand(0))))
      return "the top-k chooses tokens, not experts";
    Value count = op->getOperand(1);
    if (Operation *least = count.getDefiningOp(); isOnnx(least, "Min"))
      for (Value v : least->getOperands()) // or fewer where there are not so many
        count = evalInt(v) ? v : count;
    return evalInt(count) ? nullptr : "the top-k count is not a constant";
  }
  return nullptr;
}

// Through what keeps the elements, and a scatter of weights by ids: whether the
// ids are those of a top-k that is none over the experts. The weights are not
// trusted then.
bool Analysis::fromBadTopK(Value weights) {
  Value v = weights;
  Operation *scatter = nullptr;
  for (int depth = 0; v && depth < 12; ++depth) {
    Operation *op = v.getDefiningOp();
    StringRef n = onnxName(op);
    if (n == "ScatterElements" && !scatter) {
      scatter = op;
      v = op->getOperand(1);
    } else if (n == "Cast" || n == "Reshape" || n == "Transpose" || n == "Squeeze" ||
               n == "Unsqueeze" || n == "Identity") {
      v = op->getOperand(0);
    } else {
      break;
    }
  }
  Operation *topk = scatter && v ? v.getDefiningOp() : nullptr;
  if (!isOnnx(topk, "TopK") || topk->getResult(1) != v)
    return false;
  auto it = routings_.find(v);
  if (it != routings_.end() && it->second.k > 0)
    return false;
  if (it == routings_.end()) {
    Routing r;
    r.topk = topk;
    r.ids = v;
    routings_.insert({v, r});
    fail(topk, v, "the top-k does not run over the experts of a token");
  }
  return true;
}

// A tensor with a value for each token and each of `n` features (or experts),
// that is not of some expert itself.
bool isTokenTensor(const Expr *e, const Layout &layout, int64_t n) {
  switch (e->kind) {
  case Expr::Leaf:
  case Expr::Linear:
  case Expr::Unary:
  case Expr::Binary:
  case Expr::Part:
  case Expr::Opaque:
    break;
  default:
    return false;
  }
  if (n < 2 || !e->origin || (e->expertLinear && e->ids))
    return false;
  int64_t wide = 0;
  for (const Dim &dim : layout) {
    if (dim.empty() || (dim.size() == 1 && dim[0].kind == Atom::Tok))
      continue;
    bool experts = isAtom(dim, Atom::Expert) && !e->expertLinear;
    bool features = isAtom(dim, Atom::Any) && !dim[0].copies;
    if ((!experts && !features) || dim[0].size != n)
      return false;
    ++wide;
  }
  return wide == 1;
}

// The routing of dense weights `leaf`, null when the value routes otherwise.
Value Analysis::denseRouting(Expr *leaf, int64_t experts) {
  Value key = leaf && isTokenTensor(leaf, leaf->originLayout, experts) ? leaf->origin : Value();
  auto type = ranked(key);
  if (!type || !type.getElementType().isIntOrFloat() || type.getShape().empty())
    return {};
  int64_t inner = innerFeatures(leaf->originLayout);
  if (type.getDimSize(inner < 0 ? type.getRank() - 1 : inner) != experts)
    return {};
  if (fromBadTopK(key))
    return {};
  auto it = routings_.find(key);
  if (it != routings_.end())
    return it->second.dense ? key : Value();
  Operation *at = nullptr;
  if (const char *why = strangeChoice(key, reading_.channels, at)) {
    Routing refused;
    refused.topk = at;
    refused.ids = key;
    routings_.insert({key, refused});
    fail(at, key, why);
    return {};
  }
  Routing r;
  r.topk = key.getDefiningOp();
  r.ids = r.values = r.scores = key;
  r.k = r.experts = experts;
  r.dense = true;
  routings_.insert({key, r});
  return key;
}

// A tensor's features beside the experts of `body`: then they are weights.
std::optional<Fact> Analysis::acrossExperts(const Fact &weights, const Fact &body) {
  auto onExperts = [](const Dim &dim) { return isAtom(dim, Atom::Expert); };
  if (!body.expr->expertLinear || body.expr->ids || !llvm::any_of(body.layout, onExperts))
    return std::nullopt;
  Fact out = weights;
  int64_t experts = 0;
  for (size_t i = 1; i <= weights.layout.size(); ++i) {
    Dim &dim = out.layout[out.layout.size() - i];
    if (dim.empty() || isAtom(dim, Atom::Tok) || (dim.size() == 1 && dim[0].kind == Atom::Tok))
      continue;
    bool beside = i <= body.layout.size() && dim.size() == 1 && !dim[0].copies &&
                  (dim[0].kind == Atom::Any || dim[0].kind == Atom::Expert) &&
                  isAtom(body.layout[body.layout.size() - i], Atom::Expert);
    if (!beside || experts != 0)
      return std::nullopt;
    experts = dim[0].size;
    if (experts != body.layout[body.layout.size() - i][0].size)
      return std::nullopt;
    dim = {Atom{Atom::Expert, experts}};
  }
  bool tensor = isTokenTensor(weights.expr, weights.layout, experts);
  Value key = tensor ? denseRouting(weights.expr, experts) : Value();
  if (!key)
    return std::nullopt;
  out.expr = make(Expr::DenseW);
  out.expr->ids = key;
  out.expr->b = weights.expr;
  return out;
}

// The same of weights of whole sequences [B, experts] beside tokens [B, S].
std::optional<Fact> Analysis::acrossSequences(const Fact &weights, const Fact &body) {
  Fact out = weights;
  bool sequences = false;
  for (size_t i = 1; i <= std::min(out.layout.size(), body.layout.size()); ++i) {
    Dim &dim = out.layout[out.layout.size() - i];
    const Dim &beside = body.layout[body.layout.size() - i];
    if (isAtom(dim, Atom::Tok) && dim[0].parts == 1 && beside.size() == 1 &&
        beside[0].kind == Atom::Tok && beside[0].parts == 2 && beside[0].part == 0) {
      dim = beside;
      sequences = true;
    }
  }
  auto dense = sequences ? acrossExperts(out, body) : std::nullopt;
  if (!dense || ranked(dense->expr->ids).getRank() != 2)
    return std::nullopt;
  routings_.find(dense->expr->ids)->second.sequences = true;
  return dense;
}

// A sum over experts or slots written as a product: weights [.., 1, n] before
// results [.., n, H].
Analysis::Result Analysis::weightedSum(Operation *op, const Fact &a, const Fact &b) {
  size_t n = a.layout.size();
  if (n >= 2 && b.layout.size() == n && a.expr->expertLinear && !b.expr->expertLinear &&
      b.layout[n - 1].empty()) {
    // Results [.., H, n] before weights [.., n, 1]: the same turned.
    Fact weights = b, results = a;
    std::swap(weights.layout[n - 2], weights.layout[n - 1]);
    std::swap(results.layout[n - 2], results.layout[n - 1]);
    Result sum = weightedSum(op, weights, results);
    if (sum)
      std::swap(sum->layout[n - 2], sum->layout[n - 1]);
    return sum;
  }
  if (n < 2 || b.layout.size() != n || !b.expr->expertLinear || !a.layout[n - 2].empty())
    return std::nullopt;
  const Dim &summed = b.layout[n - 2];
  bool slots = isAtom(summed, Atom::Slot), experts = isAtom(summed, Atom::Expert);
  if (!slots && !experts)
    return std::nullopt;
  Fact turned = a;
  std::swap(turned.layout[n - 2], turned.layout[n - 1]);
  Result product = binaryFacts("Mul", turned, b, op);
  if (!product)
    return std::nullopt;
  Layout rest = product->layout;
  rest.erase(rest.begin() + (n - 2));
  Result sum = sumOver(op, *product, summed, rest);
  if (sum)
    sum->layout.insert(sum->layout.end() - 1, Dim());
  return sum;
}

} // namespace moec::raise
