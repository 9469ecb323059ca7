// How well a language model predicts texts: the measure that compression is judged by. Internal to
// Driver.
#pragma once

#include "moec/Driver/Executor.h"
#include "moec/Driver/TextGenerator.h"

#include <functional>
#include <map>

namespace moec {

/// Sums over tokens; they add up.
struct Loss {
  int64_t windows = 0, tokens = 0;
  double nll = 0;       // sum of negative log likelihoods, in nats
  double kl = 0;        // sum of KL(reference || model), when there is a reference
  int64_t klTokens = 0; // tokens that `kl` sums over
  double seconds = 0;   // that the model ran
  double perplexity() const;
  double meanKl() const { return klTokens ? kl / double(klTokens) : 0; }
  Loss &operator+=(const Loss &other);
};

/// By label, and over all of them.
struct Quality {
  std::map<std::string, Loss> labels;
  Loss overall() const;
  /// Mean loss of a token in nats, each label's weighed by "c4:1,code:0.5" (labels that are not
  /// named count nothing; empty: all tokens alike).
  double weighted(llvm::StringRef weights) const;
};

/// The weight of a label in such a text; 1 when the text is empty.
double labelWeight(llvm::StringRef weights, llvm::StringRef label);

struct TextWindows {
  int64_t window = 256; // tokens of a window
  int64_t windows = 0;  // at most; 0: all
  int64_t first = 0;    // windows to skip
};

/// Window j reads ids [w j, w j + w) and predicts ids [w j + 1, w j + w + 1); every position counts
/// and nothing is carried over. `name` is the text's, for errors. With a reference, a second model
/// that reads the same windows, KL is measured too. `each`, when given, is told each window's ids
/// and their logits' losses are counted before it.
llvm::Expected<Loss> scoreText(TextModel &model, llvm::ArrayRef<int64_t> ids,
                               const TextWindows &windows, llvm::StringRef name,
                               TextModel *reference = nullptr,
                               const std::function<void(llvm::ArrayRef<int64_t>)> &each = {});

/// A text of one label: token ids.
struct LabelledText {
  std::string label;
  std::vector<int64_t> ids;
};

/// Token ids of a .npy file: one dimension, integers.
llvm::Expected<std::vector<int64_t>> readTokens(llvm::StringRef path);

/// The texts of folders of <label>.npy files, and of such files, sorted by label.
llvm::Expected<std::vector<LabelledText>> readTexts(llvm::ArrayRef<std::string> paths);

} // namespace moec
