// The proof that a sum found by the analysis is an MoE layer.
#pragma once

#include "BankBuilder.h"

namespace moec::raise {

struct Layer {
  const Routing *routing = nullptr;
  Ffn ffn;
  BankShape shape;
  mlir::Value x;      // tokens, [.., H]
  llvm::SmallVector<mlir::Value, 2> weights; // factors, [.., K] each
  mlir::Value base;   // added to the sum, or null
  mlir::Value result; // what the layer replaces
};

struct Refusal {
  mlir::Operation *at = nullptr;
  std::string reason;
};

// Either the layer, or which obligation failed at which operation.
std::optional<Layer> prove(Analysis &analysis, BankBuilder &banks,
                           Expr *candidate, Refusal &refusal);

} // namespace moec::raise
