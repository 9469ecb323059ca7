#include "moec/Driver/CommandLine.h"

#include "Commands.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>

#include <unistd.h>

using namespace moec;

CLI::App *moec::addCommand(CLI::App &app, const std::string &name, const std::string &description,
                           const std::string &example) {
  CLI::App *command = app.add_subcommand(name, description);
  command->footer("Example:\n  " + example);
  return command;
}

llvm::Expected<std::map<std::string, int64_t>>
moec::readDims(llvm::ArrayRef<std::string> dims) {
  std::map<std::string, int64_t> sizes;
  for (llvm::StringRef dim : dims) {
    auto [name, size] = dim.split('=');
    if (size.getAsInteger(10, sizes[name.str()]) || sizes[name.str()] < 0)
      return fail(Exit::usage, "--dim wants NAME=SIZE, not '" + dim + "'");
  }
  return sizes;
}

void moec::addDimFlag(CLI::App &command, std::vector<std::string> &dims) {
  command.add_option("--dim", dims, "size of a symbol of the caches that does not grow, as NAME=SIZE, "
                                    "where the model does not say it");
}

void InputFlags::addTo(CLI::App &command) {
  command.add_option("--input", files, "an input from a .npy or .pb file, repeated in graph order; "
                                       "NAME=FILE in any order");
  command.add_option("--data", data, "inputs from a folder in ONNX test layout (test_data_set_*)");
  command.add_option("--seed", random.seed, "seed of random inputs")->capture_default_str();
  command.add_option("--dim", dims, "size of a symbolic dimension of random inputs, as NAME=SIZE");
  command.add_option("--integers", random.integers, "random integers are below this")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
}

static llvm::Expected<Tensor> readInput(llvm::StringRef flag) {
  auto [name, file] = flag.split('=');
  if (file.empty())
    std::swap(name, file);
  auto tensor = file.ends_with(".pb") ? readTensorProto(file) : readNpy(file);
  if (tensor && !name.empty())
    tensor->name = name.str();
  else if (tensor)
    tensor->name.clear();
  return tensor;
}

llvm::Expected<std::vector<TestSet>> InputFlags::load(const Signature &signature) {
  auto sizes = readDims(dims);
  if (!sizes)
    return sizes.takeError();
  random.dims = std::move(*sizes);
  std::vector<TestSet> sets;
  if (!data.empty()) {
    std::vector<std::string> folders = findTestSets(data);
    if (folders.empty())
      return fail(Exit::input, data + ": no test_data_set_* folder");
    for (const std::string &folder : folders) {
      auto set = readTestSet(folder);
      if (!set)
        return set.takeError();
      sets.push_back(std::move(*set));
    }
  } else if (!files.empty()) {
    sets.emplace_back();
    for (const std::string &file : files) {
      auto tensor = readInput(file);
      if (!tensor)
        return tensor.takeError();
      sets.back().inputs.push_back(std::move(*tensor));
    }
  } else {
    auto inputs = makeInputs(signature, random);
    if (!inputs)
      return inputs.takeError();
    sets.emplace_back();
    sets.back().folder = "seed " + std::to_string(random.seed);
    sets.back().inputs = std::move(*inputs);
  }
  for (TestSet &set : sets) {
    auto ordered = orderInputs(signature, std::move(set.inputs));
    if (!ordered)
      return ordered.takeError();
    set.inputs = std::move(*ordered);
  }
  return sets;
}

void moec::addLevelFlag(CLI::App &command, int &level) {
  command.add_option("-O", level, "optimisation level: 0, 1 or 2; 0 raises no MoE layers")
      ->capture_default_str()
      ->check(CLI::IsMember({0, 1, 2}));
}

void moec::addSemanticsFlag(CLI::App &command, std::string &semantics) {
  command
      .add_option("--moe-semantics", semantics,
                  "of com.microsoft.MoE and QMoE nodes: schema, or ort-cpu or ort-cuda, where the "
                  "kernels of ONNX Runtime differ from it")
      ->capture_default_str()
      ->check(CLI::IsMember({"schema", "ort-cpu", "ort-cuda"}));
}

