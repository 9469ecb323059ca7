// Experts whose formula is a region: slots are sorted by expert, each used expert runs once over
// the rows of its tokens, and the rows of results are summed up by token.
#include "Join.h"
#include "Moe.h"

using namespace moec::host;
using llvm::BasicBlock;
using llvm::Value;
using Tensors = std::vector<Tensor>;

namespace {
/// Kinds of experts that no region stands for.
enum { kZero = -1, kIdentity = -2, kConstant = -3 };

class Layer {
public:
  Layer(Emitter &e, moec::moe::ExpertsOp op, moec::moe::BankOp bank)
      : e(e), op(op), bank(bank), experts(static_cast<int64_t>(bank.getExperts())) {}

  mlir::LogicalResult run(Tensors &args, Tensors &results);

private:
  Emitter &e;
  moec::moe::ExpertsOp op;
  moec::moe::BankOp bank;
  int64_t experts;
  Tensor x;
  Tensors contexts;
  std::vector<Tensors> parameters; ///< of each region, with all slabs
  Tensor token;                    ///< i64: of each sorted row
  Tensor constants;                ///< rows of constant experts
  Tensor list;                     ///< results of the experts that ran, in order of id

  mlir::LogicalResult place();
  int64_t kindOf(int64_t expert);
  Tensor table(llvm::function_ref<int64_t(int64_t)> number);
  Tensor rowsOf(const Tensor &t, const Tensor &rows);
  Tensor repeated(Value *row, Value *count);
  mlir::FailureOr<Tensor> apply(int64_t kind, Value *slab, Tensor rows, Tensors rowContexts);
  mlir::LogicalResult runExpert(Value *id, Value *from, Value *to, const Tensor &kinds,
                                const Tensor &slabs);
  mlir::LogicalResult runAll(const Tensor &first);
  Tensor rowsOfResults();
};
} // namespace

/// Lowers `body` so that it runs when the condition (i1) holds.
static mlir::LogicalResult when(Emitter &e, Value *condition,
                                llvm::function_ref<mlir::LogicalResult()> body) {
  auto *inner = BasicBlock::Create(e.context, "when", e.main);
  auto *next = BasicBlock::Create(e.context, "", e.main);
  e.b.CreateCondBr(condition, inner, next);
  e.b.SetInsertPoint(inner);
  mlir::LogicalResult result = mlir::success();
  {
    Scope scope(e);
    result = body();
  }
  e.b.CreateBr(next);
  e.b.SetInsertPoint(next);
  return result;
}

int64_t Layer::kindOf(int64_t expert) {
  llvm::StringRef storage = bank.getExpertStorage(expert);
  return storage == "zero"       ? kZero
         : storage == "identity" ? kIdentity
         : storage == "constant" ? kConstant
                                 : bank.getKind(expert);
}

/// Places the parameters, all slabs of each, and the rows of constant experts.
mlir::LogicalResult Layer::place() {
  if (auto name = bank.getConstants()) {
    auto t = weight(e, *name);
    if (mlir::failed(t))
      return mlir::failure();
    constants = e.inMemory(std::move(*t));
  }
  for (size_t kind = 0; kind < bank.getImplementations().size(); ++kind) {
    parameters.emplace_back();
    for (llvm::StringRef name : bank.getParametersOf(static_cast<int64_t>(kind))) {
      auto t = weight(e, name);
      if (mlir::failed(t))
        return mlir::failure();
      parameters.back().push_back(e.inMemory(std::move(*t)));
    }
  }
  return mlir::success();
}

/// i64 in memory, one for each expert.
Tensor Layer::table(llvm::function_ref<int64_t(int64_t)> number) {
  Values numbers;
  for (int64_t i = 0; i < experts; ++i)
    numbers.push_back(e.i64(number(i)));
  return e.inMemory(e.fromIntegers(DType::I64, std::move(numbers), false));
}

static Value *element(Emitter &e, const Tensor &t, Value *index) {
  return e.b.CreateLoad(e.b.getInt64Ty(), e.b.CreateGEP(e.b.getInt64Ty(), t.data, index));
}

