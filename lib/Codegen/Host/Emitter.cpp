#include "Emitter.h"
#include "llvm/IR/Constants.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Diagnostics.h"

using namespace moec::host;
using llvm::Value;

Buffer::~Buffer() { emitter.release(memory); }

Emitter::Emitter(mlir::ModuleOp source, HostResult &result)
    : source(source), result(result), module(*result.module), context(*result.context),
      b(*result.context) {}

std::optional<int64_t> moec::host::known(Value *value) {
  if (auto *c = llvm::dyn_cast<llvm::ConstantInt>(value))
    return c->getSExtValue();
  return std::nullopt;
}

Value *Emitter::i64(int64_t value) { return b.getInt64(value); }
Value *Emitter::i32(int32_t value) { return b.getInt32(value); }
Value *Emitter::null() { return llvm::ConstantPointerNull::get(b.getPtrTy()); }

llvm::Constant *Emitter::cstring(llvm::StringRef text) {
  llvm::Constant *&known = strings[text];
  if (!known)
    known = b.CreateGlobalString(text, "text");
  return known;
}

llvm::Constant *Emitter::constantData(llvm::ArrayRef<char> bytes) {
  auto *data = llvm::ConstantDataArray::getString(
      context, llvm::StringRef(bytes.data(), bytes.size()), /*AddNull=*/false);
  auto *global = new llvm::GlobalVariable(module, data->getType(), true,
                                          llvm::GlobalValue::PrivateLinkage, data, "constant");
  global->setAlignment(llvm::Align(64));
  global->setUnnamedAddr(llvm::GlobalValue::UnnamedAddr::Global);
  return global;
}

std::string Emitter::nodeName() {
  if (auto name = mlir::dyn_cast<mlir::NameLoc>(op->getLoc()))
    return name.getName().str();
  return op->getName().stripDialect().str();
}

mlir::LogicalResult Emitter::error(const llvm::Twine &message) {
  return op->emitError() << "node \"" << nodeName() << "\" ("
                         << op->getName().stripDialect() << "): " << message;
}

//===--- integers ------------------------------------------------------------------------------===//

static Value *emitInteger(llvm::IRBuilder<> &b, llvm::StringRef op, Value *x, Value *y) {
  auto truth = [&](Value *c) { return b.CreateZExt(c, b.getInt64Ty()); };
  auto floorMod = [&] {
    Value *r = b.CreateSRem(x, y);
    Value *wrong = b.CreateAnd(b.CreateICmpNE(r, b.getInt64(0)),
                               b.CreateICmpSLT(b.CreateXor(r, y), b.getInt64(0)));
    return b.CreateSelect(wrong, b.CreateAdd(r, y), r);
  };
  return llvm::StringSwitch<std::function<Value *()>>(op)
      .Case("add", [&] { return b.CreateAdd(x, y); })
      .Case("sub", [&] { return b.CreateSub(x, y); })
      .Case("mul", [&] { return b.CreateMul(x, y); })
      .Case("div", [&] { return b.CreateSDiv(x, y); })
      .Case("rem", [&] { return b.CreateSRem(x, y); })
      .Case("mod", floorMod)
      .Case("min", [&] { return b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, x, y); })
      .Case("max", [&] { return b.CreateBinaryIntrinsic(llvm::Intrinsic::smax, x, y); })
      .Case("eq", [&] { return truth(b.CreateICmpEQ(x, y)); })
      .Case("ne", [&] { return truth(b.CreateICmpNE(x, y)); })
      .Case("lt", [&] { return truth(b.CreateICmpSLT(x, y)); })
      .Case("le", [&] { return truth(b.CreateICmpSLE(x, y)); })
      .Case("gt", [&] { return truth(b.CreateICmpSGT(x, y)); })
      .Case("ge", [&] { return truth(b.CreateICmpSGE(x, y)); })
      .Case("and", [&] { return b.CreateAnd(x, y); })
      .Case("or", [&] { return b.CreateOr(x, y); })
      .Case("xor", [&] { return b.CreateXor(x, y); })
      .Default([] { return nullptr; })();
}

static std::optional<int64_t> foldInteger(llvm::StringRef op, int64_t x, int64_t y) {
  auto wrap = [](uint64_t v) { return static_cast<int64_t>(v); };
  if (op == "min")
    return std::min(x, y);
  if (op == "max")
    return std::max(x, y);
  if (op == "mul")
    return wrap(static_cast<uint64_t>(x) * static_cast<uint64_t>(y));
  return std::nullopt; // the builder folds the rest
}

