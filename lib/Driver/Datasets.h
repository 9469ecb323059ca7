// Data that a model is profiled on: texts as token ids, cut into windows, or arrays for its inputs.
// Internal to Driver.
#pragma once

#include "moec/Driver/Executor.h"

#include <optional>

namespace moec {

struct DataOptions {
  int64_t window = 256;  // tokens of a sequence of a text
  int64_t windows = 0;   // of each text, at most; 0: all
  int64_t tokens = 1024; // of a run, about: so many windows go in at once
  std::string label;     // of all data; empty: the name of a text's file, or of the arrays' folder
};

/// The inputs of one run, in the signature's order.
struct DataRun {
  std::string label, name;          // name: for errors
  int64_t sequences = 1, first = 0; // how many, and the number of the first among the label's
  std::vector<Tensor> inputs;
};

class Dataset {
public:
  Dataset() = default;
  Dataset(Dataset &&) = default;
  /// Each of `paths` is a folder of <label>.npy files of token ids (one dimension, integers), such
  /// a file, a folder in ONNX's test layout, or NAME=FILE.npy, an array for the input NAME; all
  /// arrays make one run. Errors: one line that names the file; empty data, and a text that is
  /// shorter than a window, are errors.
  static llvm::Expected<Dataset> open(llvm::ArrayRef<std::string> paths,
                                      const DataOptions &options);

  /// Prepares runs of a model: texts need a graph with an input of token ids. Called once, first.
  llvm::Error bind(Executor &executor);
  int64_t runs() const { return int64_t(plan.size()); }
  std::vector<std::string> labels() const; // sorted, unique
  llvm::Expected<DataRun> run(int64_t index) const;

private:
  struct Text {
    std::string label, file;
    std::vector<int64_t> ids;
    int64_t windows = 0;
  };
  struct Part {
    const Text *text; // null: arrays
    int64_t first, count,
        sequence; // windows, or the number of a set; sequences; the first's number
  };
  llvm::Error addText(llvm::StringRef file, const DataOptions &options);
  Dataset(const Dataset &) = delete; // the plan points to the texts

  DataOptions options;
  std::vector<Text> texts;
  std::vector<TestSet> sets;
  std::string setLabel;
  std::vector<Part> plan;
  Executor *executor = nullptr;
};

} // namespace moec
