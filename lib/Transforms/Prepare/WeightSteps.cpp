#include "moec/Transforms/Prepare/WeightSteps.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"

using namespace mlir;

namespace moec {

namespace {

bool isNamed(Operation *op, StringRef name) {
  return op && op->getName().getStringRef() == name;
}

ArrayRef<int64_t> shapeOf(Value v) {
  return cast<RankedTensorType>(v.getType()).getShape();
}

Type elementOf(Value v) {
  return cast<RankedTensorType>(v.getType()).getElementType();
}

} // namespace

WeightSteps::WeightSteps(ModuleOp module)
    : module(module), builder(module.getContext()) {
  for (Operation &op : *module.getBody())
    if (isNamed(&op, "moe.weights"))
      weights = &op;
  if (!weights) {
    builder.setInsertionPointToStart(module.getBody());
    OperationState state(module.getLoc(), "moe.weights");
    state.addAttribute("sym_name", builder.getStringAttr("weights"));
    state.addRegion()->emplaceBlock();
    weights = builder.create(state);
  }
  Block &block = weights->getRegion(0).front();
  builder.setInsertionPointToEnd(&block);
  for (Operation &op : block) {
    for (Value operand : op.getOperands())
      steps[operand].push_back(&op);
    if (isNamed(&op, "moe.weight.bind"))
      if (auto name = op.getAttrOfType<StringAttr>("sym_name"))
        binds[name] = &op;
  }
}

Operation *WeightSteps::make(StringRef name, ValueRange operands, Type type,
                             ArrayRef<NamedAttribute> attrs) {
  auto dictionary = builder.getDictionaryAttr(attrs);
  if (!operands.empty())
    for (Operation *op : steps[operands.front()])
      if (isNamed(op, name) && op->getOperands() == operands &&
          op->getNumResults() == 1 && op->getResult(0).getType() == type &&
          op->getAttrDictionary() == dictionary)
        return op;
  OperationState state(module.getLoc(), name);
  state.addOperands(operands);
  if (type)
    state.addTypes(type);
  state.addAttributes(attrs);
  Operation *op = builder.create(state);
  for (Value operand : operands)
    steps[operand].push_back(op);
  return op;
}

StringRef WeightSteps::nameOf(Operation *use) {
  if (!isNamed(use, "moe.weight.use"))
    return {};
  auto symbol = use->getAttrOfType<FlatSymbolRefAttr>("weight");
  return symbol ? symbol.getValue() : StringRef();
}

Value WeightSteps::of(Value use) {
  Operation *op = use ? use.getDefiningOp() : nullptr;
  if (isNamed(op, "onnx.Constant")) {
    auto dense = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"));
    if (!dense)
      return {};
    Value &made = literals[use];
    if (!made)
      made = literal(dense);
    return made;
  }
  StringRef name = nameOf(op);
  if (name.empty())
    return {};
  auto it = binds.find(builder.getStringAttr(name));
  return it == binds.end() ? Value() : it->second->getOperand(0);
}

Value WeightSteps::literal(DenseElementsAttr value) {
  return make("moe.weight.literal", {}, value.getType(),
              {builder.getNamedAttr("value", value)})
      ->getResult(0);
}

Value WeightSteps::cast(Value v, Type element) {
  if (elementOf(v) == element)
    return v;
  return make("moe.weight.cast", v,
              RankedTensorType::get(shapeOf(v), element), {})
      ->getResult(0);
}

Value WeightSteps::transpose(Value v, ArrayRef<int64_t> perm) {
  SmallVector<int64_t> dims;
  bool identity = true;
  for (auto [i, p] : llvm::enumerate(perm)) {
    dims.push_back(shapeOf(v)[p]);
    identity &= p == static_cast<int64_t>(i);
  }
  if (identity)
    return v;
  // Two transposes that undo each other: the value itself.
  if (Operation *def = v.getDefiningOp(); isNamed(def, "moe.weight.transpose")) {
    auto first = def->getAttrOfType<DenseI64ArrayAttr>("perm").asArrayRef();
    bool undone = true;
    for (auto [i, p] : llvm::enumerate(perm))
      undone &= first[p] == static_cast<int64_t>(i);
    if (undone)
      return def->getOperand(0);
  }
  return make("moe.weight.transpose", v,
              RankedTensorType::get(dims, elementOf(v)),
              {builder.getNamedAttr("perm", builder.getDenseI64ArrayAttr(perm))})
      ->getResult(0);
}

Value WeightSteps::reshape(Value v, ArrayRef<int64_t> shape) {
  if (shapeOf(v) == shape)
    return v;
  Operation *def = v.getDefiningOp();
  if (isNamed(def, "moe.weight.reshape"))
    return reshape(def->getOperand(0), shape);
  return make("moe.weight.reshape", v,
              RankedTensorType::get(shape, elementOf(v)), {})
      ->getResult(0);
}

Value WeightSteps::slice(Value v, ArrayRef<int64_t> offsets,
                         ArrayRef<int64_t> sizes, ArrayRef<int64_t> strides) {
  if (shapeOf(v) == sizes)
    return v;
  return make("moe.weight.slice", v,
              RankedTensorType::get(sizes, elementOf(v)),
              {builder.getNamedAttr("offsets",
                                    builder.getDenseI64ArrayAttr(offsets)),
               builder.getNamedAttr("sizes",
                                    builder.getDenseI64ArrayAttr(sizes)),
               builder.getNamedAttr("strides",
                                    builder.getDenseI64ArrayAttr(strides))})
      ->getResult(0);
}

Value WeightSteps::part(Value v, int64_t axis, int64_t offset, int64_t size,
                        int64_t stride) {
  SmallVector<int64_t> offsets(shapeOf(v).size(), 0);
  SmallVector<int64_t> sizes(shapeOf(v)), strides(shapeOf(v).size(), 1);
  offsets[axis] = offset;
  sizes[axis] = size;
  strides[axis] = stride;
  return slice(v, offsets, sizes, strides);
}

Value WeightSteps::gather(Value v, int64_t axis, ArrayRef<int64_t> indices) {
  SmallVector<int64_t> dims(shapeOf(v));
  dims[axis] = static_cast<int64_t>(indices.size());
  return make("moe.weight.gather", v,
              RankedTensorType::get(dims, elementOf(v)),
              {builder.getNamedAttr("axis", builder.getI64IntegerAttr(axis)),
               builder.getNamedAttr("indices",
                                    builder.getDenseI64ArrayAttr(indices))})
      ->getResult(0);
}

Value WeightSteps::concat(ValueRange vs, int64_t axis) {
  SmallVector<int64_t> dims(shapeOf(vs.front()));
  dims[axis] = 0;
  for (Value v : vs)
    dims[axis] += shapeOf(v)[axis];
  return make("moe.weight.concat", vs,
              RankedTensorType::get(dims, elementOf(vs.front())),
              {builder.getNamedAttr("axis", builder.getI64IntegerAttr(axis))})
      ->getResult(0);
}

Value WeightSteps::unpack(Value v, Type element) {
  SmallVector<int64_t> dims(shapeOf(v));
  dims.back() *= 8 / element.getIntOrFloatBitWidth();
  if (elementOf(v) == element)
    return v;
  return make("moe.weight.unpack", v, RankedTensorType::get(dims, element), {})->getResult(0);
}

Value WeightSteps::dequantize(Value v, Value scale, Value zeroPoint, ArrayRef<int64_t> blocks,
                              Type element) {
  SmallVector<Value> operands = {v, scale};
  if (zeroPoint)
    operands.push_back(zeroPoint);
  return make("moe.weight.dequantize", operands, RankedTensorType::get(shapeOf(v), element),
              {builder.getNamedAttr("blocks", builder.getDenseI64ArrayAttr(blocks))})
      ->getResult(0);
}

FlatSymbolRefAttr WeightSteps::bind(Value v, StringRef hint) {
  for (Operation *op : steps[v])
    if (isNamed(op, "moe.weight.bind"))
      return FlatSymbolRefAttr::get(op->getAttrOfType<StringAttr>("sym_name"));
  StringAttr name = builder.getStringAttr(hint);
  while (binds.contains(name))
    name = builder.getStringAttr(hint + "." + Twine(counter++));
  OperationState state(module.getLoc(), "moe.weight.bind");
  state.addOperands(v);
  state.addAttribute("sym_name", name);
  Operation *op = builder.create(state);
  steps[v].push_back(op);
  binds[name] = op;
  return FlatSymbolRefAttr::get(name);
}

Value WeightSteps::use(OpBuilder &at, Location loc, FlatSymbolRefAttr symbol) {
  Operation *bound = binds.lookup(symbol.getAttr());
  OperationState state(loc, "moe.weight.use");
  state.addTypes(bound->getOperand(0).getType());
  state.addAttribute("weight", symbol);
  return at.create(state)->getResult(0);
}

unsigned WeightSteps::eraseDead() {
  llvm::DenseSet<StringAttr> used;
  module.walk([&](Operation *op) {
    if (op->getParentOp() == weights)
      return;
    for (NamedAttribute attr : op->getAttrs())
      attr.getValue().walk([&](FlatSymbolRefAttr symbol) {
        used.insert(symbol.getAttr());
      });
  });
  unsigned erased = 0;
  for (Operation &op : llvm::make_early_inc_range(
           llvm::reverse(weights->getRegion(0).front()))) {
    if (isNamed(&op, "moe.weight.bind")) {
      if (used.contains(op.getAttrOfType<StringAttr>("sym_name")))
        continue;
      ++erased;
    } else if (op.getNumResults() == 0 || !op.use_empty()) {
      continue;
    }
    op.erase();
  }
  steps.clear();
  binds.clear();
  literals.clear();
  for (Operation &op : weights->getRegion(0).front()) {
    for (Value operand : op.getOperands())
      steps[operand].push_back(&op);
    if (isNamed(&op, "moe.weight.bind"))
      binds[op.getAttrOfType<StringAttr>("sym_name")] = &op;
  }
  return erased;
}

WeightSteps::Origin WeightSteps::origin(Value v) {
  Origin out{v, -1, true};
  while (Operation *op = out.base.getDefiningOp()) {
    StringRef name = op->getName().getStringRef();
    if (name == "moe.weight.slice") {
      auto sizes = op->getAttrOfType<DenseI64ArrayAttr>("sizes").asArrayRef();
      auto offsets =
          op->getAttrOfType<DenseI64ArrayAttr>("offsets").asArrayRef();
      Value base = op->getOperand(0);
      bool oneOfAxis0 = !sizes.empty() && sizes[0] == 1 &&
                        sizes.drop_front() == shapeOf(base).drop_front();
      if (!oneOfAxis0)
        return out;
      out.base = base;
      out.index = offsets[0];
      return out;
    }
    if (name != "moe.weight.reshape" && name != "moe.weight.transpose" &&
        name != "moe.weight.cast")
      return out;
    out.plain &= name == "moe.weight.reshape";
    out.base = op->getOperand(0);
  }
  return out;
}

} // namespace moec
