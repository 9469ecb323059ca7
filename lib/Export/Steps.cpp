#include "Steps.h"

#include "Build.h"
#include "moec/Weights/Weights.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace moec;
using namespace moec::onnx_export;

static StringRef stepName(Value v) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  StringRef name = op ? op->getName().getStringRef() : StringRef();
  return name.consume_front("moe.weight.") ? name : StringRef();
}

// Everything that a step's value depends on. Types and attributes are unique in their context.
static std::string keyOf(StringRef name, ValueRange operands, Type type,
                         DictionaryAttr attributes) {
  std::string key;
  llvm::raw_string_ostream os(key);
  os << name << ' ' << type.getAsOpaquePointer() << ' ' << attributes.getAsOpaquePointer();
  for (Value v : operands)
    os << ' ' << v.getAsOpaquePointer();
  return key;
}

Steps::Steps(ModuleOp module) : builder(module.getContext()) {
  moe::WeightsOp weights = moe::findWeights(module);
  if (!weights) {
    builder.setInsertionPointToStart(module.getBody());
    OperationState state(builder.getUnknownLoc(), "moe.weights");
    state.addAttribute("sym_name", builder.getStringAttr("weights"));
    state.addRegion()->emplaceBlock();
    weights = cast<moe::WeightsOp>(builder.create(state));
  }
  block = &weights->getRegion(0).front();
  builder.setInsertionPointToEnd(block);
  for (Operation &op : llvm::make_early_inc_range(*block)) {
    if (auto bind = dyn_cast<moe::WeightBindOp>(op)) {
      byName[bind.getSymName()] = bind.getValue();
      names.try_emplace(bind.getValue(), bind.getSymName());
      continue;
    }
    std::string key = keyOf(op.getName().getStringRef(), op.getOperands(),
                            op.getResult(0).getType(), op.getAttrDictionary());
    auto [it, isNew] = made.try_emplace(key, op.getResult(0));
    if (!isNew) {
      op.getResult(0).replaceAllUsesWith(it->second);
      op.erase();
    }
  }
}

Value Steps::step(StringRef name, ValueRange operands, RankedTensorType type,
                  ArrayRef<NamedAttribute> attributes) {
  std::string full = ("moe.weight." + name).str();
  Value &known = made[keyOf(full, operands, type, builder.getDictionaryAttr(attributes))];
  if (!known) {
    OperationState state(builder.getUnknownLoc(), full);
    state.addOperands(operands);
    state.addTypes(type);
    state.addAttributes(attributes);
    known = builder.create(state)->getResult(0);
  }
  return known;
}

Value Steps::cast(Value v, Type element) {
  auto type = rankedType(v);
  return type.getElementType() == element ? v : step("cast", v, type.clone(element));
}

Value Steps::reshape(Value v, ArrayRef<int64_t> shape) {
  if (stepName(v) == "reshape")
    v = v.getDefiningOp()->getOperand(0);
  auto type = rankedType(v);
  return type.getShape() == shape ? v : step("reshape", v, type.clone(shape));
}

Value Steps::transpose(Value v, ArrayRef<int64_t> perm) {
  SmallVector<int64_t> shape;
  bool same = true;
  for (auto [i, axis] : llvm::enumerate(perm)) {
    shape.push_back(rankedType(v).getDimSize(axis));
    same &= axis == static_cast<int64_t>(i);
  }
  if (same)
    return v;
  return step("transpose", v, rankedType(v).clone(shape),
              builder.getNamedAttr("perm", builder.getDenseI64ArrayAttr(perm)));
}

Value Steps::gather(Value v, ArrayRef<int64_t> rows) {
  SmallVector<int64_t> shape(rankedType(v).getShape());
  bool same = shape[0] == static_cast<int64_t>(rows.size());
  for (auto [i, row] : llvm::enumerate(rows))
    same &= row == static_cast<int64_t>(i);
  if (same)
    return v;
  shape[0] = rows.size();
  return step("gather", v, rankedType(v).clone(shape),
              {builder.getNamedAttr("axis", builder.getI64IntegerAttr(0)),
               builder.getNamedAttr("indices", builder.getDenseI64ArrayAttr(rows))});
}

Value Steps::concat(ValueRange parts, int64_t axis) {
  if (parts.size() == 1)
    return parts.front();
  SmallVector<int64_t> shape(rankedType(parts.front()).getShape());
  shape[axis] = 0;
  for (Value part : parts)
    shape[axis] += rankedType(part).getDimSize(axis);
  return step("concat", parts, rankedType(parts.front()).clone(shape),
              builder.getNamedAttr("axis", builder.getI64IntegerAttr(axis)));
}

