// com.microsoft.MoE and QMoE nodes (P0): the layer is there already, only spelled out.
#pragma once

#include "BankBuilder.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Raise/Semantics.h"

namespace moec::raise {

using Semantics = MoESemantics;

bool isFusedMoE(mlir::Operation *op);
// Replaces the node; false leaves it, with the reason in `why`.
bool raiseFusedMoE(mlir::Operation *op, BankBuilder &banks, WeightSteps &steps, Semantics semantics,
                   std::string &why);

} // namespace moec::raise
