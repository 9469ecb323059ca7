#include "Join.h"
#include "moec/Dialect/Onnx/Onnx.h"

using namespace moec::host;
using llvm::BasicBlock;
using llvm::Value;
using Kind = Form::Kind;

/// More integers than this travel in memory.
static constexpr size_t kMaxIntegers = 8;

// --- forms ---

static bool areIntegers(const Tensor &t) {
  return t.ints && !isFloat(t.dtype) && t.ints->size() <= kMaxIntegers && t.rank() <= 1;
}

Form moec::host::formOf(const Tensor &t) {
  Form form;
  form.type = t.dtype;
  if (t.none)
    return form;
  if (t.sequence) {
    form.kind = Kind::sequence;
    form.rank = t.sequence->rank;
    form.mixed = t.sequence->mixed;
    return form;
  }
  form.kind = areIntegers(t) ? Kind::integers : Kind::memory;
  form.count = form.kind == Kind::integers ? t.ints->size() : 0;
  form.dims = t.dims;
  return form;
}

bool moec::host::widen(Form &form, const Form &other, std::string &why) {
  auto isTensor = [](const Form &f) { return f.kind == Kind::integers || f.kind == Kind::memory; };
  bool tensors = isTensor(form) && isTensor(other);
  if (!tensors && form.kind != other.kind) {
    why = "of different kinds";
    return false;
  }
  if (form.kind != Kind::none && form.type != other.type) {
    why = "of different element types";
    return false;
  }
  if (form.dims.size() != other.dims.size()) {
    why = kDifferentRanks;
    return false;
  }
  if (tensors && (form.kind != other.kind || form.count != other.count)) {
    form.kind = Kind::memory;
    form.count = 0;
  }
  for (auto [mine, theirs] : llvm::zip(form.dims, other.dims))
    if (mine != theirs)
      mine = nullptr;
  form.mixed |= other.mixed || (form.rank && other.rank && form.rank != other.rank);
  if (!form.rank)
    form.rank = other.rank;
  if (form.mixed)
    form.rank.reset();
  return true;
}

bool moec::host::same(const Form &a, const Form &b) {
  return a.kind == b.kind && a.type == b.type && a.count == b.count && a.dims == b.dims &&
         a.rank == b.rank && a.mixed == b.mixed;
}

// --- ends of paths ---

/// The tensor with the sizes that the type knows, checked at run time.
static Tensor narrowed(Emitter &e, Tensor t, mlir::Type type) {
  auto ranked = mlir::dyn_cast<mlir::RankedTensorType>(type);
  if (t.none || t.sequence || !ranked)
    return t;
  auto shape = ranked.getShape();
  if (shape.size() != t.rank()) { // the file contradicts itself on this path
    e.check(e.b.getFalse(), "a value of rank " + llvm::Twine(t.rank()) + " where its type says " +
                                llvm::Twine(shape.size()));
    Values dims;
    for (int64_t d : shape)
      dims.push_back(e.i64(mlir::ShapedType::isDynamic(d) ? 0 : d));
    return e.allocate(t.dtype, std::move(dims));
  }
  for (size_t i = 0; i < t.rank(); ++i)
    if (!mlir::ShapedType::isDynamic(shape[i]))
      t.dims[i] = e.checkEqual(t.dims[i], e.i64(shape[i]), "a dimension contradicts its type");
  return t;
}

Tensor moec::host::settled(Emitter &e, Tensor t, mlir::Type type) {
  t = narrowed(e, std::move(t), type);
  return t.none || t.sequence || areIntegers(t) ? t : e.dense(std::move(t));
}

void Leaving::release() {
  for (auto &buffer : passed)
    buffer->memory = nullptr;
  passed.clear();
}

/// Whether the tensor's memory belongs to nobody else, of this scope.
static bool owns(Emitter &e, const Tensor &t, long uses) {
  return t.buffer && t.buffer.use_count() == uses && t.buffer->memory &&
         t.buffer->depth == e.depth &&
         llvm::all_of(t.buffer->keeps, [&](const auto &kept) { return kept->depth < e.depth; });
}

static void pass(const Tensor &t, Leaving &out) {
  out.passed.push_back(t.buffer);
  out.keeps = t.buffer->keeps;
  out.parts.push_back(t.buffer->memory);
}

/// A reference of the path's own.
static void leaveSequence(Emitter &e, const Tensor &given, Leaving &out) {
  Tensor t = e.runtimeSequence(given);
  if (!owns(e, t, t.buffer == given.buffer ? 2 : 1)) {
    e.call("sequence_retain", {t.data});
    out.parts = {t.data};
    return;
  }
  pass(t, out);
}

