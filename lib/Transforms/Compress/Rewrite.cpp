// Experts that share a slab, or are something simpler than a slab.
#include "moec/Transforms/Compress/Rewrite.h"

#include "RewriteBank.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Prepare/WeightSteps.h"

using namespace mlir;
using namespace moec;
using namespace moec::compress;

static LogicalResult checkAliases(moe::RoutedLayer &layer, ArrayRef<int64_t> slabs,
                                  ArrayRef<Value> parameters) {
  moe::BankOp bank = layer.bank;
  if (bank.getImplementations().size() > 1)
    return layerError(layer) << "unsupported: its experts have " << bank.getImplementations().size()
                             << " kinds; only experts of one kind can share a slab";
  SmallVector<moe::WeightBindOp> binds = bankParameters(bank);
  if (slabs.size() != bank.getExperts() || parameters.size() != binds.size())
    return layerError(layer) << "has " << bank.getExperts() << " experts and " << binds.size()
                             << " parameters, but slabs for " << slabs.size() << " and "
                             << parameters.size() << " values";
  int64_t rows = -1;
  for (auto [bind, value] : llvm::zip(binds, parameters)) {
    auto type = rankedType(value), old = rankedType(bind.getValue());
    if (type.getShape().drop_front() != old.getShape().drop_front() ||
        (rows >= 0 && type.getDimSize(0) != rows))
      return layerError(layer) << "needs slabs like those of @" << bind.getSymName() << ", " << old
                               << ", not " << type;
    rows = type.getDimSize(0);
  }
  for (auto [e, slab] : llvm::enumerate(slabs)) {
    bool dense = bank.getExpertStorage(e) == "dense";
    if (slab < -1 || (rows >= 0 && slab >= rows) || (slab == -1) == dense)
      return layerError(layer) << "gives expert " << e << ", which is "
                               << bank.getExpertStorage(e) << ", slab " << slab << " of " << rows;
  }
  return success();
}

LogicalResult moec::aliasExperts(moe::RoutedLayer &layer, ArrayRef<int64_t> slabs,
                                 ArrayRef<Value> parameters) {
  layer.bank = moe::findBank(layer.experts, layer.experts.getBank());
  if (failed(checkAliases(layer, slabs, parameters)))
    return failure();
  ownBank(layer);
  for (auto [i, value] : llvm::enumerate(parameters))
    setParameter(layer.bank, i, value);
  SmallVector<ExpertEntry> entries = expertEntries(layer.bank);
  for (auto [e, entry] : llvm::enumerate(entries))
    entry.slab = slabs[e];
  setExperts(layer.bank, entries);
  return success();
}

static LogicalResult checkReplaced(moe::RoutedLayer &layer, ArrayRef<int64_t> experts,
                                   StringRef storage, Value constants) {
  moe::BankOp bank = layer.bank;
  for (int64_t e : experts)
    if (e < 0 || e >= static_cast<int64_t>(bank.getExperts()))
      return layerError(layer) << "replaces expert " << e << " of " << bank.getExperts();
  if (!llvm::is_sorted(experts) || std::adjacent_find(experts.begin(), experts.end()) !=
                                       experts.end())
    return layerError(layer) << "replaces experts that are not in rising order";
  if (storage != "zero" && storage != "identity" && storage != "constant")
    return layerError(layer) << "cannot replace an expert by \"" << storage
                             << "\"; it is zero, identity or constant";
  if ((storage == "constant") != static_cast<bool>(constants))
    return layerError(layer) << "takes constants for constant experts, and only there";
  RankedTensorType result = bank.getResultType();
  SmallVector<int64_t> row{static_cast<int64_t>(bank.getHidden())};
  if (result)
    row.assign(result.getShape().drop_front().begin(), result.getShape().drop_front().end());
  if (constants) {
    SmallVector<int64_t> wanted{static_cast<int64_t>(experts.size())};
    wanted.append(row);
    if (rankedType(constants).getShape() != ArrayRef(wanted))
      return layerError(layer) << "needs a row of " << (row.empty() ? 1 : row.back())
                               << " numbers for each of " << experts.size()
                               << " constant experts, not " << constants.getType();
  } else if (!givesTokenType(bank)) {
    return layerError(layer) << "unsupported: its experts change the type of tokens, so that none "
                                "of them can be " << storage;
  }
  return success();
}

LogicalResult moec::replaceExperts(moe::RoutedLayer &layer, ArrayRef<int64_t> experts,
                                   StringRef storage, Value constants) {
  layer.bank = moe::findBank(layer.experts, layer.experts.getBank());
  if (failed(checkReplaced(layer, experts, storage, constants)))
    return failure();
  if (experts.empty())
    return success();
  ownBank(layer);
  SmallVector<ExpertEntry> entries = expertEntries(layer.bank);
  for (auto [i, e] : llvm::enumerate(experts))
    entries[e] = {-1, storage.str(), entries[e].width, entries[e].kind, constants,
                  static_cast<int64_t>(i)};
  setExperts(layer.bank, entries);
  layer.bank = moe::findBank(layer.experts, layer.experts.getBank());
  return success();
}

void moec::cleanUp(ModuleOp module) {
  SmallVector<Block *> blocks;
  module.walk<WalkOrder::PostOrder>([&](Operation *op) {
    if (isa<ModuleOp, moe::WeightsOp, moe::BankOp>(op))
      return;
    for (Region &region : op->getRegions())
      for (Block &block : region)
        blocks.push_back(&block);
  });
  for (Block *block : blocks)
    eraseDeadOps(*block);
  WeightSteps(module).eraseDead();
}
