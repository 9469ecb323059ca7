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

// The axis of a cache that counts texts: the one with the name that the tokens' has, or the first.
size_t batchAxis(const ValueInfo &cache, const ValueInfo &ids) {
  StringRef symbol = ids.dims[0];
  auto it = llvm::find(cache.dims, symbol);
  bool named = !symbol.empty() && symbol != "?" && it != cache.dims.end();
  return named ? size_t(it - cache.dims.begin()) : 0;
}

// A size of a cache that the model leaves open although it does not grow: the cache's output has the
// same symbol there. Nothing says how large an empty cache is then.
StringRef openSize(const ValueInfo &in, const ValueInfo &out, const ValueInfo &ids) {
  for (auto [i, a, b] : llvm::enumerate(in.dims, out.dims))
    if (a == b && !a.empty() && a != "?" && !number(a) && i != batchAxis(in, ids))
      return a;
  return "";
}

llvm::Error unsupportedInput(const ValueInfo &input, const llvm::Twine &why) {
  return fail(Exit::unsupported,
              "unsupported input \"" + input.name + "\" for texts: " + why + " (" +
                  describe(input) + ")");
}

// What an input beside the tokens and the caches is filled with, by its name; empty when the name
// says nothing.
std::optional<TextInput> inputOf(StringRef name) {
  if (name.contains("position"))
    return TextInput::positions;
  if (name.contains("attention_mask") || name.ends_with("input_mask"))
    return TextInput::ones;
  if (name.contains("token_type") || name.contains("segment_ids"))
    return TextInput::zeros;
  return std::nullopt;
}

// Whether an input has a shape that can be filled: [batch, sequence], and positions also [sequence]
// and [axes, batch, sequence], which are alike in a text.
llvm::Error checkFilled(const ValueInfo &info, TextInput input) {
  size_t rank = info.dims.size();
  if (input != TextInput::ones && !isInteger(info.type))
    return unsupportedInput(info, "wants integers");
  if (rank == 2)
    return llvm::Error::success();
  if (input == TextInput::positions && (rank == 1 || (rank == 3 && number(info.dims[0]))))
    return llvm::Error::success();
  return unsupportedInput(info, "wants [batch, sequence]");
}

} // namespace

// Every size that the graph leaves open and nobody gave is zero, but for the batch.
Tensor TextModel::emptyCache(size_t input, int64_t count) const {
  const std::vector<ValueInfo> &inputs = executor->signature().inputs;
  std::vector<int64_t> shape;
  for (auto [i, dim] : llvm::enumerate(inputs[input].dims)) {
    auto given = sizes.find(dim);
    int64_t open = i == batchAxis(inputs[input], inputs[ids]) ? count
                   : given != sizes.end() ? given->second : 0;
    shape.push_back(number(dim).value_or(open));
  }
  Tensor t(inputs[input].type, std::move(shape));
  t.name = inputs[input].name;
  return t;
}

llvm::Expected<TextModel> TextModel::create(Executor &executor,
                                            const std::map<std::string, int64_t> &sizes) {
  TextModel model(executor);
  model.sizes = sizes;
  const Signature &signature = executor.signature();
  std::map<std::string, size_t> outputs;
  std::optional<size_t> logits, ids;
  for (auto [i, out] : llvm::enumerate(signature.outputs)) {
    outputs[cacheKey(out.name)] = i;
    if (!logits && (out.name == "logits" || (isFloat(out.type) && out.dims.size() == 3)))
      logits = i;
  }
  auto isIds = [](const ValueInfo &in) { return isInteger(in.type) && in.dims.size() == 2; };
  for (auto [i, in] : llvm::enumerate(signature.inputs))
    if (in.name == "input_ids" && isIds(in))
      ids = i;
  for (auto [i, in] : llvm::enumerate(signature.inputs)) {
    auto match = outputs.find(cacheKey(in.name));
    if (i == ids)
      continue;
    if (auto filled = inputOf(in.name)) {
      if (llvm::Error error = checkFilled(in, *filled))
        return error;
      model.filled[i] = *filled;
    } else if (match != outputs.end() && match->second != logits) {
      model.caches[i] = match->second;
    } else if (!ids && isIds(in)) {
      ids = i;
    } else {
      return unsupportedInput(in, "neither tokens, mask, positions, token types nor a cache");
    }
  }
  if (!ids || !logits)
    return fail(Exit::unsupported, "unsupported graph for text generation: it needs token ids "
                                   "[batch, sequence] and logits [batch, sequence, vocabulary]");
  for (auto [in, out] : model.caches)
    if (StringRef size = openSize(signature.inputs[in], signature.outputs[out],
                                  signature.inputs[*ids]);
        !size.empty() && !sizes.count(size.str()))
      return unsupportedInput(signature.inputs[in], "how large its \"" + size +
                                                        "\" is, the model does not say: give --dim " +
                                                        size + "=SIZE");
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
    cacheData[in] = emptyCache(in, 1);
}

// Input `i`, no cache, of `count` texts of equal length behind `past` tokens.
Tensor TextModel::fill(size_t i, llvm::ArrayRef<int64_t> tokens, int64_t count,
                       int64_t past) const {
  const ValueInfo &info = executor->signature().inputs[i];
  auto role = filled.find(i);
  int64_t length = int64_t(tokens.size()) / count;
  std::vector<int64_t> shape{count, length};
  if (role != filled.end() && role->second == TextInput::ones)
    shape = {count, past + length};
  else if (role != filled.end() && info.dims.size() == 1)
    shape = {length};
  else if (role != filled.end() && info.dims.size() == 3)
    shape = {*number(info.dims[0]), count, length};
  Tensor t(info.type, std::move(shape));
  t.name = info.name;
  for (int64_t k = 0, n = t.count(); k < n; ++k) {
    if (role == filled.end())
      t.set(k, double(tokens[size_t(k)]));
    else if (role->second != TextInput::zeros)
      t.set(k, role->second == TextInput::ones ? 1 : double(past + k % length));
  }
  return t;
}

std::vector<Tensor> TextModel::inputsFor(llvm::ArrayRef<int64_t> tokens, int64_t past) const {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < executor->signature().inputs.size(); ++i) {
    auto cache = cacheData.find(i);
    inputs.push_back(cache != cacheData.end() ? cache->second : fill(i, tokens, 1, past));
    inputs.back().name = executor->signature().inputs[i].name;
  }
  return inputs;
}

std::optional<int64_t> TextModel::fixedBatch() const {
  return number(executor->signature().inputs[ids].dims[0]);
}

std::vector<Tensor> TextModel::batch(llvm::ArrayRef<int64_t> tokens, int64_t count) const {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < executor->signature().inputs.size(); ++i)
    inputs.push_back(caches.contains(i) ? emptyCache(i, count) : fill(i, tokens, count, 0));
  return inputs;
}

// All outputs; the logits' shape has been checked.
llvm::Expected<std::vector<Tensor>> TextModel::runOnce(llvm::ArrayRef<int64_t> tokens,
                                                       int64_t past) {
  auto outputs = executor->run(inputsFor(tokens, past));
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
