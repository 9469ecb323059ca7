#include "RepairPass.h"

#include "llvm/Support/FormatVariadic.h"

using namespace moec;
using namespace moec::compress;

static double relative(const LayerSamples &samples, const Rows &residual, int64_t first,
                       int64_t last) {
  double target = squares(samples.target, first, last), left = squares(residual, first, last);
  if (target > 0)
    return std::sqrt(left / target);
  return left > 0 ? std::numeric_limits<double>::infinity() : 0;
}

Errors compress::errorsOf(const LayerSamples &samples, const Rows &residual) {
  int64_t n = samples.tokens();
  return {relative(samples, residual, 0, samples.fitted),
          relative(samples, residual, samples.fitted, n), samples.fitted < n};
}

std::string compress::numberText(double value) {
  return value != 0 && std::abs(value) < 0.001 ? llvm::formatv("{0:e1}", value).str()
                                               : llvm::formatv("{0:f4}", value).str();
}

std::string compress::changeText(const LayerSamples &samples, const Errors &before,
                                 const Errors &after) {
  std::string text = "error " + numberText(before.fitted) + " -> " + numberText(after.fitted);
  int64_t n = samples.tokens();
  if (!before.anyHeld)
    return text + " (" + std::to_string(n) + " tokens, none held out)";
  return text + ", held out " + numberText(before.held) + " -> " + numberText(after.held) + " (" +
         std::to_string(n - samples.fitted) + " of " + std::to_string(n) + " tokens)";
}

llvm::Expected<Rows> compress::residualOf(RepairLayer &at, const Picks &picks) {
  auto output = applyLayer(at.bank, at.samples.x, picks);
  if (!output)
    return output.takeError();
  return Rows(at.samples.target - at.samples.scale.asDiagonal() * *output);
}
