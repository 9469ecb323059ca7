#include "RewriteBank.h"

#include "RewriteGather.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Compress/WeightHash.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/SymbolTable.h"
#include <set>

using namespace mlir;
using namespace moec;
using namespace moec::compress;

namespace {

constexpr StringRef kFfnParameters[] = {"gate",      "up",      "down",
                                        "gate_bias", "up_bias", "down_bias"};

/// Where a bank names a parameter: an attribute, or a place in the list of a region.
struct Slot {
  StringRef name;
  int64_t kind = 0, index = 0;
};

} // namespace

static SmallVector<Slot> slotsOf(moe::BankOp bank) {
  SmallVector<Slot> slots;
  for (StringRef name : kFfnParameters)
    if (bank->hasAttr(name))
      slots.push_back({name});
  for (int64_t kind = 0, kinds = bank.getImplementations().size(); kind < kinds; ++kind)
    for (size_t i = 0; i < bank.getParametersOf(kind).size(); ++i)
      slots.push_back({"parameters", kind, static_cast<int64_t>(i)});
  return slots;
}

static StringRef symbolOf(moe::BankOp bank, const Slot &slot) {
  if (slot.name != "parameters")
    return bank->getAttrOfType<FlatSymbolRefAttr>(slot.name).getValue();
  return bank.getParametersOf(slot.kind)[slot.index];
}

static void setSymbol(moe::BankOp bank, const Slot &slot, FlatSymbolRefAttr symbol) {
  if (slot.name != "parameters") {
    bank->setAttr(slot.name, symbol);
    return;
  }
  auto replaced = [](ArrayAttr list, int64_t index, Attribute entry) {
    SmallVector<Attribute> entries(list.begin(), list.end());
    entries[index] = entry;
    return ArrayAttr::get(list.getContext(), entries);
  };
  ArrayAttr lists = *bank.getParameters();
  bool nested = bank.getImplementations().size() > 1;
  ArrayAttr list = nested ? cast<ArrayAttr>(lists[slot.kind]) : lists;
  list = replaced(list, slot.index, symbol);
  bank->setAttr("parameters", nested ? replaced(lists, slot.kind, list) : list);
}

// How often operations outside of moe.weights name a weight.
static int countUses(ModuleOp module, StringRef weight) {
  int count = 0;
  module.walk([&](Operation *op) {
    if (isa<moe::WeightsOp>(op))
      return WalkResult::skip();
    for (NamedAttribute attr : op->getAttrs())
      attr.getValue().walk([&](FlatSymbolRefAttr s) { count += s.getValue() == weight; });
    return WalkResult::advance();
  });
  return count;
}

// The value of one parameter, without a change for other users of the bind.
static void setSlot(moe::BankOp bank, const Slot &slot, Value value) {
  auto module = bank->getParentOfType<ModuleOp>();
  moe::WeightBindOp bind = moe::findBind(bank, symbolOf(bank, slot));
  if (bind.getValue() == value)
    return;
  if (countUses(module, bind.getSymName()) > 1) {
    std::string hint = bank.getSymName().str() + ".";
    hint += slot.name == "parameters" ? "p" + std::to_string(slot.index) : slot.name.str();
    setSymbol(bank, slot, WeightSteps(module).bind(value, hint));
    return;
  }
  bind.getValueMutable().assign(value);
  bind->moveBefore(bind->getBlock(), bind->getBlock()->end());
}

SmallVector<moe::WeightBindOp> moec::bankParameters(moe::BankOp bank) {
  SmallVector<moe::WeightBindOp> binds;
  if (bank.getImplementations().size() > 1)
    return binds;
  for (const Slot &slot : slotsOf(bank))
    binds.push_back(moe::findBind(bank, symbolOf(bank, slot)));
  return binds;
}

SmallVector<StringRef> compress::parameterNames(moe::BankOp bank) {
  SmallVector<StringRef> names;
  for (const Slot &slot : slotsOf(bank))
    names.push_back(symbolOf(bank, slot));
  return names;
}

void moec::setParameter(moe::BankOp bank, unsigned parameter, Value value) {
  noteChange(bank);
  setSlot(bank, slotsOf(bank)[parameter], value);
}

