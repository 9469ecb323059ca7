// Sizes of tensors that are known only at run time.
#pragma once

#include "mlir/IR/Value.h"

namespace moec {

// Whether dimension `dimA` of `a` and `dimB` of `b` are equal for certain: the same number, or
// decided by the same size of the graph's inputs or of a value behind both. Any values; what has
// no rank is equal to nothing. One thread.
bool sameSize(mlir::Value a, int64_t dimA, mlir::Value b, int64_t dimB);

} // namespace moec
