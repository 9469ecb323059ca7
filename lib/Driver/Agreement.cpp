#include "Agreement.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>

using namespace moec;
using llvm::ArrayRef;

// The mean of what is known; NaN when nothing is.
static double meanOf(ArrayRef<double> values) {
  double sum = 0, count = 0;
  for (double value : values)
    if (!std::isnan(value))
      sum += value, ++count;
  return count > 0 ? sum / count : NAN;
}

void moec::addPredictions(Loss &sums, ArrayRef<float> row, ArrayRef<float> original) {
  double all = logSum(row), kl = 0, overlap = 0;
  size_t best = 0;
  float most = original.empty() ? 0 : original[0];
  for (size_t v = 0; v < row.size(); ++v) {
    if (row[v] > row[best])
      best = v;
    most = std::max(most, original[v]);
    if (original[v] <= -30) // less than 1e-13
      continue;
    double p = std::exp(double(original[v])), log = row[v] - all;
    kl += p * (original[v] - log);
    overlap += std::min(p, std::exp(log));
  }
  ++sums.klTokens;
  if (std::isnan(kl) || row.empty()) {
    sums.kl += INFINITY;
    return;
  }
  sums.kl += std::max(kl, 0.0);
  sums.overlap += overlap;
  sums.agreed += original[best] == most;
}

std::vector<Agreement> moec::predictionAgreements(const Loss &sums, bool kl) {
  double rows = sums.klTokens ? double(sums.klTokens) : NAN;
  std::vector<Agreement> out;
  if (kl)
    out.push_back({"kl", "KL, nats a token", sums.kl / rows});
  out.push_back({"overlap", "overlap of predictions", sums.overlap / rows});
  out.push_back({"top1", "same likeliest prediction", double(sums.agreed) / rows});
  return out;
}

std::vector<Agreement> moec::outputAgreements(const Loss &sums) {
  return {{"cosine", "cosine to the original",
           sums.product / std::sqrt(sums.original * sums.squares)}};
}

Agreement moec::rankAgreement(double rank, double original) {
  return {"pre_logit_rank", "effective rank of pre-logits", rank, original};
}

std::string Agreement::text(double value) {
  return llvm::formatv(std::abs(value) < 2 ? "{0:f4}" : "{0:f1}", value).str();
}

Agreement moec::layerAgreement(ArrayRef<double> cosines) {
  return {"layer_cosine", "cosine of layers' outputs", meanOf(cosines)};
}

std::vector<Agreement> moec::meanAgreements(ArrayRef<std::vector<Agreement>> runs) {
  std::vector<Agreement> out;
  for (size_t i = 0; !runs.empty() && i < runs.front().size(); ++i) {
    std::vector<double> values;
    for (const std::vector<Agreement> &run : runs)
      values.push_back(run[i].value);
    Agreement mean = runs.front()[i];
    mean.value = meanOf(values);
    out.push_back(mean);
  }
  return out;
}
