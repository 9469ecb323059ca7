// Import: a .onnx file -> a module of the onnx dialect.
//
// The module holds `moe.weights @weights` (initializers as moe.weight.load or moe.weight.literal,
// bound under their ONNX names) and `func.func @main`, whose arguments and results carry
// `onnx.name` (StrAttr) and `onnx.dims` (ArrayAttr of StrAttr: symbol or "" for each dimension).
// Every op is at NameLoc(node name). Ops follow opset 28 whatever the file's opset (7..28) was.
#pragma once
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/StringRef.h"

namespace moec {

/// Null after errors, which go to the context's diagnostic handler: one line each, "unsupported"
/// in the text when the file is right but not handled. Reads only the graph; weights stay in
/// their files (also those inside the .onnx file itself).
mlir::OwningOpRef<mlir::ModuleOp> importOnnx(llvm::StringRef path, mlir::MLIRContext &context);

} // namespace moec
