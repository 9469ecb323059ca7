// Experts as operators of ONNX: slots sorted by expert, each expert's rows cut out, its layers as
// Gemm nodes, the results put back in order and summed. This is the form that runs only the chosen
// experts whatever the number of tokens, and that raise-moe reads.
#include "Lower.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace moec;
using namespace moec::onnx_export;

Type moec::onnx_export::wider(Type a, Type b) {
  if (a == b)
    return a;
  if (a.isF64() || b.isF64())
    return a.isF64() ? a : b;
  return Float32Type::get(a.getContext());
}

Value moec::onnx_export::activate(Build &b, moe::FfnAttr ffn, Value x) {
  StringRef name = ffn.getActivation();
  if (name == "relu")
    return b.unary("Relu", x);
  if (name == "relu2") {
    Value r = b.unary("Relu", x);
    return b.binary("Mul", r, r);
  }
  if (name == "silu")
    return b.binary("Mul", x, b.unary("Sigmoid", x));
  if (name == "swish") {
    Value scaled = b.binary("Mul", x, b.number(elementOf(x), ffn.getAlpha()));
    return b.binary("Mul", x, b.unary("Sigmoid", scaled));
  }
  if (name == "gelu" || name == "gelu_tanh")
    return b.op("Gelu", x, x.getType(), b.attr("approximate", name == "gelu" ? "none" : "tanh"));
  if (name == "tanh" || name == "sigmoid")
    return b.unary(name == "tanh" ? "Tanh" : "Sigmoid", x);
  return x; // identity
}

Value moec::onnx_export::hidden(Build &b, moe::FfnAttr ffn, Value gate, Value up) {
  if (!gate)
    return activate(b, ffn, up);
  if (auto limit = ffn.getLimit()) {
    Value most = b.number(elementOf(gate), *limit);
    gate = b.op("Clip", {gate, b.none(), most}, gate.getType());
    up = b.op("Clip", {up, b.number(elementOf(up), -double(*limit)), most}, up.getType());
  }
  if (ffn.getUpOffset() != 0)
    up = b.binary("Add", up, b.number(elementOf(up), ffn.getUpOffset()));
  return b.binary("Mul", activate(b, ffn, gate), up);
}

// Whether some expert's matrix is stored the other way round: then all are written so, which is how
// they are read back as experts of one formula.
bool Lowering::anyTurned(moe::BankOp bank, StringRef weight) {
  auto [it, isNew] = turnedWeights.try_emplace(weight, false);
  for (int64_t id = 0; isNew && !it->second && id < static_cast<int64_t>(bank.getExperts()); ++id)
    it->second = bank.getExpertStorage(id) == "dense" &&
                 steps.untransposed(steps.row(steps.of(weight), bank.getSlab(id)));
  return it->second;
}

// x times one of an expert's matrices, plus its bias. Of narrower experts only the first `width`
// rows (or columns) count.
Value Lowering::linear(Build &b, moe::BankOp bank, int64_t id, Value x, StringRef name,
                       int64_t width, bool narrowRows) {
  auto symbol = bank->getAttrOfType<FlatSymbolRefAttr>(name);
  Value w = steps.row(steps.of(symbol.getValue()), bank.getSlab(id));
  w = steps.head(w, narrowRows ? 0 : 1, width);
  std::string hint = (bank.getSymName() + "." + name + "." + Twine(id)).str();
  Type element = wider(elementOf(x), elementOf(w));
  Value bias = b.none();
  if (auto of = bank->getAttrOfType<FlatSymbolRefAttr>((name + "_bias").str())) {
    Value v = steps.row(steps.of(of.getValue()), bank.getSlab(id));
    if (narrowRows)
      v = steps.head(v, 0, width);
    if (!Steps::isZero(v))
      bias = use(b, steps.cast(v, element), hint + ".bias");
  }
  w = steps.cast(w, element);
  int64_t rows = rankedType(w).getDimSize(0);
  Value turned = steps.untransposed(w);
  if (!turned && anyTurned(bank, symbol.getValue()))
    turned = steps.transpose(w, {1, 0});
  Value matrix = use(b, turned ? turned : w, hint);
  auto type = b.type({rankedType(x).getDimSize(0), rows}, element);
  return b.op("Gemm", {b.cast(x, element), matrix, bias}, type, b.attr("transB", turned ? 0 : 1));
}

