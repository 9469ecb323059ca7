// The `onnx` dialect without its two hundred op classes: enough to load the dialect and to work
// with its ops by name.
#pragma once
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "moec/Dialect/Onnx/OnnxDialect.h.inc"

#define GET_TYPEDEF_CLASSES
#include "moec/Dialect/Onnx/OnnxTypes.h.inc"

namespace moec::onnx {

/// Integer constants of at most this many elements are computed at compile time; larger ones are
/// weights and stay.
constexpr int64_t kMaxFoldedElements = 4096;

/// The ONNX TensorProto code of an element type (f32 1, u8 2, i8 3, ...); 0 when it has none.
int64_t typeCode(mlir::Type element);
/// The element type of a TensorProto code; null when this dialect has no such type.
mlir::Type typeOfCode(int64_t code, mlir::MLIRContext *context);

/// True for an absent optional operand or result.
inline bool isAbsent(mlir::Value value) {
  return !value || mlir::isa<mlir::NoneType>(value.getType());
}

namespace detail {
// What the classes of all ops share: see Onnx_Op in OnnxDialect.td.
void build(mlir::OperationState &state, mlir::TypeRange types, mlir::ValueRange operands,
           llvm::ArrayRef<mlir::NamedAttribute> attributes, unsigned regions);
mlir::ParseResult parse(mlir::OpAsmParser &parser, mlir::OperationState &result, unsigned regions);
void print(mlir::OpAsmPrinter &printer, mlir::Operation *op);
} // namespace detail

} // namespace moec::onnx
