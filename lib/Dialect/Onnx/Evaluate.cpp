// Computes small tensors; see Evaluate.h. Ops are read by name and position.
#include "Evaluate.h"
#include "Elementwise.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace moec::onnx {

namespace {

constexpr int kMaxDepth = 8; // of ops behind each other whose values are known in part only

bool handled(Type element) {
  if (isa<FloatType>(element))
    return element.isF32() || element.isF64() || element.isF16() || element.isBF16();
  auto integer = dyn_cast<IntegerType>(element);
  return integer && integer.getWidth() <= 64 && !(integer.isUnsigned() && integer.getWidth() == 64);
}

bool readsAsUnsigned(Type element) {
  auto integer = cast<IntegerType>(element);
  return integer.isUnsigned() || integer.getWidth() == 1;
}

std::optional<Known> fromAttribute(DenseElementsAttr dense) {
  Type element = dense.getElementType();
  if (dense.getNumElements() > kMaxFoldedElements || !handled(element))
    return std::nullopt;
  Known out{element, SmallVector<int64_t>(dense.getType().getShape()), {}};
  if (out.isFloat()) {
    for (APFloat f : dense.getValues<APFloat>()) {
      bool lost;
      f.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
      out.values.push_back(Number{0, f.convertToDouble()});
    }
    return out;
  }
  bool plain = readsAsUnsigned(element);
  for (const APInt &i : dense.getValues<APInt>())
    out.values.push_back(Number{plain ? static_cast<int64_t>(i.getZExtValue()) : i.getSExtValue()});
  return out;
}

int64_t countOf(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t d : shape)
    if (d < 0 || llvm::MulOverflow(count, d, count) || count > kMaxFoldedElements)
      return -1;
  return count;
}

class Evaluator {
public:
  std::optional<Known> value(Value v, int depth);

private:
  std::optional<Known> compute(Operation *op, unsigned result);
  std::optional<Known> in(unsigned i) {
    if (i >= op->getNumOperands() || isAbsent(op->getOperand(i)))
      return std::nullopt;
    return value(op->getOperand(i), depth);
  }
  // The integers of an operand; nothing when one is unknown.
  std::optional<SmallVector<int64_t>> ints(unsigned i) {
    auto known = in(i);
    if (!known || known->isFloat() || !known->complete())
      return std::nullopt;
    SmallVector<int64_t> out;
    for (const auto &v : known->values)
      out.push_back(v->i);
    return out;
  }
  int64_t attr(StringRef name, int64_t otherwise) {
    auto value = op->getAttrOfType<IntegerAttr>(name);
    return value ? value.getInt() : otherwise;
  }

  std::optional<Known> shapeOf();
  std::optional<Known> gather();
  std::optional<Known> slice();
  std::optional<Known> split(unsigned result);
  std::optional<Known> concat();
  std::optional<Known> fill();
  std::optional<Known> range();
  std::optional<Known> expand();
  std::optional<Known> reshaped(RankedTensorType type);
  std::optional<Known> castTo(RankedTensorType type);
  std::optional<Known> reduce();

  Operation *op = nullptr;
  int depth = 0;
};

std::optional<Known> Evaluator::shapeOf() {
  auto type = dyn_cast<RankedTensorType>(op->getOperand(0).getType());
  if (!type)
    return std::nullopt;
  int64_t rank = type.getRank(), start = attr("start", 0), end = attr("end", rank);
  auto clamp = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + rank : i, 0, rank); };
  start = clamp(start);
  end = std::max(start, clamp(end));
  Known out{IntegerType::get(op->getContext(), 64), {end - start}, {}};
  for (int64_t dim : type.getShape().slice(start, end - start))
    out.values.push_back(ShapedType::isDynamic(dim) ? std::nullopt : std::optional(Number{dim}));
  return out;
}

// Along axis 0 of a vector; indices of any rank.
std::optional<Known> Evaluator::gather() {
  auto data = in(0);
  auto index = in(1);
  if (!data || !index || data->shape.size() != 1)
    return std::nullopt;
  Known out{data->element, index->shape, {}};
  int64_t n = data->shape[0];
  for (const auto &i : index->values) {
    if (!i) {
      out.values.push_back(std::nullopt);
      continue;
    }
    int64_t at = i->i < 0 ? i->i + n : i->i;
    if (at < 0 || at >= n)
      return std::nullopt;
    out.values.push_back(data->values[at]);
  }
  return out;
}

