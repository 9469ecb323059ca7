// moec profile
#include "Commands.h"
#include "Compile.h"
#include "Profiling.h"

#include "moec/Analysis/NearestLabel.h"
#include "moec/Analysis/ProfilePage.h"
#include "moec/Analysis/RoutingCounts.h"

#include <nlohmann/json.hpp>

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;

namespace {

struct ProfileFlags {
  std::string model, out, show, html, nearest;
  std::vector<std::string> data, merge;
  DataOptions read;
  std::string label;
  std::vector<std::string> dims;
  int64_t rows = 0;
  ProfileOptions profile;
  OpenOptions open;
  ProgressMode progress = ProgressMode::automatic;
  bool json = false;
};

llvm::Expected<Profile> profile(ProfileFlags &flags) {
  if (flags.profile.reservoir && flags.profile.tier < 1)
    return fail(Exit::usage, "--reservoir needs --tier 1 or 2");
  auto sizes = readDims(flags.dims);
  if (!sizes)
    return sizes.takeError();
  flags.read.sizes = std::move(*sizes);
  auto data = Dataset::open(flags.data, flags.read, flags.label, flags.rows);
  if (!data)
    return data.takeError();
  Progress progress(flags.progress, 2 + profileStages(*data));
  auto model = loadModel(flags.model, "", progress);
  if (!model)
    return model.takeError();
  progress.begin("optimise");
  if (llvm::Error error =
          (*model)->raise(std::max(flags.open.optimisation, 1), flags.open.moeSemantics))
    return withReproducer(std::move(error), **model);
  progress.end();
  flags.profile.optimisation = std::max(flags.open.optimisation, 1);
  flags.profile.threads = flags.open.threads;
  return profileModel(**model, *data, flags.profile, progress);
}

// A profile, or routing counts of another tool (JSON files).
llvm::Expected<Profile> read(const std::string &path) {
  bool counts = llvm::sys::fs::is_directory(path) || llvm::StringRef(path).ends_with(".json");
  return counts ? readRoutingCounts(path) : readProfile(path);
}

llvm::Expected<Profile> merge(const std::vector<std::string> &files) {
  auto sum = read(files.front());
  for (size_t i = 1; i < files.size() && sum; ++i) {
    auto next = read(files[i]);
    if (!next)
      return next;
    auto both = mergeProfiles(*sum, *next);
    if (!both)
      return fail(Exit::input, files[i] + ": " + llvm::toString(both.takeError()));
    sum = std::move(both);
  }
  return sum;
}

// The labels of another profile by how near their routing is.
llvm::Error printNearest(const Profile &profile, const ProfileFlags &flags) {
  auto patterns = read(flags.nearest);
  if (!patterns)
    return patterns.takeError();
  auto labels = nearestLabels(*patterns, profile);
  if (!labels)
    return fail(Exit::input, flags.nearest + ": " + llvm::toString(labels.takeError()));
  nlohmann::json list = nlohmann::json::array();
  for (const LabelDistance &each : *labels)
    if (flags.json)
      list.push_back({{"label", each.label}, {"distance", each.distance}});
    else
      llvm::outs() << llvm::formatv("{0,-16}{1:f4}\n", each.label, each.distance);
  if (flags.json)
    llvm::outs() << nlohmann::json{{"nearest", list}}.dump(2) << "\n";
  return llvm::Error::success();
}

llvm::Error write(const Profile &profile, const ProfileFlags &flags) {
  if (!flags.out.empty())
    if (llvm::Error error = writeProfile(profile, flags.out))
      return error;
  if (!flags.html.empty())
    if (llvm::Error error = writeFile(flags.html, profilePage(profile)))
      return error;
  if (!flags.nearest.empty())
    return printNearest(profile, flags);
  if (flags.json)
    llvm::outs() << profileJson(profile) << "\n";
  else if (!flags.show.empty())
    llvm::outs() << profileText(profile);
  else
    llvm::outs() << llvm::formatv("{0} layers, labels: {1}\n", profile.layers.size(),
                                  llvm::join(profile.labels, ", "));
  return llvm::Error::success();
}

llvm::Error run(ProfileFlags &flags) {
  if (int(!flags.model.empty()) + int(!flags.show.empty()) + int(!flags.merge.empty()) != 1)
    return fail(Exit::usage, "profile takes one of a model, --show and --merge");
  if (!flags.model.empty() && flags.data.empty())
    return fail(Exit::usage, "--data is required");
  if (flags.show.empty() && flags.out.empty() && flags.html.empty() && flags.nearest.empty())
    return fail(Exit::usage, "--out is required");
  auto result = !flags.model.empty()  ? profile(flags)
                : !flags.show.empty() ? read(flags.show)
                                      : merge(flags.merge);
  if (!result)
    return result.takeError();
  return write(*result, flags);
}

} // namespace

void moec::addProfileCommand(CLI::App &app, Action &action) {
  CLI::App *command = addCommand(
      app, "profile", "Measures on data what a model's routers and experts do.",
      "moec profile examples/moe-lm/prefill.onnx --data examples/moe-lm/eval --windows 2 "
      "--out moe-lm.moep");
  auto flags = std::make_shared<ProfileFlags>();
  command->add_option("model", flags->model, "model.onnx, or IR (.mlir)");
  command->add_option("--data", flags->data,
                      "folder of <label>.npy token ids, such files, a folder in ONNX test layout, "
                      "or NAME=FILE.npy for each input");
  command->add_option("--out", flags->out, "profile to write");
  command->add_option(
      "--show", flags->show,
      "print a profile, or routing counts of another tool (a .json file or a folder "
      "of them)");
  command->add_option("--merge", flags->merge, "add up profiles of parts of the data");
  command->add_option("--html", flags->html, "draw the profile as a page");
  command->add_option("--nearest", flags->nearest,
                      "print the labels of this other profile by how near their routing is: which "
                      "domain's experts suit a prompt");
  command
      ->add_option("--tier", flags->profile.tier,
                   "0: routing; 1: also outputs of chosen experts; 2: also of all experts on a "
                   "sample of the tokens")
      ->capture_default_str()
      ->check(CLI::IsMember({0, 1, 2}));
  command
      ->add_option("--sample-every", flags->profile.sampleEvery,
                   "tier 2: all experts run on every such token")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--window", flags->read.window, "tokens of a sequence of a text")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--windows", flags->read.windows, "only the first windows of each text (0: all)")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--reservoir", flags->profile.reservoir,
                   "tokens to keep of each label and layer, for repairs")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--rows", flags->rows, "cut arrays into runs of so many rows (0: do not)")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  addDimFlag(*command, flags->dims);
  command->add_option("--label", flags->label, "label of all data; default: each file's name");
  addExecutionFlags(*command, flags->open);
  addProgressFlag(*command, flags->progress);
  addFormatFlag(*command, flags->json);
  command->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}
