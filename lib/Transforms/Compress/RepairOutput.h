// Corrections of a layer's output, behind it.
#pragma once

#include "RepairPass.h"

namespace moec::compress {

/// A matrix as a weight in the element type `stored`; `builder` is in moe.weights.
llvm::Expected<mlir::Value> matrixWeight(mlir::OpBuilder &builder, mlir::Location location,
                                         const Rows &matrix, mlir::Type stored,
                                         llvm::StringRef name);

/// Why nothing can be added to the layer's output; empty when it can.
std::string whyNoOutput(moe::RoutedLayer &layer);

/// Adds `x map + bias` to the output of `layer`, and marks it with kRepaired = `by`. `map` is
/// [hidden, hidden], or empty for none; it is stored in the type of the bank's down weights.
/// Errors: disk space.
llvm::Error addToOutput(moe::RoutedLayer &layer, llvm::StringRef by, const Rows &map,
                        const Eigen::RowVectorXf &bias);

} // namespace moec::compress
