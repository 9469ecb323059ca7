// The bank side of the rewrites: per-expert lists and the slabs of parameters that they name.
#pragma once

#include "moec/Dialect/MoE/RoutedLayers.h"
#include <string>

namespace moec::compress {

/// Protected experts of a bank: a discardable attribute, array<i64: ids>.
inline constexpr llvm::StringLiteral kProtected = "moe.protected";

/// One expert as a bank describes it.
struct ExpertEntry {
  int64_t slab = -1; ///< row of its region's parameters; -1 for none
  std::string storage = "dense";
  int64_t width = 0;
  int64_t kind = 0;
  mlir::Value constants; ///< of a constant expert: rows, a value of moe.weights
  int64_t row = 0;       ///< and which of them
};

llvm::SmallVector<ExpertEntry> expertEntries(moe::BankOp bank);

/// Makes these the experts of the bank: parameters keep the slabs that are still used, in order,
/// regions without an expert go.
void setExperts(moe::BankOp bank, llvm::ArrayRef<ExpertEntry> entries);

/// Whether its experts' results have the type of their tokens, as zero and identity experts' have.
bool givesTokenType(moe::BankOp bank);

/// The binds of all its parameters, of every region, in one order.
llvm::SmallVector<llvm::StringRef> parameterNames(moe::BankOp bank);

/// Gives the layer, and each other layer of its bank, a bank of its own, named as the layer.
void ownBank(moe::RoutedLayer &layer);

/// An error at the layer, which it names.
mlir::InFlightDiagnostic layerError(moe::RoutedLayer &layer);

} // namespace moec::compress
