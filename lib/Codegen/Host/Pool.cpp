// Pools and LRN: reductions over windows.
#include "Window.h"
#include <limits>

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

static DType wideType(DType type) {
  return type == DType::F16 || type == DType::BF16 ? DType::F32 : type;
}

static Tensor number(Emitter &e, Value *v) { return e.fromIntegers(DType::I64, {v}, true); }

static mlir::FailureOr<Window> poolWindow(Emitter &e, mlir::Operation *op, const Tensor &x) {
  auto kernel = intsAttr(op, "kernel_shape");
  if (!kernel || x.rank() < 3)
    return e.error("a pool without kernel_shape or spatial axes");
  Values values;
  for (int64_t k : *kernel)
    values.push_back(e.i64(k));
  return windowOf(e, op, x, std::move(values));
}

/// The windows' reduction [N, C, positions...]; `source` is [N, C, kernel..., positions...].
static Tensor overTaps(Emitter &e, llvm::StringRef kind, const Window &w, const Tensor &source) {
  std::vector<bool> reduced(source.rank(), false);
  for (size_t i = 0; i < w.axes(); ++i)
    reduced[2 + i] = true;
  Tensor out = reduceInto(e, kind, source, reduced);
  auto first = out.dims.begin() + 2;
  out.dims.erase(first, first + static_cast<int64_t>(w.axes()));
  out.dims = e.refine(std::move(out.dims));
  out.strides = e.rowMajor(out.dims);
  return out;
}

/// How many taps of each position of an axis lie in [low, high) of the input, as [positions] with
/// the trailing dimensions that broadcast it over the result.
static Tensor tapCount(Emitter &e, const Window &w, size_t axis, DType type, Value *low,
                       Value *high) {
  Window wide = w; // positions as they are, padding included
  constexpr int64_t outside = std::numeric_limits<int64_t>::max();
  wide.before[axis] = e.add(w.before[axis], low);
  wide.sizes[axis] = e.sub(high, low);
  Tensor at = tapPositions(e, wide, axis, outside);
  Tensor inside = e.lazy("Less", DType::Bool, {at, number(e, wide.sizes[axis])});
  Tensor count = reduceInto(e, "sum", e.cast(std::move(inside), type), {true, false});
  Values dims(w.axes() - axis, e.i64(1));
  dims[0] = w.out[axis];
  return e.reshape(count, std::move(dims));
}

