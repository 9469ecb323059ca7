#include "moec/Dialect/MoE/RoutedLayers.h"

#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace moec::moe;

// The op that chose the ids, behind ops that only change their form.
static Operation *routerOf(Value ids) {
  static constexpr llvm::StringLiteral views[] = {"onnx.Cast",    "onnx.Reshape",   "onnx.Identity",
                                                  "onnx.Squeeze", "onnx.Unsqueeze", "onnx.Flatten"};
  Operation *op = ids.getDefiningOp();
  while (op && llvm::is_contained(views, op->getName().getStringRef()))
    op = op->getOperand(0).getDefiningOp();
  return isa_and_nonnull<RouteOp, SelectOp>(op) ? op : nullptr;
}

Value RoutedLayer::logits() const { return router ? router->getOperand(0) : Value(); }

int64_t RoutedLayer::k() const {
  ExpertsOp op = experts;
  auto type = cast<RankedTensorType>(op.getWeights().getType());
  return type.getDimSize(1);
}

bool RoutedLayer::isDense() const {
  auto select = dyn_cast_or_null<SelectOp>(router);
  return !ExpertsOp(experts).getIds() || (select && select.getKind() == "all");
}

int64_t RoutedLayer::fewestExperts() const {
  if (isDense())
    return 1;
  if (auto select = dyn_cast_or_null<SelectOp>(router))
    if (select.getKind() == "top_p" || select.getKind() == "threshold")
      return std::max<int64_t>(static_cast<int64_t>(select.getAtLeast().value_or(0)), 1);
  return std::max<int64_t>(k(), 1);
}

SmallVector<RoutedLayer> moec::moe::collectRoutedLayers(ModuleOp module) {
  llvm::StringMap<BankOp> banks;
  for (BankOp bank : module.getOps<BankOp>())
    banks[bank.getSymName()] = bank;
  llvm::StringMap<int> users;
  SmallVector<RoutedLayer> layers;
  module.walk([&](ExpertsOp op) {
    BankOp bank = banks.lookup(op.getBank());
    if (!bank || !op.getWeights())
      return;
    RoutedLayer layer{op.getBank().str(), op, bank, nullptr};
    if (int n = ++users[op.getBank()]; n > 1)
      layer.name += "#" + std::to_string(n);
    if (Value ids = op.getIds())
      layer.router = routerOf(ids);
    layers.push_back(layer);
  });
  return layers;
}
