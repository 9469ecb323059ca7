// moe.bank and the ops that apply it. Constraint numbers are those of docs/moe-dialect.md.
#include "Shapes.h"

using namespace mlir;
using namespace moec::moe;

//===--- bank ------------------------------------------------------------------------------===//

int64_t BankOp::getSlab(int64_t expert) { return getSlabs() ? (*getSlabs())[expert] : expert; }

int64_t BankOp::getNumSlabs() {
  auto slabs = getSlabs();
  if (!slabs)
    return getExperts();
  int64_t most = -1;
  for (int64_t slab : *slabs)
    most = std::max(most, slab);
  return most + 1;
}

StringRef BankOp::getExpertStorage(int64_t expert) {
  return getStorage() ? cast<StringAttr>((*getStorage())[expert]).getValue() : "dense";
}

int64_t BankOp::getWidth(int64_t expert) {
  return getWidths() ? (*getWidths())[expert] : getInter();
}

// The parameters of a #moe.ffn body, each with the shape that follows axis 0.
namespace {
struct Parameter {
  StringLiteral name;
  std::optional<StringRef> symbol;
  SmallVector<int64_t> shape;
};
} // namespace

static SmallVector<Parameter, 6> ffnParameters(BankOp bank) {
  int64_t h = bank.getHidden(), i = bank.getInter();
  return {{"gate", bank.getGate(), {i, h}},   {"up", bank.getUp(), {i, h}},
          {"down", bank.getDown(), {h, i}},   {"gate_bias", bank.getGateBias(), {i}},
          {"up_bias", bank.getUpBias(), {i}}, {"down_bias", bank.getDownBias(), {h}}};
}

static LogicalResult verifyLists(BankOp bank) {
  size_t experts = bank.getExperts();
  // bank.C5
  if (auto storage = bank.getStorage()) {
    if (storage->size() != experts)
      return bank.emitOpError("has storage for ")
             << storage->size() << " of " << experts << " experts";
    for (auto kind : storage->getAsValueRange<StringAttr>())
      if (kind != "dense" && kind != "zero" && kind != "identity")
        return bank.emitOpError("has unsupported storage \"")
               << kind << "\"; it is dense, zero or identity";
  }
  // bank.C6
  if (auto slabs = bank.getSlabs()) {
    if (slabs->size() != experts)
      return bank.emitOpError("has slabs for ") << slabs->size() << " of " << experts << " experts";
    for (auto [e, slab] : llvm::enumerate(*slabs))
      if (slab < -1 || (slab == -1) != (bank.getExpertStorage(e) != "dense"))
        return bank.emitOpError("gives expert ")
               << e << " slab " << slab
               << "; a dense expert needs a row of the parameters, any other -1";
  } else if (bank.getStorage()) {
    for (auto [e, kind] : llvm::enumerate(bank.getStorage()->getAsValueRange<StringAttr>()))
      if (kind != "dense")
        return bank.emitOpError("needs slabs, as expert ") << e << " has no parameters";
  }
  // bank.C7
  if (auto widths = bank.getWidths()) {
    if (widths->size() != experts)
      return bank.emitOpError("has widths for ")
             << widths->size() << " of " << experts << " experts";
    for (auto [e, width] : llvm::enumerate(*widths))
      if (width < 1 || width > static_cast<int64_t>(bank.getInter()))
        return bank.emitOpError("gives expert ")
               << e << " width " << width << ", which is not in 1.." << bank.getInter();
  }
  return success();
}

LogicalResult BankOp::verify() {
  auto ffn = getBody();
  bool region = !getImplementation().empty();
  int64_t inter = getInter();
  // bank.C1
  if (static_cast<int64_t>(getExperts()) < 1 || static_cast<int64_t>(getHidden()) < 1)
    return emitOpError("needs at least one expert and a hidden size of at least 1");
  // bank.C2
  if (ffn.has_value() == region)
    return emitOpError("needs either a body or a region");
  // bank.C3
  if (ffn ? inter < 1 : inter != 0)
    return emitOpError("has inter = ")
           << inter << "; it is at least 1 with a body and 0 with a region";
  // bank.C4
  for (const Parameter &p : ffnParameters(*this)) {
    bool ofGate = p.name.starts_with("gate");
    bool needed = ffn && !p.name.ends_with("bias") && (!ofGate || ffn->getGated());
    if (needed && !p.symbol)
      return emitOpError("needs the parameter '") << p.name << "'";
    if (p.symbol && (!ffn || (ofGate && !ffn->getGated())))
      return emitOpError("has the parameter '") << p.name << "', which its formula does not use";
  }
  if (ffn && getParameters())
    return emitOpError("lists 'parameters', which only a region uses");
  return verifyLists(*this);
}

static WeightBindOp lookUpBind(BankOp bank, SymbolTableCollection &symbols, StringRef name) {
  WeightsOp weights = findWeights(bank);
  if (!weights)
    return nullptr;
  auto attr = StringAttr::get(bank.getContext(), name);
  return dyn_cast_or_null<WeightBindOp>(symbols.lookupSymbolIn(weights, attr));
}

// A parameter is bound, and its axis 0 has a row for every slab.
static LogicalResult verifyParameter(BankOp bank, SymbolTableCollection &symbols, StringRef symbol,
                                     RankedTensorType &type) {
  // bank.C8
  WeightBindOp bind = lookUpBind(bank, symbols, symbol);
  if (!bind)
    return bank.emitOpError("reads the weight @") << symbol << ", which nothing binds";
  type = cast<RankedTensorType>(bind.getValue().getType());
  int64_t rows = type.getRank() ? type.getDimSize(0) : 0;
  // bank.C9
  bool enough = bank.getSlabs() ? rows >= bank.getNumSlabs()
                                : rows == static_cast<int64_t>(bank.getExperts());
  if (!enough)
    return bank.emitOpError("needs parameters for ")
           << bank.getNumSlabs() << " experts, but @" << symbol << " holds " << rows;
  return success();
}

