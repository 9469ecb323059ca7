// Values of small tensors at compile time: what shape arithmetic and its like computes. An element
// may be unknown, as the dynamic dimensions in the result of onnx.Shape are.
#pragma once
#include "moec/Dialect/Onnx/OnnxDialect.h"
#include <optional>

namespace moec::onnx {

/// One element: an integer (bool: 0 or 1), or a float as its exact double.
struct Number {
  int64_t i = 0;
  double f = 0;
};

struct Known {
  mlir::Type element;
  llvm::SmallVector<int64_t> shape;
  llvm::SmallVector<std::optional<Number>> values; // row-major

  bool isFloat() const { return mlir::isa<mlir::FloatType>(element); }
  bool complete() const {
    return llvm::all_of(values, [](const auto &v) { return v.has_value(); });
  }
};

/// What is known of a value: all elements of a constant, some of a shape computation. Nothing for
/// tensors of more than kMaxFoldedElements elements, of dynamic shape, or of other element types
/// than bool, integers (but ui64) and floats.
std::optional<Known> evaluate(mlir::Value value);

/// The constant of `type`; null when an element is unknown or the type does not fit.
mlir::DenseElementsAttr toAttribute(const Known &known, mlir::Type type);

} // namespace moec::onnx
