// How a layer routes tokens, by the formula of its router.
#include "ExpertMath.h"

#include "RewriteBank.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include <cmath>
#include <numeric>

using namespace moec;
using namespace moec::compress;
using llvm::ArrayRef;
using llvm::StringRef;

static llvm::Error fault(const llvm::Twine &text) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), text);
}

static void softmax(llvm::MutableArrayRef<double> row) {
  double best = *std::max_element(row.begin(), row.end()), sum = 0;
  for (double &v : row)
    sum += v = std::exp(v - best);
  for (double &v : row)
    v /= sum;
}

static double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }

// Indices in falling order of value, ties to the lower one.
static std::vector<int32_t> ranked(ArrayRef<float> row) {
  std::vector<int32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order, [&](int32_t a, int32_t b) {
    return row[a] != row[b] ? row[a] > row[b] : a < b;
  });
  return order;
}

// The experts that take part, best first.
static std::vector<int32_t> candidates(moe::RouterAttr router, ArrayRef<float> selection) {
  std::vector<int32_t> order = ranked(selection);
  int64_t groups = router.getGroups();
  if (groups <= 1)
    return order;
  size_t size = selection.size() / static_cast<size_t>(groups);
  std::vector<float> scores;
  for (int64_t g = 0; g < groups; ++g) {
    ArrayRef<float> group = selection.slice(static_cast<size_t>(g) * size, size);
    std::vector<int32_t> best = ranked(group);
    bool two = router.getGroupScore() == moe::GroupScore::Top2 && size > 1;
    scores.push_back(group[best[0]] + (two ? group[best[1]] : 0.0f));
  }
  std::vector<int32_t> kept = ranked(scores);
  kept.resize(static_cast<size_t>(router.getGroupK()));
  llvm::erase_if(order, [&](int32_t e) {
    return !llvm::is_contained(kept, e / static_cast<int32_t>(size));
  });
  return order;
}

static void renormalise(moe::RouterAttr router, llvm::MutableArrayRef<double> w) {
  switch (router.getRenorm()) {
  case moe::RouterRenorm::None:
    break;
  case moe::RouterRenorm::Sum: {
    double sum = std::accumulate(w.begin(), w.end(), 0.0) + router.getEpsilon();
    if (router.getMinimum() > 0)
      sum = std::max<double>(sum, router.getMinimum());
    for (double &v : w)
      v /= sum;
    break;
  }
  case moe::RouterRenorm::Softmax:
    softmax(w);
    break;
  case moe::RouterRenorm::Sigmoid:
    for (double &v : w)
      v = sigmoid(v);
    break;
  }
  for (double &v : w)
    v *= router.getScale();
}

static void routeRow(moe::RouterAttr router, ArrayRef<float> logits, ArrayRef<float> bias,
                     llvm::MutableArrayRef<int32_t> ids, llvm::MutableArrayRef<float> weights) {
  std::vector<double> row(logits.begin(), logits.end());
  if (llvm::any_of(row, [](double v) { return std::isnan(v); }))
    return;
  if (router.getScore() == moe::RouterScore::Softmax)
    softmax(row);
  else if (router.getScore() == moe::RouterScore::Sigmoid)
    llvm::transform(row, row.begin(), sigmoid);
  std::vector<float> scores(row.begin(), row.end()), selection = scores;
  for (size_t e = 0; e < bias.size(); ++e)
    selection[e] += bias[e];
  std::vector<int32_t> order = candidates(router, selection);
  std::vector<double> chosen;
  for (size_t j = 0; j < ids.size(); ++j)
    chosen.push_back(scores[ids[j] = order[j]]);
  renormalise(router, chosen);
  llvm::copy(chosen, weights.begin());
}

llvm::Expected<Picks> compress::routeTokens(moe::RouterAttr router, const Rows &logits,
                                            ArrayRef<float> bias) {
  int64_t experts = logits.cols(), k = router.getK(), groups = router.getGroups();
  if (k < 1 || groups < 1 || experts % groups != 0 || router.getGroupK() > groups ||
      k > experts / groups * std::max<int64_t>(router.getGroupK(), groups == 1))
    return fault("its router's k or groups do not fit " + llvm::Twine(experts) + " experts");
  if (!bias.empty() && static_cast<int64_t>(bias.size()) != experts)
    return fault("its router's bias does not fit " + llvm::Twine(experts) + " experts");
  Picks picks;
  picks.k = k;
  size_t slots = static_cast<size_t>(logits.rows() * k);
  picks.ids.assign(slots, -1);
  picks.weights.assign(slots, 0.0f);
  for (int64_t t = 0; t < logits.rows(); ++t) {
    size_t at = static_cast<size_t>(t * k), n = static_cast<size_t>(k);
    routeRow(router, {logits.data() + t * experts, static_cast<size_t>(experts)}, bias,
             {picks.ids.data() + at, n}, {picks.weights.data() + at, n});
  }
  return picks;
}

