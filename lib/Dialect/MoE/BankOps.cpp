// moe.bank. Constraint numbers are those of docs/moe-dialect.md.
#include "Shapes.h"
#include <map>

using namespace mlir;
using namespace moec::moe;

//===--- bank ------------------------------------------------------------------------------===//

int64_t BankOp::getSlab(int64_t expert) {
  if (auto slabs = getSlabs())
    return (*slabs)[expert];
  int64_t row = 0; // its number among the experts of its region
  for (int64_t e = 0; e < expert; ++e)
    row += getKind(e) == getKind(expert);
  return row;
}

int64_t BankOp::getNumSlabs(int64_t kind) {
  int64_t most = -1;
  for (int64_t e = 0; e < static_cast<int64_t>(getExperts()); ++e)
    if (getKind(e) == kind)
      most = std::max(most, getSlabs() || getKinds() ? getSlab(e) : e);
  return most + 1;
}

int64_t BankOp::getKind(int64_t expert) { return getKinds() ? (*getKinds())[expert] : 0; }

Region &BankOp::getRegionOf(int64_t expert) { return getImplementations()[getKind(expert)]; }

SmallVector<StringRef> BankOp::getParametersOf(int64_t kind) {
  SmallVector<StringRef> out;
  auto lists = getParameters().value_or(ArrayAttr());
  auto list = lists && getImplementations().size() > 1 ? dyn_cast<ArrayAttr>(lists[kind]) : lists;
  for (Attribute symbol : list ? list.getValue() : ArrayRef<Attribute>())
    out.push_back(cast<FlatSymbolRefAttr>(symbol).getValue());
  return out;
}

int64_t BankOp::getNumContexts() {
  if (getImplementations().empty())
    return 0;
  return static_cast<int64_t>(getImplementations().front().getNumArguments()) - 1 -
         static_cast<int64_t>(getParametersOf(0).size());
}

RankedTensorType BankOp::getTokenType() {
  return getImplementations().empty()
             ? RankedTensorType()
             : cast<RankedTensorType>(getImplementations().front().getArgument(0).getType());
}

RankedTensorType BankOp::getResultType() {
  return getImplementations().empty()
             ? RankedTensorType()
             : cast<RankedTensorType>(
                   getImplementations().front().front().getTerminator()->getOperand(0).getType());
}

StringRef BankOp::getExpertStorage(int64_t expert) {
  return getStorage() ? cast<StringAttr>((*getStorage())[expert]).getValue() : "dense";
}

int64_t BankOp::getConstant(int64_t expert) {
  int64_t row = 0;
  for (int64_t e = 0; e < expert; ++e)
    row += getExpertStorage(e) == "constant";
  return row;
}

