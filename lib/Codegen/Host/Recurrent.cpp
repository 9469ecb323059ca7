// RNN, GRU and LSTM: the products with the inputs of all steps here, the steps by the runtime.
#include "Lists.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "moec/Codegen/KernelSpec/KernelSpec.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

namespace {
/// A function's number in the runtime, and its parameters where none are given.
struct Activation {
  int64_t number = -1;
  int parameters = 0;
  double alpha = 1, beta = 0;
};
} // namespace

static Activation activationOf(llvm::StringRef name) {
  return llvm::StringSwitch<Activation>(name.lower())
      .Case("tanh", {0})
      .Case("sigmoid", {1})
      .Case("relu", {2})
      .Case("softsign", {3})
      .Case("softplus", {4})
      .Case("leakyrelu", {5, 1, 0.01f})
      .Case("thresholdedrelu", {6, 1})
      .Case("elu", {7, 1})
      .Case("affine", {8, 2})
      .Case("scaledtanh", {9, 2, 1, 1})
      .Case("hardsigmoid", {10, 2, 0.2f, 0.5})
      .Default({});
}

static std::vector<double> floatsAttr(mlir::Operation *op, llvm::StringRef name) {
  auto values = op->getAttrOfType<mlir::DenseF32ArrayAttr>(name);
  return values ? std::vector<double>(values.asArrayRef().begin(), values.asArrayRef().end())
                : std::vector<double>();
}

/// The functions of all directions; `numbers` gets alpha and beta of each.
static mlir::FailureOr<std::vector<int64_t>> functionsOf(Emitter &e, mlir::Operation *op,
                                                         llvm::ArrayRef<const char *> defaults,
                                                         size_t directions,
                                                         std::vector<double> &numbers) {
  auto names = op->getAttrOfType<mlir::ArrayAttr>("activations");
  std::vector<double> alphas = floatsAttr(op, "activation_alpha");
  std::vector<double> betas = floatsAttr(op, "activation_beta");
  size_t count = defaults.size() * directions, alpha = 0, beta = 0;
  if (names && names.size() < count) // the default of an RNN names two
    return e.error("fewer activations than " + llvm::Twine(count));
  std::vector<int64_t> functions;
  for (size_t i = 0; i < count; ++i) {
    auto given = names ? mlir::dyn_cast<mlir::StringAttr>(names[i]) : mlir::StringAttr();
    Activation a = activationOf(given ? given.getValue() : defaults[i % defaults.size()]);
    if (a.number < 0)
      return e.error("the activation " + (given ? given.getValue() : "without a name"));
    if (a.parameters > 0 && alpha < alphas.size())
      a.alpha = alphas[alpha++];
    if (a.parameters > 1 && beta < betas.size())
      a.beta = betas[beta++];
    functions.push_back(a.number);
    numbers.push_back(a.alpha);
    numbers.push_back(a.beta);
  }
  return functions;
}

namespace {
struct Recurrence {
  int kind; ///< as in the runtime
  int64_t gates;
  DType type; ///< of all floats: f32 or f64
  Value *length, *batch, *width, *hidden, *directions;
  bool batchFirst;
};
} // namespace

static Tensor swapped(Tensor t, size_t a, size_t b) {
  std::swap(t.dims[a], t.dims[b]);
  std::swap(t.strides[a], t.strides[b]);
  return t;
}