llvm::SmallVector<int64_t> compress::originOf(moe::BankOp bank, int64_t original) {
  llvm::SmallVector<int64_t> origin(bank.getExperts());
  std::iota(origin.begin(), origin.end(), 0);
  int64_t experts = static_cast<int64_t>(origin.size());
  auto given = bank->getAttrOfType<mlir::DenseI64ArrayAttr>(kOrigin);
  if (given)
    origin.assign(given.asArrayRef().begin(), given.asArrayRef().end());
  auto fits = [&](int64_t e) { return e >= 0 && e < original; };
  if (static_cast<int64_t>(origin.size()) != experts || (!given && experts != original) ||
      !llvm::all_of(origin, fits))
    origin.clear();
  return origin;
}

std::vector<float> compress::knownFloats(mlir::Value value, WeightEvaluator &weights) {
  mlir::Operation *op = value.getDefiningOp();
  auto type = rankedType(value);
  if (!op || !type || !type.hasStaticShape() || !llvm::isa<mlir::FloatType>(type.getElementType()))
    return {};
  auto f32 = mlir::Float32Type::get(value.getContext());
  std::vector<float> out(static_cast<size_t>(type.getNumElements()));
  if (auto use = llvm::dyn_cast<moe::WeightUseOp>(op)) {
    llvm::SmallVector<char, 0> bytes;
    if (llvm::Error error = weights.all(use.getWeight(), bytes)) {
      llvm::consumeError(std::move(error));
      return {};
    }
    convertFloats(type.getElementType(), bytes.data(), f32, reinterpret_cast<char *>(out.data()),
                  type.getNumElements());
    return out;
  }
  if (onnxName(op) == "Constant")
    if (auto dense = llvm::dyn_cast_or_null<mlir::DenseFPElementsAttr>(op->getAttr("value"))) {
      llvm::transform(dense.getValues<llvm::APFloat>(), out.begin(), [](llvm::APFloat v) {
        bool lost;
        v.convert(llvm::APFloat::IEEEsingle(), llvm::APFloat::rmNearestTiesToEven, &lost);
        return v.convertToFloat();
      });
      return out;
    }
  if (onnxName(op) == "Cast")
    return knownFloats(op->getOperand(0), weights);
  if (onnxName(op) != "Add")
    return {};
  std::vector<float> a = knownFloats(op->getOperand(0), weights),
                     b = knownFloats(op->getOperand(1), weights);
  if (a.size() != out.size() || b.size() != out.size())
    return {};
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = a[i] + b[i];
  return out;
}

// Experts whose logits were masked by a constant summand since the profile was taken.
static std::vector<bool> maskedExperts(mlir::Value logits, int64_t experts,
                                       WeightEvaluator &weights) {
  std::vector<bool> masked(static_cast<size_t>(experts), false);
  for (mlir::Operation *op = logits.getDefiningOp();
       op && (onnxName(op) == "Add" || onnxName(op) == "Cast" || onnxName(op) == "Identity");
       op = op->getOperand(0).getDefiningOp()) {
    if (onnxName(op) != "Add")
      continue;
    std::vector<float> row = knownFloats(op->getOperand(1), weights);
    for (size_t e = 0; e < row.size() && row.size() == masked.size(); ++e)
      masked[e] = masked[e] || row[e] == -INFINITY;
  }
  return masked;
}

llvm::Expected<Picks> compress::routeAgain(const moe::RoutedLayer &layer, const Rows &logits,
                                           WeightEvaluator &weights) {
  auto route = llvm::dyn_cast_or_null<moe::RouteOp>(layer.router);
  if (!route)
    return fault("unsupported: its router is no moe.route, so that its choice cannot be computed "
                 "again; give a profile of the compressed model (current-profile)");
  llvm::SmallVector<int64_t> origin = originOf(layer.bank, logits.cols());
  int64_t experts = static_cast<int64_t>(origin.size());
  if (experts == 0 || rankedType(route.getLogits()).getDimSize(1) != experts)
    return fault("unsupported: which of the original " + llvm::Twine(logits.cols()) +
                 " experts it has is not known (moe.origin); give a profile of the compressed "
                 "model (current-profile)");
  Rows now(logits.rows(), experts);
  for (int64_t e = 0; e < experts; ++e)
    now.col(e) = logits.col(origin[static_cast<size_t>(e)]);
  std::vector<bool> masked = maskedExperts(route.getLogits(), experts, weights);
  for (int64_t e = 0; e < experts; ++e)
    if (masked[static_cast<size_t>(e)])
      now.col(e).setConstant(-INFINITY);
  std::vector<float> bias;
  if (route.getBias()) {
    bias = knownFloats(route.getBias(), weights);
    if (bias.empty())
      return fault("unsupported: its router's bias is not known before the model runs; give a "
                   "profile of the compressed model (current-profile)");
  }
  return routeTokens(route.getRouter(), now, bias);
}
