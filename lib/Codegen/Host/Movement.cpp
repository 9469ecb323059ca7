// Ops that select, join or repeat elements: views where possible, copies otherwise.
#include "RuntimeAxes.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

// --- slices ---

static Tensor sliceView(Emitter &e, Tensor t, size_t axis, Value *start, Value *size,
                        int64_t step) {
  if (t.splat && !t.data) {
    t.dims[axis] = size;
    return t;
  }
  t = e.inMemory(std::move(t));
  t.ints.reset();
  t.data = e.elementPointer(t, e.mul(start, t.strides[axis]));
  t.strides[axis] = e.mul(t.strides[axis], e.i64(step));
  t.dims[axis] = size;
  return t;
}

/// Numpy's clamping of one slice; `size` counts the elements taken.
static void sliceBounds(Emitter &e, Value *dim, Value *&start, Value *end, int64_t step,
                        Value *&size) {
  auto wrap = [&](Value *v) {
    if (auto k = known(v))
      return *k >= 0 ? v : e.add(v, dim);
    return e.select(e.arith("lt", v, e.i64(0)), e.add(v, dim), v);
  };
  auto clamp = [&](Value *v, Value *low, Value *high) {
    return e.arith("min", e.arith("max", v, low), high);
  };
  Value *zero = e.i64(0), *one = e.i64(1);
  bool whole =
      known(end) && *known(end) >= (int64_t(1) << 31) - 1 && known(start) == 0 && step == 1;
  if (whole) {
    size = dim;
    return;
  }
  // Ends near the limits of i64 mean "all": adding a size to the smallest one must not wrap.
  if (auto k = known(end); k && *k < -(int64_t(1) << 31))
    end = e.i64(-(int64_t(1) << 40));
  if (step > 0) {
    start = clamp(wrap(start), zero, dim);
    auto k = known(end);
    end = k && *k >= (int64_t(1) << 31) - 1 ? dim : clamp(wrap(end), zero, dim);
    Value *span = e.arith("max", e.sub(end, start), zero);
    size = e.arith("div", e.add(span, e.i64(step - 1)), e.i64(step));
  } else {
    Value *last = e.sub(dim, one);
    start = clamp(wrap(start), e.i64(-1), last);
    end = clamp(wrap(end), e.i64(-1), last);
    Value *span = e.arith("max", e.sub(start, end), zero);
    size = e.arith("div", e.add(span, e.i64(-step - 1)), e.i64(-step));
    start = e.arith("max", start, zero);
  }
}

static mlir::LogicalResult slice(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  std::optional<int64_t> count; // of sliced axes: one of the operands' types knows it
  for (size_t i = 1; i < args.size() && !count; ++i)
    if (!args[i].none && args[i].rank() == 1)
      count = known(args[i].dims[0]);
  if (!count)
    return e.error("starts and ends of unknown length");
  auto starts = e.integersOf(args[1], *count), ends = e.integersOf(args[2], *count);
  if (mlir::failed(starts) || mlir::failed(ends) || starts->size() != ends->size())
    return e.error("starts and ends that are not short vectors of one length");
  std::optional<Values> axes, steps;
  bool constant = true;
  for (auto [i, list] : {std::pair(3, &axes), std::pair(4, &steps)}) {
    if (static_cast<int>(args.size()) <= i || args[i].none)
      continue;
    auto values = e.integersOf(args[i], *count);
    if (mlir::failed(values))
      return e.error("axes or steps that are not as many as starts");
    constant &= llvm::all_of(*values, [](Value *v) { return known(v).has_value(); });
    *list = *values;
  }
  Tensor t = std::move(args[0]);
  if (!constant) {
    if (*count > static_cast<int64_t>(t.rank()))
      return e.error("more axes than the input has");
    results.push_back(sliceAt(e, std::move(t), *starts, *ends, axes, steps));
    return mlir::success();
  }
  for (size_t i = 0; i < starts->size(); ++i) {
    auto axis = normalAxis(axes ? *known((*axes)[i]) : static_cast<int64_t>(i), t.rank());
    int64_t step = steps ? *known((*steps)[i]) : 1;
    if (!axis || step == 0)
      return e.error("an axis out of range or a step of 0");
    Value *start = (*starts)[i], *size;
    sliceBounds(e, t.dims[*axis], start, (*ends)[i], step, size);
    if (t.ints && t.rank() == 1 && known(start) && known(size)) {
      Values picked;
      for (int64_t j = 0, at = *known(start); j < *known(size); ++j, at += step)
        picked.push_back((*t.ints)[at]);
      t = e.fromIntegers(t.dtype, std::move(picked), false);
      continue;
    }
    if (size == t.dims[*axis] && step == 1)
      continue;
    Value *refined = size;
    if (auto type = mlir::dyn_cast<mlir::RankedTensorType>(op->getResult(0).getType());
        type && type.getRank() == static_cast<int64_t>(t.rank()) && !type.isDynamicDim(*axis))
      refined = e.checkEqual(size, e.i64(type.getDimSize(*axis)), "a slice contradicts its type");
    t = sliceView(e, std::move(t), *axis, start, refined, step);
  }
  results.push_back(std::move(t));
  return mlir::success();
}

