// moec bench
#include "Commands.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/Host.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>

using namespace moec;
using nlohmann::json;

namespace {

struct BenchFlags {
  std::string model, ortModel;
  InputFlags inputs;
  OpenOptions open;
  int warmUp = 3, reps = 20;
  bool json = false, noOrt = false;
};

struct Times {
  std::vector<double> milliseconds;
  double quantile(double q) const {
    std::vector<double> sorted = milliseconds;
    std::sort(sorted.begin(), sorted.end());
    size_t rank = size_t(std::ceil(q * double(sorted.size())));
    return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
  }
  double mean() const {
    return std::accumulate(milliseconds.begin(), milliseconds.end(), 0.0) /
           double(milliseconds.size());
  }
};

json toJson(const Times &times, int64_t tokens) {
  json j{{"p50_ms", times.quantile(0.5)}, {"p90_ms", times.quantile(0.9)},
         {"p99_ms", times.quantile(0.99)}, {"mean_ms", times.mean()},
         {"min_ms", times.quantile(0)}, {"reps", times.milliseconds.size()}};
  if (tokens)
    j["tokens_per_second"] = double(tokens) / times.quantile(0.5) * 1e3;
  return j;
}

// Token ids are the integer input of shape [batch, sequence].
int64_t countTokens(const std::vector<Tensor> &inputs) {
  for (const Tensor &t : inputs)
    if ((t.type == DType::i64 || t.type == DType::i32) && t.shape.size() == 2)
      return t.count();
  return 0;
}

llvm::Expected<Times> measure(Executor &executor, const std::vector<Tensor> &inputs,
                              const BenchFlags &flags) {
  Times times;
  for (int i = 0; i < flags.warmUp + flags.reps; ++i) {
    auto start = std::chrono::steady_clock::now();
    auto outputs = executor.run(inputs);
    auto stop = std::chrono::steady_clock::now();
    if (!outputs)
      return outputs.takeError();
    if (i >= flags.warmUp)
      times.milliseconds.push_back(
          std::chrono::duration<double, std::milli>(stop - start).count());
  }
  return times;
}

// The same file, inputs and number of threads in ONNX Runtime.
llvm::Expected<Times> measureOrt(const BenchFlags &flags, const std::vector<Tensor> &inputs,
                                 json &report) {
  auto folder = TemporaryFolder::create();
  if (!folder)
    return folder.takeError();
  for (auto [i, input] : llvm::enumerate(inputs))
    if (llvm::Error error = writeNpy(folder->file("input_" + llvm::Twine(i) + ".npy"), input))
      return error;
  auto out = runScript("run_ort.py", {flags.ortModel, folder->folder(), "--bench",
                                      std::to_string(flags.reps), "--warm-up",
                                      std::to_string(flags.warmUp), "--threads",
                                      std::to_string(flags.open.threads)});
  if (!out)
    return out.takeError();
  json parsed = json::parse(*out, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("milliseconds"))
    return fail(Exit::resource, "unexpected answer");
  report["onnxruntime_version"] = parsed["version"];
  return Times{parsed["milliseconds"].get<std::vector<double>>()};
}

void printRow(llvm::StringRef name, const Times &times, int64_t tokens) {
  llvm::outs() << llvm::formatv("{0,-14}{1,9:f3}{2,9:f3}{3,9:f3}", name, times.quantile(0.5),
                                times.quantile(0.9), times.quantile(0.99));
  if (tokens)
    llvm::outs() << llvm::formatv("{0,12:f1}", double(tokens) / times.quantile(0.5) * 1e3);
  llvm::outs() << "\n";
}

llvm::Error bench(BenchFlags &flags) {
  if (flags.open.threads == 0)
    flags.open.threads = int(std::max(1u, std::thread::hardware_concurrency()));
  auto executor = openModel(flags.model, flags.open);
  if (!executor)
    return executor.takeError();
  auto sets = flags.inputs.load((*executor)->signature());
  if (!sets)
    return sets.takeError();
  const std::vector<Tensor> &inputs = sets->front().inputs;
  auto times = measure(**executor, inputs, flags);
  if (!times)
    return times.takeError();
  int64_t tokens = countTokens(inputs);
  json report{{"model", flags.model}, {"threads", flags.open.threads}, {"tokens", tokens},
              {"moec_version", MOEC_VERSION}, {"cpu", llvm::sys::getHostCPUName().str()},
              {"moec", toJson(*times, tokens)}};
  if (!flags.json) {
    llvm::outs() << "milliseconds       p50      p90      p99" << (tokens ? "    tokens/s" : "")
                 << llvm::formatv("   ({0} runs, {1} threads)\n", flags.reps, flags.open.threads);
    printRow("moec", *times, tokens);
  }
  if (flags.ortModel.empty() && llvm::StringRef(flags.model).ends_with(".onnx"))
    flags.ortModel = flags.model;
  if (!flags.noOrt && !flags.ortModel.empty()) {
    auto ort = measureOrt(flags, inputs, report);
    if (ort) {
      double ratio = ort->quantile(0.5) / times->quantile(0.5);
      report["onnxruntime"] = toJson(*ort, tokens);
      report["speed_ratio"] = ratio;
      if (!flags.json) {
        printRow("onnxruntime", *ort, tokens);
        llvm::outs() << llvm::formatv("moec is {0:f2} times as fast\n", ratio);
      }
    } else {
      std::string why = llvm::toString(ort.takeError());
      report["onnxruntime"] = {{"unavailable", why}};
      if (!flags.json)
        llvm::outs() << "onnxruntime   not compared: " << why << "\n";
    }
  }
  if (flags.json)
    llvm::outs() << report.dump(2) << "\n";
  return llvm::Error::success();
}

} // namespace

void moec::addBenchCommand(CLI::App &app, Action &action) {
  CLI::App *command = addCommand(
      app, "bench", "Measures a model's time per run, beside ONNX Runtime's when it is installed.",
      "moec bench examples/moe-lm/prefill.onnx --dim batch=1 --dim sequence=64 --reps 20");
  auto flags = std::make_shared<BenchFlags>();
  command->add_option("model", flags->model, "model.onnx or compiled model.so")->required();
  command->add_option("--reps", flags->reps, "measured runs")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--warm-up", flags->warmUp, "runs before measuring")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  flags->inputs.addTo(*command);
  addExecutionFlags(*command, flags->open);
  command->add_flag("--no-onnxruntime", flags->noOrt, "do not compare");
  command->add_option("--onnx", flags->ortModel, "the .onnx file that ONNX Runtime runs");
  addFormatFlag(*command, flags->json);
  command->callback([flags, &action] { action = [flags] { return bench(*flags); }; });
}
