#include "moec/Dialect/MoE/RoutedLayers.h"

#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace moec::moe;

bool moec::moe::isViewOfIds(Operation *op) {
  static constexpr llvm::StringLiteral views[] = {"onnx.Cast",    "onnx.Reshape",   "onnx.Identity",
                                                  "onnx.Squeeze", "onnx.Unsqueeze", "onnx.Flatten"};
  return llvm::is_contained(views, op->getName().getStringRef());
}

// The op that computes the ids, behind ops that only change their form.
static Operation *behindViews(Value ids) {
  Operation *op = ids.getDefiningOp();
  while (op && isViewOfIds(op))
    op = op->getOperand(0).getDefiningOp();
  return op;
}

// Every element is negative: no expert.
static bool isNoExpert(Value v) {
  Operation *op = v.getDefiningOp();
  auto dense = op && op->getName().getStringRef() == "onnx.Constant"
                   ? op->getAttrOfType<DenseIntElementsAttr>("value")
                   : DenseIntElementsAttr();
  auto negative = [](const APInt &n) { return n.isNegative(); };
  return dense && llvm::all_of(dense.getValues<APInt>(), negative);
}

Operation *RoutedLayer::widerRouter() const {
  Value ids = ExpertsOp(experts).getIds();
  while (Operation *op = router || !ids ? nullptr : behindViews(ids)) {
    if (isa<RouteOp, SelectOp>(op))
      return op;
    if (op->getName().getStringRef() != "onnx.Where")
      return nullptr;
    bool second = isNoExpert(op->getOperand(2));
    if (!second && !isNoExpert(op->getOperand(1)))
      return nullptr;
    ids = op->getOperand(second ? 1 : 2);
  }
  return nullptr;
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
  int64_t others = 0;
  if (Operation *wider = widerRouter())
    if (auto scores = dyn_cast<RankedTensorType>(wider->getOperand(0).getType());
        scores && scores.getRank() == 2 && !scores.isDynamicDim(1))
      others = scores.getDimSize(1) - static_cast<int64_t>(BankOp(bank).getExperts());
  return std::max<int64_t>(k() - others, 1);
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
      if (Operation *op = behindViews(ids); isa_and_nonnull<RouteOp, SelectOp>(op))
        layer.router = op;
    layers.push_back(layer);
  });
  return layers;
}
