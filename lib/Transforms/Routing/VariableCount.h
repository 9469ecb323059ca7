// Selections of a different number of experts for each token, spelled out behind
// a top-k of all that may be chosen.
#pragma once

#include "mlir/IR/Operation.h"
#include <optional>

namespace moec::routing {

struct VariableCount {
  enum Kind { TopP, Threshold };
  Kind kind = TopP;
  double bound = 0;     // p, or the least score
  mlir::Value weights;  // those of the select, 0 in the slots that fall out
};

// What keeps some slots of a moe.select with kind top_k: the probabilities
// before a slot sum up to less than p, or its score reaches a threshold. Nothing
// when ids or raw weights are also used in other ways.
std::optional<VariableCount> matchVariableCount(mlir::Operation *select);

} // namespace moec::routing
