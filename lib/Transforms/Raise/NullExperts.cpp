// Routers with more columns than experts: an id from some number on names no
// expert (AdaMoE), or one that gives its token back (LongCat).
#include "FfnMatch.h"

using namespace mlir;

namespace moec::raise {

namespace {

// The value is 0 for every slot that chose `id`.
bool isZeroFor(const Expr *e, int64_t id, int depth = 0) {
  if (!e || depth > 12)
    return false;
  if (e->kind == Expr::IdTable)
    return id < static_cast<int64_t>(e->nums.size()) && e->nums[id] == 0;
  if (e->kind == Expr::Splat)
    return e->nums[0] == 0;
  if (e->kind != Expr::Binary || e->expertLinear)
    return false;
  if (e->name == "Mul")
    return isZeroFor(e->a, id, depth + 1) || isZeroFor(e->b, id, depth + 1);
  return e->name == "Div" && isZeroFor(e->a, id, depth + 1);
}

// An expert's matrix is somewhere in it.
bool holdsMatrix(const Expr *e, int depth = 0) {
  if (!e || depth > 24)
    return false;
  return e->kind == Expr::Linear || holdsMatrix(e->a, depth + 1) ||
         holdsMatrix(e->b, depth + 1) ||
         llvm::any_of(e->args, [&](const Expr *arg) { return holdsMatrix(arg, depth + 1); });
}

// Factors of a product, of whatever kind its operations are described by.
void factorsOf(const Expr *e, SmallVectorImpl<const Expr *> &out) {
  if (e->kind == Expr::Binary && e->name == "Mul") {
    factorsOf(e->a, out);
    factorsOf(e->b, out);
  } else if (e->kind == Expr::Opaque && onnxName(e->op) == "Mul") {
    for (const Expr *arg : e->args)
      factorsOf(arg, out);
  } else if (e->kind == Expr::Opaque && e->args.size() == 1 &&
             (onnxName(e->op) == "Cast" || onnxName(e->op) == "Identity")) {
    factorsOf(e->args.front(), out);
  } else {
    out.push_back(e);
  }
}

} // namespace

int64_t identityExperts(const Routing &r, const Expr *sum) {
  SmallVector<bool> identity(r.experts, false);
  for (const Term &t : sum->terms)
    if (t.expert >= 0 && t.expert < r.experts && t.body)
      identity[t.expert] = !holdsMatrix(t.body);
  int64_t first = r.experts;
  while (first > 0 && identity[first - 1])
    --first;
  return first == 0 ? 0 : r.experts - first;
}

bool givesTokens(const Term &term, const Ffn &ffn) {
  SmallVector<const Expr *> fs;
  factorsOf(term.body, fs);
  if (term.weight)
    factorsOf(term.weight, fs);
  SmallVector<const Expr *> wanted{ffn.x};
  for (const Expr *w : ffn.weights)
    factorsOf(w, wanted);
  for (const Expr *f : wanted) {
    auto *it = llvm::find_if(fs, [&](const Expr *g) { return same(f, g); });
    if (it == fs.end())
      return false;
    fs.erase(it);
  }
  return fs.empty();
}

int64_t realExperts(const Analysis &analysis, const Routing &r, const Expr *sum) {
  std::vector<int> seen(r.experts, 0);
  for (const Term &t : sum->terms)
    if (t.expert >= 0 && t.expert < r.experts)
      ++seen[t.expert];
  if (int64_t n = identityExperts(r, sum))
    return r.experts - n;
  int64_t count = r.experts;
  while (count > 0 && seen[count - 1] == 0)
    --count;
  bool doubled = llvm::any_of(seen, [](int n) { return n > 1; });
  if (count == r.experts || count == 0 || r.dense || doubled)
    return r.experts;
  const Term &term = sum->terms.front();
  SmallVector<Expr *> fs;
  double scale = 1;
  splitResult(term.body, fs, scale);
  fs.push_back(term.weight);
  // Forgotten experts are an error of the graph; these were thought of.
  for (int64_t id = count; id < r.experts; ++id) {
    bool zero = llvm::any_of(fs, [&](const Expr *f) { return isZeroFor(f, id); });
    if (!zero && !analysis.looksAt(r.ids, id))
      return r.experts;
  }
  return count;
}

} // namespace moec::raise
