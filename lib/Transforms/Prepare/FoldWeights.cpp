// fold-weights: constant reshaping of parameters becomes weight steps.
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Prepare/Passes.h"
#include "moec/Transforms/Prepare/WeightSteps.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_FOLDWEIGHTS
#include "moec/Transforms/Prepare/Passes.h.inc"

namespace {

using Ints = SmallVector<int64_t>;

std::optional<Ints> constInts(Value v) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  if (!op || op->getName().getStringRef() != "onnx.Constant")
    return std::nullopt;
  auto dense = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"));
  if (!dense || !dense.getElementType().isInteger())
    return std::nullopt;
  Ints out;
  for (APInt i : dense.getValues<APInt>())
    out.push_back(i.getSExtValue());
  return out;
}

// Negative axes count from the end; false when out of range.
bool normalise(int64_t &axis, int64_t rank) {
  if (axis < 0)
    axis += rank;
  return axis >= 0 && axis < rank;
}

// One op over weights: the steps that stand for its results.
class Folder {
public:
  Folder(WeightSteps &steps, Operation *op) : steps(steps), op(op) {}

  // Values for the results, empty when the op is not constant reshaping.
  SmallVector<Value> run() {
    StringRef name = op->getName().getStringRef();
    if (!name.consume_front("onnx.") || op->getNumOperands() == 0)
      return {};
    if (name == "Concat")
      return concat();
    if (name == "DequantizeLinear")
      return dequantize();
    if (name == "Mul")
      return scaledIntegers();
    Value use = op->getOperand(0);
    auto type = rankedType(use);
    if (!type || !type.hasStaticShape() || type.getRank() == 0 ||
        !isa<FloatType>(type.getElementType()) || !foldable(name))
      return {};
    in = steps.of(use);
    shape = Ints(type.getShape());
    if (!in)
      return {};
    if (name == "Identity")
      return {in};
    if (name == "Cast")
      return cast(type.getElementType());
    if (name == "Transpose")
      return transpose();
    if (name == "Split")
      return split();
    if (name == "Slice")
      return slice();
    if (name == "Gather")
      return gather();
    return reshape();
  }

private:
  static bool foldable(StringRef n) {
    return n == "Identity" || n == "Cast" || n == "Transpose" || n == "Split" ||
           n == "Slice" || n == "Gather" || n == "Reshape" || n == "Squeeze" ||
           n == "Unsqueeze" || n == "Flatten";
  }

  RankedTensorType resultType() { return rankedType(op->getResult(0)); }

  SmallVector<Value> cast(Type from) {
    auto type = resultType();
    if (!type)
      return {};
    Type to = type.getElementType();
    if (to == from)
      return {in};
    auto f = dyn_cast<FloatType>(from), t = dyn_cast<FloatType>(to);
    bool widens = f && t && t.getWidth() > f.getWidth() &&
                  t.getFPMantissaWidth() >= f.getFPMantissaWidth();
    if (!widens)
      return {};
    return {steps.cast(in, to)};
  }

  SmallVector<Value> transpose() {
    Ints perm;
    if (auto attr = op->getAttrOfType<DenseI64ArrayAttr>("perm"))
      perm = Ints(attr.asArrayRef());
    if (perm.empty())
      for (int64_t i = shape.size() - 1; i >= 0; --i)
        perm.push_back(i);
    if (perm.size() != shape.size())
      return {};
    return {steps.transpose(in, perm)};
  }

  // Reshape, Squeeze, Unsqueeze, Flatten: the result's shape says it all.
  SmallVector<Value> reshape() {
    auto type = resultType();
    if (!type)
      return {};
    Ints dims(type.getShape());
    if (!type.hasStaticShape()) {
      auto target = op->getNumOperands() > 1 ? constInts(op->getOperand(1))
                                             : std::nullopt;
      if (op->getName().getStringRef() != "onnx.Reshape" || !target)
        return {};
      int64_t known = 1, total = 1;
      for (int64_t d : shape)
        total *= d;
      dims = *target;
      bool keepZero = intAttr(op, "allowzero", 0) != 0;
      for (auto [i, d] : llvm::enumerate(dims)) {
        if (d == 0 && !keepZero && i < shape.size())
          d = shape[i];
        if (d > 0)
          known *= d;
      }
      for (int64_t &d : dims)
        if (d == -1)
          d = total / known;
      if (llvm::any_of(dims, [](int64_t d) { return d < 0; }))
        return {};
    }
    return {steps.reshape(in, dims)};
  }

