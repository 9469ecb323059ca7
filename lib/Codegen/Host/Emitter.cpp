#include "Emitter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/MDBuilder.h"
#include "llvm/Support/MathExtras.h"

using namespace moec::host;
using llvm::Value;

Buffer::Buffer(Emitter &emitter, Value *memory, bool sequence)
    : emitter(emitter), memory(memory), sequence(sequence), depth(emitter.depth) {}

Buffer::~Buffer() { emitter.release(memory, sequence); }

void Emitter::forgetNumbers(size_t count) {
  for (; numberedOrder.size() > count; numberedOrder.pop_back())
    numbered.erase(numberedOrder.back());
}

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
  std::pair<mlir::Operation *, std::string> why(op, ("unsupported: " + message).str());
  if (!llvm::is_contained(errors, why)) // what follows a fork is lowered twice
    errors.push_back(std::move(why));
  return mlir::failure();
}

// --- integers ---

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
  if (cy &&
      ((*cy == 0 && (op == "add" || op == "sub")) || (*cy == 1 && (op == "mul" || op == "div"))))
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
  if (cy && *cy == -1 && op == "div") // the smallest by -1 would trap
    return arith("sub", i64(0), x);
  if (cy && *cy == 0 && (op == "div" || op == "mod" || op == "rem")) {
    check(b.getFalse(), "division by zero");
    return i64(0);
  }
  if (commutes && !cy && std::less<Value *>()(y, x))
    std::swap(x, y);
  Value *&memo = numbered[{op.str(), x, y}];
  if (!memo) {
    memo = emitInteger(b, op, x, y);
    numberedOrder.emplace_back(op.str(), x, y);
  }
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
  b.CreateCondBr(condition, next, fail, llvm::MDBuilder(context).createBranchWeights(1 << 20, 1));
  b.SetInsertPoint(fail);
  std::string text = message.str();
  if (!mlir::isa<mlir::func::FuncOp>(op)) // else about an input, which the message names
    text = "node \"" + nodeName() + "\" (" + op->getName().stripDialect().str() + "): " + text;
  call("fail", {i32(1), cstring(text)});
  b.CreateUnreachable();
  b.SetInsertPoint(next);
}

Value *Emitter::checkEqual(Value *x, Value *y, const llvm::Twine &message) {
  if (x != y)
    check(b.CreateICmpEQ(x, y), message);
  return known(x) ? x : known(y) ? y : x;
}

// --- memory ---

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

// Sizes that come from data may be negative, or so large that their product wraps: too small a buffer
// would be asked for.
void Emitter::checkSize(DType type, llvm::ArrayRef<Value *> dims) {
  constexpr uint64_t kMostBytes = uint64_t(1) << 47; // what an address space holds
  uint64_t fixed = byteSize(type);
  llvm::SmallVector<Value *> open;
  for (Value *d : dims)
    if (auto k = known(d))
      fixed = llvm::SaturatingMultiply(fixed, static_cast<uint64_t>(*k));
    else
      open.push_back(d);
  if (open.empty() || fixed == 0)
    return;
  Value *most = i64(static_cast<int64_t>(kMostBytes / fixed)), *total = nullptr, *fits = nullptr;
  auto require = [&](Value *condition) {
    fits = fits ? b.CreateAnd(fits, condition) : condition;
  };
  for (Value *d : open) {
    require(b.CreateICmpULE(d, most));
    if (!total) {
      total = d;
      continue;
    }
    Value *both = b.CreateBinaryIntrinsic(llvm::Intrinsic::umul_with_overflow, total, d);
    total = b.CreateExtractValue(both, 0);
    require(b.CreateNot(b.CreateExtractValue(both, 1)));
    require(b.CreateICmpULE(total, most));
  }
  check(fits, "a tensor of negative or impossible size");
}

Tensor Emitter::allocate(DType type, Values dims) {
  checkSize(type, dims);
  Tensor t;
  t.dtype = t.storage = type;
  t.strides = rowMajor(dims);
  t.dims = std::move(dims);
  Value *bytes = mul(product(t.dims), i64(byteSize(type)));
  t.data = call("alloc", {bytes});
  t.buffer = std::make_shared<Buffer>(*this, t.data);
  return t;
}

void Emitter::release(Value *memory, bool sequence) {
  llvm::BasicBlock *block = b.GetInsertBlock();
  if (memory && block && !block->getTerminator())
    call(sequence ? "sequence_free" : "free", {memory});
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
  for (auto [i, w] : llvm::enumerate(result.program.weights))
    if (w.name == entry.name && w.layout == entry.layout && w.dtype == entry.dtype &&
        w.name2 == entry.name2)
      return i;
  result.program.weights.push_back(std::move(entry));
  return result.program.weights.size() - 1;
}

std::optional<unsigned> Emitter::hookNumber(HookEntry hook) {
  auto &hooks = result.program.hooks;
  auto it = llvm::find_if(hooks, [&](const HookEntry &h) { return h.layer == hook.layer; });
  if (it == hooks.end())
    it = hooks.insert(it, hook);
  else if (it->experts != hook.experts || it->k != hook.k)
    return std::nullopt;
  return it - hooks.begin();
}

unsigned Emitter::kernelSlot(const std::string &spec) {
  auto it = llvm::find(result.program.kernels, spec);
  if (it == result.program.kernels.end())
    it = result.program.kernels.insert(it, spec);
  return it - result.program.kernels.begin();
}
