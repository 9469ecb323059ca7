// Ops of the `moe` dialect: weights, and experts whose formula is a #moe.ffn. Routing stands in
// Select.cpp, other experts in RegionExperts.cpp.
#include "Moe.h"
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

mlir::FailureOr<Tensor> moec::host::weight(Emitter &e, llvm::StringRef name) {
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
  if (!bank.getUp() || !bank.getDown() || (bank.getBody()->getGated() && !bank.getGate()))
    return "a bank without up and down projections";
  if (bank.getBody()->getGated() && !bank.getGateBias() != !bank.getUpBias())
    return "a bias for only one of gate and up";
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

/// For each expert a number in memory; null when all are the expected ones.
static Value *table(Emitter &e, moec::moe::BankOp bank, llvm::function_ref<int64_t(int64_t)> number,
                    llvm::function_ref<int64_t(int64_t)> expected) {
  Values numbers;
  bool same = true;
  for (int64_t i = 0, n = static_cast<int64_t>(bank.getExperts()); i < n; ++i) {
    numbers.push_back(e.i64(number(i)));
    same &= number(i) == expected(i);
  }
  return same ? nullptr : e.inMemory(e.fromIntegers(DType::I32, std::move(numbers), false)).data;
}

static Value *slabTable(Emitter &e, moec::moe::BankOp bank) {
  auto slab = [&](int64_t i) -> int64_t {
    llvm::StringRef storage = bank.getExpertStorage(i);
    return storage == "zero"       ? MOERT_SLAB_ZERO
           : storage == "identity" ? MOERT_SLAB_IDENTITY
           : storage == "constant" ? MOERT_SLAB_CONSTANT - bank.getConstant(i)
                                   : bank.getSlab(i);
  };
  return table(e, bank, slab, [](int64_t i) { return i; });
}

static Value *widthTable(Emitter &e, moec::moe::BankOp bank) {
  return table(
      e, bank, [&](int64_t i) { return bank.getWidth(i); },
      [&](int64_t) { return static_cast<int64_t>(bank.getInter()); });
}

Value *moec::host::twinTable(Emitter &e, moec::moe::BankOp bank) {
  auto twins = bank.getTwins();
  return table(e, bank, [&](int64_t i) { return twins[i]; }, [](int64_t i) { return i; });
}

mlir::FailureOr<Routing> moec::host::routingOf(Emitter &e, moec::moe::ExpertsOp layer,
                                               int64_t experts, Tensors &args) {
  Routing r;
  r.tokens = args[0].dims[0];
  if (layer.getIds()) {
    r.ids = std::move(args[1]);
    r.weights = std::move(args[2]);
  } else {
    Value *slots = e.i64(experts);
    r.ids = e.cast(e.iota({r.tokens, slots}, 1), DType::I32);
    r.weights = layer.getWeights() ? std::move(args[1]) : e.scalar(DType::F32, 1);
    if (!layer.getWeights())
      r.weights.dims = {r.tokens, slots};
  }
  if (r.ids.rank() != 2 || r.weights.rank() != 2)
    return e.error("ids or weights that are not a matrix");
  r.slots = e.checkEqual(r.ids.dims[1], r.weights.dims[1], "ids and weights differ in slots");
  e.checkEqual(r.ids.dims[0], r.tokens, "there are not ids for each token");
  e.checkEqual(r.weights.dims[0], r.tokens, "there are not weights for each token");
  r.ids = e.denseAs(std::move(r.ids), DType::I32);
  r.weights = e.denseAs(std::move(r.weights), DType::F32);
  return r;
}

static mlir::LogicalResult ffnExperts(Emitter &e, moec::moe::ExpertsOp layer,
                                      moec::moe::BankOp bank, Tensors &args, Tensors &results) {
  if (auto why = refusal(bank))
    return e.error(*why);
  int64_t rows = mlir::cast<mlir::ShapedType>(e.binds[*bank.getUp()].getType()).getDimSize(0);
  auto experts = static_cast<int64_t>(bank.getExperts());
  auto b = packBank(e, bank, rows);
  if (mlir::failed(b))
    return mlir::failure();
  auto routing = routingOf(e, layer, experts, args);
  if (mlir::failed(routing))
    return mlir::failure();
  Tensor x = std::move(args[0]);
  Value *hidden = e.i64(static_cast<int64_t>(bank.getHidden()));
  e.checkEqual(x.dims[1], hidden, "the tokens do not have the bank's hidden size");
  Values shape = x.dims;
  Value *runs = routing->tokens, *each = routing->slots;
  if (layer.getCombine() == "none") { // every slot is a token of its own
    x = e.inMemory(std::move(x));
    x.dims = shape = {runs, each, hidden};
    x.strides = {x.strides[0], e.i64(0), x.strides[1]};
    runs = e.mul(runs, each);
    each = e.i64(1);
  }
  x = e.denseAs(std::move(x), DType::F32);
  Tensor out = e.allocate(DType::F32, shape);
  Value *slabs = slabTable(e, bank), *widths = widthTable(e, bank), *twins = twinTable(e, bank);
  bool mixed = slabs || widths;
  Values call{e.i32(static_cast<int32_t>(e.kernelSlot(b->up.text()))),
              e.i32(static_cast<int32_t>(e.kernelSlot(b->down.text()))),
              runs,
              hidden,
              e.i64(static_cast<int64_t>(bank.getInter())),
              e.i64(mixed ? experts : rows),
              each,
              x.data,
              routing->ids.data,
              routing->weights.data,
              b->gateUp,
              b->gateUpBias,
              b->downWeights,
              b->downBias};
  if (mixed) {
    Value *constants = e.null();
    if (auto name = bank.getConstants())
      constants = packed(e, name->str(), "plain", DType::F32,
                         {bank.getConstant(experts), static_cast<int64_t>(bank.getHidden())});
    for (Value *optional : {slabs, widths, twins})
      call.push_back(optional ? optional : e.null());
    call.push_back(constants);
  }
  call.push_back(out.data);
  e.call(mixed ? "experts_mixed" : "experts", call);
  results.push_back(e.cast(std::move(out), resultType(layer)));
  return mlir::success();
}

static mlir::LogicalResult experts(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  auto layer = mlir::cast<moec::moe::ExpertsOp>(op);
  auto found = e.banks.find(layer.getBank());
  if (found == e.banks.end())
    return e.error("the bank \"" + layer.getBank() + "\", which does not exist");
  auto bank = mlir::cast<moec::moe::BankOp>(found->second);
  return bank.getBody() ? ffnExperts(e, layer, bank, args, results)
                        : regionExperts(e, layer, bank, args, results);
}

void moec::host::addMoe(Handlers &h) {
  h["weight.use"] = use;
  h["experts"] = experts;
}
