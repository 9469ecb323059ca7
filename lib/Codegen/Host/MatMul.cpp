// Matrix products: packed weights through gemm, run-time operands through bgemm, other element
// types as loop nests.
#include "Emitter.h"
#include "moec/Codegen/KernelSpec/KernelSpec.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static bool kernelType(DType type) {
  return type == DType::F32 || type == DType::F16 || type == DType::BF16;
}

static bool isPackable(const Tensor &t) {
  return !t.weight.empty() && t.rank() == 2 && kernelType(t.dtype) && kernelType(t.storage);
}

/// A view of f32 whose last dimension is contiguous, seen as a matrix.
struct Rows {
  Tensor tensor; ///< keeps the memory
  Value *count, *stride;
};

static Rows rowsOf(Emitter &e, const Tensor &source) {
  Tensor t = e.floats(source);
  size_t last = t.rank() - 1;
  auto collapses = [&] {
    if (known(t.strides[last]) != 1 && known(t.dims[last]) != 1)
      return false;
    for (size_t i = last; i-- > 1;)
      if (known(t.dims[i - 1]) != 1 && t.strides[i - 1] != e.mul(t.strides[i], t.dims[i]))
        return false;
    return true;
  };
  if (!collapses())
    t = e.dense(std::move(t));
  Value *count = e.product(llvm::ArrayRef<Value *>(t.dims).drop_back());
  // With one row, or rows that all stand apart by the last stride that matters.
  Value *stride = t.dims[last];
  for (size_t i = last; i-- > 0;)
    if (known(t.dims[i]) != 1) {
      stride = t.strides[i];
      break;
    }
  return {std::move(t), count, stride};
}

/// out = a * weight (+ bias); the shape of a with its last dimension replaced.
static Tensor gemm(Emitter &e, const Tensor &a, const Tensor &weight, Value *bias) {
  Value *k = e.checkEqual(a.dims.back(), weight.dims[0], "the inner dimensions differ");
  Value *n = weight.dims[1];
  Rows rows = rowsOf(e, a);
  moec::WeightEntry entry{weight.weight,
                          weight.transposed ? "panel16_nk" : "panel16",
                          dtypeName(weight.storage),
                          {},
                          ""};
  entry.shape = {*known(weight.dims[0]), *known(weight.dims[1])};
  if (weight.transposed)
    std::swap(entry.shape[0], entry.shape[1]);
  auto type = moec::parseWeightType(dtypeName(weight.storage));
  unsigned slot = e.kernelSlot(moec::gemmSpec(*type).text());
  Values dims = a.dims;
  dims.back() = n;
  Tensor out = e.allocate(DType::F32, dims);
  e.call("gemm",
         {e.i32(static_cast<int32_t>(slot)), rows.count, n, k, rows.tensor.data, rows.stride,
          e.weightPointer(e.weightSlot(std::move(entry))), bias ? bias : e.null(), out.data, n});
  return out;
}

// --- run-time operands ---

namespace {
/// One batch dimension of a product.
struct Batch {
  Value *size, *a, *b;
};
} // namespace

/// At most two batch dimensions, or nothing if the strides do not allow it.
static std::optional<std::vector<Batch>> joinBatches(Emitter &e, const Tensor &a, const Tensor &b) {
  std::vector<Batch> batches; // innermost first
  for (size_t i = a.rank() - 2; i-- > 0;) {
    if (known(a.dims[i]) == 1)
      continue;
    Batch next{a.dims[i], a.strides[i], b.strides[i]};
    if (!batches.empty()) {
      Batch &inner = batches.back();
      if (next.a == e.mul(inner.a, inner.size) && next.b == e.mul(inner.b, inner.size)) {
        inner.size = e.mul(next.size, inner.size);
        continue;
      }
    }
    batches.push_back(next);
  }
  if (batches.size() > 2)
    return std::nullopt;
  while (batches.size() < 2)
    batches.push_back({e.i64(1), e.i64(0), e.i64(0)});
  return batches;
}

