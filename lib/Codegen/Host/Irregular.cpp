// Gathers, scatters and sorts: calls of the runtime's operators on dense tensors.
#include "Emitter.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

/// Dense bytes for the runtime: a weight or view stored narrower keeps its storage type.
static Tensor denseBytes(Emitter &e, Tensor t) {
  t = e.inMemory(std::move(t));
  return e.contiguous(t) ? t : e.dense(std::move(t));
}

static Tensor denseIndices(Emitter &e, Tensor t) {
  return t.dtype == DType::I32 || t.dtype == DType::I64 ? e.dense(std::move(t))
                                                        : e.denseAs(std::move(t), DType::I64);
}

/// An output of the same element type and storage as `like`.
static Tensor outputLike(Emitter &e, const Tensor &like, Values dims) {
  Tensor out = e.allocate(like.storage, std::move(dims));
  out.dtype = like.dtype;
  return out;
}

/// One index: a view, no copy.
static Tensor pick(Emitter &e, Tensor t, size_t axis, Value *index, bool keep) {
  Value *dim = t.dims[axis];
  index = e.select(e.arith("lt", index, e.i64(0)), e.add(index, dim), index);
  Value *low = e.arith("ge", index, e.i64(0)), *high = e.arith("lt", index, dim);
  e.check(e.b.CreateICmpNE(e.arith("and", low, high), e.i64(0)), "an index is out of range");
  t = e.inMemory(std::move(t));
  t.ints.reset();
  t.data = e.elementPointer(t, e.mul(index, t.strides[axis]));
  if (keep) {
    t.dims[axis] = e.i64(1);
  } else {
    t.dims.erase(t.dims.begin() + static_cast<int64_t>(axis));
    t.strides.erase(t.strides.begin() + static_cast<int64_t>(axis));
  }
  return t;
}

static mlir::LogicalResult gather(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  Tensor data = std::move(args[0]), indices = std::move(args[1]);
  auto axis = normalAxis(intAttr(op, "axis", 0), data.rank());
  if (!axis)
    return e.error("an axis out of range");
  if (data.ints && data.rank() == 1 && indices.ints && indices.rank() <= 1 &&
      llvm::all_of(*indices.ints, [](Value *v) { return known(v); })) {
    Values picked;
    for (Value *v : *indices.ints) {
      auto at = normalAxis(*known(v), data.ints->size());
      if (!at)
        return e.error("an index out of range");
      picked.push_back((*data.ints)[*at]);
    }
    results.push_back(e.fromIntegers(data.dtype, std::move(picked), indices.rank() == 0));
    return mlir::success();
  }
  if (indices.ints && indices.ints->size() == 1 && indices.rank() <= 1 &&
      !(data.splat && !data.data)) {
    results.push_back(pick(e, std::move(data), *axis, indices.ints->front(), indices.rank() == 1));
    return mlir::success();
  }
  data = denseBytes(e, std::move(data));
  indices = denseIndices(e, std::move(indices));
  Values dims(data.dims.begin(), data.dims.begin() + static_cast<int64_t>(*axis));
  dims.insert(dims.end(), indices.dims.begin(), indices.dims.end());
  dims.insert(dims.end(), data.dims.begin() + static_cast<int64_t>(*axis) + 1, data.dims.end());
  Tensor out = outputLike(e, data, std::move(dims));
  e.call("op_gather", {e.view(data), e.view(indices), e.i64(static_cast<int64_t>(*axis)), out.data,
                       e.cstring(e.nodeName())});
  results.push_back(std::move(out));
  return mlir::success();
}

