// Index arithmetic that gathers and scatters share.
#pragma once
#include "Tensor.h"
#include <algorithm>
#include <numeric>

namespace moec::reference {

/// Counted from the front; fails outside [-size, size).
int64_t checkedIndex(int64_t index, int64_t size);
/// For each element of `indices`, the position in `shape` that GatherElements reads and
/// ScatterElements writes.
std::vector<int64_t> elementPositions(llvm::ArrayRef<int64_t> shape, const Tensor &indices,
                                      int64_t axis);

/// 0 .. n - 1 in the order of `before`, ties to the lower.
template <class Before>
std::vector<int64_t> orderedIndices(int64_t n, Before before) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int64_t a, int64_t b) { return before(a, b) || (!before(b, a) && a < b); });
  return order;
}

} // namespace moec::reference
