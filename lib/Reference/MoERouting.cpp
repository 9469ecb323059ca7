// moe.select, moe.route and moe.choose. Scores are f32 whatever their stored type; ties go to the
// lower id; a row that holds NaN chooses the experts 0, 1, ... under weights of NaN.
#include "Call.h"
#include "Indices.h"
#include "Shapes.h"
#include "moec/Dialect/MoE/RouterFormula.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace llvm;

namespace moec::reference {

namespace {

// The chosen experts of each row, and their weights.
struct Choice {
  int64_t rows, slots;
  std::vector<int64_t> ids;
  std::vector<double> weights;

  Choice(int64_t rows, int64_t slots)
      : rows(rows), slots(slots), ids(rows * slots, -1), weights(rows * slots, 0.0) {}
  void setNan(int64_t row, int64_t experts) {
    for (int64_t j = 0; j < slots; ++j) {
      ids[row * slots + j] = std::min(j, experts - 1);
      weights[row * slots + j] = std::nan("");
    }
  }
  void put(Call &c) const {
    c.set(0, pack(Elem::i32, {rows, slots}, ids));
    c.set(1, pack(c.outType(1), {rows, slots}, weights));
  }
};

void checkMatrix(const Tensor &t) {
  if (t.rank() != 2)
    fail("a matrix of scores expected, not " + text(t.shape));
}

bool holdsNan(ArrayRef<float> row) {
  return any_of(row, [](float v) { return std::isnan(v); });
}

// Indices of a row in falling order of score, ties to the lower index; NaN counts as -inf.
std::vector<int64_t> ranked(ArrayRef<float> row) {
  auto key = [&](int64_t i) { return std::isnan(row[i]) ? -INFINITY : row[i]; };
  return orderedIndices(static_cast<int64_t>(row.size()),
                        [&](int64_t a, int64_t b) { return key(a) > key(b); });
}

// Of the best `keep` of `groups` equal groups of neighbours.
std::vector<int64_t> rankedInGroups(ArrayRef<float> row, int64_t groups, int64_t keep, bool top2) {
  int64_t experts = static_cast<int64_t>(row.size());
  if (groups < 1 || keep < 1 || keep > groups || experts % groups != 0)
    fail(Twine(groups) + " groups, " + Twine(keep) + " of them kept, do not fit " + Twine(experts) +
         " experts");
  return moe::rankedInGroups(row, groups, keep, top2);
}

// What moe.select's operands after the scores are, told apart by their types.
struct SelectOperands {
  std::optional<Tensor> weightScores, ids;
  int64_t used;
};

SelectOperands selectOperands(Call &c, int64_t k) {
  SelectOperands out{std::nullopt, std::nullopt, k};
  for (int64_t i = 1; i < c.inputs(); ++i) {
    if (isFloat(c.in(i).type))
      out.weightScores = c.in(i);
    else if (c.in(i).type == Elem::i32)
      out.ids = c.in(i);
    else
      out.used = c.intIn(i);
  }
  if (out.used < 0 || out.used > k)
    fail("the number of used slots " + Twine(out.used) + " is not between 0 and " + Twine(k));
  return out;
}

// How many of the ranked experts a selection takes.
int64_t takenOf(Call &c, const std::string &kind, ArrayRef<float> row, ArrayRef<int64_t> order,
                int64_t k) {
  int64_t n = std::min<int64_t>(k, order.size());
  if (kind == "top_p") {
    double p = c.f64("p", 1), sum = 0;
    int64_t taken = 0;
    while (taken < n && (taken == 0 || sum < p))
      sum += row[order[taken++]];
    return taken;
  }
  if (kind == "threshold") {
    double threshold = c.f64("threshold", 0);
    int64_t taken = 0;
    while (taken < n && row[order[taken]] >= threshold)
      ++taken;
    return std::max(taken, std::min(n, c.i64("at_least", 0)));
  }
  return n;
}

std::vector<int64_t> orderOf(Call &c, const std::string &kind, ArrayRef<float> row) {
  if (kind == "grouped_top_k")
    return rankedInGroups(row, c.i64("groups", 1), c.i64("group_k", 1),
                          c.str("group_score", "max") == "top2");
  if (kind != "all")
    return ranked(row);
  std::vector<int64_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  return order;
}

void select(Call &c) {
  const Tensor &scores = c.in(0);
  checkMatrix(scores);
  std::string kind = c.str("kind", "top_k");
  int64_t rows = scores.shape[0], experts = scores.shape[1];
  auto declared = dyn_cast<mlir::RankedTensorType>(c.op->getResult(0).getType());
  int64_t columns = declared && declared.getRank() == 2 && !declared.isDynamicDim(1)
                        ? declared.getDimSize(1)
                        : experts;
  int64_t k = c.i64("k", columns);
  SelectOperands more = selectOperands(c, k);
  if (kind == "external" && (!more.ids || more.ids->rank() != 2 || more.ids->shape[0] != rows))
    fail("an external selection needs ids for " + Twine(rows) + " tokens");
  if (more.weightScores && more.weightScores->shape != scores.shape)
    fail("weight scores " + text(more.weightScores->shape) + " for scores " + text(scores.shape));
  Choice choice(rows, kind == "external" ? more.ids->shape[1] : k);
  Elements<float> in(scores), weights(more.weightScores ? *more.weightScores : scores);
  std::optional<Elements<int64_t>> given;
  if (kind == "external")
    given.emplace(*more.ids);
  for (int64_t t = 0; t < rows; ++t) {
    ArrayRef<float> row(in.data() + t * experts, experts);
    if (holdsNan(row) || holdsNan(ArrayRef(weights.data() + t * experts, experts))) {
      choice.setNan(t, experts);
      continue;
    }
    std::vector<int64_t> chosen;
    if (given) {
      chosen.assign(given->begin() + t * choice.slots, given->begin() + (t + 1) * choice.slots);
    } else {
      chosen = orderOf(c, kind, row);
      chosen.resize(takenOf(c, kind, row, chosen, std::min(k, more.used)));
    }
    for (size_t j = 0; j < chosen.size(); ++j) {
      int64_t e = chosen[j], at = t * choice.slots + static_cast<int64_t>(j);
      if (e < -1 || e >= experts)
        fail("expert id " + Twine(e) + " of " + Twine(experts) + " experts");
      choice.ids[at] = e;
      choice.weights[at] = e < 0 ? 0 : weights[t * experts + e];
    }
  }
  choice.put(c);
}

void route(Call &c) {
  const Tensor &logits = c.in(0);
  checkMatrix(logits);
  auto router = dyn_cast_or_null<moe::RouterAttr>(c.attribute("router"));
  if (!router)
    fail("no router formula");
  int64_t rows = logits.shape[0], experts = logits.shape[1], k = router.getK();
  if (k < 1 || k > experts)
    fail("k = " + Twine(k) + " does not fit " + Twine(experts) + " experts");
  if (c.hasIn(1) && c.in(1).size() != experts)
    fail("a bias of " + Twine(c.in(1).size()) + " elements for " + Twine(experts) + " experts");
  Elements<float> in(logits), bias(c.hasIn(1) ? c.in(1) : Tensor(Elem::f32, {experts}));
  Choice choice(rows, k);
  for (int64_t t = 0; t < rows; ++t) {
    std::vector<float> scores =
        moe::routerScores(router, {in.data() + t * experts, size_t(experts)});
    std::vector<float> selection = scores;
    for (int64_t e = 0; e < experts; ++e)
      selection[e] += bias[e];
    if (holdsNan(selection) || holdsNan(scores)) {
      choice.setNan(t, experts);
      continue;
    }
    auto order = rankedInGroups(selection, router.getGroups(), router.getGroupK(),
                                router.getGroupScore() == moe::GroupScore::Top2);
    if (static_cast<int64_t>(order.size()) < k)
      fail("k = " + Twine(k) + " exceeds the " + Twine(order.size()) +
           " experts of the kept groups");
    MutableArrayRef<double> weights(choice.weights.data() + t * k, k);
    for (int64_t j = 0; j < k; ++j) {
      choice.ids[t * k + j] = order[j];
      weights[j] = scores[order[j]];
    }
    moe::routerWeights(router, weights);
  }
  choice.put(c);
}

// Experts pick tokens: columns of the scores instead of rows.
void choose(Call &c) {
  checkMatrix(c.in(0));
  Tensor byExpert = transpose(c.in(0), {1, 0});
  int64_t experts = byExpert.shape[0], tokens = byExpert.shape[1];
  int64_t capacity = c.i64("capacity", 0);
  if (capacity < 0)
    fail("capacity = " + Twine(capacity));
  Choice choice(experts, capacity);
  Elements<float> in(byExpert);
  for (int64_t e = 0; e < experts; ++e) {
    ArrayRef<float> row(in.data() + e * tokens, tokens);
    std::vector<int64_t> order = ranked(row);
    for (int64_t j = 0; j < std::min(capacity, tokens); ++j) {
      choice.ids[e * capacity + j] = order[j];
      choice.weights[e * capacity + j] = row[order[j]];
    }
  }
  choice.put(c);
}

} // namespace

void addMoERouting(Registry &r) {
  r.add("moe.select", select);
  r.add("moe.route", route);
  r.add("moe.choose", choose);
}

} // namespace moec::reference
