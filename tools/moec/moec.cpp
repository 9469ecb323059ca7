// moec: the compiler's command line.
#include "moec/Driver/CommandLine.h"

int main(int argc, char **argv) {
  moec::CrashReporter reporter(argc, argv);
  return moec::runCommandLine(argc, argv);
}
