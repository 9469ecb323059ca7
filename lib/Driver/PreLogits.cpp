#include "PreLogits.h"

#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include "llvm/ADT/STLExtras.h"

using namespace moec;
using llvm::StringRef;

// A parameter, also a transposed or cast one.
static bool isWeight(mlir::Value value) {
  mlir::Operation *op = value ? value.getDefiningOp() : nullptr;
  if (!op)
    return false;
  if (op->getName().getStringRef() == "moe.weight.use" || onnxName(op) == "Constant")
    return true;
  return llvm::is_contained({StringRef("Transpose"), StringRef("Cast"), StringRef("Identity")},
                            onnxName(op)) &&
         isWeight(op->getOperand(0));
}

// The operand that a step between the product and the output passes on; null: it is no such step.
static mlir::Value passedOn(mlir::Operation *op) {
  constexpr llvm::StringLiteral views[] = {"Identity", "Cast",  "Reshape",   "Squeeze", "Unsqueeze",
                                     "Flatten",  "Slice", "Transpose", "Tanh",    "Clip",
                                     "Softmax",  "LogSoftmax"};
  StringRef name = onnxName(op);
  if (llvm::is_contained(views, name))
    return op->getOperand(0);
  if (name != "Add" && name != "Sub" && name != "Mul" && name != "Div")
    return {};
  if (isWeight(op->getOperand(1)))
    return op->getOperand(0);
  return name != "Div" && isWeight(op->getOperand(0)) ? op->getOperand(1) : mlir::Value();
}

mlir::Value moec::findPreLogits(mlir::ModuleOp module, size_t output) {
  auto main = module.lookupSymbol<mlir::func::FuncOp>("main");
  if (!main || output >= main.getNumResults())
    return {};
  mlir::Value value = main.front().getTerminator()->getOperand(unsigned(output));
  for (int steps = 0; value && steps < 16; ++steps) {
    mlir::Operation *op = value.getDefiningOp();
    if (!op)
      return {};
    bool gemm = onnxName(op) == "Gemm" && intAttr(op, "transA", 0) == 0;
    if ((gemm || onnxName(op) == "MatMul") && isWeight(op->getOperand(1))) {
      auto type = mlir::dyn_cast<mlir::RankedTensorType>(op->getOperand(0).getType());
      bool rows = type && type.getRank() > 0 && mlir::isa<mlir::FloatType>(type.getElementType());
      return rows ? op->getOperand(0) : mlir::Value();
    }
    value = passedOn(op);
  }
  return {};
}

void moec::tapPreLogits(mlir::ModuleOp module, size_t output) {
  if (mlir::Value value = findPreLogits(module, output))
    addOutputs(module, {value}, {preLogitsName.str()});
}
