#include "Window.h"

using namespace moec::host;
using llvm::Value;

mlir::FailureOr<Values> moec::host::spatialAttr(Emitter &e, mlir::Operation *op,
                                                llvm::StringRef name, size_t count,
                                                int64_t fallback) {
  auto given = intsAttr(op, name);
  if (!given || given->empty())
    return Values(count, e.i64(fallback));
  if (given->size() != count)
    return e.error(name + " with another number of elements than spatial axes");
  Values values;
  for (int64_t v : *given)
    values.push_back(e.i64(v));
  return values;
}

/// Positions of one axis, and the padding that auto_pad asks for.
static void placeWindows(Emitter &e, Window &w, size_t i, llvm::StringRef mode, bool up) {
  Value *one = e.i64(1), *zero = e.i64(0);
  Value *span = e.add(e.mul(e.sub(w.kernel[i], one), w.dilations[i]), one);
  auto ceilDiv = [&](Value *x, Value *by) { return e.arith("div", e.add(x, e.sub(by, one)), by); };
  if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
    w.out.push_back(ceilDiv(w.sizes[i], w.strides[i]));
    Value *reach = e.add(e.mul(e.sub(w.out[i], one), w.strides[i]), span);
    Value *total = e.arith("max", e.sub(reach, w.sizes[i]), zero);
    Value *less = e.arith("div", total, e.i64(2)), *more = e.sub(total, less);
    w.before[i] = mode == "SAME_UPPER" ? less : more;
    w.after[i] = mode == "SAME_UPPER" ? more : less;
    return;
  }
  if (mode == "VALID")
    w.before[i] = w.after[i] = zero;
  Value *padded = e.add(e.add(w.sizes[i], w.before[i]), w.after[i]);
  Value *room = e.sub(padded, span);
  e.check(e.b.CreateICmpSGE(room, zero), "a window exceeds its axis");
  Value *steps = up ? ceilDiv(room, w.strides[i]) : e.arith("div", room, w.strides[i]);
  Value *out = e.add(steps, one);
  if (up) { // no window starts in the padding behind the input
    Value *start = e.mul(steps, w.strides[i]);
    out = e.sub(out, e.arith("ge", start, e.add(w.sizes[i], w.before[i])));
  }
  w.out.push_back(out);
}

mlir::FailureOr<Window> moec::host::windowOf(Emitter &e, mlir::Operation *op, const Tensor &x,
                                             Values kernel) {
  size_t n = kernel.size();
  if (x.rank() != n + 2 || n == 0)
    return e.error("a kernel whose axes are not the spatial axes of the input");
  auto strides = spatialAttr(e, op, "strides", n, 1);
  auto dilations = spatialAttr(e, op, "dilations", n, 1);
  auto pads = spatialAttr(e, op, "pads", 2 * n, 0);
  if (mlir::failed(strides) || mlir::failed(dilations) || mlir::failed(pads))
    return mlir::failure();
  for (size_t i = 0; i < n; ++i)
    if (known(kernel[i]).value_or(1) < 1 || *known((*strides)[i]) < 1 ||
        *known((*dilations)[i]) < 1)
      return e.error("kernels, strides or dilations that are not positive");
  std::string mode = stringAttr(op, "auto_pad", "NOTSET");
  if (mode != "NOTSET" && mode != "VALID" && mode != "SAME_UPPER" && mode != "SAME_LOWER")
    return e.error("auto_pad = " + mode);
  Window w;
  w.sizes.assign(x.dims.begin() + 2, x.dims.end());
  w.kernel = std::move(kernel);
  w.strides = *strides;
  w.dilations = *dilations;
  w.before.assign(pads->begin(), pads->begin() + static_cast<int64_t>(n));
  w.after.assign(pads->begin() + static_cast<int64_t>(n), pads->end());
  bool up = intAttr(op, "ceil_mode", 0) != 0;
  for (size_t i = 0; i < n; ++i) {
    placeWindows(e, w, i, mode, up);
    w.padded |= up || known(w.before[i]) != 0 || known(w.after[i]) != 0;
  }
  return w;
}

