#include "RouterFormula.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"

using namespace mlir;

namespace moec::routing {

namespace {

bool is(Value v, StringRef name) {
  return v && onnxName(v.getDefiningOp()) == name;
}

RankedTensorType ranked(Value v) {
  return dyn_cast<RankedTensorType>(v.getType());
}

std::optional<double> number(Value v) {
  if (!is(v, "Constant"))
    return std::nullopt;
  auto dense =
      dyn_cast_or_null<DenseElementsAttr>(v.getDefiningOp()->getAttr("value"));
  if (!dense || dense.getNumElements() != 1)
    return std::nullopt;
  if (!isa<FloatType>(dense.getElementType()))
    return dense.getElementType().isInteger()
               ? std::optional<double>(
                     (*dense.getValues<APInt>().begin()).getSExtValue())
               : std::nullopt;
  APFloat f = *dense.getValues<APFloat>().begin();
  bool lost;
  f.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
  return f.convertToDouble();
}

// A cast to a float type with room for every value of the operand's.
bool widens(Operation *cast) {
  auto to = ranked(cast->getResult(0)), from = ranked(cast->getOperand(0));
  auto t = to ? dyn_cast<FloatType>(to.getElementType()) : FloatType();
  auto f = from ? dyn_cast<FloatType>(from.getElementType()) : FloatType();
  return t && f && (t == f || (t.getWidth() > f.getWidth() &&
                               t.getFPMantissaWidth() >= f.getFPMantissaWidth()));
}

// A reshape of token axes only: the last axis stays.
bool keepsRows(Operation *reshape) {
  auto to = ranked(reshape->getResult(0)), from = ranked(reshape->getOperand(0));
  return to && from && to.getRank() > 0 && from.getRank() > 0 &&
         to.getShape().back() > 0 &&
         to.getShape().back() == from.getShape().back();
}

// Looks through what does not change the numbers of [T, n] rows.
Value core(Value v) {
  while (Operation *op = v.getDefiningOp()) {
    StringRef n = onnxName(op);
    bool through = n == "Identity" || (n == "Cast" && widens(op)) ||
                   (n == "Reshape" && keepsRows(op));
    if (!through)
      return v;
    v = op->getOperand(0);
  }
  return v;
}

bool lastAxis(Operation *op, int64_t rank) {
  auto axis = op->getAttrOfType<IntegerAttr>("axis");
  return !axis || axis.getInt() == -1 || axis.getInt() == rank - 1;
}

// Softmax or sigmoid of logits.
bool scoreOf(Value v, Formula &f) {
  v = core(v);
  Operation *op = v.getDefiningOp();
  auto type = ranked(v);
  if (!type)
    return false;
  if (is(v, "Softmax") && lastAxis(op, type.getRank()))
    f.score = Formula::Softmax;
  else if (is(v, "Sigmoid"))
    f.score = Formula::Sigmoid;
  else
    return false;
  f.logits = op->getOperand(0);
  return true;
}

// [E] constants: a weight, a constant, or one with leading unit axes.
bool isExpertVector(Value v, int64_t experts) {
  Operation *op = v.getDefiningOp();
  auto type = ranked(v);
  return op && type && type.hasStaticShape() &&
         type.getNumElements() == experts && type.getShape().back() == experts &&
         (is(v, "Constant") || op->getName().getStringRef() == "moe.weight.use");
}

// The only user of a value.
Operation *onlyUser(Value v) {
  return v.hasOneUse() ? *v.user_begin() : nullptr;
}

bool sumsLastAxis(Operation *op, Value v) {
  if (onnxName(op) != "ReduceSum" || op->getOperand(0) != v ||
      op->getNumOperands() < 2)
    return false;
  auto axis = number(op->getOperand(1));
  auto keep = op->getAttrOfType<IntegerAttr>("keepdims");
  auto type = ranked(v);
  return axis && type && (*axis == -1 || *axis == type.getRank() - 1) &&
         (!keep || keep.getInt() == 1);
}

// v / (sum(v) + eps), v / max(sum(v), min): the quotient, or null.
Value renormalised(Value v, Formula &f) {
  Operation *sum = nullptr, *div = nullptr;
  for (Operation *user : v.getUsers()) {
    if (sumsLastAxis(user, v) && !sum)
      sum = user;
    else if (onnxName(user) == "Div" && user->getOperand(0) == v && !div)
      div = user;
    else
      return {};
  }
  if (!sum || !div)
    return {};
  double epsilon = 0, minimum = 0;
  Value d = sum->getResult(0);
  while (true) {
    Operation *next = onlyUser(d);
    if (next == div)
      break;
    StringRef n = onnxName(next);
    if (n == "Cast" || n == "Identity") {
      d = next->getResult(0);
      continue;
    }
    if (n != "Add" && n != "Max" && n != "Clip")
      return {};
    unsigned at = n != "Clip" && next->getOperand(0) != d ? 0 : 1;
    auto c = number(next->getOperand(at));
    if (!c || *c < 0)
      return {};
    if (n == "Clip" && next->getNumOperands() > 2 &&
        !isa<NoneType>(next->getOperand(2).getType()))
      return {};
    (n == "Add" ? epsilon : minimum) = *c;
    d = next->getResult(0);
  }
  if (div->getOperand(1) != d || (epsilon != 0 && minimum != 0))
    return {};
  f.renorm = Formula::Sum;
  f.epsilon = epsilon;
  f.minimum = minimum;
  return div->getResult(0);
}

// Follows what keeps the numbers of [.., k] rows, as far as one use leads to the
// next; `shape` is the shape of the result when it is not [T, k].
Value ahead(Value v, Value &shape) {
  while (Operation *user = onlyUser(v)) {
    StringRef n = onnxName(user);
    if (n == "Reshape" && user->getOperand(0) == v && keepsRows(user)) {
      auto from = ranked(v), to = ranked(user->getResult(0));
      if (to.getRank() != 2 && from.getRank() != 2)
        return v;
      shape = to.getRank() == 2 ? Value() : user->getOperand(1);
    } else if (n != "Identity" && !(n == "Cast" && widens(user))) {
      return v;
    }
    v = user->getResult(0);
  }
  return v;
}

// v times a number, when that is all that happens to v.
Value scaled(Value v, double &factor) {
  Operation *user = onlyUser(v);
  if (onnxName(user) != "Mul" || user->getOperand(0) == user->getOperand(1))
    return {};
  Value other = user->getOperand(user->getOperand(0) == v ? 1 : 0);
  auto c = number(other);
  auto type = ranked(v), otherType = ranked(other);
  if (!c || !otherType || otherType.getRank() > type.getRank())
    return {};
  factor = *c;
  return user->getResult(0);
}

// Softmax or sigmoid over the chosen logits.
Value activated(Value v, Formula &f) {
  Operation *user = onlyUser(v);
  auto type = ranked(v);
  if (onnxName(user) == "Softmax" && type && lastAxis(user, type.getRank()))
    f.renorm = Formula::SoftmaxChosen;
  else if (onnxName(user) == "Sigmoid")
    f.renorm = Formula::SigmoidChosen;
  else
    return {};
  return user->getResult(0);
}

// Steps from the raw weights on, each optional.
void follow(Value v, Formula &f) {
  auto step = [&](auto &&match) {
    Value shape = f.shape, at = ahead(v, shape);
    Value next = match(at);
    if (!next)
      return false;
    v = next;
    f.shape = shape;
    return true;
  };
  bool renormed = step([&](Value at) { return renormalised(at, f); });
  if (!renormed && f.score == Formula::Identity && !f.bias)
    step([&](Value at) { return activated(at, f); });
  step([&](Value at) { return scaled(at, f.scale); });
  f.weights = v;
}

// Gather of unbiased scores at the chosen ids.
Value gatherOf(Operation *select, Value scores) {
  SmallVector<Value> ids = {select->getResult(0)};
  for (size_t i = 0; i < ids.size(); ++i)
    for (Operation *user : ids[i].getUsers()) {
      StringRef n = onnxName(user);
      if (n == "Cast" || n == "Identity")
        ids.push_back(user->getResult(0));
      auto type = user->getNumOperands() ? ranked(user->getOperand(0))
                                         : RankedTensorType();
      if (n == "GatherElements" && user->getOperand(1) == ids[i] && type &&
          lastAxis(user, type.getRank()) && core(user->getOperand(0)) == scores)
        return user->getResult(0);
    }
  return {};
}

// Scores with a selection bias, score(logits) + bias, whose weights are
// gathered from the scores without it: those weights, or null.
Value biased(Operation *select, Value scores, Formula &f) {
  Operation *add = scores.getDefiningOp();
  if (onnxName(add) != "Add" || !select->getResult(1).use_empty())
    return {};
  for (unsigned i : {0u, 1u}) {
    Value p = add->getOperand(i), b = add->getOperand(1 - i);
    Formula found = f;
    if (!isExpertVector(b, ranked(select->getOperand(0)).getShape().back()) ||
        !scoreOf(p, found))
      continue;
    if (Value gathered = gatherOf(select, core(p))) {
      f = found;
      f.bias = b;
      return gathered;
    }
  }
  return {};
}

} // namespace

bool matchFormula(Operation *select, Formula &f, std::string &why) {
  auto type = ranked(select->getOperand(0));
  auto chosen = ranked(select->getResult(1));
  auto kind = select->getAttrOfType<StringAttr>("kind");
  if (select->getNumOperands() != 1 || (kind && kind != "top_k")) {
    why = "the selection is no top-k of one matrix of scores";
    return false;
  }
  if (!type || !chosen || type.getRank() != 2 || type.getShape().back() < 1 ||
      chosen.getShape().back() < 1) {
    why = "the scores are no [tokens, experts] matrix";
    return false;
  }
  Value scores = core(select->getOperand(0));
  f.k = chosen.getShape().back();
  Value raw = select->getResult(1);
  if (scoreOf(scores, f)) {
    // Weights gathered from the same scores are the selected ones.
    if (raw.use_empty())
      if (Value gathered = gatherOf(select, scores))
        raw = gathered;
  } else if (Value gathered = biased(select, scores, f)) {
    raw = gathered;
  } else {
    f.logits = scores;
  }
  follow(raw, f);
  return true;
}

} // namespace moec::routing
