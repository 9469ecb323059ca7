// The command line of moec.
#pragma once

#include <string>

namespace moec {

/// Runs one sub-command and returns its exit code (moec/Driver/Error.h). Failures are printed to
/// stderr, one line each.
int runCommandLine(int argc, char **argv);

/// While it lives, a crash of the process (a failed assertion, an invalid access) writes the command
/// line to a reproducer file, says where it is, and ends the process with exit code 70. Create one,
/// in main, after llvm::InitLLVM.
class CrashReporter {
public:
  CrashReporter(int argc, char **argv);
  CrashReporter(const CrashReporter &) = delete;

private:
  static void onCrash(void *self);
  std::string script; // ready to be written: a crashed process should not allocate much
};

} // namespace moec
