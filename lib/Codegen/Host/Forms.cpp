// The forms a tensor can take, and how lazies, views and constants are made.
#include "Emitter.h"
#include "mlir/IR/BuiltinAttributes.h"

using namespace moec::host;
using llvm::Value;

// --- forms of a tensor ---

Tensor Emitter::fromIntegers(DType type, Values values, bool scalar) {
  Tensor t;
  t.dtype = t.storage = type;
  if (!scalar)
    t.dims = {i64(values.size())};
  t.ints = std::move(values);
  return t;
}

Tensor Emitter::placed(Tensor t, DType storage) {
  WeightEntry entry{t.weight, "plain", dtypeName(storage), {}, ""};
  Values dims = t.dims;
  if (t.transposed)
    std::swap(dims[0], dims[1]);
  for (Value *d : dims)
    entry.shape.push_back(*known(d));
  t.data = weightPointer(weightSlot(std::move(entry)));
  t.strides = rowMajor(dims);
  if (t.transposed)
    std::swap(t.strides[0], t.strides[1]);
  t.storage = storage;
  t.weight.clear();
  t.transposed = false;
  return t;
}

Tensor Emitter::inMemory(Tensor t) {
  if (t.data || t.none)
    return t;
  if (!t.weight.empty())
    return placed(t, t.storage);
  if (t.ints && llvm::all_of(*t.ints, [](Value *v) { return known(v).has_value(); })) {
    std::vector<char> bytes;
    for (Value *v : *t.ints) {
      int64_t raw = *known(v);
      auto *first = reinterpret_cast<char *>(&raw);
      bytes.insert(bytes.end(), first, first + byteSize(t.dtype));
    }
    t.data = constantData(bytes);
    t.strides = rowMajor(t.dims);
    return t;
  }
  Tensor m = allocate(t.dtype, t.dims);
  if (t.ints) {
    for (auto [i, v] : llvm::enumerate(*t.ints))
      b.CreateStore(b.CreateTrunc(v, storageType(t.dtype)), elementPointer(m, i64(i)));
    m.ints = t.ints;
  } else {
    store(t, m);
  }
  return m;
}

Tensor Emitter::dense(Tensor t) {
  t = inMemory(std::move(t));
  if (contiguous(t) && t.storage == t.dtype)
    return t;
  Tensor copy = allocate(t.dtype, t.dims);
  store(t, copy);
  return copy;
}

Tensor Emitter::denseAs(Tensor t, DType type) {
  return dense(t.dtype == type ? std::move(t) : cast(std::move(t), type));
}

Tensor Emitter::floats(const Tensor &t) {
  if (!t.weight.empty() && isFloat(t.dtype))
    return placed(t, DType::F32); // widened by the linker
  if (t.data && t.storage == DType::F32)
    return t;
  if (t.expr && t.dtype == DType::F32)
    return inMemory(t);
  return denseAs(t, DType::F32);
}

Value *Emitter::view(const Tensor &t) {
  Value *dims = stackSlot(b.getInt64Ty(), std::max<size_t>(t.rank(), 1));
  for (auto [i, d] : llvm::enumerate(t.dims))
    b.CreateStore(d, b.CreateConstInBoundsGEP1_64(b.getInt64Ty(), dims, i));
  auto *type = llvm::StructType::get(b.getPtrTy(), b.getPtrTy(), b.getInt32Ty(), b.getInt32Ty());
  Value *view = stackSlot(type, 1);
  Value *fields[] = {t.data, dims, i32(t.rank()), i32(static_cast<int>(t.storage))};
  for (auto [i, field] : llvm::enumerate(fields))
    b.CreateStore(field, b.CreateStructGEP(type, view, i));
  return view;
}

mlir::FailureOr<Values> Emitter::integers(const Tensor &t) {
  if (t.ints)
    return *t.ints;
  auto count = known(product(t.dims));
  if (!count || *count > 64 || isFloat(t.dtype))
    return mlir::failure();
  if (t.splat && !t.data)
    return Values(*count, i64(static_cast<int64_t>(*t.splat)));
  Tensor m = dense(t);
  Values values;
  for (int64_t i = 0; i < *count; ++i) {
    Value *x = b.CreateLoad(storageType(m.dtype), elementPointer(m, i64(i)));
    values.push_back(isUnsigned(m.dtype) ? b.CreateZExt(x, b.getInt64Ty())
                                         : b.CreateSExt(x, b.getInt64Ty()));
  }
  return values;
}

