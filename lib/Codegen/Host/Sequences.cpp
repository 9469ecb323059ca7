// Sequences of tensors. One whose elements are known one by one exists at compile time only; one
// that loops and branches build is an object of the runtime, immutable while others hold it.
#include "Emitter.h"
#include "moec/Dialect/Onnx/Onnx.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

/// Longer ones are objects of the runtime from the start.
static constexpr int64_t kMaxElements = 256;

// --- objects of the runtime ---

/// Takes over a handle.
static Tensor object(Emitter &e, Value *handle, DType type, std::optional<size_t> rank,
                     bool mixed) {
  Tensor t;
  t.dtype = t.storage = type;
  t.data = handle;
  t.buffer = std::make_shared<Buffer>(e, handle, /*sequence=*/true);
  t.sequence = std::make_shared<Sequence>(Sequence{std::nullopt, rank, mixed});
  return t;
}

bool Emitter::passOn(const Tensor &t) {
  bool owned = t.buffer && t.buffer.use_count() == 1 && !t.buffer->sequence &&
               t.buffer->memory == t.data && t.buffer->depth == depth && t.buffer->keeps.empty();
  if (owned)
    t.buffer->memory = nullptr;
  return owned;
}

void Emitter::append(const Tensor &list, Tensor tensor) {
  Tensor t = dense(std::move(tensor));
  Value *seen = view(t);
  call("sequence_append", {list.data, seen, i32(passOn(t))});
}

Tensor Emitter::runtimeSequence(const Tensor &t) {
  if (!t.sequence->elements)
    return t;
  const Tensors &elements = *t.sequence->elements;
  Value *handle = call("sequence_new", {i64(static_cast<int64_t>(elements.size()))});
  Tensor out = object(*this, handle, t.dtype, t.sequence->rank, t.sequence->mixed);
  for (const Tensor &element : elements)
    append(out, element);
  return out;
}

Tensor Emitter::joined(const Tensor &list, size_t axis, int form, const Tensor &empty) {
  constexpr uint64_t kBuffer = 9; // moert_buffer: data, then 8 sizes
  Value *slot = stackSlot(b.getInt64Ty(), kBuffer);
  call("sequence_join", {list.data, i64(static_cast<int64_t>(axis)), i32(form), view(empty), slot,
                         cstring(nodeName())});
  Tensor out;
  out.dtype = out.storage = empty.dtype;
  out.data = b.CreateLoad(b.getPtrTy(), slot);
  for (size_t i = 0; i < empty.rank(); ++i)
    out.dims.push_back(
        b.CreateLoad(b.getInt64Ty(), b.CreateConstInBoundsGEP1_64(b.getInt64Ty(), slot, i + 1)));
  out.strides = rowMajor(out.dims);
  out.buffer = std::make_shared<Buffer>(*this, out.data);
  return out;
}

// --- making and reading ---

/// A sequence of known elements.
static Tensor listed(DType type, Tensors elements) {
  Sequence s;
  for (const Tensor &t : elements) {
    s.mixed |= s.rank && *s.rank != t.rank();
    s.rank = t.rank();
  }
  if (s.mixed)
    s.rank.reset();
  s.elements = std::move(elements);
  Tensor t;
  t.dtype = t.storage = type;
  t.sequence = std::make_shared<Sequence>(std::move(s));
  return t;
}

static DType elementType(mlir::Operation *op) {
  auto type = mlir::dyn_cast<moec::onnx::SequenceType>(op->getResult(0).getType());
  return (type ? dtypeOf(type.getElementType().getElementType()) : std::nullopt)
      .value_or(DType::F32);
}

static mlir::LogicalResult construct(Emitter &e, mlir::Operation *op, Tensors &args,
                                     Tensors &results) {
  for (Tensor &t : args) {
    if (t.none || t.dtype != elementType(op))
      return e.error("elements of different types");
    if (t.expr)
      t = e.inMemory(std::move(t));
  }
  results.push_back(listed(elementType(op), std::move(args)));
  return mlir::success();
}

/// A position operand; null when absent.
static mlir::FailureOr<Value *> positionOf(Emitter &e, const Tensors &args, size_t index) {
  if (index >= args.size() || args[index].none)
    return static_cast<Value *>(nullptr);
  auto values = e.integersOf(args[index], 1);
  if (mlir::failed(values))
    return e.error("a position that is not a scalar");
  return values->front();
}

/// Where a known position lies in a list of `size` places.
static std::optional<size_t> place(Value *position, size_t size) {
  auto k = known(position);
  return k ? normalAxis(*k, size) : std::nullopt;
}

/// A list that a call changes: in place where nobody else has it (`consumed`), else it makes a
/// copy.
static Tensor forChange(Emitter &e, Tensor list, Value *&consumed) {
  Tensor t = e.runtimeSequence(list);
  list = Tensor();
  bool own = t.buffer.use_count() == 1 && t.buffer->depth == e.depth;
  consumed = e.i32(own);
  if (own)
    t.buffer->memory = nullptr;
  return t;
}