void moec::addExecutionFlags(CLI::App &command, OpenOptions &options) {
  addLevelFlag(command, options.optimisation);
  addSemanticsFlag(command, options.moeSemantics);
  command.add_option("--threads", options.threads, "threads (0: all cores)")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
}

void moec::addProgressFlag(CLI::App &command, ProgressMode &mode) {
  std::map<std::string, ProgressMode> modes{{"auto", ProgressMode::automatic},
                                            {"plain", ProgressMode::plain},
                                            {"json", ProgressMode::json},
                                            {"none", ProgressMode::none}};
  command.add_option("--progress", mode,
                     "stages on stderr: auto (only on a terminal), plain, json, none")
      ->transform(CLI::CheckedTransformer(modes).description(""));
}

void moec::addFormatFlag(CLI::App &command, bool &json) {
  command
      .add_option_function<std::string>(
          "--format", [&json](const std::string &format) { json = format == "json"; },
          "text or json")
      ->check(CLI::IsMember({"text", "json"}));
}

// The project's Python and scripts stand at fixed places beside build/bin.
llvm::Expected<std::string> moec::runScript(llvm::StringRef script,
                                            llvm::ArrayRef<std::string> arguments) {
  static int anchor;
  llvm::SmallString<256> root(llvm::sys::fs::getMainExecutable("moec", &anchor));
  llvm::sys::path::remove_filename(root);
  llvm::sys::path::append(root, "..", "..");
  std::string file = (root + "/utils/" + script).str();
  std::string python = (root + "/.venv/bin/python").str();
  if (!llvm::sys::fs::exists(python)) {
    auto system = llvm::sys::findProgramByName("python3");
    if (!system)
      return fail(Exit::resource, "Python is not installed");
    python = *system;
  }
  auto folder = TemporaryFolder::create();
  if (!folder)
    return folder.takeError();
  std::string out = folder->file("out"), err = folder->file("err");
  std::vector<llvm::StringRef> words{python, file};
  words.insert(words.end(), arguments.begin(), arguments.end());
  int code = llvm::sys::ExecuteAndWait(python, words, std::nullopt,
                                       {llvm::StringRef(""), llvm::StringRef(out), llvm::StringRef(err)});
  auto text = llvm::MemoryBuffer::getFile(code == 0 ? out : err);
  llvm::StringRef content = text ? (*text)->getBuffer() : llvm::StringRef();
  if (code == 0)
    return content.str();
  return fail(Exit::resource, content.rtrim().rsplit('\n').second.empty()
                                  ? content.rtrim()
                                  : content.rtrim().rsplit('\n').second);
}

int moec::runCommandLine(int argc, char **argv) {
  CLI::App app{"moec compiles Mixture-of-Experts models from ONNX to shared libraries, ahead of "
               "time.", "moec"};
  app.set_version_flag("--version", MOEC_VERSION);
  app.require_subcommand(1);
  app.footer("Example:\n  moec compile model.onnx -o model.so\n\n"
             "Exit codes: 0 done, 1 wrong input, 2 wrong usage, 3 unsupported, 4 verification "
             "mismatch,\n5 resource or file error, 70 internal error.");
  Action action;
  addCompileCommand(app, action);
  addExportCommand(app, action);
  addRunCommand(app, action);
  addVerifyCommand(app, action);
  addInspectCommand(app, action);
  addLintCommand(app, action);
  addBenchCommand(app, action);
  addGenerateCommand(app, action);
  addPerplexityCommand(app, action);
  addProfileCommand(app, action);
  addCompressCommand(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    if (error.get_exit_code() == 0)
      return app.exit(error);
    std::string text = error.what();
    std::replace(text.begin(), text.end(), '\n', ' ');
    llvm::errs() << "moec: " << text << " (see moec --help)\n";
    return int(Exit::usage);
  }
  try {
    return report(action());
  } catch (const std::bad_alloc &) {
    return report(fail(Exit::resource, "out of memory"));
  } catch (const std::exception &error) {
    return report(fail(Exit::internal, llvm::Twine("internal error: ") + error.what()));
  }
}
