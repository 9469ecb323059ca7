// Routing, Soft MoE and exchange: verifiers. Constraint numbers are those of docs/moe-dialect.md.
#include "Shapes.h"
#include <cmath>

using namespace mlir;
using namespace moec::moe;

// ids [rows, columns] and weights of the same shape with elements of type `element`.
static LogicalResult verifyChoice(Operation *op, ArrayRef<int64_t> shape, Type element) {
  auto ids = rankedType(op->getResult(0)), weights = rankedType(op->getResult(1));
  if (!fits(ids, shape) || !fits(weights, shape) || weights.getElementType() != element)
    return op->emitOpError("makes ids and weights of shape ")
           << shapeText(shape) << " and weights of " << element << ", not " << ids << " and "
           << weights;
  return success();
}

// k of the experts that take part can be chosen.
static LogicalResult verifyCount(Operation *op, int64_t k, int64_t experts, int64_t groups,
                                 int64_t groupK) {
  if (ShapedType::isDynamic(experts))
    return success();
  if (k > experts)
    return op->emitOpError("k = ") << k << " exceeds " << experts << " experts";
  if (experts % groups != 0)
    return op->emitOpError("cannot divide ")
           << experts << " experts into " << groups << " equal groups";
  if (int64_t size = experts / groups; k > groupK * size)
    return op->emitOpError("k = ")
           << k << " exceeds the " << groupK * size << " experts of " << groupK << " groups";
  return success();
}

//===--- select ----------------------------------------------------------------------------===//

static bool isScores(Type type) {
  auto ranked = cast<RankedTensorType>(type);
  return isa<FloatType>(ranked.getElementType()) && ranked.getRank() == 2;
}

static bool isIds(Type type) {
  auto ranked = cast<RankedTensorType>(type);
  return ranked.getElementType().isSignlessInteger(32) && ranked.getRank() == 2;
}

static bool isCount(Type type) {
  auto ranked = cast<RankedTensorType>(type);
  return ranked.getElementType().isSignlessInteger(64) && ranked.getRank() <= 1 &&
         ranked.hasStaticShape() && ranked.getNumElements() == 1;
}

static Value findOperand(OperandRange operands, bool (*is)(Type)) {
  auto it = llvm::find_if(operands, [&](Value v) { return is(v.getType()); });
  return it == operands.end() ? Value() : *it;
}

Value SelectOp::getWeightScores() { return findOperand(getMore(), isScores); }
Value SelectOp::getExternalIds() { return findOperand(getMore(), isIds); }
Value SelectOp::getCount() { return findOperand(getMore(), isCount); }

// Attributes stand only beside the kind that reads them.
static LogicalResult verifyAttributes(SelectOp op) {
  StringRef kind = op.getKind();
  // select.C1
  if (!llvm::is_contained({"top_k", "grouped_top_k", "top_p", "threshold", "all", "external"},
                          kind))
    return op.emitOpError("has kind = \"")
           << kind << "\"; it is top_k, grouped_top_k, top_p, threshold, all or external";
  // select.C2
  const std::pair<StringRef, StringRef> owners[] = {
      {"groups", "grouped_top_k"},      {"group_k", "grouped_top_k"},
      {"group_score", "grouped_top_k"}, {"p", "top_p"},
      {"threshold", "threshold"},       {"at_least", "threshold"}};
  for (auto [name, owner] : owners) {
    bool optional = name == "group_score" || name == "at_least";
    if (op->hasAttr(name) && kind != owner)
      return op.emitOpError("has '") << name << "', which belongs to kind = \"" << owner << "\"";
    if (!op->hasAttr(name) && kind == owner && !optional)
      return op.emitOpError("needs '") << name << "' for kind = \"" << owner << "\"";
  }
  bool counted = kind != "all" && kind != "external";
  if (counted != op.getK().has_value())
    return op.emitOpError(counted ? "needs 'k' for kind = \"" : "takes no 'k' for kind = \"")
           << kind << "\"";
  return success();
}

