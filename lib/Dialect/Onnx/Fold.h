// Folding and canonicalisation of the dialect's ops.
#pragma once
#include "mlir/IR/PatternMatch.h"
#include "moec/Dialect/Onnx/OnnxDialect.h"

namespace moec::onnx {

std::unique_ptr<mlir::DialectInterface> makeFolding(mlir::Dialect *dialect);
void addPatterns(mlir::RewritePatternSet &patterns);
void addSequencePatterns(mlir::RewritePatternSet &patterns);

} // namespace moec::onnx
