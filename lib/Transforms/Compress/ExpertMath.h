// What a layer's experts and router compute, in f32 on rows of tokens, one expert at a time: what
// passes need that fit new weights to tokens kept in a profile. Only banks of a #moe.ffn.
#pragma once

#include "LeastSquares.h"
#include "moec/Analysis/Profile.h"
#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Weights/Weights.h"

namespace moec::compress {

/// The parameters of one slab. A bias that the bank has not is empty.
struct FfnSlab {
  Rows gate, up;  ///< [inter, hidden]; no gate: empty
  Eigen::RowVectorXf gateBias, upBias;
};

/// A bank of a #moe.ffn. Weights are read a slab at a time and not kept. The evaluator and the bank
/// must outlive it. Not thread safe.
class FfnBank {
public:
  /// Errors: the bank has regions, an unknown activation, weights that are no floats (unsupported).
  static llvm::Expected<FfnBank> create(moe::BankOp bank, WeightEvaluator &weights);

  int64_t experts() const { return op().getExperts(); }
  int64_t hidden() const { return op().getHidden(); }
  int64_t inter() const { return op().getInter(); }
  /// Rows of axis 0 of the parameters.
  int64_t slabs() const { return rows; }
  bool hasDownBias() const { return op().getDownBias().has_value(); }
  moe::BankOp op() const { return bank; }

  llvm::Expected<FfnSlab> slab(int64_t slab);
  llvm::Expected<Rows> down(int64_t slab);                   ///< [hidden, inter]
  llvm::Expected<Eigen::RowVectorXf> downBias(int64_t slab); ///< zeros without
  llvm::Expected<Eigen::RowVectorXf> constant(int64_t expert);

  /// act(gate x) * (up x + offset) for tokens [n, hidden]: [n, inter], zero from `width` on.
  Rows intermediate(const FfnSlab &slab, const Rows &x, int64_t width) const;
  /// The results of an expert, whatever its storage: [n, hidden].
  llvm::Expected<Rows> apply(int64_t expert, const Rows &x);

private:
  FfnBank(moe::BankOp bank, WeightEvaluator &weights) : bank(bank), weights(&weights) {}
  llvm::Expected<Rows> read(llvm::StringRef bind, int64_t row);
  moe::BankOp bank;
  WeightEvaluator *weights;
  int64_t rows = 0;
  float (*activation)(float x, float alpha) = nullptr;
};

/// The experts that tokens chose and their mixing weights, [tokens, k]; id -1: an empty slot.
struct Picks {
  int64_t k = 0;
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

/// Steps 1 to 5 of #moe.router for rows of logits, as the reference interpreter does them; `bias`
/// may be empty. A row with NaN chooses nothing. Errors: k, groups or the bias do not fit.
llvm::Expected<Picks> routeTokens(moe::RouterAttr router, const Rows &logits,
                                  llvm::ArrayRef<float> bias);

/// The original id, below `original`, of each expert of the bank: its note (kOrigin), which passes
/// that renumber experts write, or 0, 1, ... where their number is the same. Empty: not known.
llvm::SmallVector<int64_t> originOf(moe::BankOp bank, int64_t original);

/// How the layer, as it is now, routes tokens that are known by the logits that the original
/// model's router got ([tokens, original experts]). Errors: the router is no moe.route, its bias is
/// not known before the model runs, or the logits do not fit it (unsupported).
llvm::Expected<Picks> routeAgain(const moe::RoutedLayer &layer, const Rows &logits,
                                 WeightEvaluator &weights);

/// The numbers, row-major, of floats that are known before the model runs: a weight, a constant,
/// sums of such of one size. Empty: they are not known.
std::vector<float> knownFloats(mlir::Value value, WeightEvaluator &weights);

/// sum over slots of weight * expert(x), [tokens, hidden]; an expert at a time.
llvm::Expected<Rows> applyLayer(FfnBank &bank, const Rows &x, const Picks &picks);

/// Rows `index` of `from`.
Rows takeRows(const Rows &from, llvm::ArrayRef<int32_t> index);

} // namespace moec::compress
