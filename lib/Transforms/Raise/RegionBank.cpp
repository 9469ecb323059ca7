// From proven bodies to the regions of a moe.bank.
#include "RegionBody.h"
#include "StackedBody.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace moec::raise {

namespace {

// Experts of one region.
struct Kind {
  SmallVector<unsigned> members;
  SmallVector<Value> shared; // per parameter: the value all members read, or null
};

std::vector<Kind> kindsOf(const RegionBody &body) {
  std::vector<Kind> kinds;
  llvm::StringMap<unsigned> byKey;
  for (auto [e, recipe] : llvm::enumerate(body.experts)) {
    auto [it, isNew] = byKey.insert({recipe.key, kinds.size()});
    if (isNew)
      kinds.emplace_back();
    kinds[it->second].members.push_back(e);
  }
  for (Kind &kind : kinds) {
    const Recipe &first = body.experts[kind.members.front()];
    for (auto [i, v] : llvm::enumerate(first.parameters)) {
      bool same = llvm::all_of(kind.members, [&, i = i, v = v](unsigned e) {
        return body.experts[e].parameters[i] == v;
      });
      // What a single expert of several reads is no different.
      kind.shared.push_back(same ? v : Value());
    }
  }
  return kinds;
}

// The operations of one kind, over tokens [N, ...].
class RegionBuilder {
public:
  RegionBuilder(const RegionBody &body, const Recipe &recipe, const Kind &kind, Region &region,
                Location loc)
      : body(body), recipe(recipe), kind(kind), builder(loc.getContext()), loc(loc) {
    block = builder.createBlock(&region);
  }

  Value build() {
    arguments.resize(body.sources.size());
    arguments[0] = block->addArgument(body.sources[0].type, loc);
    for (auto [i, v] : llvm::enumerate(recipe.parameters))
      if (!kind.shared[i])
        map.map(v, block->addArgument(v.getType(), loc));
    for (size_t i = 1; i < body.sources.size(); ++i)
      arguments[i] = block->addArgument(body.sources[i].type, loc);
    builder.setInsertionPointToStart(block);
    for (Operation *op : recipe.ops)
      clone(op);
    Value y = withAxes(input(recipe.result), false);
    OperationState state(loc, "moe.yield");
    state.addOperands(y);
    builder.create(state);
    return y;
  }

private:
  // Rows of a type: axes of one and the last open.
  Type typeOf(Value v) {
    auto type = dyn_cast<RankedTensorType>(v.getType());
    Rows rows = body.rows.lookup(v);
    if (!type || !rows.any())
      return v.getType();
    SmallVector<int64_t> dims(type.getShape());
    for (int64_t i = 0; i < rows.count; ++i)
      dims[rows.at + i] = i + 1 < rows.count ? 1 : ShapedType::kDynamic;
    return RankedTensorType::get(dims, type.getElementType());
  }

  // [N, ...] as [1, .., N, ...], or back.
  Value withAxes(Value v, bool more) {
    int64_t extra = body.rowAxes - 1;
    if (extra == 0)
      return v;
    OnnxBuilder b(builder, loc);
    SmallVector<int64_t> axes;
    for (int64_t i = 0; i < extra; ++i)
      axes.push_back(i);
    if (more)
      return b.unsqueeze(v, axes);
    auto type = rankedType(v);
    return b.op("Squeeze", {v, b.ints(axes)},
                RankedTensorType::get(type.getShape().drop_front(extra), type.getElementType()));
  }

  Value input(Value v) {
    if (Value known = map.lookupOrNull(v))
      return known;
    Value made;
    if (auto it = recipe.sources.find(v); it != recipe.sources.end()) {
      made = arguments[it->second];
      if (body.sources[it->second].rowAxes > 0)
        made = withAxes(made, true);
    } else if (Operation *op = v.getDefiningOp();
               op && (isWeight(v) || isAbsent(v))) {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(block);
      made = builder.clone(*op)->getResult(cast<OpResult>(v).getResultNumber());
    } else { // a number everywhere, whatever its shape
      made = number(v);
    }
    map.map(v, made);
    return made;
  }

  // A splat of the analysis: its only value, with axes of one.
  Value number(Value v) {
    OnnxBuilder b(builder, loc);
    auto type = rankedType(v);
    Value scalar = b.scalar(type.getElementType(), recipe.numbers.lookup(v));
    SmallVector<int64_t> axes;
    for (int64_t i = 0; i < type.getRank(); ++i)
      axes.push_back(i);
    return axes.empty() ? scalar : b.unsqueeze(scalar, axes);
  }

  // The target of a Reshape or Expand: rows as they are, the rest by type.
  Value sizes(Operation *op) {
    OnnxBuilder b(builder, loc);
    Value v = op->getResult(0);
    Rows rows = body.rows.lookup(v);
    auto type = rankedType(v);
    bool expand = isOnnx(op, "Expand");
    SmallVector<int64_t> dims;
    for (auto [i, d] : llvm::enumerate(type.getShape()))
      dims.push_back(rows.has(i) ? (expand ? 1 : 0) : d < 0 ? -1 : d);
    return b.ints(dims);
  }

