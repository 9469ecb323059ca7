#include "MergeFeatures.h"

#include "ExpertMath.h"
#include "MissingStatistic.h"
#include "Problem.h"
#include "moec/Analysis/Derived.h"

using namespace moec;
using namespace moec::compress;
using Matrix = Eigen::MatrixXd;

static llvm::Error missing(const LayerProfile &layer, llvm::StringRef what, int tier) {
  return problem(missingStatistic(layer, what, tier));
}

// Row-major [n, n] with a similarity of 0 for pairs about which nothing is known.
static Matrix square(llvm::ArrayRef<double> values, int64_t n) {
  Matrix m(n, n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double v = values[static_cast<size_t>(i * n + j)];
      m(i, j) = std::isfinite(v) ? v : 0;
    }
  return (m + m.transpose()) / 2;
}

static llvm::Expected<Features> bySimilarity(const LayerProfile &layer,
                                             llvm::ArrayRef<double> values, llvm::StringRef what,
                                             int tier) {
  int64_t n = layer.experts;
  if (static_cast<int64_t>(values.size()) != n * n)
    return missing(layer, what, tier);
  Features out;
  out.similarity = square(values, n);
  out.points = out.similarity;
  return out;
}

static llvm::Expected<Features> byMeanOutput(const LayerProfile &layer,
                                             llvm::ArrayRef<double> weights) {
  std::vector<double> sums = layer.total(stat::allOutputSum, weights);
  std::vector<double> sampled = layer.total(stat::sampled, weights);
  int64_t n = layer.experts, hidden = layer.hidden;
  if (sampled.empty() || static_cast<int64_t>(sums.size()) != n * hidden)
    return missing(layer, stat::allOutputSum, 2);
  Features out;
  out.points = Eigen::Map<Eigen::Matrix<double, -1, -1, Eigen::RowMajor>>(sums.data(), n, hidden) /
               std::max(1.0, sampled[0]);
  out.similarity.resize(n, n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      out.similarity(i, j) = -(out.points.row(i) - out.points.row(j)).norm();
  return out;
}

// REAM: half the outputs' cosine, half the nearness of the scores' columns, both in [0, 1].
static llvm::Expected<Features> byGatedOutput(const LayerProfile &layer,
                                              llvm::ArrayRef<double> weights) {
  int64_t n = layer.experts;
  auto outputs = bySimilarity(layer, gatedOutputCosine(layer, weights), stat::gatedOutputSum, 1);
  if (!outputs)
    return outputs.takeError();
  auto scores = bySimilarity(layer, scoreDistance(layer, weights), stat::scoreGram, 0);
  if (!scores)
    return scores.takeError();
  double most = scores->similarity.maxCoeff();
  Matrix near = Matrix::Ones(n, n);
  if (most > 0)
    near -= scores->similarity / most;
  Features out;
  out.similarity = ((outputs->similarity.array() + 1) / 2 + near.array()).matrix() / 2;
  out.points = out.similarity;
  return out;
}

// Bytes of the slabs that are compared with all others in one go.
static constexpr int64_t kBlockBytes = int64_t(256) << 20;

static llvm::Expected<Features> byWeights(moe::BankOp op, WeightEvaluator &weights) {
  auto bank = FfnBank::create(op, weights);
  if (!bank)
    return bank.takeError();
  bool gated = op.getGate().has_value();
  int64_t n = bank->experts(), part = bank->inter() * bank->hidden();
  auto numbers = [&](int64_t expert) -> llvm::Expected<Eigen::VectorXf> {
    Eigen::VectorXf all = Eigen::VectorXf::Zero(gated ? 2 * part : part);
    if (op.getExpertStorage(expert) != "dense")
      return all;
    auto slab = bank->slab(op.getSlab(expert));
    if (!slab)
      return slab.takeError();
    all.head(part) = Eigen::Map<Eigen::VectorXf>(slab->up.data(), part);
    if (gated)
      all.tail(part) = Eigen::Map<Eigen::VectorXf>(slab->gate.data(), part);
    double norm = all.cast<double>().norm();
    if (norm > 0 && std::isfinite(norm))
      all /= static_cast<float>(norm);
    else
      all.setZero();
    return all;
  };
  int64_t size = std::max<int64_t>(1, kBlockBytes / (4 * std::max<int64_t>(1, part * 2)));
  Features out;
  out.similarity = Matrix::Identity(n, n);
  for (int64_t first = 0; first < n; first += size) {
    int64_t count = std::min(size, n - first);
    std::vector<Eigen::VectorXf> block;
    for (int64_t e = first; e < n; ++e) {
      auto vector = numbers(e);
      if (!vector)
        return vector.takeError();
      for (size_t i = 0; i < block.size(); ++i) {
        double cosine = block[i].dot(*vector);
        out.similarity(first + static_cast<int64_t>(i), e) = cosine;
        out.similarity(e, first + static_cast<int64_t>(i)) = cosine;
      }
      if (e < first + count)
        block.push_back(std::move(*vector));
    }
  }
  out.points = out.similarity;
  return out;
}

llvm::Expected<Features> compress::expertFeatures(llvm::StringRef feature, moe::BankOp bank,
                                                  const LayerProfile *profile,
                                                  llvm::ArrayRef<double> labelWeights,
                                                  WeightEvaluator &weights) {
  if (feature == "weights")
    return byWeights(bank, weights);
  if (feature == "router-logits")
    return bySimilarity(*profile, logitCosine(*profile, labelWeights), stat::logitGram, 0);
  if (feature == "mean-output")
    return byMeanOutput(*profile, labelWeights);
  if (feature == "output-cosine")
    return bySimilarity(*profile, outputCosine(*profile, labelWeights), stat::outputCosine, 2);
  return byGatedOutput(*profile, labelWeights);
}