std::optional<Known> Evaluator::slice() {
  auto data = in(0);
  auto start = ints(1), end = ints(2), step = ints(4);
  bool stepGiven = op->getNumOperands() > 4 && !isAbsent(op->getOperand(4));
  if (!data || data->shape.size() != 1 || !start || !end || start->size() != 1 ||
      end->size() != 1 || (stepGiven && (!step || step->size() != 1)))
    return std::nullopt;
  int64_t n = data->shape[0], by = stepGiven ? step->front() : 1;
  if (by < 1)
    return std::nullopt;
  auto bound = [&](int64_t i) { return i < 0 ? std::max<int64_t>(i, -n) + n : std::min(i, n); };
  int64_t to = bound(end->front());
  Known out{data->element, {}, {}};
  for (int64_t i = bound(start->front()); i < to; i += std::min(by, n))
    out.values.push_back(data->values[i]);
  out.shape = {static_cast<int64_t>(out.values.size())};
  return out;
}

std::optional<Known> Evaluator::split(unsigned result) {
  auto data = in(0);
  if (!data || data->shape.size() != 1)
    return std::nullopt;
  int64_t at = 0;
  for (unsigned i = 0; i <= result; ++i) {
    auto part = dyn_cast<RankedTensorType>(op->getResult(i).getType());
    if (!part || part.getRank() != 1 || !part.hasStaticShape())
      return std::nullopt;
    int64_t size = part.getDimSize(0);
    if (at + size > data->shape[0])
      return std::nullopt;
    if (i == result) {
      auto values = ArrayRef(data->values).slice(at, size);
      return Known{data->element, {size}, {values.begin(), values.end()}};
    }
    at += size;
  }
  return std::nullopt;
}

std::optional<Known> Evaluator::concat() {
  Known out;
  for (unsigned i = 0; i < op->getNumOperands(); ++i) {
    auto part = in(i);
    if (!part || part->shape.size() != 1 || (i > 0 && part->element != out.element))
      return std::nullopt;
    out.element = part->element;
    out.values.append(part->values.begin(), part->values.end());
  }
  out.shape = {static_cast<int64_t>(out.values.size())};
  return out;
}

// ConstantOfShape.
std::optional<Known> Evaluator::fill() {
  auto shape = ints(0);
  if (!shape)
    return std::nullopt;
  int64_t count = countOf(*shape);
  auto value = op->getAttrOfType<DenseElementsAttr>("value");
  if (count < 0 || (op->hasAttr("value") && (!value || value.getNumElements() != 1)))
    return std::nullopt;
  Known out{Float32Type::get(op->getContext()), *shape, {}};
  std::optional<Number> number = Number{};
  if (value) {
    auto one = fromAttribute(value);
    if (!one)
      return std::nullopt;
    out.element = one->element;
    number = one->values.front();
  }
  out.values.assign(count, number);
  return out;
}

std::optional<Known> Evaluator::range() {
  auto start = ints(0), limit = ints(1), delta = ints(2);
  if (!start || !limit || !delta || start->size() != 1 || limit->size() != 1 ||
      delta->size() != 1 || delta->front() == 0)
    return std::nullopt;
  Known out{in(0)->element, {}, {}};
  int64_t by = delta->front(), to = limit->front();
  for (int64_t i = start->front(); by > 0 ? i < to : i > to;) {
    out.values.push_back(Number{i});
    if (static_cast<int64_t>(out.values.size()) > kMaxFoldedElements || llvm::AddOverflow(i, by, i))
      return std::nullopt;
  }
  out.shape = {static_cast<int64_t>(out.values.size())};
  return out;
}

std::optional<Known> Evaluator::expand() {
  auto data = in(0);
  auto shape = ints(1);
  if (!data || !shape)
    return std::nullopt;
  auto wanted = broadcastShape(data->shape, *shape);
  if (!wanted || countOf(*wanted) < 0)
    return std::nullopt;
  return broadcast(*data, *wanted);
}

// Reshape, Squeeze, Unsqueeze, Flatten: the type of the result says the shape.
std::optional<Known> Evaluator::reshaped(RankedTensorType type) {
  auto data = in(0);
  if (!data || countOf(type.getShape()) != static_cast<int64_t>(data->values.size()))
    return std::nullopt;
  data->shape = SmallVector<int64_t>(type.getShape());
  return data;
}

