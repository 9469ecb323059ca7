// What a model's last product makes its logits of. Internal to Driver.
#pragma once

#include "moec/Driver/Model.h"

namespace moec {

/// The name that tapPreLogits gives to the output.
inline constexpr llvm::StringLiteral preLogitsName = "moec.pre_logits";

/// What the product with a weight that gives output `output` of @main multiplies: a value whose last
/// dimension are the features. Between the product and the output may be casts, views, other
/// elementwise steps with weights, and soft caps. Null where it is anything else.
mlir::Value findPreLogits(mlir::ModuleOp module, size_t output);

/// Adds findPreLogits, where there is one, to the results of @main, behind all others.
void tapPreLogits(mlir::ModuleOp module, size_t output);

} // namespace moec
