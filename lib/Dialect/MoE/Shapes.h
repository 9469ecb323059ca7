// Shape checks that the verifiers share. Dynamic dimensions fit everything.
#pragma once
#include "moec/Dialect/MoE/MoE.h"

namespace moec::moe {

inline mlir::RankedTensorType rankedType(mlir::Value value) {
  return mlir::cast<mlir::RankedTensorType>(value.getType());
}

inline bool fits(int64_t a, int64_t b) {
  return mlir::ShapedType::isDynamic(a) || mlir::ShapedType::isDynamic(b) || a == b;
}

inline bool fits(mlir::RankedTensorType type, llvm::ArrayRef<int64_t> shape) {
  return type.getShape().size() == shape.size() &&
         llvm::all_of(llvm::zip(type.getShape(), shape),
                      [](auto pair) { return fits(std::get<0>(pair), std::get<1>(pair)); });
}

/// Tensors of one element type and rank whose known sizes agree.
inline bool compatible(mlir::Type a, mlir::Type b) {
  auto x = mlir::dyn_cast<mlir::RankedTensorType>(a), y = mlir::dyn_cast<mlir::RankedTensorType>(b);
  return x && y && x.getElementType() == y.getElementType() && fits(x, y.getShape());
}

/// "[?, 8]" of a shape, for messages.
std::string shapeText(llvm::ArrayRef<int64_t> shape);

} // namespace moec::moe
