// Which operations treat the rows of a tensor one by one: the proof that a body
// of an expert says what happens to each token by itself.
#pragma once

#include "OnnxAccess.h"

namespace moec::raise {

// The axes [at, at + count) of a value run over tokens; count 0: the value is
// the same for all tokens.
struct Rows {
  int64_t at = 0, count = 0;
  bool any() const { return count > 0; }
  bool has(int64_t axis) const { return axis >= at && axis < at + count; }
  bool operator==(const Rows &o) const { return at == o.at && count == o.count; }
};

struct RowWise {
  llvm::SmallVector<Rows, 1> results;
  // The operation reads all rows together in a way that only rounds (the range
  // of a quantisation).
  bool coupled = false;
};

// The rows of an operation's results from those of its operands; nullopt when
// it mixes rows or is not known. Types must be ranked.
std::optional<RowWise> rowWise(mlir::Operation *op, llvm::ArrayRef<Rows> operands);

// Each element of the result is a function of the operands' elements beside it.
bool isElementwise(mlir::Operation *op);

} // namespace moec::raise
