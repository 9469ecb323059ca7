// Builds onnx ops with their result types. Operands are ranked tensors; what cannot be known of a
// shape is dynamic.
#pragma once
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/ArrayRef.h"

#include <string>

namespace moec::onnx_export {

inline mlir::RankedTensorType rankedType(mlir::Value v) {
  return mlir::cast<mlir::RankedTensorType>(v.getType());
}
inline mlir::Type elementOf(mlir::Value v) { return rankedType(v).getElementType(); }

/// The ONNX node name that a location holds; empty when it holds none.
std::string nodeName(mlir::Location loc);

/// One layer's ops: they are named after it.
class Build {
public:
  Build(mlir::Operation *at, llvm::StringRef layer);

  /// What the next ops are called behind the layer's name; empty: by their operator.
  std::string part;

  mlir::OpBuilder builder;

  mlir::Operation *make(llvm::StringRef name, mlir::ValueRange operands, mlir::TypeRange types,
                        llvm::ArrayRef<mlir::NamedAttribute> attributes = {});
  mlir::Value op(llvm::StringRef name, mlir::ValueRange operands, mlir::Type type,
                 llvm::ArrayRef<mlir::NamedAttribute> attributes = {}) {
    return make(name, operands, type, attributes)->getResult(0);
  }
  mlir::NamedAttribute attr(llvm::StringRef name, int64_t value) {
    return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
  }
  mlir::NamedAttribute attr(llvm::StringRef name, llvm::StringRef value) {
    return builder.getNamedAttr(name, builder.getStringAttr(value));
  }
  mlir::RankedTensorType type(llvm::ArrayRef<int64_t> shape, mlir::Type element) {
    return mlir::RankedTensorType::get(shape, element);
  }

  mlir::Value none();
  mlir::Value constant(mlir::DenseElementsAttr value);
  mlir::Value ints(llvm::ArrayRef<int64_t> values);     // [N] i64
  mlir::Value index(int64_t value);                     // scalar i64
  mlir::Value number(mlir::Type element, double value); // scalar
  mlir::Value zeros(mlir::Value shape, mlir::RankedTensorType type);

  mlir::Value unary(llvm::StringRef name, mlir::Value x);
  mlir::Value binary(llvm::StringRef name, mlir::Value a, mlir::Value b);
  mlir::Value compare(llvm::StringRef name, mlir::Value a, mlir::Value b);
  mlir::Value where(mlir::Value condition, mlir::Value a, mlir::Value b);
  mlir::Value cast(mlir::Value x, mlir::Type element); // x itself if equal
  mlir::Value softmax(mlir::Value x, int64_t axis);
  mlir::Value reduce(llvm::StringRef name, mlir::Value x, int64_t axis, bool keep);
  mlir::Value transpose(mlir::Value x, llvm::ArrayRef<int64_t> perm);
  /// -1 is inferred, for the type too when all else is static.
  mlir::Value reshape(mlir::Value x, llvm::ArrayRef<int64_t> shape);
  mlir::Value reshape(mlir::Value x, mlir::Value shape, mlir::RankedTensorType type);
  mlir::Value unsqueeze(mlir::Value x, int64_t axis);
  mlir::Value concat(mlir::ValueRange xs, int64_t axis);
  mlir::Value gather(mlir::Value data, mlir::Value rows, int64_t axis);
  mlir::Value gatherElements(mlir::Value data, mlir::Value indices);
  mlir::Value shape(mlir::Value x);
  mlir::Value slice(mlir::Value x, mlir::Value start, mlir::Value end, int64_t axis);
  mlir::Value matmul(mlir::Value a, mlir::Value b);
  /// Parts of size 1.
  mlir::SmallVector<mlir::Value> unitParts(mlir::Value x, int64_t axis);
  /// Values and i64 indices of the k largest (or smallest) along the last axis, in order; `size` is
  /// k when it is known.
  std::pair<mlir::Value, mlir::Value> topK(mlir::Value x, mlir::Value k, int64_t size,
                                           bool largest = true);

private:
  std::string layer;
};

} // namespace moec::onnx_export