/// W x + the bias of W for every step: [length, batch, directions, gates * hidden].
static Tensor inputProducts(Emitter &e, const Recurrence &r, Tensor x, const Tensor &w,
                            const Tensor *bias) {
  if (r.batchFirst)
    x = swapped(e.inMemory(std::move(x)), 0, 1);
  x = e.denseAs(std::move(x), r.type);
  Tensor weights = r.type == DType::F32 ? e.floats(w) : e.denseAs(w, r.type);
  if (!e.contiguous(weights))
    weights = e.dense(std::move(weights));
  Value *one = e.i64(1), *zero = e.i64(0);
  Value *rows = e.mul(r.length, r.batch);
  Value *columns = e.mul(r.directions, e.mul(e.i64(r.gates), r.hidden));
  Tensor out = e.allocate(r.type, {rows, columns});
  if (r.type == DType::F32) {
    unsigned slot = e.kernelSlot(moec::bgemmSpec().text());
    e.call("bgemm", {e.i32(static_cast<int32_t>(slot)),
                     one,
                     one,
                     rows,
                     columns,
                     r.width,
                     x.data,
                     zero,
                     zero,
                     r.width,
                     one,
                     weights.data,
                     zero,
                     zero,
                     one,
                     r.width,
                     out.data,
                     zero,
                     zero,
                     columns});
  } else {
    Tensor a = x, b = weights, sums = out;
    a.dims = b.dims = {rows, columns, r.width};
    a.strides = {r.width, zero, one};
    b.strides = {zero, r.width, one};
    sums.dims = {rows, columns, one};
    sums.strides = {columns, one, one};
    e.reduce("sum", e.lazy("Mul", r.type, {a, b}), {false, false, true}, sums);
  }
  out.dims = {r.length, r.batch, r.directions, e.mul(e.i64(r.gates), r.hidden)};
  out.strides = e.rowMajor(out.dims);
  if (!bias)
    return out;
  Tensor first = *bias; // [directions, 2, gates * hidden] without the second half
  first.dims = {r.directions, out.dims[3]};
  first.strides = {e.mul(e.i64(2), out.dims[3]), one};
  return e.dense(e.lazy("Add", r.type, {std::move(out), std::move(first)}));
}

/// The first states [directions, batch, hidden], to be overwritten.
static mlir::FailureOr<Tensor> states(Emitter &e, const Recurrence &r, Tensor *given) {
  Tensor out = e.allocate(r.type, {r.directions, r.batch, r.hidden});
  if (!given) {
    e.store(e.expand(e.scalar(r.type, 0), out.dims), out);
    return out;
  }
  if (given->rank() != 3)
    return e.error("an initial state whose rank is not 3");
  Tensor t = e.inMemory(std::move(*given));
  if (r.batchFirst)
    t = swapped(std::move(t), 0, 1);
  for (size_t i = 0; i < 3; ++i)
    t.dims[i] = e.checkEqual(out.dims[i], t.dims[i], "an initial state does not fit");
  e.store(t, out);
  return out;
}

static mlir::LogicalResult readSizes(Emitter &e, mlir::Operation *op, const Tensors &args,
                                     Recurrence &r) {
  if (args.size() < 3 || args[0].rank() != 3 || args[1].rank() != 3 || args[2].rank() != 3)
    return e.error("X, W or R whose rank is not 3");
  std::string direction = stringAttr(op, "direction", "forward");
  r.type = args[0].dtype == DType::F64 ? DType::F64 : DType::F32;
  r.batchFirst = intAttr(op, "layout", 0) != 0;
  r.length = args[0].dims[r.batchFirst ? 1 : 0];
  r.batch = args[0].dims[r.batchFirst ? 0 : 1];
  r.width = e.checkEqual(args[0].dims[2], args[1].dims[2], "W does not fit X");
  r.hidden = args[2].dims[2];
  r.directions = e.i64(direction == "bidirectional" ? 2 : 1);
  Value *rows = e.mul(e.i64(r.gates), r.hidden);
  for (size_t i : {1, 2}) {
    e.checkEqual(args[i].dims[0], r.directions, "W or R does not fit the direction");
    e.checkEqual(args[i].dims[1], rows, "W or R does not fit the hidden size");
  }
  return mlir::success();
}

/// The results in the op's layout and type.
static void finish(Emitter &e, mlir::Operation *op, const Recurrence &r, Tensor y, Tensor h,
                   Tensor cell, Tensors &results) {
  if (r.batchFirst) { // [batch, length, directions, hidden]
    y = swapped(swapped(std::move(y), 0, 2), 1, 2);
    h = swapped(std::move(h), 0, 1);
  }
  results.push_back(e.cast(std::move(y), resultType(op)));
  if (op->getNumResults() > 1)
    results.push_back(e.cast(std::move(h), resultType(op)));
  if (op->getNumResults() > 2)
    results.push_back(
        e.cast(r.batchFirst ? swapped(std::move(cell), 0, 1) : std::move(cell), resultType(op)));
}

