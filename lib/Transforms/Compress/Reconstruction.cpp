#include "Reconstruction.h"

#include "Problem.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include <numeric>

using namespace moec;
using namespace moec::compress;
using llvm::ArrayRef;

namespace {

/// A layer whose experts go one by one.
class Eliminator {
public:
  llvm::Error prepare(moe::RoutedLayer &layer, const LayerSamples &samples,
                      WeightEvaluator &weights);
  llvm::Error drop(ArrayRef<int64_t> droppable, int64_t count, DropSequence &out);

private:
  llvm::Expected<Picks> route(const Rows &rows, int64_t without) const;
  double errorOf(int32_t token, const Picks &picks, int64_t row) const;
  llvm::Expected<double> riseWithout(int64_t expert) const;
  llvm::Error remove(int64_t expert);
  std::vector<int32_t> tokensWith(int64_t expert) const;

  moe::RouterAttr router;
  Rows logits; ///< [tokens, experts]; of experts that went -infinity
  std::vector<float> bias;
  std::vector<Rows> outputs; ///< of each expert, [tokens, hidden]
  Rows target;
  Eigen::VectorXf scale;
  Picks picks;
  std::vector<double> errors; ///< of each token
  double all = 0;
};

} // namespace

llvm::Error Eliminator::prepare(moe::RoutedLayer &layer, const LayerSamples &samples,
                                WeightEvaluator &weights) {
  auto op = llvm::dyn_cast_or_null<moe::RouteOp>(layer.router);
  if (!op)
    return problem("unsupported: its router is no moe.route, so that what it would choose among "
                   "fewer experts is not known; take another criterion");
  router = op.getRouter();
  if (op.getBias()) {
    bias = knownFloats(op.getBias(), weights);
    if (bias.empty())
      return problem("unsupported: its router's bias is not known before the model runs; take "
                     "another criterion");
  }
  auto bank = FfnBank::create(layer.bank, weights);
  if (!bank)
    return bank.takeError();
  logits = samples.logits;
  target = samples.target;
  scale = samples.scale;
  for (int64_t e = 0; e < bank->experts(); ++e) {
    auto rows = bank->apply(e, samples.x);
    if (!rows)
      return rows.takeError();
    outputs.push_back(std::move(*rows));
  }
  auto chosen = route(logits, -1);
  if (!chosen)
    return chosen.takeError();
  picks = std::move(*chosen);
  for (int64_t t = 0; t < logits.rows(); ++t)
    errors.push_back(errorOf(static_cast<int32_t>(t), picks, t));
  all = squares(target, 0, target.rows());
  return llvm::Error::success();
}

// Among the experts that are left but for one; its bias must not bring it back.
llvm::Expected<Picks> Eliminator::route(const Rows &rows, int64_t without) const {
  std::vector<float> masked = bias;
  for (size_t e = 0; e < masked.size(); ++e)
    if (static_cast<int64_t>(e) == without ||
        logits(0, static_cast<int64_t>(e)) == -std::numeric_limits<float>::infinity())
      masked[e] = -std::numeric_limits<float>::infinity();
  if (without < 0)
    return routeTokens(router, rows, masked);
  Rows fewer = rows;
  fewer.col(without).setConstant(-std::numeric_limits<float>::infinity());
  return routeTokens(router, fewer, masked);
}

// Of a token that is routed as row `row` of `picks` says.
double Eliminator::errorOf(int32_t token, const Picks &picks, int64_t row) const {
  Eigen::RowVectorXf y = Eigen::RowVectorXf::Zero(target.cols());
  for (int64_t slot = row * picks.k; slot < (row + 1) * picks.k; ++slot) {
    int32_t e = picks.ids[static_cast<size_t>(slot)];
    if (e >= 0)
      y += picks.weights[static_cast<size_t>(slot)] * outputs[static_cast<size_t>(e)].row(token);
  }
  return static_cast<double>((scale(token) * y - target.row(token)).squaredNorm());
}