static mlir::LogicalResult split(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  Tensor t = std::move(args[0]);
  auto axis = normalAxis(intAttr(op, "axis", 0), t.rank());
  if (!axis)
    return e.error("an axis out of range");
  size_t parts = op->getNumResults();
  Values sizes;
  Value *dim = t.dims[*axis];
  if (args.size() > 1 && !args[1].none) {
    auto given = e.integersOf(args[1], static_cast<int64_t>(parts));
    if (mlir::failed(given))
      return e.error("split sizes that do not match the outputs");
    sizes = *given;
    Value *sum = e.i64(0);
    for (Value *v : sizes) {
      if (!known(v)) // unsigned: neither negative nor too large for the sum
        e.check(e.b.CreateICmpULE(v, dim), "a split size is negative or too large");
      sum = e.add(sum, v);
    }
    e.checkEqual(sum, dim, "the split sizes do not add up to the dimension");
  } else {
    auto count = e.i64(static_cast<int64_t>(parts));
    Value *each = e.arith("div", e.add(dim, e.i64(static_cast<int64_t>(parts) - 1)), count);
    Value *left = dim;
    for (size_t i = 0; i < parts; ++i) {
      sizes.push_back(e.arith("max", e.arith("min", each, left), e.i64(0)));
      left = e.sub(left, sizes.back());
    }
  }
  if (t.ints && t.rank() == 1 && llvm::all_of(sizes, [](Value *v) { return known(v); })) {
    size_t at = 0;
    for (Value *v : sizes) {
      Values part(t.ints->begin() + at, t.ints->begin() + at + *known(v));
      at += part.size();
      results.push_back(e.fromIntegers(t.dtype, std::move(part), false));
    }
    return mlir::success();
  }
  if (!(t.splat && !t.data))
    t = e.inMemory(std::move(t));
  Value *start = e.i64(0);
  for (Value *size : sizes) {
    results.push_back(sliceView(e, t, *axis, start, size, 1));
    start = e.add(start, size);
  }
  return mlir::success();
}

// --- joins ---

static mlir::LogicalResult concat(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  auto axis = normalAxis(intAttr(op, "axis", 0), args[0].rank());
  if (!axis || llvm::any_of(args, [&](const Tensor &t) {
        return t.rank() != args[0].rank() || t.dtype != args[0].dtype;
      }))
    return e.error("inputs of different ranks or types, or an axis out of range");
  if (args.size() == 1) {
    results.push_back(std::move(args[0]));
    return mlir::success();
  }
  if (args[0].rank() == 1 &&
      llvm::all_of(args, [](const Tensor &t) { return t.ints.has_value(); })) {
    Values all;
    for (const Tensor &t : args)
      all.insert(all.end(), t.ints->begin(), t.ints->end());
    if (all.size() <= 64) {
      results.push_back(e.fromIntegers(args[0].dtype, std::move(all), false));
      return mlir::success();
    }
  }
  Values dims = args[0].dims;
  for (size_t i = 1; i < args.size(); ++i) {
    for (size_t d = 0; d < dims.size(); ++d)
      if (d == *axis)
        dims[d] = e.add(dims[d], args[i].dims[d]);
      else
        dims[d] = e.checkEqual(dims[d], args[i].dims[d], "the inputs' dimensions differ");
  }
  dims = e.refine(std::move(dims));
  Tensor out = e.allocate(resultType(op), dims);
  Value *start = e.i64(0);
  for (Tensor &t : args) {
    Value *size = t.dims[*axis];
    Tensor part = sliceView(e, out, *axis, start, size, 1);
    part.buffer.reset();
    e.store(t, part);
    start = e.add(start, size);
  }
  results.push_back(std::move(out));
  return mlir::success();
}