static mlir::LogicalResult recurrent(Emitter &e, mlir::Operation *op, Tensors &args,
                                     Tensors &results) {
  llvm::StringRef name = op->getName().stripDialect();
  Recurrence r;
  r.kind = name == "RNN" ? 0 : name == "GRU" ? 1 : 2;
  r.gates = r.kind == 0 ? 1 : r.kind == 1 ? 3 : 4;
  if (mlir::failed(readSizes(e, op, args, r)))
    return mlir::failure();
  std::vector<double> numbers{floatAttr(op, "clip", 0)};
  std::vector<const char *> defaults = r.kind == 0 ? std::vector<const char *>{"Tanh"}
                                       : r.kind == 1
                                           ? std::vector<const char *>{"Sigmoid", "Tanh"}
                                           : std::vector<const char *>{"Sigmoid", "Tanh", "Tanh"};
  auto functions = functionsOf(e, op, defaults, static_cast<size_t>(*known(r.directions)), numbers);
  if (mlir::failed(functions))
    return mlir::failure();
  auto given = [&](size_t i) { return args.size() > i && !args[i].none ? &args[i] : nullptr; };
  auto dense = [&](size_t i, DType type, Values dims) {
    Tensor t = e.denseAs(args[i], type);
    e.checkEqual(e.product(t.dims), e.product(dims), "an input has another number of elements");
    return t;
  };
  Value *two = e.i64(2), *rows = e.mul(e.i64(r.gates), r.hidden);
  Tensor bias, lengths, peephole;
  if (given(3))
    bias = dense(3, r.type, {r.directions, two, rows});
  if (given(4))
    lengths = dense(4, DType::I64, {r.batch});
  if (given(7))
    peephole = dense(7, r.type, {r.directions, e.i64(3), r.hidden});
  Tensor x = inputProducts(e, r, std::move(args[0]), args[1], given(3) ? &bias : nullptr);
  Tensor weights = e.denseAs(std::move(args[2]), r.type);
  auto h = states(e, r, given(5)), cell = states(e, r, r.kind == 2 ? given(6) : nullptr);
  if (mlir::failed(h) || mlir::failed(cell))
    return mlir::failure();
  Tensor y = e.allocate(r.type, {r.length, r.directions, r.batch, r.hidden});
  e.store(e.expand(e.scalar(r.type, 0), y.dims), y);
  std::vector<int64_t> options{stringAttr(op, "direction", "forward") == "reverse",
                               intAttr(op, "input_forget", 0),
                               intAttr(op, "linear_before_reset", 0)};
  unsigned slot = e.kernelSlot(moec::bgemmSpec().text());
  int32_t gemmSlot = -1; // few sequences do not need packed weights
  if (known(r.batch).value_or(3) > 2 && r.type == DType::F32)
    gemmSlot = static_cast<int32_t>(e.kernelSlot(moec::gemmSpec(moec::WeightType::F32).text()));
  auto data = [&](const Tensor &t) { return t.data ? t.data : e.null(); };
  e.call("op_recurrent",
         {e.i32(static_cast<int32_t>(slot)), e.i32(gemmSlot), e.i32(r.kind),
          e.i32(r.type == DType::F64), stackList(e, {r.length, r.batch, r.hidden, r.directions}),
          constantList(e, options), constantList(e, *functions), constantList(e, numbers), x.data,
          weights.data, data(bias), data(lengths), data(peephole), h->data, cell->data, y.data,
          e.cstring(e.nodeName())});
  finish(e, op, r, std::move(y), std::move(*h), std::move(*cell), results);
  return mlir::success();
}

void moec::host::addRecurrent(Handlers &h) { h["RNN"] = h["GRU"] = h["LSTM"] = recurrent; }
