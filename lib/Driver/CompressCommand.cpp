// moec compress
#include "Commands.h"
#include "Compile.h"
#include "CompressElimination.h"
#include "CompressReport.h"

#include "moec/Export/Export.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

using namespace moec;
namespace path = llvm::sys::path;

namespace {

struct CompressFlags {
  std::string model, output, method = "auto", memory, work, page, repair = "auto", labels, budgets;
  std::vector<std::string> data, eval;
  double prune = 0;
  CompressSetup setup;
  int64_t window = 256, windows = 64, evalWindows = 0, searchWindows = 8;
  int moves = 16, randomSeeds = 3;
  uint64_t seed = 0;
  bool json = false;
  ProgressMode progress = ProgressMode::automatic;
};

llvm::Error checkFlags(const CompressFlags &flags) {
  llvm::StringRef extension = path::extension(flags.output);
  if (!flags.output.empty() && extension != ".onnx" && extension != ".so")
    return fail(Exit::usage, "--out " + flags.output + ": wants a name that ends in .onnx or .so");
  if (int(flags.prune > 0) + int(!flags.memory.empty()) + int(!flags.budgets.empty()) != 1)
    return fail(Exit::usage, "say how much: one of --prune, --memory and --keep");
  if (flags.prune < 0 || flags.prune >= 1)
    return fail(Exit::usage, "--prune: wants a share of the experts, at least 0 and below 1");
  if (flags.method != "auto" && !findMethod(flags.method))
    return fail(Exit::usage, "--method " + flags.method + ": no such method (see moec compress "
                                                          "--methods)");
  return llvm::Error::success();
}

// "60%" of the weights, or a number of bytes, K, M or G.
llvm::Expected<uint64_t> budgetOf(llvm::StringRef text, uint64_t all) {
  llvm::StringRef number = text;
  double factor = 1;
  if (number.consume_back("%"))
    factor = double(all) / 100;
  else if (number.consume_back("K"))
    factor = 1024;
  else if (number.consume_back("M"))
    factor = 1048576;
  else if (number.consume_back("G"))
    factor = 1073741824.0;
  double value;
  if (number.trim().getAsDouble(value) || value <= 0)
    return fail(Exit::usage, "--memory " + text + ": wants a share such as 60%, or bytes such as 12M");
  return uint64_t(value * factor);
}

llvm::Expected<std::vector<int64_t>> listOf(llvm::StringRef text, size_t layers) {
  std::vector<int64_t> numbers;
  llvm::SmallVector<llvm::StringRef> parts;
  text.split(parts, ',');
  for (llvm::StringRef part : parts)
    if (part.trim().getAsInteger(10, numbers.emplace_back()))
      return fail(Exit::usage, "--keep " + text + ": wants numbers, one for each layer or one for all");
  if (numbers.size() == 1)
    numbers.resize(layers, numbers[0]);
  if (numbers.size() != layers)
    return fail(Exit::usage, llvm::formatv("--keep {0}: the model has {1} routed layers", text, layers));
  return numbers;
}

// Files that a written model consists of.
uint64_t bytesOnDisk(const std::string &output) {
  uint64_t sum = 0;
  llvm::SmallString<128> weights(output);
  path::replace_extension(weights, ".moew");
  for (const std::string &name : {output, output + ".data", weights.str().str()}) {
    uint64_t size;
    if (!llvm::sys::fs::file_size(name, size))
      sum += size;
  }
  return sum;
}

llvm::Error write(Model &model, const std::string &output) {
  if (path::extension(output) == ".so") {
    if (llvm::Error error = model.finish(2))
      return error;
    Progress silent(ProgressMode::none, compileStages);
    auto report = buildLibrary(model, output, CompileOptions(), silent);
    return report ? llvm::Error::success() : report.takeError();
  }
  if (llvm::Error error = model.finish(1, /*decomposeQuantised=*/false))
    return error;
  ExportOptions options;
  options.producerVersion = MOEC_VERSION;
  auto report = exportOnnx(model.module(), model.folder(), output, options);
  if (report)
    return llvm::Error::success();
  return llvm::handleErrors(report.takeError(), [&](const llvm::StringError &e) -> llvm::Error {
    if (e.convertToErrorCode() == std::errc::not_supported)
      return model.takeErrors(e.getMessage());
    return fail(Exit::resource, e.getMessage());
  });
}

// The recipe that the flags say, or the one that the search finds.
llvm::Expected<Recipe> chooseRecipe(const CompressFlags &flags, Compressor &compressor,
                                    CompressReport &report, Progress &progress) {
  Sizes sizes = compressor.originalSizes();
  uint64_t budget = 0;
  llvm::Expected<std::vector<int64_t>> keep = std::vector<int64_t>();
  if (!flags.budgets.empty()) {
    keep = listOf(flags.budgets, compressor.layers().size());
  } else if (!flags.memory.empty()) {
    auto bytes = budgetOf(flags.memory, sizes.weights);
    if (!bytes)
      return bytes.takeError();
    budget = *bytes;
    keep = uniformBudget(compressor, budget);
  } else {
    keep = uniformDrop(compressor, flags.prune);
  }
  if (!keep)
    return keep.takeError();
  if (flags.method == "auto" && flags.budgets.empty()) {
    SearchOptions options;
    options.budget = budget;
    if (budget == 0) {
      options.budget = sizes.weights - sizes.experts;
      for (auto [layer, n] : llvm::zip(compressor.layers(), *keep))
        options.budget += layer.slabBytes * uint64_t(n);
    }
    options.moves = flags.moves;
    options.seed = flags.seed;
    options.labels = flags.labels;
    if (flags.repair == "none")
      options.repairs.clear();
    else if (flags.repair == "down")
      options.repairs = {Repair::down};
    auto found = searchRecipe(compressor, options, progress);
    if (!found)
      return found.takeError();
    report.search = std::move(*found);
    return report.search->best.recipe;
  }
  Repair repair = flags.repair == "down"         ? Repair::down
                  : flags.repair == "sequential" ? Repair::sequential
                                                 : Repair::none;
  Recipe recipe{flags.method == "auto" ? "soft" : flags.method, *keep, repair, flags.seed,
                flags.labels};
  auto possible = completeRecipe(compressor, recipe, !flags.budgets.empty(), progress);
  if (!possible)
    return possible.takeError();
  if (!*possible)
    return fail(Exit::usage, "--method " + flags.method + ": too many experts to measure each; give "
                                                          "fewer --search-windows or another method");
  return recipe;
}

llvm::Error addBaselines(const CompressFlags &flags, Compressor &compressor, const Recipe &chosen,
                         CompressReport &report) {
  Recipe recipe{"frequency", chosen.keep, Repair::none, 0, chosen.labels};
  auto frequency = compressor.measure(recipe, Compressor::Data::evaluation);
  if (!frequency)
    return frequency.takeError();
  report.baselines.push_back({"frequency", {std::move(*frequency)}});
  Baseline random{"random", {}};
  for (int seed = 0; seed < flags.randomSeeds; ++seed) {
    Recipe recipe{"random", chosen.keep, Repair::none, uint64_t(seed), chosen.labels};
    auto result = compressor.measure(recipe, Compressor::Data::evaluation);
    if (!result)
      return result.takeError();
    random.runs.push_back(std::move(*result));
  }
  if (!random.runs.empty())
    report.baselines.push_back(std::move(random));
  return llvm::Error::success();
}

llvm::Error measureAll(const CompressFlags &flags, Compressor &compressor, CompressReport &report,
                       Progress &progress) {
  progress.begin("evaluate");
  auto before = compressor.measure(Recipe(), Compressor::Data::evaluation);
  if (!before)
    return before.takeError();
  report.before = std::move(*before);
  auto after = compressor.measure(report.recipe, Compressor::Data::evaluation, /*kl=*/true);
  if (!after)
    return after.takeError();
  report.after = std::move(*after);
  progress.end(llvm::formatv("perplexity {0:f3} -> {1:f3}",
                             report.before.quality.overall().perplexity(),
                             report.after.quality.overall().perplexity()));
  progress.begin("baselines of the same size");
  if (llvm::Error error = addBaselines(flags, compressor, report.recipe, report))
    return error;
  std::string note;
  for (const Baseline &baseline : report.baselines)
    note += llvm::formatv("{0}{1} {2:f3}", note.empty() ? "" : ", ", baseline.name,
                          baseline.perplexity());
  progress.end(note);
  return llvm::Error::success();
}

// The same method at other sizes.
llvm::Error addSweep(Compressor &compressor, CompressReport &report, Progress &progress) {
  progress.begin("other sizes");
  for (double share : {0.125, 0.25, 0.375, 0.5, 0.625}) {
    auto keep = uniformDrop(compressor, share);
    if (!keep) {
      llvm::consumeError(keep.takeError()); // fewer than k: the picture ends here
      break;
    }
    Recipe recipe = report.recipe;
    recipe.keep = *keep;
    if (recipe.repair == Repair::sequential)
      recipe.repair = Repair::down;
    for (llvm::StringRef method : {llvm::StringRef(recipe.method), llvm::StringRef("random")}) {
      Recipe one = recipe;
      one.method = method.str();
      if (method == "random")
        one.repair = Repair::none;
      auto result = compressor.measure(one, Compressor::Data::evaluation);
      if (!result)
        return result.takeError();
      report.sweep.push_back({one, std::move(*result)});
    }
  }
  progress.end();
  return llvm::Error::success();
}

// Profiles and searches on different windows of the calibration texts: four fifths and the rest where
// they are too short for what was asked.
llvm::Error setWindows(CompressFlags &flags) {
  int64_t least = INT64_MAX;
  for (const LabelledText &text : flags.setup.calibration)
    least = std::min(least, (int64_t(text.ids.size()) - 1) / flags.window);
  if (flags.setup.calibration.empty() || least < 2)
    return fail(Exit::input, llvm::formatv("--data: too short: wants at least 2 windows of {0} tokens "
                                           "in each text", flags.window));
  if (flags.windows >= least)
    flags.windows = std::max<int64_t>(least * 4 / 5, 1);
  flags.setup.calibrationWindows = {flags.window, flags.windows, 0};
  flags.setup.searchWindows = {flags.window, flags.searchWindows, flags.windows};
  flags.setup.evaluationWindows = {flags.window, flags.evalWindows, 0};
  return llvm::Error::success();
}

// Reads the data and makes the work folder.
llvm::Error prepare(CompressFlags &flags, std::optional<TemporaryFolder> &temporary) {
  CompressSetup &setup = flags.setup;
  if (flags.work.empty()) {
    auto folder = TemporaryFolder::create();
    if (!folder)
      return folder.takeError();
    temporary.emplace(std::move(*folder));
    setup.work = temporary->folder();
  } else {
    setup.work = flags.work;
    if (std::error_code code = llvm::sys::fs::create_directories(flags.work))
      return fail(Exit::resource, flags.work + ": cannot create: " + code.message());
  }
  auto calibration = readTexts(flags.data);
  if (!calibration)
    return calibration.takeError();
  auto evaluation = readTexts(flags.eval);
  if (!evaluation)
    return evaluation.takeError();
  setup.calibrationPaths = flags.data;
  setup.calibration = std::move(*calibration);
  setup.evaluation = std::move(*evaluation);
  const CompressMethod *method = findMethod(flags.method);
  setup.tier = method ? std::max(method->tier, flags.repair == "none" ? 0 : 1) : setup.tier;
  return setWindows(flags);
}

llvm::Error compress(CompressFlags &flags) {
  if (llvm::Error error = checkFlags(flags))
    return error;
  std::optional<TemporaryFolder> temporary;
  if (llvm::Error error = prepare(flags, temporary))
    return error;
  const CompressSetup &setup = flags.setup;
  Progress progress(flags.progress, 12);
  auto compressor = Compressor::create(setup, progress);
  if (!compressor)
    return compressor.takeError();
  CompressReport report;
  report.model = setup.model;
  report.layers = compressor->layers();
  report.profileBefore = compressor->profile();
  auto recipe = chooseRecipe(flags, *compressor, report, progress);
  if (!recipe)
    return recipe.takeError();
  report.recipe = *recipe;
  if (llvm::Error error = measureAll(flags, *compressor, report, progress))
    return error;
  if (!flags.page.empty())
    if (llvm::Error error = addSweep(*compressor, report, progress))
      return error;
  if (!flags.output.empty()) {
    progress.begin("write");
    auto model = compressor->build(report.recipe);
    if (!model)
      return model.takeError();
    if (llvm::Error error = write(**model, flags.output))
      return error;
    report.output = flags.output;
    report.outputBytes = bytesOnDisk(flags.output);
    progress.end(flags.output);
  }
  if (!flags.page.empty()) {
    progress.begin("routing of the result");
    auto routing = compressor->routing(report.recipe);
    if (!routing)
      return routing.takeError();
    report.profileAfter = std::move(*routing);
    progress.end();
    if (llvm::Error error = writeFile(flags.page, reportPage(report)))
      return error;
  }
  llvm::outs() << (flags.json ? reportToJson(report).dump(2) + "\n" : reportText(report));
  return llvm::Error::success();
}

} // namespace

