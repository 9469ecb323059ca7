#include "CompressReport.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

using namespace moec;
using nlohmann::json;

static double perplexityOf(const Quality &quality, llvm::StringRef label) {
  if (label.empty())
    return quality.overall().perplexity();
  auto it = quality.labels.find(label.str());
  return it == quality.labels.end() ? 0 : it->second.perplexity();
}

double Baseline::perplexity(llvm::StringRef label) const {
  double sum = 0;
  for (const Compressor::Result &run : runs)
    sum += perplexityOf(run.quality, label);
  return runs.empty() ? 0 : sum / double(runs.size());
}

static json recipeToJson(const Recipe &recipe) {
  return {{"method", recipe.method}, {"keep", recipe.keep}, {"repair", nameOf(recipe.repair).str()},
          {"seed", recipe.seed},     {"labels", recipe.labels}};
}

static json searchToJson(const SearchResult &search) {
  json tried = json::array(), layers = json::array();
  for (const Candidate &candidate : search.tried) {
    json entry = recipeToJson(candidate.recipe);
    entry["step"] = candidate.step;
    entry["perplexity"] = std::exp(candidate.loss());
    entry["weight_bytes"] = candidate.result.sizes.weights;
    tried.push_back(std::move(entry));
  }
  for (const Sensitivity &layer : search.sensitivities) {
    json points = json::array();
    for (auto [dropped, rise] : layer.rises)
      points.push_back({{"dropped", dropped}, {"rise", rise}});
    layers.push_back({{"layer", layer.layer}, {"points", points}});
  }
  return {{"perplexity_before", std::exp(search.original)}, {"tried", tried},
          {"sensitivity", layers}};
}

json moec::reportToJson(const CompressReport &report) {
  json labels = json::object();
  for (const auto &[label, loss] : report.before.quality.labels) {
    json &entry = labels[label];
    entry["perplexity_before"] = loss.perplexity();
    entry["perplexity_after"] = perplexityOf(report.after.quality, label);
    for (const Baseline &baseline : report.baselines)
      entry["perplexity_" + baseline.name] = baseline.perplexity(label);
    entry["kl"] = report.after.quality.labels.at(label).meanKl();
  }
  json layers = json::array();
  for (auto [i, layer] : llvm::enumerate(report.layers))
    layers.push_back({{"layer", layer.name},
                      {"experts_before", layer.experts},
                      {"experts_after",
                       i < report.recipe.keep.size() ? report.recipe.keep[i] : layer.experts},
                      {"k", layer.k},
                      {"expert_bytes", layer.slabBytes}});
  json out{{"model", report.model},
           {"output", report.output},
           {"output_bytes", report.outputBytes},
           {"recipe", recipeToJson(report.recipe)},
           {"perplexity_before", perplexityOf(report.before.quality, "")},
           {"perplexity_after", perplexityOf(report.after.quality, "")},
           {"kl", report.after.quality.overall().meanKl()},
           {"labels", labels},
           {"weight_bytes_before", report.before.sizes.weights},
           {"weight_bytes_after", report.after.sizes.weights},
           {"expert_bytes_before", report.before.sizes.experts},
           {"expert_bytes_after", report.after.sizes.experts},
           {"tokens_per_second_before", report.before.tokensPerSecond()},
           {"tokens_per_second_after", report.after.tokensPerSecond()},
           {"layers", layers},
           {"remarks", report.after.remarks}};
  for (const Baseline &baseline : report.baselines)
    out["perplexity_" + baseline.name] = baseline.perplexity();
  if (report.search)
    out["search"] = searchToJson(*report.search);
  json sweep = json::array();
  for (const auto &[recipe, result] : report.sweep) {
    json entry = recipeToJson(recipe);
    entry["perplexity"] = perplexityOf(result.quality, "");
    entry["weight_bytes"] = result.sizes.weights;
    entry["tokens_per_second"] = result.tokensPerSecond();
    sweep.push_back(std::move(entry));
  }
  out["sweep"] = sweep;
  return out;
}

std::string moec::reportText(const CompressReport &report) {
  std::string text;
  llvm::raw_string_ostream os(text);
  auto row = [&](llvm::StringRef name, llvm::StringRef label) {
    os << llvm::formatv("{0,-12}{1,10:f3}{2,10:f3}", name,
                        perplexityOf(report.before.quality, label),
                        perplexityOf(report.after.quality, label));
    for (const Baseline &baseline : report.baselines)
      os << llvm::formatv("{0,11:f3}", baseline.perplexity(label));
    os << "\n";
  };
  os << "method " << report.recipe.method << ", repair " << nameOf(report.recipe.repair)
     << "\n\nperplexity      before     after";
  for (const Baseline &baseline : report.baselines)
    os << llvm::formatv("{0,11}", baseline.name);
  os << "\n";
  for (const auto &[label, loss] : report.before.quality.labels)
    row(label, label);
  row("all", "");
  double mib = 1048576;
  os << llvm::formatv("\nweights   {0:f1} -> {1:f1} MiB ({2:f1} %), experts {3:f1} -> {4:f1} MiB\n",
                      double(report.before.sizes.weights) / mib,
                      double(report.after.sizes.weights) / mib,
                      100.0 * double(report.after.sizes.weights) /
                          double(report.before.sizes.weights),
                      double(report.before.sizes.experts) / mib,
                      double(report.after.sizes.experts) / mib);
  const CompressMethod *method = findMethod(report.recipe.method);
  const bool narrow = method && method->family == CompressMethod::Family::narrow;
  os << (narrow ? "worth of " : "experts  ");
  for (auto [i, layer] : llvm::enumerate(report.layers))
    os << llvm::formatv(" {0}/{1}",
                        i < report.recipe.keep.size() ? report.recipe.keep[i] : layer.experts,
                        layer.experts);
  os << llvm::formatv("{0}\nKL        {1:f4} nats a token to the original\n",
                      narrow ? " experts a layer: all stay, with fewer neurons" : " a layer",
                      report.after.quality.overall().meanKl());
  if (!report.output.empty())
    os << llvm::formatv("written   {0} ({1:f1} MiB)\n", report.output,
                        double(report.outputBytes) / mib);
  return text;
}
