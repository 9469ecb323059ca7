// moec compile
#include "Commands.h"
#include "Compile.h"
#include "Layers.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/X86TargetParser.h"

#include <nlohmann/json.hpp>

using namespace moec;
using nlohmann::json;
namespace path = llvm::sys::path;

namespace {

enum class Emit { onnx, moe, kernels, llvm, object, library };

struct CompileFlags {
  std::string model, output, report, folder;
  Emit emit = Emit::library;
  ProgressMode progress = ProgressMode::automatic;
  CompileOptions options;
  bool json = false, routingHooks = false;
};

bool isText(Emit emit) { return emit != Emit::object && emit != Emit::library; }

llvm::Error chooseOutput(CompileFlags &flags) {
  if (flags.output.empty() && isText(flags.emit))
    flags.output = "-";
  else if (flags.output.empty())
    flags.output = (path::stem(flags.model) + (flags.emit == Emit::object ? ".o" : ".so")).str();
  if (flags.output == "-" && !isText(flags.emit))
    return fail(Exit::usage, "-o - is for text only");
  if (flags.output == "-" && flags.json)
    return fail(Exit::usage, "--format=json needs -o FILE: both would be written to stdout");
  if (flags.emit == Emit::library && path::extension(flags.output) != ".so")
    return fail(Exit::usage, "-o " + flags.output + ": a library's name ends in .so");
  if (flags.output != "-" && llvm::sys::fs::equivalent(flags.output, flags.model))
    return fail(Exit::usage, "-o " + flags.output + ": would overwrite the model");
  llvm::StringRef parent = path::parent_path(flags.output);
  if (!parent.empty() && !llvm::sys::fs::is_directory(parent))
    return fail(Exit::resource, flags.output + ": cannot write: there is no folder " + parent);
  const std::string &cpu = flags.options.cpu;
  if (!cpu.empty() && cpu != "native" &&
      llvm::X86::parseArchX86(cpu, /*Only64Bit=*/true) == llvm::X86::CK_None)
    return fail(Exit::usage, "--cpu=" + cpu + ": not an x86-64 CPU that LLVM knows");
  return llvm::Error::success();
}

std::string printModule(const Model &model) {
  std::string text;
  llvm::raw_string_ostream os(text);
  mlir::OpPrintingFlags flags;
  flags.enableDebugInfo(true, /*prettyForm=*/false);
  model.module()->print(os, flags);
  os << "\n";
  return text;
}

json makeReport(const CompileFlags &flags, const Model &model, const ModelInfo &info,
                const CompileReport &built, const Progress &progress) {
  json kernels = json::array(), stages = json::array(), remarks = json::array();
  for (const std::string &spec : built.program.kernels)
    kernels.push_back(spec);
  for (const Progress::Stage &s : progress.stages())
    stages.push_back({{"name", s.name}, {"seconds", s.seconds}, {"peak_bytes", s.peakBytes},
                      {"note", s.note}});
  for (const Message &m : model.remarks())
    remarks.push_back({{"node", m.node}, {"op", m.op}, {"text", m.text}});
  return {{"model", flags.model},
          {"library", flags.output},
          {"library_bytes", built.libraryBytes},
          {"weights_file", built.weightsPath},
          {"weight_bytes", built.weightBytes},
          {"weights", built.program.weights.size()},
          {"moec_version", MOEC_VERSION},
          {"optimisation", flags.options.optimisation},
          {"moe_layers", layersToJson(info)},
          {"not_raised", notRaisedToJson(info)},
          {"remarks", remarks},
          {"kernels", kernels},
          {"stages", stages},
          {"peak_bytes", peakMemory()}};
}

// Everything that is not a library: the pipeline stopped early.
llvm::Error emitPart(const CompileFlags &flags, Model &model, Progress &progress) {
  if (flags.emit == Emit::moe)
    return writeFile(flags.output, printModule(model));
  auto host = lowerModel(model, flags.options, flags.emit == Emit::object, progress);
  if (!host)
    return host.takeError();
  std::string text;
  llvm::raw_string_ostream os(text);
  if (flags.emit == Emit::kernels)
    for (const std::string &spec : host->program.kernels)
      os << spec << "\n";
  else if (flags.emit == Emit::llvm)
    host->module->print(os, nullptr);
  else
    os << llvm::StringRef(host->object.data(), host->object.size());
  return writeFile(flags.output, text);
}

int stagesOf(Emit emit) {
  return emit == Emit::onnx ? 1 : emit == Emit::moe ? 2 : emit == Emit::library ? compileStages : 3;
}

llvm::Error compile(CompileFlags &flags) {
  if (llvm::Error error = chooseOutput(flags))
    return error;
  Progress progress(flags.progress, stagesOf(flags.emit));
  auto model = loadModel(flags.model, flags.folder, progress);
  if (!model)
    return model.takeError();
  if (flags.emit == Emit::onnx)
    return writeFile(flags.output, printModule(**model));
  if (llvm::Error error = optimiseModel(**model, flags.options.optimisation, progress,
                                        flags.options.moeSemantics))
    return error;
  if (flags.routingHooks)
    if (llvm::Error error = addRoutingHooks(**model))
      return error;
  if (flags.emit != Emit::library)
    return emitPart(flags, **model, progress);
  auto info = describeModel(**model);
  if (!info)
    return info.takeError();
  auto built = buildLibrary(**model, flags.output, flags.options, progress);
  if (!built)
    return built.takeError();
  json report = makeReport(flags, **model, *info, *built, progress);
  if (flags.json)
    llvm::outs() << report.dump(2) << "\n";
  else
    llvm::outs() << llvm::formatv("{0}: {1} MoE layers{2}; {3:f1} MiB of weights in {4}\n",
                                  flags.output, info->layers.size(),
                                  info->notRaised.empty()
                                      ? ""
                                      : llvm::formatv(" ({0} not raised: moec inspect says why)",
                                                      info->notRaised.size())
                                            .str(),
                                  double(built->weightBytes) / 1048576, built->weightsPath);
  if (!flags.report.empty())
    return writeFile(flags.report, report.dump(2) + "\n");
  return llvm::Error::success();
}

void addFlags(CLI::App &command, CompileFlags &flags) {
  command.add_option("model", flags.model, "model.onnx or IR (.mlir)")->required();
  command.add_option("-o,--output", flags.output,
                     "the library; its weights go beside it with the extension .moew (default: the "
                     "model's name in the current folder)");
  addLevelFlag(command, flags.options.optimisation);
  addSemanticsFlag(command, flags.options.moeSemantics);
  std::map<std::string, Emit> emits{{"onnx", Emit::onnx}, {"moe", Emit::moe},
                                    {"kernels", Emit::kernels}, {"llvm", Emit::llvm},
                                    {"obj", Emit::object}, {"lib", Emit::library}};
  command.add_option("--emit", flags.emit, "stop after a stage: onnx, moe, kernels, llvm, obj, lib")
      ->transform(CLI::CheckedTransformer(emits).description(""));
  addProgressFlag(command, flags.progress);
  command.add_option("--report", flags.report, "write a report as JSON: layers, remarks, kernels, "
                                               "bytes, stages");
  command.add_flag("--routing-hooks", flags.routingHooks,
                   "let sessions mask experts and change the logits of routers (moert.h)");
  addFormatFlag(command, flags.json);
  command.add_option("--isa", flags.options.isas, "instruction sets of the kernels, comma-separated: "
                                                  "avx2, avx512 (default: both)")
      ->delimiter(',')
      ->check(CLI::IsMember({"avx2", "avx512"}));
  command.add_option("--cpu", flags.options.cpu,
                     "CPU of the host program, as LLVM names it, or native (default: x86-64-v3)");
  command.add_option("--weights", flags.folder,
                     "folder of the weight files, when they are not beside the model")
      ->check(CLI::ExistingDirectory);
}

} // namespace

void moec::addCompileCommand(CLI::App &app, Action &action) {
  CLI::App *command = addCommand(app, "compile", "Compiles a model to a shared library.",
                                 "moec compile examples/moe-lm/decode.onnx -o decode.so "
                                 "--progress=plain");
  auto flags = std::make_shared<CompileFlags>();
  addFlags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return compile(*flags); }; });
}
