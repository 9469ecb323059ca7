// Group-limited selection (DeepSeek-V2, V3): experts of all but the best groups
// are masked off before the top-k.
//
//   c: [T, E] -> [T, G, S], group score: ReduceMax | TopK(2), ReduceSum -> [T, G]
//   TopK(kept) -> ScatterElements(0, ., 1) -> [T, G, 1] -> [T, G, S] -> [T, E]
//   Where(mask, c, -inf or 0)
//
// -inf leaves the choice of the kept groups as it is when no score is -inf. 0
// does when no score is negative: experts of score 0 may change places then,
// but their weight is 0 as well.
#include "Selection.h"
#include <cmath>

using namespace mlir;

namespace moec::raise {

std::optional<double> everywhere(Value v) {
  for (int depth = 0; v && depth < 8; ++depth) {
    if (auto number = constSplat(v))
      return number;
    Operation *op = v.getDefiningOp();
    StringRef n = onnxName(op);
    if (n == "ConstantOfShape") {
      auto dense = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"));
      if (!dense)
        return 0.0;
      if (!dense.isSplat())
        return std::nullopt;
      if (isa<FloatType>(dense.getElementType()))
        return dense.getSplatValue<APFloat>().convertToDouble();
      return static_cast<double>(dense.getSplatValue<APInt>().getSExtValue());
    }
    if (n != "Expand" && n != "Reshape" && n != "Unsqueeze" && n != "Identity")
      return std::nullopt;
    v = op->getOperand(0);
  }
  return std::nullopt;
}

Value sameElements(Value v) {
  while (Operation *op = v.getDefiningOp()) {
    StringRef n = onnxName(op);
    if (n != "Reshape" && n != "Identity" && n != "Squeeze" &&
        n != "Unsqueeze" && n != "Flatten")
      return v;
    v = op->getOperand(0);
  }
  return v;
}

namespace {

int64_t lastDim(Value v, int64_t fromEnd = 1) {
  auto type = ranked(v);
  return type && type.getRank() >= fromEnd
             ? type.getDimSize(type.getRank() - fromEnd)
             : -1;
}

bool onLastAxis(Operation *op, int64_t otherwise) {
  auto type = ranked(op->getOperand(0));
  int64_t axis = intAttr(op, "axis", otherwise);
  return type && (axis == -1 || axis == type.getRank() - 1);
}

bool reducesLastAxis(Operation *op) {
  auto type = ranked(op->getOperand(0));
  if (!type || op->getNumOperands() < 2)
    return false;
  auto axis = evalInt(op->getOperand(1));
  return axis && (*axis == -1 || *axis == type.getRank() - 1);
}

// No element is below 0 (-inf included). A parameter is a finite number, of
// either sign.
struct Bounds {
  bool finite = false, positive = false;
};
Bounds boundsOf(Value v, int depth = 0) {
  v = sameElements(v);
  Operation *op = v.getDefiningOp();
  StringRef n = onnxName(op);
  if (depth > 6)
    return {};
  if (n == "Softmax" || n == "Sigmoid" || n == "Softplus" || n == "Relu")
    return {true, true};
  if (isWeight(v))
    return {true, false};
  if (n == "Cast" || n == "Sqrt")
    return boundsOf(op->getOperand(0), depth + 1);
  if (n != "Add")
    return {};
  Bounds a = boundsOf(op->getOperand(0), depth + 1),
         b = boundsOf(op->getOperand(1), depth + 1);
  return {a.finite && b.finite, a.positive && b.positive};
}

// Of [T, G, S] the group scores [T, G].
struct GroupScore {
  Value byGroup;
  bool top2 = false;
};
std::optional<GroupScore> groupScore(Value v) {
  Operation *op = sameElements(v).getDefiningOp();
  if (!op || !(isOnnx(op, "ReduceMax") || isOnnx(op, "ReduceSum")) ||
      !reducesLastAxis(op))
    return std::nullopt;
  Value in = op->getOperand(0);
  if (isOnnx(op, "ReduceMax"))
    return GroupScore{in, false};
  Operation *best = in.getDefiningOp();
  if (!isOnnx(best, "TopK") || best->getResult(0) != in ||
      !onLastAxis(best, -1) || intAttr(best, "largest", 1) != 1)
    return std::nullopt;
  auto two = evalInt(best->getOperand(1));
  if (!two || *two != 2)
    return std::nullopt;
  return GroupScore{best->getOperand(0), true};
}

// A condition that says for each expert of [T, G * S] whether its group is one
// of those that `scatter` marks with 1 (`kept`) or one of the others.
struct GroupMask {
  Operation *scatter = nullptr;
  int64_t size = 1; // experts of a group
  bool kept = true;
};
std::optional<GroupMask> groupMask(Value v, int64_t experts) {
  GroupMask mask;
  for (int depth = 0; v && depth < 16; ++depth) {
    Operation *op = v.getDefiningOp();
    StringRef n = onnxName(op);
    if (n == "Not") {
      mask.kept = !mask.kept;
    } else if (n == "Equal" || n == "Greater") {
      auto number = everywhere(op->getOperand(1));
      if (!number || *number < 0 || *number > (n == "Equal" ? 1 : 0.9))
        return std::nullopt;
      if (n == "Equal" && *number == 0)
        mask.kept = !mask.kept;
      else if (n == "Equal" && *number != 1)
        return std::nullopt;
    } else if (n == "Expand" || n == "Tile") {
      // Only the last axis grows: a copy of the mark for each expert.
      auto from = ranked(op->getOperand(0)), to = ranked(v);
      if (!from || !to || from.getRank() != to.getRank() || from.getRank() < 2 ||
          mask.size != 1)
        return std::nullopt;
      for (int64_t i = 0; i + 1 < from.getRank(); ++i)
        if (from.getDimSize(i) != to.getDimSize(i))
          return std::nullopt;
      if (from.getShape().back() != 1 || to.getShape().back() < 1 ||
          to.getDimSize(to.getRank() - 2) * to.getShape().back() != experts)
        return std::nullopt;
      mask.size = to.getShape().back();
    } else if (n == "ScatterElements") {
      std::string reduction = strAttr(op, "reduction");
      if (!onLastAxis(op, 0) || (!reduction.empty() && reduction != "none") ||
          lastDim(op->getResult(0)) * mask.size != experts ||
          everywhere(op->getOperand(0)) != 0.0 ||
          everywhere(op->getOperand(2)) != 1.0)
        return std::nullopt;
      mask.scatter = op;
      return mask;
    } else if (n != "Cast" && n != "Reshape" && n != "Unsqueeze" &&
               n != "Squeeze" && n != "Identity") {
      return std::nullopt;
    }
    v = op->getOperand(0);
  }
  return std::nullopt;
}

// Where(mask, c, number) in either order, or c * mask.
struct Masked {
  Value condition, scores;
  bool keeps = true; // where the condition is true
  double otherwise = 0;
};
SmallVector<Masked, 2> maskedForms(Operation *op) {
  SmallVector<Masked, 2> out;
  if (isOnnx(op, "Where")) {
    Value c = op->getOperand(0), a = op->getOperand(1), b = op->getOperand(2);
    if (auto number = everywhere(b))
      out.push_back({c, a, true, *number});
    else if (auto number = everywhere(a))
      out.push_back({c, b, false, *number});
  } else if (isOnnx(op, "Mul")) {
    out.push_back({op->getOperand(0), op->getOperand(1), true, 0});
    out.push_back({op->getOperand(1), op->getOperand(0), true, 0});
  }
  return out;
}

} // namespace

std::optional<GroupChoice> matchGroups(Value v) {
  int64_t experts = lastDim(v);
  Operation *op = sameElements(v).getDefiningOp();
  if (!op || experts < 1)
    return std::nullopt;
  for (const Masked &form : maskedForms(op)) {
    auto mask = groupMask(form.condition, experts);
    if (!mask || mask->kept != form.keeps)
      continue;
    Operation *kept = sameElements(mask->scatter->getOperand(1)).getDefiningOp();
    if (!isOnnx(kept, "TopK") || !onLastAxis(kept, -1) ||
        intAttr(kept, "largest", 1) != 1)
      continue;
    auto groupK = evalInt(kept->getOperand(1));
    auto score = groupScore(kept->getOperand(0));
    if (!groupK || !score)
      continue;
    GroupChoice choice;
    choice.scores = sameElements(form.scores);
    choice.groups = experts / mask->size;
    choice.groupK = *groupK;
    choice.top2 = score->top2;
    Bounds bounds = boundsOf(choice.scores);
    bool exact = std::isinf(form.otherwise) && form.otherwise < 0
                     ? bounds.finite
                     : form.otherwise == 0 && bounds.positive;
    if (lastDim(choice.scores) != experts || !exact ||
        sameElements(score->byGroup) != choice.scores ||
        lastDim(score->byGroup) != mask->size ||
        lastDim(score->byGroup, 2) != choice.groups ||
        choice.groupK < 1 || choice.groupK > choice.groups)
      continue;
    return choice;
  }
  return std::nullopt;
}

} // namespace moec::raise
