// The two ways to run a model. Internal to Driver.
#pragma once

#include "moec/Driver/Executor.h"
#include "moec/Driver/Model.h"
#include "moec/Driver/Session.h"

namespace moec {

/// Interprets @main. An unsupported error lists everything that the interpreter cannot run.
llvm::Expected<std::unique_ptr<Executor>> interpret(std::unique_ptr<Model> model);

/// Loads a compiled library through libmoert. `threads`: 0 is all cores.
llvm::Expected<std::unique_ptr<Executor>> openLibrary(llvm::StringRef path, int threads);

/// Compiles `model` into a temporary folder that lives as long as the executor.
llvm::Expected<std::unique_ptr<Executor>> compileAndOpen(Model &model, const OpenOptions &options,
                                                         Progress &progress);

} // namespace moec
