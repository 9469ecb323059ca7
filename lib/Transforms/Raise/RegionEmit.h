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

} // namespace moec::raise
