// Convolutions: windows as a matrix times the weights, by the runtime; depthwise ones and other
// element types as one reduction over the windows.
#include "Lists.h"
#include "Window.h"
#include "moec/Codegen/KernelSpec/KernelSpec.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

/// Half precision is computed in f32.
static DType computeType(DType type) {
  return type == DType::F16 || type == DType::BF16 ? DType::F32 : type;
}

namespace {
/// x [N, groups, in, ...] and w [groups, out, in, kernel...].
struct Operands {
  Tensor x, w;
  Value *batch, *groups, *in, *out;
};
} // namespace

/// The view with `axis` split into `groups` parts.
static Tensor splitAxis(Emitter &e, Tensor t, size_t axis, Value *groups, Value *each) {
  auto at = static_cast<int64_t>(axis);
  t.strides.insert(t.strides.begin() + at, e.mul(t.strides[axis], each));
  t.dims[axis] = each;
  t.dims.insert(t.dims.begin() + at, groups);
  t.ints.reset();
  return t;
}

/// Whether the windows are the input itself: one tap, every element.
static bool isPlain(Emitter &e, const Window &win, const Operands &o) {
  bool plain = known(e.product(win.kernel)) == 1;
  for (size_t i = 0; i < win.axes(); ++i)
    plain &= known(win.strides[i]) == 1 && win.out[i] == o.x.dims[i + 3];
  return plain;
}

/// [N, groups, out, positions] in f32; x and w are contiguous.
static Tensor convGemm(Emitter &e, const Window &win, const Operands &o) {
  Value *positions = e.product(win.out);
  Tensor out = e.allocate(DType::F32, {o.batch, o.groups, o.out, positions});
  Value *slot = e.i32(static_cast<int32_t>(e.kernelSlot(moec::bgemmSpec().text())));
  if (!isPlain(e, win, o)) {
    Values geometry(o.x.dims.begin() + 3, o.x.dims.end());
    for (const Values *list : {&win.kernel, &win.strides, &win.dilations, &win.out})
      geometry.insert(geometry.end(), list->begin(), list->end());
    e.call("op_conv", {slot, stackList(e, {o.batch, o.groups, o.in, o.out}),
                       e.i64(static_cast<int64_t>(win.axes())), stackList(e, geometry), o.x.data,
                       o.w.data, out.data});
    return out;
  }
  Value *zero = e.i64(0), *one = e.i64(1), *matrix = e.mul(o.out, positions);
  Value *plane = e.mul(o.in, positions);
  e.call("bgemm", {slot,
                   o.batch,
                   o.groups,
                   o.out,
                   positions,
                   o.in,
                   o.w.data,
                   zero,
                   e.mul(o.out, o.in),
                   o.in,
                   one,
                   o.x.data,
                   e.mul(plane, o.groups),
                   plane,
                   positions,
                   one,
                   out.data,
                   e.mul(matrix, o.groups),
                   matrix,
                   positions});
  return out;
}

/// The same as one nest: the positions are innermost, the sums in memory.
static Tensor convNest(Emitter &e, const Window &win, const Operands &o) {
  Tensor x = windowsOf(e, win, o.x), w = o.w;
  // [N, groups, out, in, kernel..., positions...]
  x.dims.insert(x.dims.begin() + 2, o.out);
  x.strides.insert(x.strides.begin() + 2, e.i64(0));
  w.dims.insert(w.dims.begin(), o.batch);
  w.strides.insert(w.strides.begin(), e.i64(0));
  w.dims.insert(w.dims.end(), win.out.begin(), win.out.end());
  w.strides.resize(w.dims.size(), e.i64(0));
  w.dims = x.dims;
  DType type = o.x.dtype;
  std::vector<bool> reduced(x.rank(), false);
  for (size_t i = 0; i < 1 + win.axes(); ++i)
    reduced[3 + i] = true;
  Tensor out = reduceInto(e, "sum", e.lazy("Mul", type, {std::move(x), std::move(w)}), reduced);
  out.dims = {o.batch, o.groups, o.out, e.product(win.out)};
  out.strides = e.rowMajor(out.dims);
  return out;
}