  SmallVector<Value> split() {
    int64_t axis = intAttr(op, "axis", 0);
    if (!normalise(axis, shape.size()))
      return {};
    Ints sizes;
    int64_t n = op->getNumResults();
    if (op->getNumOperands() > 1 && !isa<NoneType>(op->getOperand(1).getType())) {
      auto given = constInts(op->getOperand(1));
      if (!given || static_cast<int64_t>(given->size()) != n)
        return {};
      sizes = *given;
    } else {
      int64_t each = (shape[axis] + n - 1) / n;
      for (int64_t i = 0; i < n; ++i)
        sizes.push_back(std::min(each, shape[axis] - i * each));
    }
    SmallVector<Value> out;
    int64_t at = 0;
    for (int64_t size : sizes) {
      if (size <= 0 || at + size > shape[axis])
        return {};
      out.push_back(steps.part(in, axis, at, size));
      at += size;
    }
    return out;
  }

  SmallVector<Value> slice() {
    auto arg = [&](unsigned i) -> std::optional<Ints> {
      if (op->getNumOperands() <= i || isa<NoneType>(op->getOperand(i).getType()))
        return Ints();
      return constInts(op->getOperand(i));
    };
    auto starts = arg(1), ends = arg(2), axes = arg(3), strides = arg(4);
    if (!starts || !ends || !axes || !strides || starts->empty() ||
        starts->size() != ends->size())
      return {};
    Value v = in;
    Ints dims = shape;
    for (size_t i = 0; i < starts->size(); ++i) {
      int64_t axis = axes->empty() ? static_cast<int64_t>(i)
                     : i < axes->size() ? (*axes)[i]
                                        : -100;
      int64_t step = strides->empty() ? 1 : i < strides->size() ? (*strides)[i] : 0;
      if (!normalise(axis, dims.size()) || step < 1)
        return {};
      int64_t n = dims[axis], lo = (*starts)[i], hi = (*ends)[i];
      lo = std::clamp<int64_t>(lo < 0 ? lo + n : lo, 0, n);
      hi = std::clamp<int64_t>(hi < 0 ? std::max<int64_t>(hi + n, 0) : hi, 0, n);
      if (hi <= lo)
        return {};
      int64_t size = (hi - lo + step - 1) / step;
      v = steps.part(v, axis, lo, size, step);
      dims[axis] = size;
    }
    return {v};
  }

  SmallVector<Value> gather() {
    auto index = constInts(op->getOperand(1));
    auto indexType = rankedType(op->getOperand(1));
    int64_t axis = intAttr(op, "axis", 0);
    if (!index || !indexType || indexType.getRank() > 1 || index->empty() ||
        !normalise(axis, shape.size()))
      return {};
    for (int64_t &i : *index)
      if (!normalise(i, shape[axis]))
        return {};
    Value v = index->size() == 1 ? steps.part(in, axis, index->front(), 1)
                                 : steps.gather(in, axis, *index);
    if (indexType.getRank() == 0) {
      Ints dims = shape;
      dims.erase(dims.begin() + axis);
      v = steps.reshape(v, dims);
    }
    return {v};
  }

  // Per tensor, per position of an axis, or per block along it.
  SmallVector<Value> dequantize() {
    auto type = rankedType(op->getOperand(0)), result = resultType();
    in = steps.of(op->getOperand(0));
    Value scale = steps.of(op->getOperand(1)), zero;
    bool hasZero = op->getNumOperands() > 2 && !isa<NoneType>(op->getOperand(2).getType());
    if (hasZero)
      zero = steps.of(op->getOperand(2));
    if (!in || !scale || (hasZero && !zero) || !type || !result || !type.hasStaticShape())
      return {};
    ArrayRef<int64_t> dims = type.getShape();
    Ints scales(rankedType(scale).getShape()), blocks;
    for (int64_t dim : dims)
      blocks.push_back(std::max<int64_t>(1, dim));
    int64_t axis = intAttr(op, "axis", 1), block = intAttr(op, "block_size", 0);
    bool single = scales.size() <= 1 && rankedType(scale).getNumElements() == 1;
    if (!single) {
      if (!normalise(axis, dims.size()))
        return {};
      if (block == 0 && scales != Ints{dims[axis]})
        return {};
      if (block != 0)
        blocks.assign(dims.size(), 1);
      blocks[axis] = block == 0 ? 1 : block;
    }
    Ints wanted;
    for (auto [dim, size] : llvm::zip(dims, blocks))
      wanted.push_back(size < 1 ? 0 : dim / size + (dim % size != 0));
    if ((block != 0 && !single && scales != wanted) || llvm::is_contained(wanted, 0) ||
        (zero && rankedType(zero).getShape() != ArrayRef(scales)))
      return {};
    return {steps.dequantize(in, steps.reshape(scale, wanted),
                             zero ? steps.reshape(zero, wanted) : Value(), blocks,
                             result.getElementType())};
  }