Value Lowering::body(Build &b, moe::BankOp bank, int64_t id, Value x) {
  moe::FfnAttr ffn = *bank.getBody();
  int64_t width = bank.getWidth(id);
  Value gate = ffn.getGated() ? linear(b, bank, id, x, "gate", width, true) : Value();
  Value up = linear(b, bank, id, x, "up", width, true);
  return linear(b, bank, id, hidden(b, ffn, gate, up), "down", width, false);
}

Contexts Contexts::map(llvm::function_ref<Value(Value)> f) const {
  Contexts out = *this;
  for (auto [value, rows] : llvm::zip(out.values, ofRows))
    if (rows)
      value = f(value);
  return out;
}

Value Lowering::region(Build &b, moe::BankOp bank, int64_t id, Value x, const Contexts &contexts) {
  Block &block = bank.getRegionOf(id).front();
  IRMapping map;
  map.map(block.getArgument(0), x);
  auto parameters = bank.getParametersOf(bank.getKind(id));
  auto arguments = block.getArguments().drop_front();
  for (auto [name, argument] : llvm::zip(parameters, arguments)) {
    std::string hint = (bank.getSymName() + "." + name + "." + Twine(id)).str();
    map.map(argument, use(b, steps.row(steps.of(name), bank.getSlab(id)), hint));
  }
  for (auto [context, argument] :
       llvm::zip(contexts.values, arguments.drop_front(parameters.size())))
    map.map(argument, context);
  for (Operation &op : block.without_terminator())
    b.builder.clone(op, map);
  return map.lookupOrDefault(block.getTerminator()->getOperand(0));
}

// Rows [N, ...] whose other axes are known as vectors [N, n]: sorts and cuts move vectors, what a
// row looks like concerns the experts alone. Others stay.
static Value asVectors(Build &b, Value v) {
  auto type = rankedType(v);
  int64_t n = 1;
  for (int64_t d : type.getShape().drop_front(std::min<int64_t>(1, type.getRank())))
    n = ShapedType::isDynamic(d) || n < 0 ? -1 : n * d;
  if (type.getRank() <= 2 || n <= 0)
    return v;
  return b.reshape(v, b.ints({0, n}), b.type({type.getDimSize(0), n}, type.getElementType()));
}

// The same back, to rows of the type.
static Value asRows(Build &b, Value v, RankedTensorType like) {
  SmallVector<int64_t> dims(like.getShape()), target(dims);
  if (rankedType(v).getRank() == like.getRank())
    return v;
  dims[0] = rankedType(v).getDimSize(0);
  target[0] = 0;
  return b.reshape(v, b.ints(target), b.type(dims, like.getElementType()));
}

// A constant expert's row for each of `x`.
Value Lowering::constant(Build &b, moe::BankOp bank, int64_t id, Value x) {
  Value row = steps.row(steps.of(*bank.getConstants()), bank.getConstant(id));
  std::string hint = (bank.getSymName() + ".constant." + Twine(id)).str();
  SmallVector<int64_t> dims(rankedType(row).getShape());
  Value count = b.slice(b.shape(x), b.ints(0), b.ints(1), 0);
  Value shape = b.concat({count, b.ints(dims)}, 0);
  dims.insert(dims.begin(), rankedType(x).getDimSize(0));
  return b.op("Expand", {use(b, row, hint), shape}, b.type(dims, elementOf(row)));
}

Value Lowering::expert(Build &b, moe::BankOp bank, int64_t id, Value x, const Contexts &contexts) {
  b.part = ("experts." + Twine(id)).str();
  StringRef storage = bank.getExpertStorage(id);
  Value y = storage == "zero"       ? b.zeros(b.shape(x), rankedType(x))
            : storage == "identity" ? x
            : storage == "constant" ? constant(b, bank, id, x)
            : bank.getBody()        ? body(b, bank, id, x)
                                    : region(b, bank, id, x, contexts);
  b.part.clear();
  return y;
}

