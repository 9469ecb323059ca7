#include "LeastSquares.h"

#include "DenseKernels.h"
#include "llvm/Support/Parallel.h"
#include <algorithm>
#include <cmath>

using namespace moec::compress;

namespace {

// Rows that two blocks share, as places in each.
struct Shared {
  std::vector<int32_t> a, b;
};

} // namespace

static Shared sharedRows(const FeatureBlock &a, const FeatureBlock &b, int64_t fitted) {
  Shared out;
  for (size_t i = 0, j = 0; i < a.rows.size() && j < b.rows.size();) {
    if (a.rows[i] >= fitted)
      break;
    if (a.rows[i] == b.rows[j]) {
      out.a.push_back(static_cast<int32_t>(i));
      out.b.push_back(static_cast<int32_t>(j));
    }
    bool next = a.rows[i] <= b.rows[j];
    j += b.rows[j] <= a.rows[i];
    i += next;
  }
  return out;
}

static Rows picked(const Rows &from, const int32_t *index, int64_t count) {
  Rows out(count, from.cols());
  for (int64_t i = 0; i < count; ++i)
    out.row(i) = from.row(index[i]);
  return out;
}

// Products of so many rows are summed up in f32 before they go into the f64 sum.
static constexpr int64_t kChunk = 256;

// to += a^T b over pairs of rows; `to` is column-major.
static void addProduct(const Rows &a, const std::vector<int32_t> &ofA, const Rows &b,
                       const std::vector<int32_t> &ofB, double *to, int64_t ldt) {
  const DenseKernels &kernels = denseKernels();
  int64_t n = static_cast<int64_t>(ofA.size());
  for (int64_t first = 0; first < n; first += kChunk) {
    int64_t count = std::min(kChunk, n - first);
    Rows left = picked(a, ofA.data() + first, count), right = picked(b, ofB.data() + first, count);
    kernels.addProduct(left.data(), left.cols(), right.data(), right.cols(), count, left.cols(),
                       right.cols(), to, ldt);
  }
}

static void addTarget(const FeatureBlock &block, const Rows &target, int64_t fitted, double *to,
                      int64_t ldt) {
  std::vector<int32_t> places, rows;
  for (size_t i = 0; i < block.rows.size() && block.rows[i] < fitted; ++i) {
    places.push_back(static_cast<int32_t>(i));
    rows.push_back(block.rows[i]);
  }
  addProduct(block.features, places, target, rows, to, ldt);
}

RidgeSystem::RidgeSystem(llvm::ArrayRef<FeatureBlock> blocks, const Rows &target, int64_t fitted) {
  std::vector<int64_t> start;
  std::vector<std::pair<size_t, size_t>> pairs; // the second one behind the last: the target
  int64_t unknowns = 0;
  for (size_t a = 0; a < blocks.size(); ++a) {
    start.push_back(unknowns);
    unknowns += blocks[a].features.cols();
    for (size_t b = 0; b <= a; ++b)
      pairs.push_back({a, b});
    pairs.push_back({a, blocks.size()});
  }
  gram = Eigen::MatrixXd::Zero(unknowns, unknowns);
  right = Eigen::MatrixXd::Zero(unknowns, target.cols());
  llvm::parallelFor(0, pairs.size(), [&](size_t i) {
    auto [a, b] = pairs[i];
    if (b == blocks.size())
      return addTarget(blocks[a], target, fitted, right.data() + start[a], unknowns);
    Shared shared = sharedRows(blocks[a], blocks[b], fitted);
    addProduct(blocks[a].features, shared.a, blocks[b].features, shared.b,
               gram.data() + start[b] * unknowns + start[a], unknowns);
  });
  diagonal = gram.diagonal();
  for (int64_t j = 0; j < unknowns; ++j)
    for (int64_t i = j + 1; i < unknowns; ++i)
      gram(j, i) = gram(i, j);
}

Eigen::MatrixXd RidgeSystem::solve(double ridge, const Eigen::MatrixXd &pull) {
  int64_t n = unknowns();
  if (factored)
    for (int64_t j = 0; j < n; ++j)
      for (int64_t i = j + 1; i < n; ++i)
        gram(i, j) = gram(j, i);
  factored = true;
  double mean = n > 0 ? diagonal.mean() : 0, shift = ridge * mean;
  // Nothing was seen of any feature: there is nothing to learn either.
  if (mean == 0)
    return Eigen::MatrixXd::Zero(n, right.cols());
  gram.diagonal() = (diagonal.array() + shift).matrix();
  if (!std::isfinite(mean) || !factorInPlace(denseKernels(), gram.data(), n, n))
    return {};
  Eigen::MatrixXd w = right;
  if (pull.size() > 0)
    w += shift * pull;
  solveInPlace(denseKernels(), gram.data(), n, n, w.data(), w.cols(), n);
  return w;
}

void moec::compress::subtractPrediction(llvm::ArrayRef<FeatureBlock> blocks,
                                        const Eigen::MatrixXd &w, Rows &target,
                                        int64_t from) {
  int64_t at = 0;
  for (const FeatureBlock &block : blocks) {
    int64_t m = block.features.cols();
    Rows part = w.middleRows(at, m).transpose().cast<float>();
    at += m;
    int64_t n = static_cast<int64_t>(block.rows.size());
    int64_t first = std::lower_bound(block.rows.begin(), block.rows.end(), from) -
                    block.rows.begin();
    for (; first < n; first += kChunk) {
      int64_t count = std::min(kChunk, n - first);
      Rows predicted(count, part.rows());
      denseKernels().multiply(block.features.row(first).data(), m, part.data(), m, count, m,
                              part.rows(), predicted.data(), part.rows());
      for (int64_t i = 0; i < count; ++i)
        target.row(block.rows[static_cast<size_t>(first + i)] - from) -= predicted.row(i);
    }
  }
}

double moec::compress::squares(const Rows &rows, int64_t first, int64_t last) {
  double sum = 0;
  for (int64_t t = first; t < last; ++t)
    sum += rows.row(t).cast<double>().squaredNorm();
  return sum;
}
