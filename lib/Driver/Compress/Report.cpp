#include "Report.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

using namespace moec;
using nlohmann::json;

// A measure's value of one label, or of all ("").
static double valueOf(const Measure &measure, const Quality &quality, llvm::StringRef label) {
  if (label.empty())
    return measure.value(quality.overall());
  auto it = quality.labels.find(label.str());
  return it == quality.labels.end() ? NAN : measure.value(it->second);
}

static double valueOf(const Measure &measure, const Baseline &baseline, llvm::StringRef label) {
  double sum = 0;
  for (const Compressor::Result &run : baseline.runs)
    sum += valueOf(measure, run.quality, label);
  return baseline.runs.empty() ? NAN : sum / double(baseline.runs.size());
}

double Baseline::value(llvm::StringRef label) const {
  return runs.empty() ? NAN : valueOf(*runs.front().quality.measure, *this, label);
}

std::vector<LayerShape> moec::layersAfter(const CompressReport &report, const Recipe &recipe,
                                          const Compressor::Result &result) {
  if (result.layers.size() == report.layers.size())
    return result.layers;
  std::vector<LayerShape> layers;
  for (auto [i, layer] : llvm::enumerate(report.layers))
    layers.push_back({i < recipe.keep.size() ? recipe.keep[i] : layer.experts, 0, {}});
  return layers;
}

bool moec::isNarrow(const CompressReport &report, const std::vector<LayerShape> &layers) {
  bool fewer = false;
  for (auto [before, after] : llvm::zip(report.layers, layers)) {
    if (after.experts < before.experts)
      return false;
    fewer |= after.neurons < before.neurons;
  }
  return fewer;
}

static std::vector<Agreement> agreementsOf(const CompressReport &report,
                                           const Compressor::Result &result,
                                           llvm::StringRef label) {
  const Measure &measure = *result.quality.measure;
  if (!label.empty()) {
    auto it = result.quality.labels.find(label.str());
    return measure.agreements(it == result.quality.labels.end() ? Loss() : it->second);
  }
  std::vector<Agreement> all = measure.agreements(result.quality.overall());
  all.push_back(layerAgreement(result.cosines));
  all.push_back(rankAgreement(result.preLogitRank, report.before.preLogitRank));
  return all;
}

std::vector<Agreement> moec::agreementsOf(const CompressReport &report, llvm::StringRef name,
                                          llvm::StringRef label) {
  if (name.empty())
    return ::agreementsOf(report, report.after, label);
  std::vector<std::vector<Agreement>> runs;
  for (const Baseline &baseline : report.baselines)
    for (const Compressor::Result &run : baseline.runs)
      if (baseline.name == name)
        runs.push_back(::agreementsOf(report, run, label));
  return meanAgreements(runs);
}

static json recipeToJson(const Recipe &recipe) {
  return {{"method", recipe.method}, {"keep", recipe.keep}, {"repair", nameOf(recipe.repair).str()},
          {"seed", recipe.seed},     {"labels", recipe.labels}};
}

static json searchToJson(const SearchResult &search, const Measure &measure) {
  json tried = json::array(), layers = json::array();
  for (const Candidate &candidate : search.tried) {
    json entry = recipeToJson(candidate.recipe);
    entry["step"] = candidate.step;
    entry[measure.name().str()] = measure.shown(candidate.loss());
    entry["weight_bytes"] = candidate.result.sizes.weights;
    tried.push_back(std::move(entry));
  }
  for (const Sensitivity &layer : search.sensitivities) {
    json points = json::array();
    for (auto [dropped, rise] : layer.rises)
      points.push_back({{"dropped", dropped}, {"rise", rise}});
    layers.push_back({{"layer", layer.layer}, {"points", points}});
  }
  json out{{"tried", tried}, {"sensitivity", layers}};
  if (!measure.needsOriginal())
    out[measure.name().str() + "_before"] = measure.shown(search.original);
  return out;
}

// The measure that was asked for, and perplexity where there are texts.
static std::vector<const Measure *> measuresOf(const CompressReport &report) {
  std::vector<const Measure *> measures{&report.measure()};
  if (!measures[0]->needsTargets() && report.before.quality.overall().nll > 0)
    measures.push_back(&perplexityMeasure());
  return measures;
}

// Before, after and the baselines, of one label or of all ("").
static void addValues(json &to, const CompressReport &report, llvm::StringRef label) {
  for (const Measure *measure : measuresOf(report)) {
    std::string name = measure->name().str();
    if (!measure->needsOriginal())
      to[name + "_before"] = valueOf(*measure, report.before.quality, label);
    to[name + "_after"] = valueOf(*measure, report.after.quality, label);
    for (const Baseline &baseline : report.baselines)
      to[name + "_" + baseline.name] = valueOf(*measure, baseline, label);
  }
  for (const Agreement &agreement : agreementsOf(report, "", label)) {
    to[agreement.key.str()] = agreement.value;
    if (!std::isnan(agreement.original))
      to[agreement.key.str() + "_before"] = agreement.original;
  }
  for (const Baseline &baseline : report.baselines)
    for (const Agreement &agreement : agreementsOf(report, baseline.name, label))
      if (!std::isnan(agreement.value)) // else it was not compared
        to[agreement.key.str() + "_" + baseline.name] = agreement.value;
}

