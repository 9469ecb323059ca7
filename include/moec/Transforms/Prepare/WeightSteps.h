// Appends steps to the module's weights (moe.weights) and binds the results.
//
// Values given and returned are values of the weights region, shaped like the
// tensors they stand for. Nothing is evaluated here. Steps are made once:
// asking for the same step of the same value again returns the first.
#pragma once

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/StringSet.h"

namespace moec {

class WeightSteps {
public:
  // Creates the moe.weights op when the module has none.
  explicit WeightSteps(mlir::ModuleOp module);

  // The weights value behind a moe.weight.use, or behind an onnx.Constant
  // (which becomes a literal); null for anything else.
  mlir::Value of(mlir::Value use);

  mlir::Value literal(mlir::DenseElementsAttr value);
  mlir::Value cast(mlir::Value v, mlir::Type element);
  mlir::Value transpose(mlir::Value v, llvm::ArrayRef<int64_t> perm);
  mlir::Value reshape(mlir::Value v, llvm::ArrayRef<int64_t> shape);
  mlir::Value slice(mlir::Value v, llvm::ArrayRef<int64_t> offsets,
                    llvm::ArrayRef<int64_t> sizes,
                    llvm::ArrayRef<int64_t> strides);
  // Elements [offset, offset + size * stride) of one axis.
  mlir::Value part(mlir::Value v, int64_t axis, int64_t offset, int64_t size,
                   int64_t stride = 1);
  mlir::Value gather(mlir::Value v, int64_t axis,
                     llvm::ArrayRef<int64_t> indices);
  mlir::Value concat(mlir::ValueRange vs, int64_t axis);
  // Bytes as elements of 2, 4 or 8 bits, low bits first.
  mlir::Value unpack(mlir::Value v, mlir::Type element);
  // (v - zeroPoint) * scale, a scale for each block (moe.weight.dequantize); no zero point: null.
  mlir::Value dequantize(mlir::Value v, mlir::Value scale, mlir::Value zeroPoint,
                         llvm::ArrayRef<int64_t> blocks, mlir::Type element);

  // Binds `v` under a fresh name that begins with `hint`.
  mlir::FlatSymbolRefAttr bind(mlir::Value v, llvm::StringRef hint);
  // The name a moe.weight.use refers to ("" for other ops).
  static llvm::StringRef nameOf(mlir::Operation *use);
  mlir::Value use(mlir::OpBuilder &builder, mlir::Location loc,
                  mlir::FlatSymbolRefAttr symbol);

  // Erases binds nothing refers to and steps nothing reads; number of binds.
  unsigned eraseDead();

  // Which slice of which stacked tensor a value is: looks through reshape,
  // cast and transpose. `index` is -1 when it is no single slice of axis 0.
  struct Origin {
    mlir::Value base;
    int64_t index = -1;
    bool plain = false; // slice and reshape only: same numbers, same order
  };
  static Origin origin(mlir::Value v);

private:
  mlir::Operation *make(llvm::StringRef name, mlir::ValueRange operands,
                        mlir::Type type,
                        llvm::ArrayRef<mlir::NamedAttribute> attrs);
  mlir::ModuleOp module;
  mlir::Operation *weights = nullptr;
  mlir::OpBuilder builder;
  llvm::DenseMap<mlir::Value, llvm::SmallVector<mlir::Operation *, 2>> steps;
  llvm::DenseMap<mlir::Value, mlir::Value> literals;
  llvm::DenseMap<mlir::StringAttr, mlir::Operation *> binds;
  unsigned counter = 0;
};

} // namespace moec
