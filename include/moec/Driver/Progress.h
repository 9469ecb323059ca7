// Numbered stages of a long command on stderr, with time and peak memory.
#pragma once

#include "llvm/ADT/Twine.h"

#include <chrono>
#include <string>
#include <vector>

namespace moec {

enum class ProgressMode { automatic, plain, json, none };

class Progress {
public:
  struct Stage {
    std::string name, note;
    double seconds = 0;
    uint64_t peakBytes = 0; // of the process so far
  };

  /// `automatic` is plain when stderr is a terminal and silent otherwise.
  Progress(ProgressMode mode, int stages);
  /// Of a part of `parent`'s current stage: its stages are shown as steps of that one.
  Progress(Progress &parent, int stages);
  /// A stage that is still open has failed: its line is ended.
  ~Progress();

  /// Ends the stage before, if any, and starts one.
  void begin(const llvm::Twine &name);
  /// Ends the current stage; `note` says what it found or made.
  void end(const llvm::Twine &note = "");

  /// Shows, on a terminal only, that step `n` of `of` of the current stage has begun.
  void step(int64_t n, int64_t of, const llvm::Twine &what = "");

  const std::vector<Stage> &stages() const { return done; }

private:
  std::string heading() const;
  ProgressMode mode;
  int total;
  Progress *parent = nullptr;
  bool stepped = false; // the line shows a step
  bool open = false;
  std::chrono::steady_clock::time_point start;
  Stage current;
  std::vector<Stage> done;
};

/// Largest resident memory of this process so far, in bytes.
uint64_t peakMemory();

} // namespace moec
