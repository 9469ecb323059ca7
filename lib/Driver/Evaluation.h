// What a run of a model over data is judged by: sums that add up. Internal to Driver.
#pragma once

#include "moec/Driver/Executor.h"
#include "moec/Driver/TextGenerator.h"

#include <functional>
#include <map>

namespace moec {

class Measure;

/// Sums over what was run; they add up. Those against an original are 0 when there is none.
struct Loss {
  int64_t windows = 0, tokens = 0; // sequences; tokens of texts, sequences of arrays
  double nll = 0;                  // sum of negative log likelihoods of texts, in nats
  double kl = 0;                   // sum of KL(original || model) of rows
  int64_t klTokens = 0;            // rows that `kl` sums over
  double seconds = 0;              // that the model ran
  double difference = 0;           // sum of squares of the outputs' difference from the original's
  double original = 0, squares = 0, product = 0; // sums of o^2, y^2, o y
  double overlap = 0;              // sum over rows of sum_v min(p, q) of both softmaxes
  int64_t agreed = 0;              // rows whose likeliest entries are the same
  double perplexity() const;
  double meanKl() const { return klTokens ? kl / double(klTokens) : 0; }
  Loss &operator+=(const Loss &other);
};

const Measure &perplexityMeasure();

/// By label, and over all of them; `measure` says how it is read.
struct Quality {
  std::map<std::string, Loss> labels;
  const Measure *measure = &perplexityMeasure();
  Loss overall() const;
  /// The measure's number as people read it, of one label, or of all (""); NaN of a label that is
  /// not there.
  double value(llvm::StringRef label = "") const;
  /// Its mean loss, each label's weighed by "c4:1,code:0.5" (labels that are not named count
  /// nothing; empty: all alike). Infinite when nothing counts, or what counts is not finite.
  double weighted(llvm::StringRef weights) const;
};

/// The weight of a label in such a text; 1 when the text is empty.
double labelWeight(llvm::StringRef weights, llvm::StringRef label);

/// The logarithm of the sum of exponentials.
double logSum(llvm::ArrayRef<float> row);

struct TextWindows {
  int64_t window = 256; // tokens of a window
  int64_t windows = 0;  // at most; 0: all
};

/// Window j reads ids [w j, w j + w) and predicts ids [w j + 1, w j + w + 1); every position counts
/// and nothing is carried over. `name` is the text's, for errors. `each`, when given, is told each
/// window's ids and their logits' losses are counted before it.
llvm::Expected<Loss> scoreText(TextModel &model, llvm::ArrayRef<int64_t> ids,
                               const TextWindows &windows, llvm::StringRef name,
                               const std::function<void(llvm::ArrayRef<int64_t>)> &each = {});

} // namespace moec
