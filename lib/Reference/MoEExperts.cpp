// moe.experts and what else applies experts: merged parameters, Soft MoE.
#include "Call.h"
#include "Experts.h"
#include "MatMul.h"
#include "Normalisation.h"
#include "Shapes.h"
#include "moec/Dialect/MoE/MoE.h"
#include <algorithm>

using namespace llvm;

namespace moec::reference {

namespace {

// The given rows of axis 0.
Tensor takeRows(const Tensor &t, ArrayRef<int64_t> rows) {
  Shape shape = t.shape;
  shape[0] = static_cast<int64_t>(rows.size());
  Tensor out(t.type, shape);
  int64_t width = count(ArrayRef(t.shape).drop_front()) * bytesOf(t.type);
  for (auto [i, row] : enumerate(rows))
    if (width)
      std::memcpy(out.mutableBytes() + i * width, t.bytes() + row * width, width);
  return out;
}

// A moe.bank with what its experts are.
class Bank {
public:
  explicit Bank(Call &c) : c(c) {
    auto name = dyn_cast_or_null<mlir::FlatSymbolRefAttr>(c.attribute("bank"));
    bank = name ? dyn_cast_or_null<moe::BankOp>(c.machine.symbol(name.getValue())) : nullptr;
    if (!bank)
      fail("no such bank");
    experts = bank.getExperts();
    if (experts < 1)
      fail("a bank of " + Twine(experts) + " experts");
    auto attribute = dyn_cast_or_null<moe::FfnAttr>(bank->getAttr("body"));
    if (!attribute)
      return;
    formula.gated = attribute.getGated();
    formula.activation = activations::byName(attribute.getActivation().str());
    if (!formula.activation)
      fail("unsupported activation " + attribute.getActivation());
    formula.alpha = attribute.getAlpha();
    if (attribute.getLimit())
      formula.limit = *attribute.getLimit();
    formula.upOffset = attribute.getUpOffset();
    for (const char *each : names)
      if (auto bind = bank->getAttrOfType<mlir::FlatSymbolRefAttr>(each))
        binds.emplace_back(each, bind.getValue());
  }

  int64_t size() const { return experts; }

  /// Whether a layer without a used slot has to ask an expert for the shape of results.
  bool ofRegions() { return binds.empty(); }

  /// Results [n, ...] of expert e for tokens [n, ...] and their contexts.
  Tensor run(int64_t e, const Tensor &x, ArrayRef<Tensor> contexts) {
    StringRef storage = bank.getExpertStorage(e);
    if (storage == "identity")
      return x;
    if (storage == "zero")
      return Tensor(x.type, x.shape);
    if (storage == "constant") {
      Tensor row = c.machine.weightRow(*bank.getConstants(), bank.getConstant(e));
      row.shape.insert(row.shape.begin(), 1);
      return takeRows(row, std::vector<int64_t>(x.shape[0], 0));
    }
    if (storage != "dense")
      fail("unsupported storage of an expert: " + storage);
    int64_t slab = bank.getSlab(e);
    std::vector<Tensor> parameters;
    if (binds.empty()) {
      for (StringRef bind : bank.getParametersOf(bank.getKind(e)))
        parameters.push_back(c.machine.weightRow(bind, slab));
      return runRegion(bank.getRegionOf(e), x, parameters, contexts);
    }
    for (auto &[name, bind] : binds)
      parameters.push_back(c.machine.weightRow(bind, slab));
    return runFfn(x, parameters, bank.getWidth(e));
  }

  /// Results of the expert whose parameters are the sum of all experts' under `weights`.
  Tensor runMerged(ArrayRef<double> weights, const Tensor &x) {
    std::vector<Tensor> parameters;
    if (binds.empty()) {
      for (StringRef bind : bank.getParametersOf(0))
        parameters.push_back(mergedRow(bind, weights));
      return runRegion(bank.getRegionOf(0), x, parameters, {});
    }
    for (auto &[name, bind] : binds)
      parameters.push_back(mergedRow(bind, weights));
    return runFfn(x, parameters, -1);
  }

private:
  static constexpr const char *names[] = {"gate",      "up",      "down",
                                          "gate_bias", "up_bias", "down_bias"};

  FfnParameters named(ArrayRef<Tensor> tensors) {
    FfnParameters p;
    std::optional<Tensor> *places[] = {&p.gate,     &p.up,     &p.down,
                                       &p.gateBias, &p.upBias, &p.downBias};
    for (auto [entry, tensor] : zip(binds, tensors))
      *places[find(names, StringRef(entry.first)) - names] = tensor;
    return p;
  }

  Tensor mergedRow(StringRef bind, ArrayRef<double> weights) {
    std::vector<double> sum;
    Tensor row;
    for (int64_t e = 0; e < experts; ++e) {
      if (bank.getExpertStorage(e) != "dense" ||
          bank.getWidth(e) != static_cast<int64_t>(bank.getInter()))
        fail("unsupported: merging experts of different kinds or widths");
      row = c.machine.weightRow(bind, bank.getSlab(e));
      Elements<double> values(row);
      sum.resize(values.size());
      for (int64_t i = 0; weights[e] != 0 && i < values.size(); ++i)
        sum[i] += weights[e] * values[i];
    }
    return pack(row.type, row.shape, sum);
  }

