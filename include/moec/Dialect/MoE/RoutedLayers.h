// The routed layers of a module, as passes, profiles and reports name them.
#pragma once
#include "moec/Dialect/MoE/MoE.h"
#include "llvm/ADT/SmallVector.h"
#include <string>

namespace moec::moe {

/// One moe.experts op with a router: ids and weights, or dense weights over its experts. Layers
/// without routing (shared experts) are none.
struct RoutedLayer {
  std::string name; ///< of its bank; "bank#2", "bank#3" for further layers of one bank, in order
  ExpertsOp experts;
  BankOp bank;
  /// moe.route or moe.select behind the ids and views of them; null when the ids come from elsewhere
  /// or the weights are dense.
  mlir::Operation *router = nullptr;

  /// Without a router: the one behind ids some of which are emptied (-1), such as those of columns
  /// that are no expert; or null.
  mlir::Operation *widerRouter() const;
  mlir::Value logits() const; ///< [T, E] that the router reads first; null without a router
  int64_t k() const;          ///< slots of a token
  /// Whether every token takes all experts: dense weights, or a select of all.
  bool isDense() const;
  /// Experts that the layer cannot do without: as many as each token takes; of a dense layer one, of
  /// one whose tokens take as many as they need (top-p, threshold) the fewest that they take.
  /// Columns of a wider router that are no expert count as experts that stay.
  int64_t fewestExperts() const;
};

/// Whether an op only changes the form of expert ids: casts, shapes.
bool isViewOfIds(mlir::Operation *op);

/// In program order, of all functions. A bank that is missing is left out (the verifier says so).
llvm::SmallVector<RoutedLayer> collectRoutedLayers(mlir::ModuleOp module);

} // namespace moec::moe