static mlir::LogicalResult averagePool(Emitter &e, mlir::Operation *op, Tensors &args,
                                       Tensors &results) {
  Tensor x = std::move(args[0]);
  DType type = wideType(x.dtype);
  auto w = poolWindow(e, op, x);
  if (mlir::failed(w))
    return mlir::failure();
  Tensor padded = padFor(e, *w, e.cast(std::move(x), type), 0);
  Tensor out = overTaps(e, "sum", *w, windowsOf(e, *w, padded));
  bool all = !w->padded;
  if (all) {
    Value *taps = e.product(w->kernel);
    out = e.lazy("Div", type, {std::move(out), e.scalar(type, static_cast<double>(*known(taps)))});
  }
  bool padding = intAttr(op, "count_include_pad", 0) != 0;
  for (size_t i = 0; i < w->axes() && !all; ++i) {
    Value *low = padding ? e.sub(e.i64(0), w->before[i]) : e.i64(0);
    Value *high = padding ? e.add(w->sizes[i], w->after[i]) : w->sizes[i];
    out = e.lazy("Div", type, {std::move(out), tapCount(e, *w, i, type, low, high)});
  }
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

/// sum(|x|^p)^(1/p) by parts.
static Tensor power(Emitter &e, Tensor x, int64_t p) {
  DType type = x.dtype;
  if (p == 2)
    return e.lazy("Square", type, {std::move(x)});
  x = e.lazy("Abs", type, {std::move(x)});
  return p == 1 ? x : e.lazy("Pow", type, {std::move(x), e.scalar(type, static_cast<double>(p))});
}

static Tensor root(Emitter &e, Tensor x, int64_t p) {
  DType type = x.dtype;
  if (p == 2)
    return e.lazy("Sqrt", type, {std::move(x)});
  return p == 1 ? x
                : e.lazy("Pow", type, {std::move(x), e.scalar(type, 1.0 / static_cast<double>(p))});
}

static mlir::LogicalResult lpPool(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  Tensor x = std::move(args[0]);
  DType type = wideType(x.dtype);
  int64_t p = intAttr(op, "p", 2);
  auto w = poolWindow(e, op, x);
  if (mlir::failed(w))
    return mlir::failure();
  if (p < 1)
    return e.error("p below 1");
  Tensor padded = padFor(e, *w, e.cast(std::move(x), type), 0);
  Tensor sum = overTaps(e, "sum", *w, power(e, windowsOf(e, *w, padded), p));
  results.push_back(e.cast(root(e, std::move(sum), p), resultType(op)));
  return mlir::success();
}

/// The least element of the element type.
static double lowest(DType type) {
  switch (type) {
  case DType::I8:
    return -128;
  case DType::U8:
  case DType::Bool:
    return 0;
  default:
    return -kInfinity;
  }
}

/// Where the maximum of each window stands in the whole input: the first one, in the order of
/// storage_order.
static Tensor maxIndices(Emitter &e, mlir::Operation *op, const Window &w, const Tensor &windows,
                         Tensor maxima, const Tensor &x) {
  constexpr int64_t far = int64_t(1) << 40;
  size_t n = w.axes();
  // The maxima along the taps.
  maxima = e.inMemory(std::move(maxima));
  maxima.dims.insert(maxima.dims.begin() + 2, w.kernel.begin(), w.kernel.end());
  maxima.strides.insert(maxima.strides.begin() + 2, n, e.i64(0));
  Tensor lower = e.lazy("Less", DType::Bool, {windows, maxima}); // false for NaN
  Value *inner = e.product(w.sizes);
  Tensor index =
      e.lazy("Mul", DType::I64,
             {e.lazy("Add", DType::I64,
                     {e.lazy("Mul", DType::I64, {e.iota(windows.dims, 0), number(e, x.dims[1])}),
                      e.iota(windows.dims, 1)}),
              number(e, inner)});
  bool columns = intAttr(op, "storage_order", 0) != 0;
  for (size_t i = 0; i < n; ++i) {
    Value *stride = e.i64(1);
    for (size_t j = 0; j < n; ++j)
      if (columns ? j < i : j > i)
        stride = e.mul(stride, w.sizes[j]);
    Tensor at = tapPositions(e, w, i, far);
    Tensor view = at;
    view.dims = windows.dims;
    view.strides.assign(windows.rank(), e.i64(0));
    view.strides[2 + i] = at.strides[0];
    view.strides[2 + n + i] = at.strides[1];
    index = e.lazy("Add", DType::I64,
                   {std::move(index), e.lazy("Mul", DType::I64, {view, number(e, stride)})});
  }
  Tensor none = number(e, e.i64(std::numeric_limits<int64_t>::max()));
  Tensor candidates = e.lazy("Where", DType::I64, {lower, none, index});
  return overTaps(e, "min", w, candidates);
}

static mlir::LogicalResult maxPool(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  Tensor x = std::move(args[0]);
  auto w = poolWindow(e, op, x);
  if (mlir::failed(w))
    return mlir::failure();
  DType type = x.dtype, wide = wideType(type);
  Tensor padded = padFor(e, *w, e.cast(x, wide), lowest(type));
  Tensor windows = windowsOf(e, *w, padded);
  Tensor out = overTaps(e, "max", *w, windows);
  bool indices = op->getNumResults() > 1 && !op->getResult(1).use_empty();
  results.push_back(e.cast(out, type));
  if (indices)
    results.push_back(maxIndices(e, op, *w, windows, out, x));
  return mlir::success();
}

static mlir::LogicalResult globalPool(Emitter &e, mlir::Operation *op, Tensors &args,
                                      Tensors &results) {
  Tensor x = std::move(args[0]);
  if (x.rank() < 2)
    return e.error("an input of rank below 2");
  llvm::StringRef name = op->getName().stripDialect();
  DType wide = wideType(x.dtype);
  int64_t p = intAttr(op, "p", 2);
  std::vector<bool> reduced(x.rank(), true);
  reduced[0] = reduced[1] = false;
  Value *count = e.product(llvm::ArrayRef<Value *>(x.dims).drop_front(2));
  x = e.cast(std::move(x), wide);
  Tensor out;
  if (name == "GlobalMaxPool") {
    out = reduceInto(e, "max", x, reduced);
  } else if (name == "GlobalLpPool") {
    out = root(e, reduceInto(e, "sum", power(e, std::move(x), p), reduced), p);
  } else {
    Tensor divisor = known(count) ? e.scalar(wide, static_cast<double>(*known(count)))
                                  : e.cast(number(e, count), wide);
    out = e.lazy("Div", wide, {reduceInto(e, "sum", x, reduced), std::move(divisor)});
  }
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

static mlir::LogicalResult lrn(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  DType type = wideType(args[0].dtype);
  int64_t size = intAttr(op, "size", 1);
  if (args[0].rank() < 2 || size < 1)
    return e.error("a size below 1 or an input of rank below 2");
  Tensor x = e.inMemory(e.cast(std::move(args[0]), type));
  // The channels as the spatial axis of windows: [N, 1, C] apart from what follows.
  Window w;
  w.kernel = {e.i64(size)};
  w.strides = w.dilations = {e.i64(1)};
  w.sizes = w.out = {x.dims[1]};
  w.before = {e.i64((size - 1) / 2)}, w.after = {e.i64(size / 2)};
  w.padded = size > 1;
  Tensor squares = e.lazy("Square", type, {x});
  Tensor flat =
      e.reshape(e.inMemory(squares),
                {x.dims[0], x.dims[1], e.product(llvm::ArrayRef<Value *>(x.dims).drop_front(2))});
  Tensor view = flat; // [N, rest, C]
  std::swap(view.dims[1], view.dims[2]);
  std::swap(view.strides[1], view.strides[2]);
  Tensor windows = windowsOf(e, w, padFor(e, w, std::move(view), 0));
  Tensor sums = e.allocate(type, {x.dims[0], windows.dims[1], e.i64(1), x.dims[1]});
  e.reduce("sum", windows, {false, false, true, false}, sums);
  Tensor back; // [N, C, rest] of the sums
  back = sums;
  back.dims = {x.dims[0], x.dims[1], windows.dims[1]};
  back.strides = {sums.strides[0], sums.strides[3], sums.strides[1]};
  Tensor norm = e.reshape(e.dense(std::move(back)), x.dims);
  double alpha = floatAttr(op, "alpha", 1e-4f) / static_cast<double>(size);
  norm = e.lazy("Mul", type, {std::move(norm), e.scalar(type, alpha)});
  norm = e.lazy("Add", type, {std::move(norm), e.scalar(type, floatAttr(op, "bias", 1))});
  norm = e.lazy("Pow", type, {std::move(norm), e.scalar(type, floatAttr(op, "beta", 0.75))});
  results.push_back(e.cast(e.lazy("Div", type, {std::move(x), std::move(norm)}), resultType(op)));
  return mlir::success();
}

void moec::host::addPools(Handlers &h) {
  h["AveragePool"] = averagePool;
  h["MaxPool"] = maxPool;
  h["LpPool"] = lpPool;
  h["GlobalAveragePool"] = h["GlobalMaxPool"] = h["GlobalLpPool"] = globalPool;
  h["LRN"] = lrn;
}
