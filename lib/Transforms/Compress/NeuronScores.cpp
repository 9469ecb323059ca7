#include "NeuronScores.h"

#include <Eigen/Cholesky>
#include <numeric>

using namespace moec;
using namespace moec::compress;

llvm::Expected<NeuronStatistics> compress::neuronStatistics(FfnBank &bank, int64_t slab,
                                                            const Rows &x, const Picks &picks,
                                                            const Eigen::VectorXf &scale,
                                                            bool gram) {
  moe::BankOp op = bank.op();
  int64_t inter = bank.inter();
  size_t chunk = static_cast<size_t>(std::clamp<int64_t>((1 << 22) / inter, 64, 4096)); // tokens
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
    for (size_t from = 0; from < mine.size(); from += chunk) {
      llvm::ArrayRef<size_t> part =
          llvm::ArrayRef(mine).slice(from, std::min(chunk, mine.size() - from));
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
  Eigen::MatrixXd inner = Eigen::MatrixXd::Zero(m, m);
  inner.selfadjointView<Eigen::Lower>().rankUpdate(down.cast<double>().transpose());
  inner.triangularView<Eigen::StrictlyUpper>() = inner.transpose();
  double all = inner.cwiseProduct(c).sum(), lost = 0;
  Eigen::MatrixXd inverse = c.llt().solve(Eigen::MatrixXd::Identity(m, m));
  // As neurons go, C^-1 becomes inverse - U diag(pivots) U^T and W^T W inner - U V^T - V U^T. Only
  // the diagonals and the column that is looked at are computed.
  Eigen::MatrixXd u(m, count), v(m, count);
  Eigen::VectorXd pivots(count), variance = inverse.diagonal(), weight = inner.diagonal();
  std::vector<bool> is(static_cast<size_t>(m), true); // not gone yet
  NeuronRanking out;
  for (int64_t n = 0; n < count; ++n) {
    int64_t best = -1;
    double least = 0;
    for (int64_t i = 0; i < m; ++i) {
      double score = std::max(0.0, weight(i)) / std::max(variance(i), 1e-300);
      if (is[static_cast<size_t>(i)] && (best < 0 || score < least)) {
        best = i;
        least = score;
      }
    }
    out.gone.push_back(best);
    is[static_cast<size_t>(best)] = false;
    lost += least;
    auto before = u.leftCols(n), with = v.leftCols(n);
    Eigen::VectorXd row = before.row(best).transpose(), other = with.row(best).transpose();
    pivots(n) = std::max(variance(best), 1e-300);
    Eigen::VectorXd scaled = pivots.head(n).cwiseProduct(row);
    u.col(n) = (inverse.col(best) - before * scaled) / pivots(n);
    v.col(n) = inner.col(best) - before * other - with * row - 0.5 * weight(best) * u.col(n);
    variance -= pivots(n) * u.col(n).cwiseAbs2();
    weight -= 2 * u.col(n).cwiseProduct(v.col(n));
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
