// Passes of Transforms/Raise; declared with their documentation in Passes.td.
#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/Onnx.h"

namespace moec {

/// The discardable attribute of moe.experts that says in which form the layer was written, for people
/// to read: "fused node", "expert loop", "gathered weights", "sorted groups", "dense batch", "masks",
/// "capacity", "dense gates" or "loop operator".
inline constexpr llvm::StringLiteral patternAttr = "moe.pattern";
/// That which says what routes where ids and weights alone do not: "soft slots", "expert choice".
inline constexpr llvm::StringLiteral routerKindAttr = "moe.router_kind";

#define GEN_PASS_DECL
#include "moec/Transforms/Raise/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "moec/Transforms/Raise/Passes.h.inc"
} // namespace moec