Leaving moec::host::leave(Emitter &e, const Form &form, const Tensor &given, bool inside) {
  Leaving out;
  if (form.kind == Kind::none)
    return out;
  if (form.kind == Kind::integers) {
    out.parts = *given.ints;
    return out;
  }
  if (form.kind == Kind::sequence) {
    leaveSequence(e, given, out);
    return out;
  }
  Tensor t = e.dense(given);
  long uses = t.buffer == given.buffer ? 2 : 1;
  bool sequence = t.buffer && t.buffer->sequence;
  bool kept = !t.buffer || !inside || t.buffer->depth < e.depth;
  if (!kept && (sequence || !owns(e, t, uses))) {
    Tensor copy = e.allocate(t.dtype, t.dims);
    e.store(t, copy);
    t = std::move(copy);
    uses = 1;
    sequence = false;
  }
  out.parts.push_back(t.data);
  if (!sequence && owns(e, t, uses)) {
    pass(t, out);
  } else {
    out.parts.push_back(e.null());
    if (t.buffer)
      out.keeps.push_back(t.buffer);
  }
  for (auto [mine, dim] : llvm::zip(form.dims, t.dims))
    if (!mine)
      out.parts.push_back(dim);
  return out;
}

// --- joins ---

std::vector<llvm::Type *> moec::host::partTypes(Emitter &e, const Form &form) {
  std::vector<llvm::Type *> types;
  if (form.kind == Kind::sequence)
    types.push_back(e.b.getPtrTy());
  if (form.kind == Kind::memory)
    types.assign(2, e.b.getPtrTy());
  size_t integers = form.kind == Kind::memory ? llvm::count(form.dims, nullptr) : form.count;
  types.insert(types.end(), integers, e.b.getInt64Ty());
  return types;
}

Tensor moec::host::arrive(Emitter &e, const Form &form, llvm::ArrayRef<Value *> parts,
                          std::vector<std::shared_ptr<Buffer>> keeps) {
  Tensor t;
  t.dtype = t.storage = form.type;
  if (form.kind == Kind::none) {
    t.none = true;
    return t;
  }
  if (form.kind == Kind::integers) {
    e.joinedIntegers.insert(parts.begin(), parts.end());
    return e.fromIntegers(form.type, parts.vec(), form.dims.empty());
  }
  t.data = parts[0];
  if (form.kind == Kind::sequence) {
    t.buffer = std::make_shared<Buffer>(e, parts[0], /*sequence=*/true);
    t.sequence = std::make_shared<Sequence>(Sequence{std::nullopt, form.rank, form.mixed});
    return t;
  }
  bool owns = !llvm::isa<llvm::ConstantPointerNull>(parts[1]);
  if (owns || !keeps.empty()) {
    t.buffer = std::make_shared<Buffer>(e, owns ? parts[1] : nullptr);
    t.buffer->keeps = std::move(keeps);
  }
  parts = parts.drop_front(2);
  for (Value *d : form.dims) {
    t.dims.push_back(d ? d : parts.front());
    if (!d)
      parts = parts.drop_front();
  }
  t.strides = e.rowMajor(t.dims);
  return t;
}

// --- blocks ---

Attempt::Attempt(Emitter &e)
    : e(e), at(e.b.GetInsertBlock()), last(&e.main->back()), numbers(e.numberedCount()),
      weights(e.result.program.weights.size()), kernels(e.result.program.kernels.size()) {
  auto *start = BasicBlock::Create(e.context, "", e.main);
  e.b.CreateBr(start);
  e.b.SetInsertPoint(start);
}

void Attempt::undo() {
  at->getTerminator()->eraseFromParent();
  std::vector<BasicBlock *> dead;
  for (auto it = std::next(last->getIterator()); it != e.main->end(); ++it)
    dead.push_back(&*it);
  for (BasicBlock *block : dead)
    block->dropAllReferences();
  for (BasicBlock *block : dead)
    block->eraseFromParent();
  e.forgetNumbers(numbers);
  e.result.program.weights.resize(weights);
  e.result.program.kernels.resize(kernels);
  e.b.SetInsertPoint(at);
}

void moec::host::forEach(Emitter &e, Value *count, llvm::function_ref<void(Value *)> body) {
  auto *before = e.b.GetInsertBlock();
  auto *head = BasicBlock::Create(e.context, "for", e.main);
  auto *inner = BasicBlock::Create(e.context, "do", e.main);
  auto *next = BasicBlock::Create(e.context, "", e.main);
  e.b.CreateBr(head);
  e.b.SetInsertPoint(head);
  auto *i = e.b.CreatePHI(e.b.getInt64Ty(), 2);
  i->addIncoming(e.i64(0), before);
  e.b.CreateCondBr(e.b.CreateICmpSLT(i, count), inner, next);
  e.b.SetInsertPoint(inner);
  {
    Scope scope(e);
    body(i);
  }
  i->addIncoming(e.b.CreateAdd(i, e.i64(1)), e.b.GetInsertBlock());
  e.b.CreateBr(head);
  e.b.SetInsertPoint(next);
}
