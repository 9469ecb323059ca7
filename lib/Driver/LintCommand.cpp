// moec lint
#include "Commands.h"
#include "Compile.h"
#include "Lint.h"

#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

using namespace moec;
using nlohmann::json;

namespace {

struct LintFlags {
  std::string model;
  InputFlags inputs;
  bool json = false, strict = false, noWeights = false;
};

const char *nameOf(Finding::Severity severity) {
  return severity == Finding::error     ? "error"
         : severity == Finding::warning ? "warning"
                                        : "note";
}

// A model that cannot be read or optimised: each line of the error is a finding.
Exit addErrors(llvm::Error error, const std::string &file, Findings &findings) {
  Exit code = Exit::input;
  std::string text;
  llvm::handleAllErrors(
      std::move(error), [&](const CommandError &e) { code = e.code, text = e.text; },
      [&](const llvm::ErrorInfoBase &e) { text = e.message(); });
  llvm::SmallVector<llvm::StringRef> lines;
  llvm::StringRef(text).split(lines, '\n', -1, /*KeepEmpty=*/false);
  for (llvm::StringRef line : lines) {
    line.consume_front(file + ": ");
    findings.push_back({Finding::error, code == Exit::unsupported ? "unsupported-operator" : "invalid",
                        {"", "", line.str()}});
  }
  return code;
}

void print(const LintFlags &flags, const Findings &findings) {
  size_t counts[3] = {};
  json list = json::array();
  for (const Finding &f : findings) {
    ++counts[f.severity];
    list.push_back({{"severity", nameOf(f.severity)}, {"check", f.check}, {"node", f.message.node},
                    {"op", f.message.op}, {"text", f.message.text}});
    if (!flags.json)
      llvm::outs() << nameOf(f.severity) << ": " << f.message.line("") << " [" << f.check << "]\n";
  }
  if (flags.json)
    llvm::outs() << json{{"model", flags.model}, {"findings", list}, {"errors", counts[0]},
                         {"warnings", counts[1]}, {"notes", counts[2]}}.dump(2)
                 << "\n";
  else
    llvm::outs() << flags.model << ": " << counts[0] << " errors, " << counts[1] << " warnings, "
                 << counts[2] << " notes\n";
}

// Finds what can be found; a step that fails ends the search with its error as a finding.
Exit collect(const LintFlags &flags, InputFlags &inputs, Findings &findings) {
  Progress quiet(ProgressMode::none, 0);
  auto model = loadModel(flags.model, "", quiet);
  if (!model)
    return addErrors(model.takeError(), flags.model, findings);
  if (llvm::Error error = optimiseModel(**model, 2, quiet))
    return addErrors(std::move(error), flags.model, findings);
  lintGraph(**model, findings);
  if (!flags.noWeights)
    if (llvm::Error error = lintWeights(**model, findings))
      return addErrors(std::move(error), flags.model, findings);
  auto isError = [](const Finding &f) { return f.severity == Finding::error; };
  if (llvm::any_of(findings, isError))
    return Exit::unsupported;
  if (inputs.data.empty() && inputs.files.empty())
    return Exit::ok;
  auto signature = (*model)->signature();
  if (!signature)
    return addErrors(signature.takeError(), flags.model, findings);
  auto sets = inputs.load(*signature);
  if (!sets)
    return addErrors(sets.takeError(), flags.model, findings);
  if (llvm::Error error = lintRouting(**model, *sets, findings))
    return addErrors(std::move(error), flags.model, findings);
  return Exit::ok;
}

llvm::Error lint(LintFlags &flags) {
  Findings findings;
  Exit code = collect(flags, flags.inputs, findings);
  std::stable_sort(findings.begin(), findings.end(),
                   [](const Finding &a, const Finding &b) { return a.severity < b.severity; });
  print(flags, findings);
  auto count = [&](Finding::Severity s) {
    return llvm::count_if(findings, [&](const Finding &f) { return f.severity == s; });
  };
  if (code != Exit::ok)
    return fail(code, flags.model + ": cannot be compiled, see the errors");
  if (flags.strict && count(Finding::warning))
    return fail(Exit::input, flags.model + ": has warnings");
  return llvm::Error::success();
}

} // namespace

void moec::addLintCommand(CLI::App &app, Action &action) {
  CLI::App *command = addCommand(
      app, "lint", "Lists everything doubtful about a model: missing, tied and unused experts, "
                   "near ties, numbers that are not finite, unsupported operators.",
      "moec lint examples/moe-lm/prefill.onnx --data examples/moe-lm/testdata/prefill");
  auto flags = std::make_shared<LintFlags>();
  command->add_option("model", flags->model, "model.onnx or IR (.mlir)")->required();
  flags->inputs.addTo(*command);
  command->add_flag("--strict", flags->strict, "exit code 1 when there is a warning");
  command->add_flag("--no-weights", flags->noWeights, "do not read the weights");
  addFormatFlag(*command, flags->json);
  command->callback([flags, &action] { action = [flags] { return lint(*flags); }; });
}
