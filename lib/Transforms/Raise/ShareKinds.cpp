// Experts of several gates that read tokens of several tensors, or are of several kinds: of each
// expert its region, apart from the order of what the region is given, and what it reads.
#include "ShareExperts.h"
#include "MoEOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/OperationSupport.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "moec/Transforms/Raise/Passes.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace moec::raise {

namespace {

// A tensor that a region reads besides its parameters.
struct Read {
  Value value;
  bool rows = false; // a row for each token
  Type type;         // of the region's argument

  bool operator==(const Read &o) const {
    return value == o.value && rows == o.rows && type == o.type;
  }
};

struct Expert {
  unsigned formula = 0; // a region over slabs and what it reads, in order of first use
  SmallVector<Read> reads;
  SmallVector<Row> rows; // of its parameters

  bool operator==(const Expert &o) const {
    return formula == o.formula && reads == o.reads && rows == o.rows;
  }
};

struct Group {
  SmallVector<moe::ExpertsOp> ops;
  std::vector<std::vector<int64_t>> columns; // of each op's experts in `all`
  std::vector<Expert> all;                   // in order of first appearance
};

class Sharing {
public:
  Sharing(ModuleOp module, Block &block, WeightSteps &steps,
          const llvm::DenseMap<StringAttr, Value> &bound)
      : module(module), block(block), steps(steps), bound(bound) {}

  unsigned run() {
    for (auto op : block.getOps<moe::ExpertsOp>())
      if (isDenseSum(op))
        if (auto own = expertsOf(op))
          join(op, *own);
    unsigned shared = 0;
    for (Group &group : groups)
      shared += group.ops.size() > 1 && share(group);
    for (Operation *op : gone)
      op->erase();
    return shared;
  }

private:
  std::optional<std::vector<Expert>> expertsOf(moe::ExpertsOp op);
  unsigned formulaOf(Block &from, ValueRange arguments);
  void join(moe::ExpertsOp op, ArrayRef<Expert> own);
  bool reaches(ArrayRef<Value> from, ArrayRef<moe::ExpertsOp> ops);
  bool hoist(const Group &group, ArrayRef<Value> values);
  moe::BankOp bankFor(const Group &group, ArrayRef<Read> sources);
  bool share(Group &group);

  ModuleOp module;
  Block &block;
  WeightSteps &steps;
  const llvm::DenseMap<StringAttr, Value> &bound;
  std::vector<std::unique_ptr<Region>> formulas;
  std::vector<Group> groups;
  // What other groups may have read stays until all are shared.
  llvm::DenseMap<Value, Value> replaced;
  SmallVector<Operation *> gone;

