// Ops on shapes, and those that only change how memory is seen.
#include "RuntimeAxes.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

/// A shape operand; its length is the result's rank where its own type does not tell.
static mlir::FailureOr<Values> shapeOperand(Emitter &e, mlir::Operation *op, const Tensor &t) {
  auto type = mlir::dyn_cast<mlir::RankedTensorType>(op->getResult(0).getType());
  bool open = !t.ints && t.rank() == 1 && !known(t.dims[0]);
  auto values = open && type ? e.integersOf(t, type.getRank()) : e.integers(t);
  if (mlir::failed(values))
    return e.error("a shape that is not a short vector");
  return values;
}

static mlir::LogicalResult shape(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  auto rank = static_cast<int64_t>(args[0].rank());
  auto bound = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + rank : v, 0, rank); };
  int64_t start = bound(intAttr(op, "start", 0)), end = bound(intAttr(op, "end", rank));
  Values dims;
  for (int64_t i = start; i < end; ++i)
    dims.push_back(args[0].dims[i]);
  results.push_back(e.fromIntegers(DType::I64, std::move(dims), false));
  return mlir::success();
}

static mlir::LogicalResult size(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  results.push_back(e.fromIntegers(DType::I64, {e.product(args[0].dims)}, true));
  return mlir::success();
}

static mlir::LogicalResult constant(Emitter &e, mlir::Operation *op, Tensors &, Tensors &results) {
  auto value = op->getAttrOfType<mlir::ElementsAttr>("value");
  if (!value)
    return e.error("Constant without the attribute value");
  auto t = e.constant(value);
  if (mlir::failed(t))
    return mlir::failure();
  results.push_back(std::move(*t));
  return mlir::success();
}

static mlir::LogicalResult constantOfShape(Emitter &e, mlir::Operation *op, Tensors &args,
                                           Tensors &results) {
  auto dims = shapeOperand(e, op, args[0]);
  if (mlir::failed(dims))
    return mlir::failure();
  Tensor t = e.scalar(resultType(op), 0);
  if (auto value = op->getAttrOfType<mlir::DenseElementsAttr>("value")) {
    if (isFloat(t.dtype)) {
      llvm::APFloat v = *value.value_begin<llvm::APFloat>();
      bool lossy;
      v.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lossy);
      t.splat = v.convertToDouble();
    } else {
      llvm::APInt v = *value.value_begin<llvm::APInt>();
      t.splat = isUnsigned(t.dtype) ? v.roundToDouble(false) : v.signedRoundToDouble();
    }
  }
  t.dims = e.refine(std::move(*dims));
  e.checkSize(t.dtype, t.dims);
  auto count = known(e.product(t.dims));
  if (!isFloat(t.dtype) && t.rank() <= 1 && count && *count >= 0 && *count <= 64)
    t = e.fromIntegers(t.dtype, Values(*count, e.i64(static_cast<int64_t>(*t.splat))),
                       t.rank() == 0);
  results.push_back(std::move(t));
  return mlir::success();
}

// --- reshapes ---

/// Splits products that moe_main computes into factors, so that equal ones cancel.
static void addFactors(Value *v, std::vector<Value *> &factors, int64_t &constant) {
  if (auto k = known(v)) {
    constant *= *k;
    return;
  }
  auto *mul = llvm::dyn_cast<llvm::BinaryOperator>(v);
  if (mul && mul->getOpcode() == llvm::Instruction::Mul) {
    addFactors(mul->getOperand(0), factors, constant);
    addFactors(mul->getOperand(1), factors, constant);
    return;
  }
  factors.push_back(v);
}

/// product(from) / product(to) where it needs no division at run time.
static Value *exactQuotient(Emitter &e, const Values &from, const Values &to) {
  std::vector<Value *> above, below;
  int64_t a = 1, b = 1;
  for (Value *v : from)
    addFactors(v, above, a);
  for (Value *v : to)
    addFactors(v, below, b);
  for (Value *v : below) {
    auto it = llvm::find(above, v);
    if (it == above.end())
      return nullptr;
    above.erase(it);
  }
  if (b == 0 || a % b)
    return nullptr;
  return e.mul(e.product(above), e.i64(a / b));
}

/// Sizes of which one may be -1: that is what the others leave of the elements.
static Values withoutMinusOne(Emitter &e, const Values &from, Values dims) {
  Value *rest = e.i64(1), *zero = e.i64(0);
  for (Value *d : dims)
    rest = e.mul(rest, e.arith("max", e.select(e.arith("eq", d, e.i64(-1)), e.i64(1), d), zero));
  Value *empty = e.arith("eq", rest, zero);
  Value *size = e.arith("div", e.product(from), e.select(empty, e.i64(1), rest));
  for (Value *&d : dims)
    if (!known(d))
      d = e.select(e.arith("eq", d, e.i64(-1)), size, d);
  return dims;
}

