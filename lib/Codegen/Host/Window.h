// Sliding windows: the geometry of convolutions and pools, and tensors seen through it.
#pragma once
#include "Emitter.h"

namespace moec::host {

/// By spatial axis. Position o and tap k read element o * stride + k * dilation - before; elements
/// outside of [0, size) are padding.
struct Window {
  Values sizes; ///< of the input
  Values kernel, strides, dilations, before, after;
  Values out;          ///< positions
  bool padded = false; ///< some window may reach outside of the input

  size_t axes() const { return kernel.size(); }
};

/// Attribute lists with one integer for each spatial axis; a failure is recorded.
mlir::FailureOr<Values> spatialAttr(Emitter &e, mlir::Operation *op, llvm::StringRef name,
                                    size_t count, int64_t fallback);

/// Reads strides, dilations, pads, auto_pad and ceil_mode over the spatial sizes of `x`, which
/// begin at axis 2.
mlir::FailureOr<Window> windowOf(Emitter &e, mlir::Operation *op, const Tensor &x, Values kernel);

/// `x` (of any strides) in memory with `fill` around its spatial axes, as far as windows reach.
Tensor padFor(Emitter &e, const Window &w, Tensor x, double fill);

/// The view [first axes of x..., kernel..., positions...] of what `padFor` gave.
Tensor windowsOf(Emitter &e, const Window &w, const Tensor &padded);

/// The position in the input that each tap reads, i64 [kernel, positions] of one axis; `outside`
/// where that is padding.
Tensor tapPositions(Emitter &e, const Window &w, size_t axis, int64_t outside);

/// kind over the dimensions where `reduced`, into a new tensor of `source`'s element type.
Tensor reduceInto(Emitter &e, llvm::StringRef kind, const Tensor &source,
                  const std::vector<bool> &reduced);

} // namespace moec::host
