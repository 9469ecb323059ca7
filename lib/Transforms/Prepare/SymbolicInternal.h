// The two halves of symbolic sizes: dimensions (SymbolicDims.cpp) and the integer
// vectors that graphs compute from them (SymbolicShape.cpp), which ask each other.
#pragma once

#include "SymbolicShape.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Operation.h"

namespace moec::prepare {

inline Size number(int64_t n) {
  Size size;
  size.number = n;
  return size;
}

// Guards the native stack: beyond the limit a size is only known as itself.
class Descent {
public:
  explicit Descent(SymbolicSizes &sizes) : level(sizes.level) { ++level; }
  ~Descent() { --level; }
  Descent(const Descent &) = delete;
  bool allowed() const { return level < 512; }

private:
  int &level;
};

Size dimOf(mlir::Value v, int64_t dim, SymbolicSizes &sizes);
Sizes vectorOf(mlir::Value v, SymbolicSizes &sizes);
std::optional<llvm::SmallVector<int64_t>> numbersIn(mlir::Value v,
                                                    SymbolicSizes &sizes);

} // namespace moec::prepare
