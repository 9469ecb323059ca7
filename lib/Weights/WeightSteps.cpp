// The steps of moe.weights: how a range of each comes from ranges of its operands.
#include "Evaluate.h"
#include "Strided.h"

#include "mlir/IR/BuiltinAttributes.h"

using namespace moec;
using namespace moec::weights;
using llvm::ArrayRef;
using llvm::SmallVector;

static llvm::SmallVector<int64_t> stridesOf(ArrayRef<int64_t> dims) {
  SmallVector<int64_t> strides(dims.size(), 1);
  for (size_t i = dims.size(); i-- > 1;)
    strides[i - 1] = strides[i] * dims[i];
  return strides;
}

static std::optional<ArrayRef<int64_t>> ints(mlir::Operation *op, llvm::StringRef name) {
  auto attr = op->getAttrOfType<mlir::DenseI64ArrayAttr>(name);
  return attr ? std::optional(attr.asArrayRef()) : std::nullopt;
}

static bool isReal(mlir::Type type) { return type.isIntOrFloat(); }

// Clips elements [at, at + n) to the request and copies them to their place in `out`.
static void clip(const weights::Step &step, int64_t at, int64_t n, const char *from, char *out) {
  int64_t begin = std::max(at, step.first), end = std::min(at + n, step.first + step.count);
  if (begin < end)
    std::memcpy(out + (begin - step.first) * step.bytes, from + (begin - at) * step.bytes,
                static_cast<size_t>((end - begin) * step.bytes));
}

llvm::Error
WeightEvaluator::Data::stream(mlir::Value value, int64_t first, int64_t count, int64_t unit,
                              llvm::function_ref<void(int64_t, int64_t, const char *)> use) {
  auto type = llvm::cast<mlir::RankedTensorType>(value.getType());
  int64_t bytes = elementBytes(type.getElementType());
  int64_t step = std::max<int64_t>(1, kChunkBytes / bytes / std::max<int64_t>(1, unit)) * unit;
  for (int64_t done = 0; done < count; done += step) {
    int64_t n = std::min(step, count - done);
    auto piece = get(value, first + done, n);
    if (!piece)
      return piece.takeError();
    use(first + done, n, piece->bytes.data());
    touched(piece->mapped);
  }
  return llvm::Error::success();
}

llvm::Error WeightEvaluator::Data::cast(const Step &step, char *out) {
  if (step.op->getNumOperands() != 1 ||
      shapeOf(step.op->getOperand(0)) != step.type.getShape())
    return fault(step.value, "changes the shape");
  mlir::Value operand = step.op->getOperand(0);
  mlir::Type from = llvm::cast<mlir::RankedTensorType>(operand.getType()).getElementType();
  mlir::Type to = step.type.getElementType();
  if (!isReal(from) || !isReal(to))
    return fault(step.value, "of complex numbers is unsupported");
  return stream(operand, step.first, step.count, 1, [&](int64_t at, int64_t n, const char *in) {
    convertElements(from, in, to, out + (at - step.first) * step.bytes, n);
  });
}

// One unit of a transpose whose first axis moves: elements [first, first + count) of the unit's
// result. The operand's unit begins at element `base` and is read in pieces of its own axis 0.
llvm::Error WeightEvaluator::Data::transposeUnit(const Step &step, int64_t base,
                                                 ArrayRef<int64_t> dims, ArrayRef<int64_t> perm,
                                                 int64_t first, int64_t count, char *out) {
  size_t rank = dims.size();
  if (rank == 0)
    return into(step.op->getOperand(0), base, 1, out);
  SmallVector<int64_t> outDims(rank), inStrides = stridesOf(dims);
  for (size_t i = 0; i < rank; ++i)
    outDims[i] = dims[perm[i]];
  SmallVector<int64_t> outStrides = stridesOf(outDims);
  int64_t low = first / outStrides[0];
  int64_t high = (first + count + outStrides[0] - 1) / outStrides[0];
  // Whole rows of the result; a request that cuts rows goes through a buffer.
  std::unique_ptr<char[]> buffer;
  char *target = out;
  if (first != low * outStrides[0] || count != (high - low) * outStrides[0]) {
    buffer.reset(new char[static_cast<size_t>((high - low) * outStrides[0] * step.bytes)]);
    target = buffer.get();
  }
  size_t moved = static_cast<size_t>(llvm::find(perm, 0) - perm.begin());
  SmallVector<int64_t> sizes = outDims, strides(rank);
  sizes[0] = high - low;
  for (size_t i = 0; i < rank; ++i)
    strides[i] = inStrides[perm[i]];
  llvm::Error error = stream(
      step.op->getOperand(0), base, product(dims), inStrides[0],
      [&](int64_t at, int64_t n, const char *in) {
        int64_t row = (at - base) / inStrides[0];
        sizes[moved] = n / inStrides[0];
        copyStrided(sizes, in + low * strides[0] * step.bytes, strides,
                    target + row * outStrides[moved] * step.bytes, outStrides, step.bytes);
      });
  if (error)
    return error;
  if (buffer)
    std::memcpy(out, buffer.get() + (first - low * outStrides[0]) * step.bytes,
                static_cast<size_t>(count * step.bytes));
  return llvm::Error::success();
}