/// x [N, C, sizes...], w [M, C / groups, kernel...] of one element type -> [N, M, positions...].
static mlir::FailureOr<Tensor> convolve(Emitter &e, mlir::Operation *op, const Window &win,
                                        Tensor x, Tensor w, int64_t groups) {
  if (groups < 1)
    return e.error("a number of groups below 1");
  Operands o;
  o.groups = e.i64(groups);
  o.batch = x.dims[0];
  o.in = e.checkEqual(e.arith("div", x.dims[1], o.groups), w.dims[1],
                      "the channels of input and weights differ");
  e.checkEqual(e.mul(o.in, o.groups), x.dims[1], "the groups do not divide the channels");
  o.out = e.arith("div", w.dims[0], o.groups);
  e.checkEqual(e.mul(o.out, o.groups), w.dims[0], "the groups do not divide the weights");
  Values dims{x.dims[0], w.dims[0]};
  dims.insert(dims.end(), win.out.begin(), win.out.end());
  DType type = x.dtype;
  bool depthwise = known(o.in) == 1 && known(o.out).value_or(1) <= 8;
  bool gemm = type == DType::F32 && !depthwise;
  x = padFor(e, win, type == DType::F32 && !win.padded ? e.floats(x) : std::move(x), 0);
  if (gemm && !e.contiguous(x))
    x = e.dense(std::move(x));
  o.x = splitAxis(e, std::move(x), 1, o.groups, o.in);
  w = type == DType::F32 ? e.floats(w) : e.inMemory(std::move(w));
  if (gemm && !e.contiguous(w))
    w = e.dense(std::move(w));
  o.w = splitAxis(e, std::move(w), 0, o.groups, o.out);
  Tensor out = gemm ? convGemm(e, win, o) : convNest(e, win, o);
  dims = e.refine(std::move(dims));
  out.strides = e.rowMajor(dims);
  out.dims = std::move(dims);
  return out;
}

/// out + bias along axis 1, in the result's type.
static Tensor finish(Emitter &e, mlir::Operation *op, Tensor out, Tensor *bias) {
  if (bias) {
    DType type = out.dtype;
    Values dims(out.rank() - 1, e.i64(1));
    dims[0] = e.checkEqual(bias->rank() == 1 ? bias->dims[0] : e.i64(-1), out.dims[1],
                           "the bias does not fit the channels");
    out = e.lazy("Add", type, {std::move(out), e.reshape(e.cast(*bias, type), dims)});
  }
  return e.cast(std::move(out), resultType(op));
}

static Tensor *optional(Tensors &args, size_t i) {
  return args.size() > i && !args[i].none ? &args[i] : nullptr;
}

static mlir::LogicalResult conv(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  Tensor x = std::move(args[0]), w = std::move(args[1]);
  if (x.rank() < 3 || w.rank() != x.rank() || x.dtype != w.dtype)
    return e.error("weights whose rank or type is not the input's");
  DType type = computeType(x.dtype);
  auto win = windowOf(e, op, x, Values(w.dims.begin() + 2, w.dims.end()));
  if (mlir::failed(win))
    return mlir::failure();
  auto out = convolve(e, op, *win, e.cast(std::move(x), type), e.cast(std::move(w), type),
                      intAttr(op, "group", 1));
  if (mlir::failed(out))
    return mlir::failure();
  results.push_back(finish(e, op, std::move(*out), optional(args, 2)));
  return mlir::success();
}

/// t - zero in i32; zero is one number or one for each element of axis 0.
static mlir::FailureOr<Tensor> centred(Emitter &e, Tensor t, Tensor *zero) {
  size_t rank = t.rank();
  t = e.cast(std::move(t), DType::I32);
  if (!zero)
    return t;
  Tensor z = e.cast(*zero, DType::I32);
  if (z.rank() > 1)
    return e.error("a zero point of rank above 1");
  Values dims(rank, e.i64(1));
  if (z.rank() == 1)
    dims[0] = z.dims[0];
  return e.lazy("Sub", DType::I32, {std::move(t), e.reshape(z, dims)});
}

