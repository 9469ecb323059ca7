// Which version of ONNX's operators a node needs.
#pragma once
#include "mlir/IR/Operation.h"
#include "onnx/onnx_pb.h"

namespace moec::onnx_export {

/// The code of an element type in files; 0 when it has none.
int32_t elementCode(mlir::Type type);
/// The oldest opset, 21 or later, whose file format has the element type.
int64_t neededOpset(mlir::Type element);

/// The oldest opset, 21 or later, whose version of the operator says the same as that of the
/// dialect's opset about this node, with its attributes, operands and element types; 0 when the
/// dialect's opset has no such operator.
int64_t neededOpset(mlir::Operation *op, const ::onnx::NodeProto &node);

/// The version of the file format that an opset came with.
int64_t irVersionOf(int64_t opset);

} // namespace moec::onnx_export
