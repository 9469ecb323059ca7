// Opening a model for execution, whatever form it has.
#pragma once

#include "moec/Driver/Executor.h"
#include "moec/Driver/Progress.h"

namespace moec {

struct OpenOptions {
  bool reference = false;     // the interpreter instead of compiled code
  int optimisation = 2;       // 0 raises nothing
  std::string moeSemantics = "schema"; // of com.microsoft.MoE and QMoE nodes
  int threads = 0;            // 0: all cores
  bool exposeRouting = false; // adds each MoE layer's expert ids to the outputs
  std::string expertMask;     // a file of settings for routers (docs/commands.md); empty: none
  ProgressMode progress = ProgressMode::none;
};

/// Opens `path`: a compiled library (.so, its .moew beside it), a model (.onnx) or IR (.mlir). The
/// latter two are interpreted, or compiled into a temporary folder that lives as long as the
/// executor.
llvm::Expected<std::unique_ptr<Executor>> openModel(llvm::StringRef path,
                                                    const OpenOptions &options);

/// Prefix of the names of outputs that `exposeRouting` adds; the bank's name follows.
inline constexpr llvm::StringLiteral routingOutputPrefix = "moec.routing.";

} // namespace moec
