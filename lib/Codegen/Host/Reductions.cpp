// Reductions, softmax and what is built from them.
#include "RuntimeAxes.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

/// The type sums are kept in.
static DType accumulator(DType type) {
  return type == DType::F16 || type == DType::BF16 ? DType::F32 : type;
}

static Tensor reduceTo(Emitter &e, llvm::StringRef kind, const Tensor &source,
                       const std::vector<bool> &reduced) {
  Values dims = source.dims;
  for (size_t i = 0; i < dims.size(); ++i)
    if (reduced[i])
      dims[i] = e.i64(1);
  Tensor out = e.allocate(accumulator(source.dtype), dims);
  e.reduce(kind, source, reduced, out);
  return out;
}

/// Which dimensions a Reduce* op reduces; nothing left of `noop` when it is an identity. Axes that
/// only the run knows are in `moving`; the last dimensions are reduced when those stand there.
static mlir::FailureOr<std::vector<bool>> reducedAxes(Emitter &e, mlir::Operation *op,
                                                      const Tensors &args, bool &identity,
                                                      std::optional<RuntimeAxes> &moving) {
  size_t rank = args[0].rank();
  std::vector<int64_t> axes = intsAttr(op, "axes").value_or(std::vector<int64_t>{});
  if (args.size() > 1 && !args[1].none) {
    int64_t dropped = intAttr(op, "keepdims", 1) ? 0 : -rankAdded(e, args[0]).value_or(0);
    auto values = dropped > 0 ? e.integersOf(args[1], dropped) : e.integers(args[1]);
    if (mlir::failed(values) || values->size() > rank)
      return e.error("axes that are not a short vector");
    if (llvm::any_of(*values, [](Value *v) { return !known(v); })) {
      moving.emplace(e, *values, rank);
      std::vector<bool> reduced(rank - values->size(), false);
      reduced.resize(rank, true);
      return reduced;
    }
    for (Value *v : *values)
      axes.push_back(*known(v));
  }
  identity = axes.empty() && intAttr(op, "noop_with_empty_axes", 0) != 0;
  std::vector<bool> reduced(rank, axes.empty());
  for (int64_t a : axes) {
    auto axis = normalAxis(a, rank);
    if (!axis)
      return e.error("an axis out of range");
    reduced[*axis] = true;
  }
  return reduced;
}

/// Drops the reduced dimensions (each 1) of a contiguous tensor or lazy.
static Tensor dropReduced(Emitter &e, Tensor t, const std::vector<bool> &reduced) {
  Values dims;
  for (size_t i = 0; i < reduced.size(); ++i)
    if (!reduced[i])
      dims.push_back(t.dims[i]);
  return e.reshape(t, std::move(dims));
}

static Value *countOf(Emitter &e, const Tensor &t, const std::vector<bool> &reduced) {
  Values sizes;
  for (size_t i = 0; i < reduced.size(); ++i)
    if (reduced[i])
      sizes.push_back(t.dims[i]);
  return e.product(sizes);
}

/// log(sum(exp x)) without overflow.
static Tensor logSumExp(Emitter &e, const Tensor &x, const std::vector<bool> &reduced) {
  DType type = accumulator(x.dtype);
  Tensor source = e.inMemory(e.cast(x, type));
  Tensor top = reduceTo(e, "max", source, reduced);
  // An infinite maximum is not subtracted: inf - inf is NaN.
  Tensor infinite = e.lazy("IsInf", DType::Bool, {top}, {1, 1});
  Tensor shift = e.inMemory(e.lazy("Where", type, {infinite, e.scalar(type, 0), top}));
  Tensor powers = e.lazy("Exp", type, {e.lazy("Sub", type, {source, shift})});
  Tensor sum = reduceTo(e, "sum", powers, reduced);
  return e.lazy("Add", type, {e.lazy("Log", type, {sum}), shift});
}