  Value now(Value v) const {
    auto it = replaced.find(v);
    return it == replaced.end() ? v : it->second;
  }
};

// The number of the region over the arguments, in their order.
unsigned Sharing::formulaOf(Block &from, ValueRange arguments) {
  auto region = std::make_unique<Region>();
  Block *to = new Block();
  region->push_back(to);
  IRMapping map;
  for (Value v : arguments)
    map.map(v, to->addArgument(v.getType(), v.getLoc()));
  OpBuilder builder(module.getContext());
  builder.setInsertionPointToStart(to);
  for (Operation &op : from)
    builder.clone(op, map);
  for (auto [i, known] : llvm::enumerate(formulas))
    if (OperationEquivalence::isRegionEquivalentTo(known.get(), region.get(),
                                                   OperationEquivalence::IgnoreLocations))
      return i;
  formulas.push_back(std::move(region));
  return formulas.size() - 1;
}

std::optional<std::vector<Expert>> Sharing::expertsOf(moe::ExpertsOp op) {
  moe::BankOp bank = bankOf(op);
  bool several = bank.getKinds() || !op.getContextValues().empty();
  if (bank.getBody() || !several || bank.getStorage() || bank.getCoupled())
    return std::nullopt;
  SmallVector<Read> given{{op.getX(), true, Type()}};
  for (auto [i, v] : llvm::enumerate(op.getContextValues()))
    given.push_back({v, op.isContextOfRows(static_cast<int64_t>(i)), Type()});
  std::vector<Expert> out;
  for (int64_t e = 0, n = static_cast<int64_t>(bank.getExperts()); e < n; ++e) {
    Expert expert;
    Block &body = bank.getRegionOf(e).front();
    auto names = bank.getParametersOf(bank.getKind(e));
    SmallVector<Value> arguments;
    for (auto [i, name] : llvm::enumerate(names)) {
      Value weight = bound.lookup(StringAttr::get(module.getContext(), name));
      if (!weight)
        return std::nullopt;
      expert.rows.push_back(rowOf(weight, bank.getSlab(e)));
      arguments.push_back(body.getArgument(1 + i));
    }
    // What the region reads, in order of first use.
    llvm::SetVector<Value> used;
    body.walk([&](Operation *inner) {
      for (Value v : inner->getOperands())
        if (isa<BlockArgument>(v) && v.getParentBlock() == &body &&
            !llvm::is_contained(arguments, v))
          used.insert(v);
    });
    for (Value v : used) {
      unsigned at = cast<BlockArgument>(v).getArgNumber();
      Read read = given[at == 0 ? 0 : at - names.size()];
      read.type = v.getType();
      expert.reads.push_back(read);
      arguments.push_back(v);
    }
    expert.formula = formulaOf(body, arguments);
    out.push_back(std::move(expert));
  }
  return out;
}

// Whether one of the values is computed from a result of the operations.
bool Sharing::reaches(ArrayRef<Value> from, ArrayRef<moe::ExpertsOp> ops) {
  llvm::SetVector<Operation *> behind;
  auto add = [&](Value v) {
    Operation *def = v.getDefiningOp();
    if (Operation *top = def ? block.findAncestorOpInBlock(*def) : nullptr)
      behind.insert(top);
  };
  llvm::for_each(from, add);
  for (size_t i = 0; i < behind.size(); ++i) {
    if (llvm::is_contained(ops, behind[i]))
      return true;
    behind[i]->walk([&](Operation *inner) { llvm::for_each(inner->getOperands(), add); });
  }
  return false;
}

void Sharing::join(moe::ExpertsOp op, ArrayRef<Expert> own) {
  auto shares = llvm::find_if(groups, [&](Group &group) {
    if (group.ops.front().getResult().getType() != op.getResult().getType() ||
        llvm::none_of(own, [&](const Expert &e) { return llvm::is_contained(group.all, e); }))
      return false;
    SmallVector<Value> read;
    for (ArrayRef<Expert> experts : {ArrayRef(group.all), own})
      for (const Expert &e : experts)
        for (const Read &r : e.reads)
          read.push_back(r.value);
    SmallVector<moe::ExpertsOp> ops(group.ops);
    ops.push_back(op);
    return !reaches(read, ops);
  });
  if (shares == groups.end())
    shares = groups.insert(groups.end(), Group());
  shares->ops.push_back(op);
  shares->columns.emplace_back();
  for (const Expert &e : own) {
    auto known = llvm::find(shares->all, e);
    shares->columns.back().push_back(known - shares->all.begin());
    if (known == shares->all.end())
      shares->all.push_back(e);
  }
}

// Moves what computes the values in front of the group's first operation.
bool Sharing::hoist(const Group &group, ArrayRef<Value> values) {
  Operation *first = group.ops.front();
  for (moe::ExpertsOp op : group.ops)
    if (op->isBeforeInBlock(first))
      first = op;
  llvm::SetVector<Operation *> late;
  auto add = [&](Value v) {
    Operation *def = v.getDefiningOp();
    Operation *top = def ? block.findAncestorOpInBlock(*def) : nullptr;
    if (top && first->isBeforeInBlock(top))
      late.insert(top);
  };
  llvm::for_each(values, add);
  for (size_t i = 0; i < late.size(); ++i) {
    if (!isMemoryEffectFree(late[i]))
      return false;
    late[i]->walk([&](Operation *inner) { llvm::for_each(inner->getOperands(), add); });
  }
  SmallVector<Operation *> order(late.begin(), late.end());
  llvm::sort(order, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
  for (Operation *op : order)
    op->moveBefore(first);
  return true;
}

// A bank of all of the group's experts. Its regions are given the first source as tokens, the
// others as contexts.
moe::BankOp Sharing::bankFor(const Group &group, ArrayRef<Read> sources) {
  moe::BankOp like = bankOf(group.ops.front());
  OpBuilder builder(like);
  Location loc = like.getLoc();
  std::string name = freshBankName(module, like.getSymName());
  OperationState state(loc, "moe.bank");
  SmallVector<SmallVector<const Expert *>> kinds;
  SmallVector<int64_t> kindOf;
  for (const Expert &e : group.all) {
    auto known = llvm::find_if(kinds, [&](auto &kind) {
      return kind.front()->formula == e.formula && kind.front()->reads == e.reads;
    });
    kindOf.push_back(known - kinds.begin());
    if (known == kinds.end())
      kinds.push_back({&e});
    else
      known->push_back(&e);
  }
  SmallVector<Attribute> lists;
  for (auto &kind : kinds) {
    const Expert &first = *kind.front();
    SmallVector<Attribute> symbols;
    Block *to = OpBuilder(module.getContext()).createBlock(state.addRegion());
    Block &from = formulas[first.formula]->front();
    SmallVector<Value> given{to->addArgument(sources.front().type, loc)};
    IRMapping map;
    for (size_t p = 0; p < first.rows.size(); ++p) {
      SmallVector<Row> rows;
      for (const Expert *e : kind)
        rows.push_back(e->rows[p]);
      symbols.push_back(steps.bind(stackRows(steps, rows), name + ".p" + std::to_string(p)));
      map.map(from.getArgument(p), to->addArgument(from.getArgument(p).getType(), loc));
    }
    for (const Read &source : sources.drop_front())
      given.push_back(to->addArgument(source.type, loc));
    for (auto [i, read] : llvm::enumerate(first.reads))
      map.map(from.getArgument(first.rows.size() + i),
              given[llvm::find(sources, read) - sources.begin()]);
    builder.setInsertionPointToStart(to);
    for (Operation &op : from)
      builder.clone(op, map);
    lists.push_back(builder.getArrayAttr(symbols));
  }
  auto tokens = cast<RankedTensorType>(sources.front().type);
  bool vector = tokens.getRank() == 2 && !tokens.isDynamicDim(1);
  state.addAttribute("sym_name", builder.getStringAttr(name));
  state.addAttribute("experts", builder.getI64IntegerAttr(static_cast<int64_t>(group.all.size())));
  state.addAttribute("hidden", builder.getI64IntegerAttr(vector ? tokens.getDimSize(1) : 0));
  state.addAttribute("inter", builder.getI64IntegerAttr(0));
  if (llvm::any_of(lists, [](Attribute a) { return !cast<ArrayAttr>(a).empty(); }))
    state.addAttribute("parameters", kinds.size() > 1 ? builder.getArrayAttr(lists) : lists[0]);
  if (kinds.size() > 1)
    state.addAttribute("kinds", builder.getDenseI64ArrayAttr(kindOf));
  builder.setInsertionPoint(like);
  return cast<moe::BankOp>(builder.create(state));
}

// The results of all experts once, [T, E, ...], and a product for each sum.
bool Sharing::share(Group &group) {
  SmallVector<Read> sources;
  SmallVector<int64_t> readers;
  SmallVector<Value> values;
  for (const Expert &e : group.all)
    for (const Read &r : e.reads) {
      auto known = llvm::find(sources, r);
      if (known == sources.end()) {
        if (llvm::is_contained(values, r.value))
          return false; // read in two ways
        sources.push_back(r);
        values.push_back(r.value);
        readers.push_back(0);
        known = std::prev(sources.end());
      }
      readers[known - sources.begin()] += r.rows;
    }
  auto most = std::max_element(readers.begin(), readers.end());
  for (Value &v : values)
    v = now(v);
  if (most == readers.end() || *most == 0 || !hoist(group, values))
    return false;
  std::swap(sources.front(), sources[most - readers.begin()]);
  moe::BankOp bank = bankFor(group, sources);
  moe::ExpertsOp first = group.ops.front();
  for (moe::ExpertsOp op : group.ops)
    if (op->isBeforeInBlock(first))
      first = op;
  OpBuilder builder(first);
  OnnxBuilder b(builder, first.getLoc());
  auto n = static_cast<int64_t>(group.all.size());
  auto type = rankedType(first.getResult());
  SmallVector<int64_t> dims(type.getShape());
  dims.insert(dims.begin() + 1, n);
  SmallVector<std::pair<Value, StringRef>> contexts;
  for (const Read &r : ArrayRef(sources).drop_front())
    contexts.push_back({now(r.value), r.rows ? "rows" : "whole"});
  Value x = now(sources.front().value);
  Value all = createExperts(b, FlatSymbolRefAttr::get(bank.getSymNameAttr()), x, {},
                            onesFor(b, x, n, rankedType(first.getWeights()).getElementType()),
                            contexts, RankedTensorType::get(dims, type.getElementType()));
  all.getDefiningOp()->setAttr("combine", builder.getStringAttr("none"));
  if (Attribute pattern = first->getAttr(patternAttr))
    all.getDefiningOp()->setAttr(patternAttr, pattern);
  for (auto [op, columns] : llvm::zip(group.ops, group.columns)) {
    builder.setInsertionPoint(op);
    replaced[op.getResult()] = weighted(b, all, columns, n, op.getWeights(), type);
    op.getResult().replaceAllUsesWith(replaced[op.getResult()]);
    gone.push_back(op);
  }
  return true;
}

} // namespace

unsigned shareKinds(ModuleOp module, Block &block, WeightSteps &steps,
                    const llvm::DenseMap<StringAttr, Value> &bound) {
  return Sharing(module, block, steps, bound).run();
}

} // namespace moec::raise