mlir::FailureOr<Values> Emitter::integersOf(const Tensor &t, int64_t count) {
  Tensor copy = t;
  if (!copy.ints && copy.rank() == 1 && !known(copy.dims[0]))
    copy.dims[0] = checkEqual(copy.dims[0], i64(count), "unexpected number of elements");
  auto values = integers(copy);
  if (mlir::succeeded(values) && static_cast<int64_t>(values->size()) != count)
    return mlir::failure();
  return values;
}

mlir::FailureOr<Tensor> Emitter::constant(mlir::ElementsAttr attr) {
  auto dense = mlir::dyn_cast<mlir::DenseElementsAttr>(attr);
  auto type = dtypeOf(attr.getElementType());
  if (!dense || !type)
    return error("constants of this element type");
  Tensor t;
  t.dtype = t.storage = *type;
  for (int64_t d : attr.getShapedType().getShape())
    t.dims.push_back(i64(d));
  t.strides = rowMajor(t.dims);
  int64_t count = attr.getNumElements();
  std::vector<char> bytes;
  Values ints;
  auto append = [&](llvm::APInt bits) {
    uint64_t raw = bits.zextOrTrunc(64).getZExtValue();
    auto *first = reinterpret_cast<char *>(&raw);
    bytes.insert(bytes.end(), first, first + byteSize(t.dtype));
  };
  if (isFloat(t.dtype)) {
    for (llvm::APFloat value : dense.getValues<llvm::APFloat>()) {
      append(value.bitcastToAPInt());
      bool lossy;
      value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lossy);
      if (count == 1)
        t.splat = value.convertToDouble();
    }
  } else {
    bool small = t.rank() <= 1 && count <= 64;
    for (llvm::APInt value : dense.getValues<llvm::APInt>()) {
      append(isUnsigned(t.dtype) ? value : value.sextOrTrunc(64));
      if (small)
        ints.push_back(i64(isUnsigned(t.dtype) ? static_cast<int64_t>(value.getZExtValue())
                                               : value.getSExtValue()));
    }
    if (small)
      t.ints = std::move(ints);
  }
  t.data = constantData(bytes);
  return t;
}

// --- results ---

Values Emitter::broadcast(llvm::ArrayRef<Values> shapes) {
  size_t rank = 0;
  for (const Values &s : shapes)
    rank = std::max(rank, s.size());
  Values out(rank, i64(1));
  for (const Values &s : shapes)
    for (size_t i = 0; i < s.size(); ++i) {
      Value *&o = out[rank - s.size() + i];
      Value *d = s[i];
      if (o == d || known(d) == 1)
        continue;
      if (known(o) == 1) {
        o = d;
      } else if (known(o)) { // d must be 1 or o
        check(b.CreateOr(b.CreateICmpEQ(d, o), b.CreateICmpEQ(d, i64(1))),
              "shapes do not broadcast");
      } else if (known(d)) {
        check(b.CreateOr(b.CreateICmpEQ(d, o), b.CreateICmpEQ(o, i64(1))),
              "shapes do not broadcast");
        o = d;
      } else {
        Value *isOne = arith("eq", o, i64(1));
        check(b.CreateOr(b.CreateOr(b.CreateICmpEQ(d, o), b.CreateICmpEQ(d, i64(1))),
                         b.CreateICmpNE(isOne, i64(0))),
              "shapes do not broadcast");
        o = select(isOne, d, o);
      }
    }
  return out;
}

Tensor Emitter::expand(Tensor t, const Values &dims) {
  if (t.splat && !t.data) {
    t.dims = dims;
    return t;
  }
  Values strides(dims.size(), i64(0));
  for (size_t i = 0; i < t.rank(); ++i) {
    size_t at = dims.size() - t.rank() + i;
    if (t.dims[i] == dims[at] || known(t.dims[i]).value_or(1) != 1)
      strides[at] = t.strides[i];
    else if (!known(t.dims[i]))
      strides[at] = select(arith("eq", t.dims[i], i64(1)), i64(0), t.strides[i]);
  }
  t.dims = dims;
  t.strides = std::move(strides);
  t.ints.reset();
  return t;
}

