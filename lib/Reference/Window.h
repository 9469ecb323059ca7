// Sliding windows of convolutions and pools.
#pragma once
#include "Call.h"
#include "Shapes.h"

namespace moec::reference {

/// By spatial axis. Position o and tap k of a window read element
/// o * stride + k * dilation - before; elements outside of [0, size) are padding.
struct Window {
  Shape sizes; ///< of the input
  Shape kernel, strides, dilations, before, after;
  Shape out; ///< positions

  /// Calls visit(row-major element, row-major tap) for each tap of position `at` inside the input.
  void forEachTap(llvm::ArrayRef<int64_t> at,
                  llvm::function_ref<void(int64_t, int64_t)> visit) const;
};

/// Reads strides, dilations, pads, auto_pad and ceil_mode; `x` is [N, C, sizes...].
Window windowOf(const Call &c, const Tensor &x, llvm::ArrayRef<int64_t> kernel);

/// The attribute `name` with one integer for each spatial axis, or all `fallback`.
Shape spatialAttr(const Call &c, llvm::StringRef name, size_t count, int64_t fallback);

} // namespace moec::reference
