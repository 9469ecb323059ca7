// The command line of moec.
#pragma once

namespace moec {

/// Runs one sub-command and returns its exit code (moec/Driver/Error.h). Failures are printed to
/// stderr, one line each.
int runCommandLine(int argc, char **argv);

} // namespace moec