static mlir::LogicalResult reduction(Emitter &e, mlir::Operation *op, Tensors &args,
                                     Tensors &results) {
  llvm::StringRef name = op->getName().stripDialect();
  bool identity = false;
  std::optional<RuntimeAxes> moving;
  auto reduced = reducedAxes(e, op, args, identity, moving);
  if (mlir::failed(reduced))
    return mlir::failure();
  DType type = args[0].dtype, wide = accumulator(type);
  Tensor x = std::move(args[0]);
  const Values dims = x.dims;
  if (moving)
    x = moving->last(std::move(x));
  if (identity && (name == "ReduceSum" || name == "ReduceMean" || name == "ReduceMax" ||
                   name == "ReduceMin" || name == "ReduceProd")) {
    results.push_back(std::move(x));
    return mlir::success();
  }
  if (identity)
    reduced = std::vector<bool>(x.rank(), false);
  if (type == DType::Bool) // Max and Min of booleans are Or and And
    x = e.cast(std::move(x), DType::U8);
  Tensor out;
  auto sum = [&](Tensor t) { return reduceTo(e, "sum", t, *reduced); };
  // Squares and sums of half precision are formed in f32.
  auto square = [&] { return sum(e.lazy("Square", wide, {e.cast(x, wide)})); };
  if (name == "ReduceSum") {
    out = sum(x);
  } else if (name == "ReduceMean") {
    Value *count = countOf(e, x, *reduced);
    Tensor divisor = e.cast(e.fromIntegers(DType::I64, {count}, true), wide);
    if (known(count) && isFloat(wide))
      divisor = e.scalar(wide, static_cast<double>(*known(count)));
    out = e.lazy("Div", wide, {sum(x), std::move(divisor)});
  } else if (name == "ReduceMax" || name == "ReduceMin") {
    out = reduceTo(e, name == "ReduceMax" ? "max" : "min", x, *reduced);
  } else if (name == "ReduceProd") {
    out = reduceTo(e, "prod", x, *reduced);
  } else if (name == "ReduceL1") {
    out = sum(e.lazy("Abs", type, {x}));
  } else if (name == "ReduceSumSquare") {
    out = square();
  } else if (name == "ReduceL2") {
    Tensor total = square();
    out = isFloat(wide) ? e.lazy("Sqrt", wide, {total})
                        : e.cast(e.lazy("Sqrt", DType::F64, {e.cast(total, DType::F64)}), wide);
  } else if (name == "ReduceLogSum") {
    out = e.lazy("Log", wide, {sum(x)});
  } else if (isFloat(type)) {
    out = logSumExp(e, x, *reduced);
  } else {
    return e.error("ReduceLogSumExp of integers");
  }
  out = e.cast(std::move(out), type);
  bool keep = intAttr(op, "keepdims", 1) != 0;
  if (!keep || moving)
    out = dropReduced(e, std::move(out), *reduced);
  if (keep && moving) {
    Values ones(moving->axes.size(), e.i64(1));
    out = e.reshape(out, e.refine(moving->spread(ones, dims)));
  }
  results.push_back(std::move(out));
  return mlir::success();
}

// --- along one axis ---

/// The view with `axis` and the last dimension swapped.
static Tensor swapLast(Tensor view, size_t axis) {
  size_t last = view.rank() - 1;
  std::swap(view.dims[axis], view.dims[last]);
  std::swap(view.strides[axis], view.strides[last]);
  return view;
}

static mlir::LogicalResult softmax(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  Tensor x = std::move(args[0]);
  auto axis = normalAxis(intAttr(op, "axis", -1), x.rank());
  if (!axis)
    return e.error("an axis out of range");
  Tensor out = e.allocate(resultType(op), x.dims);
  bool log = op->getName().stripDialect() == "LogSoftmax";
  if (*axis + 1 == x.rank())
    e.softmax(x, log, out);
  else
    e.softmax(swapLast(e.inMemory(x), *axis), log, swapLast(out, *axis));
  results.push_back(std::move(out));
  return mlir::success();
}

