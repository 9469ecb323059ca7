// moec export
#include "Commands.h"
#include "Compile.h"

#include "moec/Driver/Model.h"
#include "moec/Export/Export.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

using namespace moec;
using nlohmann::json;
namespace path = llvm::sys::path;

namespace {

struct ExportFlags {
  std::string model, output, folder;
  std::string semantics = "schema";
  int level = 1;
  ExportOptions options;
  bool json = false;
};

llvm::Error checkOutput(const ExportFlags &flags) {
  if (path::extension(flags.output) != ".onnx")
    return fail(Exit::usage, "-o " + flags.output + ": an ONNX file's name ends in .onnx");
  if (llvm::sys::fs::equivalent(flags.output, flags.model))
    return fail(Exit::usage, "-o " + flags.output + ": would overwrite the model");
  llvm::StringRef parent = path::parent_path(flags.output);
  if (!parent.empty() && !llvm::sys::fs::is_directory(parent))
    return fail(Exit::resource, flags.output + ": cannot write: there is no folder " + parent);
  return llvm::Error::success();
}

// What export reports as an error of the model's, or of the system.
llvm::Error explain(llvm::Error error, Model &model) {
  return llvm::handleErrors(std::move(error), [&](const llvm::StringError &e) -> llvm::Error {
    if (e.convertToErrorCode() == std::errc::not_supported)
      return model.takeErrors(e.getMessage());
    bool input = e.convertToErrorCode() == llvm::inconvertibleErrorCode();
    return fail(input ? Exit::input : Exit::resource,
                (input ? model.path() + ": " : "") + e.getMessage());
  });
}

llvm::Error exportModel(ExportFlags &flags) {
  if (llvm::Error error = checkOutput(flags))
    return error;
  auto model = Model::load(flags.model, flags.folder);
  if (!model)
    return model.takeError();
  // Products of integers stay as they are: other programs have kernels for them.
  if (llvm::Error error =
          (*model)->optimise(flags.level, flags.semantics, /*decomposeQuantised=*/false))
    return error;
  flags.options.producerVersion = MOEC_VERSION;
  auto report = exportOnnx((*model)->module(), (*model)->folder(), flags.output, flags.options);
  if (!report)
    return explain(report.takeError(), **model);
  if (flags.json)
    llvm::outs() << json{{"model", flags.model},
                         {"output", flags.output},
                         {"opset", report->opset},
                         {"fused_layers", report->fusedLayers},
                         {"plain_layers", report->plainLayers},
                         {"model_bytes", report->modelBytes},
                         {"data_bytes", report->dataBytes},
                         {"data", report->dataPath}}
                        .dump(2)
                 << "\n";
  else
    llvm::outs() << llvm::formatv(
        "{0}: opset {1}, {2} MoE layers as MoE nodes, {3} as standard "
        "operators{4}\n",
        flags.output, report->opset, report->fusedLayers, report->plainLayers,
        report->dataPath.empty()
            ? ""
            : llvm::formatv("; {0:f1} MiB of weights in {1}", double(report->dataBytes) / 1048576,
                            report->dataPath)
                  .str());
  return llvm::Error::success();
}

} // namespace

void moec::addExportCommand(CLI::App &app, Action &action) {
  CLI::App *command = addCommand(app, "export", "Writes an optimised model back as ONNX.",
                                 "moec export examples/moe-lm/decode.onnx -o optimised.onnx");
  auto flags = std::make_shared<ExportFlags>();
  command->add_option("model", flags->model, "model.onnx or IR (.mlir)")->required();
  command
      ->add_option("-o,--output", flags->output,
                   "the ONNX file; large weights go beside it, with .data behind its name")
      ->required();
  addLevelFlag(*command, flags->level);
  addSemanticsFlag(*command, flags->semantics);
  using Fused = ExportOptions::Fused;
  std::map<std::string, Fused> kinds{
      {"auto", Fused::automatic}, {"equivalent", Fused::equivalent}, {"never", Fused::never}};
  command
      ->add_option(
          "--fused", flags->options.fused,
          "layers as com.microsoft.MoE nodes: auto (where nothing of a layer's description "
          "is lost), equivalent (where the values are the same), never")
      ->transform(CLI::CheckedTransformer(kinds).description(""));
  command->add_flag("--external-data", flags->options.externalData,
                    "weights in a file beside even when they are few");
  command
      ->add_option("--weights", flags->folder,
                   "folder of the weight files, when they are not beside the model")
      ->check(CLI::ExistingDirectory);
  addFormatFlag(*command, flags->json);
  command->callback([flags, &action] { action = [flags] { return exportModel(*flags); }; });
}