OpBuilder moec::weightBuilder(ModuleOp module) {
  WeightSteps steps(module); // makes the op where there is none
  return OpBuilder::atBlockEnd(&moe::findWeights(module).getBody().front());
}

Value moec::slabOf(OpBuilder &builder, Value parameter, int64_t slab) {
  auto type = rankedType(parameter);
  SmallVector<int64_t> offsets(type.getRank(), 0), sizes(type.getShape()),
      strides(type.getRank(), 1);
  offsets[0] = slab;
  sizes[0] = 1;
  return moe::WeightSliceOp::create(builder, parameter.getLoc(),
                                    RankedTensorType::get(sizes, type.getElementType()), parameter,
                                    offsets, sizes, strides);
}

SmallVector<ExpertEntry> compress::expertEntries(moe::BankOp bank) {
  SmallVector<ExpertEntry> entries;
  for (int64_t e = 0, n = bank.getExperts(); e < n; ++e) {
    StringRef storage = bank.getExpertStorage(e);
    ExpertEntry entry{storage == "dense" ? bank.getSlab(e) : -1, storage.str(), bank.getWidth(e),
                      bank.getKind(e), {}, 0};
    if (storage == "constant") {
      entry.constants = moe::findBind(bank, *bank.getConstants()).getValue();
      entry.row = bank.getConstant(e);
    }
    entries.push_back(entry);
  }
  return entries;
}

// The rows of constant experts, in order of id.
static void setConstants(moe::BankOp bank, WeightSteps &steps, ArrayRef<ExpertEntry> entries) {
  SmallVector<Value> parts;
  SmallVector<int64_t> rows;
  Value from;
  Type element;
  auto flush = [&] {
    if (from)
      parts.push_back(steps.cast(gatherSlices(steps, from, 0, rows), element));
    rows.clear();
  };
  for (const ExpertEntry &entry : entries) {
    if (entry.storage != "constant")
      continue;
    if (entry.constants != from) {
      flush();
      from = entry.constants;
    }
    if (!element)
      element = rankedType(from).getElementType();
    rows.push_back(entry.row);
  }
  flush();
  if (parts.empty()) {
    bank.removeConstantsAttr();
    return;
  }
  Value all = parts.size() == 1 ? parts.front() : steps.concat(parts, 0);
  bank.setConstantsAttr(steps.bind(all, bank.getSymName().str() + ".constants"));
}

// Drops the regions without a dense expert (one stays) and renumbers the others.
static void dropRegions(moe::BankOp bank, MutableArrayRef<ExpertEntry> entries) {
  int64_t regions = bank.getImplementations().size();
  std::set<int64_t> used;
  for (const ExpertEntry &entry : entries)
    if (entry.storage == "dense")
      used.insert(entry.kind);
  if (regions <= 1 || static_cast<int64_t>(used.size()) == regions)
    return;
  if (used.empty())
    used.insert(0);
  SmallVector<int64_t> number(regions, 0); // an expert without parameters may name any
  SmallVector<Attribute> lists;
  for (int64_t kind : used) {
    number[kind] = static_cast<int64_t>(lists.size());
    if (bank.getParameters())
      lists.push_back((*bank.getParameters())[kind]);
  }
  for (ExpertEntry &entry : entries)
    entry.kind = number[entry.kind];
  // A variadic region list cannot shrink in place: a new op takes the regions that stay.
  OpBuilder builder(bank);
  OperationState state(bank.getLoc(), moe::BankOp::getOperationName());
  state.addAttributes(bank->getAttrs());
  for (int64_t kind : used)
    state.addRegion()->takeBody(bank.getImplementations()[kind]);
  auto smaller = cast<moe::BankOp>(builder.create(state));
  if (!lists.empty())
    smaller->setAttr("parameters", lists.size() == 1 ? lists.front() : builder.getArrayAttr(lists));
  bank->erase();
}

