#include "PackedWeights.h"
#include "Build.h"

using namespace mlir;
using namespace moec;
using namespace moec::onnx_export;

static Operation *stepOf(Value v, StringRef name) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  return op && op->getName().getStringRef() == name ? op : nullptr;
}

// The bytes that a packed tensor was unpacked from; null when it is none, or was cut inside a byte.
static Value bytesOf(Value v, int64_t bits) {
  if (bits == 8)
    return elementOf(v).isUnsignedInteger(8) ? v : Value();
  Operation *op = stepOf(v, "moe.weight.unpack");
  return op && elementOf(op->getOperand(0)).isUnsignedInteger(8) ? op->getOperand(0) : Value();
}

// Without a slice along the last axis that cuts padding off.
static Value padded(Value v) {
  Operation *op = stepOf(v, "moe.weight.slice");
  if (!op)
    return v;
  auto from = rankedType(op->getOperand(0)), to = rankedType(v);
  auto offsets = op->getAttrOfType<DenseI64ArrayAttr>("offsets").asArrayRef();
  bool head = llvm::all_of(offsets, [](int64_t offset) { return offset == 0; });
  return head && from.getShape().drop_back() == to.getShape().drop_back() ? op->getOperand(0) : v;
}

// The zero points as bytes; false when they are stored otherwise.
static bool readZeros(Value zero, Packed &packed) {
  int64_t rank = rankedType(zero).getRank();
  if (stepOf(zero, "moe.weight.literal")) {
    auto dense = dyn_cast<DenseIntElementsAttr>(zero.getDefiningOp()->getAttr("value"));
    return dense && dense.isSplat() &&
           dense.getSplatValue<APInt>().getZExtValue() == uint64_t(1) << (packed.bits - 1);
  }
  // [E, N, 1] of [E, N]: rows share bytes.
  if (Operation *op = stepOf(zero, "moe.weight.reshape");
      op && packed.block == packed.depth && rank == 3 &&
      rankedType(op->getOperand(0)).getRank() == 2) {
    packed.zero = bytesOf(padded(op->getOperand(0)), packed.bits);
    packed.bytesOfRows = true;
    return static_cast<bool>(packed.zero);
  }
  packed.zero = bytesOf(padded(zero), packed.bits);
  return static_cast<bool>(packed.zero);
}

static std::optional<Packed> readDequantize(Operation *op) {
  Value q = op->getOperand(0);
  auto blocks = op->getAttrOfType<DenseI64ArrayAttr>("blocks").asArrayRef();
  auto element = dyn_cast<IntegerType>(elementOf(q));
  ArrayRef<int64_t> shape = rankedType(q).getShape();
  Packed packed;
  if (!element || !element.isUnsigned() || op->getNumOperands() != 3 || shape.size() < 2 ||
      llvm::any_of(blocks.drop_back(), [](int64_t block) { return block != 1; }))
    return std::nullopt;
  packed.bits = element.getWidth();
  packed.depth = shape.back();
  packed.block = blocks.back();
  packed.scale = op->getOperand(1);
  packed.bytes = bytesOf(q, packed.bits);
  bool wholeRow = packed.block >= packed.depth;
  if (wholeRow)
    packed.block = packed.depth;
  if (!packed.bytes || packed.depth % packed.block != 0 ||
      (!wholeRow && (packed.block < 16 || (packed.block & (packed.block - 1)) != 0)) ||
      !readZeros(op->getOperand(2), packed))
    return std::nullopt;
  return packed;
}

// The same change of axes in front of the last to all parts.
template <typename F>
static Packed mapped(Packed packed, F change) {
  packed.bytes = change(packed.bytes);
  packed.scale = change(packed.scale);
  packed.zero = packed.zero ? change(packed.zero) : Value();
  return packed;
}

static std::optional<Packed> readSlice(Steps &steps, Operation *op) {
  auto packed = packedOf(steps, op->getOperand(0));
  auto list = [&](StringRef name) {
    return op->getAttrOfType<DenseI64ArrayAttr>(name).asArrayRef();
  };
  ArrayRef<int64_t> shape = rankedType(op->getOperand(0)).getShape(), sizes = list("sizes");
  if (!packed || packed->bytesOfRows || sizes.back() != shape.back())
    return std::nullopt;
  return mapped(*packed, [&](Value v) {
    for (size_t axis = 0; axis + 1 < shape.size(); ++axis)
      v = steps.part(v, axis, list("offsets")[axis], sizes[axis], list("strides")[axis]);
    return v;
  });
}

