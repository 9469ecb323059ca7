// Merged experts, Soft MoE and expert choice.
#include "Join.h"
#include "Moe.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;
namespace moe = moec::moe;

// --- merged experts ---

static Tensor clamp(Emitter &e, Tensor t, double high, bool both) {
  t = e.lazy("Min", DType::F32, {std::move(t), e.scalar(DType::F32, high)});
  return both ? e.lazy("Max", DType::F32, {std::move(t), e.scalar(DType::F32, -high)}) : t;
}

static Tensor activated(Emitter &e, moe::FfnAttr ffn, Tensor z) {
  llvm::StringRef name = ffn.getActivation();
  auto lazy = [&](llvm::StringRef op, std::vector<double> numbers = {}) {
    return e.lazy(op, DType::F32, {std::move(z)}, std::move(numbers));
  };
  if (name == "relu" || name == "relu2") {
    Tensor y = lazy("Relu");
    return name == "relu" ? y : e.lazy("Square", DType::F32, {std::move(y)});
  }
  if (name == "silu" || name == "swish")
    return lazy("Swish", {ffn.getAlpha()});
  if (name == "gelu" || name == "gelu_tanh")
    return lazy("Gelu", {name == "gelu" ? 0.0 : 1.0});
  if (name == "tanh")
    return lazy("Tanh");
  return name == "sigmoid" ? lazy("Sigmoid") : z;
}

namespace {
/// The parameters of a #moe.ffn; absent ones are none.
struct Ffn {
  Tensor gate, up, down, gateBias, upBias, downBias;
};
} // namespace

/// x w^T + bias.
static Tensor project(Emitter &e, const Tensor &x, const Tensor &w, const Tensor &bias) {
  Tensor turned = w;
  std::swap(turned.dims[0], turned.dims[1]);
  std::swap(turned.strides[0], turned.strides[1]);
  Tensor y = e.matrixProduct(x, std::move(turned));
  return bias.none ? y : e.lazy("Add", DType::F32, {std::move(y), bias});
}

static Tensor applyFfn(Emitter &e, moe::FfnAttr ffn, const Ffn &p, const Tensor &x) {
  Tensor up = project(e, x, p.up, p.upBias);
  if (!ffn.getGated())
    return project(e, activated(e, ffn, std::move(up)), p.down, p.downBias);
  Tensor gate = project(e, x, p.gate, p.gateBias);
  if (ffn.getLimit()) {
    gate = clamp(e, std::move(gate), *ffn.getLimit(), false);
    up = clamp(e, std::move(up), *ffn.getLimit(), true);
  }
  if (ffn.getUpOffset() != 0)
    up = e.lazy("Add", DType::F32, {std::move(up), e.scalar(DType::F32, ffn.getUpOffset())});
  Tensor product = e.lazy("Mul", DType::F32, {activated(e, ffn, std::move(gate)), std::move(up)});
  return project(e, e.inMemory(std::move(product)), p.down, p.downBias);
}

namespace {
class Merging {
public:
  Merging(Emitter &e, moe::BankOp bank) : e(e), bank(bank) {}

  /// Brings the parameters to memory, a row for each expert.
  mlir::LogicalResult place();
  /// The expert that weights [1, E] make, over rows of x; in the type of its region, or f32.
  mlir::FailureOr<Tensor> apply(const Tensor &weights, Tensor x);

private:
  Emitter &e;
  moe::BankOp bank;
  Tensors parameters;

  std::vector<std::optional<llvm::StringRef>> names();
  Tensor merged(const Tensor &parameter, const Tensor &weights);
};
} // namespace

std::vector<std::optional<llvm::StringRef>> Merging::names() {
  if (bank.getBody())
    return {bank.getGate(),     bank.getUp(),     bank.getDown(),
            bank.getGateBias(), bank.getUpBias(), bank.getDownBias()};
  std::vector<std::optional<llvm::StringRef>> list;
  for (llvm::StringRef name : bank.getParametersOf(0))
    list.emplace_back(name);
  return list;
}

mlir::LogicalResult Merging::place() {
  Values slabs;
  bool own = true;
  for (int64_t i = 0, n = static_cast<int64_t>(bank.getExperts()); i < n; ++i) {
    slabs.push_back(e.i64(bank.getSlab(i)));
    own &= bank.getSlab(i) == i;
    if (bank.getExpertStorage(i) != "dense" ||
        bank.getWidth(i) != static_cast<int64_t>(bank.getInter()))
      return e.error("merging experts of different kinds or widths");
  }
  for (auto name : names()) {
    Tensor t;
    t.none = true;
    if (name) {
      auto found = weight(e, *name);
      if (mlir::failed(found))
        return mlir::failure();
      t = e.floats(*found);
      if (!own) {
        Tensor rows = e.inMemory(e.fromIntegers(DType::I64, slabs, false));
        Values dims = t.dims;
        dims[0] = e.i64(static_cast<int64_t>(slabs.size()));
        Tensor picked = e.allocate(DType::F32, std::move(dims));
        e.call("op_gather",
               {e.view(t), e.view(rows), e.i64(0), picked.data, e.cstring(e.nodeName())});
        t = std::move(picked);
      } else {
        t.dims[0] = e.i64(static_cast<int64_t>(slabs.size()));
      }
    }
    parameters.push_back(std::move(t));
  }
  return mlir::success();
}

Tensor Merging::merged(const Tensor &parameter, const Tensor &weights) {
  if (parameter.none)
    return parameter;
  Values each(parameter.dims.begin() + 1, parameter.dims.end());
  Tensor flat = e.reshape(parameter, {parameter.dims[0], e.product(each)});
  return e.reshape(e.matrixProduct(weights, std::move(flat)), each);
}

