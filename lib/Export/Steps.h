// New weights from those that moe.weights binds, as steps behind the existing ones.
#pragma once
#include "moec/Dialect/MoE/MoE.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"

#include <string>

namespace moec::onnx_export {

/// Steps are folded while they are made (the row of a stack is the tensor that was stacked, if
/// there is one), and equal ones are made once, so that what is stored is what the source file
/// stores wherever that is possible. All tensors are static.
class Steps {
public:
  explicit Steps(mlir::ModuleOp module);

  /// The value bound under a name; null when there is none.
  mlir::Value of(llvm::StringRef name) const { return byName.lookup(name); }

  mlir::Value cast(mlir::Value v, mlir::Type element);
  mlir::Value reshape(mlir::Value v, llvm::ArrayRef<int64_t> shape);
  mlir::Value transpose(mlir::Value v, llvm::ArrayRef<int64_t> perm);
  mlir::Value gather(mlir::Value v, llvm::ArrayRef<int64_t> rows); // along axis 0
  mlir::Value concat(mlir::ValueRange parts, int64_t axis);
  mlir::Value zeros(llvm::ArrayRef<int64_t> shape, mlir::Type element);
  /// One number everywhere, of an integer type that has it.
  mlir::Value integers(llvm::ArrayRef<int64_t> shape, mlir::Type element, int64_t number);
  /// The first `size` indices of an axis.
  mlir::Value head(mlir::Value v, int64_t axis, int64_t size);
  /// `size` indices of an axis, from `offset` on in steps of `stride`.
  mlir::Value part(mlir::Value v, int64_t axis, int64_t offset, int64_t size, int64_t stride);
  /// Index `row` of axis 0, without that axis.
  mlir::Value row(mlir::Value v, int64_t row);

  /// The matrix that `v` [m, n] is the transpose of, when it was stored that way; null if not.
  mlir::Value untransposed(mlir::Value v);

  /// The same numbers in the narrower float type that they are cast from; null if there is none.
  mlir::Value narrowed(mlir::Value v);

  /// Whether all of `v` is a literal zero. Bytes of files are not looked at.
  static bool isZero(mlir::Value v);

  /// A name of `v`: one that it has, or a new one like `hint`.
  std::string bind(mlir::Value v, llvm::StringRef hint);

private:
  mlir::Value step(llvm::StringRef name, mlir::ValueRange operands, mlir::RankedTensorType type,
                   llvm::ArrayRef<mlir::NamedAttribute> attributes = {});
  mlir::Value slice(mlir::Value v, llvm::ArrayRef<int64_t> offsets, llvm::ArrayRef<int64_t> sizes);
  mlir::Value rowOfConcat(mlir::Operation *concat, int64_t row);
  mlir::Value rowOfReshape(mlir::Operation *reshape, int64_t row);
  mlir::Value rowOfDequantize(mlir::Operation *dequantize, int64_t row);
  mlir::Value rowOfLoad(mlir::Operation *load, int64_t row);
  /// A step of the kind of `like`, over other operands, in another element type.
  mlir::Value again(mlir::Operation *like, mlir::ValueRange operands, mlir::Type element);

  mlir::OpBuilder builder;
  mlir::Block *block = nullptr;
  llvm::StringMap<mlir::Value> byName;
  llvm::DenseMap<mlir::Value, std::string> names;
  llvm::StringMap<mlir::Value> made; // by everything that defines the step
  llvm::DenseMap<mlir::Value, mlir::Value> narrower;
};

} // namespace moec::onnx_export
