// The `moe` dialect: Mixture-of-Experts layers and weights as values. Semantics and constraints:
// docs/moe-dialect.md; ops and attributes: the .td files beside this header.
#pragma once
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/Hashing.h"
#include <bit>
#include <optional>

namespace moec::moe {

/// A number as an attribute's parameter: compared and hashed by its bits, printed exactly.
struct Real {
  double value = 0;
  Real() = default;
  Real(double value) : value(value) {}
  operator double() const { return value; }
  friend bool operator==(const Real &a, const Real &b) {
    return std::bit_cast<uint64_t>(a.value) == std::bit_cast<uint64_t>(b.value);
  }
  friend llvm::hash_code hash_value(Real a) {
    return llvm::hash_value(std::bit_cast<uint64_t>(a.value));
  }
};

namespace detail {
mlir::FailureOr<Real> parseReal(mlir::AsmParser &parser);
mlir::FailureOr<std::optional<Real>> parseOptionalReal(mlir::AsmParser &parser);
void printReal(mlir::AsmPrinter &printer, double value);
mlir::FailureOr<bool> parseBool(mlir::AsmParser &parser);
} // namespace detail

} // namespace moec::moe

#include "moec/Dialect/MoE/MoEDialect.h.inc"
#include "moec/Dialect/MoE/MoEEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "moec/Dialect/MoE/MoEAttrs.h.inc"
#define GET_OP_CLASSES
#include "moec/Dialect/MoE/MoEOps.h.inc"

namespace moec::moe {

/// The activations a #moe.ffn may name.
llvm::ArrayRef<llvm::StringLiteral> activationNames();

/// The moe.weights of the module around `op` (or of `op` itself); null when it has none.
WeightsOp findWeights(mlir::Operation *op);
/// The bind of that name; null when there is none. Linear in the number of weights: passes that
/// look up many keep a table.
WeightBindOp findBind(mlir::Operation *op, llvm::StringRef name);
/// The bank of that name in the module around `op`, or null.
BankOp findBank(mlir::Operation *op, llvm::StringRef name);

} // namespace moec::moe
