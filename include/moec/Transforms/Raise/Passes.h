// Passes of Transforms/Raise; declared with their documentation in Passes.td.
#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/Onnx.h"

namespace moec {
#define GEN_PASS_DECL
#include "moec/Transforms/Raise/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "moec/Transforms/Raise/Passes.h.inc"
} // namespace moec
