// The two halves of symbolic sizes: dimensions (SymbolicDims.cpp) and the integer
// vectors that graphs compute from them (SymbolicShape.cpp), which ask each other.
#pragma once

#include "SymbolicShape.h"
#include "mlir/IR/Operation.h"

namespace moec::prepare {

inline constexpr int depthLimit = 32;

Size dimOf(mlir::Value v, int64_t dim, int depth);
Sizes vectorOf(mlir::Value v, int depth);
std::optional<llvm::SmallVector<int64_t>> numbersIn(mlir::Value v, int depth);

} // namespace moec::prepare
