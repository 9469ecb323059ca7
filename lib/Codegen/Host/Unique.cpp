// Ops that the runtime's general operators carry out on rows or along positions: Unique and
// TensorScatter; and those that are refused because they draw random numbers.
#include "Emitter.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static Tensor swapFirst(Tensor view, size_t axis) {
  std::swap(view.dims[0], view.dims[axis]);
  std::swap(view.strides[0], view.strides[axis]);
  return view;
}

static mlir::LogicalResult unique(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  Tensor x = e.inMemory(std::move(args[0]));
  size_t axis = 0;
  if (op->hasAttr("axis")) {
    auto given = normalAxis(intAttr(op, "axis", 0), x.rank());
    if (!given)
      return e.error("an axis out of range");
    axis = *given;
  } else {
    x = e.reshape(x, {e.product(x.dims)});
  }
  x.ints.reset();
  x = e.dense(swapFirst(std::move(x), axis));
  Value *rows = x.dims[0], *slot = e.stackSlot(e.b.getPtrTy(), 4);
  Value *count = e.call("op_unique", {e.view(x), e.i32(intAttr(op, "sorted", 1) != 0), slot});
  for (unsigned i = 0; i < 4; ++i) {
    Tensor t;
    t.dtype = t.storage = i ? DType::I64 : x.dtype;
    t.dims = i ? Values{i == 2 ? rows : count} : x.dims;
    t.dims[0] = i == 2 ? rows : count;
    t.strides = e.rowMajor(t.dims);
    Value *from = e.b.CreateConstInBoundsGEP1_64(e.b.getPtrTy(), slot, i);
    t.data = e.b.CreateLoad(e.b.getPtrTy(), from);
    t.buffer = std::make_shared<Buffer>(e, t.data);
    results.push_back(i ? std::move(t) : swapFirst(std::move(t), axis));
  }
  return mlir::success();
}

/// The cache with the update's positions along one axis written from an index of each batch on.
static mlir::LogicalResult tensorScatter(Emitter &e, mlir::Operation *op, Tensors &args,
                                         Tensors &results) {
  auto axis = normalAxis(intAttr(op, "axis", -2), args[0].rank());
  bool ranks = args.size() > 1 && !args[1].none && args[1].rank() == args[0].rank();
  if (!axis || !ranks || *axis == 0)
    return e.error("an axis out of range or an update of another rank");
  Tensor update = e.dense(std::move(args[1]));
  for (size_t i = 0; i < update.rank(); ++i)
    if (i != *axis)
      e.checkEqual(update.dims[i], args[0].dims[i], "the update's shape does not fit");
  Tensor at = e.iota(update.dims, *axis);
  if (args.size() > 2 && !args[2].none) {
    Tensor first = e.denseAs(std::move(args[2]), DType::I64);
    if (first.rank() != 1)
      return e.error("write indices that are not a vector");
    e.checkEqual(first.dims[0], update.dims[0], "there is not one write index for each batch");
    first.ints.reset();
    first.strides.assign(update.rank(), e.i64(0));
    first.strides[0] = e.i64(1);
    first.dims = update.dims;
    at = e.lazy("Add", DType::I64, {std::move(at), std::move(first)});
  }
  if (stringAttr(op, "mode", "linear") == "circular") {
    Tensor length = e.fromIntegers(DType::I64, {args[0].dims[*axis]}, true);
    at = e.lazy("Mod", DType::I64, {std::move(at), std::move(length)}, {0});
  }
  Tensor indices = e.dense(std::move(at));
  Tensor out = e.allocate(args[0].dtype, args[0].dims);
  e.store(args[0], out);
  e.call("op_scatter_elements", {e.view(out), e.view(indices), e.view(update),
                                 e.i64(static_cast<int64_t>(*axis)), e.i32(0),
                                 e.cstring(e.nodeName())});
  results.push_back(std::move(out));
  return mlir::success();
}

static mlir::LogicalResult random(Emitter &e, mlir::Operation *, Tensors &, Tensors &) {
  return e.error("random numbers, which differ from run to run");
}

void moec::host::addUnique(Handlers &h) {
  h["Unique"] = unique;
  h["TensorScatter"] = tensorScatter;
  for (const char *name : {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike",
                           "RandomUniform", "RandomUniformLike"})
    h[name] = random;
}
