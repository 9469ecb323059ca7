// @main: inputs, the walk over its ops, outputs.
#include "Walk.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/SymbolTable.h"
#include "moec/Dialect/MoE/MoE.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Linker/Linker.h"

using namespace moec::host;
using llvm::Value;

const Handlers &moec::host::allHandlers() {
  static const Handlers handlers = [] {
    Handlers h;
    addElementwise(h);
    addShapeOps(h);
    addMovement(h);
    addGenerators(h);
    addReductions(h);
    addMatMul(h);
    addAttention(h);
    addIrregular(h);
    addConvolutions(h);
    addPools(h);
    addNormalisation(h);
    addRecurrent(h);
    addResampling(h);
    addDetection(h);
    addSignal(h);
    addStateful(h);
    addMoe(h);
    addControlFlow(h);
    addSequences(h);
    addSoft(h);
    addSelect(h);
    addProbe(h);
    addLogitHook(h);
    addQuantisation(h);
    addUnique(h);
    addTrees(h);
    return h;
  }();
  return handlers;
}

namespace {
class Lowering {
public:
  Lowering(mlir::ModuleOp source, mlir::func::FuncOp main, HostResult &result)
      : source(source), main(main), e(source, result), walk(e), result(result) {}

  /// Everything but code generation; e.errors holds what is unsupported.
  void run();
  Emitter &emitter() { return e; }

private:
  mlir::ModuleOp source;
  mlir::func::FuncOp main;
  Emitter e;
  Walk walk;
  HostResult &result;
  llvm::StringMap<Value *> symbols; ///< sizes that inputs name
  Value *arguments = nullptr;

  void collectSymbols();
  void begin();
  void input(unsigned index);
  void outputs(mlir::Operation *terminator);
  Value *argumentField(unsigned index, unsigned field);
  moec::SignatureEntry signature(mlir::Type type, mlir::DictionaryAttr attrs, unsigned index);
};
} // namespace

void Lowering::collectSymbols() {
  for (mlir::Operation &op : *source.getBody()) {
    if (auto weights = mlir::dyn_cast<moec::moe::WeightsOp>(op)) {
      for (mlir::Operation &step : weights.getBody().front())
        if (auto bind = mlir::dyn_cast<moec::moe::WeightBindOp>(step))
          e.binds[bind.getSymName()] = step.getOperand(0);
    } else if (auto bank = mlir::dyn_cast<moec::moe::BankOp>(op)) {
      e.banks[bank.getSymName()] = &op;
    }
  }
}

// --- arguments ---

static constexpr unsigned kMaxRank = 8; // MOERT_MAX_RANK

/// moert_buffer: field 0 is the data, 1.. are the sizes.
Value *Lowering::argumentField(unsigned index, unsigned field) {
  return e.b.CreateConstInBoundsGEP1_64(e.b.getInt64Ty(), arguments,
                                        index * (kMaxRank + 1) + field);
}

moec::SignatureEntry Lowering::signature(mlir::Type type, mlir::DictionaryAttr attrs,
                                         unsigned index) {
  moec::SignatureEntry entry;
  auto name = attrs ? attrs.getAs<mlir::StringAttr>("onnx.name") : mlir::StringAttr();
  auto dims = attrs ? attrs.getAs<mlir::ArrayAttr>("onnx.dims") : mlir::ArrayAttr();
  entry.name = name ? name.str() : std::to_string(index);
  auto shaped = mlir::dyn_cast<mlir::RankedTensorType>(type);
  auto dtype = shaped ? dtypeOf(shaped.getElementType()) : std::nullopt;
  if (!dtype || shaped.getRank() > kMaxRank) {
    e.errors.emplace_back(main,
                          "unsupported: \"" + entry.name +
                              "\" is not a tensor of a known rank (up to 8) and numeric type");
    return entry;
  }
  entry.dtype = dtypeName(*dtype);
  for (int64_t i = 0; i < shaped.getRank(); ++i) {
    auto symbol = dims && static_cast<size_t>(i) < dims.size()
                      ? mlir::dyn_cast<mlir::StringAttr>(dims[i])
                      : mlir::StringAttr();
    bool named = symbol && !symbol.getValue().empty();
    entry.dims.push_back(!shaped.isDynamicDim(i) ? std::to_string(shaped.getDimSize(i))
                         : named                 ? symbol.str()
                                                 : "?");
  }
  return entry;
}

