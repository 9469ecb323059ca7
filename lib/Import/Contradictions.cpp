// Nodes whose constants can only fail when the model runs: better said when it is compiled. Only those
// of @main itself, which run in any case; a branch may be there for other sizes.
#include "Context.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using moec::onnx_import::Context;

namespace {

DenseIntElementsAttr integers(Value value) {
  DenseElementsAttr elements;
  if (!matchPattern(value, m_Constant(&elements)))
    return {};
  return dyn_cast<DenseIntElementsAttr>(elements);
}

RankedTensorType shapeOf(Value value) { return dyn_cast<RankedTensorType>(value.getType()); }

int64_t axisOf(Operation *op, int64_t rank, int64_t otherwise) {
  auto attribute = op->getAttrOfType<IntegerAttr>("axis");
  int64_t axis = attribute ? attribute.getInt() : otherwise;
  return axis < 0 ? axis + rank : axis;
}

std::string topK(Operation *op) {
  DenseIntElementsAttr k = integers(op->getOperand(1));
  if (k && k.getNumElements() == 1 && k.getValues<APInt>()[0].isNegative())
    return "k = " + std::to_string(k.getValues<APInt>()[0].getSExtValue()) + " is negative";
  return "";
}

std::string gather(Operation *op) {
  RankedTensorType data = shapeOf(op->getOperand(0));
  DenseIntElementsAttr indices = integers(op->getOperand(1));
  int64_t axis = data ? axisOf(op, data.getRank(), 0) : -1;
  if (!data || !indices || axis < 0 || axis >= data.getRank() || data.isDynamicDim(axis))
    return "";
  int64_t size = data.getDimSize(axis);
  for (const APInt &index : indices.getValues<APInt>()) {
    int64_t i = index.getSExtValue();
    if (i < -size || i >= size)
      return "index " + std::to_string(i) + " is out of range, axis " + std::to_string(axis) +
             " has size " + std::to_string(size);
  }
  return "";
}

std::string reshape(Operation *op) {
  RankedTensorType from = shapeOf(op->getOperand(0)), to = shapeOf(op->getResult(0));
  if (!from || !to || !from.hasStaticShape() || !to.hasStaticShape() ||
      from.getNumElements() == to.getNumElements())
    return "";
  return "the shape has " + std::to_string(to.getNumElements()) + " elements, the input " +
         std::to_string(from.getNumElements());
}

std::string division(Operation *op) {
  DenseIntElementsAttr by = integers(op->getOperand(1));
  RankedTensorType result = shapeOf(op->getResult(0));
  // Of a tensor without elements nothing is divided.
  if (!by || !result || !result.hasStaticShape() || result.getNumElements() == 0)
    return "";
  for (const APInt &number : by.getValues<APInt>())
    if (number.isZero())
      return "divides integers by the constant zero";
  return "";
}

} // namespace

void moec::onnx_import::contradictions(Context &context, ModuleOp module) {
  using Check = std::string (*)(Operation *);
  auto main = module.lookupSymbol<func::FuncOp>("main");
  for (Operation &op : main.getOps()) {
    auto check = llvm::StringSwitch<Check>(op.getName().getStringRef())
                     .Case("onnx.TopK", topK)
                     .Case("onnx.Gather", gather)
                     .Case("onnx.Reshape", reshape)
                     .Cases({"onnx.Div", "onnx.Mod"}, division)
                     .Default(nullptr);
    std::string why = check ? check(&op) : "";
    auto name = dyn_cast<NameLoc>(op.getLoc());
    if (!why.empty())
      context.nodeError(op.getName().stripDialect(), name ? name.getName().strref() : "", why);
  }
}