LogicalResult BankOp::verifySymbolUses(SymbolTableCollection &symbols) {
  RankedTensorType type;
  for (const Parameter &p : ffnParameters(*this)) {
    if (!p.symbol)
      continue;
    if (failed(verifyParameter(*this, symbols, *p.symbol, type)))
      return failure();
    // bank.C10
    if (type.getShape().drop_front() != ArrayRef(p.shape) || !isa<FloatType>(type.getElementType()))
      return emitOpError("needs floats of shape ")
             << shapeText(p.shape) << " in '" << p.name << "' for each expert, but @" << *p.symbol
             << " is " << type;
  }
  if (getImplementation().empty() || !getParameters())
    return success();
  auto arguments = getImplementation().front().getArguments().drop_front();
  for (auto [symbol, argument] :
       llvm::zip(getParameters()->getAsValueRange<FlatSymbolRefAttr>(), arguments)) {
    if (failed(verifyParameter(*this, symbols, symbol, type)))
      return failure();
    // bank.C12
    auto slab = RankedTensorType::get(type.getShape().drop_front(), type.getElementType());
    if (argument.getType() != slab)
      return emitOpError("passes a slab of @")
             << symbol << " of type " << slab << " to an argument of type " << argument.getType();
  }
  return success();
}

LogicalResult BankOp::verifyRegions() {
  if (getImplementation().empty())
    return success();
  Block &block = getImplementation().front();
  size_t count = 1 + (getParameters() ? getParameters()->size() : 0);
  // bank.C11
  auto tokens = block.getNumArguments() ? dyn_cast<RankedTensorType>(block.getArgument(0).getType())
                                        : RankedTensorType();
  if (block.getNumArguments() != count || !tokens ||
      !fits(tokens, {ShapedType::kDynamic, static_cast<int64_t>(getHidden())}))
    return emitOpError("needs a region over tokens [N, ")
           << getHidden() << "] and one slab for each of its parameters";
  auto yield = dyn_cast<YieldOp>(block.getTerminator());
  if (!yield || yield.getValue().getType() != tokens)
    return emitOpError("needs a region that yields its tokens' type, ") << tokens;
  return success();
}

//===--- experts ---------------------------------------------------------------------------===//

static bool isIds(Value value) { return rankedType(value).getElementType().isInteger(32); }

Value ExpertsOp::getIds() {
  return !getRouting().empty() && isIds(getRouting().front()) ? getRouting().front() : Value();
}

Value ExpertsOp::getWeights() {
  return !getRouting().empty() && !isIds(getRouting().back()) ? getRouting().back() : Value();
}

LogicalResult ExpertsOp::verify() {
  auto x = rankedType(getX());
  int64_t tokens = x.getDimSize(0), hidden = x.getDimSize(1);
  // experts.C1
  size_t known = (getIds() ? 1 : 0) + (getWeights() ? 1 : 0);
  if (getRouting().size() != known || (getIds() && !getWeights()))
    return emitOpError("takes tokens, then ids and weights, dense weights, or nothing");
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
  // experts.C5
  auto result = rankedType(getResult());
  SmallVector<int64_t> wanted = {tokens, hidden};
  if (combine == "none")
    wanted.insert(wanted.begin() + 1, slots);
  if (!fits(result, wanted) || result.getElementType() != x.getElementType())
    return emitOpError("makes ") << shapeText(wanted) << " of " << x.getElementType() << ", not "
                                 << result;
  return success();
}

// The bank of an op over tokens of size `hidden`.
static FailureOr<BankOp> verifyBank(Operation *op, SymbolTableCollection &symbols,
                                    FlatSymbolRefAttr name, int64_t hidden) {
  auto bank = symbols.lookupNearestSymbolFrom<BankOp>(op, name);
  // experts.C6, merge_weights.C3
  if (!bank)
    return op->emitOpError("names the bank ") << name << ", which does not exist";
  // experts.C7, merge_weights.C4
  if (!fits(hidden, bank.getHidden()))
    return op->emitOpError("has tokens of size ")
           << hidden << ", but the experts of " << name << " take " << bank.getHidden();
  return bank;
}

LogicalResult ExpertsOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto bank = verifyBank(*this, symbols, getBankAttr(), rankedType(getX()).getDimSize(1));
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
  return success();
}

LogicalResult MergeWeightsOp::verify() {
  auto x = rankedType(getX()), weights = rankedType(getWeights());
  int64_t tokens = x.getDimSize(0), groups = weights.getDimSize(0);
  // merge_weights.C1
  if (!x.isDynamicDim(0) && !weights.isDynamicDim(0) && (groups == 0 || tokens % groups != 0))
    return emitOpError("cannot divide ") << tokens << " tokens into " << groups << " equal groups";
  // merge_weights.C2
  auto result = rankedType(getResult());
  if (!fits(result, x.getShape()) || result.getElementType() != x.getElementType())
    return emitOpError("makes the type of its tokens, ") << x << ", not " << result;
  return success();
}

LogicalResult MergeWeightsOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto bank = verifyBank(*this, symbols, getBankAttr(), rankedType(getX()).getDimSize(1));
  if (failed(bank))
    return failure();
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
