#include "moec/Driver/TextGenerator.h"

#include "moec/Driver/Error.h"

#include "llvm/ADT/StringExtras.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace moec;
using llvm::StringRef;

namespace {

// What is left of a cache's name when the words that tell input from output are taken away.
std::string cacheKey(StringRef name) {
  std::string key = name.str();
  for (StringRef word : {"input.", "output.", "past_key_values", "present_key_values", "present",
                         "past", "cache_in", "cache_out"})
    for (size_t at; (at = key.find(word.str())) != std::string::npos;)
      key.erase(at, word.size());
  return key;
}

bool isInteger(DType type) { return type == DType::i64 || type == DType::i32; }

std::optional<int64_t> number(StringRef dim) {
  int64_t value;
  if (dim.getAsInteger(10, value))
    return std::nullopt;
  return value;
}

// An empty cache: every size that the graph leaves open is zero, but for the batch.
Tensor emptyCache(const ValueInfo &info, int64_t batch = 1) {
  std::vector<int64_t> shape;
  for (auto [i, dim] : llvm::enumerate(info.dims))
    shape.push_back(number(dim).value_or(i == 0 ? batch : 0));
  return Tensor(info.type, std::move(shape));
}

} // namespace

llvm::Expected<TextModel> TextModel::create(Executor &executor) {
  TextModel model(executor);
  const Signature &signature = executor.signature();
  std::map<std::string, size_t> outputs;
  std::optional<size_t> logits, ids;
  for (auto [i, out] : llvm::enumerate(signature.outputs)) {
    outputs[cacheKey(out.name)] = i;
    if (!logits && (out.name == "logits" || (isFloat(out.type) && out.dims.size() == 3)))
      logits = i;
  }
  for (auto [i, in] : llvm::enumerate(signature.inputs)) {
    StringRef name = in.name;
    auto match = outputs.find(cacheKey(name));
    if (name.contains("attention_mask"))
      model.mask = i;
    else if (name.contains("position"))
      model.positions = i;
    else if (match != outputs.end() && match->second != logits)
      model.caches[i] = match->second;
    else if (!ids && isInteger(in.type) && in.dims.size() == 2)
      ids = i;
    else
      return fail(Exit::unsupported, "unsupported input \"" + name +
                                         "\" for text generation: neither tokens nor a cache");
  }
  if (!ids || !logits)
    return fail(Exit::unsupported, "unsupported graph for text generation: it needs token ids "
                                   "[batch, sequence] and logits [batch, sequence, vocabulary]");
  model.ids = *ids;
  model.logits = *logits;
  model.fixedLength = number(signature.inputs[*ids].dims[1]);
  if (model.caches.empty() && model.fixedLength)
    return fail(Exit::unsupported, "unsupported graph for text generation: a fixed sequence length "
                                   "without a cache");
  model.reset();
  return model;
}

void TextModel::reset() {
  text.clear();
  extra.clear();
  for (auto [in, out] : caches)
    cacheData[in] = emptyCache(executor->signature().inputs[in]);
}

llvm::Expected<std::vector<Tensor>> TextModel::inputsFor(llvm::ArrayRef<int64_t> tokens,
                                                         int64_t past) const {
  const Signature &signature = executor->signature();
  int64_t n = int64_t(tokens.size());
  std::vector<Tensor> inputs(signature.inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    DType type = signature.inputs[i].type;
    if (auto cache = cacheData.find(i); cache != cacheData.end()) {
      inputs[i] = cache->second;
    } else if (i == mask) {
      inputs[i] = Tensor(type, {1, past + n});
      for (int64_t k = 0; k < past + n; ++k)
        inputs[i].set(k, 1);
    } else {
      inputs[i] = Tensor(type, {1, n});
      for (int64_t k = 0; k < n; ++k)
        inputs[i].set(k, double(i == positions ? past + k : tokens[k]));
    }
    inputs[i].name = signature.inputs[i].name;
  }
  return inputs;
}

std::optional<int64_t> TextModel::fixedBatch() const {
  return number(executor->signature().inputs[ids].dims[0]);
}

