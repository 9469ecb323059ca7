// moec verify
#include "Commands.h"
#include "Divergence.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

#include <optional>

using namespace moec;
using nlohmann::json;

namespace {

struct VerifyFlags {
  std::string model;
  InputFlags inputs;
  OpenOptions open;
  std::optional<double> atol, rtol;
  bool json = false, noOrt = false, noReference = false, noLocate = false;
};

// One comparison of all outputs of one set.
struct Check {
  std::string set, against; // "expected", "reference", "onnxruntime"
  std::string output;       // the first output that differs, or the one with the largest difference
  Difference difference;
  bool required = true; // a difference from ONNX Runtime is only news when there are expected values
};

struct Verification {
  VerifyFlags &flags;
  Tolerance tolerance;
  std::unique_ptr<Executor> compiled, reference;
  std::string ortError;
  std::vector<Check> checks;

  llvm::Error open();
  llvm::Error runSet(const TestSet &set);
  bool failed() const {
    return llvm::any_of(checks, [](const Check &c) { return c.required && !c.difference.equal; });
  }
  bool failedAgainst(llvm::StringRef what) const {
    return llvm::any_of(checks, [&](const Check &c) { return c.against == what && !c.difference.equal; });
  }
  void addCheck(const TestSet &set, llvm::StringRef against, const std::vector<Tensor> &got,
                const std::vector<Tensor> &want, bool required);
};

void Verification::addCheck(const TestSet &set, llvm::StringRef against,
                            const std::vector<Tensor> &got, const std::vector<Tensor> &want,
                            bool required) {
  Check check{set.folder, against.str(), "", {}, required};
  if (got.size() != want.size()) {
    check.difference.equal = false;
    check.difference.shapes =
        llvm::formatv("{0} outputs instead of {1}", got.size(), want.size());
  }
  for (size_t i = 0; i < std::min(got.size(), want.size()) && check.difference.equal; ++i) {
    Difference d = compare(got[i], want[i], tolerance);
    if (i == 0 || !d.equal || d.maxAbsolute > check.difference.maxAbsolute) {
      check.difference = d;
      check.output = got[i].name;
    }
  }
  checks.push_back(std::move(check));
}

llvm::Expected<std::vector<Tensor>> runOrt(const std::string &model,
                                           const std::vector<Tensor> &inputs,
                                           const Signature &signature) {
  auto in = TemporaryFolder::create();
  if (!in)
    return in.takeError();
  auto out = TemporaryFolder::create();
  if (!out)
    return out.takeError();
  for (auto [i, input] : llvm::enumerate(inputs)) {
    if (input.type == DType::bf16)
      return fail(Exit::unsupported, "bf16 inputs cannot be handed over");
    if (llvm::Error error = writeNpy(in->file("input_" + llvm::Twine(i) + ".npy"), input))
      return error;
  }
  auto text = runScript("run_ort.py", {model, in->folder(), out->folder()});
  if (!text)
    return text.takeError();
  std::vector<Tensor> outputs;
  for (auto [i, info] : llvm::enumerate(signature.outputs)) {
    auto tensor = readNpy(out->file("output_" + llvm::Twine(i) + ".npy"));
    if (!tensor)
      return tensor.takeError();
    tensor->name = info.name;
    outputs.push_back(std::move(*tensor));
  }
  return outputs;
}

llvm::Error Verification::open() {
  auto executor = openModel(flags.model, flags.open);
  if (!executor)
    return executor.takeError();
  compiled = std::move(*executor);
  if (flags.noReference || llvm::StringRef(flags.model).ends_with(".so"))
    return llvm::Error::success();
  OpenOptions options = flags.open;
  options.reference = true;
  options.optimisation = 0;
  auto interpreter = openModel(flags.model, options);
  if (!interpreter)
    return interpreter.takeError();
  reference = std::move(*interpreter);
  return llvm::Error::success();
}

llvm::Error Verification::runSet(const TestSet &set) {
  auto got = compiled->run(set.inputs);
  if (!got)
    return got.takeError();
  bool expected = !set.outputs.empty();
  if (expected) {
    std::vector<Tensor> want = set.outputs;
    for (size_t i = 0; i < std::min(want.size(), got->size()); ++i)
      if ((*got)[i].shape.empty() && want[i].count() == 1)
        want[i].shape.clear(); // exporters store scalars as tensors of one element
    addCheck(set, "expected", *got, want, true);
  }
  if (reference) {
    auto want = reference->run(set.inputs);
    if (!want)
      return want.takeError();
    addCheck(set, "reference", *got, *want, true);
  }
  if (flags.noOrt || !ortError.empty() || !llvm::StringRef(flags.model).ends_with(".onnx"))
    return llvm::Error::success();
  auto want = runOrt(flags.model, set.inputs, compiled->signature());
  if (want)
    addCheck(set, "onnxruntime", *got, *want, /*required=*/!expected && !reference);
  else
    ortError = llvm::toString(want.takeError());
  return llvm::Error::success();
}

// A folder in ONNX's test layout: the model, its sets, and tolerances in meta.json.
llvm::Error readLayout(VerifyFlags &flags, Tolerance &tolerance) {
  namespace path = llvm::sys::path;
  llvm::SmallString<128> folder(flags.model);
  bool isFolder = llvm::sys::fs::is_directory(flags.model);
  if (isFolder) {
    if (flags.inputs.data.empty() && flags.inputs.files.empty())
      flags.inputs.data = flags.model;
    flags.model = (folder + "/model.onnx").str();
  } else {
    path::remove_filename(folder);
  }
  path::append(folder, "meta.json");
  if (auto buffer = llvm::MemoryBuffer::getFile(folder)) {
    json meta = json::parse((*buffer)->getBuffer().str(), nullptr, /*allow_exceptions=*/false);
    if (meta.is_discarded())
      return fail(Exit::input, folder + ": not valid JSON");
    auto number = [&](const char *key, double &value) {
      if (meta.is_object() && meta.contains(key) && meta[key].is_number())
        value = meta[key];
    };
    number("atol", tolerance.absolute);
    number("rtol", tolerance.relative);
  }
  tolerance.absolute = flags.atol.value_or(tolerance.absolute);
  tolerance.relative = flags.rtol.value_or(tolerance.relative);
  if (isFolder && !llvm::sys::fs::exists(flags.model))
    return fail(Exit::input, flags.model + ": no such file");
  if (isFolder && findTestSets(flags.inputs.data).empty())
    flags.inputs.data.clear();
  return llvm::Error::success();
}

void printText(const Verification &v, const std::string &diverging) {
  for (const Check &check : v.checks)
    llvm::outs() << llvm::formatv("{0}  {1} against {2}: {3}{4}\n",
                                  check.difference.equal ? "ok  " : check.required ? "FAIL" : "note",
                                  llvm::sys::path::filename(check.set), check.against,
                                  check.output.empty() ? "" : check.output + ": ",
                                  describe(check.difference));
  if (!v.ortError.empty())
    llvm::outs() << "note  not compared with onnxruntime: " << v.ortError << "\n";
  if (!diverging.empty())
    llvm::outs() << "first diverging layer: " << diverging << "\n";
  llvm::outs() << v.flags.model << ": " << (v.failed() ? "mismatch" : "verified") << "\n";
}

void printJson(const Verification &v, const std::string &diverging) {
  json checks = json::array();
  for (const Check &c : v.checks) {
    json entry{{"set", c.set}, {"against", c.against}, {"output", c.output},
               {"equal", c.difference.equal}, {"required", c.required},
               {"max_abs_diff", c.difference.maxAbsolute},
               {"elements_outside", c.difference.outside}};
    if (!c.difference.equal)
      entry["detail"] = describe(c.difference);
    checks.push_back(std::move(entry));
  }
  json report{{"model", v.flags.model}, {"verified", !v.failed()}, {"atol", v.tolerance.absolute},
              {"rtol", v.tolerance.relative}, {"checks", checks}};
  if (!v.ortError.empty())
    report["onnxruntime_unavailable"] = v.ortError;
  if (!diverging.empty())
    report["first_diverging_layer"] = diverging;
  llvm::outs() << report.dump(2) << "\n";
}

llvm::Error verify(VerifyFlags &flags) {
  Verification v{flags, {}, nullptr, nullptr, "", {}};
  if (llvm::Error error = readLayout(flags, v.tolerance))
    return error;
  if (llvm::Error error = v.open())
    return error;
  auto sets = flags.inputs.load(v.compiled->signature());
  if (!sets)
    return sets.takeError();
  const TestSet *bad = nullptr; // the first on which compiled code and interpreter differ
  for (const TestSet &set : *sets) {
    if (llvm::Error error = v.runSet(set))
      return error;
    if (!bad && v.failedAgainst("reference"))
      bad = &set;
  }
  std::string diverging;
  if (v.failed() && !bad && v.reference)
    diverging = "none: compiled code and the reference interpreter agree";
  if (bad && !flags.noLocate) {
    auto layer = findDivergence(flags.model, flags.open, bad->inputs, v.tolerance);
    diverging = layer ? *layer : "not found: " + llvm::toString(layer.takeError());
  }
  flags.json ? printJson(v, diverging) : printText(v, diverging);
  if (v.failed())
    return fail(Exit::mismatch, flags.model + ": verification mismatch");
  return llvm::Error::success();
}

} // namespace