static mlir::LogicalResult tile(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  size_t rank = args[0].rank();
  auto repeats = e.integersOf(args[1], static_cast<int64_t>(rank));
  if (mlir::failed(repeats))
    return e.error("repeats that are not a short vector");
  Tensor t = e.inMemory(std::move(args[0]));
  Tensor source = t;
  source.ints.reset();
  source.dims.clear();
  source.strides.clear();
  Values dims;
  for (size_t i = 0; i < rank; ++i) {
    source.dims.push_back((*repeats)[i]);
    source.strides.push_back(e.i64(0));
    source.dims.push_back(t.dims[i]);
    source.strides.push_back(t.strides[i]);
    dims.push_back(e.mul((*repeats)[i], t.dims[i]));
  }
  Tensor out = e.allocate(t.dtype, source.dims);
  e.store(source, out);
  out.dims = e.refine(std::move(dims));
  out.strides = e.rowMajor(out.dims);
  results.push_back(std::move(out));
  return mlir::success();
}

// --- padding ---

/// Where element i of a padded dimension comes from, in the modes that repeat the input.
static Tensor padIndex(Emitter &e, llvm::StringRef mode, Value *size, Value *before, Value *total) {
  auto number = [&](Value *v) { return e.fromIntegers(DType::I64, {v}, true); };
  auto op = [&](llvm::StringRef name, Tensor x, Tensor y, std::vector<double> numbers = {}) {
    return e.lazy(name, DType::I64, {std::move(x), std::move(y)}, std::move(numbers));
  };
  Tensor i = op("Sub", e.iota({total}, 0), number(before));
  Value *one = e.i64(1), *zero = e.i64(0);
  if (mode == "edge")
    return op("Min", op("Max", i, number(zero)), number(e.sub(size, one)));
  if (mode == "wrap")
    return op("Mod", i, number(size), {0});
  Value *period = e.arith("max", e.mul(e.sub(size, one), e.i64(2)), one);
  Tensor j = op("Mod", i, number(period), {0});
  return op("Min", j, op("Sub", number(period), j));
}

/// out = along `axis` of t, the elements that `indices` names.
static Tensor gatherAlong(Emitter &e, const Tensor &source, size_t axis, const Tensor &indices) {
  Tensor t = e.dense(source);
  Tensor at = e.dense(indices);
  Values dims = t.dims;
  dims[axis] = at.dims[0];
  Tensor out = e.allocate(t.dtype, dims);
  e.call("op_gather", {e.view(t), e.view(at), e.i64(static_cast<int64_t>(axis)), out.data,
                       e.cstring(e.nodeName())});
  return out;
}

