// Ops of the `moe` dialect: weights and experts. Routing stands in Select.cpp.
#include "moec/Dialect/MoE/MoE.h"
#include "Emitter.h"
#include "moec/Codegen/KernelSpec/KernelSpec.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

// --- weights ---

/// The narrowest float type that holds every element of a weight value: what a widening cast came
/// from, seen through steps that only move elements.
static mlir::Type exactType(mlir::Value value) {
  mlir::Type own = mlir::cast<mlir::ShapedType>(value.getType()).getElementType();
  mlir::Operation *op = value.getDefiningOp();
  if (!op || op->getNumOperands() == 0)
    return own;
  if (mlir::isa<moec::moe::WeightCastOp>(op)) {
    mlir::Type from = exactType(op->getOperand(0));
    bool widens = mlir::isa<mlir::FloatType>(from) && mlir::isa<mlir::FloatType>(own) &&
                  from.getIntOrFloatBitWidth() < own.getIntOrFloatBitWidth();
    return widens ? from : own;
  }
  if (mlir::isa<moec::moe::WeightTransposeOp, moec::moe::WeightReshapeOp, moec::moe::WeightSliceOp,
                moec::moe::WeightGatherOp>(op))
    return exactType(op->getOperand(0));
  if (mlir::isa<moec::moe::WeightConcatOp>(op)) {
    mlir::Type first = exactType(op->getOperand(0));
    bool same =
        llvm::all_of(op->getOperands(), [&](mlir::Value v) { return exactType(v) == first; });
    return same ? first : own;
  }
  return own;
}

static mlir::FailureOr<Tensor> weight(Emitter &e, llvm::StringRef name) {
  auto it = e.binds.find(name);
  if (it == e.binds.end())
    return e.error("the weight \"" + name + "\", which no bind names");
  auto type = mlir::cast<mlir::RankedTensorType>(it->second.getType());
  auto dtype = dtypeOf(type.getElementType());
  auto storage = dtypeOf(exactType(it->second));
  if (!dtype)
    return e.error("a weight of this element type");
  Tensor t;
  t.dtype = *dtype;
  t.storage = storage.value_or(*dtype);
  for (int64_t d : type.getShape())
    t.dims.push_back(e.i64(d));
  t.weight = name.str();
  return t;
}

static mlir::LogicalResult use(Emitter &e, mlir::Operation *op, Tensors &, Tensors &results) {
  auto t = weight(e, mlir::cast<moec::moe::WeightUseOp>(op).getWeight());
  if (mlir::failed(t))
    return mlir::failure();
  results.push_back(std::move(*t));
  return mlir::success();
}

// --- experts ---

namespace {
/// The packed parameters of a bank.
struct Bank {
  moec::KernelSpec up, down;
  Value *gateUp, *gateUpBias, *downWeights, *downBias;
};
} // namespace

static Value *packed(Emitter &e, std::string name, llvm::StringRef layout, DType type,
                     std::vector<int64_t> shape, std::string name2 = "") {
  return e.weightPointer(e.weightSlot(
      {std::move(name), layout.str(), dtypeName(type), std::move(shape), std::move(name2)}));
}

static std::optional<std::string> refusal(moec::moe::BankOp bank) {
  if (!bank.getBody())
    return "experts whose formula is a region";
  if (!bank.getUp() || !bank.getDown() || (bank.getBody()->getGated() && !bank.getGate()))
    return "a bank without up and down projections";
  if (bank.getBody()->getGated() && !bank.getGateBias() != !bank.getUpBias())
    return "a bias for only one of gate and up";
  for (int64_t i = 0, n = static_cast<int64_t>(bank.getExperts()); i < n; ++i) {
    if (bank.getWidth(i) != static_cast<int64_t>(bank.getInter()))
      return "experts of different widths";
    if (bank.getExpertStorage(i) == "identity")
      return "experts that are the identity";
  }
  return std::nullopt;
}

static mlir::FailureOr<Bank> packBank(Emitter &e, moec::moe::BankOp bank, int64_t rows) {
  moec::moe::FfnAttr ffn = *bank.getBody();
  auto activation = moec::parseActivation(ffn.getActivation());
  if (!activation)
    return e.error("the activation \"" + ffn.getActivation() + "\"");
  bool gated = ffn.getGated();
  auto up = weight(e, *bank.getUp()), down = weight(e, *bank.getDown());
  auto gate = gated ? weight(e, *bank.getGate()) : up;
  if (mlir::failed(up) || mlir::failed(down) || mlir::failed(gate))
    return mlir::failure();
  DType upType = gate->storage == up->storage ? up->storage : DType::F32;
  auto upKernel = moec::parseWeightType(dtypeName(upType));
  auto downKernel = moec::parseWeightType(dtypeName(down->storage));
  if (!upKernel || !downKernel)
    return e.error("experts whose parameters are neither f32, f16 nor bf16");
  std::optional<float> limit;
  if (ffn.getLimit())
    limit = static_cast<float>(*ffn.getLimit());
  auto hidden = static_cast<int64_t>(bank.getHidden()),
       inter = static_cast<int64_t>(bank.getInter());
  llvm::StringRef layout = gated ? "experts_gate_up16" : "experts_panel16_nk";
  auto first = [&](std::optional<llvm::StringRef> g, std::optional<llvm::StringRef> u) {
    return gated ? std::pair(g->str(), u->str()) : std::pair(u->str(), std::string());
  };
  Bank b;
  b.up = moec::expertsUpSpec(*upKernel, gated, *activation, static_cast<float>(ffn.getAlpha()),
                             limit, gated ? static_cast<float>(ffn.getUpOffset()) : 0.0f);
  b.down = moec::expertsDownSpec(*downKernel);
  auto [name, name2] = first(bank.getGate(), bank.getUp());
  b.gateUp = packed(e, name, layout, upType, {rows, inter, hidden}, name2);
  b.downWeights =
      packed(e, bank.getDown()->str(), "experts_panel16_nk", down->storage, {rows, hidden, inter});
  b.gateUpBias = b.downBias = e.null();
  if (bank.getUpBias()) {
    auto [bias, bias2] = first(bank.getGateBias(), bank.getUpBias());
    b.gateUpBias = packed(e, bias, layout, DType::F32, {rows, inter}, bias2);
  }
  if (bank.getDownBias())
    b.downBias = packed(e, bank.getDownBias()->str(), "plain", DType::F32, {rows, hidden});
  return b;
}

