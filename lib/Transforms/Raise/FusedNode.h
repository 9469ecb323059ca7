// com.microsoft.MoE nodes (P0): the layer is there already, only spelled out.
#pragma once

#include "BankBuilder.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"

namespace moec::raise {

bool isFusedMoE(mlir::Operation *op);
// Replaces the node; false leaves it, with the reason in `why`.
bool raiseFusedMoE(mlir::Operation *op, BankBuilder &banks, WeightSteps &steps,
                   std::string &why);

// moe.select of the top k of scores [T, E]: ids [T, k] i32 and weights [T, k].
std::pair<mlir::Value, mlir::Value> createSelect(OnnxBuilder &b,
                                                 mlir::Value scores, int64_t k);
// moe.experts: x [T, H], ids and weights [T, k] -> [T, H].
mlir::Value createExperts(OnnxBuilder &b, mlir::FlatSymbolRefAttr bank,
                          mlir::Value x, mlir::Value ids, mlir::Value weights);

} // namespace moec::raise
