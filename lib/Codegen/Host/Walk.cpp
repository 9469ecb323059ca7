#include "Walk.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Transforms/RegionUtils.h"
#include "moec/Dialect/Onnx/Onnx.h"

using namespace moec::host;

Walk::Walk(Emitter &emitter) : e(emitter) {
  e.region = [this](mlir::Region &r, std::vector<Tensor> args) {
    return region(r, std::move(args));
  };
  e.fork = [this](mlir::Operation *op, std::vector<Ending> &paths) { return fork(op, paths); };
}

/// What the regions of an op read from around it.
static llvm::SetVector<mlir::Value> captured(mlir::Operation *op) {
  llvm::SetVector<mlir::Value> values;
  mlir::getUsedValuesDefinedAbove(op->getRegions(), values);
  return values;
}

/// Ops whose results reach the terminator, and ops with effects, are live. An op counts as one user
/// of a value for each operand, and as one more if its regions read it.
void Walk::prepare(mlir::Block &block) {
  for (mlir::Value argument : block.getArguments())
    usesLeft.erase(argument);
  for (mlir::Operation &op : block) {
    live.erase(&op);
    for (mlir::Value result : op.getResults())
      usesLeft.erase(result);
  }
  for (mlir::Operation &op : llvm::reverse(block)) {
    bool used = llvm::any_of(op.getUsers(), [&](mlir::Operation *user) {
      return live.contains(block.findAncestorOpInBlock(*user));
    });
    if (!used && mlir::isMemoryEffectFree(&op) && !op.hasTrait<mlir::OpTrait::IsTerminator>())
      continue;
    live.insert(&op);
    for (mlir::Value operand : op.getOperands())
      if (operand.getParentBlock() == &block)
        ++usesLeft[operand];
    for (mlir::Value value : captured(&op))
      if (value.getParentBlock() == &block)
        ++usesLeft[value];
  }
}

void Walk::define(mlir::Value value, Tensor tensor) {
  unsigned uses = usesLeft.lookup(value);
  if (uses == 0)
    return;
  // Computed once: a lazy with several users would be computed in each.
  if (tensor.expr && uses > 1)
    tensor = e.inMemory(std::move(tensor));
  values[value] = std::move(tensor);
}

std::optional<Tensor> Walk::take(mlir::Value operand, mlir::Operation *user) {
  // What a region reads from around it stays there until the whole op is done.
  bool outer = operand.getParentBlock() != user->getBlock();
  bool last = !outer && --usesLeft[operand] == 0;
  if (failed.contains(operand))
    return std::nullopt;
  auto it = values.find(operand);
  Tensor tensor;
  if (it == values.end()) {
    tensor.none = true;
    return tensor;
  }
  if (!last)
    return it->second;
  tensor = std::move(it->second);
  values.erase(it);
  return tensor;
}

/// The key of an op in the table of handlers.
static std::string handlerName(mlir::Operation *op) {
  if (auto custom = mlir::dyn_cast<moec::onnx::CustomOp>(op))
    return (custom.getDomain() + "::" + custom.getOpType()).str();
  return op->getName().stripDialect().str();
}

static bool isUnknown(mlir::Operation *op) {
  llvm::StringRef dialect = op->getName().getDialectNamespace();
  if (op->hasTrait<mlir::OpTrait::IsTerminator>() || op->getName().getStringRef() == "onnx.none")
    return false;
  return (dialect != "onnx" && dialect != "moe") || !allHandlers().contains(handlerName(op));
}

/// Unknown operators are all reported, also those behind another one.
bool Walk::reportUnknown(mlir::Operation *op) {
  if (!isUnknown(op))
    return false;
  e.op = op;
  // Passes that know the operator say what about this node they do not.
  auto refusal = op->getAttrOfType<mlir::StringAttr>("moec.refused");
  if (auto custom = mlir::dyn_cast<moec::onnx::CustomOp>(op))
    (void)e.error("the operator " + custom.getDomain() + "::" + custom.getOpType() +
                  (refusal ? ", because " + refusal.getValue() : llvm::Twine()));
  else
    (void)e.error("this operator is not implemented");
  return true;
}

static bool isTyped(mlir::Type type) {
  if (auto sequence = mlir::dyn_cast<moec::onnx::SequenceType>(type))
    type = sequence.getElementType();
  auto shaped = mlir::dyn_cast<mlir::ShapedType>(type);
  return mlir::isa<mlir::NoneType>(type) || (shaped && dtypeOf(shaped.getElementType()));
}

