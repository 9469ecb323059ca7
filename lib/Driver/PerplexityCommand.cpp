// moec perplexity
#include "Commands.h"

#include "moec/Driver/TextGenerator.h"
#include "moec/Driver/Tokenizer.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <numbers>

using namespace moec;
using nlohmann::json;

namespace {

struct PerplexityFlags {
  std::string model, tokenizer;
  std::vector<std::string> tokens;
  OpenOptions open;
  int64_t window = 256, windows = 0;
  bool json = false;
};

struct Score {
  std::string file;
  int64_t windows = 0, tokens = 0, bytes = 0;
  double loss = 0; // sum of negative log likelihoods
  double perplexity() const { return std::exp(loss / double(tokens)); }
};

// Negative log likelihood of `target` under a row of logits.
double lossOf(const Tensor &logits, int64_t row, int64_t target) {
  int64_t vocabulary = logits.shape.back();
  double most = -INFINITY, sum = 0;
  for (int64_t v = 0; v < vocabulary; ++v)
    most = std::max(most, logits.at(row * vocabulary + v));
  for (int64_t v = 0; v < vocabulary; ++v)
    sum += std::exp(logits.at(row * vocabulary + v) - most);
  return most + std::log(sum) - logits.at(row * vocabulary + target);
}

// Window j reads ids [w j, w j + w) and predicts ids [w j + 1, w j + w + 1); every position counts
// and nothing is carried over.
llvm::Expected<Score> score(const PerplexityFlags &flags, const std::string &file, TextModel &model,
                            const Tokenizer *tokenizer) {
  auto ids = readNpy(file);
  if (!ids)
    return ids.takeError();
  if (isFloat(ids->type) || ids->shape.size() != 1)
    return fail(Exit::input, file + ": wants a list of token ids, got " + describe(*ids));
  Score result{file, 0, 0, 0, 0};
  int64_t all = (ids->count() - 1) / flags.window;
  result.windows = flags.windows ? std::min(flags.windows, all) : all;
  if (result.windows < 1)
    return fail(Exit::input, file + ": too short for a window of " + llvm::Twine(flags.window));
  for (int64_t j = 0; j < result.windows; ++j) {
    std::vector<int64_t> window;
    for (int64_t i = 0; i <= flags.window; ++i)
      window.push_back(int64_t(ids->at(j * flags.window + i)));
    auto logits = model.score(llvm::ArrayRef(window).drop_back());
    if (!logits)
      return logits.takeError();
    for (int64_t i = 0; i < flags.window; ++i) {
      int64_t target = window[i + 1];
      if (target < 0 || target >= logits->shape.back())
        return fail(Exit::input, file + ": token " + llvm::Twine(target) + " is outside the " +
                                     llvm::Twine(logits->shape.back()) + " logits");
      result.loss += lossOf(*logits, i, target);
      result.bytes += tokenizer ? int64_t(tokenizer->bytes(target).size()) : 0;
    }
    result.tokens += flags.window;
  }
  return result;
}

double bitsPerByte(const Score &s) { return s.loss / std::numbers::ln2 / double(s.bytes); }

void printJson(const PerplexityFlags &flags, const std::vector<Score> &scores, double overall) {
  json files = json::array();
  for (const Score &s : scores) {
    files.push_back({{"tokens_file", s.file}, {"windows", s.windows}, {"tokens", s.tokens},
                     {"nll", s.loss}, {"perplexity", s.perplexity()}});
    if (s.bytes)
      files.back()["bits_per_byte"] = bitsPerByte(s);
  }
  llvm::outs() << json{{"model", flags.model}, {"window", flags.window}, {"files", files},
                       {"overall", overall}}
                      .dump(2)
               << "\n";
}

void printText(const std::vector<Score> &scores, double overall) {
  for (const Score &s : scores) {
    llvm::outs() << llvm::formatv("{0,-16}{1,10:f4}  ({2} tokens", llvm::sys::path::stem(s.file),
                                  s.perplexity(), s.tokens);
    if (s.bytes)
      llvm::outs() << llvm::formatv(", {0:f4} bits per byte", bitsPerByte(s));
    llvm::outs() << ")\n";
  }
  if (scores.size() > 1)
    llvm::outs() << llvm::formatv("{0,-16}{1,10:f4}\n", "overall", overall);
}

llvm::Error perplexity(PerplexityFlags &flags) {
  auto executor = openModel(flags.model, flags.open);
  if (!executor)
    return executor.takeError();
  auto model = TextModel::create(**executor);
  if (!model)
    return model.takeError();
  std::optional<Tokenizer> tokenizer;
  if (!flags.tokenizer.empty()) {
    auto loaded = Tokenizer::load(flags.tokenizer);
    if (!loaded)
      return loaded.takeError();
    tokenizer.emplace(std::move(*loaded));
  }
  std::vector<Score> scores;
  double loss = 0, tokens = 0;
  for (const std::string &file : flags.tokens) {
    auto result = score(flags, file, *model, tokenizer ? &*tokenizer : nullptr);
    if (!result)
      return result.takeError();
    loss += result->loss, tokens += double(result->tokens);
    scores.push_back(std::move(*result));
  }
  double overall = std::exp(loss / tokens);
  flags.json ? printJson(flags, scores, overall) : printText(scores, overall);
  return llvm::Error::success();
}

} // namespace

void moec::addPerplexityCommand(CLI::App &app, Action &action) {
  CLI::App *command =
      addCommand(app, "perplexity", "Measures how well a language model predicts texts.",
                 "moec perplexity examples/moe-lm/prefill.onnx --tokens examples/moe-lm/eval/c4.npy "
                 "--windows 2");
  auto flags = std::make_shared<PerplexityFlags>();
  command->add_option("model", flags->model, "language model graph: .onnx, or compiled .so")
      ->required();
  command->add_option("--tokens", flags->tokens, "token ids of a text, a .npy file; repeated or "
                                                 "comma-separated for several texts")
      ->required()
      ->delimiter(',');
  command->add_option("--window", flags->window, "tokens that are predicted from one start")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--windows", flags->windows, "only the first windows of each text (0: all)")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--tokenizer", flags->tokenizer, "tokenizer.json, for bits per byte");
  command->add_flag("--reference", flags->open.reference, "use the reference interpreter");
  addExecutionFlags(*command, flags->open);
  addFormatFlag(*command, flags->json);
  command->callback([flags, &action] { action = [flags] { return perplexity(*flags); }; });
}
