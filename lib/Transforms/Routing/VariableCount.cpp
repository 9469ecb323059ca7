// Top-p (Huang et al., "Harder Tasks Need More Experts", arXiv:2403.07652) and
// thresholds as exporters write them:
//
//   c = CumSum(v); mask = c - v < p     or    mask = v > threshold
//   w = v * Cast(mask)                  or    w = Where(mask, v, 0)
#include "VariableCount.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include <cmath>

using namespace mlir;

namespace moec::routing {

namespace {

bool is(Value v, StringRef name) { return v && onnxName(v.getDefiningOp()) == name; }

std::optional<double> number(Value v) {
  auto dense = is(v, "Constant")
                   ? dyn_cast_or_null<DenseElementsAttr>(v.getDefiningOp()->getAttr("value"))
                   : DenseElementsAttr();
  if (!dense || !dense.isSplat())
    return std::nullopt;
  if (!isa<FloatType>(dense.getElementType()))
    return static_cast<double>(dense.getSplatValue<APInt>().getSExtValue());
  APFloat f = dense.getSplatValue<APFloat>();
  bool lost;
  f.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
  return f.convertToDouble();
}

// Zeros of any shape.
bool isZero(Value v) {
  while (is(v, "Expand"))
    v = v.getDefiningOp()->getOperand(0);
  return number(v) == 0.0;
}

// The sum of the slots before each, of rows v.
bool sumsBefore(Value v, Value sums) {
  auto cumulates = [&](Value c, int64_t exclusive) {
    if (!is(c, "CumSum"))
      return false;
    Operation *op = c.getDefiningOp();
    auto flag = [&](StringRef name) {
      auto attr = op->getAttrOfType<IntegerAttr>(name);
      return attr ? attr.getInt() : 0;
    };
    auto axis = number(op->getOperand(1));
    return op->getOperand(0) == v && flag("exclusive") == exclusive && flag("reverse") == 0 &&
           axis && (*axis == -1 || *axis == 1);
  };
  if (cumulates(sums, 1))
    return true;
  return is(sums, "Sub") && cumulates(sums.getDefiningOp()->getOperand(0), 0) &&
         sums.getDefiningOp()->getOperand(1) == v;
}

// The condition under which a slot of v stays, with its bound.
std::optional<VariableCount> condition(Value v, Value mask) {
  Operation *op = mask.getDefiningOp();
  StringRef n = onnxName(op);
  if (n != "Less" && n != "Greater" && n != "GreaterOrEqual" && n != "LessOrEqual")
    return std::nullopt;
  Value a = op->getOperand(0), b = op->getOperand(1);
  bool less = n.starts_with("Less"), strict = !n.ends_with("OrEqual");
  auto bound = number(b);
  if (!bound) { // c > x is x < c
    std::swap(a, b);
    less = !less;
    bound = number(b);
  }
  if (!bound)
    return std::nullopt;
  if (less && strict && *bound > 0 && *bound <= 1 && sumsBefore(v, a))
    return VariableCount{VariableCount::TopP, *bound, {}};
  if (less || a != v || std::isnan(*bound))
    return std::nullopt;
  // The least f32 above, where the bound itself does not count.
  double least = strict ? std::nextafter(static_cast<float>(*bound), INFINITY) : *bound;
  return VariableCount{VariableCount::Threshold, least, {}};
}

} // namespace

std::optional<VariableCount> matchVariableCount(Operation *select) {
  auto kind = select->getAttrOfType<StringAttr>("kind");
  if (select->getNumOperands() != 1 || (kind && kind != "top_k"))
    return std::nullopt;
  Value ids = select->getResult(0), v = select->getResult(1);
  auto type = rankedType(v);
  if (!type || !type.getElementType().isF32())
    return std::nullopt;
  for (Operation *user : ids.getUsers())
    if (user->getName().getStringRef() != "moe.experts")
      return std::nullopt;
  std::optional<VariableCount> found;
  Operation *keeps = nullptr;
  for (Operation *user : v.getUsers()) {
    StringRef n = onnxName(user);
    Value mask;
    if (n == "Where" && user->getOperand(1) == v && isZero(user->getOperand(2)))
      mask = user->getOperand(0);
    else if (n == "Mul")
      if (Value other = user->getOperand(user->getOperand(0) == v ? 1 : 0); is(other, "Cast"))
        mask = other.getDefiningOp()->getOperand(0);
    if (!mask || found)
      continue;
    if ((found = condition(v, mask)))
      keeps = user;
  }
  if (!found)
    return std::nullopt;
  // What else reads the raw weights would keep the top-k beside the new selection.
  for (Operation *user : v.getUsers()) {
    StringRef n = onnxName(user);
    if (user != keeps && n != "CumSum" && n != "Sub" && !n.starts_with("Less") &&
        !n.starts_with("Greater"))
      return std::nullopt;
  }
  found->weights = keeps->getResult(0);
  return found;
}

} // namespace moec::routing