  Tensor runFfn(const Tensor &x, ArrayRef<Tensor> parameters, int64_t width) {
    Elements<float> in(x);
    if (x.shape[0] == 0)
      return Tensor(Elem::f32, x.shape);
    ArrayRef<float> rows(in.data(), in.size());
    auto y = applyFfn(formula, named(parameters), rows, x.shape[0], width);
    return pack(Elem::f32, x.shape, y);
  }

  Tensor runRegion(mlir::Region &region, const Tensor &x, ArrayRef<Tensor> parameters,
                   ArrayRef<Tensor> contexts) {
    std::vector<std::optional<Tensor>> args = {x};
    args.insert(args.end(), parameters.begin(), parameters.end());
    args.insert(args.end(), contexts.begin(), contexts.end());
    auto results = c.machine.region(region, args);
    if (results.size() != 1 || !results[0] || results[0]->rank() < 1 ||
        results[0]->shape[0] != x.shape[0])
      fail("the bank's body does not give one result for each token");
    return *results[0];
  }

  Call &c;
  moe::BankOp bank;
  int64_t experts = 0;
  FfnFormula formula;
  std::vector<std::pair<std::string, StringRef>> binds;
};

// The operands of moe.experts: ids and weights may each be absent.
struct ExpertOperands {
  const Tensor &x;
  std::optional<Tensor> ids, weights;
  std::vector<Tensor> contexts;
  std::vector<bool> ofRows; // whether a context has a row for each token
};

ExpertOperands expertOperands(Call &c) {
  auto op = dyn_cast<moe::ExpertsOp>(c.op);
  if (!op)
    fail("not a moe.experts");
  ExpertOperands out{c.in(0), std::nullopt, std::nullopt, {}, {}};
  int64_t next = 1;
  if (op.getIds())
    out.ids = c.in(next++);
  if (op.getWeights())
    out.weights = c.in(next++);
  for (size_t i = 0; i < op.getContextValues().size(); ++i) {
    out.contexts.push_back(c.in(next++));
    out.ofRows.push_back(op.isContextOfRows(i));
    const Tensor &context = out.contexts.back();
    if (out.ofRows.back() && (context.rank() < 1 || context.shape[0] != out.x.shape[0]))
      fail("context " + Twine(i) + " has no row for each token");
  }
  return out;
}

std::vector<Slot> slotsOf(const ExpertOperands &in, int64_t tokens, int64_t experts,
                          std::vector<int64_t> &columns) {
  if (!in.weights || in.weights->rank() != 2 || in.weights->shape[0] != tokens)
    fail("weights for " + Twine(tokens) + " tokens expected");
  int64_t k = in.weights->shape[1];
  if (in.ids ? in.ids->shape != in.weights->shape : k != experts)
    fail("weights " + text(in.weights->shape) + " do not fit " +
         (in.ids ? "ids " + text(in.ids->shape) : std::to_string(experts) + " experts"));
  Elements<float> weights(*in.weights);
  std::optional<Elements<int64_t>> ids;
  if (in.ids)
    ids.emplace(*in.ids);
  std::vector<Slot> slots;
  for (int64_t i = 0; i < tokens * k; ++i) {
    int64_t e = ids ? (*ids)[i] : i % k;
    if (e < -1 || e >= experts)
      fail("expert id " + Twine(e) + " of " + Twine(experts) + " experts");
    if (e == -1 || weights[i] == 0)
      continue;
    slots.push_back({i / k, e, weights[i]});
    columns.push_back(i);
  }
  return slots;
}

// Results of the used slots, each a row.
struct SlotResults {
  Shape each; // of one result
  std::vector<std::vector<float>> rows;
};

SlotResults runUsed(Bank &bank, const ExpertOperands &in, ArrayRef<Slot> slots) {
  SlotResults out;
  out.rows.resize(slots.size());
  std::vector<std::vector<int64_t>> of(bank.size());
  for (auto [i, slot] : enumerate(slots))
    of[slot.expert].push_back(static_cast<int64_t>(i));
  bool any = !slots.empty();
  if (!any)
    out.each.assign(in.x.shape.begin() + 1, in.x.shape.end());
  for (int64_t e = 0; e < bank.size(); ++e) {
    // With no slot at all, the first expert says what a result is.
    if (of[e].empty() && (any || e > 0 || !bank.ofRegions()))
      continue;
    std::vector<int64_t> tokens;
    for (int64_t i : of[e])
      tokens.push_back(slots[i].token);
    std::vector<Tensor> contexts;
    for (auto [i, context] : enumerate(in.contexts))
      contexts.push_back(in.ofRows[i] ? takeRows(context, tokens) : context);
    Tensor y = bank.run(e, takeRows(in.x, tokens), contexts);
    Shape each(y.shape.begin() + 1, y.shape.end());
    if (any && !out.each.empty() && each != out.each)
      fail("the experts' results differ in shape: " + text(each) + " and " + text(out.each));
    out.each = each;
    Elements<float> values(y);
    int64_t width = count(each);
    for (size_t i = 0; i < of[e].size(); ++i)
      out.rows[of[e][i]].assign(values.begin() + i * width, values.begin() + (i + 1) * width);
  }
  return out;
}

void experts(Call &c) {
  ExpertOperands in = expertOperands(c);
  Bank bank(c);
  if (in.x.rank() < 1 || (!bank.ofRegions() && in.x.rank() != 2))
    fail("tokens [T, H] expected, not " + text(in.x.shape));
  int64_t tokens = in.x.shape[0];
  std::vector<Slot> slots;
  std::vector<int64_t> columns;
  if (in.weights) {
    slots = slotsOf(in, tokens, bank.size(), columns);
  } else { // a plain feed-forward layer
    if (in.ids || bank.size() != 1)
      fail("without weights the bank must have one expert");
    for (int64_t t = 0; t < tokens; ++t) {
      slots.push_back({t, 0, 1.0f});
      columns.push_back(t);
    }
  }
  SlotResults y = runUsed(bank, in, slots);
  bool apart = c.str("combine", "sum") == "none";
  int64_t k = in.weights ? in.weights->shape[1] : 1, width = count(y.each);
  std::vector<float> out(tokens * (apart ? k : 1) * width, 0.0f);
  for (auto [i, slot] : enumerate(slots)) {
    float *to = out.data() + (apart ? columns[i] : slot.token) * width;
    for (int64_t h = 0; h < width; ++h)
      to[h] += slot.weight * y.rows[i][h];
  }
  Shape shape = {tokens};
  if (apart)
    shape.push_back(k);
  shape.append(y.each.begin(), y.each.end());
  c.set(0, pack(c.outType(0), shape, out));
}

void mergeWeights(Call &c) {
  Bank bank(c);
  const Tensor &x = c.in(0), &weights = c.in(1);
  if (x.rank() != 2 || weights.rank() != 2 || weights.shape[1] != bank.size() ||
      weights.shape[0] == 0 || x.shape[0] % weights.shape[0] != 0)
    fail("tokens " + text(x.shape) + " and weights " + text(weights.shape) + " do not fit");
  int64_t groups = weights.shape[0], n = x.shape[0] / groups;
  Elements<double> w(weights);
  std::vector<Tensor> out;
  for (int64_t g = 0; g < groups; ++g) {
    Tensor y = bank.runMerged({w.data() + g * bank.size(), size_t(bank.size())},
                              part(x, 0, g * n, n));
    out.push_back(cast(y, c.outType(0)));
  }
  c.set(0, concat(out, 0));
}

// Softmax over tokens for each slot, then the mean of the tokens.
void softDispatch(Call &c) {
  const Tensor &x = c.in(0), &logits = c.in(1);
  if (x.rank() != 2 || logits.rank() != 2 || x.shape[0] != logits.shape[0])
    fail("tokens " + text(x.shape) + " and logits " + text(logits.shape) + " do not fit");
  int64_t tokens = x.shape[0], hidden = x.shape[1], slots = logits.shape[1];
  Elements<double> in(x), z(transpose(logits, {1, 0}));
  std::vector<double> out(slots * hidden, 0.0);
  for (int64_t s = 0; s < slots; ++s) {
    std::vector<double> p(z.data() + s * tokens, z.data() + (s + 1) * tokens);
    softmax(p);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t h = 0; h < hidden; ++h)
        out[s * hidden + h] += p[t] * in[t * hidden + h];
  }
  c.set(0, pack(x.type, {slots, hidden}, out));
}

void softCombine(Call &c) {
  const Tensor &y = c.in(0), &logits = c.in(1);
  if (y.rank() != 2 || logits.rank() != 2 || y.shape[0] != logits.shape[1])
    fail("slots " + text(y.shape) + " and logits " + text(logits.shape) + " do not fit");
  int64_t tokens = logits.shape[0], slots = logits.shape[1], hidden = y.shape[1];
  Elements<double> in(y), z(logits);
  std::vector<double> out(tokens * hidden, 0.0);
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<double> p(z.data() + t * slots, z.data() + (t + 1) * slots);
    softmax(p);
    for (int64_t s = 0; s < slots; ++s)
      for (int64_t h = 0; h < hidden; ++h)
        out[t * hidden + h] += p[s] * in[s * hidden + h];
  }
  c.set(0, pack(y.type, {tokens, hidden}, out));
}

void weightUse(Call &c) {
  auto name = dyn_cast_or_null<mlir::FlatSymbolRefAttr>(c.attribute("weight"));
  if (!name)
    fail("no weight is named");
  c.set(0, c.machine.weight(name.getValue()));
}

} // namespace

void addMoEExperts(Registry &r) {
  r.add("moe.weight.use", weightUse);
  r.add("moe.experts", experts);
  r.add("moe.merge_weights", mergeWeights);
  r.add("moe.soft_dispatch", softDispatch);
  r.add("moe.soft_combine", softCombine);
}

} // namespace moec::reference
