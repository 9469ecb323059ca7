#include "NeuronScores.h"

#include <Eigen/Cholesky>
#include <numeric>

using namespace moec;
using namespace moec::compress;

llvm::Expected<NeuronStatistics> compress::neuronStatistics(FfnBank &bank, int64_t slab,
                                                            const Rows &x, const Picks &picks,
                                                            const Eigen::VectorXf &scale,
                                                            bool gram) {
  constexpr size_t kChunk = 2048;
  moe::BankOp op = bank.op();
  int64_t inter = bank.inter();
  NeuronStatistics out;
  out.energy = Eigen::VectorXd::Zero(inter);
  if (gram)
    out.gram = Eigen::MatrixXd::Zero(inter, inter);
  auto weights = bank.slab(slab);
  if (!weights)
    return weights.takeError();
  std::vector<std::vector<size_t>> slots(static_cast<size_t>(bank.experts()));
  for (size_t i = 0; i < picks.ids.size(); ++i) {
    int32_t e = picks.ids[i];
    if (e >= 0 && picks.weights[i] != 0 && op.getExpertStorage(e) == "dense" &&
        static_cast<int64_t>(op.getSlab(e)) == slab)
      slots[static_cast<size_t>(e)].push_back(i);
  }
  for (auto [e, mine] : llvm::enumerate(slots))
    for (size_t from = 0; from < mine.size(); from += kChunk) {
      llvm::ArrayRef<size_t> part =
          llvm::ArrayRef(mine).slice(from, std::min(kChunk, mine.size() - from));
      std::vector<int32_t> tokens;
      for (size_t slot : part)
        tokens.push_back(static_cast<int32_t>(slot / static_cast<size_t>(picks.k)));
      Rows phi = bank.intermediate(*weights, takeRows(x, tokens),
                                   op.getWidth(static_cast<int64_t>(e)));
      for (auto [i, slot] : llvm::enumerate(part))
        phi.row(static_cast<int64_t>(i)) *= picks.weights[slot] * scale(tokens[i]);
      out.tokens += phi.rows();
      Eigen::MatrixXd wide = phi.cast<double>();
      out.energy += wide.colwise().squaredNorm().transpose();
      if (gram)
        out.gram.selfadjointView<Eigen::Lower>().rankUpdate(wide.transpose());
    }
  if (gram)
    out.gram.triangularView<Eigen::StrictlyUpper>() = out.gram.transpose();
  return out;
}

NeuronRanking compress::leastNeurons(const Eigen::VectorXd &scores, int64_t count) {
  std::vector<int64_t> order(static_cast<size_t>(scores.size()));
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order, [&](int64_t a, int64_t b) {
    return scores(a) != scores(b) ? scores(a) < scores(b) : a < b;
  });
  order.resize(static_cast<size_t>(count));
  NeuronRanking out;
  double all = scores.sum(), lost = 0;
  for (int64_t i : order)
    lost += scores(i);
  out.gone = std::move(order);
  out.retained = all > 0 ? 1 - lost / all : 1;
  return out;
}

NeuronRanking compress::surgeonNeurons(const Eigen::MatrixXd &gram, const Rows &down, int64_t count,
                                       double ridge) {
  int64_t m = gram.rows();
  Eigen::MatrixXd c = gram;
  double mean = gram.trace() / static_cast<double>(m);
  c.diagonal().array() += ridge * (mean > 0 ? mean : 1);
  // Scores need only the columns' inner products, so these are carried in the place of W.
  Eigen::MatrixXd wide = down.cast<double>(), inner = wide.transpose() * wide;
  double all = inner.cwiseProduct(c).sum(), lost = 0;
  Eigen::MatrixXd inverse = c.llt().solve(Eigen::MatrixXd::Identity(m, m));
  c.resize(0, 0);
  std::vector<int64_t> names(static_cast<size_t>(m)); // of the rows that are left
  std::iota(names.begin(), names.end(), 0);
  NeuronRanking out;
  for (int64_t n = m; static_cast<int64_t>(out.gone.size()) < count; --n) {
    int64_t best = 0;
    double least = 0;
    for (int64_t i = 0; i < n; ++i) {
      double score = std::max(0.0, inner(i, i)) / inverse(i, i);
      bool tie = score == least && names[static_cast<size_t>(i)] < names[static_cast<size_t>(best)];
      if (i == 0 || score < least || tie) {
        best = i;
        least = score;
      }
    }
    out.gone.push_back(names[static_cast<size_t>(best)]);
    lost += least;
    int64_t last = n - 1; // the one that goes becomes the last row, which is not looked at again
    std::swap(names[static_cast<size_t>(best)], names[static_cast<size_t>(last)]);
    for (Eigen::MatrixXd *matrix : {&inverse, &inner}) {
      matrix->row(best).head(n).swap(matrix->row(last).head(n));
      matrix->col(best).head(n).swap(matrix->col(last).head(n));
    }
    Eigen::VectorXd u = inverse.col(last).head(last) / inverse(last, last);
    Eigen::VectorXd v = inner.col(last).head(last) - 0.5 * inner(last, last) * u;
    auto left = inverse.topLeftCorner(last, last), product = inner.topLeftCorner(last, last);
    left.noalias() -= (u * inverse(last, last)) * u.transpose();
    product.noalias() -= u * v.transpose();
    product.noalias() -= v * u.transpose();
  }
  out.retained = all > 0 ? std::max(0.0, 1 - lost / all) : 1;
  return out;
}

Eigen::VectorXd compress::weightScores(const FfnSlab &slab, const Rows &down) {
  Eigen::VectorXd scores = slab.up.cast<double>().rowwise().norm();
  if (slab.gate.size() > 0)
    scores.array() *= slab.gate.cast<double>().rowwise().norm().array();
  scores.array() *= down.cast<double>().colwise().norm().transpose().array();
  return scores;
}
