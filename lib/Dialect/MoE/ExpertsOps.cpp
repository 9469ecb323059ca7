// The ops that apply a bank: moe.experts and moe.merge_weights. Constraint numbers are those of
// docs/moe-dialect.md.
#include "Shapes.h"

using namespace mlir;
using namespace moec::moe;

//===--- experts ---------------------------------------------------------------------------===//

static bool isIds(Value value) {
  return rankedType(value).getRank() == 2 && rankedType(value).getElementType().isInteger(32);
}

static bool isWeights(Value value) {
  return rankedType(value).getRank() == 2 && isa<FloatType>(rankedType(value).getElementType());
}

static size_t contextCount(ExpertsOp op) {
  return op.getContexts() ? std::min<size_t>(op.getContexts()->size(), op.getMore().size()) : 0;
}

ValueRange ExpertsOp::getRouting() {
  return ValueRange(getMore()).drop_back(contextCount(*this));
}

ValueRange ExpertsOp::getContextValues() {
  return ValueRange(getMore()).take_back(contextCount(*this));
}

bool ExpertsOp::isContextOfRows(int64_t index) {
  return cast<StringAttr>((*getContexts())[index]).getValue() == "rows";
}

Value ExpertsOp::getIds() {
  ValueRange routing = getRouting();
  return !routing.empty() && isIds(routing.front()) ? routing.front() : Value();
}

Value ExpertsOp::getWeights() {
  ValueRange routing = getRouting();
  return !routing.empty() && isWeights(routing.back()) ? routing.back() : Value();
}

LogicalResult ExpertsOp::verify() {
  auto x = rankedType(getX());
  // experts.C1
  size_t known = (getIds() ? 1 : 0) + (getWeights() ? 1 : 0);
  if (getRouting().size() != known || (getIds() && !getWeights()) || x.getRank() < 1)
    return emitOpError("takes tokens, then ids and weights, dense weights, or nothing, then contexts");
  int64_t tokens = x.getDimSize(0);
  // experts.C2
  for (Value operand : {getIds(), getWeights()})
    if (operand && !fits(rankedType(operand).getDimSize(0), tokens))
      return emitOpError("has ") << tokens << " tokens but " << rankedType(operand).getDimSize(0)
                                 << " rows of ids or weights";
  int64_t slots = getWeights() ? rankedType(getWeights()).getDimSize(1) : 1;
  // experts.C3
  if (getIds() && !fits(rankedType(getIds()).getDimSize(1), slots))
    return emitOpError("has ") << rankedType(getIds()).getDimSize(1) << " ids but " << slots
                               << " weights for each token";
  // experts.C4
  StringRef combine = getCombine();
  if (combine != "sum" && combine != "none")
    return emitOpError("has combine = \"") << combine << "\"; it is sum or none";
  // experts.C10
  if (auto kinds = getContexts())
    for (StringRef kind : kinds->getAsValueRange<StringAttr>())
      if (kind != "rows" && kind != "whole")
        return emitOpError("has a context \"") << kind << "\"; it is rows or whole";
  return success();
}

// The bank of an op over tokens `x`.
static FailureOr<BankOp> verifyBank(Operation *op, SymbolTableCollection &symbols,
                                    FlatSymbolRefAttr name, RankedTensorType x) {
  auto bank = symbols.lookupNearestSymbolFrom<BankOp>(op, name);
  // experts.C6, merge_weights.C3
  if (!bank)
    return op->emitOpError("names the bank ") << name << ", which does not exist";
  // experts.C7, merge_weights.C4
  RankedTensorType tokens = bank.getTokenType();
  int64_t hidden = x.getRank() > 1 ? x.getShape().back() : -1;
  if (bank.getHidden() && (x.getRank() != 2 || !fits(hidden, bank.getHidden())))
    return op->emitOpError("has tokens of size ")
           << hidden << ", but the experts of " << name << " take " << bank.getHidden();
  if (tokens ? !compatible(x, tokens) : !isa<FloatType>(x.getElementType()))
    return op->emitOpError("has tokens ")
           << x << ", but the experts of " << name << " take "
           << (tokens ? shapeText(tokens.getShape()) + " of another type" : std::string("floats"));
  return bank;
}

// [T, ...] of the results of a bank's experts for tokens x.
static RankedTensorType resultOf(BankOp bank, RankedTensorType x) {
  RankedTensorType type = bank.getResultType();
  if (!type)
    return x;
  SmallVector<int64_t> shape(type.getShape());
  shape[0] = x.getDimSize(0);
  return RankedTensorType::get(shape, type.getElementType());
}

