// moec inspect
#include "Commands.h"
#include "Compile.h"
#include "Layers.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

#include <algorithm>

using namespace moec;
using nlohmann::json;

namespace {

struct InspectFlags {
  std::string model;
  int optimisation = 2;
  std::string moeSemantics = "schema";
  bool json = false;
};

json valuesToJson(const std::vector<ValueInfo> &values) {
  json list = json::array();
  for (const ValueInfo &v : values)
    list.push_back({{"name", v.name}, {"type", nameOf(v.type).str()}, {"dims", v.dims}});
  return list;
}

void printJson(const InspectFlags &flags, const ModelInfo &info) {
  json report{{"model", flags.model},
              {"moe_layers", layersToJson(info)},
              {"not_raised", notRaisedToJson(info)},
              {"operators", info.operators},
              {"inputs", valuesToJson(info.signature.inputs)},
              {"outputs", valuesToJson(info.signature.outputs)},
              {"weights", info.weights},
              {"weight_bytes", info.weightBytes}};
  llvm::outs() << report.dump(2) << "\n";
}

std::string size(uint64_t bytes) {
  if (bytes < (1u << 20))
    return llvm::formatv("{0:f1} KiB", double(bytes) / 1024);
  return llvm::formatv("{0:f1} MiB", double(bytes) / 1048576);
}

std::string routerText(const LayerInfo &layer) {
  return layer.router ? layer.router->text : "every token (shared expert)";
}

std::string expertText(const LayerInfo &l) {
  if (l.body != "ffn")
    return "region";
  return l.activation + (l.gated ? ", gated" : "") + (l.biases ? ", biases" : "");
}

void printText(const InspectFlags &flags, const ModelInfo &info) {
  llvm::raw_ostream &os = llvm::outs();
  os << llvm::formatv("{0}: {1} MoE layers, {2} weights ({3})\n", flags.model, info.layers.size(),
                      info.weights, size(info.weightBytes));
  for (const ValueInfo &v : info.signature.inputs)
    os << "  input   " << describe(v) << "\n";
  for (const ValueInfo &v : info.signature.outputs)
    os << "  output  " << describe(v) << "\n";
  if (!info.layers.empty())
    os << llvm::formatv("\n  {0,-14}{1,8}{2,5}{3,8}{4,8}{5,12}  {6,-20}{7,-18}{8}\n", "layer",
                        "experts", "k", "hidden", "inter", "parameters", "expert", "pattern", "router");
  for (const LayerInfo &l : info.layers)
    os << llvm::formatv("  {0,-14}{1,8}{2,5}{3,8}{4,8}{5,12}  {6,-20}{7,-18}{8}\n", l.bank, l.experts,
                        l.k, l.hidden, l.inter, size(l.parameterBytes), expertText(l),
                        l.pattern.empty() ? "-" : l.pattern, routerText(l));
  if (!info.notRaised.empty())
    os << "\nnot raised:\n";
  for (const Message &m : info.notRaised)
    os << "  " << m.line("") << "\n";
  std::vector<std::pair<int64_t, std::string>> counts;
  for (const auto &[name, n] : info.operators)
    counts.emplace_back(-n, name);
  std::sort(counts.begin(), counts.end());
  os << "\noperators:";
  for (const auto &[n, name] : counts)
    os << " " << name << " " << -n << (&counts.back().second == &name ? "\n" : ",");
}

llvm::Error inspect(const InspectFlags &flags) {
  Progress progress(ProgressMode::none, 2);
  auto model = loadModel(flags.model, "", progress);
  if (!model)
    return model.takeError();
  if (llvm::Error error = optimiseModel(**model, flags.optimisation, progress,
                                        flags.moeSemantics))
    return error;
  auto info = describeModel(**model);
  if (!info)
    return info.takeError();
  flags.json ? printJson(flags, *info) : printText(flags, *info);
  return llvm::Error::success();
}

} // namespace

void moec::addInspectCommand(CLI::App &app, Action &action) {
  CLI::App *command = addCommand(
      app, "inspect", "Shows a model's MoE layers, what was not raised and why, and its operators.",
      "moec inspect examples/moe-lm/decode.onnx --format=json");
  auto flags = std::make_shared<InspectFlags>();
  command->add_option("model", flags->model, "model.onnx or IR (.mlir)")->required();
  addLevelFlag(*command, flags->optimisation);
  addSemanticsFlag(*command, flags->moeSemantics);
  addFormatFlag(*command, flags->json);
  command->callback([flags, &action] { action = [flags] { return inspect(*flags); }; });
}
