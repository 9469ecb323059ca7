// How near a compressed layer's output stays to the original's: a measure that needs neither labels
// nor a run of the model.
#pragma once
#include "moec/Analysis/Profile.h"
#include "mlir/IR/BuiltinOps.h"

namespace moec {

/// For each routed layer, in their order, the mean cosine between what the original gave to tokens
/// that its profile keeps (a file, with a reservoir) and what the layer as it is now gives to the
/// same input; other layers are taken to be the original's. Of the tokens that repairs do not fit
/// (hold-out), `tokens` at most. NaN where that is not known: no tokens kept, experts that are no
/// #moe.ffn, a router whose choice cannot be computed, an output that is corrected behind the layer.
/// Errors: the profile cannot be read or does not fit, weights that cannot be read.
llvm::Expected<std::vector<double>> layerCosines(mlir::ModuleOp module, llvm::StringRef profile,
                                                 llvm::StringRef folder, int64_t tokens = 1024);

} // namespace moec
