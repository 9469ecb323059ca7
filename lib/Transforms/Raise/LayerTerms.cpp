#include "LayerTerms.h"

using namespace mlir;

namespace moec::raise {

namespace {

std::string list(ArrayRef<int64_t> ids) {
  std::string out;
  for (int64_t id : ids)
    out += (out.empty() ? "" : ", ") + std::to_string(id);
  return out;
}

} // namespace

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
    if (!missing.empty()) {
      no.kind = "missing-experts";
      no.reason = "expert(s) " + list(missing) + " of " +
                  std::to_string(r.experts) + " missing" +
                  (doubled.empty() ? " (does the exporter drop experts that its sample does "
                                     "not reach?)"
                                   : "");
    }
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

} // namespace moec::raise