Value *Emitter::arith(llvm::StringRef op, Value *x, Value *y) {
  auto cx = known(x), cy = known(y);
  if (cx && cy)
    if (auto folded = foldInteger(op, *cx, *cy))
      return i64(*folded);
  bool commutes = op == "add" || op == "mul" || op == "min" || op == "max" || op == "eq";
  if (commutes && cx && !cy)
    std::swap(x, y), std::swap(cx, cy);
  if (cy && ((*cy == 0 && (op == "add" || op == "sub")) ||
             (*cy == 1 && (op == "mul" || op == "div"))))
    return x;
  if (cy && *cy == 0 && op == "mul")
    return i64(0);
  if (x == y && (op == "min" || op == "max"))
    return x;
  if (x == y && (op == "eq" || op == "le" || op == "ge"))
    return i64(1);
  if (x == y && op == "sub")
    return i64(0);
  if ((op == "div" || op == "mod" || op == "rem") && !cy)
    check(b.CreateICmpNE(y, i64(0)), "division by zero");
  if (cy && *cy == 0 && (op == "div" || op == "mod" || op == "rem")) {
    check(b.getFalse(), "division by zero");
    return i64(0);
  }
  if (commutes && !cy && std::less<Value *>()(y, x))
    std::swap(x, y);
  Value *&memo = numbered[{op.str(), x, y}];
  if (!memo)
    memo = emitInteger(b, op, x, y);
  return memo;
}

Value *Emitter::select(Value *c, Value *x, Value *y) {
  if (auto k = known(c))
    return *k ? x : y;
  if (x == y)
    return x;
  return b.CreateSelect(b.CreateICmpNE(c, i64(0)), x, y);
}

Value *Emitter::product(llvm::ArrayRef<Value *> values) {
  Value *result = i64(1);
  // From the last to the first, as strides are computed, so that both number alike.
  for (Value *v : llvm::reverse(values))
    result = mul(v, result);
  return result;
}

void Emitter::check(Value *condition, const llvm::Twine &message) {
  if (auto *c = llvm::dyn_cast<llvm::ConstantInt>(condition); c && c->isOne())
    return;
  auto *fail = llvm::BasicBlock::Create(context, "fail", main);
  auto *next = llvm::BasicBlock::Create(context, "", main);
  b.CreateCondBr(condition, next, fail,
                 llvm::MDBuilder(context).createBranchWeights(1 << 20, 1));
  b.SetInsertPoint(fail);
  std::string text =
      ("node \"" + nodeName() + "\" (" + op->getName().stripDialect() + "): " + message).str();
  call("fail", {i32(1), cstring(text)});
  b.CreateUnreachable();
  b.SetInsertPoint(next);
}

Value *Emitter::checkEqual(Value *x, Value *y, const llvm::Twine &message) {
  if (x != y)
    check(b.CreateICmpEQ(x, y), message);
  return known(x) ? x : known(y) ? y : x;
}

//===--- memory --------------------------------------------------------------------------------===//

namespace {
struct ApiFunction {
  const char *result, *name, *parameters;
};
} // namespace

static const ApiFunction kApi[] = {
#define MOERT_API_FN(result, name, ...) {#result, #name, #__VA_ARGS__},
#include "moert/api_functions.def"
#undef MOERT_API_FN
};

static llvm::Type *parseType(llvm::IRBuilder<> &b, llvm::StringRef text) {
  if (text.contains('*'))
    return b.getPtrTy();
  if (text.contains("int64_t"))
    return b.getInt64Ty();
  if (text.contains("int32_t"))
    return b.getInt32Ty();
  if (text.contains("float"))
    return b.getFloatTy();
  return b.getVoidTy();
}

llvm::CallInst *Emitter::call(llvm::StringRef function, llvm::ArrayRef<Value *> args) {
  if (functions.empty()) {
    for (auto [index, fn] : llvm::enumerate(kApi)) {
      llvm::SmallVector<llvm::Type *> types{b.getPtrTy()};
      llvm::SmallVector<llvm::StringRef> parameters;
      llvm::StringRef(fn.parameters).split(parameters, ',');
      for (llvm::StringRef p : parameters)
        types.push_back(parseType(b, p));
      functions[fn.name] = {static_cast<unsigned>(index),
                            llvm::FunctionType::get(parseType(b, fn.result), types, false)};
    }
  }
  auto [index, type] = functions.lookup(function);
  Value *field = b.CreateConstInBoundsGEP1_64(b.getPtrTy(), api, index);
  auto *load = b.CreateLoad(b.getPtrTy(), field);
  load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context, {}));
  llvm::SmallVector<Value *> all{ctx};
  all.append(args.begin(), args.end());
  auto *inst = b.CreateCall(type, load, all);
  inst->setDoesNotThrow();
  if (function == "fail")
    inst->setDoesNotReturn();
  return inst;
}