static LogicalResult verifyOperands(SelectOp op) {
  auto scores = rankedType(op.getScores());
  // select.C3
  OperandRange more = op.getMore();
  size_t at = 0;
  for (bool (*is)(Type) : {isScores, isIds, isCount})
    if (at < more.size() && is(more[at].getType()))
      ++at;
  if (at != more.size())
    return op.emitOpError("takes weight scores, ids and a count after its scores, in this order; "
                          "operand ")
           << at + 1 << " is " << more[at].getType();
  // select.C4
  if ((op.getKind() == "external") != static_cast<bool>(op.getExternalIds()))
    return op.emitOpError("takes ids for kind = \"external\", and only there");
  if (op.getCount() && !op.getK())
    return op.emitOpError("takes a count only for kinds with 'k'");
  // select.C5
  if (Value weights = op.getWeightScores();
      weights && !fits(rankedType(weights), scores.getShape()))
    return op.emitOpError("has scores ") << scores << " but weight scores " << weights.getType();
  if (Value ids = op.getExternalIds();
      ids && !fits(rankedType(ids).getDimSize(0), scores.getDimSize(0)))
    return op.emitOpError("has ") << scores.getDimSize(0) << " rows of scores but "
                                  << rankedType(ids).getDimSize(0) << " rows of ids";
  return success();
}

LogicalResult SelectOp::verify() {
  if (failed(verifyAttributes(*this)) || failed(verifyOperands(*this)))
    return failure();
  auto scores = rankedType(getScores());
  int64_t experts = scores.getDimSize(1);
  // select.C6
  int64_t groups = getGroups().value_or(1), groupK = getGroupK().value_or(1);
  if (groups < 1 || groupK < 1 || groupK > groups)
    return emitOpError("has group_k = ") << groupK << ", which is not in 1.." << groups;
  if (auto score = getGroupScore(); score && *score != "max" && *score != "top2")
    return emitOpError("has group_score = \"") << *score << "\"; it is max or top2";
  // select.C7
  if (auto p = getP(); p && !(p->convertToDouble() > 0 && p->convertToDouble() <= 1))
    return emitOpError("needs p above 0 and at most 1");
  if (auto threshold = getThreshold(); threshold && threshold->isNaN())
    return emitOpError("needs a threshold that is a number");
  int64_t slots = experts;
  if (auto k = getK()) {
    slots = *k;
    // select.C8
    if (slots < 1)
      return emitOpError("needs k of at least 1, not ") << slots;
    // select.C9
    if (failed(verifyCount(*this, slots, experts, groups, groupK)))
      return failure();
    // select.C10
    int64_t least = getAtLeast().value_or(0);
    if (least < 0 || least > slots)
      return emitOpError("has at_least = ") << least << ", which is not in 0.." << slots;
  } else if (Value ids = getExternalIds()) {
    slots = rankedType(ids).getDimSize(1);
  }
  // select.C11
  Value weights = getWeightScores() ? getWeightScores() : getScores();
  return verifyChoice(*this, {scores.getDimSize(0), slots}, rankedType(weights).getElementType());
}

//===--- route, choose ---------------------------------------------------------------------===//

LogicalResult RouteOp::verify() {
  auto logits = rankedType(getLogits());
  RouterAttr router = getRouter();
  int64_t experts = logits.getDimSize(1);
  // route.C1
  if (failed(verifyCount(*this, router.getK(), experts, router.getGroups(), router.getGroupK())))
    return failure();
  // route.C2
  if (getBias() && !fits(rankedType(getBias()).getDimSize(0), experts))
    return emitOpError("has a bias for ")
           << rankedType(getBias()).getDimSize(0) << " experts, but logits for " << experts;
  // route.C3
  Type element = rankedType(getWeights()).getElementType();
  if (!element.isF32())
    element = logits.getElementType();
  return verifyChoice(*this, {logits.getDimSize(0), router.getK()}, element);
}

