// The proof that a sum found by the analysis is an MoE layer.
#pragma once

#include "BankBuilder.h"
#include "RegionBody.h"
#include "llvm/ADT/SetVector.h"

namespace moec::raise {

struct Layer {
  const Routing *routing = nullptr;
  Ffn ffn; // of a region only its scale and weights
  std::optional<RegionBody> region; // experts that are no #moe.ffn
  mlir::FlatSymbolRefAttr bank;     // of a region, once it is built
  mlir::RankedTensorType each;      // [N, ...] of a region's results
  BankShape shape;
  mlir::Value x;      // tokens, [.., H]
  // Factors, [.., K] or [.., 1] each; K is the number of experts of dense weights.
  llvm::SmallVector<mlir::Value, 2> weights;
  std::string activation; // of the weights: Sigmoid, Softmax or none
  bool identities = false; // ids from the bank's experts on give their tokens
  // The same of what multiplies the tokens in front of the experts.
  llvm::SmallVector<mlir::Value, 2> inputs;
  std::string inputActivation;
  // Weights count where these are not 0, or with `positive` above 0; [.., K] or
  // [.., 1] each.
  llvm::SmallVector<mlir::Value, 1> masks;
  bool positive = false;
  mlir::Value base;   // added to the sum, or null
  mlir::Value result; // what the layer replaces
  // Axis of the features (experts, slots) where it is not the last; of the tensors above.
  llvm::DenseMap<mlir::Value, int64_t> inner;
  llvm::DenseSet<mlir::Value> single; // weights and masks without such an axis
  llvm::StringRef pattern; // how it was written, see Pattern.h
  llvm::SmallVector<Expr *, 4> stops; // what the layer reads
};

struct Refusal {
  mlir::Operation *at = nullptr;
  std::string reason;
  llvm::StringRef kind = "not-raised"; // a literal, see remarkRefused
};

// Either the layer, or which obligation failed at which operation.
std::optional<Layer> prove(Analysis &analysis, BankBuilder &banks,
                           Expr *candidate, Refusal &refusal);

// The operations between the layer's result and its inputs, and a user outside
// of them and of `others` of what they compute (null: none).
llvm::SetVector<mlir::Operation *> insideOf(Analysis &analysis,
                                            const Layer &layer);
mlir::Operation *outsideUser(Analysis &analysis, const Layer &layer,
                             const llvm::SetVector<mlir::Operation *> &inside,
                             const llvm::DenseSet<mlir::Operation *> &others);

} // namespace moec::raise
