#include "Evaluation.h"

#include "Measure.h"

#include "moec/Driver/Error.h"

#include <chrono>
#include <cmath>

using namespace moec;

double Loss::perplexity() const { return tokens ? std::exp(nll / double(tokens)) : 0; }

Loss &Loss::operator+=(const Loss &other) {
  windows += other.windows, tokens += other.tokens, nll += other.nll;
  kl += other.kl, klTokens += other.klTokens, seconds += other.seconds;
  difference += other.difference, original += other.original;
  squares += other.squares, product += other.product;
  overlap += other.overlap, agreed += other.agreed;
  return *this;
}

Loss Quality::overall() const {
  Loss all;
  for (const auto &[label, loss] : labels)
    all += loss;
  return all;
}

double Quality::value(llvm::StringRef label) const {
  if (label.empty())
    return measure->value(overall());
  auto it = labels.find(label.str());
  return it == labels.end() ? NAN : measure->value(it->second);
}

double moec::labelWeight(llvm::StringRef weights, llvm::StringRef label) {
  if (weights.empty())
    return 1;
  llvm::SmallVector<llvm::StringRef> parts;
  weights.split(parts, ',');
  for (llvm::StringRef part : parts) {
    auto [name, number] = part.rsplit(':');
    double weight = 1;
    if (name.trim() == label && (number.empty() || !number.getAsDouble(weight)))
      return weight;
  }
  return 0;
}

double Quality::weighted(llvm::StringRef weights) const {
  Mean all;
  for (const auto &[label, loss] : labels) {
    Mean part = measure->loss(loss);
    if (double weight = labelWeight(weights, label); weight > 0)
      all.sum += weight * part.sum, all.count += weight * part.count;
  }
  double mean = all.value();
  return std::isnan(mean) ? INFINITY : mean;
}

double moec::logSum(llvm::ArrayRef<float> row) {
  float most = -INFINITY;
  for (float v : row)
    most = std::max(most, v);
  double sum = 0;
  for (float v : row)
    sum += std::exp(double(v) - most);
  return most + std::log(sum);
}

// A row of logits as floats.
static llvm::ArrayRef<float> rowOf(const Tensor &logits, int64_t row, std::vector<float> &scratch) {
  int64_t n = logits.shape.back();
  if (logits.type == DType::f32)
    return {logits.as<float>() + row * n, size_t(n)};
  scratch.resize(size_t(n));
  for (int64_t v = 0; v < n; ++v)
    scratch[size_t(v)] = float(logits.at(row * n + v));
  return scratch;
}

llvm::Expected<Loss> moec::scoreText(TextModel &model, llvm::ArrayRef<int64_t> ids,
                                     const TextWindows &windows, llvm::StringRef name,
                                     const std::function<void(llvm::ArrayRef<int64_t>)> &each) {
  int64_t all = (int64_t(ids.size()) - 1) / windows.window;
  int64_t n = windows.windows ? std::min(windows.windows, all) : all;
  if (n < 1)
    return fail(Exit::input, name + ": too short for a window of " + llvm::Twine(windows.window));
  Loss loss;
  std::vector<float> scratch;
  for (int64_t j = 0; j < n; ++j) {
    llvm::ArrayRef<int64_t> window = ids.slice(j * windows.window, windows.window + 1);
    auto start = std::chrono::steady_clock::now();
    auto logits = model.score(window.drop_back());
    if (!logits)
      return logits.takeError();
    loss.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    int64_t vocabulary = logits->shape.back();
    for (int64_t i = 0; i < windows.window; ++i) {
      int64_t target = window[i + 1];
      if (target < 0 || target >= vocabulary)
        return fail(Exit::input, name + ": token " + llvm::Twine(target) + " is outside the " +
                                     llvm::Twine(vocabulary) + " logits");
      llvm::ArrayRef<float> row = rowOf(*logits, i, scratch);
      loss.nll += logSum(row) - row[size_t(target)];
    }
    loss.tokens += windows.window;
    ++loss.windows;
    if (each)
      each(window);
  }
  return loss;
}