static mlir::LogicalResult gatherND(Emitter &e, mlir::Operation *op, Tensors &args,
                                    Tensors &results) {
  Tensor data = denseBytes(e, std::move(args[0]));
  Tensor indices = denseIndices(e, std::move(args[1]));
  int64_t batch = intAttr(op, "batch_dims", 0);
  auto depth = indices.rank() ? known(indices.dims.back()) : std::nullopt;
  if (!depth || batch < 0 || *depth < 1 || batch + *depth > static_cast<int64_t>(data.rank()) ||
      batch >= static_cast<int64_t>(indices.rank()))
    return e.error("indices whose last dimension is not a constant within the data's rank");
  Values dims(indices.dims.begin(), indices.dims.end() - 1);
  for (int64_t i = 0; i < batch; ++i)
    dims[i] = e.checkEqual(dims[i], data.dims[i], "batch dimensions differ");
  dims.insert(dims.end(), data.dims.begin() + batch + *depth, data.dims.end());
  Tensor out = outputLike(e, data, std::move(dims));
  e.call("op_gather_nd",
         {e.view(data), e.view(indices), e.i64(batch), out.data, e.cstring(e.nodeName())});
  results.push_back(std::move(out));
  return mlir::success();
}

static mlir::LogicalResult gatherElements(Emitter &e, mlir::Operation *op, Tensors &args,
                                          Tensors &results) {
  Tensor data = denseBytes(e, std::move(args[0]));
  Tensor indices = denseIndices(e, std::move(args[1]));
  auto axis = normalAxis(intAttr(op, "axis", 0), data.rank());
  if (!axis || indices.rank() != data.rank())
    return e.error("indices of another rank or an axis out of range");
  Tensor out = outputLike(e, data, indices.dims);
  e.call("op_gather_elements", {e.view(data), e.view(indices), e.i64(static_cast<int64_t>(*axis)),
                                out.data, e.cstring(e.nodeName())});
  results.push_back(std::move(out));
  return mlir::success();
}

/// A copy of the data that a scatter may write.
static Tensor copyOf(Emitter &e, const Tensor &data) {
  Tensor out = e.allocate(data.dtype, data.dims);
  e.store(data, out);
  return out;
}

static mlir::FailureOr<int> scatterMode(Emitter &e, mlir::Operation *op, const Tensors &args) {
  if (args[0].dtype != args[2].dtype)
    return e.error("data and updates of different element types");
  int mode = llvm::StringSwitch<int>(stringAttr(op, "reduction", "none"))
                 .Case("none", 0)
                 .Case("add", 1)
                 .Case("mul", 2)
                 .Case("max", 3)
                 .Case("min", 4)
                 .Default(-1);
  if (mode < 0)
    return e.error("this reduction");
  return mode;
}

static mlir::LogicalResult scatterElements(Emitter &e, mlir::Operation *op, Tensors &args,
                                           Tensors &results) {
  auto mode = scatterMode(e, op, args);
  auto axis = normalAxis(intAttr(op, "axis", 0), args[0].rank());
  if (mlir::failed(mode))
    return mlir::failure();
  if (!axis || args[1].rank() != args[0].rank() || args[2].rank() != args[0].rank())
    return e.error("inputs of different ranks or an axis out of range");
  Tensor indices = denseIndices(e, std::move(args[1]));
  Tensor updates = e.dense(std::move(args[2]));
  for (size_t i = 0; i < indices.rank(); ++i)
    e.checkEqual(indices.dims[i], updates.dims[i], "indices and updates have different shapes");
  Tensor out = copyOf(e, args[0]);
  e.call("op_scatter_elements",
         {e.view(out), e.view(indices), e.view(updates), e.i64(static_cast<int64_t>(*axis)),
          e.i32(*mode), e.cstring(e.nodeName())});
  results.push_back(std::move(out));
  return mlir::success();
}

static mlir::LogicalResult scatterND(Emitter &e, mlir::Operation *op, Tensors &args,
                                     Tensors &results) {
  auto mode = scatterMode(e, op, args);
  if (mlir::failed(mode))
    return mlir::failure();
  Tensor indices = denseIndices(e, std::move(args[1]));
  Tensor updates = e.dense(std::move(args[2]));
  size_t rank = args[0].rank();
  auto depth = indices.rank() ? known(indices.dims.back()) : std::nullopt;
  if (!depth || *depth < 1 || *depth > static_cast<int64_t>(rank) ||
      updates.rank() != indices.rank() - 1 + rank - static_cast<size_t>(*depth))
    return e.error("indices and updates whose ranks do not fit");
  for (size_t i = 0; i < updates.rank(); ++i) {
    size_t outer = indices.rank() - 1;
    Value *d = i < outer ? indices.dims[i] : args[0].dims[i - outer + static_cast<size_t>(*depth)];
    e.checkEqual(updates.dims[i], d, "the updates' shape does not fit");
  }
  Tensor out = copyOf(e, args[0]);
  e.call("op_scatter_nd",
         {e.view(out), e.view(indices), e.view(updates), e.i32(*mode), e.cstring(e.nodeName())});
  results.push_back(std::move(out));
  return mlir::success();
}