// Rows [T * k, ...] as [T, k, ...].
static Value splitSlots(Build &b, Value y, int64_t k) {
  auto type = rankedType(y);
  SmallVector<int64_t> dims = {ShapedType::kDynamic, k};
  dims.append(type.getShape().begin() + 1, type.getShape().end());
  if (llvm::count_if(ArrayRef(dims).drop_front(), ShapedType::isDynamic) == 0) {
    dims[0] = -1;
    return b.reshape(y, dims);
  }
  Value each = b.slice(b.shape(y), b.ints(1), b.ints(type.getRank()), 0);
  return b.reshape(y, b.concat({b.ints({-1, k}), each}, 0), b.type(dims, type.getElementType()));
}

// Weights with axes of one behind them, up to the rank of what they multiply.
static Value alignWeights(Build &b, Value weights, Value y) {
  while (rankedType(weights).getRank() < rankedType(y).getRank())
    weights = b.unsqueeze(weights, rankedType(weights).getRank());
  return weights;
}

// Slots that count for each expert. Empty slots are one expert more.
static Value countSlots(Build &b, Value flat, Value number, int64_t groups) {
  Type i64 = b.builder.getI64Type();
  Value zero = b.ints(SmallVector<int64_t>(groups, 0));
  Value ones = b.op("Expand", {b.ints(1), number}, rankedType(flat));
  return b.op("ScatterElements", {zero, flat, ones}, b.type({groups}, i64),
              {b.attr("axis", 0), b.attr("reduction", "add")});
}

namespace {
/// Experts of a bank without those that have a twin before them.
struct Distinct {
  SmallVector<int64_t> experts; // their ids
  SmallVector<int64_t> of;      // for each id a place among them

  explicit Distinct(moe::BankOp bank, bool all = false) {
    for (auto [e, twin] : llvm::enumerate(bank.getTwins())) {
      bool own = all || twin == static_cast<int64_t>(e);
      of.push_back(own ? static_cast<int64_t>(experts.size()) : of[twin]);
      if (own)
        experts.push_back(static_cast<int64_t>(e));
    }
  }
  int64_t size() const { return static_cast<int64_t>(experts.size()); }
  bool all() const { return experts.size() == of.size(); }
};
} // namespace

