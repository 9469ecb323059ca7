// How near a smaller model stays to its original, told beside the measure that is minimised: numbers
// that need no labels. Internal to Driver.
#pragma once

#include "Evaluation.h"

#include <cmath>

namespace moec {

/// One of them: its key in JSON, what people call it, its value, and the original's own where that
/// does not go without saying; NaN: not known.
struct Agreement {
  llvm::StringLiteral key, title;
  double value;
  double original = NAN;
  /// A value of it, of the digits that make sense.
  static std::string text(double value);
  std::string text() const { return text(value); }
};

/// Adds what the softmax of `row` and the original's, given as logarithms of probabilities, have in
/// common. Where the row's numbers are not finite, KL becomes infinite and the others get nothing.
void addPredictions(Loss &sums, llvm::ArrayRef<float> row, llvm::ArrayRef<float> original);

/// `kl`, when it is wanted; `overlap`: mean over the rows of sum_v min(p, q), which is 1 minus the
/// total variation (ESAP, the fitness of EvoESAP, arXiv:2603.06003); `top1`: part of the rows whose
/// likeliest entry is a likeliest one of the original's. 0, 1 and 1 of the original itself.
std::vector<Agreement> predictionAgreements(const Loss &sums, bool kl);

/// `cosine` of all outputs together.
std::vector<Agreement> outputAgreements(const Loss &sums);

/// `layer_cosine`: the mean of what is known of the layers' (LayerCosine.h).
Agreement layerAgreement(llvm::ArrayRef<double> cosines);

/// `pre_logit_rank`: the effective rank (EffectiveRank.h) of what the logits are made of, which
/// the authors of REAM (Samsung, 2026) found to go with how well a compressed model does.
Agreement rankAgreement(double rank, double original);

/// Means of the values that are known, of equally many agreements in one order each.
std::vector<Agreement> meanAgreements(llvm::ArrayRef<std::vector<Agreement>> runs);

} // namespace moec
