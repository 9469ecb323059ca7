// The sub-commands of moec, one file each. Internal to Driver.
#pragma once

#include "Files.h"

#include "moec/Driver/Error.h"
#include "moec/Driver/Executor.h"
#include "moec/Driver/Session.h"

#include <CLI/CLI.hpp>

#include <functional>
#include <string>
#include <vector>

namespace moec {

/// What the chosen sub-command does once the command line has been read.
using Action = std::function<llvm::Error()>;

void addCompileCommand(CLI::App &app, Action &action);
void addExportCommand(CLI::App &app, Action &action);
void addRunCommand(CLI::App &app, Action &action);
void addVerifyCommand(CLI::App &app, Action &action);
void addInspectCommand(CLI::App &app, Action &action);
void addLintCommand(CLI::App &app, Action &action);
void addBenchCommand(CLI::App &app, Action &action);
void addGenerateCommand(CLI::App &app, Action &action);
void addPerplexityCommand(CLI::App &app, Action &action);
void addProfileCommand(CLI::App &app, Action &action);
void addCompressCommand(CLI::App &app, Action &action);

/// A sub-command with its example in --help.
CLI::App *addCommand(CLI::App &app, const std::string &name, const std::string &description,
                     const std::string &example);

/// What --dim says: sizes by the names of symbols.
llvm::Expected<std::map<std::string, int64_t>> readDims(llvm::ArrayRef<std::string> dims);
/// --dim of commands that run texts
void addDimFlag(CLI::App &command, std::vector<std::string> &dims);

/// Options that several commands share.
struct InputFlags {
  std::vector<std::string> files, dims;
  std::string data;
  InputOptions random;

  void addTo(CLI::App &command);
  /// The inputs the user chose; `sets` of a data folder come one by one, with expected outputs.
  llvm::Expected<std::vector<TestSet>> load(const Signature &signature);
};

/// -O
void addLevelFlag(CLI::App &command, int &level);
void addSemanticsFlag(CLI::App &command, std::string &semantics);
void addExecutionFlags(CLI::App &command, OpenOptions &options);

/// --progress
void addProgressFlag(CLI::App &command, ProgressMode &mode);

/// --format=text|json
void addFormatFlag(CLI::App &command, bool &json);

/// Runs one of the scripts in utils/ with the project's Python and returns its stdout. The error's
/// text is the last line of its stderr.
llvm::Expected<std::string> runScript(llvm::StringRef script, llvm::ArrayRef<std::string> arguments);

} // namespace moec