  void clone(Operation *op) {
    SmallVector<Value> operands;
    for (OpOperand &operand : op->getOpOperands()) {
      StringRef n = onnxName(op);
      bool size = operand.getOperandNumber() == 1 && (n == "Reshape" || n == "Expand");
      bool zeroState = (n == "GRU" || n == "LSTM" || n == "RNN") &&
                       recipe.numbers.contains(operand.get());
      operands.push_back(size        ? sizes(op)
                         : zeroState ? OnnxBuilder(builder, loc).none()
                                     : input(operand.get()));
    }
    OperationState state(op->getLoc(), op->getName());
    state.addOperands(operands);
    for (Value v : op->getResults())
      state.addTypes(typeOf(v));
    for (NamedAttribute attr : op->getAttrs())
      if (!(isOnnx(op, "Reshape") && attr.getName() == "allowzero"))
        state.addAttribute(attr.getName(), attr.getValue());
    Operation *made = builder.create(state);
    for (auto [v, to] : llvm::zip(op->getResults(), made->getResults()))
      map.map(v, to);
  }

  const RegionBody &body;
  const Recipe &recipe;
  const Kind &kind;
  OpBuilder builder;
  Location loc;
  Block *block = nullptr;
  IRMapping map;
  SmallVector<Value> arguments;
};

// One row for each value; the stack they are slices of, when they are all of it.
Value stack(WeightSteps &steps, ArrayRef<Value> each) {
  Value base;
  bool whole = true;
  SmallVector<Value> rows;
  for (auto [i, use] : llvm::enumerate(each)) {
    Value v = steps.of(use);
    WeightSteps::Origin origin = WeightSteps::origin(v);
    auto type = cast<ShapedType>(v.getType());
    auto of = dyn_cast<ShapedType>(origin.base.getType());
    whole &= origin.plain && origin.index == static_cast<int64_t>(i) && of &&
             of.getRank() == type.getRank() + 1 &&
             of.getDimSize(0) == static_cast<int64_t>(each.size()) &&
             of.getShape().drop_front() == type.getShape() && (!base || base == origin.base);
    base = origin.base;
    SmallVector<int64_t> dims(type.getShape());
    dims.insert(dims.begin(), 1);
    rows.push_back(steps.reshape(v, dims));
  }
  if (whole && base)
    return base;
  return rows.size() == 1 ? rows.front() : steps.concat(rows, 0);
}

} // namespace

bool ownSlices(const RegionBody &body, WeightSteps &steps, std::string &why) {
  int64_t experts = body.experts.size();
  for (auto [e, recipe] : llvm::enumerate(body.experts))
    for (Value use : recipe.parameters) {
      Value v = steps.of(use);
      if (!v) {
        why = "an expert's parameters are not constant";
        return false;
      }
      WeightSteps::Origin origin = WeightSteps::origin(v);
      auto of = dyn_cast<ShapedType>(origin.base.getType());
      if (origin.index >= 0 && of && of.getRank() >= 2 && of.getDimSize(0) == experts &&
          origin.index != static_cast<int64_t>(e)) {
        why = "expert " + std::to_string(e) + " is given the parameters of expert " +
              std::to_string(origin.index);
        return false;
      }
    }
  return true;
}

FlatSymbolRefAttr buildRegionBank(ModuleOp module, WeightSteps &steps, const RegionBody &body,
                                  StringRef name, Location loc, RankedTensorType &result) {
  std::vector<Kind> kinds = kindsOf(body);
  OpBuilder builder(module.getContext());
  Block *top = module.getBody();
  auto at = llvm::find_if(*top, [](Operation &op) {
    StringRef n = op.getName().getStringRef();
    return n != "moe.weights" && n != "moe.bank";
  });
  builder.setInsertionPoint(top, at);
  RankedTensorType tokens = body.sources[0].type;
  int64_t experts = body.stacked ? body.stackedExperts : body.experts.size();
  OperationState state(loc, "moe.bank");
  state.addAttribute("sym_name", builder.getStringAttr(name));
  state.addAttribute("experts", builder.getI64IntegerAttr(experts));
  bool vector = tokens.getRank() == 2 && !tokens.isDynamicDim(1);
  state.addAttribute("hidden", builder.getI64IntegerAttr(vector ? tokens.getDimSize(1) : 0));
  state.addAttribute("inter", builder.getI64IntegerAttr(0));
  SmallVector<Attribute> lists;
  SmallVector<int64_t> kindOf(experts, 0);
  if (body.stacked) {
    Block *block = OpBuilder(module.getContext()).createBlock(state.addRegion());
    SmallVector<Attribute> symbols;
    result = buildStacked(steps, body, block, name, loc, symbols);
    lists.push_back(builder.getArrayAttr(symbols));
  }
  for (auto [k, kind] : llvm::enumerate(kinds)) {
    SmallVector<Attribute> symbols;
    for (size_t i = 0; i < kind.shared.size(); ++i) {
      if (kind.shared[i])
        continue;
      SmallVector<Value> each;
      for (unsigned e : kind.members)
        each.push_back(body.experts[e].parameters[i]);
      symbols.push_back(steps.bind(stack(steps, each), (name + ".p" + Twine(i)).str()));
    }
    lists.push_back(builder.getArrayAttr(symbols));
    for (unsigned e : kind.members)
      kindOf[e] = k;
    Region *region = state.addRegion();
    RegionBuilder made(body, body.experts[kind.members.front()], kind, *region, loc);
    Value y = made.build();
    if (k == 0)
      result = cast<RankedTensorType>(y.getType());
  }
  bool none = llvm::all_of(lists, [](Attribute a) { return cast<ArrayAttr>(a).empty(); });
  if (!none)
    state.addAttribute("parameters", kinds.size() > 1 ? builder.getArrayAttr(lists) : lists[0]);
  if (kinds.size() > 1)
    state.addAttribute("kinds", builder.getDenseI64ArrayAttr(kindOf));
  if (body.coupled)
    state.addAttribute("coupled", builder.getUnitAttr());
  builder.create(state);
  return FlatSymbolRefAttr::get(builder.getStringAttr(name));
}

} // namespace moec::raise