Tensor Layer::rowsOf(const Tensor &t, const Tensor &rows) {
  Values dims = t.dims;
  dims[0] = rows.dims[0];
  Tensor out = e.allocate(t.storage, std::move(dims));
  out.dtype = t.dtype;
  e.call("op_gather", {e.view(t), e.view(rows), e.i64(0), out.data, e.cstring(e.nodeName())});
  return out;
}

/// `count` times a constant expert's row.
Tensor Layer::repeated(Value *row, Value *count) {
  Tensor t = constants;
  t.data = e.elementPointer(t, e.mul(row, t.strides[0]));
  t.dims[0] = count;
  t.strides[0] = e.i64(0);
  return t;
}

/// The region of a kind over rows of tokens and contexts; f32.
mlir::FailureOr<Tensor> Layer::apply(int64_t kind, Value *slab, Tensor rows, Tensors rowContexts) {
  Value *count = rows.dims[0];
  Tensors args{std::move(rows)};
  for (const Tensor &parameter : parameters[kind]) {
    Tensor t = parameter;
    t.data = e.elementPointer(t, e.mul(slab, t.strides[0]));
    t.dims.erase(t.dims.begin());
    t.strides.erase(t.strides.begin());
    args.push_back(std::move(t));
  }
  for (Tensor &t : rowContexts)
    args.push_back(std::move(t));
  auto values = e.region(bank.getImplementations()[kind], std::move(args));
  if (mlir::failed(values))
    return mlir::failure();
  if (values->size() != 1 || values->front().none || values->front().rank() < 1)
    return e.error("an expert that does not give a row for each token");
  Tensor y = std::move(values->front());
  y.dims[0] = e.checkEqual(y.dims[0], count, "an expert does not give a row for each token");
  return e.cast(std::move(y), DType::F32);
}

/// Appends the results of expert `id` for sorted rows [from, to).
mlir::LogicalResult Layer::runExpert(Value *id, Value *from, Value *to, const Tensor &kinds,
                                     const Tensor &slabs) {
  Tensor rows = token;
  rows.data = e.elementPointer(token, from);
  rows.dims = {e.sub(to, from)};
  Tensor mine = rowsOf(x, rows);
  Tensors mineContexts;
  for (size_t i = 0; i < contexts.size(); ++i)
    mineContexts.push_back(op.isContextOfRows(static_cast<int64_t>(i)) ? rowsOf(contexts[i], rows)
                                                                       : contexts[i]);
  Value *kind = element(e, kinds, id), *slab = element(e, slabs, id);
  llvm::SmallSetVector<int64_t, 4> present;
  for (int64_t i = 0; i < experts; ++i)
    present.insert(kindOf(i));
  for (int64_t k : present) {
    auto body = [&]() -> mlir::LogicalResult {
      Tensor y = mine;
      if (k == kZero) {
        y = e.scalar(DType::F32, 0);
        y.dims = mine.dims;
      } else if (k == kConstant) {
        y = repeated(slab, mine.dims[0]);
      } else if (k >= 0) {
        auto applied = apply(k, slab, mine, mineContexts);
        if (mlir::failed(applied))
          return mlir::failure();
        y = std::move(*applied);
      }
      e.append(list, e.denseAs(std::move(y), DType::F32));
      return mlir::success();
    };
    mlir::LogicalResult result =
        present.size() == 1 ? body() : when(e, e.b.CreateICmpEQ(kind, e.i64(k)), body);
    if (mlir::failed(result))
      return mlir::failure();
  }
  return mlir::success();
}

/// All used experts; with none the first, whose result for no tokens tells the shape of results.
mlir::LogicalResult Layer::runAll(const Tensor &first) {
  Tensor kinds = table([&](int64_t i) { return kindOf(i); });
  Tensor slabs = table([&](int64_t i) {
    return kindOf(i) == kConstant ? bank.getConstant(i) : bank.getSlab(i);
  });
  list.data = e.call("sequence_new", {e.i64(experts)});
  list.buffer = std::make_shared<Buffer>(e, list.data, /*sequence=*/true);
  Value *none = e.b.CreateICmpEQ(element(e, first, e.i64(experts)), e.i64(0));
  mlir::LogicalResult all = mlir::success();
  forEach(e, e.i64(experts), [&](Value *id) {
    Value *from = element(e, first, id);
    Value *to = element(e, first, e.b.CreateAdd(id, e.i64(1)));
    Value *used = e.b.CreateOr(e.b.CreateICmpSLT(from, to),
                               e.b.CreateAnd(none, e.b.CreateICmpEQ(id, e.i64(0))));
    all = when(e, used, [&] { return runExpert(id, from, to, kinds, slabs); });
  });
  return all;
}