  // Integers as floats, times a scale: ternary and other packed weights.
  SmallVector<Value> scaledIntegers() {
    for (unsigned i : {0u, 1u}) {
      Operation *cast = op->getOperand(i).getDefiningOp();
      if (op->getNumOperands() != 2 || !cast || cast->getName().getStringRef() != "onnx.Cast")
        continue;
      auto type = rankedType(cast->getOperand(0)), scales = rankedType(op->getOperand(1 - i)),
           result = resultType();
      in = steps.of(cast->getOperand(0));
      Value scale = steps.of(op->getOperand(1 - i));
      if (!in || !scale || !type.getElementType().isInteger() || type.getRank() < 2 || !result ||
          result.getShape() != type.getShape() || scales.getRank() > type.getRank() ||
          !isa<FloatType>(result.getElementType()))
        continue;
      Ints wanted(type.getRank() - scales.getRank(), 1), blocks;
      wanted.append(scales.getShape().begin(), scales.getShape().end());
      for (auto [dim, n] : llvm::zip(type.getShape(), wanted))
        blocks.push_back(n == 1 ? std::max<int64_t>(1, dim) : 1);
      return {steps.dequantize(in, steps.reshape(scale, wanted), Value(), blocks,
                               result.getElementType())};
    }
    return {};
  }

  SmallVector<Value> concat() {
    SmallVector<Value> parts;
    int64_t axis = intAttr(op, "axis", 0);
    for (Value operand : op->getOperands()) {
      auto type = rankedType(operand);
      if (!type || !type.hasStaticShape() ||
          !isa<FloatType>(type.getElementType()) ||
          type.getNumElements() <= 1)
        return {};
      Operation *def = operand.getDefiningOp();
      if (!def || (def->getName().getStringRef() != "moe.weight.use" &&
                   def->getName().getStringRef() != "onnx.Constant"))
        return {};
    }
    auto first = rankedType(op->getOperand(0));
    if (!normalise(axis, first.getRank()))
      return {};
    for (Value operand : op->getOperands())
      parts.push_back(steps.of(operand));
    return {steps.concat(parts, axis)};
  }

  WeightSteps &steps;
  Operation *op;
  Value in;
  Ints shape;
};

struct FoldWeights : impl::FoldWeightsBase<FoldWeights> {
  using FoldWeightsBase::FoldWeightsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    WeightSteps steps(module);
    SmallVector<Operation *> ops;
    for (Operation &child : *module.getBody())
      if (child.getName().getStringRef() != "moe.weights")
        child.walk<WalkOrder::PreOrder>([&](Operation *op) {
          if (op != &child)
            ops.push_back(op);
        });
    for (Operation *op : ops) {
      SmallVector<Value> values = Folder(steps, op).run();
      if (values.empty() || values.size() != op->getNumResults())
        continue;
      std::string hint = WeightSteps::nameOf(op->getOperand(0).getDefiningOp()).str();
      OpBuilder builder(op);
      for (auto [result, value] : llvm::zip(op->getResults(), values)) {
        if (result.use_empty())
          continue;
        auto symbol = steps.bind(value, hint.empty() ? "constant" : hint);
        result.replaceAllUsesWith(steps.use(builder, op->getLoc(), symbol));
      }
      ++numFolded;
      op->erase();
    }
    dropUnits(module, steps);
    eraseDeadUses(module);
    numBindsErased += steps.eraseDead();
  }

  // A product's stack of matrices without leading axes of one, which broadcasting
  // gives it anyway: [1, E, K, N] beside [.., .., M, K] is [E, K, N].
  static void dropUnits(ModuleOp module, WeightSteps &steps) {
    SmallVector<OpOperand *> found;
    module.walk([&](Operation *op) {
      if (op->getName().getStringRef() != "onnx.MatMul" || op->getNumOperands() != 2)
        return;
      for (unsigned i : {0u, 1u}) {
        Operation *use = op->getOperand(i).getDefiningOp();
        auto type = rankedType(op->getOperand(i)), other = rankedType(op->getOperand(1 - i));
        if (use && use->getName().getStringRef() == "moe.weight.use" && type && other &&
            type.hasStaticShape() && type.getRank() > 3 && type.getDimSize(0) == 1 &&
            other.getRank() >= type.getRank())
          found.push_back(&op->getOpOperand(i));
      }
    });
    for (OpOperand *operand : found) {
      Operation *op = operand->getOwner();
      Ints dims(rankedType(operand->get()).getShape());
      while (dims.size() > 3 && dims.front() == 1)
        dims.erase(dims.begin());
      std::string name = WeightSteps::nameOf(operand->get().getDefiningOp()).str();
      OpBuilder builder(op);
      auto symbol = steps.bind(steps.reshape(steps.of(operand->get()), dims), name);
      operand->set(steps.use(builder, op->getLoc(), symbol));
    }
  }

  // Uses and constants that only folded operations read.
  static void eraseDeadUses(ModuleOp module) {
    SmallVector<Operation *> dead;
    module.walk([&](Operation *op) {
      StringRef name = op->getName().getStringRef();
      if (name == "moe.weight.use" && op->use_empty())
        dead.push_back(op);
    });
    for (Operation *op : dead)
      op->erase();
  }
};

} // namespace
} // namespace moec