LogicalResult ChooseOp::verify() {
  auto scores = rankedType(getScores());
  int64_t capacity = getCapacity();
  // choose.C1
  if (capacity < 1)
    return emitOpError("needs a capacity of at least 1, not ") << capacity;
  // choose.C2
  return verifyChoice(*this, {scores.getDimSize(1), capacity}, scores.getElementType());
}

//===--- Soft MoE --------------------------------------------------------------------------===//

static LogicalResult verifyResult(Operation *op, ArrayRef<int64_t> shape, Type element) {
  auto result = rankedType(op->getResult(0));
  if (!fits(result, shape) || result.getElementType() != element)
    return op->emitOpError("makes ") << shapeText(shape) << " of " << element << ", not " << result;
  return success();
}

LogicalResult SoftDispatchOp::verify() {
  auto x = rankedType(getX()), logits = rankedType(getLogits());
  // soft_dispatch.C1
  if (!fits(x.getDimSize(0), logits.getDimSize(0)))
    return emitOpError("has ") << x.getDimSize(0) << " tokens but logits for "
                               << logits.getDimSize(0);
  // soft_dispatch.C2
  return verifyResult(*this, {logits.getDimSize(1), x.getDimSize(1)}, x.getElementType());
}

LogicalResult SoftCombineOp::verify() {
  auto slots = rankedType(getSlots()), logits = rankedType(getLogits());
  // soft_combine.C1
  if (!fits(slots.getDimSize(0), logits.getDimSize(1)))
    return emitOpError("has ") << slots.getDimSize(0) << " slots but logits for "
                               << logits.getDimSize(1);
  // soft_combine.C2
  return verifyResult(*this, {logits.getDimSize(0), slots.getDimSize(1)}, slots.getElementType());
}

//===--- exchange and measurement ----------------------------------------------------------===//

LogicalResult DispatchOp::verify() {
  auto x = rankedType(getX()), ids = rankedType(getIds()), weights = rankedType(getWeights());
  int64_t devices = getDevices();
  // dispatch.C1
  if (devices < 1)
    return emitOpError("needs at least one device, not ") << devices;
  // dispatch.C2
  if (getPlacement().empty())
    return emitOpError("needs a device for each expert");
  for (auto [e, device] : llvm::enumerate(getPlacement()))
    if (device < 0 || device >= devices)
      return emitOpError("places expert ") << e << " on device " << device << " of " << devices;
  // dispatch.C3
  if (!fits(ids.getDimSize(0), x.getDimSize(0)) || !fits(weights, ids.getShape()))
    return emitOpError("needs ids and weights for the slots of its tokens, not ")
           << ids << " and " << weights << " for " << x;
  // dispatch.C4
  int64_t rows = rankedType(getRows()).getDimSize(0);
  bool right = fits(rankedType(getRows()), {rows, x.getDimSize(1)}) &&
               rankedType(getRows()).getElementType() == x.getElementType() &&
               fits(rankedType(getRowIds()), {rows, 1}) &&
               fits(rankedType(getRowWeights()), {rows, 1}) &&
               rankedType(getRowWeights()).getElementType() == weights.getElementType() &&
               fits(rankedType(getOrigin()), {rows, 2});
  if (!right)
    return emitOpError("makes rows [R, ")
           << x.getDimSize(1) << "], ids [R, 1], weights [R, 1] and origins [R, 2]";
  return success();
}

LogicalResult CombineOp::verify() {
  auto rows = rankedType(getRows()), origin = rankedType(getOrigin()), x = rankedType(getX());
  // combine.C1
  if (static_cast<int64_t>(getDevices()) < 1)
    return emitOpError("needs at least one device, not ") << static_cast<int64_t>(getDevices());
  // combine.C2
  if (!fits(origin, {rows.getDimSize(0), 2}))
    return emitOpError("needs an origin [R, 2] for each of its rows, not ") << origin;
  // combine.C3
  if (!fits(rows.getDimSize(1), x.getDimSize(1)))
    return emitOpError("has rows of size ")
           << rows.getDimSize(1) << " for tokens of size " << x.getDimSize(1);
  // combine.C4
  return verifyResult(*this, x.getShape(), x.getElementType());
}