Tensor moec::host::padFor(Emitter &e, const Window &w, Tensor x, double fill) {
  if (!w.padded)
    return e.inMemory(std::move(x));
  Values dims = x.dims, starts(x.rank(), e.i64(0));
  Value *one = e.i64(1), *zero = e.i64(0);
  for (size_t i = 0; i < w.axes(); ++i) {
    Value *span = e.add(e.mul(e.sub(w.kernel[i], one), w.dilations[i]), one);
    Value *reach = e.add(e.mul(e.sub(w.out[i], one), w.strides[i]), span);
    Value *padded = e.add(e.add(w.sizes[i], w.before[i]), w.after[i]);
    dims[i + 2] = e.arith("max", padded, reach);
    starts[i + 2] = w.before[i];
  }
  Tensor out = e.allocate(x.dtype, dims);
  e.store(e.expand(e.scalar(x.dtype, fill), dims), out);
  Tensor inner = out;
  inner.buffer.reset();
  for (size_t i = 2; i < x.rank(); ++i) {
    bool cuts = known(starts[i]).value_or(0) < 0 || known(w.after[i - 2]).value_or(0) < 0;
    inner.data = e.elementPointer(inner, e.mul(e.arith("max", starts[i], zero), inner.strides[i]));
    inner.dims[i] = x.dims[i];
    if (!cuts)
      continue;
    Value *cut = e.arith("max", e.sub(zero, starts[i]), zero);
    Value *room = e.sub(dims[i], e.arith("max", starts[i], zero));
    x = e.inMemory(std::move(x));
    x.ints.reset();
    x.data = e.elementPointer(x, e.mul(cut, x.strides[i]));
    x.dims[i] = e.arith("max", e.arith("min", e.sub(x.dims[i], cut), room), zero);
    inner.dims[i] = x.dims[i];
  }
  e.store(x, inner);
  return out;
}

Tensor moec::host::windowsOf(Emitter &e, const Window &w, const Tensor &padded) {
  Tensor view = padded;
  view.ints.reset();
  size_t front = padded.rank() - w.axes();
  view.dims.resize(front);
  view.strides.resize(front);
  for (size_t i = 0; i < w.axes(); ++i) {
    view.dims.push_back(w.kernel[i]);
    view.strides.push_back(e.mul(padded.strides[front + i], w.dilations[i]));
  }
  for (size_t i = 0; i < w.axes(); ++i) {
    view.dims.push_back(w.out[i]);
    view.strides.push_back(e.mul(padded.strides[front + i], w.strides[i]));
  }
  return view;
}

static Tensor number(Emitter &e, Value *v) { return e.fromIntegers(DType::I64, {v}, true); }

Tensor moec::host::tapPositions(Emitter &e, const Window &w, size_t axis, int64_t outside) {
  Values dims{w.kernel[axis], w.out[axis]};
  auto op = [&](llvm::StringRef name, DType type, Tensor x, Tensor y) {
    return e.lazy(name, type, {std::move(x), std::move(y)});
  };
  Tensor tap = op("Mul", DType::I64, e.iota(dims, 0), number(e, w.dilations[axis]));
  Tensor start = op("Mul", DType::I64, e.iota(dims, 1), number(e, w.strides[axis]));
  Tensor at = op("Sub", DType::I64, op("Add", DType::I64, tap, start), number(e, w.before[axis]));
  at = e.inMemory(std::move(at));
  Tensor inside = op("And", DType::Bool, op("GreaterOrEqual", DType::Bool, at, number(e, e.i64(0))),
                     op("Less", DType::Bool, at, number(e, w.sizes[axis])));
  return e.inMemory(e.lazy("Where", DType::I64, {inside, at, number(e, e.i64(outside))}));
}

Tensor moec::host::reduceInto(Emitter &e, llvm::StringRef kind, const Tensor &source,
                              const std::vector<bool> &reduced) {
  Values dims = source.dims;
  for (size_t i = 0; i < dims.size(); ++i)
    if (reduced[i])
      dims[i] = e.i64(1);
  Tensor out = e.allocate(source.dtype, dims);
  e.reduce(kind, source, reduced, out);
  return out;
}
