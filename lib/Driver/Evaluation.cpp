#include "Evaluation.h"

#include "moec/Driver/Error.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <chrono>
#include <cmath>

using namespace moec;

double Loss::perplexity() const { return tokens ? std::exp(nll / double(tokens)) : 0; }

Loss &Loss::operator+=(const Loss &other) {
  windows += other.windows, tokens += other.tokens, nll += other.nll;
  kl += other.kl, klTokens += other.klTokens, seconds += other.seconds;
  return *this;
}

Loss Quality::overall() const {
  Loss all;
  for (const auto &[label, loss] : labels)
    all += loss;
  return all;
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
  double sum = 0, n = 0;
  for (const auto &[label, loss] : labels) {
    double weight = labelWeight(weights, label);
    sum += weight * loss.nll, n += weight * double(loss.tokens);
  }
  return n > 0 ? sum / n : INFINITY;
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
    auto start = std::chrono::steady_clock::now();
    auto logits = model.score(window.drop_back());
    if (!logits)
      return logits.takeError();
    loss.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
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

llvm::Expected<std::vector<LabelledText>> moec::readTexts(llvm::ArrayRef<std::string> paths) {
  std::vector<LabelledText> texts;
  std::vector<std::string> files;
  for (const std::string &path : paths) {
    if (!llvm::sys::fs::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    size_t before = files.size();
    std::error_code code;
    for (llvm::sys::fs::directory_iterator it(path, code), end; it != end && !code;
         it.increment(code))
      if (llvm::sys::path::extension(it->path()) == ".npy")
        files.push_back(it->path());
    if (files.size() == before)
      return fail(Exit::input, path + ": holds no .npy file of token ids");
  }
  for (const std::string &file : files) {
    auto ids = readTokens(file);
    if (!ids)
      return ids.takeError();
    texts.push_back({llvm::sys::path::stem(file).str(), std::move(*ids)});
  }
  llvm::sort(texts, [](const LabelledText &a, const LabelledText &b) { return a.label < b.label; });
  return texts;
}
