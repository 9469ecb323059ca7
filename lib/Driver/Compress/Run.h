// The options of `moec compress`, and what runs by them. Internal to Driver.
#pragma once

#include "Report.h"
#include "../Files.h"

namespace moec {

struct CompressFlags {
  std::string model, output, method = "auto", memory, work, page, repair = "auto", labels, budgets;
  std::string measure = "auto";
  std::string compare; // methods, or "all"; empty: one result instead
  std::vector<std::string> data, eval, outputs, dims;
  double prune = 0;
  CompressSetup setup;
  int64_t window = 256, windows = 64, evalWindows = 0, searchWindows = 8, rows = 0;
  int moves = 16, randomSeeds = 3;
  uint64_t seed = 0;
  bool json = false;
  ProgressMode progress = ProgressMode::automatic;
};

/// Checks the flags, reads the data and fills `setup`. Without --work its folder is a temporary one.
llvm::Error prepareCompress(CompressFlags &flags, std::optional<TemporaryFolder> &temporary);

/// Everything that the command does, once the command line has been read.
llvm::Error runCompress(CompressFlags &flags);

} // namespace moec
