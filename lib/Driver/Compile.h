// From a model in memory to a library: the stages that every command shares. Internal to Driver.
#pragma once

#include "moec/Codegen/Host/Host.h"
#include "moec/Driver/Model.h"
#include "moec/Driver/Progress.h"

namespace moec {

struct CompileOptions {
  int optimisation = 2;          // 0 raises nothing
  std::string moeSemantics = "schema"; // of com.microsoft.MoE and QMoE
  std::vector<std::string> isas; // of the kernels; empty: all that are known
  std::string cpu;               // of the host program; empty: any with AVX2, "native": this one
};

/// Number of stages that loadModel, optimiseModel and buildLibrary report together.
inline constexpr int compileStages = 5;

struct CompileReport {
  std::string weightsPath; // the .moew file
  uint64_t libraryBytes = 0, weightBytes = 0;
  Program program;
};

/// The first stage: Model::load. `folder` overrides where weight files are looked for.
llvm::Expected<std::unique_ptr<Model>> loadModel(llvm::StringRef path, llvm::StringRef folder,
                                                 Progress &progress);

/// The second stage: Model::optimise.
llvm::Error optimiseModel(Model &model, int level, Progress &progress,
                          llvm::StringRef semantics = "schema");

/// Part of the second stage: the pass insert-logit-hooks.
llvm::Error addRoutingHooks(Model &model);

/// The third stage: refuses everything that is unsupported at once, then lowers @main.
llvm::Expected<host::HostResult> lowerModel(Model &model, const CompileOptions &options,
                                            bool emitObject, Progress &progress);

/// Stages three to five: lowers, compiles kernels, packs weights and links `output` (.so; its .moew
/// goes beside it).
llvm::Expected<CompileReport> buildLibrary(Model &model, llvm::StringRef output,
                                           const CompileOptions &options, Progress &progress);

/// One "unsupported" error that lists all of `ops`, a line each; success when there are none.
llvm::Error refuse(const Model &model,
                   llvm::ArrayRef<std::pair<mlir::Operation *, std::string>> ops);

/// Adds to an internal error the path of a file with the model's IR.
llvm::Error withReproducer(llvm::Error error, const Model &model);

/// Adds the expert ids of each MoE layer to the outputs of @main, as moec.routing.<bank>.
void exposeRouting(mlir::ModuleOp module);

} // namespace moec