static LogicalResult verifyContexts(ExpertsOp op, BankOp bank) {
  ValueRange contexts = op.getContextValues();
  int64_t tokens = rankedType(op.getX()).getDimSize(0);
  // experts.C11
  if (static_cast<int64_t>(contexts.size()) != bank.getNumContexts() ||
      (op.getContexts() && op.getContexts()->size() != contexts.size()))
    return op.emitOpError("gives ") << contexts.size() << " contexts, but the experts of "
                                    << op.getBankAttr() << " read " << bank.getNumContexts();
  for (auto [i, context] : llvm::enumerate(contexts)) {
    Type wanted = bank.getImplementations()
                      .front()
                      .getArguments()
                      .take_back(contexts.size())[i]
                      .getType();
    auto type = rankedType(context);
    if (!compatible(type, wanted))
      return op.emitOpError("gives context ")
             << i << " of type " << type << ", but the experts of " << op.getBankAttr() << " read "
             << wanted;
    // experts.C12
    if (op.isContextOfRows(i) && (type.getRank() < 1 || !fits(type.getDimSize(0), tokens)))
      return op.emitOpError("has ") << tokens << " tokens, but context " << i << " is " << type;
  }
  return success();
}

LogicalResult ExpertsOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto x = rankedType(getX());
  auto bank = verifyBank(*this, symbols, getBankAttr(), x);
  if (failed(bank))
    return failure();
  int64_t experts = bank->getExperts();
  // experts.C8
  if (!getWeights() && experts != 1)
    return emitOpError("needs weights, as ") << getBankAttr() << " has " << experts << " experts";
  // experts.C9
  if (getWeights() && !getIds() && !fits(rankedType(getWeights()).getDimSize(1), experts))
    return emitOpError("has dense weights for ")
           << rankedType(getWeights()).getDimSize(1) << " experts, but " << getBankAttr() << " has "
           << experts;
  // experts.C5
  auto result = rankedType(getResult()), each = resultOf(*bank, x);
  SmallVector<int64_t> wanted(each.getShape());
  if (getCombine() == "none")
    wanted.insert(wanted.begin() + 1, getWeights() ? rankedType(getWeights()).getDimSize(1) : 1);
  if (!fits(result, wanted) || result.getElementType() != each.getElementType())
    return emitOpError("makes ") << shapeText(wanted) << " of " << each.getElementType() << ", not "
                                 << result;
  return verifyContexts(*this, *bank);
}

LogicalResult MergeWeightsOp::verify() {
  auto x = rankedType(getX()), weights = rankedType(getWeights());
  int64_t tokens = x.getDimSize(0), groups = weights.getDimSize(0);
  // merge_weights.C1
  if (!x.isDynamicDim(0) && !weights.isDynamicDim(0) && (groups == 0 || tokens % groups != 0))
    return emitOpError("cannot divide ") << tokens << " tokens into " << groups << " equal groups";
  return success();
}

LogicalResult MergeWeightsOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto x = rankedType(getX());
  auto bank = verifyBank(*this, symbols, getBankAttr(), x);
  if (failed(bank))
    return failure();
  // merge_weights.C2
  auto result = rankedType(getResult()), each = resultOf(*bank, x);
  if (!fits(result, each.getShape()) || result.getElementType() != each.getElementType())
    return emitOpError("makes ") << each << " of its tokens, not " << result;
  // merge_weights.C8
  if (bank->getImplementations().size() > 1 || bank->getNumContexts() > 0)
    return emitOpError("merges parameters, and the experts of ")
           << getBankAttr() << " have several regions or read contexts";
  int64_t columns = rankedType(getWeights()).getDimSize(1);
  // merge_weights.C5
  if (!fits(columns, bank->getExperts()))
    return emitOpError("has weights for ")
           << columns << " experts, but " << getBankAttr() << " has " << bank->getExperts();
  // merge_weights.C6
  if (auto storage = bank->getStorage())
    for (auto [e, kind] : llvm::enumerate(storage->getAsValueRange<StringAttr>()))
      if (kind != "dense")
        return emitOpError("merges parameters, and expert ")
               << e << " of " << getBankAttr() << " has none";
  // merge_weights.C7
  if (auto widths = bank->getWidths(); widths && !llvm::all_equal(*widths))
    return emitOpError("merges parameters, and the experts of ")
           << getBankAttr() << " differ in width";
  return success();
}