// Those whose weights or choice depend on the expert.
std::vector<int32_t> Eliminator::tokensWith(int64_t expert) const {
  std::vector<int32_t> tokens;
  bool normalised = router.getScore() == moe::RouterScore::Softmax &&
                    router.getRenorm() != moe::RouterRenorm::Sum;
  if (normalised || router.getGroups() > 1) { // by its score alone
    tokens.resize(errors.size());
    std::iota(tokens.begin(), tokens.end(), 0);
    return tokens;
  }
  for (size_t i = 0; i < picks.ids.size(); ++i) {
    auto token = static_cast<int32_t>(i / static_cast<size_t>(picks.k));
    if (picks.ids[i] == expert && (tokens.empty() || tokens.back() != token))
      tokens.push_back(token);
  }
  return tokens;
}

llvm::Expected<double> Eliminator::riseWithout(int64_t expert) const {
  std::vector<int32_t> tokens = tokensWith(expert);
  auto again = route(takeRows(logits, tokens), expert);
  if (!again)
    return again.takeError();
  double rise = 0;
  for (auto [row, token] : llvm::enumerate(tokens))
    rise += errorOf(token, *again, static_cast<int64_t>(row)) - errors[static_cast<size_t>(token)];
  return rise;
}

llvm::Error Eliminator::remove(int64_t expert) {
  std::vector<int32_t> tokens = tokensWith(expert);
  auto again = route(takeRows(logits, tokens), expert);
  if (!again)
    return again.takeError();
  logits.col(expert).setConstant(-std::numeric_limits<float>::infinity());
  for (auto [row, token] : llvm::enumerate(tokens)) {
    errors[static_cast<size_t>(token)] = errorOf(token, *again, static_cast<int64_t>(row));
    auto from = static_cast<int64_t>(row) * picks.k, to = static_cast<int64_t>(token) * picks.k;
    std::copy_n(again->ids.begin() + from, picks.k, picks.ids.begin() + to);
    std::copy_n(again->weights.begin() + from, picks.k, picks.weights.begin() + to);
  }
  return llvm::Error::success();
}

llvm::Error Eliminator::drop(ArrayRef<int64_t> droppable, int64_t count, DropSequence &out) {
  std::vector<int64_t> left(droppable.begin(), droppable.end());
  llvm::sort(left, std::greater<>());
  while (static_cast<int64_t>(out.order.size()) < count) {
    size_t best = 0;
    double least = 0;
    for (size_t i = 0; i < left.size(); ++i) {
      auto rise = riseWithout(left[i]);
      if (!rise)
        return rise.takeError();
      if (i == 0 || *rise < least) {
        best = i;
        least = *rise;
      }
    }
    if (llvm::Error error = remove(left[best]))
      return error;
    out.order.push_back(left[best]);
    out.rise.push_back(all > 0 ? least / all : 0);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(best));
  }
  return llvm::Error::success();
}

llvm::Expected<DropSequence> compress::dropByReconstruction(moe::RoutedLayer &layer,
                                                            const Profile &profile,
                                                            RepairSource source,
                                                            ArrayRef<int64_t> droppable,
                                                            int64_t count, int64_t memory) {
  WeightEvaluator weights(layer.experts->getParentOfType<mlir::ModuleOp>(), source.folder);
  moe::BankOp bank = layer.bank;
  int64_t fits = std::max<int64_t>(1, memory / 4 / static_cast<int64_t>(bank.getHidden()) /
                                          static_cast<int64_t>(bank.getExperts()));
  source.tokens = source.tokens > 0 ? std::min(source.tokens, fits) : fits;
  source.holdOut = 0;
  auto samples = collectSamples(layer, profile, nullptr, source);
  if (!samples)
    return samples.takeError();
  DropSequence out;
  Eliminator eliminator;
  if (llvm::Error error = eliminator.prepare(layer, *samples, weights))
    return std::move(error);
  if (llvm::Error error = eliminator.drop(droppable, count, out))
    return std::move(error);
  return out;
}
