// How a layer routes tokens, by the formula of its router.
#include "ExpertMath.h"

#include "Problem.h"
#include "moec/Dialect/MoE/RouterFormula.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include <cmath>
#include <numeric>

using namespace moec;
using namespace moec::compress;
using llvm::ArrayRef;
using llvm::StringRef;

static void routeRow(moe::RouterAttr router, ArrayRef<float> logits, ArrayRef<float> bias,
                     llvm::MutableArrayRef<int32_t> ids, llvm::MutableArrayRef<float> weights) {
  if (llvm::any_of(logits, [](float v) { return std::isnan(v); }))
    return;
  std::vector<float> scores = moe::routerScores(router, logits), selection = scores;
  for (size_t e = 0; e < bias.size(); ++e)
    selection[e] += bias[e];
  std::vector<int64_t> order =
      moe::rankedInGroups(selection, router.getGroups(), router.getGroupK(),
                          router.getGroupScore() == moe::GroupScore::Top2);
  std::vector<double> chosen;
  for (size_t j = 0; j < ids.size(); ++j)
    chosen.push_back(scores[ids[j] = static_cast<int32_t>(order[j])]);
  moe::routerWeights(router, chosen);
  llvm::copy(chosen, weights.begin());
}

llvm::Expected<Picks> compress::routeTokens(moe::RouterAttr router, const Rows &logits,
                                            ArrayRef<float> bias) {
  int64_t experts = logits.cols(), k = router.getK(), groups = router.getGroups();
  if (k < 1 || groups < 1 || experts % groups != 0 || router.getGroupK() > groups ||
      k > experts / groups * std::max<int64_t>(router.getGroupK(), groups == 1))
    return problem("its router's k or groups do not fit " + llvm::Twine(experts) + " experts");
  if (!bias.empty() && static_cast<int64_t>(bias.size()) != experts)
    return problem("its router's bias does not fit " + llvm::Twine(experts) + " experts");
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
    return problem("unsupported: its router is no moe.route, so that its choice cannot be computed "
                 "again; give a profile of the compressed model (current-profile)");
  llvm::SmallVector<int64_t> origin = originOf(layer.bank, logits.cols());
  int64_t experts = static_cast<int64_t>(origin.size());
  if (experts == 0 || rankedType(route.getLogits()).getDimSize(1) != experts)
    return problem("unsupported: which of the original " + llvm::Twine(logits.cols()) +
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
      return problem("unsupported: its router's bias is not known before the model runs; give a "
                   "profile of the compressed model (current-profile)");
  }
  return routeTokens(route.getRouter(), now, bias);
}
