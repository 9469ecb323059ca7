// The steps of quantised weights.
#include "Evaluate.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/Support/MathExtras.h"

#include <vector>

using namespace moec;
using namespace moec::weights;
using llvm::ArrayRef;

static mlir::Type elementOf(mlir::Value v) {
  return llvm::cast<mlir::RankedTensorType>(v.getType()).getElementType();
}

llvm::Error WeightEvaluator::Data::unpack(const Step &step, char *out) {
  mlir::Type element = step.type.getElementType();
  int64_t bits = element.isIntOrFloat() ? element.getIntOrFloatBitWidth() : 0;
  if (step.op->getNumOperands() != 1 || (bits != 2 && bits != 4 && bits != 8) ||
      elementBytes(elementOf(step.op->getOperand(0))) != 1 ||
      elementsOf(step.op->getOperand(0)) != step.type.getNumElements() * bits / 8)
    return fault(step.value, "needs bytes for elements of 2, 4 or 8 bits");
  int64_t perByte = 8 / bits;
  // In pieces that begin with a byte.
  for (int64_t at = step.first, end = step.first + step.count; at < end;) {
    int64_t byte = at / perByte;
    int64_t stop = std::min(end, (byte + kChunkBytes) * perByte);
    auto piece = get(step.op->getOperand(0), byte, llvm::divideCeil(stop, perByte) - byte);
    if (!piece)
      return piece.takeError();
    unpackElements(element, piece->bytes.data(), at - byte * perByte, stop - at,
                   out + (at - step.first) * step.bytes);
    touched(piece->mapped);
    at = stop;
  }
  return llvm::Error::success();
}

template <typename T>
llvm::Error WeightEvaluator::Data::numbers(mlir::Value value, int64_t first, int64_t count,
                                           std::vector<T> &out) {
  mlir::MLIRContext *context = value.getContext();
  mlir::Type wanted = sizeof(T) == 4 ? mlir::Type(mlir::Float32Type::get(context))
                                     : mlir::Type(mlir::Float64Type::get(context));
  out.resize(static_cast<size_t>(count));
  auto piece = get(value, first, count);
  if (!piece)
    return piece.takeError();
  convertElements(elementOf(value), piece->bytes.data(), wanted,
                  reinterpret_cast<char *>(out.data()), count);
  touched(piece->mapped);
  return llvm::Error::success();
}

namespace {

// Rows are runs along the last axis. Those of one matrix, the last two axes, have scales in
// neighbouring rows.
struct Layout {
  ArrayRef<int64_t> dims, blocks, scales; // one axis for scalars
  int64_t matrix() const { return dims.size() > 1 ? dims[dims.size() - 2] : 1; }
  int64_t scaleRow(int64_t row) const {
    int64_t result = 0, stride = 1;
    for (size_t axis = dims.size() - 1; axis-- > 0; row /= dims[axis]) {
      result += row % dims[axis] / blocks[axis] * stride;
      stride *= scales[axis];
    }
    return result;
  }
};

// The numbers of a request's operands for some rows.
template <typename T>
struct Numbers {
  std::vector<T> in, scale, zero;
};

// Elements [begin, end) of the layout, which are `n.in` and become their result; the scales are
// rows `firstScale` and on.
template <typename T>
void scaleAll(const Layout &layout, int64_t begin, int64_t end, int64_t firstScale, Numbers<T> &n) {
  int64_t width = layout.dims.back(), block = layout.blocks.back(), perRow = layout.scales.back();
  bool single = n.zero.size() <= 1;
  T zero = n.zero.empty() ? T(0) : n.zero[0];
  T *number = n.in.data();
  for (int64_t row = begin / width; row * width < end; ++row) {
    int64_t first = std::max(begin - row * width, int64_t(0));
    int64_t last = std::min(end - row * width, width);
    int64_t scales = (layout.scaleRow(row) - firstScale) * perRow;
    for (int64_t i = first; i < last;) {
      int64_t at = scales + i / block;
      int64_t stop =
          std::min(last, i / block >= (last - 1) / block ? last : (i / block + 1) * block);
      T scale = n.scale[static_cast<size_t>(at)];
      if (!single)
        zero = n.zero[static_cast<size_t>(at)];
      for (; i < stop; ++i, ++number)
        *number = (*number - zero) * scale;
    }
  }
}

// Differences of such numbers, and their products with an f32, are rounded once in f32 too.
bool isExactInFloats(mlir::Operation *op, mlir::Type result) {
  mlir::Type in = elementOf(op->getOperand(0)), scale = elementOf(op->getOperand(1));
  if (!result.isF32() || scale.getIntOrFloatBitWidth() > 32 || in.getIntOrFloatBitWidth() > 8)
    return false;
  if (op->getNumOperands() < 3)
    return true;
  mlir::Type zero = elementOf(op->getOperand(2));
  return in.isInteger() && zero.isInteger() && zero.getIntOrFloatBitWidth() <= 8;
}

} // namespace

