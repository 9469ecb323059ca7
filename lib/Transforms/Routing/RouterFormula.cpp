#include "RouterFormula.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"

using namespace mlir;

namespace moec::routing {

namespace {

StringRef nameOf(Operation *op) {
  StringRef name = op ? op->getName().getStringRef() : StringRef();
  return name.consume_front("onnx.") ? name : StringRef();
}

bool is(Value v, StringRef name) {
  return v && nameOf(v.getDefiningOp()) == name;
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

// Looks through what does not change the numbers of [T, n] rows: widening
// casts, identities, reshapes that keep the last axis.
Value core(Value v) {
  while (Operation *op = v.getDefiningOp()) {
    StringRef n = nameOf(op);
    if (n == "Identity") {
      v = op->getOperand(0);
      continue;
    }
    auto to = ranked(v), from = op->getNumOperands() ? ranked(op->getOperand(0))
                                                     : RankedTensorType();
    if (!to || !from)
      return v;
    auto tf = dyn_cast<FloatType>(to.getElementType()),
         ff = dyn_cast<FloatType>(from.getElementType());
    bool widens = tf && ff && tf.getWidth() >= ff.getWidth();
    bool sameRows = to.getRank() > 0 && from.getRank() > 0 &&
                    to.getShape().back() > 0 &&
                    to.getShape().back() == from.getShape().back();
    if ((n == "Cast" && widens) || (n == "Reshape" && sameRows)) {
      v = op->getOperand(0);
      continue;
    }
    return v;
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

// The only user of a value, looking through casts and identities that lead on.
Operation *onlyUser(Value v) {
  return v.hasOneUse() ? *v.user_begin() : nullptr;
}

bool sumsLastAxis(Operation *op, Value v) {
  if (nameOf(op) != "ReduceSum" || op->getOperand(0) != v ||
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
    else if (nameOf(user) == "Div" && user->getOperand(0) == v && !div)
      div = user;
    else
      return {};
  }
  if (!sum || !div)
    return {};
  double epsilon = 0, minimum = 0;
  Value d = sum->getResult(0);
  while (d != div->getOperand(1)) {
    Operation *next = onlyUser(d);
    StringRef n = nameOf(next);
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
  if (epsilon != 0 && minimum != 0)
    return {};
  f.renorm = Formula::Sum;
  f.epsilon = epsilon;
  f.minimum = minimum;
  return div->getResult(0);
}

// Steps from the raw weights on, each optional.
void follow(Value v, Formula &f) {
  auto type = ranked(v);
  if (Value quotient = renormalised(v, f)) {
    v = quotient;
  } else if (Operation *user = onlyUser(v); user && f.score == Formula::Identity &&
                                            !f.bias) {
    if (nameOf(user) == "Softmax" && type && lastAxis(user, type.getRank())) {
      f.renorm = Formula::SoftmaxChosen;
      v = user->getResult(0);
    } else if (nameOf(user) == "Sigmoid") {
      f.renorm = Formula::SigmoidChosen;
      v = user->getResult(0);
    }
  }
  if (Operation *user = onlyUser(v); user && nameOf(user) == "Mul") {
    Value other = user->getOperand(user->getOperand(0) == v ? 1 : 0);
    auto c = number(other);
    auto otherType = ranked(other);
    if (c && otherType && otherType.getRank() <= 2) {
      f.scale = *c;
      v = user->getResult(0);
    }
  }
  f.weights = v;
}

// Gather of unbiased scores at the chosen ids.
Value gatherOf(Operation *select, Value scores) {
  SmallVector<Value> ids = {select->getResult(0)};
  for (size_t i = 0; i < ids.size(); ++i)
    for (Operation *user : ids[i].getUsers()) {
      StringRef n = nameOf(user);
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

} // namespace

bool matchFormula(Operation *select, Formula &f, std::string &why) {
  Value scores = core(select->getOperand(0));
  auto type = ranked(select->getOperand(0));
  auto chosen = ranked(select->getResult(1));
  if (!type || !chosen || type.getRank() != 2 || type.getShape().back() < 1) {
    why = "the scores are no [tokens, experts] matrix";
    return false;
  }
  f.k = chosen.getShape().back();
  Value raw = select->getResult(1);
  if (scoreOf(scores, f)) {
    // Weights gathered from the same scores are the selected ones.
    if (raw.use_empty())
      if (Value gathered = gatherOf(select, scores))
        raw = gathered;
  } else if (is(scores, "Add")) {
    Operation *add = scores.getDefiningOp();
    for (unsigned i : {0u, 1u}) {
      Value p = add->getOperand(i), b = add->getOperand(1 - i);
      if (!isExpertVector(b, type.getShape().back()) || !scoreOf(p, f))
        continue;
      raw = gatherOf(select, core(p));
      if (!raw) {
        why = "the weights are not gathered from the scores without the bias";
        return false;
      }
      if (!select->getResult(1).use_empty()) {
        why = "the biased scores are used as weights too";
        return false;
      }
      f.bias = b;
      break;
    }
    if (!f.bias)
      f.logits = scores;
  } else {
    f.logits = scores;
  }
  follow(raw, f);
  return true;
}

} // namespace moec::routing
