#include "RuntimeAxes.h"

using namespace moec::host;
using llvm::Value;

RuntimeAxes::RuntimeAxes(Emitter &e, const Values &given, size_t rank) : e(e) {
  Value *zero = e.i64(0), *size = e.i64(static_cast<int64_t>(rank));
  for (Value *axis : given) {
    axis = e.select(e.arith("lt", axis, zero), e.add(axis, size), axis);
    Value *inside = e.arith("and", e.arith("ge", axis, zero), e.arith("lt", axis, size));
    e.check(e.b.CreateICmpNE(inside, zero), "an axis is out of range");
    axes.push_back(axis);
  }
  Value *count = zero;
  for (size_t i = 0; i < rank; ++i) {
    Value *is = zero;
    for (Value *axis : axes)
      is = e.arith("or", is, e.arith("eq", axis, e.i64(static_cast<int64_t>(i))));
    named.push_back(is);
    count = e.add(count, is);
  }
  e.checkEqual(count, e.i64(static_cast<int64_t>(axes.size())), "an axis is named twice");
}

Values RuntimeAxes::of(const Values &values, bool theNamed) const {
  size_t count = theNamed ? axes.size() : values.size() - axes.size();
  Values out(count, e.i64(1));
  Value *place = e.i64(0); // of dimension i among its kind
  for (size_t i = 0; i < values.size(); ++i) {
    Value *is = theNamed ? named[i] : e.arith("xor", named[i], e.i64(1));
    for (size_t j = 0; j < count; ++j) {
      Value *here = e.arith("and", is, e.arith("eq", place, e.i64(static_cast<int64_t>(j))));
      out[j] = e.select(here, values[i], out[j]);
    }
    place = e.add(place, is);
  }
  return out;
}

Values RuntimeAxes::spread(const Values &given, const Values &otherwise) const {
  Values out = otherwise;
  for (size_t i = 0; i < out.size(); ++i)
    for (size_t j = 0; j < axes.size(); ++j)
      out[i] = e.select(e.arith("eq", axes[j], e.i64(static_cast<int64_t>(i))), given[j], out[i]);
  return out;
}

Tensor RuntimeAxes::last(Tensor view) const {
  view = e.inMemory(std::move(view));
  view.ints.reset();
  auto joined = [&](const Values &values) {
    Values out = of(values, false), behind = of(values, true);
    out.insert(out.end(), behind.begin(), behind.end());
    return out;
  };
  Values dims = joined(view.dims);
  view.strides = joined(view.strides);
  view.dims = std::move(dims);
  return view;
}

std::optional<int64_t> moec::host::rankAdded(Emitter &e, const Tensor &t) {
  auto type = mlir::dyn_cast<mlir::RankedTensorType>(e.op->getResult(0).getType());
  if (!type)
    return std::nullopt;
  return type.getRank() - static_cast<int64_t>(t.rank());
}

std::optional<Values> moec::host::runtimeValues(Emitter &e, const Tensor &operand, int64_t count) {
  auto values = count < 0 ? e.integers(operand) : e.integersOf(operand, count);
  if (mlir::failed(values) || llvm::all_of(*values, [](Value *v) { return known(v); }))
    return std::nullopt;
  return *values;
}

Tensor moec::host::squeezeAt(Emitter &e, const Tensor &t, const Values &axes) {
  RuntimeAxes at(e, axes, t.rank());
  for (Value *size : at.of(t.dims, true))
    e.checkEqual(size, e.i64(1), "a squeezed dimension is not 1");
  return e.reshape(e.dense(t), e.refine(at.of(t.dims, false)));
}

Tensor moec::host::unsqueezeAt(Emitter &e, const Tensor &t, const Values &axes) {
  size_t rank = t.rank() + axes.size();
  RuntimeAxes at(e, axes, rank);
  Values dims(rank, e.i64(1));
  Value *place = e.i64(0); // of the next dimension of t
  for (size_t i = 0; i < rank; ++i) {
    Value *old = e.arith("xor", at.named[i], e.i64(1));
    for (size_t j = 0; j < t.rank(); ++j) {
      Value *here = e.arith("and", old, e.arith("eq", place, e.i64(static_cast<int64_t>(j))));
      dims[i] = e.select(here, t.dims[j], dims[i]);
    }
    place = e.add(place, old);
  }
  return e.reshape(e.dense(t), e.refine(std::move(dims)));
}

namespace {
/// One dimension of a slice.
struct Bounds {
  Value *start, *size;
};
} // namespace

/// Numpy's clamping for a step of any sign.
static Bounds boundsOf(Emitter &e, Value *dim, Value *start, Value *end, Value *step) {
  Value *zero = e.i64(0), *one = e.i64(1);
  Value *forward = e.arith("gt", step, zero);
  Value *low = e.select(forward, zero, e.i64(-1)), *high = e.select(forward, dim, e.sub(dim, one));
  auto bounded = [&](Value *v) {
    v = e.select(e.arith("lt", v, zero), e.add(v, dim), v);
    return e.arith("min", e.arith("max", v, low), high);
  };
  start = bounded(start), end = bounded(end);
  Value *span = e.select(forward, e.sub(end, start), e.sub(start, end));
  Value *width = e.arith("max", step, e.sub(zero, step));
  Value *size = e.add(e.arith("max", span, zero), e.sub(width, one));
  return {e.arith("max", start, zero), e.arith("div", size, width)};
}

Tensor moec::host::sliceAt(Emitter &e, Tensor t, const Values &starts, const Values &ends,
                           const std::optional<Values> &axes, const std::optional<Values> &steps) {
  Values first;
  for (size_t i = 0; i < starts.size(); ++i)
    first.push_back(e.i64(static_cast<int64_t>(i)));
  RuntimeAxes at(e, axes ? *axes : first, t.rank());
  Values zeros(t.rank(), e.i64(0)), ones(t.rank(), e.i64(1));
  Values start = at.spread(starts, zeros), end = at.spread(ends, t.dims);
  Values step = steps ? at.spread(*steps, ones) : ones;
  t = e.inMemory(std::move(t));
  t.ints.reset();
  for (size_t i = 0; i < t.rank(); ++i) {
    e.check(e.b.CreateICmpNE(step[i], e.i64(0)), "a step is 0");
    Bounds bounds = boundsOf(e, t.dims[i], start[i], end[i], step[i]);
    if (known(step[i]) == 1) {
      t.data = e.elementPointer(t, e.mul(bounds.start, t.strides[i]));
      t.dims[i] = bounds.size;
      continue;
    }
    auto number = [&](Value *v) { return e.fromIntegers(DType::I64, {v}, true); };
    Tensor places = e.lazy("Mul", DType::I64, {e.iota({bounds.size}, 0), number(step[i])});
    places = e.dense(e.lazy("Add", DType::I64, {std::move(places), number(bounds.start)}));
    t = e.dense(std::move(t));
    Values dims = t.dims;
    dims[i] = bounds.size;
    Tensor out = e.allocate(t.dtype, dims);
    e.call("op_gather", {e.view(t), e.view(places), e.i64(static_cast<int64_t>(i)), out.data,
                         e.cstring(e.nodeName())});
    t = std::move(out);
  }
  t.dims = e.refine(t.dims);
  return t;
}