static llvm::Error check(const Step &step, ArrayRef<int64_t> blocks) {
  ArrayRef<int64_t> dims = step.type.getShape();
  mlir::ValueRange operands = step.op->getOperands();
  if (operands.size() < 2 || operands.size() > 3 || blocks.size() != dims.size())
    return fault(step.value, "needs an operand, scales, and a block size for each axis");
  llvm::SmallVector<int64_t> wanted;
  for (auto [dim, block] : llvm::zip(dims, blocks)) {
    if (block < 1)
      return fault(step.value, "needs a block size of at least 1");
    wanted.push_back(dim / block + (dim % block != 0));
  }
  bool single = operands.size() < 3 || elementsOf(operands[2]) == 1;
  if (shapeOf(operands[0]) != dims || shapeOf(operands[1]) != ArrayRef(wanted) ||
      (!single && shapeOf(operands[2]) != ArrayRef(wanted)))
    return fault(step.value, "has shapes that do not fit");
  for (mlir::Value operand : operands)
    if (!elementOf(operand).isIntOrFloat())
      return fault(step.value, "of complex numbers is unsupported");
  return llvm::Error::success();
}

static Layout layoutOf(const Step &step) {
  static constexpr int64_t kOne[] = {1};
  if (step.type.getRank() == 0)
    return {kOne, kOne, kOne};
  return {step.type.getShape(), step.op->getAttrOfType<mlir::DenseI64ArrayAttr>("blocks"),
          shapeOf(step.op->getOperand(1))};
}

template <typename T>
llvm::Error WeightEvaluator::Data::dequantizeAs(const Step &step, char *out) {
  constexpr int64_t kPiece = 1 << 18;
  mlir::ValueRange operands = step.op->getOperands();
  mlir::MLIRContext *context = step.op->getContext();
  mlir::Type computed = sizeof(T) == 4 ? mlir::Type(mlir::Float32Type::get(context))
                                       : mlir::Type(mlir::Float64Type::get(context));
  Layout layout = layoutOf(step);
  int64_t width = layout.dims.back(), perRow = layout.scales.back(), matrix = layout.matrix();
  bool zeros = operands.size() > 2, single = zeros && elementsOf(operands[2]) == 1;
  Numbers<T> n;
  if (single)
    if (llvm::Error error = numbers(operands[2], 0, 1, n.zero))
      return error;
  int64_t end = step.first + step.count;
  for (int64_t row = step.first / width; row * width < end;) {
    int64_t last = std::min<int64_t>({(end + width - 1) / width, (row / matrix + 1) * matrix,
                                      row + std::max<int64_t>(1, kPiece / width)});
    int64_t begin = std::max(step.first, row * width), stop = std::min(end, last * width);
    int64_t scale = layout.scaleRow(row), scales = layout.scaleRow(last - 1) + 1 - scale;
    if (llvm::Error error = numbers(operands[0], begin, stop - begin, n.in))
      return error;
    if (llvm::Error error = numbers(operands[1], scale * perRow, scales * perRow, n.scale))
      return error;
    if (zeros && !single)
      if (llvm::Error error = numbers(operands[2], scale * perRow, scales * perRow, n.zero))
        return error;
    scaleAll(layout, begin, stop, scale, n);
    convertElements(computed, reinterpret_cast<const char *>(n.in.data()),
                    step.type.getElementType(), out + (begin - step.first) * step.bytes,
                    stop - begin);
    row = last;
  }
  return llvm::Error::success();
}

llvm::Error WeightEvaluator::Data::dequantize(const Step &step, char *out) {
  auto blocks = step.op->getAttrOfType<mlir::DenseI64ArrayAttr>("blocks");
  if (!blocks)
    return fault(step.value, "needs block sizes");
  if (llvm::Error error = check(step, blocks))
    return error;
  return isExactInFloats(step.op, step.type.getElementType()) ? dequantizeAs<float>(step, out)
                                                              : dequantizeAs<double>(step, out);
}
