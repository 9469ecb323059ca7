// How well a smaller model does, and how far it is from its original. Internal to Driver.
#pragma once

#include "Agreement.h"
#include "Datasets.h"

namespace moec {

/// A sum and what it is a mean over.
struct Mean {
  double sum = 0, count = 0;
  double value() const; // NaN when there is nothing
};

/// One way to judge a model by its outputs. There are three: `perplexity` of texts; `kl`, the
/// divergence of the softmax of the outputs' last dimension from the original's; `error`, the sum
/// of squares of the outputs' difference from the original's over that of the original's.
class Measure {
public:
  virtual ~Measure() = default;
  virtual llvm::StringLiteral name() const = 0;  // of --measure, and in the keys of the JSON
  virtual llvm::StringLiteral title() const = 0; // "perplexity", "relative error"
  virtual llvm::StringLiteral unit() const = 0;  // of the loss, behind a number: " nats a token"
  virtual llvm::StringLiteral summary() const = 0; // a sentence or two on what it says
  /// Whether the original's outputs are needed; its own value is 0 then.
  virtual bool needsOriginal() const { return true; }
  virtual bool needsTargets() const { return false; }
  /// Whether the outputs are read as logits.
  virtual bool readsLogits() const { return false; }

  /// The loss that is minimised. Losses of data add up, and so do, nearly, those of small changes.
  virtual Mean loss(const Loss &sums) const = 0;
  /// The distance from the original; of sums against it.
  virtual Mean distance(const Loss &sums) const { return loss(sums); }
  /// What people read: a monotone function of the loss.
  virtual double shown(double loss) const { return loss; }
  double value(const Loss &sums) const { return shown(loss(sums).value()); }
  /// A value as text, of a fixed number of digits behind the point where that makes sense.
  virtual std::string text(double value, int digits = 3) const;

  /// Turns a row of the original's output into what `compare` reads; false when its numbers are
  /// none that can be compared with.
  virtual bool prepare(llvm::MutableArrayRef<float> row) const = 0;
  /// Adds the sums against the original.
  virtual void compare(Loss &sums, llvm::ArrayRef<float> row,
                       llvm::ArrayRef<float> prepared) const = 0;

  /// Further numbers on a result, of the same sums.
  virtual std::vector<Agreement> agreements(const Loss &sums) const = 0;
};

/// Null when there is none of that name.
const Measure *findMeasure(llvm::StringRef name);
std::vector<std::string> measureNames();

/// Rows of one output as f32: the last dimension each, of a scalar one of one.
struct OutputRows {
  std::string name;
  int64_t length = 1; // of a row
  std::vector<float> values;
  int64_t rows() const { return int64_t(values.size()) / length; }
  void thin(int64_t step); // every step-th row stays
};

/// What the original gives, prepared to be compared with: kept in memory as far as `bytes` reach,
/// and run again for what is beyond.
class Original {
public:
  /// `executor` is not owned and outlives this.
  Original(Executor &executor, const Measure &measure, uint64_t bytes = uint64_t(256) << 20)
      : executor(executor), measure(measure), left(bytes) {}
  /// Of run `index` of a dataset, always the same one; valid until the next call. An error names
  /// run and output when they are not finite.
  llvm::Expected<const std::vector<OutputRows> *> on(const DataRun &run, int64_t index);

private:
  Executor &executor;
  const Measure &measure;
  uint64_t left;
  std::map<int64_t, std::vector<OutputRows>> kept;
  std::vector<OutputRows> current;
};

/// Runs a model over data: likelihoods where the runs have targets (all 0 where the outputs are no
/// logits of them and the measure does not need them), and with an original the sums of
/// `measure` against it. Sums are infinite where the model's outputs are not finite. Errors name
/// the run. `preLogitRank`: of the output that tapPreLogits adds; NaN where the model has none, or
/// one of more than 8192 features.
llvm::Expected<Quality> scoreModel(Executor &model, const Dataset &data, const Measure &measure,
                                   Original *original = nullptr, double *preLogitRank = nullptr);

/// Prepares a run's outputs of the original; the error names run and output.
llvm::Error prepareOutputs(const Measure &measure, const DataRun &run,
                           std::vector<OutputRows> &outputs);

/// Adds the sums against a run's prepared outputs of the original. An output of another shape is
/// unsupported.
llvm::Error compareOutputs(Loss &sums, const Measure &measure,
                           llvm::ArrayRef<OutputRows> outputs, llvm::ArrayRef<OutputRows> original);

/// Runs a model; an error names the run. `preLogits`: gets the output that tapPreLogits adds.
llvm::Expected<std::vector<OutputRows>> outputsOf(Executor &model, const DataRun &run,
                                                  double *seconds = nullptr,
                                                  OutputRows *preLogits = nullptr);

} // namespace moec
