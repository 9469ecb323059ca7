// Ops that make or rearrange tensors by index: ranges, triangles, one-hots, blocks.
#include "Emitter.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static Tensor number(Emitter &e, Value *v) { return e.fromIntegers(DType::I64, {v}, true); }

/// A scalar of any type as an LLVM double.
static Value *loadDouble(Emitter &e, const Tensor &t) {
  if (t.splat)
    return llvm::ConstantFP::get(e.b.getDoubleTy(), *t.splat);
  Tensor wide = e.denseAs(t, DType::F64);
  return e.b.CreateLoad(e.b.getDoubleTy(), wide.data);
}

static mlir::LogicalResult range(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  DType type = resultType(op);
  for (Tensor &a : args) // scalars that exporters give as [1]
    if (a.rank() > 0)
      a = e.reshape(a, {});
  if (isFloat(type)) {
    Value *start = loadDouble(e, args[0]), *limit = loadDouble(e, args[1]);
    Value *delta = loadDouble(e, args[2]);
    Value *count = e.b.CreateFDiv(e.b.CreateFSub(limit, start), delta);
    count = e.b.CreateUnaryIntrinsic(llvm::Intrinsic::ceil, count);
    auto *sat = e.b.CreateIntrinsic(llvm::Intrinsic::fptosi_sat,
                                    {e.b.getInt64Ty(), e.b.getDoubleTy()}, {count});
    Values dims = e.refine({e.arith("max", sat, e.i64(0))});
    Tensor i = e.cast(e.iota(dims, 0), type);
    results.push_back(e.lazy("Add", type, {e.lazy("Mul", type, {i, args[2]}), args[0]}));
    return mlir::success();
  }
  auto start = e.integers(args[0]), limit = e.integers(args[1]), delta = e.integers(args[2]);
  if (mlir::failed(start) || mlir::failed(limit) || mlir::failed(delta))
    return e.error("bounds that are not scalars");
  Value *s = start->front(), *l = limit->front(), *d = delta->front();
  Value *count;
  if (known(d) == 1) {
    count = e.sub(l, s);
  } else { // towards plus infinity
    Value *span = e.sub(l, s);
    Value *quotient = e.arith("div", span, d);
    Value *rest = e.sub(span, e.mul(quotient, d));
    Value *sameSign = e.arith("eq", e.arith("lt", rest, e.i64(0)), e.arith("lt", d, e.i64(0)));
    Value *up = e.arith("and", sameSign, e.arith("ne", rest, e.i64(0)));
    count = e.add(quotient, up);
  }
  Values dims = e.refine({e.arith("max", count, e.i64(0))});
  e.checkSize(type, dims);
  auto fixed = known(dims[0]);
  if (fixed && *fixed <= 64 && known(s) && known(d)) {
    Values values;
    for (int64_t i = 0; i < *fixed; ++i)
      values.push_back(e.i64(*known(s) + i * *known(d)));
    results.push_back(e.fromIntegers(type, std::move(values), false));
    return mlir::success();
  }
  Tensor i = e.iota(dims, 0);
  if (known(d) != 1)
    i = e.lazy("Mul", DType::I64, {std::move(i), number(e, d)});
  if (known(s) != 0)
    i = e.lazy("Add", DType::I64, {std::move(i), number(e, s)});
  results.push_back(e.cast(std::move(i), type));
  return mlir::success();
}

/// row + k compared with column, over the last two of `dims`.
static Tensor diagonal(Emitter &e, llvm::StringRef comparison, const Values &dims, Value *k) {
  size_t rank = dims.size();
  Tensor row = e.lazy("Add", DType::I64, {e.iota(dims, rank - 2), number(e, k)});
  return e.lazy(comparison, DType::Bool, {std::move(row), e.iota(dims, rank - 1)});
}

static mlir::LogicalResult trilu(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  Tensor t = std::move(args[0]);
  if (t.rank() < 2)
    return e.error("an input of rank below 2");
  Value *k = e.i64(0);
  if (args.size() > 1 && !args[1].none) {
    auto given = e.integersOf(args[1], 1);
    if (mlir::failed(given))
      return e.error("k is not a scalar");
    k = given->front();
  }
  bool upper = intAttr(op, "upper", 1) != 0;
  Tensor keep = diagonal(e, upper ? "LessOrEqual" : "GreaterOrEqual", t.dims, k);
  DType type = t.dtype;
  results.push_back(e.lazy("Where", type, {std::move(keep), std::move(t), e.scalar(type, 0)}));
  return mlir::success();
}

static mlir::LogicalResult eyeLike(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  if (args[0].rank() != 2)
    return e.error("an input that is not a matrix");
  Tensor on = diagonal(e, "Equal", args[0].dims, e.i64(intAttr(op, "k", 0)));
  results.push_back(e.cast(std::move(on), resultType(op)));
  return mlir::success();
}

