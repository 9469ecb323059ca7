// Text generation with a language model graph: its key/value cache, the choice of tokens.
#pragma once

#include "moec/Driver/Executor.h"

#include <optional>

namespace moec {

/// What an input beside the tokens and the caches is filled with.
enum class TextInput { ones, positions, zeros };

/// Feeds token ids to a graph and keeps its cache between calls.
///
/// The graph's inputs are recognised by name: `input_ids`, or else the first integer input [batch,
/// sequence] of no other role, takes the tokens; masks (`attention_mask`), positions
/// (`position_ids`, also [sequence] and [axes, batch, sequence]) and token types
/// (`token_type_ids`, zeros) are filled in; every other input is a cache and is fed from the output
/// whose name is the same but for `past`/`present`, `input`/`output`. A graph without caches gets
/// the whole text at every step.
class TextModel {
public:
  /// Errors name the input that is not understood. `executor` must outlive this. `sizes`: of symbols
  /// that caches have and that do not grow, where the model does not say them.
  static llvm::Expected<TextModel> create(Executor &executor,
                                          const std::map<std::string, int64_t> &sizes = {});

  /// Appends `ids` (batch of one) and returns the logits of the last position.
  llvm::Expected<std::vector<float>> feed(llvm::ArrayRef<int64_t> ids);

  /// Logits [1, n, vocabulary] of all positions of a text on its own. Forgets the text before and
  /// after.
  llvm::Expected<Tensor> score(llvm::ArrayRef<int64_t> ids);

  /// Inputs of one run over `count` texts of equal length, one after the other in `ids`; caches are
  /// empty.
  std::vector<Tensor> batch(llvm::ArrayRef<int64_t> ids, int64_t count) const;
  /// The number of texts that every run takes, if it is fixed.
  std::optional<int64_t> fixedBatch() const;

  /// The output that holds the logits.
  size_t logitsOutput() const { return logits; }

  /// Forgets all text.
  void reset();

  /// Outputs of the last call that are neither logits nor cache (routing that was exposed).
  const std::vector<Tensor> &extras() const { return extra; }
  bool hasCache() const { return !caches.empty(); }
  /// Tokens that one call can take; nothing when there is no limit.
  std::optional<int64_t> limit() const { return fixedLength; }
  int64_t length() const { return int64_t(text.size()); }

private:
  explicit TextModel(Executor &executor) : executor(&executor) {}
  Tensor emptyCache(size_t input, int64_t count) const;
  Tensor fill(size_t input, llvm::ArrayRef<int64_t> ids, int64_t count, int64_t past) const;
  std::vector<Tensor> inputsFor(llvm::ArrayRef<int64_t> ids, int64_t past) const;
  llvm::Expected<std::vector<Tensor>> runOnce(llvm::ArrayRef<int64_t> ids, int64_t past);
  llvm::Expected<std::vector<float>> step(llvm::ArrayRef<int64_t> ids, int64_t past);

  Executor *executor;
  size_t ids = 0, logits = 0;
  std::map<size_t, TextInput> filled; // inputs beside tokens and caches
  std::map<std::string, int64_t> sizes; // of symbols
  std::map<size_t, size_t> caches;    // input -> output
  std::map<size_t, Tensor> cacheData; // input -> value
  std::vector<int64_t> text;
  std::optional<int64_t> fixedLength;
  std::vector<Tensor> extra;
};

/// Chooses the next token: the largest logit when `temperature` is 0 (ties: the smaller id), else
/// a draw from the softmax of the `topK` largest (0: all).
class Sampler {
public:
  Sampler(double temperature, int64_t topK, uint64_t seed)
      : temperature(temperature), topK(topK), state(seed) {}
  int64_t operator()(llvm::ArrayRef<float> logits);

private:
  double uniform();
  double temperature;
  int64_t topK;
  uint64_t state;
};

} // namespace moec