llvm::Error WeightEvaluator::Data::transpose(const Step &step, char *out) {
  auto perm = ints(step.op, "perm");
  if (step.op->getNumOperands() != 1 || !perm)
    return fault(step.value, "needs an operand and perm");
  ArrayRef<int64_t> dims = shapeOf(step.op->getOperand(0));
  SmallVector<bool> seen(dims.size(), false);
  for (auto [i, p] : llvm::enumerate(*perm)) {
    if (perm->size() != dims.size() || p < 0 || p >= static_cast<int64_t>(dims.size()) || seen[p] ||
        step.type.getDimSize(i) != dims[p])
      return fault(step.value, "has a perm that does not fit");
    seen[p] = true;
  }
  size_t kept = 0;
  while (kept < dims.size() && (*perm)[kept] == static_cast<int64_t>(kept))
    ++kept;
  SmallVector<int64_t> inner;
  for (int64_t p : perm->drop_front(kept))
    inner.push_back(p - static_cast<int64_t>(kept));
  ArrayRef<int64_t> innerDims = dims.drop_front(kept);
  int64_t unit = product(innerDims);
  for (int64_t at = step.first, end = step.first + step.count; at < end;) {
    int64_t base = at / unit * unit, n = std::min(end, base + unit) - at;
    if (llvm::Error error = transposeUnit(step, base, innerDims, inner, at - base, n,
                                          out + (at - step.first) * step.bytes))
      return error;
    at += n;
  }
  return llvm::Error::success();
}

llvm::Error WeightEvaluator::Data::slice(const Step &step, char *out) {
  auto offsets = ints(step.op, "offsets"), sizes = ints(step.op, "sizes");
  auto strides = ints(step.op, "strides");
  if (step.op->getNumOperands() != 1 || !offsets || !sizes || !strides)
    return fault(step.value, "needs an operand, offsets, sizes and strides");
  mlir::Value operand = step.op->getOperand(0);
  ArrayRef<int64_t> dims = shapeOf(operand);
  size_t rank = dims.size(), axis = rank;
  if (offsets->size() != rank || sizes->size() != rank || strides->size() != rank ||
      *sizes != step.type.getShape())
    return fault(step.value, "has bounds of another rank or shape");
  for (size_t i = rank; i-- > 0;) {
    int64_t offset = (*offsets)[i], size = (*sizes)[i], stride = (*strides)[i];
    if (offset < 0 || size < 0 || stride < 1 ||
        (size > 0 && (offset >= dims[i] || size - 1 > (dims[i] - 1 - offset) / stride)))
      return fault(step.value, "leaves its operand on axis " + llvm::Twine(i));
    if (size != dims[i])
      axis = i;
  }
  if (axis == rank)
    return into(operand, step.first, step.count, out);
  // Below `axis`: one block of the result is a box in one block of the operand.
  ArrayRef<int64_t> inDims = dims.drop_front(axis + 1), outDims = sizes->drop_front(axis + 1);
  int64_t inBlock = product(inDims), outBlock = product(outDims);
  int64_t size = (*sizes)[axis], stride = (*strides)[axis];
  SmallVector<int64_t> allStrides = stridesOf(inDims), outStrides = stridesOf(outDims), box;
  int64_t corner = 0;
  for (size_t i = 0; i < inDims.size(); ++i) {
    corner += (*offsets)[axis + 1 + i] * allStrides[i];
    box.push_back(allStrides[i] * (*strides)[axis + 1 + i]);
  }
  std::unique_ptr<char[]> buffer(new char[static_cast<size_t>(outBlock * step.bytes)]);
  int64_t end = step.first + step.count;
  for (int64_t block = step.first / outBlock; block * outBlock < end;) {
    int64_t outer = block / size, i = block % size;
    int64_t last = std::min(size, i + ((end + outBlock - 1) / outBlock - block));
    int64_t from = (outer * dims[axis] + (*offsets)[axis] + i * stride) * inBlock;
    // Wide gaps are skipped, narrow ones are read with the rest.
    if (stride > 1 && stride * inBlock * step.bytes > kChunkBytes)
      last = i + 1;
    int64_t span = ((last - i - 1) * stride + 1) * inBlock;
    llvm::Error error =
        stream(operand, from, span, stride * inBlock, [&](int64_t at, int64_t n, const char *in) {
          for (int64_t k = 0; k < n; k += stride * inBlock) {
            int64_t target = (block + (at - from + k) / (stride * inBlock)) * outBlock;
            const char *source = in + k * step.bytes;
            if (outBlock != inBlock || corner != 0) {
              copyStrided(outDims, source + corner * step.bytes, box, buffer.get(), outStrides,
                          step.bytes);
              source = buffer.get();
            }
            clip(step, target, outBlock, source, out);
          }
        });
    if (error)
      return error;
    block += last - i;
  }
  return llvm::Error::success();
}