static json layersToJson(const CompressReport &report) {
  json layers = json::array();
  std::vector<LayerShape> left = layersAfter(report, report.recipe, report.after);
  for (auto [i, before] : llvm::enumerate(report.layers)) {
    const LayerShape &after = left[i];
    json entry{{"layer", before.name},           {"experts_before", before.experts},
               {"experts_after", after.experts}, {"k", before.k},
               {"expert_bytes", before.slabBytes}};
    if (before.neurons > 0 && after.neurons > 0) {
      entry["neurons_before"] = before.neurons;
      entry["neurons_after"] = after.neurons;
    }
    if (!after.origin.empty())
      entry["origin"] = after.origin;
    if (i < report.after.cosines.size())
      entry["output_cosine"] = report.after.cosines[i];
    layers.push_back(std::move(entry));
  }
  return layers;
}

json moec::reportToJson(const CompressReport &report) {
  json labels = json::object();
  for (const auto &[label, loss] : report.before.quality.labels)
    addValues(labels[label], report, label);
  json out{{"model", report.model},
           {"output", report.output},
           {"output_bytes", report.outputBytes},
           {"recipe", recipeToJson(report.recipe)},
           {"measure", report.measure().name().str()},
           {"labels", labels},
           {"weight_bytes_before", report.before.sizes.weights},
           {"weight_bytes_after", report.after.sizes.weights},
           {"expert_bytes_before", report.before.sizes.experts},
           {"expert_bytes_after", report.after.sizes.experts},
           {report.unit + "_per_second_before", report.before.tokensPerSecond()},
           {report.unit + "_per_second_after", report.after.tokensPerSecond()},
           {"layers", layersToJson(report)},
           {"remarks", report.after.remarks}};
  addValues(out, report, "");
  if (report.search)
    out["search"] = searchToJson(*report.search, report.measure());
  json sweep = json::array();
  for (const auto &[recipe, result] : report.sweep) {
    json entry = recipeToJson(recipe);
    entry[report.measure().name().str()] = result.quality.value();
    entry["weight_bytes"] = result.sizes.weights;
    entry[report.unit + "_per_second"] = result.tokensPerSecond();
    sweep.push_back(std::move(entry));
  }
  out["sweep"] = sweep;
  return out;
}

// A line for each label and one for all, with a column for each result.
static void qualityTable(llvm::raw_ostream &os, const CompressReport &report,
                         const Measure &measure) {
  auto cell = [&](double value) { os << llvm::formatv("{0,11}", measure.text(value)); };
  auto row = [&](llvm::StringRef name, llvm::StringRef label) {
    os << llvm::formatv("{0,-14}", name);
    if (!measure.needsOriginal())
      cell(valueOf(measure, report.before.quality, label));
    cell(valueOf(measure, report.after.quality, label));
    for (const Baseline &baseline : report.baselines)
      cell(valueOf(measure, baseline, label));
    os << "\n";
  };
  os << llvm::formatv("\n{0,-14}", measure.title());
  if (!measure.needsOriginal())
    os << llvm::formatv("{0,11}", "before");
  os << llvm::formatv("{0,11}", "after");
  for (const Baseline &baseline : report.baselines)
    os << llvm::formatv("{0,11}", baseline.name);
  os << "\n";
  for (const auto &[label, loss] : report.before.quality.labels)
    row(label, label);
  row("all", "");
}

// What is left of each layer: experts, or their neurons when all experts stay.
static void layersLine(llvm::raw_ostream &os, const CompressReport &report) {
  std::vector<LayerShape> left = layersAfter(report, report.recipe, report.after);
  const bool narrow = isNarrow(report, left);
  os << (narrow ? "neurons  " : "experts  ");
  for (auto [before, after] : llvm::zip(report.layers, left))
    os << llvm::formatv(" {0}/{1}", narrow ? after.neurons : after.experts,
                        narrow ? before.neurons : before.experts);
  os << (narrow ? " a layer; all experts stay\n" : " a layer\n");
}

// What is known of the result, and of a random choice.
static void agreementLines(llvm::raw_ostream &os, const CompressReport &report) {
  std::vector<Agreement> random = agreementsOf(report, "random");
  for (auto [i, agreement] : llvm::enumerate(agreementsOf(report, ""))) {
    if (std::isnan(agreement.value))
      continue;
    os << agreement.title << ": ";
    if (!std::isnan(agreement.original))
      os << Agreement::text(agreement.original) << " -> ";
    os << agreement.text();
    if (i < random.size() && !std::isnan(random[i].value))
      os << " (random " << random[i].text() << ")";
    os << "\n";
  }
}

std::string moec::reportText(const CompressReport &report) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "method " << report.recipe.method << ", repair " << nameOf(report.recipe.repair) << "\n";
  for (const Measure *measure : measuresOf(report))
    qualityTable(os, report, *measure);
  const Sizes &before = report.before.sizes, &after = report.after.sizes;
  const bool small = before.weights < 10 * 1048576; // in KiB
  auto size = [&](uint64_t bytes) {
    return llvm::formatv("{0:f1}", double(bytes) / (small ? 1024 : 1048576)).str();
  };
  const char *unit = small ? "KiB" : "MiB";
  os << llvm::formatv("\nweights   {0} -> {1} {2} ({3:f1} %), experts {4} -> {5} {2}\n",
                      size(before.weights), size(after.weights), unit,
                      100.0 * double(after.weights) / double(before.weights), size(before.experts),
                      size(after.experts));
  layersLine(os, report);
  agreementLines(os, report);
  if (!report.output.empty())
    os << llvm::formatv("written   {0} ({1} {2})\n", report.output, size(report.outputBytes), unit);
  return text;
}
