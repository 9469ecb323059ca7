#include "Measure.h"

#include "PreLogits.h"

#include "moec/Driver/Error.h"
#include "moec/Transforms/Compress/EffectiveRank.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"

#include <chrono>
#include <cmath>

using namespace moec;
using llvm::ArrayRef;
using llvm::StringLiteral;

double Mean::value() const {
  if (count > 0)
    return sum / count;
  return sum > 0 ? INFINITY : NAN;
}

std::string Measure::text(double value, int) const {
  if (!std::isfinite(value))
    return "–";
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.4g", value);
  return text;
}

namespace {

double orInfinite(double value) { return std::isnan(value) ? INFINITY : value; }

class Divergence : public Measure {
public:
  StringLiteral name() const override { return "kl"; }
  StringLiteral title() const override { return "KL"; }
  StringLiteral unit() const override { return " nats"; }
  bool readsLogits() const override { return true; }
  StringLiteral summary() const override {
    return "KL: the divergence of the softmax of the outputs' rows from the original's, in nats, "
           "mean over the rows.";
  }
  Mean loss(const Loss &sums) const override { return {sums.kl, double(sums.klTokens)}; }

  // The original's logarithms of probabilities.
  bool prepare(llvm::MutableArrayRef<float> row) const override {
    double sum = logSum(row);
    for (float &v : row)
      v = float(v - sum);
    return std::isfinite(sum);
  }
  void compare(Loss &sums, ArrayRef<float> row, ArrayRef<float> prepared) const override {
    addPredictions(sums, row, prepared);
  }
  std::vector<Agreement> agreements(const Loss &sums) const override {
    return predictionAgreements(sums, /*kl=*/false);
  }
};

class Perplexity : public Divergence {
public:
  StringLiteral name() const override { return "perplexity"; }
  StringLiteral title() const override { return "perplexity"; }
  StringLiteral unit() const override { return " nats a token"; }
  StringLiteral summary() const override {
    return "Perplexity of texts; every position of a window counts. KL is the divergence of the "
           "predictions from the original's.";
  }
  bool needsOriginal() const override { return false; }
  bool needsTargets() const override { return true; }
  Mean loss(const Loss &sums) const override { return {sums.nll, double(sums.tokens)}; }
  Mean distance(const Loss &sums) const override { return Divergence::loss(sums); }
  double shown(double loss) const override { return std::exp(loss); }
  std::string text(double value, int digits) const override {
    if (!std::isfinite(value) || std::abs(value) >= 1e9)
      return Measure::text(value, digits);
    std::string text;
    llvm::raw_string_ostream(text) << llvm::format("%.*f", digits, value);
    return text;
  }
  std::vector<Agreement> agreements(const Loss &sums) const override {
    return predictionAgreements(sums, /*kl=*/true);
  }
};

class RelativeError : public Measure {
public:
  StringLiteral name() const override { return "error"; }
  StringLiteral title() const override { return "relative error"; }
  StringLiteral unit() const override { return ""; }
  StringLiteral summary() const override {
    return "Relative error: the sum of squares of the outputs' difference from the original's over "
           "the sum of squares of the original's.";
  }
  Mean loss(const Loss &sums) const override {
    if (sums.original == 0 && sums.difference == 0 && sums.tokens > 0)
      return {0, 1}; // all zeros, and they stay
    return {sums.difference, sums.original};
  }
  bool prepare(llvm::MutableArrayRef<float> row) const override {
    return llvm::all_of(row, [](float v) { return std::isfinite(v); });
  }
  void compare(Loss &sums, ArrayRef<float> row, ArrayRef<float> prepared) const override {
    for (size_t i = 0; i < row.size(); ++i) {
      double y = row[i], o = prepared[i];
      sums.difference += orInfinite((y - o) * (y - o));
      sums.original += o * o, sums.squares += y * y, sums.product += o * y;
    }
  }
  std::vector<Agreement> agreements(const Loss &sums) const override {
    return outputAgreements(sums);
  }
};

const Perplexity perplexity;
const Divergence divergence;
const RelativeError relativeError;
const Measure *const measures[] = {&perplexity, &divergence, &relativeError};

llvm::Error addLikelihoods(Loss &loss, const DataRun &run, const OutputRows &logits) {
  if (logits.rows() != int64_t(run.targets.size()))
    return fail(Exit::unsupported, run.name + ": unsupported graph: it gives logits of " +
                                       llvm::Twine(logits.rows()) + " of " +
                                       llvm::Twine(run.targets.size()) + " positions only");
  for (auto [i, target] : llvm::enumerate(run.targets)) {
    if (target < 0 || target >= logits.length)
      return fail(Exit::input, run.name + ": token " + llvm::Twine(target) + " is outside the " +
                                   llvm::Twine(logits.length) + " logits");
    auto row = ArrayRef(logits.values).slice(i * size_t(logits.length), size_t(logits.length));
    loss.nll += orInfinite(logSum(row) - row[size_t(target)]);
  }
  return llvm::Error::success();
}

} // namespace

const Measure &moec::perplexityMeasure() { return perplexity; }

const Measure *moec::findMeasure(llvm::StringRef name) {
  for (const Measure *measure : measures)
    if (measure->name() == name)
      return measure;
  return nullptr;
}

std::vector<std::string> moec::measureNames() {
  std::vector<std::string> names;
  for (const Measure *measure : measures)
    names.push_back(measure->name().str());
  return names;
}

