// Runs @main op by op; a value's bytes are freed after its last use.
#include "Call.h"
#include "WeightCache.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Reference/Reference.h"
#include <new>
#include <stdexcept>

using namespace llvm;

namespace moec::reference {

namespace {

// An OpError that already names its node.
struct NodeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Value = std::optional<Tensor>;

} // namespace

struct Interpreter::Data final : Machine {
  Data(mlir::ModuleOp module, StringRef folder)
      : module(module), symbols(module), weights(module, folder) {}

  std::vector<Value> region(mlir::Region &region, ArrayRef<Value> args) override;
  Tensor weight(StringRef bind) override { return weights.whole(bind); }
  Tensor weightRow(StringRef bind, int64_t row) override { return weights.row(bind, row); }
  mlir::Operation *symbol(StringRef name) override { return symbols.lookup(name); }

  std::vector<Value> main(ArrayRef<Array> inputs);

private:
  using LastUses = DenseMap<mlir::Operation *, SmallVector<mlir::Value, 2>>;
  const LastUses &lastUses(mlir::Block &block);
  void execute(mlir::Operation &op);

  mlir::ModuleOp module;
  mlir::SymbolTable symbols;
  WeightCache weights;
  Registry registry;
  DenseMap<mlir::Value, Value> values;
  DenseMap<mlir::Block *, std::unique_ptr<LastUses>> lastUsesOf;
};

// For each op of the block, the block's values that nobody reads after it.
const Interpreter::Data::LastUses &Interpreter::Data::lastUses(mlir::Block &block) {
  std::unique_ptr<LastUses> &entry = lastUsesOf[&block];
  if (entry)
    return *entry;
  entry = std::make_unique<LastUses>();
  DenseMap<mlir::Value, mlir::Operation *> last;
  for (mlir::Operation &op : block) {
    for (mlir::Value result : op.getResults())
      last[result] = &op;
    op.walk([&](mlir::Operation *inner) {
      for (mlir::Value operand : inner->getOperands())
        if (operand.getParentBlock() == &block)
          last[operand] = &op;
    });
  }
  for (auto &[value, op] : last)
    (*entry)[op].push_back(value);
  return *entry;
}

void Interpreter::Data::execute(mlir::Operation &op) {
  try {
    const OpEntry *entry = registry.find(&op);
    if (!entry)
      fail("unsupported by the reference interpreter");
    if (std::string why = entry->check ? entry->check(&op) : ""; !why.empty())
      fail("unsupported: " + why);
    std::vector<Value> operands;
    for (mlir::Value operand : op.getOperands())
      operands.push_back(values.lookup(operand));
    Call call(&op, std::move(operands), *this);
    entry->run(call);
    std::vector<Value> results = call.takeResults();
    for (auto [result, value] : zip(op.getResults(), results))
      values[result] = std::move(value);
  } catch (const OpError &e) {
    throw NodeError(nodeName(&op) + ": " + e.what());
  } catch (const std::bad_alloc &) {
    throw NodeError(nodeName(&op) + ": out of memory");
  } catch (const std::length_error &) {
    throw NodeError(nodeName(&op) + ": a size is negative or too large");
  }
}

std::vector<Value> Interpreter::Data::region(mlir::Region &region, ArrayRef<Value> args) {
  if (!region.hasOneBlock() || region.front().getNumArguments() != args.size())
    fail("a body with " + Twine(region.hasOneBlock() ? region.front().getNumArguments() : 0) +
         " inputs is given " + Twine(args.size()));
  mlir::Block &block = region.front();
  const LastUses &deaths = lastUses(block);
  for (auto [argument, value] : zip(block.getArguments(), args))
    values[argument] = value;
  std::vector<Value> results;
  for (mlir::Operation &op : block) {
    // Only the op that ends a body gives nothing and has no entry: onnx.yield, func.return, ...
    if (&op == &block.back() && op.getNumResults() == 0 && !registry.find(&op)) {
      for (mlir::Value operand : op.getOperands())
        results.push_back(values.lookup(operand));
    } else {
      execute(op);
    }
    if (auto it = deaths.find(&op); it != deaths.end())
      for (mlir::Value dead : it->second)
        values.erase(dead);
  }
  for (mlir::Value argument : block.getArguments())
    values.erase(argument);
  return results;
}

static Tensor fromArray(const Array &array, int64_t index, mlir::Type declared) {
  auto wrong = [&](const Twine &what) { fail("input " + Twine(index) + ": " + what); };
  Elem type = elemOf(array.type);
  if (type == Elem::none)
    wrong("unsupported element type code " + Twine(array.type));
  Tensor t(type, array.shape);
  if (t.size() * bytesOf(type) != static_cast<int64_t>(array.data.size()))
    wrong(Twine(array.data.size()) + " bytes for " + nameOf(type) + text(array.shape));
  if (!array.data.empty())
    std::memcpy(t.mutableBytes(), array.data.data(), array.data.size());
  auto ranked = dyn_cast<mlir::RankedTensorType>(declared);
  if (!ranked)
    return t;
  if (elemOf(ranked.getElementType()) != type)
    wrong(Twine(nameOf(type)) + " elements where the model expects " +
          nameOf(elemOf(ranked.getElementType())));
  // Writers of test data often store a scalar with one axis.
  if (ranked.getRank() == 0 && t.rank() == 1 && t.shape[0] == 1)
    t = t.reshaped({});
  bool fits = ranked.getRank() == t.rank();
  for (int64_t d = 0; fits && d < t.rank(); ++d)
    fits = ranked.isDynamicDim(d) || ranked.getDimSize(d) == t.shape[d];
  if (!fits) {
    std::string shape;
    raw_string_ostream(shape) << declared;
    wrong("shape " + text(t.shape) + " where the model expects " + shape);
  }
  return t;
}

std::vector<Value> Interpreter::Data::main(ArrayRef<Array> inputs) {
  auto main = module.lookupSymbol<mlir::func::FuncOp>("main");
  if (!main || main.isExternal())
    fail("the module has no function @main");
  if (inputs.size() != main.getNumArguments())
    fail("the model has " + Twine(main.getNumArguments()) + " inputs, " + Twine(inputs.size()) +
         " are given");
  values.clear(); // of a run that ended in an error
  std::vector<Value> args;
  for (auto [i, array] : enumerate(inputs))
    args.push_back(fromArray(array, static_cast<int64_t>(i), main.getArgument(i).getType()));
  return region(main.getBody(), args);
}

Interpreter::Interpreter(mlir::ModuleOp module, StringRef folder)
    : data(std::make_unique<Data>(module, folder)) {}
Interpreter::~Interpreter() = default;

Expected<std::vector<Array>> Interpreter::run(ArrayRef<Array> inputs) {
  std::vector<Array> outputs;
  try {
    for (const Value &value : data->main(inputs)) {
      if (!value)
        fail("output " + Twine(outputs.size()) + " of the model is absent");
      Array array;
      array.type = static_cast<int>(value->type);
      array.shape.assign(value->shape.begin(), value->shape.end());
      array.data.assign(value->bytes(), value->bytes() + value->size() * bytesOf(value->type));
      outputs.push_back(std::move(array));
    }
  } catch (const std::runtime_error &e) { // OpError or NodeError
    return createStringError(std::errc::invalid_argument, "%s", e.what());
  } catch (const std::bad_alloc &) {
    return createStringError(std::errc::not_enough_memory, "out of memory");
  }
  return outputs;
}

std::vector<std::pair<mlir::Operation *, std::string>> collectUnsupported(mlir::ModuleOp module) {
  std::vector<std::pair<mlir::Operation *, std::string>> out;
  Registry registry;
  auto main = module.lookupSymbol<mlir::func::FuncOp>("main");
  if (!main)
    return out;
  auto look = [&](mlir::Operation *op) {
    if (op == main || isa<moe::BankOp>(op) || op->hasTrait<mlir::OpTrait::IsTerminator>())
      return;
    const OpEntry *entry = registry.find(op);
    if (!entry) {
      out.emplace_back(op, "unsupported by the reference interpreter");
      return;
    }
    if (std::string why = entry->check ? entry->check(op) : ""; !why.empty()) {
      out.emplace_back(op, "unsupported: " + why);
      return;
    }
    for (mlir::Type type : op->getResultTypes())
      if (auto shaped = dyn_cast<mlir::ShapedType>(type);
          shaped && elemOf(shaped.getElementType()) == Elem::none) {
        std::string shown;
        raw_string_ostream(shown) << shaped.getElementType();
        out.emplace_back(op, "unsupported element type " + shown);
        return;
      }
  };
  main->walk(look);
  for (auto bank : module.getOps<moe::BankOp>()) // the regions of experts
    bank->walk(look);
  return out;
}

} // namespace moec::reference
