// onnx.Attention through the attention kernel.
#include "Emitter.h"
#include "moec/Codegen/KernelSpec/KernelSpec.h"
#include <cmath>
#include <limits>

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

/// f32 [B, heads, rows, size] with contiguous rows; splits the heads of a rank 3 tensor.
static std::optional<Tensor> headsOf(Emitter &e, Tensor t, int64_t heads) {
  if (t.rank() == 3) {
    if (heads < 1)
      return std::nullopt;
    Value *count = e.i64(heads);
    Value *width = t.dims[2];
    e.checkEqual(e.arith("rem", width, count), e.i64(0), "the heads do not divide the width");
    Value *size = e.arith("div", width, count);
    t = e.reshape(t, {t.dims[0], t.dims[1], count, size});
    std::swap(t.dims[1], t.dims[2]);
    std::swap(t.strides[1], t.strides[2]);
  }
  if (t.rank() != 4)
    return std::nullopt;
  t = e.floats(t);
  if (known(t.strides[3]) != 1)
    t = e.dense(std::move(t));
  return t;
}

/// The additive mask seen as [B, heads, S, L].
static std::optional<Tensor> maskOf(Emitter &e, Tensor mask, const Values &dims) {
  if (mask.rank() > 4)
    return std::nullopt;
  if (mask.dtype == DType::Bool) {
    double infinity = std::numeric_limits<double>::infinity();
    mask = e.lazy("Where", DType::F32,
                  {std::move(mask), e.scalar(DType::F32, 0), e.scalar(DType::F32, -infinity)});
  }
  mask = e.floats(mask);
  for (size_t i = 0; i < mask.rank(); ++i) {
    Value *d = dims[dims.size() - mask.rank() + i];
    if (mask.dims[i] != d && known(mask.dims[i]) != 1)
      e.check(
          e.b.CreateOr(e.b.CreateICmpEQ(mask.dims[i], d), e.b.CreateICmpEQ(mask.dims[i], e.i64(1))),
          "the mask does not fit the scores");
  }
  return e.expand(std::move(mask), dims);
}

/// Where the past is given, the keys (values) so far.
static Tensor append(Emitter &e, Tensor past, Tensor next) {
  past = e.inMemory(std::move(past));
  Values dims = next.dims;
  dims[2] = e.add(past.dims[2], next.dims[2]);
  Tensor out = e.allocate(DType::F32, dims);
  Tensor head = out, tail = out;
  head.buffer.reset(), tail.buffer.reset();
  head.dims[2] = past.dims[2];
  tail.dims[2] = next.dims[2];
  tail.data = e.elementPointer(out, e.mul(past.dims[2], out.strides[2]));
  e.store(past, head);
  e.store(next, tail);
  return out;
}

static void callAttention(Emitter &e, mlir::Operation *op, const Tensor &q, const Tensor &k,
                          const Tensor &v, const std::optional<Tensor> &mask, Value *offset,
                          double scale, const Tensor &out) {
  unsigned slot = e.kernelSlot(moec::attentionSpec().text());
  std::vector<Value *> args{e.i32(static_cast<int32_t>(slot)),
                            q.dims[0],
                            q.dims[1],
                            k.dims[1],
                            q.dims[2],
                            k.dims[2],
                            q.dims[3],
                            v.dims[3]};
  for (const Tensor *t : {&q, &k, &v}) {
    args.push_back(t->data);
    args.insert(args.end(), t->strides.begin(), t->strides.begin() + 3);
  }
  args.push_back(mask ? mask->data : e.null());
  for (size_t i = 0; i < 4; ++i)
    args.push_back(mask ? mask->strides[i] : e.i64(0));
  args.push_back(e.i32(intAttr(op, "is_causal", 0) != 0));
  args.push_back(offset);
  args.push_back(llvm::ConstantFP::get(e.b.getFloatTy(), scale));
  args.push_back(out.data);
  args.insert(args.end(), out.strides.begin(), out.strides.begin() + 3);
  e.call("attention", args);
}

static mlir::LogicalResult attention(Emitter &e, mlir::Operation *op, Tensors &args,
                                     Tensors &results) {
  auto given = [&](size_t i) { return args.size() > i && !args[i].none; };
  bool scores = op->getNumResults() > 3 && !op->getResult(3).use_empty();
  if (given(6) || scores || floatAttr(op, "softcap", 0) != 0 || args[0].dtype == DType::F64 ||
      given(4) != given(5))
    return e.error("Attention with nonpad_kv_seqlen, softcap, f64 or its scores as an output");
  bool flat = args[0].rank() == 3;
  int64_t heads = intAttr(op, "q_num_heads", 0), kvHeads = intAttr(op, "kv_num_heads", 0);
  auto q = headsOf(e, std::move(args[0]), heads), k = headsOf(e, std::move(args[1]), kvHeads);
  auto v = headsOf(e, std::move(args[2]), kvHeads);
  if (!q || !k || !v)
    return e.error("operands that are not [B, heads, rows, size] or [B, rows, width]");
  Value *offset = e.i64(0);
  if (given(4)) {
    offset = args[4].dims[2];
    *k = append(e, std::move(args[4]), std::move(*k));
    *v = append(e, std::move(args[5]), std::move(*v));
  }
  for (size_t i : {0, 1, 2})
    v->dims[i] = e.checkEqual(k->dims[i], v->dims[i], "keys and values have different shapes");
  e.checkEqual(q->dims[3], k->dims[3], "queries and keys have different sizes");
  e.checkEqual(q->dims[0], k->dims[0], "queries and keys have different batches");
  e.checkEqual(e.arith("rem", q->dims[1], k->dims[1]), e.i64(0),
               "the key heads do not divide the heads");
  std::optional<Tensor> mask;
  if (given(3)) {
    mask = maskOf(e, std::move(args[3]), {q->dims[0], q->dims[1], q->dims[2], k->dims[2]});
    if (!mask)
      return e.error("a mask of rank above 4");
  }
  double scale = floatAttr(op, "scale", 0);
  if (!op->hasAttr("scale")) {
    auto size = known(q->dims[3]);
    if (!size)
      return e.error("a head size that is not constant, without scale");
    scale = 1.0 / std::sqrt(static_cast<double>(*size));
  }
  Values dims{q->dims[0], q->dims[1], q->dims[2], v->dims[3]};
  Tensor out = e.allocate(DType::F32, flat ? Values{dims[0], dims[2], dims[1], dims[3]} : dims);
  Tensor view = out;
  if (flat) {
    std::swap(view.dims[1], view.dims[2]);
    std::swap(view.strides[1], view.strides[2]);
  }
  callAttention(e, op, *q, *k, *v, mask, offset, scale, view);
  if (flat)
    out = e.reshape(out, {dims[0], dims[2], e.mul(dims[1], dims[3])});
  results.push_back(e.cast(std::move(out), resultType(op)));
  for (auto [i, present] : {std::pair(1u, &*k), std::pair(2u, &*v)})
    if (op->getNumResults() > i)
      results.push_back(mlir::isa<mlir::NoneType>(op->getResult(i).getType())
                            ? Tensor()
                            : e.cast(*present, resultType(op, i)));
  return mlir::success();
}

void moec::host::addAttention(Handlers &h) { h["Attention"] = attention; }
