// moec generate
#include "Commands.h"
#include "RoutingPicture.h"

#include "moec/Driver/TextGenerator.h"
#include "moec/Driver/Tokenizer.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;

namespace {

struct GenerateFlags {
  std::string model, tokenizer, prompt = "The", html;
  std::vector<int64_t> promptIds;
  std::vector<std::string> dims;
  OpenOptions open;
  int64_t tokens = 64, topK = 0;
  uint64_t seed = 0;
  double temperature = 0;
  bool showRouting = false, ids = false, quiet = false;
};

double seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

// Writes the characters that are complete and keeps the rest for the next token.
void writeComplete(std::string &pending) {
  size_t end = pending.size(), back = 0;
  while (back < 4 && back < end && (uint8_t(pending[end - 1 - back]) & 0xc0) == 0x80)
    ++back;
  if (back < end) {
    uint8_t lead = uint8_t(pending[end - 1 - back]);
    size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (length > back + 1)
      end -= back + 1;
  }
  llvm::outs() << llvm::StringRef(pending).take_front(end);
  llvm::outs().flush();
  pending.erase(0, end);
}

llvm::Expected<Tokenizer> loadTokenizer(const GenerateFlags &flags) {
  llvm::SmallString<128> path(flags.tokenizer);
  if (path.empty()) {
    path = llvm::sys::path::parent_path(flags.model);
    llvm::sys::path::append(path, "tokenizer.json");
  }
  return Tokenizer::load(path);
}

struct Run {
  GenerateFlags &flags;
  const Tokenizer &tokenizer;
  TextModel &model;
  RoutingRecord routing;
  std::vector<std::string> texts; // of the tokens fed, for the picture

  llvm::Expected<std::vector<float>> feed(llvm::ArrayRef<int64_t> ids) {
    auto logits = model.feed(ids);
    // Without a cache each call routes the whole text again; only its last call counts.
    if (!model.hasCache())
      routing = {};
    routing.add(model.extras());
    for (int64_t id : ids)
      texts.push_back(tokenizer.bytes(id).str());
    return logits;
  }

  llvm::Error generate(std::vector<int64_t> prompt);
  llvm::Error showRouting() const;
};

llvm::Error Run::generate(std::vector<int64_t> prompt) {
  Sampler sample(flags.temperature, flags.topK, flags.seed);
  if (!flags.quiet && !flags.ids)
    llvm::outs() << tokenizer.decode(prompt);
  auto start = std::chrono::steady_clock::now();
  auto logits = feed(prompt);
  if (!logits)
    return logits.takeError();
  double promptSeconds = seconds(start);
  start = std::chrono::steady_clock::now();
  std::string pending;
  int64_t made = 0;
  while (made < flags.tokens) {
    int64_t id = sample(*logits);
    ++made;
    if (flags.ids) {
      llvm::outs() << (made > 1 ? " " : "") << id;
    } else {
      if (tokenizer.isSpecial(id))
        break;
      pending += tokenizer.bytes(id);
      writeComplete(pending);
    }
    if (made == flags.tokens)
      break;
    logits = feed(id);
    if (!logits)
      return logits.takeError();
  }
  llvm::outs() << pending << "\n";
  llvm::outs().flush();
  if (!flags.quiet) {
    double time = seconds(start);
    llvm::errs() << llvm::formatv("[prompt: {0} tokens in {1:f3} s; generated: {2} tokens, {3:f1} "
                                  "tokens/s]\n",
                                  prompt.size(), promptSeconds, made,
                                  time > 0 ? double(std::max<int64_t>(made - 1, 1)) / time : 0.0);
  }
  return llvm::Error::success();
}

llvm::Error Run::showRouting() const {
  if (routing.empty()) {
    llvm::errs() << "moec: no routing to show: no MoE layer was raised, or the model is compiled "
                    "already (give the .onnx file)\n";
    return llvm::Error::success();
  }
  if (flags.showRouting)
    routing.printText(llvm::outs());
  if (flags.html.empty())
    return llvm::Error::success();
  std::error_code error;
  llvm::raw_fd_ostream os(flags.html, error);
  if (error)
    return fail(Exit::resource, flags.html + ": cannot write: " + error.message());
  routing.printHtml(os, texts);
  return llvm::Error::success();
}

llvm::Error generate(GenerateFlags &flags) {
  auto tokenizer = loadTokenizer(flags);
  if (!tokenizer)
    return tokenizer.takeError();
  auto sizes = readDims(flags.dims);
  if (!sizes)
    return sizes.takeError();
  flags.open.exposeRouting = flags.showRouting || !flags.html.empty();
  auto executor = openModel(flags.model, flags.open);
  if (!executor)
    return executor.takeError();
  auto model = TextModel::create(**executor, *sizes);
  if (!model)
    return model.takeError();
  std::vector<int64_t> prompt =
      flags.promptIds.empty() ? tokenizer->encode(flags.prompt) : flags.promptIds;
  if (prompt.empty())
    return fail(Exit::usage, "the prompt is empty");
  Run run{flags, *tokenizer, *model, {}, {}};
  if (llvm::Error error = run.generate(std::move(prompt)))
    return error;
  return flags.open.exposeRouting ? run.showRouting() : llvm::Error::success();
}

} // namespace

void moec::addGenerateCommand(CLI::App &app, Action &action) {
  CLI::App *command =
      addCommand(app, "generate", "Continues a text with a language model, token by token.",
                 "moec generate examples/moe-lm/decode.onnx --prompt \"The results show\" "
                 "--tokens 40 --show-routing");
  auto flags = std::make_shared<GenerateFlags>();
  command->add_option("model", flags->model, "decode graph: .onnx, or compiled .so")->required();
  command->add_option("--tokenizer", flags->tokenizer, "tokenizer.json (default: beside the model)");
  command->add_option("--prompt", flags->prompt, "text to continue")->capture_default_str();
  command->add_option("--prompt-ids", flags->promptIds, "the prompt as token ids, comma-separated")
      ->delimiter(',');
  command->add_option("-n,--tokens", flags->tokens, "tokens to generate")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--temperature", flags->temperature, "0 takes the likeliest token")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--top-k", flags->topK, "draw from the k likeliest tokens (0: all)")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--seed", flags->seed, "seed of the draws")->capture_default_str();
  command->add_flag("--ids", flags->ids, "print token ids instead of text");
  command->add_flag("--quiet", flags->quiet, "print the continuation only");
  command->add_flag("--show-routing", flags->showRouting, "show which experts the text used");
  command->add_option("--routing-html", flags->html, "write the routing of each token as a page");
  addDimFlag(*command, flags->dims);
  command->add_flag("--reference", flags->open.reference, "use the reference interpreter");
  addExecutionFlags(*command, flags->open);
  command->callback([flags, &action] { action = [flags] { return generate(*flags); }; });
}