llvm::Error WeightEvaluator::Data::gather(const Step &step, char *out) {
  auto axisAttr = step.op->getAttrOfType<mlir::IntegerAttr>("axis");
  auto indices = ints(step.op, "indices");
  if (step.op->getNumOperands() != 1 || !axisAttr || !indices)
    return fault(step.value, "needs an operand, axis and indices");
  mlir::Value operand = step.op->getOperand(0);
  SmallVector<int64_t> dims(shapeOf(operand));
  int64_t axis = axisAttr.getInt();
  if (axis < 0 || axis >= static_cast<int64_t>(dims.size()))
    return fault(step.value, "has an axis that does not exist");
  int64_t have = dims[axis], block = product(ArrayRef(dims).drop_front(axis + 1));
  dims[axis] = static_cast<int64_t>(indices->size());
  if (ArrayRef(dims) != step.type.getShape())
    return fault(step.value, "has a type that does not fit");
  for (int64_t index : *indices)
    if (index < 0 || index >= have)
      return fault(step.value, "has index " + llvm::Twine(index) + " on an axis of " +
                                   llvm::Twine(have));
  bool wide = block * step.bytes >= 4096;
  int64_t row = -1, end = step.first + step.count;
  Piece rows;
  for (int64_t b = step.first / block; b * block < end; ++b) {
    int64_t outer = b / dims[axis], index = (*indices)[b % dims[axis]];
    int64_t begin = std::max(b * block, step.first), n = std::min(b * block + block, end) - begin;
    char *target = out + (begin - step.first) * step.bytes;
    if (wide) {
      int64_t from = (outer * have + index) * block + begin - b * block;
      if (llvm::Error error = into(operand, from, n, target))
        return error;
      continue;
    }
    if (outer != row) {
      auto piece = get(operand, outer * have * block, have * block);
      if (!piece)
        return piece.takeError();
      touched(piece->mapped);
      rows = std::move(*piece);
      row = outer;
    }
    clip(step, b * block, block, rows.bytes.data() + index * block * step.bytes, out);
  }
  return llvm::Error::success();
}

llvm::Error WeightEvaluator::Data::concat(const Step &step, char *out) {
  auto axisAttr = step.op->getAttrOfType<mlir::IntegerAttr>("axis");
  int64_t rank = step.type.getRank();
  if (!axisAttr || axisAttr.getInt() < 0 || axisAttr.getInt() >= rank)
    return fault(step.value, "needs an axis that exists");
  int64_t axis = axisAttr.getInt(), total = 0;
  ArrayRef<int64_t> dims = step.type.getShape();
  for (mlir::Value operand : step.op->getOperands()) {
    SmallVector<int64_t> shape(shapeOf(operand));
    if (static_cast<int64_t>(shape.size()) != rank)
      return fault(step.value, "joins tensors of different ranks");
    total += shape[axis];
    shape[axis] = dims[axis];
    if (ArrayRef(shape) != dims)
      return fault(step.value, "joins tensors whose other dimensions differ");
  }
  if (total != dims[axis])
    return fault(step.value, "has a type that does not fit");
  int64_t block = product(dims.drop_front(axis + 1)), row = total * block, before = 0;
  int64_t firstRow = step.first / row, endRow = (step.first + step.count + row - 1) / row;
  for (mlir::Value operand : step.op->getOperands()) {
    int64_t part = shapeOf(operand)[axis] * block;
    int64_t begin = firstRow * part, end = endRow * part;
    if (endRow - firstRow == 1) { // only what is asked for, when no second row follows
      int64_t low = step.first - firstRow * row - before;
      begin += std::clamp<int64_t>(low, 0, part);
      end = firstRow * part + std::clamp<int64_t>(low + step.count, 0, part);
    }
    bool whole = endRow - firstRow > 1;
    llvm::Error error = stream(
        operand, begin, end - begin, whole ? part : 1, [&](int64_t at, int64_t n, const char *in) {
          for (int64_t k = 0; k < n;) {
            int64_t r = (at + k) / part, inside = (at + k) % part;
            int64_t length = std::min(part - inside, n - k);
            clip(step, r * row + before + inside, length, in + k * step.bytes, out);
            k += length;
          }
        });
    if (error)
      return error;
    before += part;
  }
  return llvm::Error::success();
}