static mlir::LogicalResult pad(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  Tensor t = std::move(args[0]);
  std::string mode = stringAttr(op, "mode", "constant");
  Values at; // the axes
  for (size_t i = 0; i < t.rank(); ++i)
    at.push_back(e.i64(static_cast<int64_t>(i)));
  if (args.size() > 3 && !args[3].none) {
    auto given = e.integers(args[3]);
    if (mlir::failed(given) || given->size() > t.rank())
      return e.error("axes that are not a short vector");
    at = *given;
  }
  auto pads = e.integersOf(args[1], static_cast<int64_t>(2 * at.size()));
  if (mlir::failed(pads))
    return e.error("pads that do not match the axes");
  RuntimeAxes named(e, at, t.rank());
  std::vector<size_t> axes; // those that may be padded
  for (size_t i = 0; i < t.rank(); ++i)
    if (known(named.named[i]) != 0)
      axes.push_back(i);
  if (mode != "constant" && mode != "edge" && mode != "reflect" && mode != "wrap")
    return e.error("the mode " + mode);
  Values zeros(t.rank(), e.i64(0)), dims = t.dims;
  Values starts = named.spread({pads->begin(), pads->begin() + at.size()}, zeros);
  Values after = named.spread({pads->begin() + at.size(), pads->end()}, zeros);
  for (size_t axis : axes)
    dims[axis] = e.arith("max", e.add(dims[axis], e.add(starts[axis], after[axis])), e.i64(0));
  dims = e.refine(std::move(dims));
  if (mode != "constant") {
    for (size_t axis : axes)
      if (t.dims[axis] != dims[axis] || known(starts[axis]) != 0)
        t = gatherAlong(e, t, axis, padIndex(e, mode, t.dims[axis], starts[axis], dims[axis]));
    results.push_back(std::move(t));
    return mlir::success();
  }
  Tensor fill = e.scalar(t.dtype, 0);
  if (args.size() > 2 && !args[2].none) {
    fill = e.inMemory(args[2]);
    fill.dims.clear(), fill.strides.clear(); // one element, of rank 0 or 1
  }
  Tensor out = e.allocate(t.dtype, dims);
  fill = (fill.splat && !fill.data) ? e.expand(fill, dims) : e.expand(std::move(fill), dims);
  e.store(fill, out);
  Tensor inner = out;
  t = e.inMemory(std::move(t));
  for (size_t axis : axes) { // negative pads cut
    Value *zero = e.i64(0);
    Value *cut = e.arith("max", e.sub(zero, starts[axis]), zero);
    Value *at = e.arith("max", starts[axis], zero);
    Value *size = e.arith("min", e.sub(t.dims[axis], cut), e.sub(dims[axis], at));
    size = e.arith("max", size, zero);
    t = sliceView(e, std::move(t), axis, cut, size, 1);
    inner = sliceView(e, std::move(inner), axis, at, size, 1);
  }
  e.store(t, inner);
  results.push_back(std::move(out));
  return mlir::success();
}

/// Every named axis cut or padded with zeros, equally on both sides, to the size given for it.
static mlir::LogicalResult centerCropPad(Emitter &e, mlir::Operation *op, Tensors &args,
                                         Tensors &results) {
  Tensor t = e.inMemory(std::move(args[0]));
  std::vector<int64_t> axes = intsAttr(op, "axes").value_or(std::vector<int64_t>());
  if (!op->hasAttr("axes"))
    for (size_t i = 0; i < t.rank(); ++i)
      axes.push_back(static_cast<int64_t>(i));
  auto sizes = e.integersOf(args[1], static_cast<int64_t>(axes.size()));
  if (mlir::failed(sizes))
    return e.error("a shape that does not match the axes");
  Values dims = t.dims;
  std::vector<size_t> at;
  for (auto [a, size] : llvm::zip(axes, *sizes)) {
    auto axis = normalAxis(a, t.rank());
    if (!axis)
      return e.error("an axis out of range");
    at.push_back(*axis);
    dims[*axis] = size;
  }
  dims = e.refine(std::move(dims));
  Tensor out = e.allocate(t.dtype, dims);
  e.store(e.expand(e.scalar(t.dtype, 0), dims), out);
  Tensor inner = out;
  inner.buffer.reset();
  Value *zero = e.i64(0), *two = e.i64(2);
  for (size_t axis : at) {
    Value *more = e.sub(t.dims[axis], dims[axis]);
    Value *cut = e.arith("div", e.arith("max", more, zero), two);
    Value *start = e.arith("div", e.arith("max", e.sub(zero, more), zero), two);
    Value *size = e.arith("min", t.dims[axis], dims[axis]);
    t = sliceView(e, std::move(t), axis, cut, size, 1);
    inner = sliceView(e, std::move(inner), axis, start, size, 1);
  }
  e.store(t, inner);
  results.push_back(std::move(out));
  return mlir::success();
}

void moec::host::addMovement(Handlers &h) {
  h["Slice"] = slice;
  h["Split"] = split;
  h["Concat"] = concat;
  h["Tile"] = tile;
  h["Pad"] = pad;
  h["CenterCropPad"] = centerCropPad;
}
