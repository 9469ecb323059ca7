// The rewrites that every compression of a routed layer reduces to: fewer experts, experts that
// share a slab, experts that are something simpler. Only IR and weight steps change, no bytes are
// read; so Export writes the smaller model and Link packs it.
#pragma once
#include "moec/Dialect/MoE/RoutedLayers.h"
#include "llvm/ADT/ArrayRef.h"

namespace moec {

/// The ids that a bank's experts had in the model that was profiled, a discardable attribute
/// (array<i64: ids>). Without it they are those that they have.
inline constexpr llvm::StringLiteral kOrigin = "moe.origin";

/// Drops the experts of `layer` that are not in `keep` (rising ids). The router no longer scores
/// them, so that a softmax over the experts is one over the kept ones: columns of its linear maps,
/// biases and tables are gathered, and of scores of unknown origin the columns of the result. With
/// `mask`, where groups of experts would become unequal, and behind a router with columns that are
/// no expert, logical ids stay instead: the others' logits get -infinity and only their slabs go.
/// Who else reads the ids gets the old numbers.
///
/// `layer` stays valid, with the new ops; other RoutedLayers of the module do too, but for the bank
/// of layers that shared one: each gets a bank of its own, under its layer's name. Old operations
/// and weights stay until cleanUp().
/// Errors are diagnosed at the layer and nothing is changed: fewer experts than slots, ids out of
/// range, ids that come from outside of a router or go to two layers (unsupported).
llvm::LogicalResult keepExperts(moe::RoutedLayer &layer, llvm::ArrayRef<int64_t> keep,
                                bool mask = false);

/// Gives expert e the slab `slabs[e]` of new parameters; the router stays. `parameters` has a value
/// of moe.weights for each parameter of the bank, in the order of bankParameters, with the new slabs
/// as axis 0. An entry of -1 keeps the expert's storage (zero, identity, constant). Errors: several
/// regions (unsupported), shapes or slabs that do not fit.
llvm::LogicalResult aliasExperts(moe::RoutedLayer &layer, llvm::ArrayRef<int64_t> slabs,
                                 llvm::ArrayRef<mlir::Value> parameters);

/// Makes each of `experts` (rising ids) something without a slab: "zero", "identity" or "constant",
/// then `constants` is a value of moe.weights, [experts, hidden], in their order (as a region's
/// results where the bank has regions). The router stays.
llvm::LogicalResult replaceExperts(moe::RoutedLayer &layer, llvm::ArrayRef<int64_t> experts,
                                   llvm::StringRef storage, mlir::Value constants = nullptr);

/// The binds of a bank with an expert axis, in one order: gate, up, down, gate_bias, up_bias,
/// down_bias of a #moe.ffn (those that it has), or `parameters` of the only region.
llvm::SmallVector<moe::WeightBindOp> bankParameters(moe::BankOp bank);

/// Replaces the value of a parameter for this bank: binds it under a new name when others use it.
void setParameter(moe::BankOp bank, unsigned parameter, mlir::Value value);

/// A builder at the end of the module's moe.weights.
mlir::OpBuilder weightBuilder(mlir::ModuleOp module);

/// Erases operations and weights that nothing uses, once all layers are rewritten. Values of
/// moe.weights that are not bound yet go too.
void cleanUp(mlir::ModuleOp module);

/// Slab `slab` of a parameter's value, [1, ...].
mlir::Value slabOf(mlir::OpBuilder &builder, mlir::Value parameter, int64_t slab);

} // namespace moec