Tensor Emitter::reshape(const Tensor &source, Values dims) {
  Tensor t = source; // not moved: callers read its sizes in the same expression
  if (t.ints && dims.size() <= 1) {
    Tensor r = fromIntegers(t.dtype, *t.ints, dims.empty());
    if (t.data) {
      r.data = t.data, r.buffer = t.buffer, r.splat = t.splat;
      r.strides = rowMajor(r.dims);
    }
    return r;
  }
  if (t.splat && !t.data) {
    t.dims = std::move(dims);
    return t;
  }
  t = inMemory(std::move(t));
  if (!contiguous(t))
    t = dense(std::move(t));
  t.ints.reset();
  t.strides = rowMajor(dims);
  t.dims = std::move(dims);
  return t;
}

Tensor Emitter::lazy(llvm::StringRef op, DType type, std::vector<Tensor> args,
                     std::vector<double> numbers) {
  constexpr int kMaxLeaves = 12, kMaxSize = 64;
  Tensor t;
  t.dtype = t.storage = type;
  std::vector<Values> shapes;
  for (Tensor &a : args)
    shapes.push_back(a.dims);
  t.dims = broadcast(shapes);
  t.expr = std::make_shared<Expr>();
  auto sameShape = [&](const Tensor &a) {
    if (a.dims == t.dims)
      return true;
    // Work on one value a row leaves the innermost loop; all other broadcasts repeat it.
    return !a.expr->iota && !a.dims.empty() && known(a.dims.back()) == 1 && a.rank() == t.rank() &&
           std::equal(a.dims.begin(), a.dims.end() - 1, t.dims.begin());
  };
  Expr &e = *t.expr;
  for (Tensor &a : args) {
    bool constant = a.splat || (a.ints && a.ints->size() == 1);
    if (!a.data && !a.expr && !constant)
      a = inMemory(std::move(a));
    if (a.expr && (!sameShape(a) || e.leaves + a.expr->leaves > kMaxLeaves ||
                   e.size + a.expr->size > kMaxSize))
      a = inMemory(std::move(a));
    e.leaves += a.expr ? a.expr->leaves : constant ? 0 : 1;
    e.size += a.expr ? a.expr->size : 0;
    e.iota |= a.expr && a.expr->iota;
  }
  t.expr->op = op.str();
  t.expr->type = type;
  t.expr->args = std::move(args);
  t.expr->numbers = std::move(numbers);
  return t;
}

Tensor Emitter::cast(Tensor t, DType to) {
  if (t.dtype == to)
    return t;
  if (t.ints && !isFloat(to)) {
    // i64 holds what the narrower integer types can, as long as nothing wraps.
    bool fits = llvm::all_of(*t.ints, [&](Value *v) {
      auto k = known(v);
      if (to == DType::I64)
        return true;
      if (to == DType::I32 && t.dtype != DType::I64 && t.dtype != DType::U32)
        return true;
      return k && (to == DType::I32 ? llvm::isInt<32>(*k) : *k == 0 || *k == 1);
    });
    if (fits && t.dtype != DType::U64)
      return fromIntegers(to, *t.ints, t.rank() == 0);
  }
  if (t.splat && !t.data && isFloat(t.dtype) && byteSize(to) >= byteSize(t.dtype) && isFloat(to) &&
      !isNarrowFloat(to)) {
    t.dtype = t.storage = to;
    return t;
  }
  // A weight stays where it is: loading converts it, and nothing is lost by widening.
  bool widens = isFloat(t.storage) && isFloat(to) && isFloat(t.dtype) &&
                byteSize(to) > byteSize(t.dtype) && !t.expr;
  if (widens && (t.data || !t.weight.empty())) {
    t.dtype = to;
    return t;
  }
  return lazy("Cast", to, {std::move(t)});
}

Tensor Emitter::iota(Values dims, size_t axis) {
  Tensor t;
  t.dtype = t.storage = DType::I64;
  t.expr = std::make_shared<Expr>();
  t.expr->op = "Iota";
  t.expr->type = DType::I64;
  t.expr->numbers = {static_cast<double>(dims.size() - 1 - axis)};
  t.expr->iota = true;
  t.dims = std::move(dims);
  return t;
}

Tensor Emitter::scalar(DType type, double value) {
  Tensor t;
  t.dtype = t.storage = type;
  t.splat = value;
  return t;
}

Values Emitter::refine(Values dims, unsigned index) {
  auto type = mlir::dyn_cast<mlir::RankedTensorType>(op->getResult(index).getType());
  if (type && static_cast<size_t>(type.getRank()) == dims.size())
    for (size_t i = 0; i < dims.size(); ++i)
      if (!type.isDynamicDim(i))
        dims[i] = checkEqual(dims[i], i64(type.getDimSize(i)), "a dimension contradicts its type");
  return dims;
}
