// The routers of com.microsoft.MoE and QMoE nodes: softmax and top-k, weights from a tensor of
// their own, and the sparse mixer.
#include "FusedOperands.h"
#include "MoEOps.h"
#include <cmath>
#include <limits>

using namespace mlir;

namespace moec::raise {

namespace {

// moe.select by scores, weights from `weightScores` where given.
std::pair<Value, Value> select(OnnxBuilder &b, Value scores, Value weightScores, int64_t k) {
  if (!weightScores)
    return createSelect(b, scores, k);
  int64_t tokens = rankedType(scores).getDimSize(0);
  OperationState state(b.loc, "moe.select");
  state.addOperands({scores, weightScores});
  state.addTypes({RankedTensorType::get({tokens, k}, b.builder.getI32Type()),
                  RankedTensorType::get({tokens, k}, rankedType(weightScores).getElementType())});
  state.addAttribute("k", b.builder.getI64IntegerAttr(k));
  Operation *op = b.builder.create(state);
  return {op->getResult(0), op->getResult(1)};
}

Value normalised(OnnxBuilder &b, Value w) {
  return b.binary("Div", w, b.reduce("ReduceSum", w, {-1}));
}

// Columns in the opposite order.
Value mirrored(OnnxBuilder &b, Value v) {
  SmallVector<int64_t> order;
  for (int64_t i = rankedType(v).getDimSize(1); i-- > 0;)
    order.push_back(i);
  return b.gather(v, b.ints(order), 1);
}

Value where(OnnxBuilder &b, Value condition, Value yes, Value no, Type type) {
  return b.op("Where", {condition, yes, no}, type);
}

// The expert with the largest of `open`, and its weight: the softmax over those experts of `open`
// whose logit in `z` is near the largest. Sources: PhiMoE's sparse mixer (Hugging Face
// transformers, models/phimoe), SparseMixer (arXiv 2310.00811), which the operator names.
std::pair<Value, Value> mixed(OnnxBuilder &b, Value z, Value open) {
  constexpr double kTwiceJitter = 0.02;
  Type f32 = b.builder.getF32Type(), i64 = b.builder.getI64Type();
  auto column = RankedTensorType::get({rankedType(z).getDimSize(0), 1}, i64);
  Value largest = b.reduce("ReduceMax", open, {-1});
  Value id = b.op("ArgMax", open, column,
                  {b.attr("axis", int64_t(-1)), b.attr("keepdims", int64_t(1)),
                   b.attr("select_last_index", int64_t(0))});
  Value factor = b.op("Max", {b.unary("Abs", z), largest}, z.getType());
  Value distance = b.op("Div", {b.op("Sub", {largest, z}, z.getType()), factor}, z.getType());
  Value far = b.binary("Greater", distance, b.scalar(f32, kTwiceJitter));
  Value near =
      where(b, far, b.scalar(f32, -std::numeric_limits<double>::infinity()), open, z.getType());
  Value weight = b.op("GatherElements", {b.softmax(near, -1), id}, column.clone(f32),
                      {b.attr("axis", int64_t(1))});
  return {id, weight};
}

Routed sparseMixer(const FusedNode &node, OnnxBuilder &b, Value z) {
  Type f32 = b.builder.getF32Type();
  auto [first, w1] = mixed(b, z, z);
  Value none = b.scalar(f32, -std::numeric_limits<double>::infinity());
  Value low = b.op("Expand", {none, b.shape(w1, 0, 2)}, w1.getType());
  Value open = b.op("ScatterElements", {z, first, low}, z.getType(),
                    {b.attr("axis", int64_t(1)), b.attr("reduction", StringRef("none"))});
  auto [second, w2] = mixed(b, z, open);
  Routed routed;
  routed.ids = b.cast(b.concat({first, second}, 1), b.builder.getI32Type());
  routed.weights = b.concat({w1, w2}, 1);
  if (node.number("normalize_routing_weights", 0) != 0 && node.semantics == Semantics::schema)
    routed.weights = normalised(b, routed.weights);
  return routed;
}

bool usesSparseMixer(const FusedNode &node) {
  return node.number("use_sparse_mixer", 0) != 0 && node.semantics != Semantics::ortCpu;
}

// Behind casts and identities.
Operation *behind(Value v) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  while (isOnnx(op, "Cast") || isOnnx(op, "Identity"))
    op = op->getOperand(0).getDefiningOp();
  return op;
}

// The number that a tensor holds everywhere.
std::optional<double> filling(Value v) {
  Operation *op = behind(v);
  if (isOnnx(op, "Expand"))
    return constSplat(op->getOperand(0));
  if (!isOnnx(op, "ConstantOfShape"))
    return constSplat(v);
  auto value = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"));
  if (!value || !value.isSplat() || !isa<FloatType>(value.getElementType()))
    return std::nullopt;
  return value.getSplatValue<APFloat>().convertToDouble();
}

// Logits that are log(v), v at least a positive number, at the ids of a top-k and so low elsewhere
// that their softmax is 0: exporters tell the node finished weights v in this way. The softmax is
// v / sum(v).
std::optional<Routed> givenWeights(const FusedNode &node, OnnxBuilder &b) {
  Operation *scatter = behind(node.logits());
  if (!isOnnx(scatter, "ScatterElements") || strAttr(scatter, "reduction") != "none" ||
      (intAttr(scatter, "axis", 0) != 1 && intAttr(scatter, "axis", 0) != -1))
    return std::nullopt;
  Operation *log = behind(scatter->getOperand(2)), *topK = behind(scatter->getOperand(1));
  Operation *clip = isOnnx(log, "Log") ? behind(log->getOperand(0)) : nullptr;
  if (!isOnnx(topK, "TopK") || !isOnnx(clip, "Clip") || intAttr(topK, "largest", 1) != 1)
    return std::nullopt;
  auto fill = filling(scatter->getOperand(0));
  auto least = constSplat(clip->getOperand(1));
  auto scores = ranked(topK->getOperand(0)), chosen = ranked(topK->getResult(1));
  int64_t axis = intAttr(topK, "axis", -1), k = node.number("k", 1);
  // exp of less than -104 is 0 in f32.
  if (!fill || !least || !(*least > 0) || *fill - std::log(*least) > -110 || !scores ||
      scores.getRank() != 2 || (axis != 1 && axis != -1) || !chosen || chosen.getDimSize(1) != k)
    return std::nullopt;
  OpBuilder at(topK);
  OnnxBuilder select(at, topK->getLoc());
  auto [ids, values] = createSelect(select, topK->getOperand(0), k);
  topK->getResult(0).replaceAllUsesWith(values);
  topK->getResult(1).replaceAllUsesWith(select.cast(ids, chosen.getElementType()));
  return Routed{ids, normalised(b, b.cast(clip->getResult(0), b.builder.getF32Type()))};
}

} // namespace

