// Slices of a weight, taken as near to the file as possible: in front of casts, transposes and
// dequantisation, so that what is left stays stored as the source stored it.
#pragma once

#include "moec/Transforms/Prepare/WeightSteps.h"

namespace moec::compress {

/// Slices `indices` of `value` along `axis`; the value itself when they are all of them in order.
mlir::Value gatherSlices(WeightSteps &steps, mlir::Value value, int64_t axis,
                         llvm::ArrayRef<int64_t> indices);

} // namespace moec::compress