Value Steps::zeros(ArrayRef<int64_t> shape, Type element) {
  auto type = RankedTensorType::get(shape, element);
  auto value = DenseElementsAttr::get(type, Attribute(FloatAttr::get(element, 0.0)));
  return step("literal", {}, type, builder.getNamedAttr("value", value));
}

Value Steps::integers(ArrayRef<int64_t> shape, Type element, int64_t number) {
  auto type = RankedTensorType::get(shape, element);
  auto value = DenseElementsAttr::get(type, Attribute(IntegerAttr::get(
      element, APInt(element.getIntOrFloatBitWidth(), static_cast<uint64_t>(number),
                     /*isSigned=*/!element.isUnsignedInteger()))));
  return step("literal", {}, type, builder.getNamedAttr("value", value));
}

Value Steps::slice(Value v, ArrayRef<int64_t> offsets, ArrayRef<int64_t> sizes) {
  if (rankedType(v).getShape() == sizes)
    return v;
  SmallVector<int64_t> strides(sizes.size(), 1);
  return step("slice", v, rankedType(v).clone(sizes),
              {builder.getNamedAttr("offsets", builder.getDenseI64ArrayAttr(offsets)),
               builder.getNamedAttr("sizes", builder.getDenseI64ArrayAttr(sizes)),
               builder.getNamedAttr("strides", builder.getDenseI64ArrayAttr(strides))});
}

Value Steps::head(Value v, int64_t axis, int64_t size) {
  SmallVector<int64_t> sizes(rankedType(v).getShape()), offsets(sizes.size(), 0);
  sizes[axis] = size;
  return slice(v, offsets, sizes);
}

Value Steps::part(Value v, int64_t axis, int64_t offset, int64_t size, int64_t stride) {
  SmallVector<int64_t> sizes(rankedType(v).getShape()), offsets(sizes.size(), 0);
  SmallVector<int64_t> strides(sizes.size(), 1);
  if (sizes[axis] == size)
    return v;
  sizes[axis] = size, offsets[axis] = offset, strides[axis] = stride;
  return step("slice", v, rankedType(v).clone(sizes),
              {builder.getNamedAttr("offsets", builder.getDenseI64ArrayAttr(offsets)),
               builder.getNamedAttr("sizes", builder.getDenseI64ArrayAttr(sizes)),
               builder.getNamedAttr("strides", builder.getDenseI64ArrayAttr(strides))});
}

Value Steps::rowOfConcat(Operation *op, int64_t index) {
  for (Value part : op->getOperands()) {
    int64_t rows = rankedType(part).getDimSize(0);
    if (index < rows)
      return row(part, index);
    index -= rows;
  }
  return {};
}

// A reshape that keeps axis 0, or makes it.
Value Steps::rowOfReshape(Operation *op, int64_t index) {
  Value from = op->getOperand(0);
  auto source = rankedType(from), type = rankedType(op->getResult(0));
  if (type.getDimSize(0) == 1)
    return reshape(from, type.getShape().drop_front());
  if (source.getRank() > 1 && source.getDimSize(0) == type.getDimSize(0))
    return reshape(row(from, index), type.getShape().drop_front());
  return {};
}

Value Steps::rowOfLoad(Operation *op, int64_t index) {
  auto type = rankedType(op->getResult(0));
  int64_t bits = storageBits(type.getElementType()) * type.getNumElements() /
                 std::max<int64_t>(1, type.getDimSize(0));
  auto offset = op->getAttrOfType<IntegerAttr>("offset");
  int64_t at = 0;
  if (bits % 8 != 0 || !offset || llvm::MulOverflow(bits / 8, index, at) ||
      llvm::AddOverflow(at, offset.getInt(), at))
    return {};
  return step("load", {}, type.clone(type.getShape().drop_front()),
              {builder.getNamedAttr("file", op->getAttr("file")),
               builder.getNamedAttr("offset", builder.getI64IntegerAttr(at))});
}

// Scales and zero points of one row; one for all rows is that of each.
Value Steps::rowOfDequantize(Operation *op, int64_t index) {
  auto blocks = op->getAttrOfType<DenseI64ArrayAttr>("blocks").asArrayRef();
  SmallVector<Value> operands = {row(op->getOperand(0), index)};
  for (Value part : op->getOperands().drop_front())
    operands.push_back(row(part, std::min(index / blocks[0], rankedType(part).getDimSize(0) - 1)));
  return step("dequantize", operands, rankedType(op->getResult(0)).clone(rankedType(operands[0]).getShape()),
              builder.getNamedAttr("blocks", builder.getDenseI64ArrayAttr(blocks.drop_front())));
}