bool checkRouter(const FusedNode &node, int64_t experts, std::string &why) {
  auto z = ranked(node.logits());
  int64_t k = node.number("k", 1);
  if (!z || z.getRank() != 2)
    why = "the router's logits are not [tokens, experts]";
  else if (z.getDimSize(1) != experts)
    why = "the shapes of experts and router do not fit together";
  else if (k < 1 || k > experts)
    why =
        "k = " + std::to_string(k) + " is out of range for " + std::to_string(experts) + " experts";
  else if (usesSparseMixer(node) && k != 2)
    why = "the sparse mixer chooses two experts, not k = " + std::to_string(k);
  else if (usesSparseMixer(node) && node.routerWeights())
    why = "the sparse mixer beside router_weights is unsupported";
  else if (Value w = node.routerWeights();
           w && (!ranked(w) || ranked(w).getRank() != 2 || ranked(w).getDimSize(1) != experts))
    why = "router_weights are not [tokens, experts]";
  else
    return true;
  return false;
}

Routed routeNode(const FusedNode &node, OnnxBuilder &b, int64_t experts) {
  Type f32 = b.builder.getF32Type();
  Value z = b.cast(node.logits(), f32);
  if (usesSparseMixer(node))
    return sparseMixer(node, b, z);
  if (!node.routerWeights())
    if (auto given = givenWeights(node, b))
      return *given;
  bool cpu = node.semantics == Semantics::ortCpu;
  Value given = node.semantics == Semantics::ortCuda ? Value() : node.routerWeights();
  if (given)
    given = b.cast(given, f32);
  // Its CPU kernel takes the higher of two equal experts first.
  if (cpu) {
    z = mirrored(b, z);
    given = given ? mirrored(b, given) : given;
  }
  auto [ids, w] = select(b, given ? z : b.softmax(z, -1), given, node.number("k", 1));
  if (cpu)
    ids = b.op("Sub", {b.scalar(b.builder.getI32Type(), static_cast<double>(experts - 1)), ids},
               ids.getType());
  // The same kernel always normalises what it chose by softmax of quantised experts.
  if (node.number("normalize_routing_weights", 0) != 0 || (cpu && node.quantised && !given))
    w = normalised(b, w);
  if (cpu)
    w = where(b, b.binary("Greater", w, b.scalar(f32, node.quantised ? 1e-8 : 0.0)), w,
              b.scalar(f32, 0), w.getType());
  return {ids, w};
}

} // namespace moec::raise
