// com.microsoft.MoE nodes (P0): the layer is there already, only spelled out.
#pragma once

#include "BankBuilder.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"

namespace moec::raise {

bool isFusedMoE(mlir::Operation *op);
// Replaces the node; false leaves it, with the reason in `why`.
bool raiseFusedMoE(mlir::Operation *op, BankBuilder &banks, WeightSteps &steps,
                   std::string &why);

} // namespace moec::raise