void moec::addVerifyCommand(CLI::App &app, Action &action) {
  CLI::App *command =
      addCommand(app, "verify",
                 "Compares compiled code with expected outputs, the reference interpreter and ONNX "
                 "Runtime.",
                 "moec verify examples/moe-lm/decode.onnx --data examples/moe-lm/testdata/decode");
  auto flags = std::make_shared<VerifyFlags>();
  command->add_option("model", flags->model,
                      "model.onnx, or a folder in ONNX test layout (model.onnx, test_data_set_*, "
                      "optional meta.json with atol and rtol)")
      ->required();
  flags->inputs.addTo(*command);
  addExecutionFlags(*command, flags->open);
  command->add_option("--atol", flags->atol, "absolute tolerance (default: meta.json's, or 1e-4)");
  command->add_option("--rtol", flags->rtol, "relative tolerance (default: meta.json's, or 1e-3)");
  command->add_flag("--no-reference", flags->noReference, "skip the reference interpreter");
  command->add_flag("--no-onnxruntime", flags->noOrt, "skip ONNX Runtime");
  command->add_flag("--no-locate", flags->noLocate, "do not look for the first diverging layer");
  addFormatFlag(*command, flags->json);
  command->callback([flags, &action] { action = [flags] { return verify(*flags); }; });
}
