// Quality against size, speed and tried recipes, for the page of `moec compress`.
#include "PageCharts.h"
#include "PageParts.h"

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

std::string title(const CompressReport &report, llvm::StringRef name, const Result &result,
                  double value) {
  const Measure &measure = report.measure();
  std::string text = llvm::formatv("{0}: {1} {2}, {3} MiB", name, measure.title(),
                                   measure.text(value), mib(result.sizes.weights));
  if (result.tokensPerSecond() > 0)
    text += ", " + number(result.tokensPerSecond(), 0) + " " + report.unit + "/s";
  return text;
}

Mark mark(const CompressReport &report, llvm::StringRef name, const Result &result, Place place,
          std::string label = "") {
  const double value = result.quality.value();
  return {place(result), value, title(report, name, result, value), std::move(label)};
}

std::string recipeText(const CompressReport &report, const Recipe &recipe, const Result &result) {
  std::string text = recipe.method;
  if (recipe.repair != Repair::none)
    text += ", repair " + nameOf(recipe.repair).str();
  return text + ", kept: " + keptText(report, recipe, result);
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
      series.marks.push_back(mark(report, recipeText(report, recipe, result), result, place));
  return series;
}

Chart chartOf(const CompressReport &report, Place place, const std::string &axis, bool more) {
  Chart chart{axis, report.measure().title().str(), more, {}};
  const std::string &method = report.recipe.method;
  chart.series.push_back(swept(report, "random", place));
  if (method != "random")
    chart.series.push_back(swept(report, method, place));
  for (const Baseline &baseline : report.baselines) {
    const bool random = baseline.name == "random";
    Series series{baseline.name + ", same size", random ? "c-random" : "c-other", "square", {}};
    for (auto [seed, run] : llvm::enumerate(baseline.runs))
      series.marks.push_back(
          mark(report, baseline.name + (random ? " of seed " + std::to_string(seed) : ""), run, place));
    chart.series.push_back(std::move(series));
  }
  chart.series.push_back(
      {"original", "c-original", "diamond", {mark(report, "original", report.before, place, "original")}});
  chart.series.push_back(
      {"result",
       "c-result",
       "diamond",
       {mark(report, "result: " + recipeText(report, report.recipe, report.after), report.after,
             place, "result")}});
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

/// A rise of the loss.
std::string riseText(const CompressReport &report, double rise) {
  return number(rise, rise < 0.01 ? 5 : 3) + report.measure().unit().str();
}

} // namespace

void page::pictures(llvm::raw_ostream &os, const CompressReport &report) {
  os << "<section><h2>Quality against size and speed</h2>\n<p>Lower is better; the best corner is "
        "below left for memory and below right for speed. On the held-out data.</p>\n"
        "<div class=\"row charts\"><div><h3>Memory</h3>\n";
  draw(os, chartOf(report, memoryOf, "weights, MiB", false));
  os << "</div><div><h3>Speed</h3>\n";
  if (report.before.tokensPerSecond() > 0)
    draw(os, chartOf(report, speedOf, report.unit + " a second", true));
  else
    os << "<p>Not measured.</p>";
  os << "</div></div></section>\n";
}

void page::searchPicture(llvm::raw_ostream &os, const CompressReport &report) {
  if (!report.search)
    return;
  const SearchResult &search = *report.search;
  const Measure &measure = report.measure();
  Chart chart{"weights, MiB", measure.title().str() + ", search data", false, {}};
  auto marksOf = [&](auto wanted) {
    std::vector<Mark> marks;
    for (const Candidate &tried : search.tried)
      if (wanted(tried.step))
        marks.push_back(
            {memoryOf(tried.result), measure.shown(tried.loss()),
             title(report, recipeText(report, tried.recipe, tried.result), tried.result,
                   measure.shown(tried.loss()))});
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
       {{memoryOf(report.before), measure.shown(search.original),
         "original: " + measure.title().str() + " " + shown(report, search.original),
         "original"}}});
  if (!search.best.recipe.method.empty())
    chart.series.push_back({"chosen",
                            "c-result",
                            "ring",
                            {{memoryOf(search.best.result), measure.shown(search.best.loss()),
                              title(report,
                                    "chosen: " + recipeText(report, search.best.recipe,
                                                            search.best.result),
                                    search.best.result, measure.shown(search.best.loss()))}}});
  os << "<section><h2>What the search tried</h2>\n<p>Every recipe that was measured, on calibration "
        "data, "
     << report.searchNote << ": not the scale of the pictures above.";
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
      bar.title += llvm::formatv("; {0} experts fewer: +{1}", dropped, riseText(report, rise));
    if (!layer.rises.empty()) {
      bar.all = layer.rises.back().second;
      bar.part = layer.rises.size() > 1 ? layer.rises.front().second : 0;
    }
    bars.push_back(std::move(bar));
  }
  const std::string unit = report.measure().unit().ltrim().str();
  os << "<section><h2>Sensitivity of layers</h2>\n<p>How far the loss"
     << (unit.empty() ? "" : " (" + unit + ")")
     << " rises when experts of this layer alone go: as many as an equal budget takes (light), and "
        "half of them (dark).</p>\n";
  drawBars(os, bars, "rise of the loss" + (unit.empty() ? "" : ", " + unit));
  os << "</section>\n";
}