int64_t ProbeOp::getRequired() {
  return getKind() == "routing" ? 2 : getKind() == "experts" ? 6 : getKind() == "all" ? 2 : -1;
}

Value ProbeOp::getLogits() {
  auto required = static_cast<size_t>(getRequired());
  return getKind() != "all" && getValues().size() > required ? getValues()[required] : Value();
}

// The shapes of a probe's operands in order, logits last; -1 (dynamic) where only equality counts.
static SmallVector<SmallVector<int64_t>> probeShapes(ProbeOp probe) {
  auto experts = static_cast<int64_t>(probe.getExperts());
  auto size = [&](unsigned operand, int64_t axis) {
    auto type = rankedType(probe.getValues()[operand]);
    return axis < type.getRank() ? type.getDimSize(axis) : ShapedType::kDynamic;
  };
  int64_t tokens = size(0, 0), other = size(0, 1);
  if (probe.getKind() == "all")
    return {{tokens, other}, {tokens, experts, other}};
  if (probe.getKind() == "routing")
    return {{tokens, other}, {tokens, other}, {tokens, experts}};
  int64_t hidden = size(2, 1);
  return {{tokens, other}, {tokens, other},         {tokens, hidden}, {tokens, hidden},
          {tokens, other, hidden}, {tokens, hidden}, {tokens, experts}};
}

LogicalResult ProbeOp::verify() {
  // probe.C1
  if (static_cast<int64_t>(getExperts()) < 1)
    return emitOpError("needs at least one expert, not ") << static_cast<int64_t>(getExperts());
  // probe.C2
  if (getLayer().empty())
    return emitOpError("needs the name of its layer");
  // probe.C3
  if (getRequired() < 0)
    return emitOpError("has no kind \"") << getKind() << "\": routing, experts or all";
  // probe.C4
  auto count = static_cast<int64_t>(getValues().size());
  if (count != getRequired() && (getKind() == "all" || count != getRequired() + 1))
    return emitOpError("of kind \"")
           << getKind() << "\" has " << getRequired()
           << (getKind() == "all" ? " operands, not " : " operands or one more, not ") << count;
  // probe.C5
  auto shapes = probeShapes(*this);
  for (auto [i, value] : llvm::enumerate(getValues())) {
    Type element = rankedType(value).getElementType();
    bool ids = i == 0 && getKind() != "all";
    if (!fits(rankedType(value), shapes[i]) ||
        (ids ? !element.isSignlessInteger(32) : !isa<FloatType>(element)))
      return emitOpError("has operand ") << i << " of type " << value.getType() << ", not "
                                         << (ids ? "i32 " : "floats ") << shapeText(shapes[i]);
  }
  // probe.C6
  if (getScore() != "softmax" && getScore() != "sigmoid")
    return emitOpError("knows no score \"") << getScore() << "\": softmax or sigmoid";
  return success();
}

//===--- logit_hook ------------------------------------------------------------------------===//

int64_t LogitHookOp::getExperts() { return rankedType(getLogits()).getShape().back(); }

LogicalResult LogitHookOp::verify() {
  auto type = rankedType(getLogits());
  // logit_hook.C1
  bool fitting = type.getRank() == 2 || (getMaskOnly() && type.getRank() == 1);
  if (!fitting || !isa<FloatType>(type.getElementType()) ||
      ShapedType::isDynamic(type.getShape().back()))
    return emitOpError("needs floats [T, E]")
           << (getMaskOnly() ? " or [E]" : "") << " of a known number of experts, not " << type;
  // logit_hook.C2
  if (getLayer().empty())
    return emitOpError("needs the name of its layer");
  // logit_hook.C3
  auto k = static_cast<int64_t>(getK());
  if (k < 1 || k > getExperts())
    return emitOpError("has k = ") << k << ", which is not in 1.." << getExperts();
  return success();
}
