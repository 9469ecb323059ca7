// moec profile
#include "Commands.h"
#include "Compile.h"
#include "Profiling.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;

namespace {

struct ProfileFlags {
  std::string model, out, show, html;
  std::vector<std::string> data, merge;
  DataOptions read;
  ProfileOptions profile;
  OpenOptions open;
  ProgressMode progress = ProgressMode::automatic;
  bool json = false;
};

llvm::Error profile(ProfileFlags &flags) {
  if (flags.profile.reservoir && flags.profile.tier < 1)
    return fail(Exit::usage, "--reservoir needs --tier 1 or 2");
  auto data = Dataset::open(flags.data, flags.read);
  if (!data)
    return data.takeError();
  Progress progress(flags.progress, 2 + profileStages(*data));
  auto model = loadModel(flags.model, "", progress);
  if (!model)
    return model.takeError();
  progress.begin("optimise");
  if (llvm::Error error = (*model)->raise(std::max(flags.open.optimisation, 1),
                                          flags.open.moeSemantics))
    return withReproducer(std::move(error), **model);
  progress.end();
  flags.profile.optimisation = std::max(flags.open.optimisation, 1);
  flags.profile.threads = flags.open.threads;
  auto result = profileModel(**model, *data, flags.profile, progress);
  if (!result)
    return result.takeError();
  return writeProfile(*result, flags.out);
}

llvm::Error run(ProfileFlags &flags) {
  return profile(flags);
}

} // namespace

void moec::addProfileCommand(CLI::App &app, Action &action) {
  CLI::App *command =
      addCommand(app, "profile", "Measures on data what a model's routers and experts do.",
                 "moec profile examples/moe-lm/prefill.onnx --data examples/moe-lm/eval --windows 2 "
                 "--out /tmp/moe-lm.moep");
  auto flags = std::make_shared<ProfileFlags>();
  command->add_option("model", flags->model, "model.onnx, or IR (.mlir)");
  command->add_option("--data", flags->data,
                      "folder of <label>.npy token ids, such files, a folder in ONNX test layout, "
                      "or NAME=FILE.npy for each input");
  command->add_option("--out", flags->out, "profile to write");
  command
      ->add_option("--tier", flags->profile.tier,
                   "0: routing; 1: also outputs of chosen experts; 2: also of all experts on a "
                   "sample of the tokens")
      ->capture_default_str()
      ->check(CLI::IsMember({0, 1, 2}));
  command->add_option("--sample-every", flags->profile.sampleEvery,
                      "tier 2: all experts run on every such token")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--window", flags->read.window, "tokens of a sequence of a text")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--windows", flags->read.windows, "only the first windows of each text (0: all)")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--reservoir", flags->profile.reservoir,
                      "tokens to keep of each label and layer, for repairs")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--label", flags->read.label, "label of all data; default: each file's name");
  addExecutionFlags(*command, flags->open);
  addProgressFlag(*command, flags->progress);
  addFormatFlag(*command, flags->json);
  command->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}
