// All MoE layers of a block, by several readings of what chooses experts in it.
#pragma once

#include "LayerProof.h"

namespace moec::raise {

// The layers, and for routings without one why.
struct Found {
  std::unique_ptr<Analysis> analysis;
  std::vector<Layer> layers;
  llvm::DenseMap<mlir::Value, Refusal> refused;
};

Found findLayers(mlir::Block &block, BankBuilder &banks);

} // namespace moec::raise
