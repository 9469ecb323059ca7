#include "moec/Driver/Progress.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

#include <sys/resource.h>

using namespace moec;

uint64_t moec::peakMemory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return uint64_t(usage.ru_maxrss) * 1024;
}

Progress::Progress(ProgressMode mode, int stages) : mode(mode), total(stages) {
  if (mode == ProgressMode::automatic)
    this->mode = llvm::sys::Process::StandardErrIsDisplayed() ? ProgressMode::plain
                                                              : ProgressMode::none;
}

Progress::Progress(Progress &parent, int stages)
    : mode(ProgressMode::none), total(stages), parent(&parent) {}

Progress::~Progress() {
  if (open && mode == ProgressMode::plain)
    llvm::errs() << "  failed\n";
}

void Progress::begin(const llvm::Twine &name) {
  end();
  current = {name.str(), "", 0, 0};
  start = std::chrono::steady_clock::now();
  open = true;
  stepped = false;
  if (mode == ProgressMode::plain)
    llvm::errs() << heading();
  if (parent)
    parent->step(int64_t(done.size()) + 1, total, current.name);
}

std::string Progress::heading() const {
  return llvm::formatv("[{0}/{1}] {2,-16}", done.size() + 1, total, current.name);
}

void Progress::step(int64_t n, int64_t of, const llvm::Twine &what) {
  if (!open || mode != ProgressMode::plain || !llvm::sys::Process::StandardErrIsDisplayed())
    return;
  std::string text = what.str();
  text = llvm::formatv("{0}  {1} of {2}{3}{4}", heading(), n, of, text.empty() ? "" : ": ", text);
  if (unsigned columns = llvm::sys::Process::StandardErrColumns(); columns && text.size() >= columns)
    text.resize(columns - 1); // a longer line could not be written over
  llvm::errs() << "\r" << text << "\033[K";
  stepped = true;
}

void Progress::end(const llvm::Twine &note) {
  if (!open)
    return;
  open = false;
  current.note = note.str();
  current.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  current.peakBytes = peakMemory();
  if (stepped)
    llvm::errs() << "\r\033[K" << heading();
  done.push_back(current);
  if (mode == ProgressMode::plain)
    llvm::errs() << llvm::formatv("{0,8:f2} s  peak {1,6} MiB  {2}\n", current.seconds,
                                  current.peakBytes >> 20, current.note);
  if (mode == ProgressMode::json)
    llvm::errs() << nlohmann::json{{"stage", done.size()}, {"of", total},
                                   {"name", current.name}, {"seconds", current.seconds},
                                   {"peak_bytes", current.peakBytes}, {"note", current.note}}
                        .dump()
                 << "\n";
}
