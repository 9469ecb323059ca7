// Tokens that are the pixels of images: their features stand along axis 1, in
// front of the axes of places, [N, C, H, W].
#pragma once

#include "Facts.h"
#include "moec/Transforms/Prepare/WeightSteps.h"
#include "mlir/IR/Block.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

namespace moec::raise {

struct Channels {
  llvm::DenseSet<mlir::Value> values; // [N, C, places...]
  // [M, C] of the weights [M, C, 1, ..] of convolutions that are a product for
  // each pixel, by the convolution's result.
  llvm::DenseMap<mlir::Value, mlir::Value> matrices;
  bool chooses = false; // a top-k or an argmax runs along axis 1 of one of `values`
};

// The values of a block that a convolution reads or gives, and those beside them
// in operators that leave the axes as they are.
Channels channelsOf(mlir::Block &block, WeightSteps &steps);

// The layout of a tensor [N, C, places...] without an origin.
Layout channelLayout(mlir::RankedTensorType type);

} // namespace moec::raise
