// Folding and canonicalisation of the dialect's ops.
#pragma once
#include "moec/Dialect/Onnx/OnnxDialect.h"
#include "mlir/IR/PatternMatch.h"

namespace moec::onnx {

std::unique_ptr<mlir::DialectInterface> makeFolding(mlir::Dialect *dialect);
void addPatterns(mlir::RewritePatternSet &patterns);

} // namespace moec::onnx
