// ONNX types and tensors as MLIR types and attributes.
#pragma once
#include "Context.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"

namespace moec::onnx_import {

/// The MLIR type of an ONNX element type; null when there is none.
mlir::Type elementType(int32_t code, mlir::MLIRContext &context);
/// The other way round; 0 when there is none.
int32_t elementCode(mlir::Type type);

/// Ranked when the shape is known; null for other types than tensors of numbers.
mlir::Type tensorType(const ::onnx::TypeProto &type, mlir::MLIRContext &context);

/// Whether the static dimensions alone stay below 2^48 elements.
bool isReasonable(mlir::RankedTensorType type);

/// The elements, wherever they are, as an attribute; null with a reason.
mlir::DenseElementsAttr elementsOf(Context &context, const ::onnx::TensorProto &tensor,
                                   std::string &why);
/// The same from bytes in the layout of raw_data.
mlir::DenseElementsAttr elementsOf(mlir::RankedTensorType type, const std::string &bytes);

} // namespace moec::onnx_import
