// moec perplexity
#include "Commands.h"
#include "Datasets.h"
#include "Evaluation.h"

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
  std::vector<std::string> tokens, dims;
  OpenOptions open;
  int64_t window = 256, windows = 0;
  bool json = false;
};

struct Score {
  std::string file;
  Loss loss;
  int64_t bytes = 0;
};

llvm::Expected<Score> score(const PerplexityFlags &flags, const std::string &file, TextModel &model,
                            const Tokenizer *tokenizer) {
  auto ids = readTokens(file);
  if (!ids)
    return ids.takeError();
  Score result{file, {}, 0};
  auto count = [&](llvm::ArrayRef<int64_t> window) {
    for (int64_t token : window.drop_front())
      result.bytes += tokenizer ? int64_t(tokenizer->bytes(token).size()) : 0;
  };
  auto loss = scoreText(model, *ids, {flags.window, flags.windows}, file, count);
  if (!loss)
    return loss.takeError();
  result.loss = *loss;
  return result;
}

double bitsPerByte(const Score &s) { return s.loss.nll / std::numbers::ln2 / double(s.bytes); }

void printJson(const PerplexityFlags &flags, const std::vector<Score> &scores, double overall) {
  json files = json::array();
  for (const Score &s : scores) {
    files.push_back({{"tokens_file", s.file}, {"windows", s.loss.windows}, {"tokens", s.loss.tokens},
                     {"nll", s.loss.nll}, {"perplexity", s.loss.perplexity()}});
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
                                  s.loss.perplexity(), s.loss.tokens);
    if (s.bytes)
      llvm::outs() << llvm::formatv(", {0:f4} bits per byte", bitsPerByte(s));
    llvm::outs() << ")\n";
  }
  if (scores.size() > 1)
    llvm::outs() << llvm::formatv("{0,-16}{1,10:f4}\n", "overall", overall);
}

llvm::Error perplexity(PerplexityFlags &flags) {
  auto sizes = readDims(flags.dims);
  if (!sizes)
    return sizes.takeError();
  auto executor = openModel(flags.model, flags.open);
  if (!executor)
    return executor.takeError();
  auto model = TextModel::create(**executor, *sizes);
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
  Loss all;
  for (const std::string &file : flags.tokens) {
    auto result = score(flags, file, *model, tokenizer ? &*tokenizer : nullptr);
    if (!result)
      return result.takeError();
    all += result->loss;
    scores.push_back(std::move(*result));
  }
  double overall = all.perplexity();
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
  addDimFlag(*command, flags->dims);
  command->add_flag("--reference", flags->open.reference, "use the reference interpreter");
  addExecutionFlags(*command, flags->open);
  addFormatFlag(*command, flags->json);
  command->callback([flags, &action] { action = [flags] { return perplexity(*flags); }; });
}