void Lowering::input(unsigned index) {
  mlir::Type type = main.getArgumentTypes()[index];
  moec::SignatureEntry entry = signature(type, main.getArgAttrDict(index), index);
  mlir::Value value = main.getArgument(index);
  if (entry.dtype.empty()) {
    walk.fail(value);
    return;
  }
  auto shaped = mlir::cast<mlir::RankedTensorType>(type);
  Tensor t;
  t.dtype = t.storage = *dtypeOf(shaped.getElementType());
  t.data = e.b.CreateLoad(e.b.getPtrTy(), argumentField(index, 0));
  for (int64_t i = 0; i < shaped.getRank(); ++i) {
    Value *size =
        e.b.CreateLoad(e.b.getInt64Ty(), argumentField(index, static_cast<unsigned>(i) + 1));
    std::string where = "dimension " + std::to_string(i) + " of the input \"" + entry.name + "\"";
    if (!shaped.isDynamicDim(i)) {
      size = e.checkEqual(size, e.i64(shaped.getDimSize(i)), where + " is not " + entry.dims[i]);
    } else if (entry.dims[i] != "?") {
      Value *&known = symbols[entry.dims[i]];
      known = known ? e.checkEqual(known, size, where + " is another " + entry.dims[i]) : size;
      size = known;
    }
    t.dims.push_back(size);
  }
  t.strides = e.rowMajor(t.dims);
  walk.define(value, std::move(t));
  result.program.inputs.push_back(std::move(entry));
}

void Lowering::begin() {
  auto *pointer = e.b.getPtrTy();
  auto *type = llvm::FunctionType::get(e.b.getVoidTy(), {pointer, pointer}, false);
  e.main = llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage, "moe_main", e.module);
  // moert_api's fail leaves by longjmp, never by an exception.
  e.main->addFnAttr(llvm::Attribute::NoUnwind);
  e.ctx = e.main->getArg(0);
  arguments = e.main->getArg(1);
  e.b.SetInsertPoint(llvm::BasicBlock::Create(e.context, "entry", e.main));
  auto field = [&](unsigned i) {
    return e.b.CreateLoad(pointer, e.b.CreateConstInBoundsGEP1_64(pointer, e.ctx, i));
  };
  e.api = field(0);
  e.weightTable = field(1);
}

void Lowering::outputs(mlir::Operation *terminator) {
  e.op = terminator;
  unsigned inputs = main.getNumArguments();
  for (auto [i, value] : llvm::enumerate(terminator->getOperands())) {
    auto index = static_cast<unsigned>(i);
    moec::SignatureEntry entry = signature(value.getType(), main.getResultAttrDict(index), index);
    if (result.program.outputs.size() == i)
      result.program.outputs.push_back(entry);
    std::optional<Tensor> taken = walk.take(value, terminator);
    if (!taken || taken->none || entry.dtype.empty())
      continue; // an error is recorded
    Tensor t = e.dense(std::move(*taken));
    if (t.rank() != entry.dims.size()) {
      e.check(e.b.getFalse(), "the output \"" + entry.name + "\" has rank " +
                                  llvm::Twine(t.rank()) + ", not " +
                                  llvm::Twine(entry.dims.size()));
      continue;
    }
    bool owned = t.buffer && t.buffer.use_count() == 1 && t.data == t.buffer->memory;
    if (!owned) {
      Tensor copy = e.allocate(t.dtype, t.dims);
      e.store(t, copy);
      t = std::move(copy);
    }
    e.b.CreateStore(t.data, argumentField(inputs + index, 0));
    for (auto [d, size] : llvm::enumerate(t.dims))
      e.b.CreateStore(size, argumentField(inputs + index, static_cast<unsigned>(d) + 1));
    t.buffer->memory = nullptr; // the caller's now
  }
  e.b.CreateRetVoid();
}

