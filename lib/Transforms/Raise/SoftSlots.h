// Soft MoE: experts over slots that are mixtures of tokens.
#pragma once

#include "BankBuilder.h"

namespace moec::raise {

struct RaiseCount {
  unsigned raised = 0, refused = 0;
};

// Raises the experts over the slots of a block to moe.experts with an id for each
// slot; of one sequence [T, hidden] also what makes and mixes the slots, to
// moe.soft_dispatch and moe.soft_combine (Puigcerver et al., "From Sparse to Soft
// Mixtures of Experts", 2023).
RaiseCount raiseSoftSlots(mlir::Block &block, BankBuilder &banks, bool remarks);

// Raises the layers of a block whose experts choose tokens to moe.choose and
// moe.experts under dense weights (Zhou et al., "Mixture-of-Experts with Expert
// Choice Routing", 2022).
RaiseCount raiseExpertChoice(mlir::Block &block, BankBuilder &banks, bool remarks);

} // namespace moec::raise