/// The list as one tensor, [rows, ...].
Tensor Layer::rowsOfResults() {
  mlir::RankedTensorType type = bank.getResultType();
  auto declared = mlir::cast<mlir::RankedTensorType>(op.getResult().getType());
  size_t slots = op.getCombine() == "none" ? 1 : 0;
  Tensor empty;
  empty.data = e.null();
  empty.dims.assign(static_cast<size_t>(type.getRank()), e.i64(-1));
  Tensor y = e.joined(list, 0, 0, empty);
  for (size_t i = 1; i < y.rank(); ++i)
    if (int64_t size = declared.getDimSize(i + slots); !mlir::ShapedType::isDynamic(size))
      y.dims[i] = e.checkEqual(y.dims[i], e.i64(size), "an expert's result contradicts its type");
  y.strides = e.rowMajor(y.dims);
  return y;
}

mlir::LogicalResult Layer::run(Tensors &args, Tensors &results) {
  if (mlir::failed(place()))
    return mlir::failure();
  size_t routed = op.getRouting().size();
  for (size_t i = 1 + routed; i < args.size(); ++i)
    contexts.push_back(e.dense(std::move(args[i])));
  for (size_t i = 0; i < contexts.size(); ++i)
    if (op.isContextOfRows(static_cast<int64_t>(i)))
      e.checkEqual(contexts[i].dims[0], args[0].dims[0], "a context has no row for each token");
  DType type = resultType(op);
  bool apart = op.getCombine() == "none";
  if (routed == 0 && kindOf(0) >= 0 && !apart) { // one expert for all tokens
    auto y = apply(0, e.i64(bank.getSlab(0)), std::move(args[0]), std::move(contexts));
    if (mlir::failed(y))
      return mlir::failure();
    results.push_back(e.cast(std::move(*y), type));
    return mlir::success();
  }
  auto routing = routingOf(e, op, experts, args);
  if (mlir::failed(routing))
    return mlir::failure();
  x = e.dense(std::move(args[0]));
  Value *slots = routing->slots, *tokens = routing->tokens, *count = e.i64(experts);
  token = e.allocate(DType::I64, {e.mul(tokens, slots)});
  Tensor first = e.allocate(DType::I64, {e.i64(experts + 1)});
  Tensor position = e.allocate(DType::I32, {tokens, slots});
  // A coupled expert is given what chose it, not what chose its twin.
  Value *twins = bank.getCoupled() ? nullptr : twinTable(e, bank);
  Tensor sums;
  if (twins && !apart)
    sums = e.allocate(DType::F32, {tokens, slots});
  e.call("sort_slots", {tokens, slots, count, routing->ids.data, routing->weights.data,
                        twins ? twins : e.null(), token.data, first.data, position.data,
                        sums.data ? sums.data : e.null()});
  routing->ids = Tensor();
  if (sums.data)
    routing->weights = std::move(sums);
  if (mlir::failed(runAll(first)))
    return mlir::failure();
  Tensor y = rowsOfResults();
  list = Tensor();
  Values dims{tokens};
  if (apart)
    dims.push_back(slots);
  dims.insert(dims.end(), y.dims.begin() + 1, y.dims.end());
  Value *width = e.product(llvm::ArrayRef<Value *>(y.dims).drop_front());
  Tensor out = e.allocate(DType::F32, std::move(dims));
  e.call("combine_rows", {tokens, slots, width, position.data, routing->weights.data, y.data,
                          e.i32(apart), out.data});
  results.push_back(e.cast(std::move(out), type));
  return mlir::success();
}

mlir::LogicalResult moec::host::regionExperts(Emitter &e, moec::moe::ExpertsOp layer,
                                              moec::moe::BankOp bank, Tensors &args,
                                              Tensors &results) {
  return Layer(e, layer, bank).run(args, results);
}