/// Ids as rows of the parameters, where experts do not own the row of their number.
static Tensor rowsOfIds(Emitter &e, moec::moe::BankOp bank, Tensor ids) {
  auto count = static_cast<int64_t>(bank.getExperts());
  Values table{e.i64(-1)}; // of id -1
  bool own = true;
  for (int64_t i = 0; i < count; ++i) {
    int64_t row = bank.getExpertStorage(i) == "zero" ? -1 : bank.getSlab(i);
    own &= row == i;
    table.push_back(e.i64(row));
  }
  if (own)
    return ids;
  Tensor rows = e.inMemory(e.fromIntegers(DType::I32, std::move(table), false));
  rows.ints.reset();
  Tensor one = e.fromIntegers(DType::I32, {e.i64(1)}, true);
  Tensor at = e.dense(e.lazy("Add", DType::I32, {std::move(ids), std::move(one)}));
  Tensor out = e.allocate(DType::I32, at.dims);
  e.call("op_gather", {e.view(rows), e.view(at), e.i64(0), out.data, e.cstring(e.nodeName())});
  return out;
}

static mlir::LogicalResult experts(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  auto layer = mlir::cast<moec::moe::ExpertsOp>(op);
  auto found = e.banks.find(layer.getBank());
  if (found == e.banks.end())
    return e.error("the bank \"" + layer.getBank() + "\", which does not exist");
  auto bank = mlir::cast<moec::moe::BankOp>(found->second);
  if (auto why = refusal(bank))
    return e.error(*why);
  int64_t rows = mlir::cast<mlir::ShapedType>(e.binds[*bank.getUp()].getType()).getDimSize(0);
  auto b = packBank(e, bank, rows);
  if (mlir::failed(b))
    return mlir::failure();
  Tensor x = std::move(args[0]);
  Value *tokens = x.dims[0], *hidden = e.i64(static_cast<int64_t>(bank.getHidden()));
  e.checkEqual(x.dims[1], hidden, "the tokens do not have the bank's hidden size");
  Tensor ids, weights;
  if (layer.getIds()) {
    ids = std::move(args[1]);
    weights = std::move(args[2]);
  } else {
    Value *slots = e.i64(static_cast<int64_t>(bank.getExperts()));
    ids = e.cast(e.iota({tokens, slots}, 1), DType::I32);
    weights = layer.getWeights() ? std::move(args[1]) : e.scalar(DType::F32, 1);
    if (!layer.getWeights())
      weights.dims = {tokens, slots};
  }
  Value *slots = e.checkEqual(ids.dims[1], weights.dims[1], "ids and weights differ in slots");
  e.checkEqual(ids.dims[0], tokens, "there are not ids for each token");
  e.checkEqual(weights.dims[0], tokens, "there are not weights for each token");
  ids = e.dense(rowsOfIds(e, bank, std::move(ids)));
  weights = e.denseAs(std::move(weights), DType::F32);
  Values shape = x.dims;
  Value *runs = tokens, *each = slots;
  if (layer.getCombine() == "none") { // every slot is a token of its own
    x = e.inMemory(std::move(x));
    x.dims = shape = {tokens, slots, hidden};
    x.strides = {x.strides[0], e.i64(0), x.strides[1]};
    runs = e.mul(tokens, slots);
    each = e.i64(1);
  }
  x = e.denseAs(std::move(x), DType::F32);
  Tensor out = e.allocate(DType::F32, shape);
  e.call("experts",
         {e.i32(static_cast<int32_t>(e.kernelSlot(b->up.text()))),
          e.i32(static_cast<int32_t>(e.kernelSlot(b->down.text()))), runs, hidden,
          e.i64(static_cast<int64_t>(bank.getInter())), e.i64(rows), each, x.data, ids.data,
          weights.data, b->gateUp, b->gateUpBias, b->downWeights, b->downBias, out.data});
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

void moec::host::addMoe(Handlers &h) {
  h["weight.use"] = use;
  h["experts"] = experts;
}
