// The rewrites that every compression of a routed layer reduces to: fewer experts, experts that
// share a slab, experts that are something simpler. Only IR and weight steps change, no bytes are
// read; so Export writes the smaller model and Link packs it.
#pragma once
#include "moec/Dialect/MoE/RoutedLayers.h"
#include "llvm/ADT/ArrayRef.h"

namespace moec {

/// Drops the experts of `layer` that are not in `keep` (rising ids). The router no longer scores
/// them: rows of its weights and biases are gathered, or, where a router cannot be narrowed (groups,
/// tables, scores of unknown origin), their logits are masked with -infinity and only their slabs
/// go. `layer` stays valid, with the new ops. A bank that other layers use too is copied first.
/// Errors are diagnosed at the layer: fewer experts than slots, ids out of range, ids that come from
/// outside the model (unsupported).
llvm::LogicalResult keepExperts(moe::RoutedLayer &layer, llvm::ArrayRef<int64_t> keep);

/// Gives expert e the slab `slabs[e]` of new parameters; the router stays. `parameters` has a value
/// of moe.weights for each parameter of the bank, in the order of bankParameters, with the new slabs
/// as axis 0. An entry of -1 keeps the expert's storage (zero, identity, constant).
llvm::LogicalResult aliasExperts(moe::RoutedLayer &layer, llvm::ArrayRef<int64_t> slabs,
                                 llvm::ArrayRef<mlir::Value> parameters);

/// Makes each of `experts` (rising ids) something without a slab: "zero", "identity", or "constant",
/// then `constants` is a value of moe.weights, [experts, hidden], in their order. The router stays.
llvm::LogicalResult replaceExperts(moe::RoutedLayer &layer, llvm::ArrayRef<int64_t> experts,
                                   llvm::StringRef storage, mlir::Value constants = nullptr);

/// The binds of a bank with an expert axis, in one order: gate, up, down, gate_bias, up_bias,
/// down_bias of a #moe.ffn (those that it has), or `parameters` of the only region.
llvm::SmallVector<moe::WeightBindOp> bankParameters(moe::BankOp bank);

/// Replaces the value of a parameter for this bank: binds it under a new name when others use it.
void setParameter(moe::BankOp bank, unsigned parameter, mlir::Value value);

/// A builder at the end of the module's moe.weights.
mlir::OpBuilder weightBuilder(mlir::ModuleOp module);

/// Slab `slab` of a parameter's value, [1, ...].
mlir::Value slabOf(mlir::OpBuilder &builder, mlir::Value parameter, int64_t slab);

} // namespace moec