std::optional<Known> Evaluator::castTo(RankedTensorType type) {
  auto data = in(0);
  if (!data || !handled(type.getElementType()))
    return std::nullopt;
  return convert(*data, type.getElementType());
}

// Of a vector, over its only axis.
std::optional<Known> Evaluator::reduce() {
  auto data = in(0);
  if (!data || data->isFloat() || !data->complete() || data->shape.size() != 1)
    return std::nullopt;
  if (op->getNumOperands() > 1 && !isAbsent(op->getOperand(1))) {
    auto axes = ints(1);
    if (!axes || axes->size() != 1)
      return std::nullopt;
  } else if (attr("noop_with_empty_axes", 0) != 0) {
    return std::nullopt;
  }
  StringRef name = op->getName().stripDialect().drop_front(strlen("Reduce"));
  Known out{data->element, {}, {Number{name == "Prod" ? 1 : 0}}};
  if (attr("keepdims", 1) != 0)
    out.shape = {1};
  for (const auto &v : data->values) {
    auto next = scalar(name == "Prod" ? "Mul" : "Add", data->element, *out.values[0], *v);
    if (!next)
      return std::nullopt;
    out.values[0] = *next;
  }
  return out;
}

std::optional<Known> Evaluator::compute(Operation *at, unsigned result) {
  op = at;
  StringRef name = op->getName().stripDialect();
  auto type = dyn_cast<RankedTensorType>(op->getResult(result).getType());
  if (!type || countOf(type.getShape()) < 0 || op->getNumOperands() == 0)
    return std::nullopt;
  if (name == "Where")
    return where(in(0), in(1), in(2));
  if (isBinary(name) && op->getNumOperands() == 2)
    return binary(name, in(0), in(1));
  if (isUnary(name))
    return unary(name, in(0));
  return llvm::StringSwitch<std::function<std::optional<Known>()>>(name)
      .Case("Shape", [&] { return shapeOf(); })
      .Case("Gather", [&] { return gather(); })
      .Case("Slice", [&] { return slice(); })
      .Case("Split", [&] { return split(result); })
      .Case("Concat", [&] { return concat(); })
      .Case("ConstantOfShape", [&] { return fill(); })
      .Case("Range", [&] { return range(); })
      .Case("Expand", [&] { return expand(); })
      .Cases({"Reshape", "Squeeze", "Unsqueeze", "Flatten"}, [&] { return reshaped(type); })
      .Case("Identity", [&] { return in(0); })
      .Case("Cast", [&] { return castTo(type); })
      .Cases({"ReduceProd", "ReduceSum"}, [&] { return reduce(); })
      .Default([] { return std::optional<Known>(); })();
}

std::optional<Known> Evaluator::value(Value v, int above) {
  DenseElementsAttr dense;
  if (matchPattern(v, m_Constant(&dense)))
    return fromAttribute(dense);
  auto result = dyn_cast<OpResult>(v);
  if (!result || above >= kMaxDepth ||
      !isa_and_nonnull<OnnxDialect>(result.getOwner()->getDialect()))
    return std::nullopt;
  Evaluator inner;
  inner.depth = above + 1;
  return inner.compute(result.getOwner(), result.getResultNumber());
}

} // namespace

std::optional<Known> evaluate(Value value) { return Evaluator().value(value, 0); }

DenseElementsAttr toAttribute(const Known &known, Type type) {
  auto ranked = dyn_cast<RankedTensorType>(type);
  if (!ranked || ranked.getShape() != ArrayRef(known.shape) ||
      ranked.getElementType() != known.element || !known.complete())
    return {};
  if (known.isFloat()) {
    SmallVector<APFloat> values;
    for (const auto &v : known.values) {
      APFloat f(v->f);
      bool lost;
      f.convert(cast<FloatType>(known.element).getFloatSemantics(), APFloat::rmNearestTiesToEven,
                &lost);
      values.push_back(f);
    }
    return DenseElementsAttr::get(ranked, values);
  }
  SmallVector<APInt> values;
  for (const auto &v : known.values)
    values.push_back(APInt(known.element.getIntOrFloatBitWidth(), v->i, /*isSigned=*/true,
                           /*implicitTrunc=*/true));
  return DenseElementsAttr::get(ranked, values);
}

} // namespace moec::onnx