static mlir::LogicalResult convInteger(Emitter &e, mlir::Operation *op, Tensors &args,
                                       Tensors &results) {
  if (args[0].rank() < 3 || args[1].rank() != args[0].rank())
    return e.error("weights whose rank is not the input's");
  auto x = centred(e, std::move(args[0]), optional(args, 2));
  auto w = centred(e, std::move(args[1]), optional(args, 3));
  if (mlir::failed(x) || mlir::failed(w))
    return mlir::failure();
  auto win = windowOf(e, op, *x, Values(w->dims.begin() + 2, w->dims.end()));
  if (mlir::failed(win))
    return mlir::failure();
  auto out = convolve(e, op, *win, e.inMemory(std::move(*x)), e.inMemory(std::move(*w)),
                      intAttr(op, "group", 1));
  if (mlir::failed(out))
    return mlir::failure();
  results.push_back(std::move(*out));
  return mlir::success();
}

// --- transposed ---

/// The sizes of ConvTranspose's result, and the padding that is cut off before it.
static mlir::LogicalResult transposedSizes(Emitter &e, mlir::Operation *op, const Tensor &x,
                                           Window &win) {
  size_t n = win.axes();
  auto pads = spatialAttr(e, op, "pads", 2 * n, 0);
  auto extra = spatialAttr(e, op, "output_padding", n, 0);
  auto wanted = spatialAttr(e, op, "output_shape", n, -1);
  if (mlir::failed(pads) || mlir::failed(extra) || mlir::failed(wanted))
    return mlir::failure();
  std::string mode = stringAttr(op, "auto_pad", "NOTSET");
  Value *one = e.i64(1), *zero = e.i64(0);
  for (size_t i = 0; i < n; ++i) {
    Value *span = e.add(e.mul(e.sub(win.kernel[i], one), win.dilations[i]), one);
    Value *full = e.add(e.mul(e.sub(x.dims[i + 2], one), win.strides[i]), e.add((*extra)[i], span));
    bool fixed = *known((*wanted)[i]) >= 0, same = llvm::StringRef(mode).starts_with("SAME");
    Value *before = mode == "VALID" ? zero : (*pads)[i];
    Value *after = mode == "VALID" ? zero : (*pads)[n + i];
    Value *size = e.sub(full, e.add(before, after));
    if (fixed || same) {
      // A kernel shorter than the stride does not reach input * stride.
      size = fixed ? (*wanted)[i] : e.arith("min", e.mul(x.dims[i + 2], win.strides[i]), full);
      Value *total = e.arith("max", e.sub(full, size), zero);
      Value *less = e.arith("div", total, e.i64(2));
      before = mode == "SAME_UPPER" ? less : e.sub(total, less);
    }
    e.check(e.b.CreateICmpSGE(size, zero), "the padding exceeds the output");
    win.before[i] = before;
    win.out[i] = size;
  }
  return mlir::success();
}

/// x with stride - 1 zeros between its elements, shifted so that a plain convolution with the
/// mirrored kernel gives the result; its memory is as large as all windows reach.
static Tensor spread(Emitter &e, const Window &win, Tensor x) {
  Value *one = e.i64(1), *zero = e.i64(0);
  Values dims = x.dims, starts(x.rank(), zero);
  for (size_t i = 0; i < win.axes(); ++i) {
    Value *reach = e.mul(e.sub(win.kernel[i], one), win.dilations[i]);
    dims[i + 2] = e.arith("max", e.add(win.out[i], reach), zero);
    starts[i + 2] = e.sub(reach, win.before[i]); // of element 0
  }
  Tensor out = e.allocate(x.dtype, dims), inner = out;
  inner.buffer.reset();
  e.store(e.expand(e.scalar(x.dtype, 0), dims), out);
  x = e.inMemory(std::move(x));
  x.ints.reset();
  for (size_t i = 2; i < x.rank(); ++i) {
    Value *stride = win.strides[i - 2];
    // The elements first, first + 1, ... whose places lie in [0, dims).
    Value *missing = e.arith("max", e.sub(zero, starts[i]), zero);
    Value *first = e.arith("div", e.add(missing, e.sub(stride, one)), stride);
    Value *at = e.add(starts[i], e.mul(first, stride));
    Value *room = e.arith("max", e.sub(dims[i], at), zero);
    Value *fit = e.arith("div", e.add(room, e.sub(stride, one)), stride);
    Value *size = e.arith("max", e.arith("min", fit, e.sub(x.dims[i], first)), zero);
    x.data = e.elementPointer(x, e.mul(first, x.strides[i]));
    inner.data = e.elementPointer(inner, e.mul(at, inner.strides[i]));
    inner.strides[i] = e.mul(inner.strides[i], stride);
    x.dims[i] = inner.dims[i] = size;
  }
  e.store(x, inner);
  return out;
}

