// The losses: what one score a position, the target's, costs.
#include "Call.h"
#include "Shapes.h"
#include <cmath>

using namespace llvm;

namespace moec::reference {

namespace {

// scores [N, C, ...] are logarithms of probabilities, in double.
void loss(Call &c, const Tensor &like, const std::vector<double> &logs) {
  int64_t classes = like.shape[1];
  const Tensor &target = c.in(1);
  Shape shape(like.shape);
  shape.erase(shape.begin() + 1);
  if (target.shape != shape)
    fail("targets " + text(target.shape) + " for scores " + text(like.shape));
  AxisView view(like.shape, 1);
  Elements<int64_t> wanted(target);
  std::vector<double> weight(classes, 1);
  if (c.hasIn(2)) {
    Elements<double> given(c.in(2));
    if (given.size() != classes)
      fail("weights for " + Twine(given.size()) + " of " + Twine(classes) + " classes");
    weight.assign(given.begin(), given.end());
  }
  std::vector<double> out(target.size());
  double sum = 0, weights = 0;
  for (int64_t i = 0; i < target.size(); ++i) {
    int64_t k = wanted[i];
    if (c.has("ignore_index") && k == c.i64("ignore_index", 0))
      continue;
    if (k < 0 || k >= classes)
      fail("target " + Twine(k) + " of " + Twine(classes) + " classes");
    int64_t outer = i / view.inner, inner = i % view.inner;
    out[i] = -weight[k] * logs[(outer * classes + k) * view.inner + inner];
    sum += out[i];
    weights += weight[k];
  }
  std::string reduction = c.str("reduction", "mean");
  if (reduction == "none")
    return c.set(0, pack(like.type, shape, out));
  c.set(0, scalar(like.type, reduction == "sum" ? sum : sum / weights));
}

void checkScores(const Tensor &x) {
  if (x.rank() < 2 || !isFloat(x.type))
    fail("scores are no floats of shape [batch, classes, ...]");
}

void negativeLogLikelihood(Call &c) {
  const Tensor &x = c.in(0);
  checkScores(x);
  Elements<double> in(x);
  loss(c, x, {in.begin(), in.end()});
}

void softmaxCrossEntropy(Call &c) {
  const Tensor &x = c.in(0);
  checkScores(x);
  Elements<double> in(x);
  std::vector<double> logs(in.begin(), in.end());
  AxisView view(x.shape, 1);
  for (int64_t o = 0; o < view.outer; ++o)
    for (int64_t i = 0; i < view.inner; ++i) {
      auto at = [&](int64_t k) { return (o * view.size + k) * view.inner + i; };
      double top = -INFINITY, sum = 0;
      for (int64_t k = 0; k < view.size; ++k)
        top = std::max(top, in[at(k)]);
      for (int64_t k = 0; k < view.size; ++k)
        sum += std::exp(in[at(k)] - top);
      for (int64_t k = 0; k < view.size; ++k)
        logs[at(k)] = in[at(k)] - top - std::log(sum);
    }
  loss(c, x, logs);
  c.set(1, pack(x.type, x.shape, logs));
}

} // namespace

void addLosses(Registry &r) {
  r.add("onnx.NegativeLogLikelihoodLoss", negativeLogLikelihood);
  r.add("onnx.SoftmaxCrossEntropyLoss", softmaxCrossEntropy);
}

} // namespace moec::reference