static Tensor withBatch(Emitter &e, Tensor t, const Values &batch) {
  Values dims = batch;
  dims.push_back(t.dims[t.rank() - 2]);
  dims.push_back(t.dims[t.rank() - 1]);
  return e.expand(std::move(t), dims);
}

/// Both of rank >= 2 and f32 in memory.
static Tensor bgemm(Emitter &e, Tensor a, Tensor b, const Values &batch) {
  size_t ra = a.rank(), rb = b.rank();
  Value *m = a.dims[ra - 2], *n = b.dims[rb - 1], *k = a.dims[ra - 1];
  Values dims = batch;
  dims.push_back(m);
  dims.push_back(n);
  if (rb == 2 && ra > 2) { // rows of all batches at once
    Rows rows = rowsOf(e, a);
    a = std::move(rows.tensor);
    a.dims = {rows.count, k};
    a.strides = {rows.stride, e.i64(1)};
    m = rows.count;
  }
  Tensor out = e.allocate(DType::F32, dims);
  Values shared = a.rank() == 2 && rb == 2 ? Values{} : batch;
  a = withBatch(e, std::move(a), shared);
  b = withBatch(e, std::move(b), shared);
  auto batches = joinBatches(e, a, b);
  if (!batches) {
    a = e.dense(std::move(a));
    b = e.dense(std::move(b));
    batches = joinBatches(e, a, b);
  }
  Batch inner = (*batches)[0], outer = (*batches)[1];
  size_t r = a.rank();
  Value *matrix = e.mul(m, n);
  unsigned slot = e.kernelSlot(moec::bgemmSpec().text());
  e.call("bgemm", {e.i32(static_cast<int32_t>(slot)),
                   outer.size,
                   inner.size,
                   m,
                   n,
                   k,
                   a.data,
                   outer.a,
                   inner.a,
                   a.strides[r - 2],
                   a.strides[r - 1],
                   b.data,
                   outer.b,
                   inner.b,
                   b.strides[r - 2],
                   b.strides[r - 1],
                   out.data,
                   e.mul(matrix, inner.size),
                   matrix,
                   n});
  return out;
}

/// f64 and integers: out[.., m, n] = sum over k of a[.., m, k] * b[.., k, n] as one reduction.
static Tensor productNest(Emitter &e, Tensor a, Tensor b, const Values &batch) {
  a = e.inMemory(std::move(a));
  b = e.inMemory(std::move(b));
  a.ints.reset(), b.ints.reset();
  size_t ra = a.rank(), rb = b.rank();
  Value *m = a.dims[ra - 2], *n = b.dims[rb - 1], *k = a.dims[ra - 1];
  Values dims = batch;
  dims.insert(dims.end(), {m, n, k});
  auto spread = [&](Tensor t, Value *sm, Value *sn, Value *sk) {
    Tensor x = withBatch(e, std::move(t), batch);
    x.strides.resize(batch.size());
    x.strides.insert(x.strides.end(), {sm, sn, sk});
    x.dims = dims;
    return x;
  };
  Value *am = a.strides[ra - 2], *ak = a.strides[ra - 1];
  Value *bk = b.strides[rb - 2], *bn = b.strides[rb - 1];
  DType type = a.dtype;
  Tensor terms =
      e.lazy("Mul", type,
             {spread(std::move(a), am, e.i64(0), ak), spread(std::move(b), e.i64(0), bn, bk)});
  Values outDims = batch;
  outDims.insert(outDims.end(), {m, n, e.i64(1)});
  Tensor out = e.allocate(type, outDims);
  std::vector<bool> reduced(dims.size(), false);
  reduced.back() = true;
  e.reduce("sum", terms, reduced, out);
  outDims.pop_back();
  return e.reshape(out, std::move(outDims));
}