/// [C, M / groups, kernel...] as the weights [M, C / groups, kernel...] of a plain convolution,
/// each kernel mirrored.
static Tensor mirrored(Emitter &e, Tensor w, int64_t groups) {
  w = e.inMemory(std::move(w));
  Value *count = e.i64(groups), *each = e.arith("div", w.dims[0], count);
  e.checkEqual(e.mul(each, count), w.dims[0], "the groups do not divide the channels");
  Tensor view = splitAxis(e, std::move(w), 0, count, each);
  std::swap(view.dims[1], view.dims[2]);
  std::swap(view.strides[1], view.strides[2]);
  for (size_t i = 3; i < view.rank(); ++i) {
    view.data = e.elementPointer(view, e.mul(e.sub(view.dims[i], e.i64(1)), view.strides[i]));
    view.strides[i] = e.sub(e.i64(0), view.strides[i]);
  }
  Tensor out = e.allocate(view.dtype, view.dims);
  e.store(view, out);
  out.dims.erase(out.dims.begin());
  out.dims[0] = e.mul(view.dims[1], count);
  out.strides = e.rowMajor(out.dims);
  return out;
}

static mlir::LogicalResult convTranspose(Emitter &e, mlir::Operation *op, Tensors &args,
                                         Tensors &results) {
  Tensor x = std::move(args[0]), w = std::move(args[1]);
  int64_t groups = intAttr(op, "group", 1);
  if (x.rank() < 3 || w.rank() != x.rank() || x.dtype != w.dtype || groups < 1)
    return e.error("weights whose rank or type is not the input's, or no groups");
  DType type = computeType(x.dtype);
  size_t n = x.rank() - 2;
  Window win;
  win.kernel.assign(w.dims.begin() + 2, w.dims.end());
  auto strides = spatialAttr(e, op, "strides", n, 1),
       dilations = spatialAttr(e, op, "dilations", n, 1);
  if (mlir::failed(strides) || mlir::failed(dilations))
    return mlir::failure();
  win.strides = *strides, win.dilations = *dilations;
  for (size_t i = 0; i < n; ++i)
    if (*known(win.strides[i]) < 1 || *known(win.dilations[i]) < 1)
      return e.error("strides or dilations that are not positive");
  win.before.resize(n), win.out.resize(n);
  if (mlir::failed(transposedSizes(e, op, x, win)))
    return mlir::failure();
  e.checkEqual(x.dims[1], w.dims[0], "the channels of input and weights differ");
  x = spread(e, win, e.cast(std::move(x), type));
  win.strides.assign(n, e.i64(1));
  auto out =
      convolve(e, op, win, std::move(x), mirrored(e, e.cast(std::move(w), type), groups), groups);
  if (mlir::failed(out))
    return mlir::failure();
  results.push_back(finish(e, op, std::move(*out), optional(args, 2)));
  return mlir::success();
}

void moec::host::addConvolutions(Handlers &h) {
  h["Conv"] = conv;
  h["ConvInteger"] = convInteger;
  h["ConvTranspose"] = convTranspose;
}
