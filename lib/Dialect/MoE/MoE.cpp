// The dialect: registration, printing of numbers, look-ups.
#include "moec/Dialect/MoE/MoE.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"
#include <cmath>

using namespace mlir;
using namespace moec::moe;

#include "moec/Dialect/MoE/MoEDialect.cpp.inc"
#include "moec/Dialect/MoE/MoEEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "moec/Dialect/MoE/MoEAttrs.cpp.inc"

void MoEDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "moec/Dialect/MoE/MoEOps.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "moec/Dialect/MoE/MoEAttrs.cpp.inc"
      >();
}

//===--- numbers ---------------------------------------------------------------------------===//

FailureOr<Real> moec::moe::detail::parseReal(AsmParser &parser) {
  double value;
  if (parser.parseFloat(value))
    return failure();
  return Real(value);
}

FailureOr<std::optional<Real>> moec::moe::detail::parseOptionalReal(AsmParser &parser) {
  auto value = parseReal(parser);
  if (failed(value))
    return failure();
  return std::optional<Real>(*value);
}

// The fewest digits that give the number back, with the point that the lexer wants.
void moec::moe::detail::printReal(AsmPrinter &printer, double value) {
  char text[32];
  int digits = 1;
  do
    snprintf(text, sizeof text, "%.*g", digits, value);
  while (++digits <= 17 && strtod(text, nullptr) != value);
  StringRef number = text;
  auto [mantissa, exponent] = number.split('e');
  printer << mantissa;
  if (!mantissa.contains('.'))
    printer << ".0";
  if (!exponent.empty())
    printer << 'e' << exponent;
}

FailureOr<bool> moec::moe::detail::parseBool(AsmParser &parser) {
  StringRef word;
  if (parser.parseKeyword(&word))
    return failure();
  if (word != "true" && word != "false")
    return parser.emitError(parser.getCurrentLocation(), "expected 'true' or 'false'");
  return word == "true";
}

//===--- attributes ------------------------------------------------------------------------===//

ArrayRef<StringLiteral> moec::moe::activationNames() {
  static constexpr StringLiteral names[] = {"identity", "relu",      "relu2", "silu",   "swish",
                                            "gelu",     "gelu_tanh", "tanh",  "sigmoid"};
  return names;
}

LogicalResult FfnAttr::verify(function_ref<InFlightDiagnostic()> emitError, bool gated,
                              StringRef activation, Real alpha, std::optional<Real> limit,
                              Real upOffset) {
  // ffn.C1
  if (!llvm::is_contained(activationNames(), activation)) {
    auto error = emitError() << "unknown activation \"" << activation << "\"; it must be one of ";
    llvm::interleaveComma(activationNames(), error);
    return error;
  }
  // ffn.C2
  if (alpha.value != 1 && activation != "swish")
    return emitError() << "alpha belongs to the activation \"swish\", not to \"" << activation
                       << "\"";
  if (!std::isfinite(alpha) || !std::isfinite(upOffset))
    return emitError() << "alpha and up_offset must be finite";
  // ffn.C3
  if (limit && (!(*limit > 0) || !std::isfinite(*limit)))
    return emitError() << "limit must be positive and finite";
  // ffn.C4
  if (!gated && (limit || upOffset.value != 0))
    return emitError() << "limit and up_offset need a gated expert";
  return success();
}

LogicalResult RouterAttr::verify(function_ref<InFlightDiagnostic()> emitError, RouterScore score,
                                 int64_t k, int64_t groups, int64_t groupK, GroupScore groupScore,
                                 RouterRenorm renorm, Real epsilon, Real minimum, Real scale) {
  // router.C1
  if (k < 1)
    return emitError() << "k must be at least 1, not " << k;
  // router.C2
  if (groups < 1 || groupK < 1 || groupK > groups)
    return emitError() << "group_k = " << groupK << " must lie between 1 and groups = " << groups;
  // router.C3
  if (!(epsilon >= 0) || !(minimum >= 0) || !std::isfinite(epsilon) || !std::isfinite(minimum))
    return emitError() << "epsilon and minimum must be finite and not negative";
  if (epsilon.value != 0 && minimum.value != 0)
    return emitError() << "only one of epsilon and minimum may be given";
  // router.C4
  if ((epsilon.value != 0 || minimum.value != 0) && renorm != RouterRenorm::Sum)
    return emitError() << "epsilon and minimum need renorm = sum";
  // router.C5
  if (!std::isfinite(scale))
    return emitError() << "scale must be finite";
  return success();
}

//===--- look-ups --------------------------------------------------------------------------===//

static ModuleOp moduleOf(Operation *op) {
  auto module = dyn_cast<ModuleOp>(op);
  return module ? module : op->getParentOfType<ModuleOp>();
}

WeightsOp moec::moe::findWeights(Operation *op) {
  ModuleOp module = moduleOf(op);
  if (!module)
    return nullptr;
  auto weights = module.getOps<WeightsOp>();
  return weights.empty() ? WeightsOp() : *weights.begin();
}

WeightBindOp moec::moe::findBind(Operation *op, StringRef name) {
  WeightsOp weights = findWeights(op);
  return weights ? dyn_cast_or_null<WeightBindOp>(SymbolTable::lookupSymbolIn(weights, name))
                 : WeightBindOp();
}

BankOp moec::moe::findBank(Operation *op, StringRef name) {
  ModuleOp module = moduleOf(op);
  return module ? dyn_cast_or_null<BankOp>(SymbolTable::lookupSymbolIn(module, name)) : BankOp();
}
