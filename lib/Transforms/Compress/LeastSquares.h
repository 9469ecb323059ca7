// Ridge regression by normal equations, over unknowns of which each row knows only a few.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include <Eigen/Core>
#include <cstdint>
#include <vector>

namespace moec::compress {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Unknowns that belong together: row rows[i] of the prediction gets features.row(i) * W, where W,
/// [features, outputs], is unknown.
struct FeatureBlock {
  std::vector<int32_t> rows; ///< rising
  Rows features;             ///< [rows.size(), m]
};

/// The least squares problem of several blocks together. Sums are in f64. Memory: 8 bytes times the
/// square of the number of unknowns, and 16 times unknowns * outputs.
class RidgeSystem {
public:
  /// Fits rows [0, fitted) of `target`, [rows, outputs].
  RidgeSystem(llvm::ArrayRef<FeatureBlock> blocks, const Rows &target, int64_t fitted);

  int64_t unknowns() const { return gram.rows(); }
  /// W of all blocks, one below the other, that minimises
  ///   |target - prediction|^2 + ridge * m * |W - pull|^2,
  /// m the mean of the squares' sums of the features (so that `ridge` has no unit). `pull` is
  /// [unknowns, outputs], or empty for zero. Empty when there is no solution (ridge = 0, NaN).
  Eigen::MatrixXd solve(double ridge, const Eigen::MatrixXd &pull = {});

private:
  Eigen::MatrixXd gram; // strict upper half: as summed up; lower half: factored in place
  Eigen::VectorXd diagonal;
  Eigen::MatrixXd right;
  bool factored = false;
};

/// target -= prediction of the blocks under W, which is [unknowns, outputs]. `target` holds the
/// rows from `from` on.
void subtractPrediction(llvm::ArrayRef<FeatureBlock> blocks, const Eigen::MatrixXd &w,
                        Rows &target, int64_t from = 0);

/// Sum of the squares of rows [first, last).
double squares(const Rows &rows, int64_t first, int64_t last);

} // namespace moec::compress