llvm::Error WeightEvaluator::Data::combine(const Step &step, char *out) {
  auto coefficients = step.op->getAttrOfType<mlir::DenseF64ArrayAttr>("coefficients");
  mlir::Type element = step.type.getElementType();
  if (!coefficients || coefficients.size() != step.op->getNumOperands() || !isReal(element))
    return fault(step.value, "needs a coefficient for each operand and real numbers");
  for (mlir::Value operand : step.op->getOperands())
    if (operand.getType() != step.type)
      return fault(step.value, "combines tensors of different types");
  constexpr int64_t kBlock = 1 << 16;
  std::vector<double> sum, term;
  for (int64_t at = 0; at < step.count; at += kBlock) {
    int64_t n = std::min(kBlock, step.count - at);
    sum.assign(static_cast<size_t>(n), 0.0);
    term.resize(static_cast<size_t>(n));
    for (auto [i, operand] : llvm::enumerate(step.op->getOperands())) {
      auto piece = get(operand, step.first + at, n);
      if (!piece)
        return piece.takeError();
      toDoubles(element, piece->bytes.data(), term.data(), n);
      touched(piece->mapped);
      for (int64_t k = 0; k < n; ++k)
        sum[k] += coefficients[i] * term[k];
    }
    convertElements(mlir::Float64Type::get(step.op->getContext()),
                    reinterpret_cast<const char *>(sum.data()), element, out + at * step.bytes, n);
  }
  return llvm::Error::success();
}

llvm::Error WeightEvaluator::Data::lowRank(const Step &step, char *out) {
  mlir::Type element = step.type.getElementType();
  int64_t rank = step.type.getRank();
  if (step.op->getNumOperands() != 2 || rank < 2 || !isReal(element))
    return fault(step.value, "needs two operands of at least rank 2 and real numbers");
  mlir::Value left = step.op->getOperand(0), right = step.op->getOperand(1);
  ArrayRef<int64_t> a = shapeOf(left), b = shapeOf(right), dims = step.type.getShape();
  if (a.size() != dims.size() || b.size() != dims.size() || a.back() != b[rank - 2] ||
      a.drop_back() != dims.drop_back() || b.drop_back(2) != dims.drop_back(2) ||
      b.back() != dims.back())
    return fault(step.value, "has shapes that do not fit");
  auto elementOf = [](mlir::Value v) {
    return llvm::cast<mlir::RankedTensorType>(v.getType()).getElementType();
  };
  if (!isReal(elementOf(left)) || !isReal(elementOf(right)))
    return fault(step.value, "of complex numbers is unsupported");
  int64_t m = dims[rank - 2], n = dims[rank - 1], r = a.back(), batch = -1;
  std::vector<double> rightRows(static_cast<size_t>(r * n)), leftRow(static_cast<size_t>(r));
  std::vector<double> sum(static_cast<size_t>(n));
  std::vector<char> row(static_cast<size_t>(n * step.bytes));
  for (int64_t i = step.first / n; i * n < step.first + step.count; ++i) {
    if (i / m != batch) {
      batch = i / m;
      auto piece = get(right, batch * r * n, r * n);
      if (!piece)
        return piece.takeError();
      toDoubles(elementOf(right), piece->bytes.data(), rightRows.data(), r * n);
      touched(piece->mapped);
    }
    auto piece = get(left, i * r, r);
    if (!piece)
      return piece.takeError();
    toDoubles(elementOf(left), piece->bytes.data(), leftRow.data(), r);
    touched(piece->mapped);
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t k = 0; k < r; ++k)
      for (int64_t j = 0; j < n; ++j)
        sum[j] += leftRow[k] * rightRows[k * n + j];
    convertElements(mlir::Float64Type::get(step.op->getContext()),
                    reinterpret_cast<const char *>(sum.data()), element, row.data(), n);
    clip(step, i * n, n, row.data(), out);
  }
  return llvm::Error::success();
}
