// Passes that make MoE layers smaller: see Passes.td.
#pragma once
#include "mlir/Pass/Pass.h"
#include "moec/Dialect/MoE/MoE.h"

namespace moec {
#define GEN_PASS_DECL
#include "moec/Transforms/Compress/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "moec/Transforms/Compress/Passes.h.inc"
} // namespace moec
