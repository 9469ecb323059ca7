// Operators that carry a state from one call to the next: CausalConvWithState, LinearAttention.
#include "Lists.h"
#include "Window.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static Tensor *given(Tensors &args, size_t i) {
  return args.size() > i && !args[i].none ? &args[i] : nullptr;
}

/// Elements [start, start + size) of the last dimension of rank 3.
static Tensor columns(Emitter &e, Tensor t, Value *start, Value *size) {
  t.data = e.elementPointer(t, e.mul(start, t.strides[2]));
  t.dims[2] = size;
  return t;
}

static mlir::LogicalResult causalConv(Emitter &e, mlir::Operation *op, Tensors &args,
                                      Tensors &results) {
  Tensor x = std::move(args[0]), w = std::move(args[1]);
  std::string activation = stringAttr(op, "activation", "none");
  if (x.rank() != 3 || w.rank() != 3)
    return e.error("an input or weights whose rank is not 3");
  if (activation != "none" && activation != "silu" && activation != "swish")
    return e.error("activation = " + activation);
  DType type = x.dtype == DType::F64 ? DType::F64 : DType::F32;
  Value *batch = x.dims[0], *channels = e.checkEqual(x.dims[1], w.dims[0], "the channels differ");
  Value *length = x.dims[2], *taps = w.dims[2], *one = e.i64(1), *zero = e.i64(0);
  e.checkEqual(w.dims[1], one, "the weights are not depthwise");
  Value *carried = e.sub(taps, one);
  e.check(e.b.CreateICmpSGE(carried, zero), "a kernel without elements");
  // The past, then the input.
  Tensor all = e.allocate(type, {batch, channels, e.add(carried, length)}), inner = all;
  inner.buffer.reset();
  Tensor before = columns(e, inner, zero, carried);
  if (Tensor *past = given(args, 3)) {
    for (size_t i = 0; i < 3; ++i)
      e.checkEqual(past->rank() == 3 ? past->dims[i] : e.i64(-1), before.dims[i],
                   "the state does not fit");
    e.store(e.cast(*past, type), before);
  } else {
    e.store(e.expand(e.scalar(type, 0), before.dims), before);
  }
  e.store(e.cast(std::move(x), type), columns(e, inner, carried, length));
  Tensor windows = all; // [batch, channels, taps, length]
  windows.dims = {batch, channels, taps, length};
  windows.strides = {all.strides[0], all.strides[1], one, one};
  Tensor factors = e.inMemory(e.cast(std::move(w), type));
  factors.dims = {channels, taps, one};
  factors.strides = {factors.strides[0], factors.strides[2], zero};
  Tensor out =
      reduceInto(e, "sum", e.lazy("Mul", type, {windows, factors}), {false, false, true, false});
  out.dims = {batch, channels, length};
  out.strides = e.rowMajor(out.dims);
  if (Tensor *bias = given(args, 2)) {
    e.checkEqual(e.product(bias->dims), channels, "the bias does not fit the channels");
    out = e.lazy("Add", type, {out, e.reshape(e.cast(*bias, type), {channels, one})});
  }
  if (activation != "none")
    out = e.lazy("Mul", type, {out, e.lazy("Sigmoid", type, {out})});
  results.push_back(e.cast(std::move(out), resultType(op)));
  if (op->getNumResults() > 1)
    results.push_back(e.cast(columns(e, all, length, carried), resultType(op)));
  return mlir::success();
}

/// [batch, length, 1, heads or heads * keySize] in f32, or null.
static mlir::FailureOr<Tensor> rates(Emitter &e, Tensor *t, bool needed, llvm::StringRef name) {
  if (!t && needed)
    return e.error("no " + name);
  if (!t)
    return Tensor();
  if (t->rank() != 3)
    return e.error(name + " whose rank is not 3");
  return e.denseAs(*t, DType::F32);
}

static mlir::LogicalResult linearAttention(Emitter &e, mlir::Operation *op, Tensors &args,
                                           Tensors &results) {
  int64_t heads = intAttr(op, "q_num_heads", 0), kvHeads = intAttr(op, "kv_num_heads", 0);
  std::string rule = stringAttr(op, "update_rule", "gated_delta");
  bool gated = rule == "gated" || rule == "gated_delta";
  bool delta = rule == "delta" || rule == "gated_delta";
  if (!gated && !delta && rule != "linear")
    return e.error("update_rule = " + rule);
  if (heads < 1 || kvHeads < 1 || heads % kvHeads != 0 || args.size() < 3 || args[0].rank() != 3 ||
      args[1].rank() != 3 || args[2].rank() != 3 || args[0].dtype == DType::F64)
    return e.error("heads that do not fit, or operands that are not [B, T, width]");
  Tensor q = e.denseAs(std::move(args[0]), DType::F32);
  Tensor k = e.denseAs(std::move(args[1]), DType::F32);
  Tensor v = e.denseAs(std::move(args[2]), DType::F32);
  auto decay = rates(e, given(args, 4), gated, "decay");
  auto beta = rates(e, given(args, 5), delta, "beta");
  if (mlir::failed(decay) || mlir::failed(beta))
    return mlir::failure();
  Value *count = e.i64(heads), *kvCount = e.i64(kvHeads);
  Value *keySize = e.arith("div", q.dims[2], count), *size = e.arith("div", v.dims[2], kvCount);
  e.checkEqual(q.dims[2], e.mul(keySize, count), "the heads do not divide the queries");
  e.checkEqual(k.dims[2], e.mul(keySize, kvCount), "the keys do not fit the queries");
  e.checkEqual(v.dims[2], e.mul(size, kvCount), "the heads do not divide the values");
  for (const Tensor *t : {&k, &v, &*decay, &*beta})
    for (size_t i = 0; t->data && i < 2; ++i)
      e.checkEqual(t->dims[i], q.dims[i], "the inputs' batches or lengths differ");
  Tensor state = e.allocate(DType::F32, {q.dims[0], kvCount, keySize, size});
  if (Tensor *past = given(args, 3)) {
    for (size_t i = 0; i < 4; ++i)
      e.checkEqual(past->rank() == 4 ? past->dims[i] : e.i64(-1), state.dims[i],
                   "the state does not fit");
    e.store(e.cast(*past, DType::F32), state);
  } else {
    e.store(e.expand(e.scalar(DType::F32, 0), state.dims), state);
  }
  double scale = floatAttr(op, "scale", 0);
  Tensor out = e.allocate(DType::F32, {q.dims[0], q.dims[1], e.mul(size, count)});
  auto data = [&](const Tensor &t, bool wanted) { return wanted ? t.data : e.null(); };
  auto width = [&](const Tensor &t, bool wanted) { return wanted ? t.dims[2] : e.i64(0); };
  e.call("op_linear_attention", {stackList(e, {q.dims[0], q.dims[1], count, kvCount, keySize, size,
                                               width(*decay, gated), width(*beta, delta)}),
                                 q.data, k.data, v.data, data(*decay, gated), data(*beta, delta),
                                 llvm::ConstantFP::get(e.b.getFloatTy(), scale), state.data,
                                 out.data, e.cstring(e.nodeName())});
  results.push_back(e.cast(std::move(out), resultType(op)));
  if (op->getNumResults() > 1)
    results.push_back(mlir::isa<mlir::NoneType>(op->getResult(1).getType())
                          ? Tensor()
                          : e.cast(std::move(state), resultType(op, 1)));
  return mlir::success();
}

void moec::host::addStateful(Handlers &h) {
  h["CausalConvWithState"] = causalConv;
  h["LinearAttention"] = linearAttention;
}
