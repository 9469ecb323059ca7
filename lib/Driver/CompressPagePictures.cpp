// Quality against size, speed and tried recipes, for the page of `moec compress`.
#include "CompressPageCharts.h"
#include "CompressPageParts.h"

#include "moec/Analysis/Page.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <numeric>

using namespace moec;
using namespace moec::page;
using Result = Compressor::Result;

namespace {

/// Where a result stands in a picture.
using Place = double (*)(const Result &);

double memoryOf(const Result &result) { return double(result.sizes.weights) / 1048576; }
double speedOf(const Result &result) { return result.tokensPerSecond(); }

std::string title(llvm::StringRef name, const Result &result, double perplexity) {
  std::string text = llvm::formatv("{0}: perplexity {1}, {2} MiB", name, number(perplexity, 3),
                                   mib(result.sizes.weights));
  if (result.tokensPerSecond() > 0)
    text += ", " + number(result.tokensPerSecond(), 0) + " tokens/s";
  return text;
}

Mark mark(llvm::StringRef name, const Result &result, Place place, std::string label = "") {
  return {place(result), perplexity(result.quality),
          title(name, result, perplexity(result.quality)), std::move(label)};
}

std::string recipeText(const CompressReport &report, const Recipe &recipe) {
  std::string text = recipe.method;
  if (recipe.repair != Repair::none)
    text += ", repair " + nameOf(recipe.repair).str();
  llvm::SmallVector<int64_t> keep;
  for (size_t i = 0; i < report.layers.size(); ++i)
    keep.push_back(keptOf(report, recipe, i));
  return text + ", experts kept: " + keptText(keep);
}

/// The sweep's recipes of one method. Speeds are not joined: what they vary by is no trend.
Series swept(const CompressReport &report, llvm::StringRef method, Place place) {
  Series series{method.str() + " at other sizes",
                method == "random" ? "c-random" : "c-result",
                "dot",
                {},
                place == memoryOf};
  for (const auto &[recipe, result] : report.sweep)
    if (recipe.method == method)
      series.marks.push_back(mark(recipeText(report, recipe), result, place));
  return series;
}

Chart chartOf(const CompressReport &report, Place place, const char *axis, bool more) {
  Chart chart{axis, "perplexity", more, {}};
  const std::string &method = report.recipe.method;
  chart.series.push_back(swept(report, "random", place));
  if (method != "random")
    chart.series.push_back(swept(report, method, place));
  for (const Baseline &baseline : report.baselines) {
    const bool random = baseline.name == "random";
    Series series{baseline.name + ", same size", random ? "c-random" : "c-other", "square", {}};
    for (auto [seed, run] : llvm::enumerate(baseline.runs))
      series.marks.push_back(
          mark(baseline.name + (random ? " of seed " + std::to_string(seed) : ""), run, place));
    chart.series.push_back(std::move(series));
  }
  chart.series.push_back(
      {"original", "c-original", "diamond", {mark("original", report.before, place, "original")}});
  chart.series.push_back(
      {"result",
       "c-result",
       "diamond",
       {mark("result: " + recipeText(report, report.recipe), report.after, place, "result")}});
  return chart;
}

struct Step {
  const char *id, *name, *style;
};
constexpr Step kSteps[] = {{"sensitivity", "one layer only", "c-layer"},
                           {"method", "methods, equal budgets", "c-other"},
                           {"budgets", "budgets by sensitivity", "c-budgets"},
                           {"moves", "shifted budgets", "c-moves"},
                           {"repair", "repaired", "c-result"}};

/// A rise of the loss, in parts of a nat that people can read.
std::string nats(double rise) { return number(rise, rise < 0.01 ? 5 : 3) + " nats"; }

} // namespace

void page::pictures(llvm::raw_ostream &os, const CompressReport &report) {
  os << "<section><h2>Quality against size and speed</h2>\n<p>Lower is better; the best corner is "
        "below left for memory and below right for speed. On the evaluation texts.</p>\n"
        "<div class=\"row charts\"><div><h3>Memory</h3>\n";
  draw(os, chartOf(report, memoryOf, "weights, MiB", false));
  os << "</div><div><h3>Speed</h3>\n";
  if (report.before.tokensPerSecond() > 0)
    draw(os, chartOf(report, speedOf, "tokens a second", true));
  else
    os << "<p>Not measured.</p>";
  os << "</div></div></section>\n";
}

void page::searchPicture(llvm::raw_ostream &os, const CompressReport &report) {
  if (!report.search)
    return;
  const SearchResult &search = *report.search;
  Chart chart{"weights, MiB", "perplexity, search windows", false, {}};
  auto marksOf = [&](auto wanted) {
    std::vector<Mark> marks;
    for (const Candidate &tried : search.tried)
      if (wanted(tried.step))
        marks.push_back(
            {memoryOf(tried.result), std::exp(tried.loss()),
             title(recipeText(report, tried.recipe), tried.result, std::exp(tried.loss()))});
    return marks;
  };
  for (const Step &step : kSteps)
    chart.series.push_back({step.name, step.style, "dot",
                            marksOf([&](llvm::StringRef name) { return name == step.id; })});
  auto isOther = [](llvm::StringRef name) {
    return llvm::none_of(kSteps, [&](const Step &step) { return name == step.id; });
  };
  chart.series.push_back({"other tries", "c-other", "square", marksOf(isOther)});
  chart.series.push_back(
      {"original",
       "c-original",
       "diamond",
       {{memoryOf(report.before), std::exp(search.original),
         "original: perplexity " + number(std::exp(search.original), 3), "original"}}});
  if (!search.best.recipe.method.empty())
    chart.series.push_back({"chosen",
                            "c-result",
                            "ring",
                            {{memoryOf(search.best.result), std::exp(search.best.loss()),
                              title("chosen: " + recipeText(report, search.best.recipe),
                                    search.best.result, std::exp(search.best.loss()))}}});
  os << "<section><h2>What the search tried</h2>\n<p>Every recipe that was measured, on windows of "
        "the calibration texts after those of the profile: not the scale of the pictures above.";
  if (!search.best.recipe.labels.empty())
    os << " Labels weigh " << escapeMarkup(search.best.recipe.labels) << ".";
  os << "</p>\n<div class=\"one\">";
  draw(os, chart);
  os << "</div></section>\n";
}

void page::sensitivities(llvm::raw_ostream &os, const CompressReport &report) {
  if (!report.search || report.search->sensitivities.empty())
    return;
  std::vector<Bar> bars;
  for (const Sensitivity &layer : report.search->sensitivities) {
    Bar bar{layer.layer, layer.layer};
    for (auto [dropped, rise] : layer.rises)
      bar.title += llvm::formatv("; {0} experts fewer: +{1}", dropped, nats(rise));
    if (!layer.rises.empty()) {
      bar.all = layer.rises.back().second;
      bar.part = layer.rises.size() > 1 ? layer.rises.front().second : 0;
    }
    bars.push_back(std::move(bar));
  }
  os << "<section><h2>Sensitivity of layers</h2>\n<p>How far the loss rises, in nats a token, when "
        "experts of this layer alone go: as many as an equal budget takes (light), and half of "
        "them "
        "(dark).</p>\n";
  drawBars(os, bars, "rise of the loss, nats a token");
  os << "</section>\n";
}
