// What `moec compress` does, step by step.
#include "Run.h"

#include "Compare.h"

#include "../Compile.h"
#include "Elimination.h"

#include "moec/Export/Export.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

using namespace moec;
namespace path = llvm::sys::path;

namespace {

// Whether the search finds the recipe, and whether what goes is measured expert by expert.
bool isSearched(const CompressFlags &flags) {
  return flags.method == "auto" && flags.budgets.empty();
}
bool isGiven(const CompressFlags &flags) {
  const CompressMethod *method = findMethod(flags.method);
  return method && method->family == CompressMethod::Family::given;
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

// Experts that each layer keeps, as one budget for all layers says; with --memory its bytes too.
llvm::Expected<std::vector<int64_t>> keepOf(const CompressFlags &flags, const Compressor &compressor,
                                            uint64_t &budget) {
  if (!flags.budgets.empty())
    return listOf(flags.budgets, compressor.layers().size());
  if (flags.memory.empty())
    return uniformDrop(compressor, flags.prune);
  auto bytes = budgetOf(flags.memory, compressor.originalSizes().weights);
  if (!bytes)
    return bytes.takeError();
  budget = *bytes;
  return uniformBudget(compressor, budget);
}

// Budgets count slabs; constants of dropped experts, say, come on top.
llvm::Error fitBudget(Compressor &compressor, Recipe &recipe, uint64_t budget) {
  while (true) {
    auto model = compressor.build(recipe);
    if (!model)
      return model.takeError();
    if (Compressor::sizesOf(**model).weights <= budget)
      return llvm::Error::success();
    if (!shrinkBudget(compressor, recipe.keep))
      return fail(Exit::input, llvm::formatv("{0}: --method {1} cannot meet a budget of {2} bytes",
                                             compressor.setup().model, recipe.method, budget));
  }
}

// The recipe that the flags say, or the one that the search finds.
llvm::Expected<Recipe> chooseRecipe(const CompressFlags &flags, Compressor &compressor,
                                    CompressReport &report, Progress &progress) {
  Sizes sizes = compressor.originalSizes();
  uint64_t budget = 0;
  auto keep = keepOf(flags, compressor, budget);
  if (!keep)
    return keep.takeError();
  if (isSearched(flags)) {
    SearchOptions options;
    options.keep = *keep;
    options.budget = budget;
    options.strict = budget > 0;
    if (budget == 0) {
      options.budget = sizes.weights - sizes.experts;
      for (auto [layer, n] : llvm::zip(compressor.layers(), *keep))
        options.budget += layer.slabBytes * uint64_t(n);
    }
    options.moves = flags.moves;
    options.seed = flags.seed;
    options.labels = flags.labels;
    if (flags.repair == "none" || !compressor.keepsTokens())
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
  if (isGiven(flags))
    progress.begin("measure experts");
  std::string why;
  auto possible = completeRecipe(compressor, recipe, !flags.budgets.empty(), progress, why);
  if (!possible)
    return possible.takeError();
  if (!*possible)
    return fail(Exit::unsupported, "--method " + flags.method + ": " + why);
  if (isGiven(flags))
    progress.end();
  if (budget > 0 && !isGiven(flags))
    if (llvm::Error error = fitBudget(compressor, recipe, budget))
      return std::move(error);
  return recipe;
}

llvm::Error addBaselines(const CompressFlags &flags, Compressor &compressor, const Recipe &chosen,
                         CompressReport &report, Progress &progress) {
  int64_t all = 1 + flags.randomSeeds;
  progress.step(1, all, "frequency");
  Recipe recipe{"frequency", chosen.keep, Repair::none, 0, chosen.labels};
  std::string why; // whole experts cannot go, widths may
  auto frequency = compressor.measureSupported(recipe, Compressor::Data::evaluation, why);
  if (!frequency)
    return frequency.takeError();
  if (!*frequency)
    return llvm::Error::success();
  report.baselines.push_back({"frequency", {std::move(**frequency)}});
  Baseline random{"random", {}};
  for (int seed = 0; seed < flags.randomSeeds; ++seed) {
    progress.step(2 + seed, all, "random, seed " + llvm::Twine(seed));
    Recipe recipe{"random", chosen.keep, Repair::none, uint64_t(seed), chosen.labels};
    auto result = compressor.measure(recipe, Compressor::Data::evaluation, /*compare=*/seed == 0);
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
  const Measure &measure = compressor.measure();
  progress.begin("evaluate");
  progress.step(1, 2, "original");
  auto before = compressor.measure(Recipe(), Compressor::Data::evaluation);
  if (!before)
    return before.takeError();
  report.before = std::move(*before);
  progress.step(2, 2, "result");
  auto after = compressor.measure(report.recipe, Compressor::Data::evaluation, /*compare=*/true);
  if (!after)
    return after.takeError();
  if (std::string idle = compressor.leftWhole(report.recipe, *after); !idle.empty())
    return fail(Exit::unsupported, "--method " + report.recipe.method + ": " + idle);
  report.after = std::move(*after);
  double value = report.after.quality.value();
  if (!std::isfinite(value))
    return fail(Exit::input, "--method " + report.recipe.method + ": the smaller model's outputs on "
                             "--eval are not finite");
  std::string note = measure.title().str() + " ";
  if (!measure.needsOriginal())
    note += measure.text(report.before.quality.value()) + " -> ";
  progress.end(note + measure.text(value));
  progress.begin("baselines of the same size");
  if (llvm::Error error = addBaselines(flags, compressor, report.recipe, report, progress))
    return error;
  note.clear();
  for (const Baseline &baseline : report.baselines)
    note += (note.empty() ? "" : ", ") + baseline.name + " " + measure.text(baseline.value());
  progress.end(note);
  return llvm::Error::success();
}

// The same method at other sizes, and random choices.
llvm::Error addSweep(Compressor &compressor, CompressReport &report, Progress &progress) {
  progress.begin("other sizes");
  constexpr double shares[] = {0.125, 0.25, 0.375, 0.5, 0.625};
  int64_t done = 0;
  for (double share : shares) {
    auto keep = uniformDrop(compressor, share);
    if (!keep) {
      llvm::consumeError(keep.takeError()); // fewer than k: the picture ends here
      break;
    }
    Recipe method = report.recipe, random{"random", *keep, Repair::none, method.seed, method.labels};
    method.keep = *keep;
    method.more.clear(); // of the result's own size
    if (method.repair == Repair::sequential)
      method.repair = Repair::down;
    for (Recipe recipe : {method, random}) {
      progress.step(++done, 2 * std::size(shares), recipe.method);
      std::string why;
      auto possible = completeRecipe(compressor, recipe, /*uniform=*/false, progress, why);
      if (!possible)
        return possible.takeError();
      if (!*possible)
        continue;
      auto result = compressor.measureSupported(recipe, Compressor::Data::evaluation, why);
      if (!result)
        return result.takeError();
      if (*result)
        report.sweep.push_back({recipe, std::move(**result)});
    }
  }
  progress.end();
  return llvm::Error::success();
}

llvm::Error runComparison(const CompressFlags &flags, Compressor &compressor, Progress &progress) {
  uint64_t budget = 0;
  auto keep = keepOf(flags, compressor, budget);
  if (!keep)
    return keep.takeError();
  auto comparison = compareMethods(flags, compressor, *keep, progress);
  if (!comparison)
    return comparison.takeError();
  llvm::outs() << (flags.json ? comparisonToJson(*comparison).dump(2) + "\n"
                              : comparisonText(*comparison));
  return llvm::Error::success();
}

int stagesOf(const CompressFlags &flags) {
  if (!flags.compare.empty())
    return 3;
  int found = isSearched(flags) ? searchStages : isGiven(flags) ? 1 : 0;
  return 4 + found + (flags.page.empty() ? 0 : 2) + (flags.output.empty() ? 0 : 1);
}

// The smaller model, and the page.
llvm::Error writeAll(const CompressFlags &flags, Compressor &compressor, CompressReport &report,
                     Progress &progress) {
  if (!flags.output.empty()) {
    progress.begin("write");
    auto model = compressor.build(report.recipe);
    if (!model)
      return model.takeError();
    if (llvm::Error error = write(**model, flags.output))
      return error;
    report.output = flags.output;
    report.outputBytes = bytesOnDisk(flags.output);
    progress.end(flags.output);
  }
  if (flags.page.empty())
    return llvm::Error::success();
  progress.begin("routing of the result");
  auto routing = compressor.routing(report.recipe);
  if (!routing)
    return routing.takeError();
  report.profileAfter = std::move(*routing);
  progress.end();
  return writeFile(flags.page, reportPage(report));
}

} // namespace

llvm::Error moec::runCompress(CompressFlags &flags) {
  std::optional<TemporaryFolder> temporary;
  if (llvm::Error error = prepareCompress(flags, temporary))
    return error;
  const CompressSetup &setup = flags.setup;
  Progress progress(flags.progress, stagesOf(flags));
  auto compressor = Compressor::create(setup, progress);
  if (!compressor)
    return compressor.takeError();
  if (!flags.compare.empty())
    return runComparison(flags, *compressor, progress);
  CompressReport report;
  report.model = setup.model;
  report.unit = compressor->data(Compressor::Data::evaluation).unit().str();
  if (setup.calibration->sets.size() == 1)
    report.searchNote = "arrays of the profile included, as there is one run of them only";
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
  if (llvm::Error error = writeAll(flags, *compressor, report, progress))
    return error;
  llvm::outs() << (flags.json ? reportToJson(report).dump(2) + "\n" : reportText(report));
  return llvm::Error::success();
}
