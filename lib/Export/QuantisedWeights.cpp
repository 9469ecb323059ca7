// Weights that were dequantised are stored as they were: DequantizeLinear stands in the graph, and
// what moved or widened the numbers behind it.
#include "Lower.h"

#include "llvm/ADT/APInt.h"

using namespace mlir;
using namespace moec;
using namespace moec::onnx_export;

namespace {

// A weight as moe.weight.dequantize and the steps behind it, the last one first.
struct Chain {
  Operation *dequantize = nullptr;
  SmallVector<Operation *> after;
};

std::optional<Chain> chainOf(Value v) {
  Chain chain;
  for (Operation *op = v ? v.getDefiningOp() : nullptr; op;
       op = op->getOperand(0).getDefiningOp()) {
    StringRef name = op->getName().getStringRef();
    if (name == "moe.weight.dequantize") {
      chain.dequantize = op;
      return chain;
    }
    bool moves = name == "moe.weight.transpose" || name == "moe.weight.reshape";
    if (!moves && !(name == "moe.weight.cast" && isa<FloatType>(elementOf(op->getOperand(0))) &&
                    isa<FloatType>(elementOf(op->getResult(0)))))
      return std::nullopt;
    chain.after.push_back(op);
  }
  return std::nullopt;
}

// How DequantizeLinear says where scales belong.
struct Form {
  SmallVector<int64_t> scales; // their shape
  int64_t axis = 1, block = 0;
};

std::optional<Form> formOf(Operation *op) {
  ArrayRef<int64_t> dims = rankedType(op->getOperand(0)).getShape();
  ArrayRef<int64_t> scales = rankedType(op->getOperand(1)).getShape();
  auto blocks = op->getAttrOfType<DenseI64ArrayAttr>("blocks").asArrayRef();
  SmallVector<int64_t> several; // axes with more than one scale
  for (auto [axis, count] : llvm::enumerate(scales))
    if (count != 1)
      several.push_back(static_cast<int64_t>(axis));
  if (several.empty())
    return Form{{}, 1, 0};
  if (several.size() == 1 && blocks[several[0]] == 1)
    return Form{{scales[several[0]]}, several[0], 0};
  // Blocks along one axis, a scale for each position of the others.
  int64_t axis = -1;
  for (auto [i, block] : llvm::enumerate(blocks)) {
    if (scales[i] == dims[i])
      continue;
    if (axis >= 0)
      return std::nullopt;
    axis = static_cast<int64_t>(i);
  }
  if (axis < 0)
    axis = static_cast<int64_t>(dims.size()) - 1;
  return Form{SmallVector<int64_t>(scales), axis, std::min(blocks[axis], dims[axis])};
}

bool widens(Type from, Type to) {
  auto f = dyn_cast<FloatType>(from), t = dyn_cast<FloatType>(to);
  return f && t && (f == t || f.getWidth() < t.getWidth());
}

// The zero points in the scales' form and of the numbers' type, null for 0; false if they cannot
// be.
bool zerosOf(Steps &steps, Operation *op, const Form &form, Type element, Value &zero) {
  if (op->getNumOperands() < 3)
    return true;
  zero = op->getOperand(2);
  auto integer = dyn_cast<IntegerType>(element);
  if (!integer || !elementOf(zero).isInteger())
    return false;
  if (rankedType(zero).getNumElements() != rankedType(op->getOperand(1)).getNumElements()) {
    Operation *literal = zero.getDefiningOp();
    auto value = literal ? dyn_cast_or_null<DenseIntElementsAttr>(literal->getAttr("value"))
                         : DenseIntElementsAttr();
    if (!value || value.getNumElements() != 1)
      return false;
    int64_t number = elementOf(zero).isUnsignedInteger()
                         ? static_cast<int64_t>((*value.begin()).getZExtValue())
                         : (*value.begin()).getSExtValue();
    int64_t low = integer.isUnsigned() ? 0 : -(int64_t(1) << (integer.getWidth() - 1));
    if (number < low || number >= low + (int64_t(1) << integer.getWidth()))
      return false;
    zero = number == 0 ? Value() : steps.integers(form.scales, element, number);
    return true;
  }
  zero = steps.cast(steps.reshape(zero, form.scales), element);
  return true;
}

} // namespace

static Value again(Build &b, Operation *step, Value v) {
  auto type = rankedType(step->getResult(0));
  StringRef name = step->getName().getStringRef();
  if (name == "moe.weight.cast")
    return b.cast(v, type.getElementType());
  if (name == "moe.weight.transpose")
    return b.op("Transpose", v, type.clone(elementOf(v)),
                b.builder.getNamedAttr("perm", step->getAttr("perm")));
  return b.op("Reshape", {v, b.ints(type.getShape())}, type.clone(elementOf(v)),
              {b.attr("allowzero", 0)});
}

void Lowering::quantisedWeights(Region &region) {
  region.walk([&](moe::WeightUseOp use) {
    auto chain = chainOf(steps.of(use.getWeight()));
    if (!chain)
      return;
    Operation *op = chain->dequantize;
    Type element = elementOf(op->getOperand(0)), result = elementOf(op->getResult(0));
    Value scale = op->getOperand(1);
    auto form = formOf(op);
    unsigned width = element.getIntOrFloatBitWidth();
    if (!form || width >= result.getIntOrFloatBitWidth() || !widens(elementOf(scale), result))
      return;
    // Types of two bits are younger than runtimes.
    Value q = op->getOperand(0), zero;
    if (auto integer = dyn_cast<IntegerType>(element); integer && width == 2) {
      element = IntegerType::get(element.getContext(), 4, integer.getSignedness());
      q = steps.cast(q, element);
    }
    if (!zerosOf(steps, op, *form, element, zero))
      return;
    StringRef name = use.getWeight();
    Build b(use, name);
    scale = steps.reshape(steps.cast(scale, result), form->scales);
    Value v = b.op("DequantizeLinear",
                   {this->use(b, q, (name + ".quantised").str()),
                    this->use(b, scale, (name + ".scale").str()),
                    zero ? this->use(b, zero, (name + ".zero_point").str()) : b.none()},
                   rankedType(op->getResult(0)),
                   {b.attr("axis", form->axis), b.attr("block_size", form->block)});
    for (Operation *step : llvm::reverse(chain->after))
      v = again(b, step, v);
    use.replaceAllUsesWith(v);
    use.erase();
  });
}
