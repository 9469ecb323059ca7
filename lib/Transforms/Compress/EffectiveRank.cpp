#include "moec/Transforms/Compress/EffectiveRank.h"

#include "DenseKernels.h"
#include "llvm/Support/Parallel.h"

#include <Eigen/Eigenvalues>

#include <algorithm>
#include <cmath>

using namespace moec;

EffectiveRank::EffectiveRank(int64_t length)
    : width(length), negative(static_cast<size_t>(length * length)) {}

// In f64: squares of singular values far below the largest would drown in f32.
void EffectiveRank::add(llvm::ArrayRef<float> rows) {
  constexpr int64_t chunk = 256, block = 256; // rows, columns
  const compress::DenseKernels &kernels = compress::denseKernels();
  const int64_t n = width > 0 ? static_cast<int64_t>(rows.size()) / width : 0;
  std::vector<double> finite;
  for (int64_t first = 0; first < n; first += chunk) {
    finite.clear();
    for (int64_t i = first; i < std::min(n, first + chunk); ++i) {
      auto row = rows.slice(static_cast<size_t>(i * width), static_cast<size_t>(width));
      if (llvm::all_of(row, [](float v) { return std::isfinite(v); }))
        finite.insert(finite.end(), row.begin(), row.end());
    }
    const int64_t here = static_cast<int64_t>(finite.size()) / width;
    count += here;
    llvm::parallelFor(0, static_cast<size_t>((width + block - 1) / block), [&](size_t i) {
      int64_t from = static_cast<int64_t>(i) * block;
      kernels.subtractProduct(finite.data() + from, width, finite.data() + from, width, width - from,
                              std::min(block, width - from), here,
                              negative.data() + from * width + from, width);
    });
  }
}

std::vector<double> EffectiveRank::singularValues() const {
  using Map = Eigen::Map<const Eigen::MatrixXd>;
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(-Map(negative.data(), width, width),
                                                        Eigen::EigenvaluesOnly); // lower triangle
  std::vector<double> values;
  for (double square : solver.eigenvalues())
    values.push_back(std::sqrt(std::max(square, 0.0)));
  std::reverse(values.begin(), values.end());
  return values;
}

double EffectiveRank::value() const {
  if (count == 0)
    return std::nan("");
  std::vector<double> values = singularValues();
  double all = 0, entropy = 0;
  for (double value : values)
    all += value;
  for (double value : values)
    if (value > 0)
      entropy -= value / all * std::log(value / all);
  return all > 0 ? std::exp(entropy) : 0;
}
