// share-experts: see Passes.td.
#include "ShareExperts.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/OperationSupport.h"
#include "mlir/IR/SymbolTable.h"
#include "moec/Transforms/Raise/Passes.h"

using namespace mlir;

namespace moec::raise {

Row rowOf(Value v, int64_t e) {
  if (cast<ShapedType>(v.getType()).getDimSize(0) == 1) {
    WeightSteps::Origin from = WeightSteps::origin(v);
    if (from.index >= 0 && from.plain)
      return {from.base, from.index};
  }
  Operation *op = v.getDefiningOp();
  auto axis = op ? op->getAttrOfType<IntegerAttr>("axis") : IntegerAttr();
  if (!op || op->getName().getStringRef() != "moe.weight.concat" || !axis || axis.getInt() != 0)
    return {v, e};
  for (Value part : op->getOperands()) {
    int64_t n = cast<ShapedType>(part.getType()).getDimSize(0);
    if (e < n)
      return rowOf(part, e);
    e -= n;
  }
  return {v, e};
}

Value stackRows(WeightSteps &steps, ArrayRef<Row> rows) {
  SmallVector<Value> each;
  for (auto [v, e] : rows)
    each.push_back(cast<ShapedType>(v.getType()).getDimSize(0) == 1 ? v : steps.part(v, 0, e, 1));
  return steps.concat(each, 0);
}

bool isDenseSum(moe::ExpertsOp op) {
  return op.getCombine() == "sum" && !op.getIds() && op.getWeights();
}

moe::BankOp bankOf(moe::ExpertsOp op) {
  return SymbolTable::lookupNearestSymbolFrom<moe::BankOp>(op, op.getBankAttr());
}

std::string freshBankName(ModuleOp module, StringRef base) {
  std::string name;
  for (int i = 0; name.empty() || SymbolTable::lookupSymbolIn(module, name); ++i)
    name = base.str() + "_" + std::to_string(i);
  return name;
}

Value onesFor(OnnxBuilder &b, Value x, int64_t n, Type element) {
  Value shape = b.concat({b.shape(x, 0, 1), b.ints(n)}, 0);
  return b.op("Expand", {b.unsqueeze(b.scalar(element, 1), {0, 1}), shape},
              RankedTensorType::get({rankedType(x).getDimSize(0), n}, element));
}

Value weighted(OnnxBuilder &b, Value all, ArrayRef<int64_t> columns, int64_t n, Value weights,
               RankedTensorType type) {
  bool every = static_cast<int64_t>(columns.size()) == n;
  for (auto [i, c] : llvm::enumerate(columns))
    every &= c == static_cast<int64_t>(i);
  if (!every)
    all = b.gather(all, b.ints(columns), 1);
  weights = b.cast(weights, type.getElementType());
  if (type.getRank() == 2) {
    Value y = b.matmul(b.unsqueeze(weights, {1}), all);
    return b.op("Squeeze", {y, b.ints({1})}, type);
  }
  SmallVector<int64_t> behind;
  for (int64_t i = 2; i <= type.getRank(); ++i)
    behind.push_back(i);
  Value y = b.reduce("ReduceSum", b.binary("Mul", all, b.unsqueeze(weights, behind)), {1},
                     /*keep=*/false);
  return y.getType() == type ? y : b.op("Identity", y, type);
}

} // namespace moec::raise

namespace moec {
#define GEN_PASS_DEF_SHAREEXPERTS
#include "moec/Transforms/Raise/Passes.h.inc"

namespace {

constexpr StringRef kParameters[] = {"gate", "up", "down", "gate_bias", "up_bias", "down_bias"};

using raise::bankOf;
using raise::isDenseSum;
using raise::Row;
using raise::rowOf;
using Expert = SmallVector<Row, 4>; // a row for each parameter

class Banks {
public:
  Banks(ModuleOp module, WeightSteps &steps) : module(module), steps(steps) {
    module.walk([&](Operation *op) {
      if (op->getName().getStringRef() == "moe.weight.bind")
        bound[op->getAttrOfType<StringAttr>("sym_name")] = op->getOperand(0);
    });
  }