static OutputRows rowsOf(const Tensor &t) {
  OutputRows rows;
  rows.name = t.name;
  rows.length = t.shape.empty() ? 1 : std::max<int64_t>(t.shape.back(), 1);
  if (t.type == DType::f32) {
    rows.values.assign(t.as<float>(), t.as<float>() + t.count());
    return rows;
  }
  for (int64_t k = 0, n = t.count(); k < n; ++k)
    rows.values.push_back(float(t.at(k)));
  return rows;
}

llvm::Expected<std::vector<OutputRows>> moec::outputsOf(Executor &model, const DataRun &run,
                                                        double *seconds, OutputRows *preLogits) {
  auto start = std::chrono::steady_clock::now();
  auto all = model.run(run.inputs);
  if (!all)
    return llvm::handleErrors(all.takeError(), [&](std::unique_ptr<CommandError> e) {
      e->text = run.name + ": " + e->text;
      return llvm::Error(std::move(e));
    });
  if (seconds)
    *seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::vector<OutputRows> outputs;
  for (size_t i : run.outputs)
    outputs.push_back(rowsOf((*all)[i]));
  if (preLogits && !all->empty() && all->back().name == preLogitsName)
    *preLogits = rowsOf(all->back());
  return outputs;
}

llvm::Error moec::prepareOutputs(const Measure &measure, const DataRun &run,
                                 std::vector<OutputRows> &outputs) {
  bool any = false;
  for (OutputRows &output : outputs) {
    size_t n = size_t(output.length);
    for (size_t at = 0; at < output.values.size(); at += n)
      if (!measure.prepare(llvm::MutableArrayRef(output.values).slice(at, n)))
        return fail(Exit::input, run.name + ": the model's output \"" + output.name +
                                     "\" holds numbers that are not finite");
    any |= !output.values.empty();
  }
  if (!any)
    return fail(Exit::input, run.name + ": the model gives no floats to compare");
  return llvm::Error::success();
}

llvm::Error moec::compareOutputs(Loss &sums, const Measure &measure,
                                 ArrayRef<OutputRows> outputs, ArrayRef<OutputRows> original) {
  for (auto [got, wanted] : llvm::zip(outputs, original)) {
    if (got.length != wanted.length || got.values.size() != wanted.values.size())
      return fail(Exit::unsupported, "unsupported: the output \"" + got.name +
                                         "\" changes its shape when experts go: choose others "
                                         "with --outputs");
    size_t n = size_t(got.length);
    for (size_t at = 0; at < got.values.size(); at += n)
      measure.compare(sums, ArrayRef(got.values).slice(at, n), ArrayRef(wanted.values).slice(at, n));
  }
  return llvm::Error::success();
}

void OutputRows::thin(int64_t step) {
  size_t n = size_t(length), to = 0;
  for (int64_t row = step - 1; row < rows(); row += step, to += n)
    std::copy_n(values.begin() + row * length, n, values.begin() + int64_t(to));
  values.resize(to);
}

llvm::Expected<const std::vector<OutputRows> *> Original::on(const DataRun &run, int64_t index) {
  if (auto it = kept.find(index); it != kept.end())
    return &it->second;
  auto outputs = outputsOf(executor, run);
  if (!outputs)
    return outputs.takeError();
  if (llvm::Error error = prepareOutputs(measure, run, *outputs))
    return error;
  uint64_t bytes = 0;
  for (const OutputRows &output : *outputs)
    bytes += output.values.size() * sizeof(float);
  current = std::move(*outputs);
  if (bytes > left)
    return &current;
  left -= bytes;
  return &(kept[index] = std::move(current));
}

llvm::Expected<Quality> moec::scoreModel(Executor &model, const Dataset &data,
                                         const Measure &measure, Original *original,
                                         double *preLogitRank) {
  constexpr int64_t mostFeatures = 8192;
  std::optional<EffectiveRank> rank;
  Quality quality;
  quality.measure = &measure;
  bool likelihoods = true; // the outputs may be no logits of tokens: classes, hidden states
  for (int64_t i = 0; i < data.runs(); ++i) {
    auto run = data.run(i);
    if (!run)
      return run.takeError();
    Loss &loss = quality.labels[run->label];
    OutputRows preLogits;
    auto outputs = outputsOf(model, *run, &loss.seconds, preLogitRank ? &preLogits : nullptr);
    if (!outputs)
      return outputs.takeError();
    if (!rank && !preLogits.values.empty() && preLogits.length <= mostFeatures)
      rank.emplace(preLogits.length);
    if (rank && preLogits.length == rank->length())
      rank->add(preLogits.values);
    if (!run->targets.empty() && likelihoods)
      if (llvm::Error error = addLikelihoods(loss, *run, outputs->front())) {
        if (measure.needsTargets())
          return error;
        llvm::consumeError(std::move(error));
        likelihoods = false;
      }
    if (original) {
      auto wanted = original->on(*run, i);
      if (!wanted)
        return wanted.takeError();
      if (llvm::Error error = compareOutputs(loss, measure, *outputs, **wanted))
        return error;
    }
    loss.windows += run->sequences;
    loss.tokens += run->tokens ? run->tokens : run->sequences;
  }
  for (auto &[label, loss] : quality.labels)
    loss.nll = likelihoods ? loss.nll : 0;
  if (preLogitRank)
    *preLogitRank = rank ? rank->value() : NAN;
  return quality;
}
