// The page of `moec compress --report`: one HTML file without a network, light and dark.
#include "PageParts.h"

#include "moec/Analysis/Page.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"

#include <cmath>
#include <numeric>

using namespace moec;
using namespace moec::page;
using nlohmann::json;

namespace {

constexpr size_t kMostLabels = 1000;

// Beside the style sheet of all pages.
constexpr const char *kStyle = R"css(
:root{--good:#2b8a4b}
@media(prefers-color-scheme:dark){:root{--good:#58c483}}
.tiles{grid-template-columns:repeat(auto-fit,minmax(min(100%,190px),1fr))}
.tile em{display:block;font-style:normal;font-size:12px;color:var(--soft)}
.row.charts{grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
.one{max-width:640px}
svg.wide{max-width:none}
svg text.name{fill:var(--ink);font-weight:600;paint-order:stroke;stroke:var(--card);
stroke-width:3px}
svg .best{fill:none;stroke:var(--good);stroke-width:1.5;stroke-dasharray:4 4}
svg .joined{fill:none;stroke-width:1.5;opacity:.55}
svg .c-original{fill:var(--ink);stroke:var(--ink)}
svg .c-result{fill:var(--accent);stroke:var(--accent)}
svg .c-random{fill:var(--soft);stroke:var(--soft)}
svg .c-other{fill:var(--high);stroke:var(--high)}
svg .c-budgets{fill:var(--none);stroke:var(--none)}
svg .c-moves{fill:var(--good);stroke:var(--good)}
svg .c-layer{fill:var(--soft);stroke:var(--soft);opacity:.5}
svg .joined,svg .ring{fill:none}
svg .ring{stroke-width:2}
svg .bar-all{fill:var(--accent);opacity:.4}
svg .bar-part{fill:var(--accent)}
svg .dot:hover,svg .mark:hover{stroke:var(--ink);stroke-width:2}
.keys{flex-wrap:wrap;gap:4px 16px}
.keys span{display:inline-flex;align-items:center;gap:5px}
.keys svg{width:14px;flex:none}
.legend .gone{border:1px solid var(--line);background:linear-gradient(135deg,var(--card) 46%,
var(--soft) 46%,var(--soft) 54%,var(--card) 54%)}
.meter{display:inline-block;width:90px;height:8px;border-radius:4px;background:var(--line);
overflow:hidden;vertical-align:middle}
.meter i{display:block;height:100%;background:var(--accent)}
th.left,td.left{text-align:left}
td,th{white-space:nowrap}
.tall{max-height:600px;overflow:auto}
.tall thead th{position:sticky;top:0;background:var(--card)}
td.wrap{white-space:normal;font-size:13px;color:var(--soft);overflow-wrap:anywhere;min-width:220px}
table.layers td{vertical-align:top}
tr.total td,tr.best td{font-weight:600}
tr.best td:first-child{color:var(--accent)}
table.sortable th{cursor:pointer}
table.log td:nth-child(2),table.log th:nth-child(2),table.log td:nth-child(3),
table.log th:nth-child(3){text-align:left}
th[aria-sort=ascending]::after{content:" ▲"}
th[aria-sort=descending]::after{content:" ▼"}
.facts{margin:0;padding-left:18px;color:var(--soft);max-width:90ch}
)css";

void tile(llvm::raw_ostream &os, llvm::StringRef value, llvm::StringRef name,
          llvm::StringRef detail = "", bool bad = false) {
  os << "<div class=\"tile" << (bad ? " bad" : "") << "\"><b>" << escapeMarkup(value)
     << "</b><span>" << escapeMarkup(name) << "</span>";
  if (!detail.empty())
    os << "<em>" << escapeMarkup(detail) << "</em>";
  os << "</div>\n";
}

void tiles(llvm::raw_ostream &os, const CompressReport &report) {
  const Measure &measure = report.measure();
  const std::string title = measure.title().str();
  auto text = [&](double value) { return measure.text(value, 2); };
  const double before = report.before.quality.value(), after = report.after.quality.value();
  const bool worse = llvm::any_of(report.baselines, [&](const Baseline &baseline) {
    return baseline.name == "random" && after > baseline.value();
  });
  os << "<div class=\"tiles\">\n";
  if (!measure.needsOriginal())
    tile(os, text(before), title + " before");
  auto rise = [&](double value) {
    return measure.needsOriginal() ? std::string() : change(before, value);
  };
  tile(os, text(after), title + " after", rise(after), worse);
  for (const Baseline &baseline : report.baselines)
    tile(os, text(baseline.value()), baseline.name + ", same size", rise(baseline.value()));
  tile(os, mib(report.before.sizes.weights), "MiB of weights before",
       mib(report.before.sizes.experts) + " in experts");
  tile(os, mib(report.after.sizes.weights), "MiB of weights after",
       change(double(report.before.sizes.weights), double(report.after.sizes.weights)));
  LayerShape all, kept;
  for (auto [layer, left] :
       llvm::zip(report.layers, layersAfter(report, report.recipe, report.after))) {
    all.experts += layer.experts, all.neurons += layer.neurons;
    kept.experts += left.experts, kept.neurons += left.neurons;
  }
  tile(os, llvm::formatv("{0} / {1}", kept.experts, all.experts).str(), "experts kept",
       all.neurons && kept.neurons
           ? llvm::formatv("{0} of {1} neurons", kept.neurons, all.neurons).str() : "");
  std::vector<Agreement> random = agreementsOf(report, "random");
  for (auto [i, agreement] : llvm::enumerate(agreementsOf(report, ""))) {
    std::string note;
    if (!std::isnan(agreement.original))
      note = "original: " + agreement.text(agreement.original);
    if (i < random.size() && !std::isnan(random[i].value))
      note += (note.empty() ? "random: " : ", random: ") + random[i].text();
    if (!std::isnan(agreement.value))
      tile(os, agreement.text(), agreement.title, note);
  }
  const double slow = report.before.tokensPerSecond(), fast = report.after.tokensPerSecond();
  tile(os, slow > 0 ? number(slow, 0) : "–", report.unit + "/s before");
  tile(os, fast > 0 ? number(fast, 0) : "–", report.unit + "/s after",
       slow > 0 ? change(slow, fast) : "");
  os << "</div>\n";
}

// Before and after with the rise, where before is not 0 by itself; the baselines; the agreement.
void labels(llvm::raw_ostream &os, const CompressReport &report) {
  const Measure &measure = report.measure();
  const bool own = !measure.needsOriginal();
  os << "<section><h2>Quality by label</h2>\n<p>" << measure.summary()
     << " On the held-out data: the result, and what removing as many experts by other rules "
        "gives.</p>\n<div class=\"scroll\"><table class=\"sortable\"><thead><tr><th>label</th><th>"
     << report.unit << "</th>" << (own ? "<th>before</th><th>after</th><th>rise</th>" : "<th>after</th>");
  for (const Baseline &baseline : report.baselines)
    os << "<th>" << escapeMarkup(baseline.name) << "</th>" << (own ? "<th>rise</th>" : "");
  for (const Agreement &agreement : measure.agreements(Loss()))
    os << "<th>" << agreement.title << "</th>";
  os << "</tr></thead><tbody>\n";
  auto row = [&](llvm::StringRef name, llvm::StringRef label, const Loss &sums, const Loss &after,
                 const char *style) {
    const double before = measure.value(sums);
    os << "<tr" << style << "><td>" << escapeMarkup(name) << "</td><td>" << sums.tokens << "</td>";
    auto cell = [&](double value) {
      os << "<td>" << measure.text(value) << "</td>";
      if (own)
        os << "<td>" << change(before, value) << "</td>";
    };
    if (own)
      os << "<td>" << measure.text(before) << "</td>";
    cell(measure.value(after));
    for (const Baseline &baseline : report.baselines)
      cell(baseline.value(label));
    for (const Agreement &agreement : measure.agreements(after))
      os << "<td>" << number(agreement.value, 4) << "</td>";
    os << "</tr>\n";
  };
  size_t rows = 0;
  for (const auto &[label, before] : report.before.quality.labels) {
    if (++rows > kMostLabels)
      break;
    auto it = report.after.quality.labels.find(label);
    row(label, label, before, it == report.after.quality.labels.end() ? Loss() : it->second, "");
  }
  os << "</tbody><tbody>\n";
  row("all", "", report.before.quality.overall(), report.after.quality.overall(),
      " class=\"total\"");
  os << "</tbody></table></div></section>\n";
}

void summary(llvm::raw_ostream &os, const CompressReport &report) {
  const CompressMethod *method = findMethod(report.recipe.method);
  os << "<p>Method <b>" << escapeMarkup(report.recipe.method) << "</b>";
  if (method)
    os << " (" << escapeMarkup(method->summary) << ")";
  os << (report.search ? ", found by search" : "") << "; "
     << (report.recipe.repair == Repair::none ? std::string("no repair")
                                              : "repair: " + nameOf(report.recipe.repair).str());
  if (!report.output.empty())
    os << ". Written: <code>" << escapeMarkup(report.output) << "</code>, "
       << mib(report.outputBytes) << " MiB";
  os << ".</p>\n";
}

std::string windowsText(const CompressReport &report, const Quality &quality) {
  const Loss all = quality.overall();
  if (all.windows == all.tokens)
    return llvm::formatv("{0} {1}", all.tokens, report.unit);
  std::string text = llvm::formatv("{0} windows, {1} {2}", all.windows, all.tokens, report.unit);
  if (all.windows > 0)
    text += llvm::formatv(" ({0} a window)", all.tokens / all.windows);
  return text;
}

void measured(llvm::raw_ostream &os, const CompressReport &report) {
  os << "<section><h2>How this was measured</h2>\n<ul class=\"facts\">\n<li>"
     << report.measure().summary() << " Of " << windowsText(report, report.before.quality)
     << " of held-out data, " << report.before.quality.labels.size()
     << " labels; nothing is carried over from one window or array to the next. “All” adds up the "
        "labels' sums.</li>\n<li>Overlap of predictions: 1 minus the total variation between the "
        "original's and the result's. Cosine of layers' outputs: each layer by itself, on tokens of "
        "the profile that no repair was fitted to.</li>\n";
  if (report.search && !report.search->tried.empty())
    os << "<li>Search: " << report.search->tried.size() << " recipes on "
       << windowsText(report, report.search->tried.front().result.quality)
       << " of the calibration data, " << report.searchNote << ".</li>\n";
  for (const Baseline &baseline : report.baselines)
    os << "<li>Baseline " << escapeMarkup(baseline.name) << ": "
       << (baseline.name == "random"
               ? llvm::formatv("the mean of {0} seeds (0 to {1})", baseline.runs.size(),
                               std::max<int64_t>(int64_t(baseline.runs.size()) - 1, 0))
                     .str()
               : std::string("one run"))
       << ", no repair, as many experts of each layer as the result keeps.</li>\n";
  os << "<li>Seed of the result: " << report.recipe.seed << ". Weights of labels: "
     << (report.recipe.labels.empty() ? std::string("all alike")
                                      : escapeMarkup(report.recipe.labels))
     << ".</li>\n<li>Speed: " << report.unit
     << " over the seconds that the compiled model ran on this data, on the machine at hand; it "
        "varies from run to run.</li>\n"
        "<li>Weights: bytes of all weights in the types they are stored "
        "in.</li>\n</ul></section>\n";
}

} // namespace

std::string page::number(double value, int digits) {
  if (!std::isfinite(value))
    return "–";
  if (std::abs(value) >= 1e9)
    return llvm::formatv("{0:e2}", value).str();
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.*f", digits, value);
  return text;
}

std::string page::mib(uint64_t bytes) {
  return number(double(bytes) / 1048576, bytes < 1048576 ? 3 : 1);
}

std::string page::change(double before, double after) {
  const double percent = 100 * (after / before - 1);
  if (!std::isfinite(percent))
    return "–";
  return (percent < 0 ? "−" : "+") + number(std::abs(percent), 1) + " %";
}

std::string page::shown(const CompressReport &report, double loss, int digits) {
  return report.measure().text(report.measure().shown(loss), digits);
}

std::string moec::reportPage(const CompressReport &report) {
  std::string page;
  llvm::raw_string_ostream os(page);
  const std::string name = escapeMarkup(llvm::sys::path::filename(report.model));
  os << "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
        "name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\">\n<title>Compression of "
     << name << "</title>\n<style>" << kPageStyle << kStyle
     << "</style></head><body><main>\n<h1 title=\"" << escapeMarkup(report.model) << "\">" << name
     << "</h1>\n";
  summary(os, report);
  tiles(os, report);
  pictures(os, report);
  labels(os, report);
  layers(os, report);
  sensitivities(os, report);
  routing(os, report);
  searchPicture(os, report);
  searchLog(os, report);
  measured(os, report);
  const std::string data = routingData(report).dump(-1, ' ', false, json::error_handler_t::replace);
  os << "<footer>Made by <code>moec compress</code>.</footer></main><div id=\"tip\"></div>\n"
     << "<script type=\"application/json\" id=\"data\">" << escapeScript(data)
     << "</script>\n<script>" << kPageTools << page::script << "</script></body></html>\n";
  return page;
}
