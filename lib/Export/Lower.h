// moe ops -> onnx ops: what the parts of the lowering share.
#pragma once
#include "Build.h"
#include "Steps.h"
#include "moec/Export/Export.h"

#include "llvm/ADT/DenseMap.h"

namespace moec::onnx_export {

/// Chosen experts, as operators of ONNX hold them.
struct Routing {
  mlir::Value ids;     // [T, K] i64
  mlir::Value weights; // [T, K]
  bool empty = false;  // slots may be empty: id -1, weight 0
};

/// A router as a MoE or QMoE node is told of it.
struct NodeRouter {
  mlir::Value probs;   // [T, E], of which the k largest are chosen
  mlir::Value weights; // [T, E], null: the softmax of `probs`
  int64_t k = 0;
  bool normalise = false;
};

/// What the regions of a bank read besides tokens and parameters.
struct Contexts {
  llvm::SmallVector<mlir::Value> values;
  llvm::SmallVector<bool> ofRows; // whether it has a row for each token

  /// Those of rows replaced by what `f` makes of them.
  Contexts map(llvm::function_ref<mlir::Value(mlir::Value)> f) const;
};

class Lowering {
public:
  Lowering(mlir::ModuleOp module, const ExportOptions &options, ExportReport &report)
      : module(module), options(options), report(report), steps(module) {}

  /// All moe ops of the block and its regions; false after diagnostics.
  bool run(mlir::Region &region);

private:
  bool lower(mlir::Operation *op);

  // Routing.cpp
  void route(moe::RouteOp op);
  bool select(moe::SelectOp op);
  void choose(moe::ChooseOp op);
  /// The k best experts of each row of scores [T, E], in groups.
  std::pair<mlir::Value, mlir::Value> grouped(Build &b, mlir::Value scores, int64_t k,
                                              int64_t groups, int64_t groupK, bool top2);
  void finishRouting(Build &b, mlir::Operation *op, Routing routing);
  Routing routingOf(Build &b, mlir::Value ids, mlir::Value weights);
  bool isFull(mlir::Value ids, int depth) const;

  // Experts.cpp
  bool experts(moe::ExpertsOp op);
  mlir::Value sorted(Build &b, moe::BankOp bank, mlir::Value x, const Contexts &contexts,
                     const Routing &routing, bool sum);
  mlir::Value looped(Build &b, moe::BankOp bank, mlir::Value x, const Contexts &contexts,
                     const Routing &routing);
  mlir::Value dense(Build &b, moe::BankOp bank, mlir::Value x, const Contexts &contexts,
                    mlir::Value weights, bool sum);
  /// Expert `id` applied to rows [n, ...].
  mlir::Value expert(Build &b, moe::BankOp bank, int64_t id, mlir::Value rows,
                     const Contexts &contexts);
  mlir::Value constant(Build &b, moe::BankOp bank, int64_t id, mlir::Value rows);
  mlir::Value body(Build &b, moe::BankOp bank, int64_t id, mlir::Value rows);
  mlir::Value region(Build &b, moe::BankOp bank, int64_t id, mlir::Value rows,
                     const Contexts &contexts);
  mlir::Value linear(Build &b, moe::BankOp bank, int64_t id, mlir::Value rows, llvm::StringRef name,
                     int64_t width, bool narrowRows);

  // Soft.cpp
  void softDispatch(moe::SoftDispatchOp op);
  void softCombine(moe::SoftCombineOp op);
  bool mergeWeights(moe::MergeWeightsOp op);

  // FusedNode.cpp
  /// Writes the layer and its router as one node when that says the same.
  bool fuse(moe::ExpertsOp op);
  std::optional<NodeRouter> nodeRouter(Build &b, moe::ExpertsOp op, moe::BankOp bank, bool packed);
  /// Inputs from the first weights on of a MoE node, or nothing when they would be rounded.
  llvm::SmallVector<mlir::Value> floatInputs(Build &b, moe::BankOp bank, mlir::Type element);
  /// The same of a QMoE node, with its attributes; nothing when the weights were not packed so.
  llvm::SmallVector<mlir::Value> packedInputs(Build &b, moe::BankOp bank, mlir::Type element,
                                              llvm::SmallVectorImpl<mlir::NamedAttribute> &attributes);
  bool fitsTokens(moe::BankOp bank, llvm::ArrayRef<llvm::StringRef> parameters, mlir::Type element);
  mlir::Value named(Build &b, moe::BankOp bank, mlir::Value step, llvm::StringRef part);
  mlir::Value firstWeights(Build &b, moe::BankOp bank, mlir::Type element);
  mlir::Value firstBiases(Build &b, moe::BankOp bank, mlir::Type element);
  mlir::Value parameter(Build &b, moe::BankOp bank, llvm::StringRef name, mlir::Type element);

  bool anyTurned(moe::BankOp bank, llvm::StringRef weight);
  mlir::Value use(Build &b, mlir::Value step, llvm::StringRef hint);
  /// Weights that were cast from a narrower type are stored in that and cast in the graph.
  void narrowWeights(mlir::Region &region);
  /// Weights that are stored the other way round, too, are turned by an operator.
  void tiedWeights(mlir::Region &region);
  /// Weights that were dequantised are stored as they were, and dequantised in the graph.
  void quantisedWeights(mlir::Region &region);

  mlir::ModuleOp module;
  const ExportOptions &options;
  ExportReport &report;
  Steps steps;
  llvm::DenseMap<mlir::Value, Routing> routings; // by the i32 ids that stand for them
  llvm::StringMap<bool> turnedWeights;           // by name: what anyTurned() found
};

/// What the ops of a layer are named after.
std::string layerName(mlir::Operation *op);
/// The activation of a #moe.ffn over `x`.
mlir::Value activate(Build &b, moe::FfnAttr ffn, mlir::Value x);
/// y = act(gate) * up and all that belongs to it; `gate` is null without a gate.
mlir::Value hidden(Build &b, moe::FfnAttr ffn, mlir::Value gate, mlir::Value up);
/// The element type that products of the two are computed in.
mlir::Type wider(mlir::Type a, mlir::Type b);

} // namespace moec::onnx_export