Value Lowering::sorted(Build &b, moe::BankOp bank, Value x, const Contexts &contexts,
                       const Routing &routing, bool sum) {
  Type i64 = b.builder.getI64Type();
  Distinct distinct(bank, bank.getCoupled());
  int64_t experts = distinct.size(), last = bank.getExperts();
  int64_t k = rankedType(routing.ids).getDimSize(1);
  RankedTensorType tokens = rankedType(x), given;
  Value ids = routing.ids;
  if (routing.empty)
    ids = b.where(b.compare("Less", ids, b.number(i64, 0)), b.number(i64, last), ids);
  if (!distinct.all()) { // experts that share parameters are one, the empty slot's is one more
    distinct.of.push_back(experts);
    ids = b.gather(b.ints(distinct.of), ids, 0);
  }
  Value flat = b.reshape(ids, {-1}), number = b.shape(flat);
  Value order = b.topK(flat, number, ShapedType::kDynamic, /*largest=*/false).second;
  Value token = k == 1 ? order : b.binary("Div", order, b.number(i64, k));
  Value rows = b.gather(asVectors(b, x), token, 0);
  Contexts beside = contexts.map([&](Value v) { return b.gather(v, token, 0); });
  int64_t groups = experts + (routing.empty ? 1 : 0);
  Value counts = countSlots(b, flat, number, groups);
  Value ends = b.op("CumSum", {counts, b.index(0)}, counts.getType());
  SmallVector<Value> end = b.unitParts(ends, 0), results;
  Type type;
  for (int64_t e = 0; e < groups; ++e) {
    auto cut = [&](Value v) {
      return groups == 1 ? v : b.slice(v, e ? end[e - 1] : b.ints(0), end[e], 0);
    };
    if (e < experts) {
      Value y =
          expert(b, bank, distinct.experts[e], asRows(b, cut(rows), tokens), beside.map(cut));
      given = rankedType(y);
      results.push_back(asVectors(b, y));
    } else { // empty slots: rows of zeros like an expert's results
      Value count = b.slice(b.shape(cut(order)), b.ints(0), b.ints(1), 0);
      Value like = results.front();
      Value each = b.slice(b.shape(like), b.ints(1), b.ints(rankedType(like).getRank()), 0);
      results.push_back(b.zeros(b.concat({count, each}, 0), rankedType(like)));
    }
    type = type ? wider(type, elementOf(results.back())) : elementOf(results.back());
  }
  for (Value &result : results)
    result = b.cast(result, type);
  Value back = b.topK(order, b.shape(order), ShapedType::kDynamic, /*largest=*/false).second;
  Value y = b.gather(b.concat(results, 0), back, 0);
  type = wider(type, elementOf(routing.weights));
  type = type.isF64() ? type : b.builder.getF32Type();
  y = b.cast(splitSlots(b, y, k), type);
  y = b.binary("Mul", y, alignWeights(b, b.cast(routing.weights, type), y));
  given = given.clone(type);
  if (sum)
    return asRows(b, b.reduce("ReduceSum", y, 1, false), given);
  SmallVector<int64_t> dims(given.getShape());
  dims.insert(dims.begin() + 1, k);
  return asRows(b, y, given.clone(dims));
}

// One expert after the other: the slots that chose it, its rows, their sum at their tokens. The
// form that is read where rows of one expert depend on each other.
Value Lowering::looped(Build &b, moe::BankOp bank, Value x, const Contexts &contexts,
                       const Routing &routing) {
  Type i64 = b.builder.getI64Type();
  Value weights = routing.weights, sum;
  Type type = wider(elementOf(weights), b.builder.getF32Type());
  for (int64_t e = 0; e < static_cast<int64_t>(bank.getExperts()); ++e) {
    Value chose = b.compare("Equal", routing.ids, b.number(i64, static_cast<double>(e)));
    Value hits = b.op("NonZero", chose, b.type({2, ShapedType::kDynamic}, i64));
    Value token = b.gather(hits, b.index(0), 0), slot = b.gather(hits, b.index(1), 0);
    auto rows = [&](Value v) { return b.gather(v, token, 0); };
    Value y = b.cast(expert(b, bank, e, rows(x), contexts.map(rows)), type);
    Value at = b.unsqueeze(token, 1);
    Value pair = b.concat({at, b.unsqueeze(slot, 1)}, 1);
    Value w = b.op("GatherND", {weights, pair}, b.type({ShapedType::kDynamic}, elementOf(weights)),
                   b.attr("batch_dims", 0));
    w = b.unsqueeze(b.cast(w, type), 1);
    y = b.binary("Mul", y, alignWeights(b, w, y));
    if (!sum) {
      SmallVector<int64_t> dims(rankedType(y).getShape());
      dims[0] = rankedType(x).getDimSize(0);
      Value number = b.slice(b.shape(x), b.ints(0), b.ints(1), 0);
      Value each = b.slice(b.shape(y), b.ints(1), b.ints(static_cast<int64_t>(dims.size())), 0);
      if (llvm::none_of(ArrayRef(dims).drop_front(), ShapedType::isDynamic))
        each = b.ints(ArrayRef(dims).drop_front());
      sum = b.zeros(b.concat({number, each}, 0), b.type(dims, type));
    }
    sum = b.op("ScatterND", {sum, at, y}, sum.getType(), b.attr("reduction", "add"));
  }
  return sum;
}

