// Whether a profile is one of these weights: a hash of each bank, which the profile holds, too.
#pragma once
#include "moec/Analysis/Profile.h"
#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Weights/Weights.h"

namespace moec {

/// Note of a bank, a text: the hash that its weights had before a pass of this room changed them;
/// empty when that was not known. A bank without the note is as it was read.
inline constexpr llvm::StringLiteral kWeightHash = "moe.weight_hash";

/// Of the first 4 KiB of each slab of each parameter: equal banks have equal hashes, wherever their
/// weights are stored. Errors: weights that cannot be read.
llvm::Expected<std::string> weightHash(moe::BankOp bank, WeightEvaluator &weights);

/// Leaves the note at each routed bank that has none. Errors: one line that names the layer.
llvm::Error noteWeights(mlir::ModuleOp module, llvm::StringRef folder);

/// Compares the layers that model and profile have in common; those of which the profile has no
/// hash (counts of other tools) always fit, and so do banks that were changed before their hash was
/// known. A changed bank is compared by the note, or else as it is now. Leaves the note at each bank
/// that it reads. `folder` is that of the weight files.
/// Errors, one line that names the layer: other weights, weights that cannot be read.
llvm::Error checkWeights(mlir::ModuleOp module, const Profile &profile, llvm::StringRef folder);

/// The same for profiles of a model that is compressed by now, `original`, and of the compressed
/// form, `current`. A bank with the note is compared with the former. One without may have been
/// compressed before it was read: it is the latter that has to be of its weights.
llvm::Error checkWeights(mlir::ModuleOp module, const Profile &original, const Profile &current,
                         llvm::StringRef folder);

/// A profile without its reservoirs, for a pass over `module`, checked. Of layers that have lost
/// experts since it was taken (kOrigin) it says what was measured of those that are left.
llvm::Expected<Profile> readProfileOf(mlir::ModuleOp module, llvm::StringRef path,
                                      llvm::StringRef folder);

/// The latter for one layer of a profile, reservoir included.
void selectKept(const moe::RoutedLayer &layer, Profile &profile);

/// Notes that the weights of a bank are about to change.
void noteChange(moe::BankOp bank);

} // namespace moec