static mlir::LogicalResult insert(Emitter &e, mlir::Operation *, Tensors &args, Tensors &results) {
  auto position = positionOf(e, args, 2);
  if (mlir::failed(position))
    return mlir::failure();
  Tensor list = std::move(args[0]), element = std::move(args[1]);
  Sequence s = *list.sequence;
  DType type = list.dtype;
  if (element.dtype != type)
    return e.error("an element of another type");
  if (element.expr)
    element = e.inMemory(std::move(element));
  size_t size = s.elements ? s.elements->size() : kMaxElements;
  auto at =
      !*position || known(*position) == static_cast<int64_t>(size) ? size : place(*position, size);
  if (size < kMaxElements && at) {
    s.elements->insert(s.elements->begin() + static_cast<int64_t>(*at), std::move(element));
    results.push_back(listed(type, std::move(*s.elements)));
    return mlir::success();
  }
  bool mixed = s.mixed || (s.rank && *s.rank != element.rank());
  auto rank = mixed ? std::nullopt : std::optional(element.rank());
  s.elements.reset();
  Value *consumed;
  Tensor t = forChange(e, std::move(list), consumed);
  element = e.dense(std::move(element));
  Value *owned = e.i32(e.passOn(element));
  Value *handle = e.call("sequence_insert",
                         {t.data, consumed, *position ? *position : e.i64(0), e.i32(!*position),
                          e.view(element), owned, e.cstring(e.nodeName())});
  results.push_back(object(e, handle, type, rank, mixed));
  return mlir::success();
}

static mlir::LogicalResult erase(Emitter &e, mlir::Operation *, Tensors &args, Tensors &results) {
  auto position = positionOf(e, args, 1);
  if (mlir::failed(position))
    return mlir::failure();
  Tensor list = std::move(args[0]);
  Sequence s = *list.sequence;
  DType type = list.dtype;
  if (s.elements) {
    size_t size = s.elements->size();
    auto at = place(*position ? *position : e.i64(-1), size);
    if (at) {
      s.elements->erase(s.elements->begin() + static_cast<int64_t>(*at));
      results.push_back(listed(type, std::move(*s.elements)));
      return mlir::success();
    }
    s.elements.reset();
  }
  Value *consumed;
  Tensor t = forChange(e, std::move(list), consumed);
  Value *handle = e.call("sequence_erase", {t.data, consumed, *position ? *position : e.i64(-1),
                                            e.cstring(e.nodeName())});
  results.push_back(object(e, handle, type, s.rank, s.mixed));
  return mlir::success();
}

static mlir::LogicalResult at(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  auto position = positionOf(e, args, 1);
  if (mlir::failed(position))
    return mlir::failure();
  const Sequence &s = *args[0].sequence;
  if (s.elements)
    if (auto index = place(*position, s.elements->size())) {
      results.push_back((*s.elements)[*index]);
      return mlir::success();
    }
  auto type = mlir::dyn_cast<mlir::RankedTensorType>(op->getResult(0).getType());
  std::optional<size_t> rank = s.rank;
  if (!rank && type)
    rank = type.getRank();
  if (!rank)
    return e.error("an element of unknown rank");
  Tensor list = e.runtimeSequence(args[0]);
  Value *buffer = e.call("sequence_at", {list.data, *position, e.i32(static_cast<int32_t>(*rank)),
                                         e.cstring(e.nodeName())});
  Tensor t;
  t.dtype = t.storage = list.dtype;
  t.data = e.b.CreateLoad(e.b.getPtrTy(), buffer);
  for (size_t i = 0; i < *rank; ++i)
    t.dims.push_back(e.b.CreateLoad(
        e.b.getInt64Ty(), e.b.CreateConstInBoundsGEP1_64(e.b.getInt64Ty(), buffer, i + 1)));
  t.dims = e.refine(std::move(t.dims));
  t.strides = e.rowMajor(t.dims);
  t.buffer = list.buffer; // as long as the list is there, so are its elements
  results.push_back(std::move(t));
  return mlir::success();
}

static mlir::LogicalResult length(Emitter &e, mlir::Operation *, Tensors &args, Tensors &results) {
  const Sequence &s = *args[0].sequence;
  Value *count = s.elements ? e.i64(static_cast<int64_t>(s.elements->size()))
                            : e.call("sequence_length", {args[0].data});
  results.push_back(e.fromIntegers(DType::I64, {count}, true));
  return mlir::success();
}

static mlir::LogicalResult empty(Emitter &, mlir::Operation *op, Tensors &, Tensors &results) {
  results.push_back(listed(elementType(op), {}));
  return mlir::success();
}

// --- splitting and joining ---

