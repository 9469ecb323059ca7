// Routers and selections as operators of ONNX.
#include "Lower.h"

#include <limits>

using namespace mlir;
using namespace moec;
using namespace moec::onnx_export;

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Slots from which on all are empty become -1 and 0: those where `used` is false.
static void blank(Build &b, Value used, Routing &r) {
  r.ids = b.where(used, r.ids, b.number(b.builder.getI64Type(), -1));
  r.weights = b.where(used, r.weights, b.number(elementOf(r.weights), 0));
  r.empty = true;
}

// [1, K]: 0, 1, ..
static Value slots(Build &b, int64_t k) {
  auto numbers = llvm::to_vector(llvm::seq<int64_t>(0, k));
  auto type = b.type({1, k}, b.builder.getI64Type());
  return b.constant(DenseElementsAttr::get(type, ArrayRef<int64_t>(numbers)));
}

void Lowering::finishRouting(Build &b, Operation *op, Routing r) {
  auto type = cast<RankedTensorType>(op->getResult(1).getType());
  r.weights = b.cast(r.weights, type.getElementType());
  Value ids = b.cast(r.ids, b.builder.getI32Type());
  routings[ids] = r;
  op->getResult(0).replaceAllUsesWith(ids);
  op->getResult(1).replaceAllUsesWith(r.weights);
  op->erase();
}

Routing Lowering::routingOf(Build &b, Value ids, Value weights) {
  Routing r{ids, weights, true};
  if (auto it = routings.find(ids); it != routings.end()) {
    r.ids = it->second.ids;
    r.empty = it->second.empty;
  } else {
    r.ids = b.cast(ids, b.builder.getI64Type());
    r.empty = !isFull(ids, 0);
  }
  return r;
}

// No id is -1: they are ids of routings without empty slots, moved and put together.
bool Lowering::isFull(Value ids, int depth) const {
  if (auto it = routings.find(ids); it != routings.end())
    return !it->second.empty;
  Operation *op = ids.getDefiningOp();
  StringRef name = op ? op->getName().getStringRef() : StringRef();
  if (depth > 12 || !name.consume_front("onnx."))
    return false;
  if (name == "ArgMax" || (name == "TopK" && ids == op->getResult(1)))
    return true;
  static constexpr llvm::StringLiteral moves[] = {"Cast",    "Reshape", "Slice",   "Squeeze",
                                                  "Unsqueeze", "Identity", "Flatten", "Clip"};
  if (name == "Concat")
    return llvm::all_of(op->getOperands(), [&](Value v) { return isFull(v, depth + 1); });
  return llvm::is_contained(moves, name) && isFull(op->getOperand(0), depth + 1);
}

std::pair<Value, Value> Lowering::grouped(Build &b, Value scores, int64_t k, int64_t groups,
                                          int64_t groupK, bool top2) {
  int64_t experts = rankedType(scores).getDimSize(1), each = experts / groups;
  if (groups <= 1 || groupK >= groups)
    return b.topK(scores, b.ints(k), k);
  Type element = elementOf(scores);
  Value byGroup = b.reshape(scores, {-1, groups, each});
  Value best = top2 && each > 1
                   ? b.reduce("ReduceSum", b.topK(byGroup, b.ints(2), 2).first, 2, false)
                   : b.reduce("ReduceMax", byGroup, 2, false);
  Value chosen = b.topK(best, b.ints(groupK), groupK).second;
  // Ones at the chosen groups.
  Value none = b.zeros(b.shape(best), rankedType(best));
  Value ones =
      b.op("Expand", {b.number(element, 1), b.shape(chosen)}, rankedType(chosen).clone(element));
  Value mask = b.op("ScatterElements", {none, chosen, ones}, none.getType(), b.attr("axis", 1));
  Value open = b.op("Expand", {b.unsqueeze(mask, 2), b.ints({1, 1, each})},
                    rankedType(byGroup).clone(element)); // for each expert of the group
  open = b.cast(open, b.builder.getI1Type());
  Value kept = b.where(open, byGroup, b.number(element, -kInfinity));
  return b.topK(b.reshape(kept, {-1, experts}), b.ints(k), k);
}