static Tensor product(Emitter &e, Tensor a, Tensor b) {
  if (isPackable(b) && kernelType(a.dtype))
    return gemm(e, a, b, nullptr);
  e.checkEqual(a.dims.back(), b.dims[b.rank() - 2], "the inner dimensions differ");
  llvm::ArrayRef<Value *> da(a.dims), db(b.dims);
  auto leading = [](llvm::ArrayRef<Value *> d) { return Values(d.begin(), d.end() - 2); };
  Values batch = e.broadcast({leading(da), leading(db)});
  if (kernelType(a.dtype))
    return bgemm(e, e.floats(a), e.floats(b), batch);
  return productNest(e, std::move(a), std::move(b), batch);
}

Tensor Emitter::matrixProduct(Tensor a, Tensor b) {
  return ::product(*this, std::move(a), std::move(b));
}

static mlir::LogicalResult matMul(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  if (args[0].dtype != args[1].dtype)
    return e.error("operands of different element types");
  Tensor a = std::move(args[0]), b = std::move(args[1]);
  if (a.rank() == 0 || b.rank() == 0)
    return e.error("a scalar operand");
  bool row = a.rank() == 1, column = b.rank() == 1;
  if (row)
    a = e.reshape(a, {e.i64(1), a.dims[0]});
  if (column)
    b = e.reshape(b, {b.dims[0], e.i64(1)});
  Tensor out = product(e, std::move(a), std::move(b));
  if (row || column) {
    Values dims = out.dims;
    if (column)
      dims.pop_back();
    if (row)
      dims.erase(dims.end() - (column ? 1 : 2));
    out = e.reshape(out, std::move(dims));
  }
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

static Tensor transposed(Emitter &e, Tensor t) {
  if (t.weight.empty())
    t = e.inMemory(std::move(t));
  else
    t.transposed = !t.transposed;
  t.ints.reset();
  std::swap(t.dims[0], t.dims[1]);
  if (t.data)
    std::swap(t.strides[0], t.strides[1]);
  return t;
}

static mlir::LogicalResult gemmOp(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  if (args[0].dtype != args[1].dtype)
    return e.error("operands of different element types");
  Tensor a = std::move(args[0]), b = std::move(args[1]);
  if (a.rank() != 2 || b.rank() != 2)
    return e.error("an operand that is not a matrix");
  if (intAttr(op, "transA", 0))
    a = transposed(e, std::move(a));
  if (intAttr(op, "transB", 0))
    b = transposed(e, std::move(b));
  DType type = resultType(op), wide = kernelType(type) ? DType::F32 : type;
  double alpha = floatAttr(op, "alpha", 1.0), beta = floatAttr(op, "beta", 1.0);
  bool hasC = args.size() > 2 && !args[2].none && beta != 0.0;
  Tensor c;
  if (hasC)
    c = std::move(args[2]);
  // A bias row goes into the kernel.
  bool row = hasC && alpha == 1.0 && beta == 1.0 && isPackable(b) && kernelType(a.dtype) &&
             c.rank() == 1 && c.dims[0] == b.dims[1];
  if (row) {
    Tensor bias = e.floats(c);
    if (!e.contiguous(bias))
      bias = e.dense(std::move(bias));
    results.push_back(e.cast(gemm(e, a, b, bias.data), type));
    return mlir::success();
  }
  Tensor out = product(e, std::move(a), std::move(b));
  if (alpha != 1.0)
    out = e.lazy("Mul", wide, {std::move(out), e.scalar(wide, alpha)});
  if (hasC) {
    c = e.cast(std::move(c), wide);
    if (beta != 1.0)
      c = e.lazy("Mul", wide, {std::move(c), e.scalar(wide, beta)});
    out = e.lazy("Add", wide, {std::move(out), std::move(c)});
  }
  results.push_back(e.cast(std::move(out), type));
  return mlir::success();
}

void moec::host::addMatMul(Handlers &h) {
  h["MatMul"] = matMul;
  h["Gemm"] = gemmOp;
}