/// DepthToSpace and SpaceToDepth: a reshape, a transpose, a reshape.
static mlir::LogicalResult blocks(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  if (args[0].rank() != 4)
    return e.error("an input whose rank is not 4");
  int64_t size = intAttr(op, "blocksize", 0);
  if (size < 1)
    return e.error("a block size below 1");
  const Values d = args[0].dims;
  Value *block = e.i64(size), *area = e.i64(size * size);
  auto part = [&](Value *dim, Value *by) {
    e.checkEqual(e.arith("rem", dim, by), e.i64(0), "the block size does not divide a dimension");
    return e.arith("div", dim, by);
  };
  bool toSpace = op->getName().stripDialect() == "DepthToSpace";
  bool columns = stringAttr(op, "mode", "DCR") == "CRD";
  Values middle, last;
  std::vector<int> perm;
  if (toSpace) {
    Value *c = part(d[1], area);
    middle = columns ? Values{d[0], c, block, block, d[2], d[3]}
                     : Values{d[0], block, block, c, d[2], d[3]};
    perm = columns ? std::vector<int>{0, 1, 4, 2, 5, 3} : std::vector<int>{0, 3, 4, 1, 5, 2};
    last = {d[0], c, e.mul(d[2], block), e.mul(d[3], block)};
  } else {
    Value *h = part(d[2], block), *w = part(d[3], block);
    middle = {d[0], d[1], h, block, w, block};
    perm = columns ? std::vector<int>{0, 1, 3, 5, 2, 4} : std::vector<int>{0, 3, 5, 1, 2, 4};
    last = {d[0], e.mul(d[1], area), h, w};
  }
  Tensor t = e.reshape(args[0], std::move(middle));
  Tensor turned = t;
  for (size_t i = 0; i < perm.size(); ++i) {
    turned.dims[i] = t.dims[perm[i]];
    turned.strides[i] = t.strides[perm[i]];
  }
  // As memory: the sizes multiply to the same, but not always to the same Values.
  Tensor out = e.dense(std::move(turned));
  out.dims = last;
  out.strides = e.rowMajor(last);
  results.push_back(std::move(out));
  return mlir::success();
}

static mlir::LogicalResult reverseSequence(Emitter &e, mlir::Operation *op, Tensors &args,
                                           Tensors &results) {
  Tensor t = e.dense(std::move(args[0]));
  auto time = normalAxis(intAttr(op, "time_axis", 0), t.rank());
  auto batch = normalAxis(intAttr(op, "batch_axis", 1), t.rank());
  if (!time || !batch || *time == *batch || args[1].rank() != 1)
    return e.error("time and batch axes that do not fit the inputs");
  Tensor lengths = e.inMemory(std::move(args[1]));
  e.checkEqual(lengths.dims[0], t.dims[*batch], "there is not one length for each batch");
  lengths.ints.reset();
  Tensor spread = lengths; // over all dimensions
  spread.dims = t.dims;
  spread.strides.assign(t.rank(), e.i64(0));
  spread.strides[*batch] = lengths.strides[0];
  Tensor i = e.iota(t.dims, *time);
  Tensor mirrored =
      e.lazy("Sub", DType::I64, {spread, e.lazy("Add", DType::I64, {i, number(e, e.i64(1))})});
  Tensor at = e.lazy("Where", DType::I64, {e.lazy("Less", DType::Bool, {i, spread}), mirrored, i});
  Tensor indices = e.dense(std::move(at));
  Tensor out = e.allocate(t.dtype, t.dims);
  e.call("op_gather_elements", {e.view(t), e.view(indices), e.i64(static_cast<int64_t>(*time)),
                                out.data, e.cstring(e.nodeName())});
  results.push_back(std::move(out));
  return mlir::success();
}

static mlir::LogicalResult oneHot(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  Tensor depthTensor = isFloat(args[1].dtype) ? e.denseAs(args[1], DType::I64) : args[1];
  auto depth = e.integersOf(depthTensor, 1);
  if (mlir::failed(depth))
    return e.error("a depth that is not a scalar");
  auto axis = normalAxis(intAttr(op, "axis", -1), args[0].rank() + 1);
  if (!axis)
    return e.error("an axis out of range");
  Tensor indices = e.denseAs(std::move(args[0]), DType::I64);
  Tensor values = e.dense(std::move(args[2]));
  Values dims = indices.dims;
  dims.insert(dims.begin() + static_cast<int64_t>(*axis), depth->front());
  dims = e.refine(std::move(dims));
  Tensor out = e.allocate(values.dtype, dims);
  e.call("op_onehot", {e.view(indices), e.i64(static_cast<int64_t>(*axis)), dims[*axis],
                       e.view(values), out.data});
  results.push_back(std::move(out));
  return mlir::success();
}

void moec::host::addGenerators(Handlers &h) {
  h["Range"] = range;
  h["Trilu"] = trilu;
  h["EyeLike"] = eyeLike;
  h["DepthToSpace"] = h["SpaceToDepth"] = blocks;
  h["ReverseSequence"] = reverseSequence;
  h["OneHot"] = oneHot;
}
