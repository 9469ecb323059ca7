#include "Lower.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace moec;
using namespace moec::onnx_export;

std::string moec::onnx_export::layerName(Operation *op) {
  std::string name = nodeName(op->getLoc());
  auto bank = op->getAttrOfType<FlatSymbolRefAttr>("bank");
  if (name.empty())
    name = (bank ? bank.getValue() : op->getName().stripDialect()).str();
  return name;
}

Value Lowering::use(Build &b, Value step, StringRef hint) {
  std::string name = steps.bind(step, hint);
  OperationState state(NameLoc::get(b.builder.getStringAttr(name)), "moe.weight.use");
  state.addTypes(step.getType());
  state.addAttribute("weight", FlatSymbolRefAttr::get(b.builder.getStringAttr(name)));
  return b.builder.create(state)->getResult(0);
}

bool Lowering::lower(Operation *op) {
  return llvm::TypeSwitch<Operation *, bool>(op)
      .Case([&](moe::RouteOp o) { return route(o), true; })
      .Case([&](moe::SelectOp o) { return select(o); })
      .Case([&](moe::ChooseOp o) { return choose(o), true; })
      .Case([&](moe::ExpertsOp o) { return experts(o); })
      .Case([&](moe::SoftDispatchOp o) { return softDispatch(o), true; })
      .Case([&](moe::SoftCombineOp o) { return softCombine(o), true; })
      .Case([&](moe::MergeWeightsOp o) { return mergeWeights(o); })
      .Default([](Operation *o) {
        o->emitOpError("is unsupported by export: operators of ONNX cannot say it");
        return false;
      });
}

// Ops that nothing uses, from the last to the first.
static void eraseDead(Region &region) {
  for (Block &block : region)
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block))) {
      if (isOpTriviallyDead(&op)) {
        op.erase();
        continue;
      }
      for (Region &inner : op.getRegions())
        eraseDead(inner);
    }
}

void Lowering::narrowWeights(Region &region) {
  region.walk([&](moe::WeightUseOp use) {
    Value bound = steps.of(use.getWeight());
    Value narrow = bound ? steps.narrowed(bound) : Value();
    if (!narrow)
      return;
    Build b(use, use.getWeight());
    Value stored = this->use(b, narrow, (use.getWeight() + ".stored").str());
    use.replaceAllUsesWith(b.cast(stored, elementOf(bound)));
    use.erase();
  });
}

void Lowering::tiedWeights(Region &region) {
  SmallVector<moe::WeightUseOp> turned;
  llvm::DenseSet<Value> stored;
  region.walk([&](moe::WeightUseOp use) {
    Value bound = steps.of(use.getWeight());
    if (bound && bound.getDefiningOp<moe::WeightTransposeOp>())
      turned.push_back(use);
    else
      stored.insert(bound);
  });
  for (moe::WeightUseOp use : turned) {
    auto step = steps.of(use.getWeight()).getDefiningOp<moe::WeightTransposeOp>();
    if (!stored.contains(step.getInput()))
      continue;
    Build b(use, use.getWeight());
    Value source = this->use(b, step.getInput(), use.getWeight());
    use.replaceAllUsesWith(b.transpose(source, step.getPerm()));
    use.erase();
  }
}

bool Lowering::run(Region &region) {
  SmallVector<Operation *> layers, others;
  bool ok = true;
  region.walk([](moe::LogitHookOp hook) { // sessions are the runtime's
    hook.getResult().replaceAllUsesWith(hook.getLogits());
    hook.erase();
  });
  region.walk([&](Operation *op) {
    StringRef dialect = op->getName().getDialectNamespace();
    if (isa<moe::ExpertsOp>(op))
      layers.push_back(op);
    else if (dialect == "moe" && !isa<moe::WeightUseOp>(op))
      others.push_back(op);
    else if (dialect != "moe" && dialect != "onnx" && !isa<func::ReturnOp>(op)) {
      op->emitOpError("is unsupported by export: it is no operator of ONNX");
      ok = false;
    }
  });
  // Layers that take their router with them first: the router may be of no use then.
  if (options.fused != ExportOptions::Fused::never)
    for (Operation *&op : layers)
      if (fuse(cast<moe::ExpertsOp>(op)))
        op = nullptr;
  for (Operation *op : others) {
    if (op->use_empty() && op->getNumResults() > 0)
      op->erase();
    else
      ok &= lower(op);
  }
  for (Operation *op : layers)
    if (op)
      ok &= lower(op);
  if (!ok)
    return false;
  eraseDead(region);
  quantisedWeights(region);
  narrowWeights(region);
  tiedWeights(region);
  eraseDead(region);
  return true;
}

LogicalResult moec::lowerToOnnx(ModuleOp module, const ExportOptions &options,
                                ExportReport &report) {
  Lowering lowering(module, options, report);
  bool ok = true;
  for (auto function : module.getOps<func::FuncOp>())
    if (!function.isExternal())
      ok &= lowering.run(function.getBody());
  return success(ok);
}
