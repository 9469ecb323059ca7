// The page of `moec compress`: what it says, and that it is well formed.
#include "../../lib/Driver/Compress/Report.h"

#include "llvm/ADT/StringExtras.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

using namespace moec;
using llvm::StringRef;
using nlohmann::json;

namespace {

constexpr uint64_t kMiB = 1048576;

Compressor::Result resultOf(double perplexity, uint64_t weights, double seconds = 1) {
  Compressor::Result result;
  result.sizes = {weights, weights / 2};
  for (const char *label : {"code", "web"})
    result.quality.labels[label] = {4, 1024, 1024 * std::log(perplexity), 0, 0, seconds};
  return result;
}

LayerProfile layerProfile(std::string name, int64_t experts, int64_t k) {
  LayerProfile layer;
  layer.name = std::move(name);
  layer.experts = experts;
  layer.k = k;
  Statistic &count = layer.statistics["count"];
  count.shape = {experts};
  for (int64_t e = 0; e < experts; ++e)
    count.values.push_back(double(e * e % 31));
  layer.statistics["tokens"] = {MergeRule::sum, {}, {1e6}};
  return layer;
}

/// What `layers` layers of `experts` experts are after a quarter of them went, without a search.
CompressReport reportOf(int64_t layers, int64_t experts) {
  CompressReport report;
  report.model = "dir/small.onnx";
  report.recipe.method = "soft";
  report.before = resultOf(10, 64 * kMiB, 0.5);
  report.after = resultOf(11.5, 48 * kMiB, 0.4);
  for (auto &[label, loss] : report.after.quality.labels)
    loss.kl = 256, loss.klTokens = 1024;
  report.profileBefore.labels = {"all"};
  report.profileAfter.emplace().labels = {"all"};
  for (int64_t i = 0; i < layers; ++i) {
    std::string name = "layer" + std::to_string(i);
    const int64_t kept = experts - experts / 4;
    report.layers.push_back({name, experts, 2, 2 * kMiB});
    report.recipe.keep.push_back(kept);
    report.profileBefore.layers.push_back(layerProfile(name, experts, 2));
    report.profileAfter->layers.push_back(layerProfile(name, kept, 2));
    std::vector<std::string> gone;
    for (int64_t e = kept; e < experts; ++e)
      gone.push_back(std::to_string(e - 1));
    report.after.remarks.push_back("node \"n\": prune-experts: layer '" + name +
                                   "': " + std::to_string(gone.size()) + " experts go (" +
                                   llvm::join(gone, ", ") + "); 80 % stays");
  }
  report.baselines.push_back({"frequency", {resultOf(13.25, 48 * kMiB)}});
  report.baselines.push_back(
      {"random", {resultOf(15, 48 * kMiB), resultOf(16, 48 * kMiB), resultOf(17, 48 * kMiB)}});
  for (const char *method : {"soft", "random"}) {
    Recipe recipe = report.recipe;
    recipe.method = method;
    report.sweep.push_back({recipe, resultOf(20, 40 * kMiB)});
    report.sweep.push_back({recipe, resultOf(30, 32 * kMiB)});
  }
  return report;
}

void addSearch(CompressReport &report) {
  SearchResult &search = report.search.emplace();
  search.original = std::log(9.0);
  auto tried = [&](const char *step, double perplexity, Repair repair = Repair::none) {
    Candidate candidate;
    candidate.recipe = report.recipe;
    candidate.recipe.repair = repair;
    candidate.result = resultOf(perplexity, 48 * kMiB);
    candidate.step = step;
    search.tried.push_back(candidate);
  };
  tried("method", 12.125);
  for (const LayerRoom &layer : report.layers) {
    tried("sensitivity", 9.5);
    search.sensitivities.push_back({layer.name, {{1, 0.01}, {2, 0.0625}}});
  }
  tried("repair", 10.75, Repair::down);
  search.best = search.tried.back();
}

/// The first fault of the markup: elements that are not closed, or not in order. "" is none.
std::string faultOf(StringRef page) {
  std::vector<std::string> open;
  const StringRef empty[] = {"meta", "br", "!doctype"};
  for (size_t at = page.find('<'); at != StringRef::npos; at = page.find('<', at)) {
    size_t end = at + 1;
    for (bool quoted = false; end < page.size() && (quoted || page[end] != '>'); ++end)
      quoted ^= page[end] == '"';
    if (end == page.size())
      return "no end of " + page.substr(at, 40).str();
    StringRef tag = page.slice(at + 1, end);
    at = end;
    const bool closing = tag.consume_front("/"), single = tag.consume_back("/");
    std::string name = tag.take_until([](char c) { return c == ' ' || c == '\n'; }).str();
    if (closing) {
      if (open.empty() || open.back() != name)
        return "</" + name + "> in " + (open.empty() ? "nothing" : open.back());
      open.pop_back();
    } else if (!single && !llvm::is_contained(empty, name)) {
      open.push_back(name);
      if (name == "script" || name == "style")
        at = page.find("</" + name, at);
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> is open";
}

bool has(const std::string &page, StringRef text) { return StringRef(page).contains(text); }

json dataOf(const std::string &page) {
  StringRef data = StringRef(page).split("id=\"data\">").second.split("</script>").first;
  return json::parse(data.begin(), data.end(), nullptr, false);
}

TEST(CompressPage, HasTheNumbers) {
  CompressReport report = reportOf(3, 8);
  addSearch(report);
  report.output = "out/smaller.onnx";
  report.outputBytes = 50 * kMiB;
  const std::string page = reportPage(report);
  EXPECT_EQ(faultOf(page), "");
  for (const char *text : {"<b>10.00</b><span>perplexity before</span>",
                           "<b>11.50</b><span>perplexity after</span>",
                           "+15.0 %",
                           "<b>16.00</b><span>random, same size</span>",
                           "<b>13.25</b><span>frequency, same size</span>",
                           "<b>64.0</b>",
                           "<b>48.0</b>",
                           "−25.0 %",
                           "<b>18 / 24</b>",
                           "<b>0.2500</b><span>KL, nats a token</span>",
                           "<b>2048</b>",
                           "<b>2560</b>",
                           "out/smaller.onnx</code>, 50.0 MiB",
                           "8 windows, 2048 tokens (256 a window)",
                           "the mean of 3 seeds (0 to 2)",
                           "8 → 6",
                           "Sensitivity of layers",
                           "+0.062 nats",
                           "3 × 6",
                           "found by search"})
    EXPECT_TRUE(has(page, text)) << text;
  // The log: best first, and the measurements of one layer apart.
  EXPECT_LT(page.find("<td>10.750</td>"), page.find("<td>12.125</td>"));
  EXPECT_TRUE(has(page, "3 measurements of one layer each"));
  EXPECT_TRUE(has(page, "<tr class=\"best\"><td>soft</td><td>repair</td>"));
}

TEST(CompressPage, SaysThatExpertsAreNarrower) {
  CompressReport report = reportOf(2, 8);
  report.recipe.method = "narrow-magnitude"; // keeps 6 experts' worth
  for (LayerRoom &layer : report.layers)
    layer.neurons = 800;
  report.after.layers = {{8, 600}, {8, 600}};
  const std::string page = reportPage(report), text = reportText(report);
  EXPECT_TRUE(has(page, "<b>16 / 16</b><span>experts kept</span><em>1200 of 1600 neurons</em>"));
  EXPECT_TRUE(has(page, "8 → 8</td><td>75 %</td>"));
  EXPECT_TRUE(has(page, "kept: 2 × 75 % of the neurons"));
  EXPECT_TRUE(has(text, "neurons   600/800 600/800 a layer; all experts stay"));
  json layer = reportToJson(report)["layers"][1];
  EXPECT_EQ(layer["experts_after"], 8);
  EXPECT_EQ(layer["neurons_before"], 800);
  EXPECT_EQ(layer["neurons_after"], 600);
}

TEST(CompressPage, OfOtherMeasures) {
  for (const char *name : {"error", "kl"}) {
    CompressReport report = reportOf(2, 8);
    addSearch(report);
    report.unit = "sequences";
    auto judge = [&](Compressor::Result &result, double value) {
      result.quality.measure = findMeasure(name);
      for (auto &[label, loss] : result.quality.labels)
        loss = Loss(), loss.windows = loss.tokens = 10, loss.kl = 10 * value, loss.klTokens = 10,
        loss.difference = 100 * value, loss.original = loss.squares = loss.product = 100;
    };
    judge(report.before, 0), judge(report.after, 0.125);
    for (Baseline &baseline : report.baselines)
      for (Compressor::Result &run : baseline.runs)
        judge(run, 0.5);
    for (Candidate &candidate : report.search->tried)
      judge(candidate.result, 0.25);
    judge(report.search->best.result, 0.25);
    for (auto &[recipe, result] : report.sweep)
      judge(result, 0.75);
    report.search->original = 0;
    const std::string page = reportPage(report);
    EXPECT_EQ(faultOf(page), "");
    EXPECT_FALSE(has(StringRef(page).split("<script>").first.str(), "erplexity"));
    const std::string title = findMeasure(name)->title().str();
    EXPECT_TRUE(has(page, "<b>0.125</b><span>" + title + " after</span>"));
    EXPECT_FALSE(has(page, title + " before"));
    EXPECT_TRUE(has(page, "<b>0.5</b><span>random, same size</span>"));
    EXPECT_TRUE(has(page, "20 sequences of held-out data"));
    json told = reportToJson(report);
    EXPECT_EQ(told["measure"], name);
    EXPECT_NEAR(told[std::string(name) + "_after"].get<double>(), 0.125, 1e-9);
    EXPECT_NEAR(told["labels"]["web"][std::string(name) + "_random"].get<double>(), 0.5, 1e-9);
    EXPECT_FALSE(told.contains(std::string(name) + "_before"));
    EXPECT_FALSE(told.contains("perplexity_after"));
    EXPECT_TRUE(told.contains("sequences_per_second_after"));
    EXPECT_NEAR(told["search"]["tried"][0][name].get<double>(), 0.25, 1e-9);
  }
}

TEST(CompressPage, PutsRemarksToTheirLayer) {
  CompressReport report = reportOf(12, 8); // layer1 is a part of layer10's name
  report.after.remarks.push_back("of no layer at all");
  const std::string page = reportPage(report);
  StringRef row = StringRef(page).split("<tr><td title=\"layer1\">").second.split("</tr>").first;
  EXPECT_TRUE(row.contains("<div>prune-experts: layer 'layer1': 2 experts go"));
  EXPECT_FALSE(row.contains("layer10"));
  EXPECT_FALSE(row.contains("node"));
  EXPECT_TRUE(has(page, "<summary>Further remarks</summary>\n<p>of no layer at all</p>"));
}

TEST(CompressPage, SaysWhichExpertsStay) {
  CompressReport report = reportOf(2, 8);
  report.after.layers = {{6, 0, {0, 1, 2, 3, 4, 7}}, {6, 0, {0, 1, 2, 3, 4, 7}}};
  json data = dataOf(reportPage(report));
  ASSERT_TRUE(data.is_object());
  EXPECT_EQ(data["layers"][0]["origin"], json({0, 1, 2, 3, 4, 7}));
  EXPECT_EQ(data["layers"][0]["name"], "layer0");
  report.after.layers[0].origin.clear(); // not known: no guess
  data = dataOf(reportPage(report));
  EXPECT_FALSE(data["layers"][0].contains("origin"));
  EXPECT_TRUE(data["layers"][0].contains("after"));
  EXPECT_TRUE(data["layers"][1].contains("origin"));
}

TEST(CompressPage, NeedsNothingElse) {
  CompressReport report = reportOf(3, 8);
  addSearch(report);
  const std::string page = reportPage(report);
  for (const char *reference : {"src=", "href=", "@import", "url(", "fetch(", "http:", "https:"})
    EXPECT_FALSE(has(page, reference)) << reference;
}

TEST(CompressPage, KeepsNamesFromBeingMarkup) {
  CompressReport report = reportOf(2, 8);
  addSearch(report);
  const std::string evil = "\"></script><script>evil()</script>\xff&";
  report.model = report.output = report.recipe.method = report.recipe.labels = evil;
  report.layers[0].name = report.profileBefore.layers[0].name = evil;
  report.search->sensitivities[0].layer = evil;
  report.search->tried[0].recipe.method = report.sweep[0].first.method = evil;
  report.baselines[0].name = evil;
  report.after.remarks = {evil, "prune-experts: layer '" + evil + "': gone"};
  for (Compressor::Result *result : {&report.before, &report.after})
    result->quality.labels[evil] = result->quality.labels["web"];
  const std::string page = reportPage(report);
  EXPECT_FALSE(has(page, "<script>evil"));
  EXPECT_EQ(faultOf(page), "");
  json data = dataOf(page);
  ASSERT_TRUE(data.is_object());
  EXPECT_TRUE(StringRef(data["layers"][0]["name"].get<std::string>()).contains("<script>evil"));
}

TEST(CompressPage, TakesWhatThereIs) {
  CompressReport nothing, bare = reportOf(1, 4), broken = reportOf(2, 8), even = reportOf(2, 8);
  bare.sweep.clear();
  bare.baselines.clear();
  bare.profileAfter.reset();
  bare.recipe.keep.clear();
  bare.after.quality.labels.erase("web");
  addSearch(broken);
  broken.after = resultOf(INFINITY, 0, 0);
  broken.search->tried[0].result = resultOf(NAN, 1);
  broken.search->sensitivities[0].rises = {{1, INFINITY}};
  broken.search->sensitivities[1].rises = {};
  even.before = even.after = resultOf(10, 64 * kMiB); // one point: axes without a width
  even.sweep.clear();
  even.baselines.clear();
  for (const CompressReport *report : {&nothing, &bare, &broken, &even}) {
    const std::string page = reportPage(*report);
    EXPECT_EQ(faultOf(page), "");
    EXPECT_TRUE(dataOf(page).is_object());
    for (const char *text : {"nan", "inf,", "inf<", "inf\"", "\"inf"})
      EXPECT_FALSE(has(StringRef(page).split("<script>").first.str(), text)) << text;
  }
  EXPECT_FALSE(has(reportPage(bare), "What the search tried"));
  EXPECT_FALSE(has(reportPage(bare), "id=\"after\""));
  EXPECT_TRUE(has(reportPage(reportOf(1, 4)), "id=\"after\""));
}

TEST(CompressPage, OfALargeModelStaysSmall) {
  CompressReport report = reportOf(61, 256);
  addSearch(report);
  const std::string page = reportPage(report);
  EXPECT_LT(page.size(), size_t(10) << 20);
  EXPECT_EQ(faultOf(page), "");
  EXPECT_EQ(dataOf(page)["layers"].size(), 61u);
}

} // namespace
