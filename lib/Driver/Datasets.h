// Data that a model is run on: texts as token ids, cut into windows, or arrays for its inputs.
// Internal to Driver.
#pragma once

#include "moec/Driver/Executor.h"
#include "moec/Driver/TextGenerator.h"

#include <optional>

namespace moec {

/// What data files hold. Datasets share it.
struct DataFiles {
  struct Text {
    std::string label, file;
    std::vector<int64_t> ids;
  };
  std::vector<Text> texts;
  std::vector<TestSet> sets; // arrays of one run each, all of them of one label
  std::string setLabel;
  std::string key; // tells contents apart

  /// Each of `paths` is a folder of <label>.npy files of token ids (one dimension, integers), such
  /// a file, a folder in ONNX's test layout, or NAME=FILE.npy, an array for the input NAME; all
  /// arrays make one run. `label`: of all data; empty: the name of a text's file, "data" of arrays.
  /// `rows`: arrays are cut into runs of so many of the first axis (0: they are not); what is left
  /// over is a run too. Errors: one line that names the file; no data is an error.
  static llvm::Expected<std::shared_ptr<const DataFiles>> read(llvm::ArrayRef<std::string> paths,
                                                               llvm::StringRef label = "",
                                                               int64_t rows = 0);
};

/// Token ids of a .npy file: one dimension, integers.
llvm::Expected<std::vector<int64_t>> readTokens(llvm::StringRef path);

struct DataOptions {
  int64_t window = 256;  // tokens of a sequence of a text
  int64_t windows = 0;   // of each text, at most; 0: all
  int64_t first = 0;     // windows of each text to skip
  int64_t tokens = 1024; // of a run, about: so many windows go in at once
  bool targets = false;  // each window is followed by one more token: what it predicts last
  int64_t sets = 0, firstSet = 0;   // runs of arrays: at most (0: all), and how many to skip
  std::vector<std::string> outputs; // DataRun::outputs by name; empty: see there
  std::map<std::string, int64_t> sizes; // of symbols of a text model's caches
};

/// The inputs of one run, in the signature's order.
struct DataRun {
  std::string label, name;          // name: for errors
  int64_t sequences = 1, first = 0; // how many, and the number of the first among the label's
  int64_t tokens = 0;               // of a text; 0: arrays
  std::vector<Tensor> inputs;
  std::vector<int64_t> targets; // with DataOptions::targets, of a text: the token after each one
  /// The outputs that say what the model makes of the inputs: the logits of a text, all floats of
  /// arrays.
  std::vector<size_t> outputs;
};

class Dataset {
public:
  Dataset() = default;
  Dataset(Dataset &&) = default;
  Dataset &operator=(Dataset &&) = default;
  /// A text that is shorter than a window is an error.
  static llvm::Expected<Dataset> over(std::shared_ptr<const DataFiles> files, DataOptions options);
  /// Of DataFiles::read.
  static llvm::Expected<Dataset> open(llvm::ArrayRef<std::string> paths, const DataOptions &options,
                                      llvm::StringRef label = "", int64_t rows = 0);

  /// Prepares runs of a model: texts need a graph with an input of token ids, arrays its inputs by
  /// name, type and shape. Called first; another model may follow.
  llvm::Error bind(const Signature &signature);
  int64_t runs() const { return int64_t(plan.size()); }
  std::vector<std::string> labels() const; // sorted, unique
  llvm::Expected<DataRun> run(int64_t index) const;
  /// The number of a run's text; -1: it is of arrays.
  int64_t part(int64_t run) const { return plan[size_t(run)].text; }
  /// The first of DataRun::outputs, of any run; the model has no such output when it gives no floats.
  size_t firstOutput() const {
    return text ? text->logitsOutput() : setOutputs.empty() ? SIZE_MAX : setOutputs.front();
  }
  /// Runs that the longest text has, or the arrays.
  int64_t longest() const;
  /// "tokens" or, of arrays, "sequences".
  llvm::StringRef unit() const { return files->texts.empty() ? "sequences" : "tokens"; }
  /// Tells contents and ranges apart.
  std::string key() const;

private:
  struct Part {
    int64_t text; // -1: arrays
    int64_t first, count,
        sequence; // windows, or the number of a set; sequences; the first's number
  };
  Dataset(const Dataset &) = delete;
  int64_t windowsOf(const DataFiles::Text &text) const; // may be below 1
  llvm::Error planTexts();
  llvm::Error planSets();
  llvm::Error chooseOutputs();
  llvm::Expected<std::vector<Tensor>> arrays(const TestSet &set) const;

  std::shared_ptr<const DataFiles> files;
  DataOptions options;
  std::vector<Part> plan;
  std::unique_ptr<Executor> shape; // has the model's signature and cannot run
  std::optional<TextModel> text;
  std::vector<size_t> setOutputs;
};

} // namespace moec
