#include "Evaluation.h"

#include "moec/Driver/Error.h"

#include <cmath>

using namespace moec;

double Loss::perplexity() const { return tokens ? std::exp(nll / double(tokens)) : 0; }

Loss &Loss::operator+=(const Loss &other) {
  windows += other.windows, tokens += other.tokens, nll += other.nll;
  kl += other.kl, klTokens += other.klTokens;
  return *this;
}

Loss Quality::overall() const {
  Loss all;
  for (const auto &[label, loss] : labels)
    all += loss;
  return all;
}

namespace {

// A row of logits as floats.
const float *rowOf(const Tensor &logits, int64_t row, std::vector<float> &scratch) {
  int64_t n = logits.shape.back();
  if (logits.type == DType::f32)
    return logits.as<float>() + row * n;
  scratch.resize(n);
  for (int64_t v = 0; v < n; ++v)
    scratch[v] = float(logits.at(row * n + v));
  return scratch.data();
}

// The logarithm of the sum of exponentials.
double logSum(const float *row, int64_t n) {
  float most = -INFINITY;
  for (int64_t v = 0; v < n; ++v)
    most = std::max(most, row[v]);
  double sum = 0;
  for (int64_t v = 0; v < n; ++v)
    sum += std::exp(double(row[v]) - most);
  return most + std::log(sum);
}

double divergence(const float *reference, const float *row, int64_t n) {
  double a = logSum(reference, n), b = logSum(row, n), sum = 0;
  for (int64_t v = 0; v < n; ++v) {
    double logP = reference[v] - a, p = std::exp(logP);
    if (p > 0)
      sum += p * (logP - (row[v] - b));
  }
  return sum;
}

} // namespace

llvm::Expected<Loss> moec::scoreText(TextModel &model, llvm::ArrayRef<int64_t> ids,
                                     const TextWindows &windows, llvm::StringRef name,
                                     TextModel *reference,
                                     const std::function<void(llvm::ArrayRef<int64_t>)> &each) {
  int64_t all = (int64_t(ids.size()) - 1) / windows.window - windows.first;
  int64_t n = windows.windows ? std::min(windows.windows, all) : all;
  if (n < 1)
    return fail(Exit::input, name + ": too short for a window of " + llvm::Twine(windows.window) +
                                 (windows.first ? " behind the ones left out" : ""));
  Loss loss;
  std::vector<float> scratch, scratch2;
  for (int64_t j = windows.first; j < windows.first + n; ++j) {
    llvm::ArrayRef<int64_t> window = ids.slice(j * windows.window, windows.window + 1);
    auto logits = model.score(window.drop_back());
    if (!logits)
      return logits.takeError();
    int64_t vocabulary = logits->shape.back();
    std::optional<Tensor> other;
    if (reference) {
      auto scored = reference->score(window.drop_back());
      if (!scored)
        return scored.takeError();
      other = std::move(*scored);
    }
    for (int64_t i = 0; i < windows.window; ++i) {
      int64_t target = window[i + 1];
      if (target < 0 || target >= vocabulary)
        return fail(Exit::input, name + ": token " + llvm::Twine(target) + " is outside the " +
                                     llvm::Twine(vocabulary) + " logits");
      const float *row = rowOf(*logits, i, scratch);
      loss.nll += logSum(row, vocabulary) - row[target];
      if (other) {
        loss.kl += divergence(rowOf(*other, i, scratch2), row, vocabulary);
        ++loss.klTokens;
      }
    }
    loss.tokens += windows.window;
    ++loss.windows;
    if (each)
      each(window);
  }
  return loss;
}

llvm::Expected<std::vector<int64_t>> moec::readTokens(llvm::StringRef path) {
  auto tensor = readNpy(path);
  if (!tensor)
    return tensor.takeError();
  if (isFloat(tensor->type) || tensor->shape.size() != 1)
    return fail(Exit::input, path + ": wants a list of token ids, got " + describe(*tensor));
  std::vector<int64_t> ids(tensor->count());
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = int64_t(tensor->at(int64_t(i)));
  return ids;
}