Value *Emitter::stackSlot(llvm::Type *type, uint64_t count) {
  llvm::IRBuilder<> entry(&main->getEntryBlock(), main->getEntryBlock().begin());
  return entry.CreateAlloca(type, entry.getInt64(count));
}

Tensor Emitter::allocate(DType type, Values dims) {
  Tensor t;
  t.dtype = t.storage = type;
  t.strides = rowMajor(dims);
  t.dims = std::move(dims);
  Value *bytes = mul(product(t.dims), i64(byteSize(type)));
  t.data = call("alloc", {bytes});
  t.buffer = std::make_shared<Buffer>(*this, t.data);
  return t;
}

void Emitter::release(Value *memory) {
  llvm::BasicBlock *block = b.GetInsertBlock();
  if (memory && block && !block->getTerminator())
    call("free", {memory});
}

Values Emitter::rowMajor(llvm::ArrayRef<Value *> dims) {
  Values strides(dims.size());
  Value *stride = i64(1);
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride = mul(dims[i], stride);
  }
  return strides;
}

bool Emitter::contiguous(const Tensor &t) {
  if (!t.data)
    return false;
  Value *stride = i64(1);
  for (size_t i = t.rank(); i-- > 0;) {
    if (known(t.dims[i]) == 1)
      continue;
    if (t.strides[i] != stride)
      return false;
    stride = mul(t.dims[i], stride);
  }
  return true;
}

Value *Emitter::elementPointer(const Tensor &t, Value *offset) {
  if (known(offset) == 0)
    return t.data;
  return b.CreateGEP(storageType(t.storage), t.data, offset);
}

Value *Emitter::weightPointer(unsigned slot) {
  Value *field = b.CreateConstInBoundsGEP1_64(b.getPtrTy(), weightTable, slot);
  return b.CreateLoad(b.getPtrTy(), field);
}

unsigned Emitter::weightSlot(WeightEntry entry) {
  for (auto [i, w] : llvm::enumerate(result.weights))
    if (w.name == entry.name && w.layout == entry.layout && w.dtype == entry.dtype &&
        w.name2 == entry.name2)
      return i;
  result.weights.push_back(std::move(entry));
  return result.weights.size() - 1;
}

unsigned Emitter::kernelSlot(const std::string &spec) {
  auto it = llvm::find(result.kernels, spec);
  if (it == result.kernels.end())
    it = result.kernels.insert(it, spec);
  return it - result.kernels.begin();
}

//===--- forms of a tensor ---------------------------------------------------------------------===//

Tensor Emitter::fromIntegers(DType type, Values values, bool scalar) {
  Tensor t;
  t.dtype = t.storage = type;
  if (!scalar)
    t.dims = {i64(values.size())};
  t.ints = std::move(values);
  return t;
}

