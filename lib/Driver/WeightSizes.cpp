#include "WeightSizes.h"

#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Weights/Weights.h"

#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace moec;

static mlir::RankedTensorType typeOf(mlir::Value value) {
  return llvm::cast<mlir::RankedTensorType>(value.getType());
}

static double elements(mlir::Value value) { return double(typeOf(value).getNumElements()); }

double moec::storedBits(mlir::Value weight) {
  double own = double(storageBits(typeOf(weight).getElementType()));
  mlir::Operation *op = weight.getDefiningOp();
  return llvm::TypeSwitch<mlir::Operation *, double>(op)
      .Case([&](moe::WeightCastOp cast) { return std::min(own, storedBits(cast.getInput())); })
      .Case<moe::WeightTransposeOp, moe::WeightReshapeOp, moe::WeightGatherOp, moe::WeightSliceOp>(
          [](auto step) { return storedBits(step.getInput()); })
      .Case<moe::WeightConcatOp, moe::WeightCombineOp>([&](auto step) {
        double sum = 0, n = 0;
        for (mlir::Value input : step.getInputs()) {
          sum += storedBits(input) * elements(input);
          n += elements(input);
        }
        return n > 0 ? sum / n : own;
      })
      .Case([&](moe::WeightDequantizeOp step) {
        double bits = storedBits(step.getInput());
        for (mlir::Value extra : {step.getScale(), step.getZeroPoint()})
          if (extra && elements(weight) > 0)
            bits += storedBits(extra) * elements(extra) / elements(weight);
        return bits;
      })
      .Default([&](mlir::Operation *) { return own; });
}

static void addBank(moe::BankOp bank, llvm::DenseSet<llvm::StringRef> &used) {
  for (mlir::NamedAttribute attr : bank->getAttrs())
    attr.getValue().walk([&](mlir::FlatSymbolRefAttr ref) { used.insert(ref.getValue()); });
}

// What is stored for a value, in whatever order and type it is read.
static mlir::Value sourceOf(mlir::Value weight) {
  mlir::Operation *op = weight.getDefiningOp();
  while (llvm::isa_and_nonnull<moe::WeightCastOp, moe::WeightTransposeOp, moe::WeightReshapeOp>(op)) {
    weight = op->getOperand(0);
    op = weight.getDefiningOp();
  }
  return weight;
}

static uint64_t bytesOf(mlir::ModuleOp module, const llvm::DenseSet<llvm::StringRef> &used) {
  double bits = 0;
  llvm::DenseSet<mlir::Value> seen; // an embedding may be the head's matrix, too
  module.walk([&](moe::WeightBindOp bind) {
    if (used.contains(bind.getSymName()) && seen.insert(sourceOf(bind.getValue())).second)
      bits += storedBits(bind.getValue()) * elements(bind.getValue());
  });
  return uint64_t(bits / 8);
}

uint64_t moec::storedBytes(moe::BankOp bank) {
  llvm::DenseSet<llvm::StringRef> used;
  addBank(bank, used);
  return bytesOf(bank->getParentOfType<mlir::ModuleOp>(), used);
}

uint64_t moec::storedBytes(mlir::ModuleOp module, bool experts) {
  llvm::DenseSet<llvm::StringRef> used;
  if (experts) {
    for (const moe::RoutedLayer &layer : moe::collectRoutedLayers(module))
      addBank(layer.bank, used);
  } else {
    module.walk([&](moe::BankOp bank) { addBank(bank, used); });
    module.walk([&](moe::WeightUseOp use) { used.insert(use.getWeight()); });
  }
  return bytesOf(module, used);
}