static mlir::LogicalResult reshape(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  auto wanted = shapeOperand(e, op, args[1]);
  if (mlir::failed(wanted))
    return mlir::failure();
  const Values &from = args[0].dims;
  bool allowZero = intAttr(op, "allowzero", 0) != 0;
  Values dims, others;
  std::optional<size_t> inferred;
  for (auto [i, v] : llvm::enumerate(*wanted)) {
    auto k = known(v);
    if (k == -1 && !inferred) {
      inferred = i;
      dims.push_back(nullptr);
      continue;
    }
    if (k && *k < 0)
      return e.error("a negative size in the shape");
    if (k == 0 && !allowZero) {
      if (i >= from.size())
        return e.error("a 0 in the shape beyond the input's rank");
      v = from[i];
    }
    dims.push_back(v);
    others.push_back(v);
  }
  // A size computed at run time may be -1 or 0; the result's type cannot tell.
  bool loaded = false;
  if (!inferred)
    for (auto [i, v] : llvm::enumerate(dims))
      if (!known(v) && (llvm::isa<llvm::LoadInst>(v) || e.joinedIntegers.contains(v))) {
        loaded = true;
        if (!allowZero && i < from.size())
          dims[i] = e.select(e.arith("eq", v, e.i64(0)), from[i], v);
      }
  if (loaded)
    dims = withoutMinusOne(e, from, std::move(dims));
  if (inferred) {
    Value *size = exactQuotient(e, from, others);
    if (!size) {
      Value *total = e.product(from), *rest = e.product(others);
      size = known(rest) == 0 ? e.i64(0) : e.arith("div", total, rest);
      e.checkEqual(e.mul(size, rest), total, "the shape does not divide the input");
    }
    dims[*inferred] = size;
  }
  dims = e.refine(std::move(dims));
  Value *one = exactQuotient(e, from, dims);
  if (!one || known(one) != 1)
    e.checkEqual(e.product(from), e.product(dims), "the shape has another number of elements");
  results.push_back(e.reshape(args[0], std::move(dims)));
  return mlir::success();
}

static mlir::LogicalResult flatten(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  auto rank = static_cast<int64_t>(args[0].rank());
  int64_t axis = intAttr(op, "axis", 1);
  axis = std::clamp<int64_t>(axis < 0 ? axis + rank : axis, 0, rank);
  llvm::ArrayRef<Value *> dims(args[0].dims);
  Values to{e.product(dims.take_front(axis)), e.product(dims.drop_front(axis))};
  results.push_back(e.reshape(args[0], std::move(to)));
  return mlir::success();
}

/// The axes operand or attribute, or nothing.
static mlir::FailureOr<std::optional<std::vector<int64_t>>> axesOf(Emitter &e, mlir::Operation *op,
                                                                   const Tensors &args) {
  std::optional<std::vector<int64_t>> axes = intsAttr(op, "axes");
  if (args.size() > 1 && !args[1].none) {
    auto values = e.integers(args[1]);
    if (mlir::failed(values))
      return e.error("axes that are not constant");
    axes.emplace();
    for (Value *v : *values) {
      auto k = known(v);
      if (!k)
        return e.error("axes that are not constant");
      axes->push_back(*k);
    }
  }
  return axes;
}

/// Keeps known integers for ranks up to 1 and repeated constants; all else goes to memory.
static Tensor withElements(Emitter &e, Tensor t, size_t rank) {
  bool kept = (t.ints && rank <= 1) || (t.splat && !t.data && !t.ints);
  return kept ? t : e.inMemory(std::move(t));
}

/// The tensor with its dimensions, but not its elements, replaced: only 1s come and go.
static Tensor withOnes(Emitter &e, Tensor t, Values dims, Values strides) {
  if (t.ints && dims.size() <= 1) {
    Tensor r = e.fromIntegers(t.dtype, *t.ints, dims.empty());
    r.splat = t.splat;
    if (t.data) {
      r.data = t.data, r.buffer = t.buffer, r.storage = t.storage;
      r.strides = std::move(strides);
    }
    return r;
  }
  t.ints.reset();
  t.dims = std::move(dims);
  t.strides = std::move(strides);
  return t;
}

