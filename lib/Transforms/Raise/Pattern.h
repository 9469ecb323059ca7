// The name of the form in which an exporter wrote a layer, for people to read.
#pragma once

#include "LayerProof.h"
#include "moec/Transforms/Raise/Passes.h"

namespace moec::raise {

// One of: "fused node", "expert loop", "gathered weights", "sorted groups", "dense batch", "masks",
// "capacity", "dense gates", "loop operator". The layer still stands in the graph as it was.
llvm::StringRef patternOf(Analysis &analysis, const Layer &layer);

// Notes it at the moe.experts that `result` was just computed from.
void markPattern(mlir::Value result, llvm::StringRef pattern);

} // namespace moec::raise
