// Builds onnx ops with their result types: the small vocabulary that
// decompositions and the raise need.
//
// Operands are tensors; shapes follow ONNX broadcasting, a dimension that
// cannot be known becomes dynamic. Nothing here can fail: callers check ranks
// and element types before they build.
#pragma once

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseSet.h"

namespace moec {

class OnnxBuilder {
public:
  OnnxBuilder(mlir::OpBuilder &builder, mlir::Location loc)
      : builder(builder), loc(loc) {}

  // Any op by name ("MatMul"), one result.
  mlir::Value op(llvm::StringRef name, mlir::ValueRange operands,
                 mlir::Type result,
                 llvm::ArrayRef<mlir::NamedAttribute> attrs = {});
  mlir::Value none();
  mlir::Value ints(llvm::ArrayRef<int64_t> values); // tensor<Nxi64>
  mlir::Value scalar(mlir::Type element, double value);

  mlir::Value unary(llvm::StringRef name, mlir::Value x);
  mlir::Value binary(llvm::StringRef name, mlir::Value a, mlir::Value b);
  mlir::Value cast(mlir::Value x, mlir::Type element); // x itself if equal
  mlir::Value transpose(mlir::Value x, llvm::ArrayRef<int64_t> perm);
  // 0 copies the dimension of x, -1 is inferred (ONNX, allowzero = 0).
  mlir::Value reshape(mlir::Value x, llvm::ArrayRef<int64_t> shape);
  mlir::Value reshapeLike(mlir::Value x, mlir::Value shape, mlir::Type type);
  mlir::Value unsqueeze(mlir::Value x, llvm::ArrayRef<int64_t> axes);
  mlir::Value slice(mlir::Value x, int64_t axis, int64_t start, int64_t end,
                    int64_t step = 1);
  mlir::Value concat(mlir::ValueRange xs, int64_t axis);
  mlir::Value gather(mlir::Value data, mlir::Value index, int64_t axis);
  mlir::Value matmul(mlir::Value a, mlir::Value b);
  mlir::Value softmax(mlir::Value x, int64_t axis);
  mlir::Value reduce(llvm::StringRef name, mlir::Value x,
                     llvm::ArrayRef<int64_t> axes, bool keep = true);
  mlir::Value shape(mlir::Value x, int64_t start, int64_t end);
  mlir::NamedAttribute attr(llvm::StringRef name, int64_t value);
  mlir::NamedAttribute attr(llvm::StringRef name, double value);
  mlir::NamedAttribute attr(llvm::StringRef name,
                            llvm::ArrayRef<int64_t> values);
  mlir::NamedAttribute attr(llvm::StringRef name, llvm::StringRef value);

  mlir::OpBuilder &builder;
  mlir::Location loc;
};

// ONNX TensorProto code of an element type (0: none).
int64_t onnxTypeCode(mlir::Type element);
mlir::RankedTensorType rankedType(mlir::Value v);
// "MatMul" for onnx.MatMul; empty for null and for ops of other dialects.
llvm::StringRef onnxName(mlir::Operation *op);
// An integer attribute of an op, `otherwise` where it has none.
int64_t intAttr(mlir::Operation *op, llvm::StringRef name, int64_t otherwise);

// Erases the block's operations without effect and without a use, last first.
void eraseDeadOps(mlir::Block &block,
                  const llvm::DenseSet<mlir::Operation *> &kept = {});

} // namespace moec