  // The symbols of a bank's parameters; one formula for all experts, each with
  // a row of its own in order of id, or nothing.
  std::optional<SmallVector<FlatSymbolRefAttr>> parameters(moe::BankOp bank) {
    SmallVector<FlatSymbolRefAttr> out;
    if (bank.getKinds() || bank.getSlabs() || bank.getStorage() || bank.getWidths() ||
        bank->getNumRegions() > 1)
      return std::nullopt;
    for (StringRef name : kParameters)
      if (auto symbol = bank->getAttrOfType<FlatSymbolRefAttr>(name))
        out.push_back(symbol);
    if (auto more = bank->getAttrOfType<ArrayAttr>("parameters"))
      for (Attribute attr : more) {
        auto symbol = dyn_cast<FlatSymbolRefAttr>(attr);
        if (!symbol)
          return std::nullopt;
        out.push_back(symbol);
      }
    return out;
  }

  std::optional<std::vector<Expert>> experts(moe::BankOp bank) {
    auto symbols = parameters(bank);
    if (!symbols)
      return std::nullopt;
    std::vector<Expert> out(bank.getExperts());
    for (FlatSymbolRefAttr symbol : *symbols) {
      Value v = bound.lookup(symbol.getAttr());
      if (!v)
        return std::nullopt;
      for (auto [e, expert] : llvm::enumerate(out))
        expert.push_back(rowOf(v, static_cast<int64_t>(e)));
    }
    return out;
  }

  // The same formula, but for the numbers of its parameters.
  static bool sameFormula(moe::BankOp a, moe::BankOp b) {
    if (a.getHidden() != b.getHidden() || a.getInter() != b.getInter() ||
        a.getBodyAttr() != b.getBodyAttr() || a.getCoupled() != b.getCoupled() ||
        a->getNumRegions() != b->getNumRegions())
      return false;
    for (StringRef name : kParameters)
      if (a->hasAttr(name) != b->hasAttr(name))
        return false;
    for (auto [x, y] : llvm::zip(a->getRegions(), b->getRegions()))
      if (!OperationEquivalence::isRegionEquivalentTo(&x, &y,
                                                      OperationEquivalence::IgnoreLocations))
        return false;
    return true;
  }

  // A bank like `first` of these experts, `first` itself when it has them all.
  moe::BankOp joined(moe::BankOp first, const std::vector<Expert> &all) {
    if (auto own = experts(first); own && *own == all)
      return first;
    OpBuilder builder(first);
    auto bank = cast<moe::BankOp>(builder.clone(*first));
    std::string name = raise::freshBankName(module, first.getSymName());
    bank.setSymName(name);
    bank->setAttr("experts", builder.getI64IntegerAttr(static_cast<int64_t>(all.size())));
    size_t next = 0;
    auto bind = [&](StringRef part) {
      SmallVector<Row> rows;
      for (const Expert &expert : all)
        rows.push_back(expert[next]);
      ++next;
      Value stacked = raise::stackRows(steps, rows);
      auto symbol = steps.bind(stacked, name + "." + part.str());
      bound[symbol.getAttr()] = stacked;
      return symbol;
    };
    for (StringRef part : kParameters)
      if (bank->hasAttr(part))
        bank->setAttr(part, bind(part));
    if (auto more = bank->getAttrOfType<ArrayAttr>("parameters")) {
      SmallVector<Attribute> symbols;
      for (size_t i = 0; i < more.size(); ++i)
        symbols.push_back(bind("p" + std::to_string(i)));
      bank->setAttr("parameters", builder.getArrayAttr(symbols));
    }
    return bank;
  }

