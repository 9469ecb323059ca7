// The use of a bank of regions in place of a layer's graph.
#pragma once

#include "LayerProof.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace moec::raise {

// The layer's result, of its type. `ids` is [T, K] or null; `now` is what took
// the place of a value; `weights` makes the weights [T, K] for tokens [T, ...].
mlir::Value emitRegionLayer(OnnxBuilder &b, const Layer &layer, mlir::Value ids,
                            llvm::function_ref<mlir::Value(mlir::Value)> now,
                            llvm::function_ref<mlir::Value(mlir::Value)> weights);

// The type of a tensor the layer reads or gives, `now` in its place and the layer's
// result, with the axis of features last; and the result back in its own order.
mlir::RankedTensorType typeLast(const Layer &layer, mlir::Value tensor);
mlir::Value featuresLast(OnnxBuilder &b, const Layer &layer, mlir::Value tensor, mlir::Value now);
mlir::Value featuresBack(OnnxBuilder &b, const Layer &layer, mlir::Value y);

} // namespace moec::raise