SmallVector<int64_t> BankOp::getTwins() {
  std::map<std::tuple<int64_t, int64_t, int64_t>, int64_t> first;
  SmallVector<int64_t> twins;
  for (int64_t e = 0; e < static_cast<int64_t>(getExperts()); ++e) {
    bool shares = getSlabs() && getExpertStorage(e) == "dense";
    twins.push_back(
        shares ? first.try_emplace({getKind(e), getSlab(e), getWidth(e)}, e).first->second : e);
  }
  return twins;
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

// A list of symbols for the only region, or one for each of several.
static LogicalResult verifyParameterLists(BankOp bank) {
  auto parameters = bank.getParameters().value_or(ArrayAttr());
  size_t regions = bank.getImplementations().size();
  if (!parameters)
    return success();
  auto symbols = [](ArrayAttr list) {
    return llvm::all_of(list, [](Attribute a) { return isa<FlatSymbolRefAttr>(a); });
  };
  // bank.C14
  bool ok = regions > 1 ? parameters.size() == regions &&
                              llvm::all_of(parameters,
                                           [&](Attribute a) {
                                             auto list = dyn_cast<ArrayAttr>(a);
                                             return list && symbols(list);
                                           })
                        : symbols(parameters);
  if (!ok)
    return bank.emitOpError("lists 'parameters' that are not the names of ")
           << (regions > 1 ? "each region's binds, a list for each of " + std::to_string(regions)
                           : std::string("binds"));
  return success();
}

static LogicalResult verifyLists(BankOp bank) {
  size_t experts = bank.getExperts();
  size_t regions = bank.getImplementations().size();
  // bank.C13
  if (bank.getKinds().has_value() != (regions > 1))
    return bank.emitOpError("has ") << regions << " regions; 'kinds' stands with several";
  if (auto kinds = bank.getKinds()) {
    if (kinds->size() != experts)
      return bank.emitOpError("has kinds for ") << kinds->size() << " of " << experts << " experts";
    for (auto [e, kind] : llvm::enumerate(*kinds))
      if (kind < 0 || kind >= static_cast<int64_t>(regions))
        return bank.emitOpError("gives expert ")
               << e << " region " << kind << " of " << regions;
  }
  // bank.C5
  if (auto storage = bank.getStorage()) {
    if (storage->size() != experts)
      return bank.emitOpError("has storage for ")
             << storage->size() << " of " << experts << " experts";
    for (auto kind : storage->getAsValueRange<StringAttr>())
      if (kind != "dense" && kind != "zero" && kind != "identity" && kind != "constant")
        return bank.emitOpError("has unsupported storage \"")
               << kind << "\"; it is dense, zero, identity or constant";
  }
  // bank.C17
  int64_t constants = bank.getConstant(static_cast<int64_t>(experts));
  if (bank.getConstants().has_value() != (constants > 0))
    return bank.emitOpError("has ") << constants
                                    << " constant experts; 'constants' stands with these";
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
  bool region = !getImplementations().empty();
  int64_t inter = getInter();
  // bank.C1
  if (static_cast<int64_t>(getExperts()) < 1 ||
      static_cast<int64_t>(getHidden()) < (region ? 0 : 1))
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
  if (ffn && (getParameters() || getCoupled()))
    return emitOpError("has 'parameters' or 'coupled', which stand with a region only");
  if (failed(verifyParameterLists(*this)))
    return failure();
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
                                     RankedTensorType &type, int64_t kind = 0) {
  // bank.C8
  WeightBindOp bind = lookUpBind(bank, symbols, symbol);
  if (!bind)
    return bank.emitOpError("reads the weight @") << symbol << ", which nothing binds";
  type = cast<RankedTensorType>(bind.getValue().getType());
  int64_t rows = type.getRank() ? type.getDimSize(0) : 0;
  // bank.C9
  int64_t needed = bank.getNumSlabs(kind);
  if (bank.getSlabs() ? rows < needed : rows != needed)
    return bank.emitOpError("needs parameters for ")
           << needed << " experts, but @" << symbol << " holds " << rows;
  return success();
}

// The rows of constant experts are results without axis 0.
static LogicalResult verifyConstants(BankOp bank, SymbolTableCollection &symbols) {
  auto symbol = bank.getConstants();
  if (!symbol)
    return success();
  // bank.C8
  WeightBindOp bind = lookUpBind(bank, symbols, *symbol);
  if (!bind)
    return bank.emitOpError("reads the weight @") << *symbol << ", which nothing binds";
  SmallVector<int64_t> shape{bank.getConstant(bank.getExperts())};
  if (RankedTensorType result = bank.getResultType())
    llvm::append_range(shape, result.getShape().drop_front());
  else
    shape.push_back(bank.getHidden());
  // bank.C18
  auto type = cast<RankedTensorType>(bind.getValue().getType());
  if (!fits(type, shape) || llvm::any_of(shape, ShapedType::isDynamic) ||
      !isa<FloatType>(type.getElementType()))
    return bank.emitOpError("needs floats of static shape ")
           << shapeText(shape) << " in 'constants', but @" << *symbol << " is " << type;
  return success();
}

LogicalResult BankOp::verifySymbolUses(SymbolTableCollection &symbols) {
  RankedTensorType type;
  if (failed(verifyConstants(*this, symbols)))
    return failure();
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
  for (auto [kind, region] : llvm::enumerate(getImplementations())) {
    auto arguments = region.getArguments().drop_front();
    for (auto [symbol, argument] : llvm::zip(getParametersOf(kind), arguments)) {
      if (failed(verifyParameter(*this, symbols, symbol, type, kind)))
        return failure();
      // bank.C12
      auto slab = RankedTensorType::get(type.getShape().drop_front(), type.getElementType());
      if (argument.getType() != slab)
        return emitOpError("passes a slab of @") << symbol << " of type " << slab
                                                 << " to an argument of type " << argument.getType();
    }
  }
  return success();
}

static LogicalResult verifyRegion(BankOp bank, Region &region, int64_t kind) {
  size_t slabs = bank.getParametersOf(kind).size(), count = region.getNumArguments();
  int64_t hidden = bank.getHidden();
  // bank.C11
  auto tokens = count ? dyn_cast<RankedTensorType>(region.getArgument(0).getType())
                      : RankedTensorType();
  if (count < 1 + slabs || !tokens || tokens.getRank() < 1 ||
      (hidden ? !fits(tokens, {ShapedType::kDynamic, hidden}) : tokens.getRank() == 2))
    return bank.emitOpError("needs a region over tokens [N, ")
           << (hidden ? std::to_string(hidden) : "...")
           << "] and one slab for each of its parameters";
  auto yield = dyn_cast<YieldOp>(region.front().getTerminator());
  auto result = yield ? dyn_cast<RankedTensorType>(yield.getValue().getType()) : RankedTensorType();
  if (!result || result.getRank() < 1)
    return bank.emitOpError("needs a region that yields results [N, ...]");
  // bank.C15
  for (int64_t e = 0; e < static_cast<int64_t>(bank.getExperts()); ++e) {
    StringRef storage = bank.getExpertStorage(e);
    if ((storage == "zero" || storage == "identity") && !compatible(result, tokens))
      return bank.emitOpError("needs a region that yields its tokens' type, ")
             << tokens << ", as expert " << e << " is " << storage;
  }
  // bank.C16
  Region &first = bank.getImplementations().front();
  auto contexts = region.getArguments().drop_front(1 + slabs);
  auto expected = first.getArguments().drop_front(1 + bank.getParametersOf(0).size());
  bool alike = compatible(tokens, first.getArgument(0).getType()) &&
               compatible(result, bank.getResultType()) && contexts.size() == expected.size() &&
               llvm::all_of(llvm::zip(contexts, expected), [](auto pair) {
                 return compatible(std::get<0>(pair).getType(), std::get<1>(pair).getType());
               });
  if (!alike)
    return bank.emitOpError("has regions that differ in the types of tokens, contexts or results");
  return success();
}

LogicalResult BankOp::verifyRegions() {
  for (auto [kind, region] : llvm::enumerate(getImplementations()))
    if (failed(verifyRegion(*this, region, kind)))
      return failure();
  return success();
}
