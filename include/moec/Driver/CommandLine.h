// The command line of moec.
#pragma once

#include <string>

namespace moec {

/// Runs one sub-command and returns its exit code (moec/Driver/Error.h). Failures are printed to
/// stderr, one line each.
int runCommandLine(int argc, char **argv);

/// While it lives, a crash of the process (a failed assertion, an invalid access) writes the command
/// line and the stack to a reproducer file, says where it is in one line, and ends the process with
/// exit code 70. Create one, first of all in main. It also lets a closed pipe end the process quietly,
/// and a mapped file that becomes shorter end it with a message and exit code 5.
class CrashReporter {
public:
  CrashReporter(int argc, char **argv);
  CrashReporter(const CrashReporter &) = delete;

private:
  static void onCrash(void *self);
  std::string script; // ready to be written: a crashed process should not allocate much
};

} // namespace moec