// Weights [T, E] of the slots, which are all full.
static Value spread(Build &b, const Routing &routing, int64_t experts) {
  Value number = b.slice(b.shape(routing.ids), b.ints(0), b.ints(1), 0);
  auto type = b.type({rankedType(routing.ids).getDimSize(0), experts}, elementOf(routing.weights));
  Value zeros = b.zeros(b.concat({number, b.ints(experts)}, 0), type);
  return b.op("ScatterElements", {zeros, routing.ids, routing.weights}, type,
              {b.attr("axis", 1), b.attr("reduction", "add")});
}

// 1 everywhere.
static bool isOne(Value v) {
  Operation *op = v.getDefiningOp();
  if (op && op->getName().getStringRef() == "onnx.Expand")
    return isOne(op->getOperand(0));
  auto value = op ? op->getAttrOfType<DenseElementsAttr>("value") : DenseElementsAttr();
  return value && value.isSplat() && isa<FloatType>(value.getElementType()) &&
         value.getSplatValue<APFloat>().isExactlyValue(1);
}

Value Lowering::dense(Build &b, moe::BankOp bank, Value x, const Contexts &contexts, Value weights,
                      bool sum) {
  Distinct distinct(bank, !sum || bank.getCoupled());
  bool one = isOne(weights) && distinct.all();
  SmallVector<Value> column, terms;
  if (!one)
    column = b.unitParts(weights, 1);
  if (!distinct.all()) { // the weights of experts that share parameters add up
    SmallVector<Value> sums(distinct.experts.size());
    for (auto [part, to] : llvm::zip(column, distinct.of))
      sums[to] = sums[to] ? b.binary("Add", sums[to], part) : part;
    column = sums;
  }
  Value total;
  for (int64_t e = 0; e < distinct.size(); ++e) {
    Value y = expert(b, bank, distinct.experts[e], x, contexts);
    Type type = wider(elementOf(y), elementOf(weights));
    type = type.isF64() ? type : b.builder.getF32Type();
    y = b.cast(y, type);
    if (!one) {
      Value w = b.cast(column[e], type);
      w = rankedType(y).getRank() < 2 ? b.reshape(w, {-1}) : alignWeights(b, w, y);
      y = b.binary("Mul", y, w);
    }
    if (sum)
      total = total ? b.binary("Add", total, y) : y;
    else
      terms.push_back(b.unsqueeze(y, 1));
  }
  return sum ? total : b.concat(terms, 1);
}

bool Lowering::experts(moe::ExpertsOp op) {
  moe::BankOp bank = moe::findBank(op, op.getBank());
  Build b(op, layerName(op));
  Value x = op.getX(), result;
  Contexts contexts;
  for (auto [i, value] : llvm::enumerate(op.getContextValues())) {
    contexts.values.push_back(value);
    contexts.ofRows.push_back(op.isContextOfRows(i));
  }
  bool sum = op.getCombine() == "sum";
  if (op.getIds()) {
    if (ShapedType::isDynamic(rankedType(op.getIds()).getDimSize(1))) {
      op.emitOpError("is unsupported by export: the number of slots is not static");
      return false;
    }
    Routing routing = routingOf(b, op.getIds(), op.getWeights());
    ArrayRef<int64_t> row = rankedType(x).getShape().drop_front();
    bool coupled = bank->hasAttr("coupled");
    // Rows of sizes that only the inputs say are read where all experts get them.
    if (sum && row.size() > 1 && llvm::any_of(row, ShapedType::isDynamic) && !coupled &&
        !routing.empty)
      result = dense(b, bank, x, contexts, spread(b, routing, bank.getExperts()), sum);
    else if (coupled && sum)
      result = looped(b, bank, x, contexts, routing);
    else
      result = sorted(b, bank, x, contexts, routing, sum);
  } else if (op.getWeights()) {
    result = dense(b, bank, x, contexts, op.getWeights(), sum);
  } else {
    result = expert(b, bank, 0, x, contexts);
  }
  result = b.cast(result, elementOf(op.getResult()));
  if (!sum && !op.getWeights())
    result = b.unsqueeze(result, 1);
  op.getResult().replaceAllUsesWith(result);
  op->erase();
  ++report.plainLayers;
  return true;
}