static mlir::LogicalResult topK(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  Tensor x = e.dense(std::move(args[0]));
  auto axis = normalAxis(intAttr(op, "axis", -1), x.rank());
  auto k = e.integersOf(args[1], 1);
  if (!axis || mlir::failed(k))
    return e.error("k is not a scalar or the axis is out of range");
  Values dims = x.dims;
  dims[*axis] = k->front();
  dims = e.refine(std::move(dims));
  Value *low = e.arith("ge", dims[*axis], e.i64(0));
  Value *high = e.arith("le", dims[*axis], x.dims[*axis]);
  e.check(e.b.CreateICmpNE(e.arith("and", low, high), e.i64(0)), "k exceeds the dimension");
  Tensor values = e.allocate(x.dtype, dims), indices = e.allocate(DType::I64, dims);
  e.call("op_topk", {e.view(x), e.i64(static_cast<int64_t>(*axis)), dims[*axis],
                     e.i32(static_cast<int32_t>(intAttr(op, "largest", 1))), values.data,
                     indices.data, e.cstring(e.nodeName())});
  results.push_back(std::move(values));
  results.push_back(std::move(indices));
  return mlir::success();
}

/// i64 [rank, n]: the coordinates of the elements that are not zero.
static Tensor nonZeroOf(Emitter &e, Tensor t) {
  t = e.dense(std::move(t));
  Value *slot = e.stackSlot(e.b.getPtrTy(), 1);
  Value *count = e.call("op_nonzero", {e.view(t), slot});
  Tensor out;
  out.dtype = out.storage = DType::I64;
  out.dims = {e.i64(static_cast<int64_t>(t.rank())), count};
  out.strides = e.rowMajor(out.dims);
  out.data = e.b.CreateLoad(e.b.getPtrTy(), slot);
  out.buffer = std::make_shared<Buffer>(e, out.data);
  return out;
}

static mlir::LogicalResult nonZero(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  Tensor t = std::move(args[0]);
  if (t.rank() == 0)
    t = e.reshape(t, {e.i64(1)});
  results.push_back(nonZeroOf(e, std::move(t)));
  return mlir::success();
}

static mlir::LogicalResult compress(Emitter &e, mlir::Operation *op, Tensors &args,
                                    Tensors &results) {
  Tensor data = denseBytes(e, std::move(args[0]));
  size_t axis = 0;
  if (op->hasAttr("axis")) {
    auto given = normalAxis(intAttr(op, "axis", 0), data.rank());
    if (!given)
      return e.error("an axis out of range");
    axis = *given;
  } else {
    data = e.reshape(data, {e.product(data.dims)});
  }
  Tensor chosen = nonZeroOf(e, std::move(args[1]));
  chosen = e.reshape(chosen, {chosen.dims[1]});
  Values dims = data.dims;
  dims[axis] = chosen.dims[0];
  Tensor out = outputLike(e, data, std::move(dims));
  e.call("op_gather", {e.view(data), e.view(chosen), e.i64(static_cast<int64_t>(axis)), out.data,
                       e.cstring(e.nodeName())});
  results.push_back(std::move(out));
  return mlir::success();
}

void moec::host::addIrregular(Handlers &h) {
  h["Gather"] = gather;
  h["GatherND"] = gatherND;
  h["GatherElements"] = gatherElements;
  h["ScatterElements"] = scatterElements;
  h["ScatterND"] = scatterND;
  h["TopK"] = topK;
  h["NonZero"] = nonZero;
  h["Compress"] = compress;
}
