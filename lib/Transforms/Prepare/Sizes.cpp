#include "moec/Transforms/Prepare/Sizes.h"
#include "SymbolicShape.h"

namespace moec {

bool sameSize(mlir::Value a, int64_t dimA, mlir::Value b, int64_t dimB) {
  prepare::SymbolicSizes sizes;
  return sizes.of(a, dimA) == sizes.of(b, dimB);
}

} // namespace moec
