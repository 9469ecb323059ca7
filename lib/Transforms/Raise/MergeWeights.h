// Experts whose parameters are averaged before one merged expert is applied.
#pragma once

#include "BankBuilder.h"

namespace moec::raise {

// Raises the layers of a block to moe.merge_weights; how many.
unsigned raiseMergedExperts(mlir::Block &block, BankBuilder &banks, WeightSteps &steps,
                            bool remarks);

} // namespace moec::raise
