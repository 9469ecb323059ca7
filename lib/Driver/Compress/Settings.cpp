// What the options of `moec compress` mean: its data, measure and profile.
#include "../Commands.h"
#include "Run.h"

#include "moec/Driver/Error.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"

using namespace moec;
namespace path = llvm::sys::path;

namespace {

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
  if (flags.compare.empty())
    return llvm::Error::success();
  if (!flags.output.empty() || !flags.page.empty())
    return fail(Exit::usage, "--compare writes no model and no page: leave out --out and --report");
  for (llvm::StringRef name : llvm::split(flags.compare, ','))
    if (name != "all" && !findMethod(name))
      return fail(Exit::usage, "--compare " + name + ": no such method (see moec compress --methods)");
  return llvm::Error::success();
}

// Profiles and searches on different parts of the calibration data: windows of texts, whole runs of
// arrays. Where it is too short for what was asked, four fifths and the rest; one run is both.
llvm::Error setRanges(CompressFlags &flags) {
  CompressSetup &setup = flags.setup;
  auto sizes = readDims(flags.dims);
  if (!sizes)
    return sizes.takeError();
  for (DataOptions *options : {&setup.profileData, &setup.searchData, &setup.evaluationData}) {
    options->window = flags.window;
    options->sizes = *sizes;
    options->outputs = flags.outputs;
  }
  for (DataOptions *options : {&setup.searchData, &setup.evaluationData}) {
    options->targets = true;
    options->tokens = flags.window; // one at a time
  }
  int64_t least = INT64_MAX;
  for (const DataFiles::Text &text : setup.calibration->texts)
    least = std::min(least, (int64_t(text.ids.size()) - 1) / flags.window);
  if (least < 2)
    return fail(Exit::input, llvm::formatv("--data: too short: wants at least 2 windows of {0} tokens "
                                           "in each text", flags.window));
  if (flags.windows >= least)
    flags.windows = std::max<int64_t>(least * 4 / 5, 1);
  int64_t sets = int64_t(setup.calibration->sets.size()), most = std::max<int64_t>(sets * 4 / 5, 1);
  setup.profileData.windows = setup.searchData.first = flags.windows;
  setup.profileData.sets = most;
  setup.searchData.windows = flags.searchWindows;
  setup.searchData.firstSet = sets > most ? most : 0;
  setup.evaluationData.windows = flags.evalWindows;
  return llvm::Error::success();
}

// What results are judged by.
llvm::Error setMeasure(CompressFlags &flags) {
  const CompressSetup &setup = flags.setup;
  bool texts = setup.calibration->sets.empty() && setup.evaluation->sets.empty();
  const Measure *measure = findMeasure(flags.measure);
  if (!measure)
    measure = texts ? &perplexityMeasure() : findMeasure("error");
  if (measure->needsTargets() && !texts)
    return fail(Exit::usage, "--measure " + measure->name() + ": wants texts as --data and --eval");
  flags.setup.measure = measure;
  return llvm::Error::success();
}

// The profile that the method and the repair read.
void setProfile(CompressFlags &flags) {
  const CompressMethod *method = findMethod(flags.method);
  if (!method)
    return; // the search takes what there is
  bool repaired = flags.repair == "down" || flags.repair == "sequential";
  flags.setup.needsTokens = method->tokens || repaired;
  flags.setup.needsTier = std::max(method->tier, int(repaired));
  flags.setup.tier = flags.setup.needsTier;
}

} // namespace

llvm::Error moec::prepareCompress(CompressFlags &flags, std::optional<TemporaryFolder> &temporary) {
  if (llvm::Error error = checkFlags(flags))
    return error;
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
  auto calibration = DataFiles::read(flags.data, "", flags.rows);
  if (!calibration)
    return calibration.takeError();
  auto evaluation = DataFiles::read(flags.eval, "", flags.rows);
  if (!evaluation)
    return evaluation.takeError();
  setup.calibration = std::move(*calibration);
  setup.evaluation = std::move(*evaluation);
  setProfile(flags);
  if (llvm::Error error = setMeasure(flags))
    return error;
  return setRanges(flags);
}
