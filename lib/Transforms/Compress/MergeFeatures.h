// What makes experts of a layer alike.
#pragma once

#include "moec/Analysis/Profile.h"
#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Weights/Weights.h"
#include <Eigen/Core>

namespace moec::compress {

struct Features {
  Eigen::MatrixXd similarity; ///< [E, E], symmetric; larger: more alike
  Eigen::MatrixXd points;     ///< [E, n], for clustering by means
};

/// By one of the names of the pass merge-experts: router-logits, mean-output, output-cosine,
/// gated-output from a profile (with a weight for each label, or empty), weights from the bank's
/// gate and up weights, of which only some slabs are in memory at a time. Errors: a statistic that
/// the profile does not have, weights that cannot be read, a bank of regions (unsupported).
llvm::Expected<Features> expertFeatures(llvm::StringRef feature, moe::BankOp bank,
                                        const LayerProfile *profile,
                                        llvm::ArrayRef<double> labelWeights,
                                        WeightEvaluator &weights);

} // namespace moec::compress
