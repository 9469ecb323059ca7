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

// The operand of a sum or product beside the number `c`.
Value beside(Value v, StringRef name, double c) {
  if (!is(v, name))
    return {};
  Operation *op = v.getDefiningOp();
  for (unsigned i : {0u, 1u})
    if (auto n = number(op->getOperand(i)); n && *n == c)
      return op->getOperand(1 - i);
  return {};
}

// z of 1 / (1 + exp(-z)).
Value spelledSigmoid(Value v) {
  Value sum;
  if (is(v, "Reciprocal"))
    sum = v.getDefiningOp()->getOperand(0);
  else if (is(v, "Div") && number(v.getDefiningOp()->getOperand(0)) == 1.0)
    sum = v.getDefiningOp()->getOperand(1);
  Value exp = sum ? beside(sum, "Add", 1) : Value();
  Value minus = exp && is(exp, "Exp") ? exp.getDefiningOp()->getOperand(0) : Value();
  if (!minus)
    return {};
  return is(minus, "Neg") ? minus.getDefiningOp()->getOperand(0) : beside(minus, "Mul", -1);
}

// Reduces the last axis of `v` and keeps it.
bool reducesLastAxis(Value reduced, StringRef name, Value v) {
  if (!is(reduced, name))
    return false;
  Operation *op = reduced.getDefiningOp();
  auto keep = op->getAttrOfType<IntegerAttr>("keepdims");
  auto type = ranked(v);
  auto axis = op->getNumOperands() > 1 ? number(op->getOperand(1)) : std::nullopt;
  return op->getOperand(0) == v && (!keep || keep.getInt() == 1) && type && axis &&
         (*axis == -1 || *axis == type.getRank() - 1);
}

// z of exp(z - max z) / sum of it.
Value spelledSoftmax(Value v) {
  if (!is(v, "Div"))
    return {};
  Value exp = v.getDefiningOp()->getOperand(0), sum = v.getDefiningOp()->getOperand(1);
  if (!is(exp, "Exp") || !reducesLastAxis(sum, "ReduceSum", exp))
    return {};
  Value z = exp.getDefiningOp()->getOperand(0);
  if (!is(z, "Sub"))
    return {};
  Operation *sub = z.getDefiningOp();
  return reducesLastAxis(sub->getOperand(1), "ReduceMax", sub->getOperand(0))
             ? sub->getOperand(0)
             : Value();
}

// Softmax or sigmoid of logits.
bool scoreOf(Value v, Formula &f) {
  v = core(v);
  Operation *op = v.getDefiningOp();
  auto type = ranked(v);
  if (!type)
    return false;
  if (is(v, "Softmax") && lastAxis(op, type.getRank())) {
    f.score = Formula::Softmax;
    f.logits = op->getOperand(0);
  } else if (is(v, "Sigmoid")) {
    f.score = Formula::Sigmoid;
    f.logits = op->getOperand(0);
  } else if (Value z = spelledSoftmax(v)) {
    f.score = Formula::Softmax;
    f.logits = z;
  } else if (Value z = spelledSigmoid(v)) {
    f.score = Formula::Sigmoid;
    f.logits = z;
  } else {
    return false;
  }
  return true;
}

// A value for each expert: [E], or with leading unit axes.
bool isExpertVector(Value v, int64_t experts) {
  auto type = ranked(v);
  return type && type.hasStaticShape() && type.getRank() > 0 &&
         type.getNumElements() == experts && type.getShape().back() == experts;
}

// The only user of a value.
Operation *onlyUser(Value v) {
  return v.hasOneUse() ? *v.user_begin() : nullptr;
}

// `positive`: no element is negative, so that the 1-norm is the sum.
bool sumsLastAxis(Operation *op, Value v, bool positive) {
  return op->getNumResults() == 1 &&
         (reducesLastAxis(op->getResult(0), "ReduceSum", v) ||
          (positive && reducesLastAxis(op->getResult(0), "ReduceL1", v)));
}

// v / (sum(v) + eps), v / max(sum(v), min): the quotient, or null.
Value renormalised(Value v, Formula &f) {
  Operation *sum = nullptr, *div = nullptr;
  bool positive = f.score != Formula::Identity;
  for (Operation *user : v.getUsers()) {
    if (sumsLastAxis(user, v, positive) && !sum)
      sum = user;
    else if (onnxName(user) == "Div" && user->getOperand(0) == v && !div)
      div = user;
    else if (onnxName(user) == "Mul" && !div &&
             user->getOperand(0) != user->getOperand(1))
      div = user;
    else
      return {};
  }
  if (!sum || !div)
    return {};
  double epsilon = 0, minimum = 0;
  bool inverse = false;
  Value d = sum->getResult(0);
  while (true) {
    Operation *next = onlyUser(d);
    if (next == div)
      break;
    StringRef n = onnxName(next);
    if (n == "Reciprocal" && onnxName(div) == "Mul" && !inverse) {
      inverse = true;
      d = next->getResult(0);
      continue;
    }
    if (inverse && n != "Cast" && n != "Identity" && n != "Expand")
      return {};
    if (n == "Cast" || n == "Identity" || (n == "Expand" && next->getOperand(0) == d)) {
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
  bool divides = onnxName(div) == "Div"
                     ? div->getOperand(1) == d && !inverse
                     : inverse && (div->getOperand(0) == d || div->getOperand(1) == d);
  if (!divides || ranked(div->getResult(0)).getShape() != ranked(v).getShape() ||
      (epsilon != 0 && minimum != 0))
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

// v times or divided by a number, when that is all that happens to v.
Value scaled(Value v, double &factor) {
  Operation *user = onlyUser(v);
  StringRef n = onnxName(user);
  if ((n != "Mul" && n != "Div") || user->getOperand(0) == user->getOperand(1) ||
      (n == "Div" && user->getOperand(0) != v))
    return {};
  Value other = user->getOperand(user->getOperand(0) == v ? 1 : 0);
  auto c = number(other);
  auto type = ranked(v), otherType = ranked(other);
  if (!c || !otherType || otherType.getRank() > type.getRank() || (n == "Div" && *c == 0))
    return {};
  factor = n == "Mul" ? factor * *c : factor / *c;
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
  if (!renormed && f.score == Formula::Identity)
    step([&](Value at) { return activated(at, f); });
  while (step([&](Value at) { return scaled(at, f.scale); }))
    ;
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
    if (!isExpertVector(b, ranked(select->getOperand(0)).getShape().back()))
      continue;
    // Of scores that no router computes the weights are still theirs.
    if (!scoreOf(p, found))
      found.logits = core(p);
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
  bool grouped = kind && kind == "grouped_top_k";
  if (select->getNumOperands() != 1 || (kind && kind != "top_k" && !grouped)) {
    why = "the selection is no top-k of one matrix of scores";
    return false;
  }
  auto attribute = [&](StringRef name) {
    auto attr = select->getAttrOfType<IntegerAttr>(name);
    return attr ? attr.getInt() : 1;
  };
  auto groupScore = select->getAttrOfType<StringAttr>("group_score");
  f.groups = grouped ? attribute("groups") : 1;
  f.groupK = grouped ? attribute("group_k") : 1;
  f.top2 = groupScore && groupScore == "top2";
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
