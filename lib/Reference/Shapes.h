// Shapes, strides, broadcasting and movement of elements: what every group of ops shares.
#pragma once
#include "Tensor.h"

namespace moec::reference {

/// Row-major strides, in elements.
Shape stridesOf(llvm::ArrayRef<int64_t> shape);
/// Common shape by the standard's multidirectional broadcasting.
Shape broadcastShape(llvm::ArrayRef<int64_t> a, llvm::ArrayRef<int64_t> b);
/// Fails when the shape cannot be broadcast to `shape`.
Tensor broadcast(const Tensor &t, llvm::ArrayRef<int64_t> shape);
Tensor transpose(const Tensor &t, llvm::ArrayRef<int64_t> perm);
/// Elements start, start + step, ... (size of them) of every axis; all of them must exist.
Tensor slice(const Tensor &t, llvm::ArrayRef<int64_t> starts, llvm::ArrayRef<int64_t> steps,
             llvm::ArrayRef<int64_t> sizes);
/// Part [start, start + size) of one axis.
Tensor part(const Tensor &t, int64_t axis, int64_t start, int64_t size);
/// Tensors of one type that differ only in the size of `axis`.
Tensor concat(llvm::ArrayRef<Tensor> parts, int64_t axis);
/// Tensors of one shape, under a new axis.
Tensor stack(llvm::ArrayRef<Tensor> parts, int64_t axis);

/// A shape seen from one axis: [outer, axis, inner].
struct AxisView {
  int64_t outer = 1, size = 1, inner = 1;
  AxisView(llvm::ArrayRef<int64_t> shape, int64_t axis);
};

/// Copies elements of `width` bytes: out (row-major, `shape`) from in at `offset` by `strides`
/// (elements; 0 and negative allowed).
void copyStrided(const char *in, int64_t offset, llvm::ArrayRef<int64_t> strides, char *out,
                 llvm::ArrayRef<int64_t> shape, int64_t width);

/// Steps an index through a shape in row-major order; false after the last.
bool advance(llvm::MutableArrayRef<int64_t> index, llvm::ArrayRef<int64_t> shape);

} // namespace moec::reference