Tensor Emitter::inMemory(Tensor t) {
  if (t.data || t.none)
    return t;
  if (!t.weight.empty()) {
    WeightEntry entry{t.weight, "plain", dtypeName(t.storage), {}, ""};
    for (Value *d : t.dims)
      entry.shape.push_back(*known(d));
    t.data = weightPointer(weightSlot(std::move(entry)));
    t.strides = rowMajor(t.dims);
    return t;
  }
  Tensor m = allocate(t.dtype, t.dims);
  if (t.ints) {
    for (auto [i, v] : llvm::enumerate(*t.ints)) {
      Value *x = isFloat(t.dtype) ? b.CreateSIToFP(v, computeType(t.dtype))
                                  : b.CreateTrunc(v, computeType(t.dtype));
      storeElement(*this, b, t.dtype, t.dtype, x, elementPointer(m, i64(i)));
    }
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
  Tensor m = dense(t);
  Values values;
  for (int64_t i = 0; i < *count; ++i) {
    Value *x = loadElement(*this, b, m.dtype, m.dtype, elementPointer(m, i64(i)));
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

Tensor Emitter::constant(mlir::ElementsAttr attr) {
  auto dense = mlir::dyn_cast<mlir::DenseElementsAttr>(attr);
  Tensor t;
  t.dtype = t.storage = *dtypeOf(attr.getElementType());
  for (int64_t d : attr.getShapedType().getShape())
    t.dims.push_back(i64(d));
  t.strides = rowMajor(t.dims);
  int64_t count = attr.getNumElements();
  std::vector<char> bytes;
  Values ints;
  for (int64_t i = 0; i < count; ++i) {
    llvm::APInt bits;
    if (isFloat(t.dtype)) {
      llvm::APFloat value = *(dense.value_begin<llvm::APFloat>() + i);
      bits = value.bitcastToAPInt();
      bool lossy;
      value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lossy);
      if (count == 1)
        t.splat = value.convertToDouble();
    } else {
      bits = *(dense.value_begin<llvm::APInt>() + i);
      int64_t value = isUnsigned(t.dtype) ? static_cast<int64_t>(bits.getZExtValue())
                                          : bits.getSExtValue();
      ints.push_back(i64(value));
      if (t.dtype == DType::Bool)
        bits = bits.zext(8);
    }
    uint64_t raw = bits.getZExtValue();
    bytes.insert(bytes.end(), reinterpret_cast<char *>(&raw),
                 reinterpret_cast<char *>(&raw) + byteSize(t.dtype));
  }
  if (!isFloat(t.dtype) && t.rank() <= 1 && count <= 64)
    t.ints = std::move(ints);
  t.data = constantData(bytes);
  return t;
}

//===--- results -------------------------------------------------------------------------------===//

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
        check(b.CreateOr(b.CreateICmpEQ(d, o), b.CreateICmpEQ(d, i64(1))), "shapes do not broadcast");
      } else if (known(d)) {
        check(b.CreateOr(b.CreateICmpEQ(d, o), b.CreateICmpEQ(o, i64(1))), "shapes do not broadcast");
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
  Values strides(dims.size(), i64(0));
  for (size_t i = 0; i < t.rank(); ++i) {
    size_t at = dims.size() - t.rank() + i;
    if (t.dims[i] == dims[at])
      strides[at] = t.strides[i];
    else if (!known(t.dims[i]))
      strides[at] = select(arith("eq", t.dims[i], i64(1)), i64(0), t.strides[i]);
  }
  t.dims = dims;
  t.strides = std::move(strides);
  t.ints.reset();
  return t;
}

Tensor Emitter::reshape(Tensor t, Values dims) {
  if (t.ints && dims.size() <= 1) {
    Tensor r = fromIntegers(t.dtype, *t.ints, dims.empty());
    if (t.data) {
      r.data = t.data, r.buffer = t.buffer, r.splat = t.splat;
      r.strides = rowMajor(r.dims);
    }
    return r;
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
  constexpr int kMaxLeaves = 12;
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
    return !a.dims.empty() && known(a.dims.back()) == 1 && a.rank() == t.rank() &&
           std::equal(a.dims.begin(), a.dims.end() - 1, t.dims.begin());
  };
  for (Tensor &a : args) {
    bool single = a.ints && a.ints->size() == 1;
    bool scalar = a.splat || single;
    if (!a.data && !a.expr && !scalar)
      a = inMemory(std::move(a));
    if (a.expr && (!sameShape(a) || t.expr->leaves + a.expr->leaves > kMaxLeaves))
      a = inMemory(std::move(a));
    t.expr->leaves += a.expr ? a.expr->leaves : scalar ? 0 : 1;
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
    bool plain = to == DType::I64 || (to == DType::I32 && t.dtype != DType::I64) ||
                 (to == DType::Bool && t.dtype == DType::Bool);
    bool small = llvm::all_of(*t.ints, [&](Value *v) {
      auto k = known(v);
      return to == DType::I32 ? !k || llvm::isInt<32>(*k) : k && (*k == 0 || *k == 1);
    });
    if (plain || (small && (to == DType::I32 || to == DType::Bool || byteSize(to) >= 1)))
      return fromIntegers(to, *t.ints, t.rank() == 0);
  }
  // A weight stays where it is: loading converts it, and nothing is lost by widening.
  bool widens = isFloat(t.storage) && isFloat(to) && isFloat(t.dtype) &&
                byteSize(to) > byteSize(t.dtype) && t.storage == t.dtype;
  if (widens && (t.data || !t.weight.empty())) {
    t.dtype = to;
    return t;
  }
  return lazy("Cast", to, {std::move(t)});
}