// The lists of `entries`, each left out where it says what is so without it.
static void setLists(moe::BankOp bank, ArrayRef<ExpertEntry> entries) {
  Builder builder(bank.getContext());
  SmallVector<int64_t> kinds, slabs, widths, next(bank.getImplementations().size() + 1, 0);
  SmallVector<StringRef> storage;
  bool dense = true, ordered = true, wide = true;
  for (const ExpertEntry &entry : entries) {
    kinds.push_back(entry.kind);
    slabs.push_back(entry.slab);
    widths.push_back(entry.width);
    storage.push_back(entry.storage);
    dense &= entry.storage == "dense";
    ordered &= entry.slab == next[entry.kind]++;
    wide &= entry.width == static_cast<int64_t>(bank.getInter());
  }
  auto set = [&](StringRef name, bool needed, Attribute value) {
    needed ? bank->setAttr(name, value) : (void)bank->removeAttr(name);
  };
  bank->setAttr("experts", builder.getI64IntegerAttr(static_cast<int64_t>(entries.size())));
  set("kinds", bank.getImplementations().size() > 1, builder.getDenseI64ArrayAttr(kinds));
  set("slabs", !dense || !ordered, builder.getDenseI64ArrayAttr(slabs));
  set("storage", !dense, builder.getStrArrayAttr(storage));
  set("widths", !wide, builder.getDenseI64ArrayAttr(widths));
}

bool compress::givesTokenType(moe::BankOp bank) {
  RankedTensorType token = bank.getTokenType(), result = bank.getResultType();
  return !token || (token.getRank() == result.getRank() &&
                    token.getElementType() == result.getElementType() &&
                    token.getShape().drop_front() == result.getShape().drop_front());
}

void compress::setExperts(moe::BankOp bank, ArrayRef<ExpertEntry> given) {
  noteChange(bank);
  SmallVector<ExpertEntry> entries(given);
  auto module = bank->getParentOfType<ModuleOp>();
  std::string name = bank.getSymName().str();
  dropRegions(bank, entries);
  bank = moe::findBank(module, name);
  WeightSteps steps(module);
  for (int64_t kind = 0, kinds = std::max<int64_t>(1, bank.getImplementations().size());
       kind < kinds; ++kind) {
    std::set<int64_t> used;
    for (const ExpertEntry &entry : entries)
      if (entry.kind == kind && entry.slab >= 0)
        used.insert(entry.slab);
    if (used.empty())
      used.insert(0); // a weight has a row
    SmallVector<int64_t> rows(used.begin(), used.end());
    for (ExpertEntry &entry : entries)
      if (entry.kind == kind && entry.slab >= 0)
        entry.slab = std::distance(used.begin(), used.find(entry.slab));
    for (const Slot &slot : slotsOf(bank))
      if (slot.kind == kind) {
        Value value = moe::findBind(bank, symbolOf(bank, slot)).getValue();
        setSlot(bank, slot, gatherSlices(steps, value, 0, rows));
      }
  }
  WeightSteps fresh(module); // binds have moved
  setConstants(bank, fresh, entries);
  setLists(bank, entries);
}

void compress::ownBank(moe::RoutedLayer &layer) {
  auto module = layer.experts->getParentOfType<ModuleOp>();
  layer.bank = moe::findBank(module, layer.experts.getBank());
  StringRef shared = layer.experts.getBank();
  SmallVector<moe::RoutedLayer> layers;
  for (moe::RoutedLayer &other : moe::collectRoutedLayers(module))
    if (other.experts.getBank() == shared)
      layers.push_back(other);
  int users = 0;
  module.walk([&](Operation *op) {
    auto name = op->getAttrOfType<FlatSymbolRefAttr>("bank");
    users += name && name.getValue() == shared;
  });
  bool alone = users == static_cast<int>(layers.size());
  for (auto [i, other] : llvm::enumerate(layers)) {
    if (i == 0 && alone)
      continue;
    OpBuilder builder(layer.bank);
    builder.setInsertionPointAfter(layer.bank);
    auto own = cast<moe::BankOp>(builder.clone(*layer.bank));
    std::string name = other.name;
    for (int n = 0; SymbolTable::lookupSymbolIn(module, name); ++n)
      name = other.name + ".own" + (n ? std::to_string(n) : "");
    own.setSymName(name);
    other.experts.setBank(name);
  }
  layer.bank = moe::findBank(module, layer.experts.getBank());
}

InFlightDiagnostic compress::layerError(moe::RoutedLayer &layer) {
  return layer.experts->emitOpError() << "layer '" << layer.name << "': ";
}
