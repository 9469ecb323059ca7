// The two ways to run a model. Internal to Driver.
#pragma once

#include "moec/Driver/Executor.h"
#include "moec/Driver/Model.h"
#include "moec/Driver/Session.h"

struct moert_session;
struct moert_hook_info;

namespace moec {

/// A library that has been loaded.
class CompiledModel : public Executor {
public:
  /// Of libmoert, for what only compiled code can do; it lives as long as this.
  virtual moert_session *handle() = 0;
  /// A layer whose routing can be changed; null when there are no more.
  virtual const moert_hook_info *hook(size_t index) const = 0;
};

/// Interprets @main. An unsupported error lists everything that the interpreter cannot run.
llvm::Expected<std::unique_ptr<Executor>> interpret(std::unique_ptr<Model> model);

/// Loads a compiled library through libmoert. `threads`: 0 is all cores.
llvm::Expected<std::unique_ptr<CompiledModel>> openLibrary(llvm::StringRef path, int threads);

/// Compiles `model` into a temporary folder that lives as long as the executor.
llvm::Expected<std::unique_ptr<CompiledModel>>
compileAndOpen(Model &model, const OpenOptions &options, Progress &progress);

/// Applies a file of settings for routers to later runs. Errors name the file.
llvm::Error applyExpertMask(CompiledModel &model, llvm::StringRef path);

} // namespace moec