  llvm::DenseMap<StringAttr, Value> bound; // weights by the names of their binds

private:
  ModuleOp module;
  WeightSteps &steps;
};

struct ShareExperts : impl::ShareExpertsBase<ShareExperts> {
  using ShareExpertsBase::ShareExpertsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    WeightSteps steps(module);
    Banks banks(module, steps);
    mergeBanks(module, banks);
    for (auto func : module.getOps<func::FuncOp>()) {
      if (func.isExternal() || banksOnly)
        continue;
      for (auto &group : groups(func.front(), banks))
        share(group, banks);
      numShared += raise::shareKinds(module, func.front(), steps, banks.bound);
    }
    for (auto bank : llvm::make_early_inc_range(module.getOps<moe::BankOp>()))
      if (SymbolTable::symbolKnownUseEmpty(bank, module))
        bank.erase();
    steps.eraseDead();
  }

private:
  // Banks of the same experts become one.
  void mergeBanks(ModuleOp module, Banks &banks) {
    std::vector<std::pair<moe::BankOp, std::vector<Expert>>> seen;
    for (auto bank : module.getOps<moe::BankOp>()) {
      auto own = banks.experts(bank);
      if (!own)
        continue;
      auto same = llvm::find_if(seen, [&](auto &other) {
        return other.second == *own && Banks::sameFormula(other.first, bank);
      });
      if (same == seen.end()) {
        seen.push_back({bank, *own});
        continue;
      }
      ++numBanks;
      (void)SymbolTable::replaceAllSymbolUses(bank, same->first.getSymNameAttr(), module);
    }
  }

  // Sums under dense weights over experts that they share.
  struct Group {
    SmallVector<moe::ExpertsOp> ops;
    std::vector<Expert> all; // in order of first appearance
  };
  // The same tokens, contexts and formula.
  static bool alike(moe::ExpertsOp a, moe::ExpertsOp b) {
    return a.getX() == b.getX() && a.getContextsAttr() == b.getContextsAttr() &&
           a.getContextValues() == b.getContextValues() &&
           a.getResult().getType() == b.getResult().getType() &&
           Banks::sameFormula(bankOf(a), bankOf(b));
  }

  std::vector<Group> groups(Block &block, Banks &banks) {
    std::vector<Group> out;
    for (auto op : block.getOps<moe::ExpertsOp>()) {
      auto own = isDenseSum(op) ? banks.experts(bankOf(op)) : std::nullopt;
      if (!own)
        continue;
      auto shares = llvm::find_if(out, [&](Group &group) {
        return alike(group.ops.front(), op) && llvm::any_of(*own, [&](const Expert &e) {
                 return llvm::is_contained(group.all, e);
               });
      });
      if (shares == out.end())
        shares = out.insert(out.end(), Group());
      shares->ops.push_back(op);
      for (const Expert &e : *own)
        if (!llvm::is_contained(shares->all, e))
          shares->all.push_back(e);
    }
    llvm::erase_if(out, [](const Group &group) { return group.ops.size() < 2; });
    return out;
  }

  // The results of all experts once, [T, E, ...], and a product for each sum.
  void share(Group &group, Banks &banks) {
    moe::ExpertsOp first = group.ops.front();
    moe::BankOp bank = banks.joined(bankOf(first), group.all);
    OpBuilder builder(first);
    OnnxBuilder b(builder, first.getLoc());
    auto n = static_cast<int64_t>(group.all.size());
    auto type = rankedType(first.getResult());
    Value x = first.getX();
    Value ones = raise::onesFor(b, x, n, rankedType(first.getWeights()).getElementType());
    SmallVector<int64_t> dims(type.getShape());
    dims.insert(dims.begin() + 1, n);
    OperationState state(first.getLoc(), "moe.experts");
    state.addOperands({x, ones});
    state.addOperands(first.getContextValues());
    state.addTypes(RankedTensorType::get(dims, type.getElementType()));
    state.addAttribute("bank", FlatSymbolRefAttr::get(bank.getSymNameAttr()));
    state.addAttribute("combine", builder.getStringAttr("none"));
    if (auto contexts = first.getContextsAttr())
      state.addAttribute("contexts", contexts);
    if (Attribute pattern = first->getAttr(patternAttr))
      state.addAttribute(patternAttr, pattern);
    Value all = builder.create(state)->getResult(0);
    for (moe::ExpertsOp op : group.ops) {
      auto own = banks.experts(bankOf(op));
      SmallVector<int64_t> columns;
      for (const Expert &e : *own)
        columns.push_back(llvm::find(group.all, e) - group.all.begin());
      builder.setInsertionPoint(op);
      Value y = raise::weighted(b, all, columns, n, op.getWeights(), type);
      op.getResult().replaceAllUsesWith(y);
      op.erase();
    }
    ++numShared;
  }
};

} // namespace
} // namespace moec
