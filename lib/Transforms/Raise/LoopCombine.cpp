// Control flow around experts: a Loop that adds one expert in each iteration,
// an If that leaves out an expert nobody chose. Their bodies are walked like
// the rest of the graph, a loop's once for each iteration with its number as a
// constant.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

namespace {

constexpr int64_t kMaxSteps = 1 << 16; // operations walked for one loop

// A number that does not depend on the inputs, also as a sum of constants.
std::optional<int64_t> constantCount(Value v) {
  if (auto i = evalInt(v))
    return i;
  Operation *op = v ? v.getDefiningOp() : nullptr;
  if (isOnnx(op, "Cast") || isOnnx(op, "Identity") || isOnnx(op, "Squeeze") ||
      isOnnx(op, "Reshape"))
    return constantCount(op->getOperand(0));
  bool all = isOnnx(op, "ReduceSum") && (op->getNumOperands() < 2 || isAbsent(op->getOperand(1))) &&
             intAttr(op, "noop_with_empty_axes", 0) == 0;
  auto numbers = all ? constNumbers(op->getOperand(0)) : std::nullopt;
  if (!numbers)
    return std::nullopt;
  double sum = 0;
  for (double x : *numbers)
    sum += x;
  return sum == static_cast<double>(static_cast<int64_t>(sum))
             ? std::optional(static_cast<int64_t>(sum))
             : std::nullopt;
}

bool isTrue(Value v) {
  while (Operation *op = v ? v.getDefiningOp() : nullptr) {
    if (isOnnx(op, "Identity")) {
      v = op->getOperand(0);
      continue;
    }
    auto number = constSplat(v);
    return number && *number != 0;
  }
  return false;
}

Block *only(Region &region) { return region.hasOneBlock() ? &region.front() : nullptr; }

} // namespace

bool Analysis::loop(Operation *op) {
  Block *body = only(op->getRegion(0));
  if (!body || body->empty() || body->getNumArguments() < 2 ||
      op->getNumOperands() != body->getNumArguments())
    return false;
  Operation *yield = body->getTerminator();
  unsigned carried = body->getNumArguments() - 2;
  auto count = constantCount(op->getOperand(0));
  bool always = isAbsent(op->getOperand(1)) || isTrue(op->getOperand(1));
  bool goesOn = yield->getNumOperands() > carried &&
                (isTrue(yield->getOperand(0)) || yield->getOperand(0) == body->getArgument(1));
  int64_t length = std::distance(body->begin(), body->end());
  if (!count || *count < 1 || !always || !goesOn || *count > kMaxSteps / length ||
      op->getNumResults() < carried)
    return false;
  std::vector<Fact> state;
  for (unsigned i = 0; i < carried; ++i)
    state.push_back(get(op->getOperand(2 + i)));
  Region *outer = looped_;
  for (int64_t i = 0; i < *count; ++i) {
    // What an iteration computes says nothing about the next one.
    body->walk([&](Operation *inner) {
      for (Value v : inner->getResults())
        facts_.erase(v);
    });
    looped_ = &op->getRegion(0);
    ++iteration_;
    facts_[body->getArgument(0)] = {splat(static_cast<double>(i)), Layout()};
    facts_[body->getArgument(1)] = {splat(1), Layout()};
    for (auto [arg, fact] : llvm::zip(body->getArguments().drop_front(2), state))
      facts_[arg] = fact;
    for (Operation &inner : *body)
      if (&inner != yield)
        visit(&inner);
    for (unsigned c = 0; c < carried; ++c)
      state[c] = get(yield->getOperand(1 + c));
  }
  looped_ = outer;
  bool known = false;
  for (unsigned c = 0; c < carried; ++c) {
    Expr *e = state[c].expr;
    if (e->kind != Expr::Terms && e->kind != Expr::AllTerms)
      continue;
    // The last sum, now outside of the loop.
    Expr *out = make(e->kind);
    *out = *e;
    out->origin = Value();
    consumed_.insert(e);
    set(op->getResult(c), {out, state[c].layout});
    known = true;
  }
  return known;
}

// What an If gives whose branch with an expert is taken when somebody chose it:
// without a choice the expert adds zero.
std::optional<Fact> Analysis::guarded(Operation *op, const Expr *cond, const Fact &chosen,
                                      const Fact &otherwise) {
  const Expr *sum = chosen.expr, *kept = otherwise.expr;
  if (chosen.expr == otherwise.expr)
    return chosen;
  bool zero = kept->kind == Expr::Splat && kept->nums[0] == 0;
  Value by;
  if (auto term = zero ? asTerm(chosen.expr, op, by) : std::nullopt) {
    Expr *first = make(Expr::Terms);
    first->ids = by;
    first->terms.push_back(*term);
    sum = first;
  }
  if (sum->kind != Expr::Terms || sum->apart || sum->ids != cond->ids || sum->terms.empty())
    return std::nullopt;
  size_t before = kept->kind == Expr::Terms ? kept->terms.size() : 0;
  const Expr *base = kept->kind == Expr::Terms ? kept->a : zero ? nullptr : kept;
  bool grows =
      sum->terms.size() == before + 1 && sum->a == base && sum->terms.back().expert == cond->expert;
  for (size_t i = 0; grows && i < before; ++i)
    grows =
        sum->terms[i].expert == kept->terms[i].expert && sum->terms[i].body == kept->terms[i].body;
  if (!grows) {
    fail(op, cond->ids, "the branches of an If differ in more than the guarded expert", true);
    return std::nullopt;
  }
  Expr *out = make(Expr::Terms);
  *out = *sum;
  out->origin = Value();
  consumed_.insert(chosen.expr);
  consumed_.insert(otherwise.expr);
  return Fact{out, chosen.layout};
}

bool Analysis::branch(Operation *op) {
  Block *blocks[2] = {only(op->getRegion(0)), only(op->getRegion(1))};
  Expr *cond = get(op->getOperand(0)).expr;
  bool constant = cond->kind == Expr::Splat;
  if (!blocks[0] || !blocks[1] || (!constant && cond->kind != Expr::Chosen))
    return false;
  std::vector<Fact> results[2];
  for (int side : {0, 1}) {
    Operation *yield = blocks[side]->getTerminator();
    for (Operation &inner : *blocks[side])
      if (&inner != yield)
        visit(&inner);
    if (yield->getNumOperands() != op->getNumResults())
      return false;
    for (Value v : yield->getOperands())
      results[side].push_back(get(v));
  }
  bool whenTrue = cond->nums[0] != 0, known = false;
  for (auto [i, result] : llvm::enumerate(op->getResults())) {
    const Fact &taken = results[whenTrue ? 0 : 1][i];
    std::optional<Fact> fact;
    if (constant && taken.expr->kind != Expr::Leaf)
      fact = taken;
    else if (!constant)
      fact = guarded(op, cond, taken, results[whenTrue ? 1 : 0][i]);
    if (fact) {
      set(result, *fact);
      known = true;
    }
  }
  return known;
}

} // namespace moec::raise
