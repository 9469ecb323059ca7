// Element-by-element computation of small tensors, exactly as ONNX defines it: integers wrap in
// their width, floats are rounded once to their type (doubles hold sums, products, quotients and
// roots of narrower floats well enough for that to be exact).
#pragma once
#include "Evaluate.h"

namespace moec::onnx {

bool isUnary(llvm::StringRef name);
bool isBinary(llvm::StringRef name);

/// One element; nothing when the op is not computed for the type, or divides by zero.
std::optional<Number> scalar(llvm::StringRef name, mlir::Type element, Number a, Number b);

std::optional<Known> unary(llvm::StringRef name, const std::optional<Known> &a);
std::optional<Known> binary(llvm::StringRef name, const std::optional<Known> &a,
                            const std::optional<Known> &b);
std::optional<Known> where(const std::optional<Known> &condition, const std::optional<Known> &a,
                           const std::optional<Known> &b);
std::optional<Known> convert(const Known &a, mlir::Type element);

/// Numpy broadcasting of two static shapes; nothing when they do not fit or the result is large.
std::optional<llvm::SmallVector<int64_t>> broadcastShape(llvm::ArrayRef<int64_t> a,
                                                         llvm::ArrayRef<int64_t> b);
Known broadcast(const Known &a, llvm::ArrayRef<int64_t> shape);

} // namespace moec::onnx
