#include "moec/Driver/Session.h"

#include "Compile.h"
#include "Executors.h"

#include "moec/Reference/Reference.h"

using namespace moec;

// The interpreter is the oracle of the passes too: at level 0 it gets the graph as it was imported,
// unless something in it has no meaning before the decompositions.
static bool canInterpretAsImported(const Model &model) {
  return reference::collectUnsupported(model.module()).empty();
}

static llvm::Expected<std::unique_ptr<Executor>>
withMask(llvm::Expected<std::unique_ptr<CompiledModel>> model, const OpenOptions &options) {
  if (!model)
    return model.takeError();
  if (!options.expertMask.empty())
    if (llvm::Error error = applyExpertMask(**model, options.expertMask))
      return error;
  return std::move(*model);
}

llvm::Expected<std::unique_ptr<Executor>> moec::openModel(llvm::StringRef path,
                                                          const OpenOptions &options) {
  if (options.reference && !options.expertMask.empty())
    return fail(Exit::usage, options.expertMask + ": the reference interpreter takes no settings "
                                                  "for routers: leave out --reference");
  if (path.ends_with(".so")) {
    if (options.reference)
      return fail(Exit::usage, path + ": the reference interpreter needs a .onnx or .mlir file");
    return withMask(openLibrary(path, options.threads), options);
  }
  Progress progress(options.progress, options.reference ? 2 : compileStages);
  auto model = loadModel(path, "", progress);
  if (!model)
    return model.takeError();
  // The interpreter gives nodes the meaning of their schema.
  bool asImported = options.reference && options.optimisation == 0 &&
                    options.moeSemantics == "schema" && canInterpretAsImported(**model);
  if (!asImported)
    if (llvm::Error error = optimiseModel(**model, options.optimisation, progress,
                                          options.moeSemantics))
      return error;
  if (options.exposeRouting)
    exposeRouting((*model)->module());
  if (options.reference)
    return interpret(std::move(*model));
  if (!options.expertMask.empty())
    if (llvm::Error error = addRoutingHooks(**model))
      return error;
  return withMask(compileAndOpen(**model, options, progress), options);
}
