// What moec says when it is ended by a signal.
#include "moec/Driver/CommandLine.h"

#include "Files.h"
#include "moec/Driver/Error.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"

#include <csignal>
#include <unistd.h>

using namespace moec;

// A word as the shell reads it back.
static std::string quoted(llvm::StringRef word) {
  std::string text = "'";
  for (char c : word)
    text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

// The file whose mapping holds an address, by /proc/self/maps ("from-to mode offset device inode
// name").
static std::string mappedFile(uintptr_t address) {
  auto maps = llvm::MemoryBuffer::getFileAsStream("/proc/self/maps");
  llvm::StringRef rest = maps ? (*maps)->getBuffer() : llvm::StringRef();
  while (!rest.empty()) {
    auto [line, tail] = rest.split('\n');
    rest = tail;
    auto [from, more] = line.split('-');
    uintptr_t begin, end;
    if (from.getAsInteger(16, begin) || more.split(' ').first.getAsInteger(16, end))
      continue;
    size_t name = line.find('/');
    if (begin <= address && address < end && name != llvm::StringRef::npos)
      return line.substr(name).str();
  }
  return "a file";
}

// The handler that stood before, for other bus errors. A signal handler can know nothing else.
static struct sigaction beforeBusError;

// Reading a mapped page that its file has no more is a bus error: somebody changed our input. That
// is no crash of ours.
static void onBusError(int signal, siginfo_t *info, void *context) {
  if (info->si_code != BUS_ADRERR) {
    sigaction(SIGBUS, &beforeBusError, nullptr); // the access is repeated, and ends there
    return;
  }
  llvm::sys::RunInterruptHandlers(); // removes unfinished outputs
  llvm::errs() << "moec: " << mappedFile(reinterpret_cast<uintptr_t>(info->si_addr))
               << ": became shorter while it was read\n";
  llvm::errs().flush();
  _exit(int(Exit::resource));
}

CrashReporter::CrashReporter(int argc, char **argv) {
  llvm::sys::SetOneShotPipeSignalFunction(llvm::sys::DefaultOneShotPipeSignalHandler);
  llvm::SmallString<128> folder;
  llvm::sys::fs::current_path(folder);
  script = "#!/bin/sh\n# moec " MOEC_VERSION " crashed on this command\ncd " + quoted(folder) + " &&";
  for (int i = 0; i < argc; ++i)
    script += " " + quoted(argv[i]);
  script += "\n";
  llvm::sys::AddSignalHandler(onCrash, this);
  struct sigaction action = {};
  action.sa_sigaction = onBusError;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGBUS, &action, &beforeBusError);
}

void CrashReporter::onCrash(void *self) {
  std::string text = static_cast<CrashReporter *>(self)->script;
  llvm::raw_string_ostream os(text);
  os << ": <<'STACK'\n";
  llvm::sys::PrintStackTrace(os, /*Depth=*/64);
  os << "STACK\n";
  std::string path = writeReproducer("sh", text);
  llvm::errs() << "moec: internal error: crashed (reproducer: " << path << ")\n";
  llvm::errs().flush();
  _exit(int(Exit::internal));
}