mlir::FailureOr<Tensor> Merging::apply(const Tensor &weights, Tensor x) {
  Tensors merged;
  for (const Tensor &parameter : parameters)
    merged.push_back(this->merged(parameter, weights));
  if (bank.getBody())
    return applyFfn(e, *bank.getBody(),
                    {merged[0], merged[1], merged[2], merged[3], merged[4], merged[5]},
                    e.floats(x));
  Tensors args{std::move(x)};
  for (auto [t, argument] :
       llvm::zip(merged, bank.getImplementations()[0].getArguments().drop_front())) {
    auto shaped = mlir::cast<mlir::ShapedType>(argument.getType());
    args.push_back(e.cast(std::move(t), *dtypeOf(shaped.getElementType())));
  }
  auto values = e.region(bank.getImplementations()[0], std::move(args));
  if (mlir::failed(values))
    return mlir::failure();
  if (values->size() != 1 || values->front().none || values->front().rank() < 1)
    return e.error("an expert that does not give a row for each token");
  return std::move(values->front());
}

static mlir::LogicalResult mergeWeights(Emitter &e, mlir::Operation *op, Tensors &args,
                                        Tensors &results) {
  auto found = e.banks.find(mlir::cast<moe::MergeWeightsOp>(op).getBank());
  if (found == e.banks.end())
    return e.error("a bank that does not exist");
  Merging merging(e, mlir::cast<moe::BankOp>(found->second));
  if (mlir::failed(merging.place()))
    return mlir::failure();
  Tensor x = e.dense(std::move(args[0])), weights = e.denseAs(std::move(args[1]), DType::F32);
  Value *groups = weights.dims[0], *experts = weights.dims[1];
  e.check(e.b.CreateICmpSGT(groups, e.i64(0)), "there are no weights");
  Value *rows = e.arith("div", x.dims[0], groups);
  e.checkEqual(e.mul(rows, groups), x.dims[0], "the rows of weights do not divide the tokens");
  Tensor list;
  list.data = e.call("sequence_new", {groups});
  list.buffer = std::make_shared<Buffer>(e, list.data, /*sequence=*/true);
  DType type = resultType(op);
  size_t rank = 0;
  mlir::LogicalResult all = mlir::success();
  forEach(e, groups, [&](Value *g) {
    Tensor mine = weights, tokens = x;
    mine.data = e.elementPointer(weights, e.mul(g, experts));
    mine.dims[0] = e.i64(1);
    tokens.data = e.elementPointer(x, e.mul(e.mul(g, rows), x.strides[0]));
    tokens.dims[0] = rows;
    auto y = merging.apply(mine, std::move(tokens));
    all = mlir::success(mlir::succeeded(y));
    if (mlir::failed(y))
      return;
    rank = y->rank();
    e.append(list, e.denseAs(std::move(*y), type));
  });
  if (mlir::failed(all))
    return mlir::failure();
  Tensor empty;
  empty.dtype = empty.storage = type;
  empty.data = e.null();
  empty.dims.assign(rank, e.i64(-1));
  Tensor out = e.joined(list, 0, 0, empty);
  out.dims = e.refine(std::move(out.dims));
  out.dims[0] =
      e.checkEqual(out.dims[0], x.dims[0], "an expert does not give a row for each token");
  out.strides = e.rowMajor(out.dims);
  results.push_back(std::move(out));
  return mlir::success();
}

// --- Soft MoE ---

/// The softmax of each row, f32.
static Tensor softmaxRows(Emitter &e, const Tensor &t) {
  Tensor p = e.allocate(DType::F32, t.dims);
  e.softmax(t, /*log=*/false, p);
  return p;
}

static mlir::LogicalResult softDispatch(Emitter &e, mlir::Operation *op, Tensors &args,
                                        Tensors &results) {
  Tensor logits = e.floats(args[1]);
  e.checkEqual(logits.dims[0], args[0].dims[0], "there is not a row of logits for each token");
  logits.splat.reset();
  std::swap(logits.dims[0], logits.dims[1]);
  std::swap(logits.strides[0], logits.strides[1]);
  Tensor slots = e.matrixProduct(softmaxRows(e, logits), e.floats(args[0]));
  results.push_back(e.cast(std::move(slots), resultType(op)));
  return mlir::success();
}

static mlir::LogicalResult softCombine(Emitter &e, mlir::Operation *op, Tensors &args,
                                       Tensors &results) {
  e.checkEqual(args[1].dims[1], args[0].dims[0], "there is not a column of logits for each slot");
  Tensor y = e.matrixProduct(softmaxRows(e, e.floats(args[1])), e.floats(args[0]));
  results.push_back(e.cast(std::move(y), resultType(op)));
  return mlir::success();
}

// --- expert choice ---

static mlir::LogicalResult choose(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  Tensor scores = e.denseAs(std::move(args[0]), DType::F32);
  Value *capacity = e.i64(static_cast<int64_t>(mlir::cast<moe::ChooseOp>(op).getCapacity()));
  Value *tokens = scores.dims[0], *experts = scores.dims[1];
  Tensor ids = e.allocate(DType::I32, {experts, capacity});
  Tensor weights = e.allocate(DType::F32, {experts, capacity});
  e.call("choose", {tokens, experts, capacity, scores.data, ids.data, weights.data});
  results.push_back(std::move(ids));
  results.push_back(e.cast(std::move(weights), resultType(op, 1)));
  return mlir::success();
}

void moec::host::addSoft(Handlers &h) {
  h["merge_weights"] = mergeWeights;
  h["soft_dispatch"] = softDispatch;
  h["soft_combine"] = softCombine;
  h["choose"] = choose;
}