/// A lazy that regions read is computed before them, not in each of their runs.
void Walk::enterRegions(mlir::Operation *op) {
  for (mlir::Value value : captured(op))
    if (auto it = values.find(value); it != values.end() && it->second.expr)
      it->second = e.inMemory(it->second);
}

void Walk::leaveRegions(mlir::Operation *op) {
  for (mlir::Value value : captured(op))
    if (value.getParentBlock() == op->getBlock() && --usesLeft[value] == 0)
      values.erase(value);
}

void Walk::lower(mlir::Operation *op) {
  std::vector<Tensor> args, results;
  bool possible = true;
  for (mlir::Value operand : op->getOperands()) {
    std::optional<Tensor> tensor = take(operand, op);
    possible &= tensor.has_value();
    args.push_back(tensor ? std::move(*tensor) : Tensor());
  }
  if (mlir::isa<moec::onnx::NoneOp>(op))
    return; // a value without a tensor
  bool unknown = reportUnknown(op);
  e.op = op;
  bool done = false;
  // Ops without operands apart, only regions can do without the first one.
  bool required = op->getNumRegions() || args.empty() || !args[0].none;
  if (!unknown && !possible) { // for a reason that has been reported
    op->walk([&](mlir::Operation *inner) { (void)(inner != op && reportUnknown(inner)); });
    e.op = op;
  } else if (!unknown && !llvm::all_of(op->getResultTypes(), isTyped)) {
    (void)e.error("a result that is not a tensor of numbers");
  } else if (!unknown && !required) {
    (void)e.error("the first input is missing");
  } else if (!unknown) {
    enterRegions(op);
    done = mlir::succeeded(allHandlers().lookup(handlerName(op))(e, op, args, results));
  }
  args.clear();
  if (forked) // it and all that follows is done
    return;
  leaveRegions(op);
  if (!done) {
    for (mlir::Value r : op->getResults())
      failed.insert(r);
    return;
  }
  for (auto [value, tensor] : llvm::zip(op->getResults(), results))
    define(value, std::move(tensor));
}

void Walk::lowerFrom(mlir::Block::iterator op) {
  for (; !op->hasTrait<mlir::OpTrait::IsTerminator>(); ++op) {
    if (live.contains(&*op))
      lower(&*op);
    if (forked)
      return;
  }
  if (finish)
    finish();
}

void Walk::lower(mlir::Block &block, std::function<void()> last) {
  finish = std::move(last);
  forkable = &block;
  lowerFrom(block.begin());
}

/// What follows the op is lowered once for each path.
bool Walk::fork(mlir::Operation *op, std::vector<Ending> &paths) {
  constexpr unsigned kMaxForks = 3;
  if (op->getBlock() != forkable || forks == kMaxForks)
    return false;
  leaveRegions(op);
  ++forks;
  // The copies keep alive what the first path has used up: it is freed when the run ends.
  auto savedValues = values;
  auto savedUses = usesLeft;
  for (Ending &path : paths) {
    values = savedValues;
    usesLeft = savedUses;
    Scope scope(e);
    e.b.SetInsertPoint(path.end);
    for (auto [value, tensor] : llvm::zip(op->getResults(), path.values))
      define(value, std::move(tensor));
    path.values.clear();
    lowerFrom(std::next(op->getIterator()));
    forked = false;
    values.clear();
  }
  --forks;
  forked = true;
  return true;
}

mlir::FailureOr<std::vector<Tensor>> Walk::region(mlir::Region &region, std::vector<Tensor> args) {
  mlir::Operation *outer = e.op;
  if (!region.hasOneBlock() || region.front().getNumArguments() != args.size())
    return e.error("a body of several blocks or with another number of inputs");
  mlir::Block &block = region.front();
  prepare(block);
  for (auto [argument, tensor] : llvm::zip(block.getArguments(), args))
    define(argument, std::move(tensor));
  args.clear();
  for (mlir::Operation &inner : block)
    if (!inner.hasTrait<mlir::OpTrait::IsTerminator>() && live.contains(&inner))
      lower(&inner);
  std::vector<Tensor> results;
  bool all = true;
  e.op = block.getTerminator();
  for (mlir::Value operand : e.op->getOperands()) {
    std::optional<Tensor> tensor = take(operand, e.op);
    all &= tensor.has_value();
    results.push_back(tensor ? std::move(*tensor) : Tensor());
  }
  e.op = outer;
  if (!all)
    return mlir::failure();
  return results;
}
