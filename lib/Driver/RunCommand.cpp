// moec run
#include "Commands.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

using namespace moec;

namespace {

struct RunFlags {
  std::string model, save;
  InputFlags inputs;
  OpenOptions open;
  int64_t elements = 32;
};

void printNested(llvm::raw_ostream &os, const Tensor &t, size_t axis, int64_t &index) {
  if (axis == t.shape.size()) {
    os << llvm::format("%.6g", t.at(index++));
    return;
  }
  os << "[";
  for (int64_t i = 0; i < t.shape[axis]; ++i) {
    os << (i ? ", " : "");
    printNested(os, t, axis + 1, index);
  }
  os << "]";
}

// Small tensors in full; of larger ones the range.
void print(llvm::raw_ostream &os, const Tensor &t, int64_t elements) {
  os << t.name << ": " << describe(t);
  if (t.count() <= elements) {
    int64_t index = 0;
    os << " = ";
    printNested(os, t, 0, index);
  } else {
    double low = INFINITY, high = -INFINITY, sum = 0;
    int64_t bad = 0;
    for (int64_t i = 0; i < t.count(); ++i) {
      double value = t.at(i);
      bad += !std::isfinite(value);
      low = std::min(low, value), high = std::max(high, value), sum += value;
    }
    os << llvm::format("  min %.6g  max %.6g  mean %.6g", low, high, sum / double(t.count()));
    if (bad)
      os << "  " << bad << " not finite";
  }
  os << "\n";
}

llvm::Error run(RunFlags &flags) {
  auto executor = openModel(flags.model, flags.open);
  if (!executor)
    return executor.takeError();
  auto sets = flags.inputs.load((*executor)->signature());
  if (!sets)
    return sets.takeError();
  if (!flags.save.empty())
    if (std::error_code error = llvm::sys::fs::create_directories(flags.save))
      return fail(Exit::resource, flags.save + ": cannot create: " + error.message());
  for (size_t i = 0; i < sets->size(); ++i) {
    if (sets->size() > 1)
      llvm::outs() << (*sets)[i].folder << ":\n";
    auto outputs = (*executor)->run((*sets)[i].inputs);
    if (!outputs)
      return outputs.takeError();
    for (size_t k = 0; k < outputs->size(); ++k) {
      print(llvm::outs(), (*outputs)[k], flags.elements);
      if (flags.save.empty())
        continue;
      std::string prefix = sets->size() > 1 ? llvm::formatv("set_{0}_", i).str() : "";
      if (auto error = writeNpy(llvm::formatv("{0}/{1}output_{2}.npy", flags.save, prefix, k).str(),
                                (*outputs)[k]))
        return error;
    }
  }
  return llvm::Error::success();
}

} // namespace

void moec::addRunCommand(CLI::App &app, Action &action) {
  CLI::App *command =
      addCommand(app, "run", "Runs a model once on given, stored or random inputs.",
                 "moec run examples/moe-lm/prefill.onnx --seed 1 --dim batch=1 --dim sequence=16");
  auto flags = std::make_shared<RunFlags>();
  command->add_option("model", flags->model, "model.onnx, compiled model.so, or IR (.mlir)")
      ->required();
  command->add_flag("--reference", flags->open.reference,
                    "use the reference interpreter (slow, exact) instead of compiled code");
  flags->inputs.addTo(*command);
  addExecutionFlags(*command, flags->open);
  command->add_option("--expert-mask", flags->open.expertMask,
                      "JSON file of experts that are masked, or of changes of the routers' logits");
  command->add_option("--save", flags->save, "folder for the outputs, as output_I.npy");
  command->add_option("--elements", flags->elements, "print tensors of at most this many elements in full")
      ->capture_default_str();
  command->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}