Value Steps::row(Value v, int64_t index) {
  auto type = rankedType(v);
  Operation *op = v.getDefiningOp();
  StringRef name = stepName(v);
  Value found;
  if (name == "cast")
    return cast(row(op->getOperand(0), index), type.getElementType());
  if (name == "concat" && op->getAttrOfType<IntegerAttr>("axis").getInt() == 0)
    found = rowOfConcat(op, index);
  else if (name == "reshape")
    found = rowOfReshape(op, index);
  else if (name == "load")
    found = rowOfLoad(op, index);
  else if (name == "unpack" && type.getRank() > 1)
    found = step("unpack", row(op->getOperand(0), index), type.clone(type.getShape().drop_front()));
  else if (name == "dequantize" && type.getRank() > 1)
    found = rowOfDequantize(op, index);
  else if (name == "transpose") {
    auto perm = op->getAttrOfType<DenseI64ArrayAttr>("perm").asArrayRef();
    SmallVector<int64_t> inner;
    for (int64_t axis : perm.drop_front())
      inner.push_back(axis - 1);
    if (perm[0] == 0)
      found = transpose(row(op->getOperand(0), index), inner);
  } else if (name == "gather" && op->getAttrOfType<IntegerAttr>("axis").getInt() == 0) {
    auto indices = op->getAttrOfType<DenseI64ArrayAttr>("indices").asArrayRef();
    found = row(op->getOperand(0), indices[index]);
  }
  if (found)
    return found;
  SmallVector<int64_t> offsets(type.getRank(), 0), sizes(type.getShape());
  offsets[0] = index;
  sizes[0] = 1;
  return reshape(slice(v, offsets, sizes), type.getShape().drop_front());
}

Value Steps::untransposed(Value v) {
  Operation *op = v.getDefiningOp();
  if (stepName(v) == "cast") {
    Value inner = untransposed(op->getOperand(0));
    return inner ? cast(inner, elementOf(v)) : Value();
  }
  return stepName(v) == "transpose" && rankedType(v).getRank() == 2 ? op->getOperand(0) : Value();
}

bool Steps::isZero(Value v) {
  Operation *op = v.getDefiningOp();
  if (stepName(v) == "literal") {
    auto dense = dyn_cast<DenseElementsAttr>(op->getAttr("value"));
    return dense && dense.isSplat() && isa<FloatType>(dense.getElementType()) &&
           dense.getSplatValue<APFloat>().isPosZero();
  }
  return !stepName(v).empty() && op->getNumOperands() > 0 && stepName(v) != "low_rank" &&
         llvm::all_of(op->getOperands(), isZero);
}

Value Steps::again(Operation *like, ValueRange operands, Type element) {
  return step(StringRef(like->getName().getStringRef()).drop_front(StringRef("moe.weight.").size()),
              operands, rankedType(like->getResult(0)).clone(element), like->getAttrs());
}

// Moves casts behind the steps that only move elements.
Value Steps::narrowed(Value v) {
  if (auto it = narrower.find(v); it != narrower.end())
    return it->second;
  Value result;
  Operation *op = v.getDefiningOp();
  StringRef name = stepName(v);
  if (name == "cast") {
    Value from = op->getOperand(0);
    auto wide = dyn_cast<FloatType>(elementOf(v)), narrow = dyn_cast<FloatType>(elementOf(from));
    // All of the narrow type's values are values of the wide one.
    if (wide && narrow && narrow.getWidth() >= 16 && wide.getWidth() > narrow.getWidth())
      result = from;
  } else if (name == "transpose" || name == "reshape" || name == "slice" || name == "gather" ||
             name == "concat") {
    SmallVector<Value> operands;
    for (Value operand : op->getOperands()) {
      Value inner = narrowed(operand);
      if (!inner || (!operands.empty() && elementOf(inner) != elementOf(operands.front())))
        break;
      operands.push_back(inner);
    }
    if (operands.size() == op->getNumOperands() && !operands.empty())
      result = again(op, operands, elementOf(operands.front()));
  }
  narrower[v] = result;
  return result;
}

std::string Steps::bind(Value v, StringRef hint) {
  std::string &name = names[v];
  if (!name.empty())
    return name;
  name = hint.str();
  for (int i = 1; byName.count(name); ++i)
    name = (hint + "." + Twine(i)).str();
  byName[name] = v;
  OperationState state(builder.getUnknownLoc(), "moe.weight.bind");
  state.addOperands(v);
  state.addAttribute("sym_name", builder.getStringAttr(name));
  builder.create(state);
  return name;
}
