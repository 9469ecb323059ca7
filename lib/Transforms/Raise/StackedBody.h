// Bodies of experts that the graph computes side by side (batched products,
// gathered parameters): one region for all experts, made from the expression.
#pragma once

#include "RegionBody.h"

namespace moec::raise {

// The sources of `body`, an expression with one axis of features, over tokens;
// on failure `why` names the obligation.
std::optional<RegionBody> matchStacked(Expr *body, int64_t experts, std::string &why);

// The region of a stacked body and its parameters, [E, ...] each. `block` is
// empty; false when a parameter does not fit.
mlir::RankedTensorType buildStacked(WeightSteps &steps, const RegionBody &body, mlir::Block *block,
                                    llvm::StringRef name, mlir::Location loc,
                                    llvm::SmallVectorImpl<mlir::Attribute> &parameters);

} // namespace moec::raise