static mlir::LogicalResult concat(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  Tensor list = std::move(args[0]);
  const Sequence &s = *list.sequence;
  bool stack = intAttr(op, "new_axis", 0) != 0;
  auto type = mlir::dyn_cast<mlir::RankedTensorType>(op->getResult(0).getType());
  std::optional<size_t> rank = s.rank;
  if (rank && stack)
    ++*rank;
  if (!rank && type && !s.mixed)
    rank = type.getRank();
  auto axis = rank ? normalAxis(intAttr(op, "axis", 0), *rank) : std::nullopt;
  if (!axis)
    return e.error("elements of different or unknown ranks, or an axis out of range");
  if (s.elements && !s.elements->empty()) {
    Tensors parts;
    for (const Tensor &t : *s.elements) {
      Values dims = t.dims;
      if (stack)
        dims.insert(dims.begin() + static_cast<int64_t>(*axis), e.i64(1));
      parts.push_back(stack ? e.reshape(t, std::move(dims)) : t);
    }
    return allHandlers().lookup("Concat")(e, op, parts, results);
  }
  Tensor none;
  none.dtype = none.storage = list.dtype;
  none.data = e.null();
  none.dims.assign(*rank, e.i64(-1)); // there is no such result: the run ends
  Tensor out = e.joined(e.runtimeSequence(list), *axis, stack ? 1 : 0, none);
  out.dims = e.refine(std::move(out.dims));
  out.strides = e.rowMajor(out.dims);
  results.push_back(std::move(out));
  return mlir::success();
}

/// The sizes of the parts when their number is known; nothing otherwise.
static std::optional<Values> partSizes(Emitter &e, const Tensor &split, Value *dim) {
  bool chunks = split.none || split.rank() == 0;
  if (!chunks) {
    auto count = known(split.dims[0]);
    if (!count || *count > kMaxElements)
      return std::nullopt;
    auto given = e.integers(split);
    return mlir::succeeded(given) ? std::optional(*given) : std::nullopt;
  }
  auto size = split.none ? mlir::FailureOr<Values>(Values{e.i64(1)}) : e.integers(split);
  auto each = mlir::succeeded(size) ? known(size->front()) : std::nullopt, whole = known(dim);
  if (!each || !whole || *each < 1 || *whole / *each >= kMaxElements)
    return std::nullopt;
  Values sizes;
  for (int64_t from = 0; from < *whole; from += *each)
    sizes.push_back(e.i64(std::min(*each, *whole - from)));
  return sizes;
}

static mlir::LogicalResult split(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  Tensor t = std::move(args[0]), sizes;
  sizes.none = true;
  if (args.size() > 1)
    sizes = std::move(args[1]);
  auto axis = normalAxis(intAttr(op, "axis", 0), t.rank());
  if (!axis || (!sizes.none && sizes.rank() > 1))
    return e.error("an axis out of range or sizes that are not a vector");
  bool squeeze = sizes.none && intAttr(op, "keepdims", 1) == 0;
  if (auto parts = partSizes(e, sizes, t.dims[*axis])) {
    t = e.inMemory(std::move(t));
    t.ints.reset();
    Tensors elements;
    Value *start = e.i64(0);
    for (Value *size : *parts) {
      e.check(e.b.CreateICmpSGE(size, e.i64(0)), "a part of negative size");
      Tensor part = t;
      part.data = e.elementPointer(t, e.mul(start, t.strides[*axis]));
      part.splat.reset();
      part.dims[*axis] = size;
      if (squeeze) {
        part.dims.erase(part.dims.begin() + static_cast<int64_t>(*axis));
        part.strides.erase(part.strides.begin() + static_cast<int64_t>(*axis));
      }
      elements.push_back(std::move(part));
      start = e.add(start, size);
    }
    e.checkEqual(start, t.dims[*axis], "the parts do not add up to the dimension");
    results.push_back(listed(elementType(op), std::move(elements)));
    return mlir::success();
  }
  t = e.dense(std::move(t));
  size_t rank = t.rank() - (squeeze ? 1 : 0);
  Value *given = e.null();
  if (!sizes.none) {
    sizes = e.denseAs(std::move(sizes), DType::I64);
    given = e.view(sizes);
  }
  Value *handle = e.call("sequence_split", {e.view(t), e.i64(static_cast<int64_t>(*axis)), given,
                                            e.i32(squeeze), e.cstring(e.nodeName())});
  results.push_back(object(e, handle, t.dtype, rank, false));
  return mlir::success();
}

void moec::host::addSequences(Handlers &h) {
  h["SequenceConstruct"] = construct;
  h["SequenceEmpty"] = empty;
  h["SequenceInsert"] = insert;
  h["SequenceErase"] = erase;
  h["SequenceAt"] = at;
  h["SequenceLength"] = length;
  h["ConcatFromSequence"] = concat;
  h["SplitToSequence"] = split;
}
