#include "SymbolicInternal.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace moec::prepare {

namespace {

// An axis counted from the front.
int64_t front(int64_t axis, int64_t rank) { return axis < 0 ? axis + rank : axis; }

int64_t rankOf(Value v) {
  auto type = v ? rankedType(v) : RankedTensorType();
  return type ? type.getRank() : -1;
}

Size argumentSize(BlockArgument arg, int64_t dim) {
  auto func = dyn_cast<FunctionOpInterface>(arg.getOwner()->getParentOp());
  auto dims = func ? dyn_cast_or_null<ArrayAttr>(
                         func.getArgAttr(arg.getArgNumber(), "onnx.dims"))
                   : ArrayAttr();
  auto name = dims && dim < static_cast<int64_t>(dims.size())
                  ? dyn_cast<StringAttr>(dims[dim])
                  : StringAttr();
  Size size;
  if (name && !name.getValue().empty())
    size.symbol = name;
  return size;
}

// What broadcasting makes of the operands' sizes, counted from the last axis.
Size broadcastSize(ValueRange operands, int64_t fromBack, SymbolicSizes &sizes) {
  Size found;
  bool agree = true;
  for (Value operand : operands) {
    int64_t at = rankOf(operand) - fromBack;
    if (rankOf(operand) < 0)
      return {};
    Size size = at < 0 ? number(1) : dimOf(operand, at, sizes);
    if (size.number == 1)
      continue;
    if (size.number)
      return size; // the others are equal or one
    agree &= !found.known() || found == size;
    found = size;
  }
  return !agree ? Size() : found.known() ? found : number(1);
}

// A product of sizes.
struct Product {
  int64_t number = 1; // -1: too large
  SmallVector<Size> sizes;
};

std::optional<Product> inferred(Operation *op, const Sizes &target, SymbolicSizes &sizes);

// The target of a reshape, its zeros as the sizes that they stand for.
Sizes targetOf(Operation *op, SymbolicSizes &sizes) {
  Sizes target = vectorOf(op->getOperand(1), sizes);
  if (intAttr(op, "allowzero", 0) == 0)
    for (auto [i, size] : llvm::enumerate(target))
      if (size.number == 0)
        size = dimOf(op->getOperand(0), static_cast<int64_t>(i), sizes);
  return target;
}

void multiply(Product &product, int64_t n) {
  if (product.number < 0 || llvm::MulOverflow(product.number, n, product.number))
    product.number = -1;
}

// Multiplies by a size; by the sizes that a reshape joined in it, where they are known.
void multiply(Product &product, const Size &size, SymbolicSizes &sizes) {
  if (size.number)
    return multiply(product, *size.number);
  Operation *op = size.of && !size.element ? size.of.getDefiningOp() : nullptr;
  if (Descent descent(sizes); descent.allowed() && onnxName(op) == "Reshape") {
    Sizes target = targetOf(op, sizes);
    if (size.dim < static_cast<int64_t>(target.size()) && target[size.dim].number == -1)
      if (auto joined = inferred(op, target, sizes)) {
        multiply(product, joined->number);
        product.sizes.append(joined->sizes);
        return;
      }
  }
  product.sizes.push_back(size);
}

// The -1 of a reshape: what is left of the operand when the sizes that stand on
// both sides are taken away.
std::optional<Product> inferred(Operation *op, const Sizes &target, SymbolicSizes &sizes) {
  Value x = op->getOperand(0);
  Product above, below;
  for (int64_t i = 0; i < rankOf(x); ++i)
    multiply(above, dimOf(x, i, sizes), sizes);
  for (const Size &size : target)
    if (size.number != -1)
      multiply(below, size, sizes);
  for (const Size &size : below.sizes) {
    auto *it = llvm::find(above.sizes, size);
    if (!size.known() || it == above.sizes.end())
      return std::nullopt;
    above.sizes.erase(it);
  }
  if (below.number <= 0 || above.number < 0 || above.number % below.number != 0)
    return std::nullopt;
  above.number /= below.number;
  return above;
}

Size reshaped(Operation *op, int64_t dim, SymbolicSizes &sizes) {
  if (rankOf(op->getOperand(0)) < 0)
    return {};
  Sizes target = targetOf(op, sizes);
  if (dim >= static_cast<int64_t>(target.size()))
    return {};
  const Size &size = target[dim];
  if (size.number == -1) {
    auto left = inferred(op, target, sizes);
    if (!left || left->sizes.size() > 1 || (left->sizes.size() == 1 && left->number != 1))
      return {};
    return left->sizes.empty() ? number(left->number) : left->sizes.front();
  }
  return size.isDim() || (size.number && *size.number > 0) ? size : Size();
}

Size unsqueezed(Operation *op, int64_t dim, int64_t rank, SymbolicSizes &sizes) {
  auto axes = numbersIn(op->getOperand(1), sizes);
  if (!axes)
    return {};
  int64_t at = dim;
  for (int64_t axis : *axes) {
    if (front(axis, rank) == dim)
      return number(1);
    at -= front(axis, rank) < dim;
  }
  return dimOf(op->getOperand(0), at, sizes);
}

Size squeezed(Operation *op, int64_t dim, SymbolicSizes &sizes) {
  int64_t rank = rankOf(op->getOperand(0));
  auto axes = op->getNumOperands() > 1 && rank >= 0
                  ? numbersIn(op->getOperand(1), sizes)
                  : std::nullopt;
  if (!axes || axes->empty())
    return {};
  for (int64_t at = 0; at < rank; ++at) {
    bool gone = llvm::any_of(*axes, [&](int64_t a) { return front(a, rank) == at; });
    if (!gone && dim-- == 0)
      return dimOf(op->getOperand(0), at, sizes);
  }
  return {};
}

Size product(Operation *op, int64_t dim, int64_t rank, SymbolicSizes &sizes) {
  Value a = op->getOperand(0), b = op->getOperand(1);
  int64_t ra = rankOf(a), rb = rankOf(b);
  if (ra < 2 || rb < 2)
    return {};
  if (dim == rank - 1)
    return dimOf(b, rb - 1, sizes);
  if (dim == rank - 2)
    return dimOf(a, ra - 2, sizes);
  return broadcastSize({a, b}, rank - dim, sizes);
}

Size gathered(Operation *op, int64_t dim, SymbolicSizes &sizes) {
  Value data = op->getOperand(0), index = op->getOperand(1);
  int64_t rank = rankOf(data), ri = rankOf(index);
  if (rank < 0 || ri < 0)
    return {};
  int64_t axis = front(intAttr(op, "axis", 0), rank);
  if (dim < axis)
    return dimOf(data, dim, sizes);
  if (dim < axis + ri)
    return dimOf(index, dim - axis, sizes);
  return dimOf(data, dim - ri + 1, sizes);
}

// Axes that the operation does not cut keep their size.
Size sliced(Operation *op, int64_t dim, SymbolicSizes &sizes) {
  int64_t rank = rankOf(op->getOperand(0));
  auto axes = op->getNumOperands() > 3 && rank >= 0
                  ? numbersIn(op->getOperand(3), sizes)
                  : std::nullopt;
  if (!axes || axes->empty() ||
      llvm::any_of(*axes, [&](int64_t a) { return front(a, rank) == dim; }))
    return {};
  return dimOf(op->getOperand(0), dim, sizes);
}

Size expanded(Operation *op, int64_t dim, int64_t rank, SymbolicSizes &sizes) {
  int64_t at = dim - (rank - rankOf(op->getOperand(0)));
  Size from = at >= 0 ? dimOf(op->getOperand(0), at, sizes) : number(1);
  if (from.number && *from.number != 1)
    return from;
  Sizes target = vectorOf(op->getOperand(1), sizes);
  int64_t index = dim - (rank - static_cast<int64_t>(target.size()));
  if (target.empty() || index < 0)
    return {};
  const Size &to = target[index];
  if (to.number && *to.number > 1)
    return to;
  if (to.number == 1)
    return from;
  return from.number == 1 && to.isDim() ? to : Size();
}

Size reduced(Operation *op, int64_t dim, SymbolicSizes &sizes) {
  int64_t rank = rankOf(op->getOperand(0));
  auto axes = op->getNumOperands() > 1 && rank >= 0
                  ? numbersIn(op->getOperand(1), sizes)
                  : std::nullopt;
  bool keep = intAttr(op, "keepdims", 1) != 0;
  if (!axes || axes->empty())
    return {};
  auto gone = [&](int64_t at) {
    return llvm::any_of(*axes, [&](int64_t a) { return front(a, rank) == at; });
  };
  if (keep)
    return gone(dim) ? number(1) : dimOf(op->getOperand(0), dim, sizes);
  for (int64_t at = 0; at < rank; ++at)
    if (!gone(at) && dim-- == 0)
      return dimOf(op->getOperand(0), at, sizes);
  return {};
}

// A convolution with stride 1 whose padding makes up for its kernel keeps an image's size.
Size convolved(Operation *op, int64_t dim, int64_t rank, SymbolicSizes &sizes) {
  auto kernel = rankedType(op->getOperand(1));
  if (dim == 0)
    return dimOf(op->getOperand(0), 0, sizes);
  if (!kernel || kernel.getRank() != rank || kernel.isDynamicDim(dim))
    return {};
  if (dim == 1)
    return kernel.isDynamicDim(0) ? Size() : number(kernel.getDimSize(0));
  auto padding = op->getAttrOfType<StringAttr>("auto_pad");
  auto ints = [&](StringRef name, int64_t at, int64_t otherwise) {
    auto attr = op->getAttrOfType<DenseI64ArrayAttr>(name);
    return attr && at < attr.size() ? attr[at] : otherwise;
  };
  int64_t at = dim - 2;
  int64_t padded = ints("pads", at, 0) + ints("pads", at + rank - 2, 0);
  bool same = ints("strides", at, 1) == 1 && (!padding || padding.getValue() == "NOTSET") &&
              padded == ints("dilations", at, 1) * (kernel.getDimSize(dim) - 1);
  return same ? dimOf(op->getOperand(0), dim, sizes) : Size();
}

// A label has the size that it has in some operand; axes of one broadcast.
Size labelled(Operation *op, int64_t dim, int64_t rank, SymbolicSizes &sizes) {
  auto attr = op->getAttrOfType<StringAttr>("equation");
  std::string text = attr ? attr.str() : std::string();
  llvm::erase(text, ' ');
  auto [left, right] = StringRef(text).split("->");
  SmallVector<StringRef> terms;
  left.split(terms, ',');
  if (left.contains('.') || static_cast<int64_t>(right.size()) != rank ||
      terms.size() != op->getNumOperands())
    return {};
  Size found;
  for (auto [term, operand] : llvm::zip(terms, op->getOperands())) {
    size_t at = term.find(right[dim]);
    Size size = at == StringRef::npos ? number(1) : dimOf(operand, int64_t(at), sizes);
    if (size.number == 1)
      continue;
    if (size.number)
      return size;
    if (found.known() && !(found == size))
      return {};
    found = size;
  }
  return found.known() ? found : number(1);
}

// The size of a result's dimension by the meaning of its operation.
Size byOperation(Operation *op, StringRef n, int64_t dim, int64_t rank, SymbolicSizes &sizes) {
  static const llvm::StringSet<> same = {
      "Abs",  "Cast", "Ceil",    "Clip",       "Cos",     "CumSum",   "Erf",
      "ScatterElements", "ScatterND",
      "Exp",  "Floor", "Gelu",   "Identity",   "IsNaN",   "LayerNormalization",
      "Log",  "Neg",  "Not",     "RMSNormalization", "Reciprocal", "Relu", "Round",
      "Sigmoid", "Sign", "Sin",  "Softmax",    "Softplus", "Sqrt",    "Swish",
      "Tanh"};
  static const llvm::StringSet<> broadcasts = {
      "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less",
      "LessOrEqual", "Max", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Where", "Xor"};
  if (same.contains(n))
    return dimOf(op->getOperand(0), dim, sizes);
  if (broadcasts.contains(n))
    return broadcastSize(op->getOperands(), rank - dim, sizes);
  if (n == "Transpose") {
    auto perm = op->getAttrOfType<DenseI64ArrayAttr>("perm");
    return perm && perm.size() == rank
               ? dimOf(op->getOperand(0), perm[dim], sizes)
               : Size();
  }
  if (n == "Concat")
    return dim == front(intAttr(op, "axis", 0), rank)
               ? Size()
               : dimOf(op->getOperand(0), dim, sizes);
  if (n == "Split")
    return dim == front(intAttr(op, "axis", 0), rank)
               ? Size()
               : dimOf(op->getOperand(0), dim, sizes);
  if (n == "TopK") {
    if (dim != front(intAttr(op, "axis", -1), rank))
      return dimOf(op->getOperand(0), dim, sizes);
    Sizes count = vectorOf(op->getOperand(1), sizes);
    return count.size() == 1 ? count[0] : Size();
  }
  if (n == "GatherElements")
    return dimOf(op->getOperand(1), dim, sizes);
  // Contributed normalisations and rotations keep the shape of what they take.
  if (n == "custom") {
    auto type = op->getAttrOfType<StringAttr>("op_type");
    bool keeps = type && (type == "RotaryEmbedding" ||
                          type == "SimplifiedLayerNormalization" ||
                          type == "SkipSimplifiedLayerNormalization");
    bool sameRank = keeps && rankOf(op->getOperand(0)) == rank;
    return sameRank ? dimOf(op->getOperand(0), dim, sizes) : Size();
  }
  if (n == "Conv")
    return convolved(op, dim, rank, sizes);
  if (n == "Reshape")
    return reshaped(op, dim, sizes);
  if (n == "Unsqueeze")
    return unsqueezed(op, dim, rank, sizes);
  if (n == "Squeeze")
    return squeezed(op, dim, sizes);
  if (n == "MatMul")
    return product(op, dim, rank, sizes);
  if (n == "Einsum")
    return labelled(op, dim, rank, sizes);
  if (n == "Gemm") {
    bool turned = intAttr(op, dim == 0 ? "transA" : "transB", 0) != 0;
    return dimOf(op->getOperand(dim), turned ? 1 - dim : dim, sizes);
  }
  if (n == "Gather")
    return gathered(op, dim, sizes);
  if (n == "Slice")
    return sliced(op, dim, sizes);
  if (n == "Expand")
    return expanded(op, dim, rank, sizes);
  if (n == "ReduceMean" || n == "ReduceSum" || n == "ReduceMax" || n == "ReduceMin")
    return reduced(op, dim, sizes);
  return {};
}

} // namespace

Size dimOf(Value v, int64_t dim, SymbolicSizes &sizes) {
  auto type = v ? rankedType(v) : RankedTensorType();
  if (!type || dim < 0 || dim >= type.getRank())
    return {};
  if (!type.isDynamicDim(dim))
    return number(type.getDimSize(dim));
  if (auto it = sizes.known.find({v, dim}); it != sizes.known.end())
    return it->second;
  Size size;
  if (auto arg = dyn_cast<BlockArgument>(v)) {
    size = argumentSize(arg, dim);
  } else if (Descent descent(sizes); descent.allowed()) {
    Operation *op = v.getDefiningOp();
    StringRef n = op->getName().getStringRef();
    if (n.consume_front("onnx."))
      size = byOperation(op, n, dim, type.getRank(), sizes);
  }
  if (!size.known()) {
    size.of = v;
    size.dim = dim;
  }
  sizes.known[{v, dim}] = size;
  return size;
}

std::optional<SmallVector<int64_t>> numbersIn(Value v, SymbolicSizes &sizes) {
  SmallVector<int64_t> out;
  for (const Size &size : vectorOf(v, sizes)) {
    if (!size.number)
      return std::nullopt;
    out.push_back(*size.number);
  }
  return out;
}

} // namespace moec::prepare
