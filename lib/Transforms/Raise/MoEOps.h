// Builds the moe ops a raised layer is made of.
#pragma once

#include "FfnMatch.h"
#include "BankBuilder.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"

namespace moec::raise {

// moe.select of the top k of scores [T, E]: ids [T, k] i32 and weights [T, k]
// of the scores' element type.
std::pair<mlir::Value, mlir::Value> createSelect(OnnxBuilder &b,
                                                 mlir::Value scores, int64_t k);
// moe.experts: x [T, H], ids and weights [T, k] -> [T, H] of x's element type.
// Without ids (null) the weights are dense, [T, E].
mlir::Value createExperts(OnnxBuilder &b, mlir::FlatSymbolRefAttr bank,
                          mlir::Value x, mlir::Value ids, mlir::Value weights);
// The same for a bank of regions: x and the contexts of rows are [T, ...], and
// so is the result; `contexts` come with what they are, "rows" or "whole".
mlir::Value createExperts(OnnxBuilder &b, mlir::FlatSymbolRefAttr bank,
                          mlir::Value x, mlir::Value ids, mlir::Value weights,
                          llvm::ArrayRef<std::pair<mlir::Value, llvm::StringRef>> contexts,
                          mlir::Type result);
// moe.bank: parameters are binds, a null attribute leaves one out.
struct BankSymbols {
  mlir::FlatSymbolRefAttr gate, up, down, gateBias, upBias, downBias, constants;
};
mlir::FlatSymbolRefAttr createBank(mlir::ModuleOp module, mlir::Location loc,
                                   llvm::StringRef name, const Ffn &ffn,
                                   const BankShape &shape,
                                   const BankSymbols &symbols);

} // namespace moec::raise