static Tensor argAlong(Emitter &e, const Tensor &source, size_t axis, bool max, bool lastWins) {
  Tensor x = e.dense(source);
  Values dims = x.dims;
  dims[axis] = e.i64(1);
  Tensor out = e.allocate(DType::I64, dims);
  e.call("op_arg",
         {e.view(x), e.i64(static_cast<int64_t>(axis)), e.i32(max), e.i32(lastWins), out.data});
  return out;
}

static mlir::LogicalResult arg(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  auto axis = normalAxis(intAttr(op, "axis", 0), args[0].rank());
  if (!axis)
    return e.error("an axis out of range");
  Tensor out = argAlong(e, args[0], *axis, op->getName().stripDialect() == "ArgMax",
                        intAttr(op, "select_last_index", 0) != 0);
  if (intAttr(op, "keepdims", 1) == 0) {
    std::vector<bool> drop(out.rank(), false);
    drop[*axis] = true;
    out = dropReduced(e, std::move(out), drop);
  }
  results.push_back(std::move(out));
  return mlir::success();
}

static mlir::LogicalResult hardmax(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  auto axis = normalAxis(intAttr(op, "axis", -1), args[0].rank());
  if (!axis)
    return e.error("an axis out of range");
  Tensor best = argAlong(e, args[0], *axis, true, false);
  Tensor hit = e.lazy("Equal", DType::Bool, {e.iota(args[0].dims, *axis), std::move(best)});
  results.push_back(e.cast(std::move(hit), resultType(op)));
  return mlir::success();
}

/// CumSum and CumProd.
static mlir::LogicalResult cumulate(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  auto given = e.integersOf(args[1], 1);
  if (mlir::failed(given))
    return e.error("an axis that is not one number");
  Value *axis = RuntimeAxes(e, *given, args[0].rank()).axes.front();
  Tensor x = e.dense(std::move(args[0]));
  Tensor out = e.allocate(x.dtype, x.dims);
  bool product = op->getName().stripDialect() == "CumProd";
  auto flag = [&](llvm::StringRef name) {
    return e.i32(static_cast<int32_t>(intAttr(op, name, 0)));
  };
  e.call(product ? "op_cumprod" : "op_cumsum",
         {e.view(x), axis, flag("exclusive"), flag("reverse"), out.data});
  results.push_back(std::move(out));
  return mlir::success();
}

static mlir::LogicalResult lpNormalization(Emitter &e, mlir::Operation *op, Tensors &args,
                                           Tensors &results) {
  DType type = args[0].dtype, wide = accumulator(type);
  auto axis = normalAxis(intAttr(op, "axis", -1), args[0].rank());
  int64_t p = intAttr(op, "p", 2);
  if (!axis || (p != 1 && p != 2))
    return e.error("an axis out of range or p other than 1 and 2");
  Tensor x = e.inMemory(std::move(args[0]));
  std::vector<bool> reduced(x.rank(), false);
  reduced[*axis] = true;
  Tensor part = e.lazy(p == 1 ? "Abs" : "Square", wide, {e.cast(x, wide)});
  Tensor norm = reduceTo(e, "sum", part, reduced);
  if (p == 2)
    norm = e.lazy("Sqrt", wide, {std::move(norm)});
  Tensor zero = e.lazy("Equal", DType::Bool, {norm, e.scalar(wide, 0)});
  Tensor safe = e.lazy("Where", wide, {std::move(zero), e.scalar(wide, 1), norm});
  results.push_back(
      e.cast(e.lazy("Div", wide, {e.cast(x, wide), e.inMemory(std::move(safe))}), type));
  return mlir::success();
}

void moec::host::addReductions(Handlers &h) {
  for (const char *name :
       {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
        "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"})
    h[name] = reduction;
  h["Softmax"] = h["LogSoftmax"] = softmax;
  h["ArgMax"] = h["ArgMin"] = arg;
  h["Hardmax"] = hardmax;
  h["CumSum"] = h["CumProd"] = cumulate;
  h["LpNormalization"] = lpNormalization;
}