static std::string methodsText() {
  std::string text;
  for (const CompressMethod &method : compressMethods())
    text += llvm::formatv("{0,-12} {1}\n", method.name, method.summary);
  return text;
}

void moec::addCompressCommand(CLI::App &app, Action &action) {
  CLI::App *command = addCommand(
      app, "compress", "Removes experts of a language model and says what that costs.",
      "moec compress examples/moe-lm/prefill.onnx --prune=0.25 --data examples/moe-lm/calibration "
      "--eval examples/moe-lm/eval --method soft --out small.onnx");
  auto flags = std::make_shared<CompressFlags>();
  command->add_option("model", flags->setup.model, "language model graph (.onnx)")->required();
  command->add_option("--data", flags->data,
                      "calibration texts: folders of <label>.npy files of token ids, or such files")
      ->required()->delimiter(',');
  command->add_option("--eval", flags->eval, "held-out texts, in the same form")
      ->required()->delimiter(',');
  command->add_option("-o,--out", flags->output, "the smaller model: .onnx, or .so (compiled)");
  command->add_option("--prune", flags->prune, "share of each layer's experts that goes");
  command->add_option("--memory", flags->memory,
                      "what all weights may take: a share (60%) or bytes (12M)");
  command->add_option("--keep", flags->budgets,
                      "experts that each layer keeps: one number, or one for each layer");
  command->add_option("--method", flags->method,
                      "auto (measures all and searches), or one of --methods");
  command->add_option("--repair", flags->repair,
                      "after the experts went: none, down (least squares on the down projections), "
                      "sequential (the same, layer by layer), auto (what measures best; none with "
                      "a --method)")
      ->check(CLI::IsMember({"auto", "none", "down", "sequential"}));
  command->add_option("--labels", flags->labels, "weights of the calibration's labels: c4:1,code:4");
  command->add_option("--seed", flags->seed, "of random choices");
  command->add_option("--window", flags->window, "tokens of a window")->check(CLI::PositiveNumber);
  command->add_option("--windows", flags->windows, "windows of each calibration text to profile")
      ->check(CLI::PositiveNumber);
  command->add_option("--eval-windows", flags->evalWindows,
                      "windows of each held-out text (0: all)")->check(CLI::NonNegativeNumber);
  command->add_option("--search-windows", flags->searchWindows,
                      "windows of each calibration text that the search scores recipes on")
      ->check(CLI::PositiveNumber);
  command->add_option("--random-seeds", flags->randomSeeds,
                      "random choices that the result is compared with: seeds 0, 1, ... (3)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--moves", flags->moves, "tries of the search to shift experts between layers")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--reservoir", flags->setup.reservoir,
                      "tokens of each label that repairs fit (0: as many as 512 MiB hold)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--profile", flags->setup.profile, "a profile of the model (moec profile)");
  command->add_option("--work", flags->work,
                      "folder for what was measured: an interrupted run with the same folder goes on");
  command->add_option("--report", flags->page, "an HTML page on the result, with other sizes");
  command->add_option("--threads", flags->setup.threads, "threads (0: all cores)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--weights", flags->setup.folder,
                      "folder of the weight files, when they are not beside the model")
      ->check(CLI::ExistingDirectory);
  addSemanticsFlag(*command, flags->setup.moeSemantics);
  addProgressFlag(*command, flags->progress);
  addFormatFlag(*command, flags->json);
  auto listMethods = [] {
    llvm::outs() << methodsText();
    throw CLI::Success();
  };
  command->add_flag_callback("--methods", listMethods, "lists the methods")->trigger_on_parse();
  command->callback([flags, &action] { action = [flags] { return compress(*flags); }; });
}