static mlir::LogicalResult squeeze(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  auto moving = args.size() > 1 && !args[1].none
                    ? runtimeValues(e, args[1], -rankAdded(e, args[0]).value_or(1))
                    : std::nullopt;
  if (moving && moving->size() <= args[0].rank()) {
    results.push_back(squeezeAt(e, args[0], *moving));
    return mlir::success();
  }
  auto axes = axesOf(e, op, args);
  if (mlir::failed(axes))
    return mlir::failure();
  Tensor t = withElements(e, std::move(args[0]), 0);
  std::vector<bool> drop(t.rank(), false);
  if (*axes) {
    for (int64_t a : **axes) {
      auto axis = normalAxis(a, t.rank());
      if (!axis)
        return e.error("an axis out of range");
      drop[*axis] = true;
    }
  } else {
    for (size_t i = 0; i < t.rank(); ++i)
      drop[i] = known(t.dims[i]) == 1;
  }
  Values dims, strides;
  for (size_t i = 0; i < t.rank(); ++i) {
    if (drop[i]) {
      e.checkEqual(t.dims[i], e.i64(1), "a squeezed dimension is not 1");
      continue;
    }
    dims.push_back(t.dims[i]);
    if (t.data)
      strides.push_back(t.strides[i]);
  }
  results.push_back(withOnes(e, std::move(t), std::move(dims), std::move(strides)));
  return mlir::success();
}

static mlir::LogicalResult unsqueeze(Emitter &e, mlir::Operation *op, Tensors &args,
                                     Tensors &results) {
  bool given = args.size() > 1 && !args[1].none;
  if (auto moving = given ? runtimeValues(e, args[1], rankAdded(e, args[0]).value_or(-1))
                          : std::nullopt) {
    results.push_back(unsqueezeAt(e, args[0], *moving));
    return mlir::success();
  }
  auto axes = axesOf(e, op, args);
  if (mlir::failed(axes))
    return mlir::failure();
  size_t rank = args[0].rank() + (*axes ? (*axes)->size() : 0);
  Tensor t = withElements(e, std::move(args[0]), rank);
  std::vector<bool> added(rank, false);
  if (*axes)
    for (int64_t a : **axes) {
      auto axis = normalAxis(a, rank);
      if (!axis || added[*axis])
        return e.error("an axis out of range or twice");
      added[*axis] = true;
    }
  Values dims, strides;
  for (size_t i = 0, from = 0; i < rank; ++i) {
    dims.push_back(added[i] ? e.i64(1) : t.dims[from]);
    if (t.data) { // any stride does; this one keeps contiguous tensors recognisable
      strides.push_back(added[i] ? e.i64(0) : t.strides[from]);
    }
    from += !added[i];
  }
  results.push_back(withOnes(e, std::move(t), std::move(dims), std::move(strides)));
  return mlir::success();
}

static mlir::LogicalResult transpose(Emitter &e, mlir::Operation *op, Tensors &args,
                                     Tensors &results) {
  Tensor t = std::move(args[0]);
  std::vector<int64_t> perm;
  for (size_t i = t.rank(); i-- > 0;)
    perm.push_back(static_cast<int64_t>(i));
  if (auto given = intsAttr(op, "perm"))
    perm = *given;
  std::vector<bool> seen(t.rank(), false);
  for (int64_t &p : perm) {
    auto axis = normalAxis(p, t.rank());
    if (!axis || seen[*axis] || perm.size() != t.rank())
      return e.error("perm is not a permutation");
    seen[*axis] = true;
    p = static_cast<int64_t>(*axis);
  }
  if (llvm::is_sorted(perm)) {
    results.push_back(std::move(t));
    return mlir::success();
  }
  if (!t.weight.empty() && t.rank() == 2) {
    t.transposed = !t.transposed;
    std::swap(t.dims[0], t.dims[1]);
    results.push_back(std::move(t));
    return mlir::success();
  }
  bool repeated = t.splat && !t.data;
  if (!repeated)
    t = e.inMemory(std::move(t));
  Values dims, strides;
  for (int64_t p : perm) {
    dims.push_back(t.dims[p]);
    if (!repeated)
      strides.push_back(t.strides[p]);
  }
  t.ints.reset();
  t.dims = std::move(dims);
  t.strides = std::move(strides);
  results.push_back(std::move(t));
  return mlir::success();
}

static mlir::LogicalResult expand(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  auto wanted = shapeOperand(e, op, args[1]);
  if (mlir::failed(wanted))
    return mlir::failure();
  Values dims = e.refine(e.broadcast({args[0].dims, *wanted}));
  Tensor t = std::move(args[0]);
  if (t.dims == dims) {
    results.push_back(std::move(t));
    return mlir::success();
  }
  e.checkSize(t.dtype, dims);
  if (!(t.splat && !t.data))
    t = e.inMemory(std::move(t));
  results.push_back(e.expand(std::move(t), dims));
  return mlir::success();
}

void moec::host::addShapeOps(Handlers &h) {
  h["Shape"] = shape;
  h["Size"] = size;
  h["Constant"] = constant;
  h["ConstantOfShape"] = constantOfShape;
  h["Reshape"] = reshape;
  h["Flatten"] = flatten;
  h["Squeeze"] = squeeze;
  h["Unsqueeze"] = unsqueeze;
  h["Transpose"] = transpose;
  h["Expand"] = expand;
}