static std::optional<Packed> readConcat(Steps &steps, Operation *op) {
  int64_t axis = op->getAttrOfType<IntegerAttr>("axis").getInt();
  SmallVector<Packed> parts;
  if (axis == rankedType(op->getResult(0)).getRank() - 1)
    return std::nullopt;
  for (Value part : op->getOperands()) {
    auto packed = packedOf(steps, part);
    if (!packed || !packed->sameFormat(parts.empty() ? *packed : parts.front()))
      return std::nullopt;
    parts.push_back(*packed);
  }
  auto joined = [&](Value Packed::*part) {
    SmallVector<Value> all;
    for (const Packed &packed : parts)
      all.push_back(packed.*part);
    return all.front() ? steps.concat(all, axis) : Value();
  };
  Packed packed = parts.front();
  packed.bytes = joined(&Packed::bytes);
  packed.scale = joined(&Packed::scale);
  packed.zero = joined(&Packed::zero);
  return packed;
}

std::optional<Packed> onnx_export::packedOf(Steps &steps, Value v) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  StringRef name = op ? op->getName().getStringRef() : StringRef();
  if (name == "moe.weight.dequantize")
    return readDequantize(op);
  if (name == "moe.weight.slice")
    return readSlice(steps, op);
  if (name == "moe.weight.concat")
    return readConcat(steps, op);
  // One expert in front.
  if (name == "moe.weight.reshape") {
    auto from = rankedType(op->getOperand(0)), to = rankedType(v);
    if (from.getRank() != 2 || to.getRank() != 3 || to.getDimSize(0) != 1 ||
        to.getShape().drop_front() != from.getShape())
      return std::nullopt;
    auto packed = packedOf(steps, op->getOperand(0));
    if (!packed || packed->bytesOfRows)
      return std::nullopt;
    return mapped(*packed, [&](Value part) {
      SmallVector<int64_t> shape(rankedType(part).getShape());
      shape.insert(shape.begin(), 1);
      return steps.reshape(part, shape);
    });
  }
  if (name == "moe.weight.gather" && op->getAttrOfType<IntegerAttr>("axis").getInt() == 0 &&
      rankedType(v).getRank() == 3)
    if (auto packed = packedOf(steps, op->getOperand(0)))
      return gathered(steps, *packed, op->getAttrOfType<DenseI64ArrayAttr>("indices").asArrayRef());
  return std::nullopt;
}

// Whether `v` is every second row of `whole`, from `offset` on.
static Value everySecondRow(Value v, int64_t offset) {
  Operation *op = stepOf(v, "moe.weight.slice");
  if (!op)
    return {};
  auto list = [&](StringRef name) {
    return op->getAttrOfType<DenseI64ArrayAttr>(name).asArrayRef();
  };
  auto from = rankedType(op->getOperand(0)).getShape();
  bool fits = from.size() == 3 && list("offsets") == ArrayRef<int64_t>({0, offset, 0}) &&
              list("strides") == ArrayRef<int64_t>({1, 2, 1}) &&
              list("sizes") == ArrayRef<int64_t>({from[0], from[1] / 2, from[2]}) &&
              from[1] % 2 == 0;
  return fits ? op->getOperand(0) : Value();
}

std::optional<Packed> onnx_export::interleavedRows(Steps &steps, Value gate, Value up) {
  Value whole = everySecondRow(gate, 0);
  if (whole && whole == everySecondRow(up, 1))
    return packedOf(steps, whole);
  auto a = packedOf(steps, gate), b = packedOf(steps, up);
  if (!a || !b || !a->sameFormat(*b))
    return std::nullopt;
  auto rows = [&](Value Packed::*part) {
    if (!(*a.*part))
      return Value();
    SmallVector<int64_t> shape(rankedType(*a.*part).getShape()), apart(shape);
    apart.insert(apart.begin() + 2, 1);
    shape[1] *= 2;
    return steps.reshape(
        steps.concat({steps.reshape(*a.*part, apart), steps.reshape(*b.*part, apart)}, 2), shape);
  };
  Packed packed = *a;
  packed.bytes = rows(&Packed::bytes);
  packed.scale = rows(&Packed::scale);
  packed.zero = rows(&Packed::zero);
  return packed;
}

Packed onnx_export::gathered(Steps &steps, Packed packed, ArrayRef<int64_t> rows) {
  return mapped(packed, [&](Value v) { return steps.gather(v, rows); });
}