void Lowering::run() {
  collectSymbols();
  mlir::Block &block = main.front();
  walk.prepare(block);
  e.op = main;
  begin();
  for (unsigned i = 0; i < main.getNumArguments(); ++i)
    input(i);
  walk.lower(block, [&] { outputs(block.getTerminator()); });
}

// --- entry points ---

static mlir::func::FuncOp findMain(mlir::ModuleOp module) {
  auto main = module.lookupSymbol<mlir::func::FuncOp>("main");
  bool fits = main && !main.isExternal() && main.getBody().hasOneBlock();
  return fits ? main : mlir::func::FuncOp();
}

static HostResult emptyResult() {
  HostResult result;
  result.context = std::make_unique<llvm::LLVMContext>();
  result.module = std::make_unique<llvm::Module>("moe", *result.context);
  return result;
}

std::vector<std::pair<mlir::Operation *, std::string>>
moec::host::collectUnsupported(mlir::ModuleOp module) {
  auto main = findMain(module);
  if (!main)
    return {{module, "unsupported: the module has no function @main of one block"}};
  HostResult result = emptyResult();
  Lowering lowering(module, main, result);
  lowering.run();
  return lowering.emitter().errors;
}

/// "node "x" (TopK): why", the form of all messages about a node.
static void report(mlir::Operation *op, const std::string &why) {
  if (auto name = mlir::dyn_cast<mlir::NameLoc>(op->getLoc()))
    op->emitError() << "node \"" << name.getName().getValue() << "\" ("
                    << op->getName().stripDialect() << "): " << why;
  else
    op->emitError() << op->getName().stripDialect() << ": " << why;
}

static void attachProgram(mlir::ModuleOp module, const moec::Program &program) {
  mlir::Builder b(module.getContext());
  llvm::SmallVector<mlir::Attribute> weights, kernels;
  for (const moec::WeightEntry &w : program.weights) {
    llvm::SmallVector<mlir::NamedAttribute> fields{
        b.getNamedAttr("name", b.getStringAttr(w.name)),
        b.getNamedAttr("layout", b.getStringAttr(w.layout)),
        b.getNamedAttr("dtype", b.getStringAttr(w.dtype)),
        b.getNamedAttr("shape", b.getDenseI64ArrayAttr(w.shape))};
    if (!w.name2.empty())
      fields.push_back(b.getNamedAttr("name2", b.getStringAttr(w.name2)));
    weights.push_back(b.getDictionaryAttr(fields));
  }
  for (const std::string &k : program.kernels)
    kernels.push_back(b.getStringAttr(k));
  module->setAttr("moec.weights", b.getArrayAttr(weights));
  module->setAttr("moec.kernels", b.getArrayAttr(kernels));
}

mlir::FailureOr<HostResult> moec::host::lowerToHost(mlir::ModuleOp module,
                                                    const HostOptions &options) {
  auto main = findMain(module);
  if (!main)
    return module.emitError("unsupported: the module has no function @main of one block");
  HostResult result = emptyResult();
  {
    Lowering lowering(module, main, result);
    lowering.run();
    Emitter &e = lowering.emitter();
    for (auto &[op, why] : e.errors)
      report(op, why);
    if (!e.errors.empty())
      return mlir::failure();
    auto nests = e.nests.lower(*result.context);
    if (!nests)
      return module.emitError(llvm::toString(nests.takeError()));
    (*nests)->setDataLayout(result.module->getDataLayout());
    (*nests)->setTargetTriple(result.module->getTargetTriple());
    if (llvm::Linker::linkModules(*result.module, std::move(*nests)))
      return module.emitError("internal error: loop nests do not link");
  }
  if (llvm::Error error = emitObject(result, options))
    return module.emitError(llvm::toString(std::move(error)));
  attachProgram(module, result.program);
  return std::move(result);
}