std::vector<Tensor> TextModel::batch(llvm::ArrayRef<int64_t> tokens, int64_t count) const {
  const Signature &signature = executor->signature();
  int64_t length = int64_t(tokens.size()) / count;
  std::vector<Tensor> inputs;
  for (auto [i, info] : llvm::enumerate(signature.inputs)) {
    bool cache = caches.contains(i);
    Tensor &t = inputs.emplace_back(cache ? emptyCache(info, count)
                                          : Tensor(info.type, {count, length}));
    t.name = info.name;
    for (int64_t k = 0; k < count * length && !cache; ++k)
      t.set(k, i == mask ? 1 : i == positions ? double(k % length) : double(tokens[k]));
  }
  return inputs;
}

// All outputs; the logits' shape has been checked.
llvm::Expected<std::vector<Tensor>> TextModel::runOnce(llvm::ArrayRef<int64_t> tokens,
                                                       int64_t past) {
  auto inputs = inputsFor(tokens, past);
  if (!inputs)
    return inputs.takeError();
  auto outputs = executor->run(*inputs);
  if (!outputs)
    return outputs;
  const Tensor &all = (*outputs)[logits];
  if (all.shape.size() != 3 || all.shape[0] != 1 || all.shape[1] < 1 || all.shape[2] < 1 ||
      !isFloat(all.type))
    return fail(Exit::unsupported, "unsupported logits of shape " + describe(all));
  return outputs;
}

llvm::Expected<Tensor> TextModel::score(llvm::ArrayRef<int64_t> tokens) {
  reset();
  auto outputs = runOnce(tokens, 0);
  if (!outputs)
    return outputs.takeError();
  Tensor &all = (*outputs)[logits];
  if (all.shape[1] != int64_t(tokens.size()))
    return fail(Exit::unsupported, "unsupported graph: it gives logits of " +
                                       llvm::Twine(all.shape[1]) + " of " +
                                       llvm::Twine(tokens.size()) + " positions only");
  return std::move(all);
}

llvm::Expected<std::vector<float>> TextModel::step(llvm::ArrayRef<int64_t> tokens, int64_t past) {
  auto outputs = runOnce(tokens, past);
  if (!outputs)
    return outputs.takeError();
  Tensor &all = (*outputs)[logits];
  int64_t positions = int64_t(tokens.size());
  int64_t vocabulary = all.shape[2], last = std::min(positions, all.shape[1]) - 1;
  std::vector<float> row(vocabulary);
  for (int64_t v = 0; v < vocabulary; ++v)
    row[v] = float(all.at(last * vocabulary + v));
  std::vector<bool> used(outputs->size());
  used[logits] = true;
  for (auto [in, out] : caches) {
    cacheData[in] = std::move((*outputs)[out]);
    used[out] = true;
  }
  extra.clear();
  for (size_t i = 0; i < outputs->size(); ++i)
    if (!used[i])
      extra.push_back(std::move((*outputs)[i]));
  return row;
}

llvm::Expected<std::vector<float>> TextModel::feed(llvm::ArrayRef<int64_t> tokens) {
  if (tokens.empty())
    return fail(Exit::usage, "no tokens to feed");
  int64_t past = hasCache() ? length() : 0;
  text.insert(text.end(), tokens.begin(), tokens.end());
  if (!hasCache())
    return step(text, 0);
  int64_t chunk = limit().value_or(int64_t(tokens.size()));
  std::vector<float> row;
  for (size_t at = 0; at < tokens.size(); at += size_t(chunk)) {
    auto part = tokens.slice(at, std::min(size_t(chunk), tokens.size() - at));
    if (int64_t(part.size()) != chunk && limit())
      return fail(Exit::unsupported, "unsupported: the graph takes tokens in blocks of " +
                                         llvm::Twine(chunk));
    auto result = step(part, past);
    if (!result)
      return result.takeError();
    row = std::move(*result);
    past += int64_t(part.size());
  }
  return row;
}

double Sampler::uniform() {
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return double((z ^ z >> 31) >> 11) * 0x1p-53;
}

int64_t Sampler::operator()(llvm::ArrayRef<float> logits) {
  if (temperature <= 0)
    return std::max_element(logits.begin(), logits.end()) - logits.begin();
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  if (topK > 0 && topK < int64_t(order.size()))
    order.resize(size_t(topK));
  std::vector<double> mass;
  double sum = 0;
  for (int64_t id : order)
    mass.push_back(sum += std::exp((logits[id] - logits[order[0]]) / temperature));
  double draw = uniform() * sum;
  size_t at = std::lower_bound(mass.begin(), mass.end(), draw) - mass.begin();
  return order[std::min(at, order.size() - 1)];
}