void Lowering::route(moe::RouteOp op) {
  Build b(op, layerName(op));
  moe::RouterAttr router = op.getRouter();
  Type f32 = b.builder.getF32Type();
  Value z = op.getLogits();
  if (!elementOf(z).isF64())
    z = b.cast(z, f32);
  Type element = elementOf(z);
  Value scores = router.getScore() == moe::RouterScore::Softmax   ? b.softmax(z, -1)
                 : router.getScore() == moe::RouterScore::Sigmoid ? b.unary("Sigmoid", z)
                                                                  : z;
  Value biased = op.getBias() ? b.binary("Add", scores, b.cast(op.getBias(), element)) : scores;
  auto [values, ids] = grouped(b, biased, router.getK(), router.getGroups(), router.getGroupK(),
                               router.getGroupScore() == moe::GroupScore::Top2);
  Value w = op.getBias() ? b.gatherElements(scores, ids) : values;
  switch (router.getRenorm()) {
  case moe::RouterRenorm::None:
    break;
  case moe::RouterRenorm::Sum: {
    Value sum = b.reduce("ReduceSum", w, 1, true);
    if (router.getMinimum() != 0)
      sum = b.binary("Max", sum, b.number(element, router.getMinimum()));
    else if (router.getEpsilon() != 0)
      sum = b.binary("Add", sum, b.number(element, router.getEpsilon()));
    w = b.binary("Div", w, sum);
    break;
  }
  case moe::RouterRenorm::Softmax:
    w = b.softmax(w, -1);
    break;
  case moe::RouterRenorm::Sigmoid:
    w = b.unary("Sigmoid", w);
    break;
  }
  if (router.getScale() != 1)
    w = b.binary("Mul", w, b.number(element, router.getScale()));
  finishRouting(b, op, {ids, w});
}

bool Lowering::select(moe::SelectOp op) {
  Build b(op, layerName(op));
  StringRef kind = op.getKind();
  Value scores = op.getScores(), from = op.getWeightScores();
  int64_t experts = rankedType(scores).getDimSize(1);
  int64_t k = cast<RankedTensorType>(op.getIds().getType()).getDimSize(1);
  if (ShapedType::isDynamic(experts) || (ShapedType::isDynamic(k) && kind != "external")) {
    op.emitOpError("is unsupported by export: the number of experts or slots is not static");
    return false;
  }
  Type i64 = b.builder.getI64Type(), element = elementOf(scores);
  Routing r;
  if (kind == "external") {
    r.ids = b.cast(op.getExternalIds(), i64);
    Value safe = b.binary("Max", r.ids, b.number(i64, 0));
    r.weights = b.gatherElements(from ? from : scores, safe);
    blank(b, b.compare("GreaterOrEqual", r.ids, b.number(i64, 0)), r);
  } else if (kind == "all") {
    r.weights = from ? from : scores;
    r.ids = b.op("Expand", {slots(b, k), b.shape(r.weights)}, rankedType(r.weights).clone(i64));
  } else {
    bool groups = kind == "grouped_top_k";
    auto [values, ids] = grouped(b, scores, k, groups ? *op.getGroups() : 1,
                                 groups ? *op.getGroupK() : 1, op.getGroupScore() == "top2");
    r = {ids, from ? b.gatherElements(from, ids) : values};
    if (kind == "top_p") {
      Value before = b.op("CumSum", {values, b.index(1)}, values.getType(), b.attr("exclusive", 1));
      blank(b, b.compare("Less", before, b.number(element, op.getP()->convertToDouble())), r);
    } else if (kind == "threshold") {
      Value limit = b.number(element, op.getThreshold()->convertToDouble());
      Value used = b.compare("GreaterOrEqual", values, limit);
      if (int64_t least = op.getAtLeast().value_or(0))
        used = b.compare("Or", used, b.compare("Less", slots(b, k), b.number(i64, least)));
      blank(b, used, r);
    }
    if (Value count = op.getCount())
      blank(b, b.compare("Less", slots(b, k), b.reshape(count, ArrayRef<int64_t>{})), r);
  }
  finishRouting(b, op, r);
  return true;
}

void Lowering::choose(moe::ChooseOp op) {
  Build b(op, layerName(op));
  Type i64 = b.builder.getI64Type(), element = elementOf(op.getScores());
  int64_t capacity = op.getCapacity();
  Value scores = b.transpose(op.getScores(), {1, 0}); // [E, T]
  Value nan = b.op("IsNaN", scores, rankedType(scores).clone(b.builder.getI1Type()));
  Value ranked = b.where(nan, b.number(element, -kInfinity), scores);
  Value tokens = b.gather(b.shape(scores), b.ints(1), 0); // [1]
  Value count = b.binary("Min", tokens, b.ints(capacity));
  Value ids = b.topK(ranked, count, ShapedType::kDynamic).second;
  Value weights = b.gatherElements(scores, ids);
  Value missing = b.binary("Sub", b.ints(capacity), count);
  Value pads = b.concat({b.ints({0, 0, 0}), missing}, 0);
  auto pad = [&](Value v, double with) {
    auto type = cast<RankedTensorType>(op.getTokens().getType()).clone(elementOf(v));
    return b.op("Pad", {v, pads, b.number(elementOf(v), with), b.none()}, type);
  };
  op.getTokens().replaceAllUsesWith(b.cast(pad(b.cast(ids, i64), -1), b.builder.getI32Type()));
  op.getWeights().replaceAllUsesWith(pad(weights, 0));
  op->erase();
}
