#include "moec/Analysis/ProfilePage.h"
#include "PageParts.h"

#include "moec/Analysis/Page.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

#include <cmath>

using namespace moec;
using llvm::StringRef;
using nlohmann::json;

namespace {

constexpr size_t kMostWarnings = 200;
constexpr size_t kMostLabels = 24; ///< of the table of distances
constexpr size_t kMostRows = 1000; ///< of tables

void tile(llvm::raw_ostream &os, StringRef value, StringRef name, bool bad = false) {
  os << "<div class=\"tile" << (bad ? " bad" : "") << "\"><b>" << escapeMarkup(value)
     << "</b><span>" << name << "</span></div>\n";
}

std::string rangeOf(const Profile &profile, int64_t LayerProfile::*member) {
  int64_t low = INT64_MAX, high = 0;
  for (const LayerProfile &layer : profile.layers) {
    low = std::min(low, layer.*member);
    high = std::max(high, layer.*member);
  }
  if (!high)
    return "–";
  return low == high ? std::to_string(low) : llvm::formatv("{0}–{1}", low, high).str();
}

void tiles(llvm::raw_ostream &os, const Profile &profile, const Summary &summary) {
  double tokens = 0, worst = 0, entropy = 0, loaded = 0;
  size_t never = 0;
  for (double count : summary.tokens)
    tokens += count;
  for (const auto &load : summary.loads)
    if (load) {
      worst = std::max(worst, load->gini);
      entropy += load->entropy;
      loaded += 1;
      never += load->never.size();
    }
  os << "<div class=\"tiles\">\n";
  tile(os, std::to_string(profile.layers.size()), "MoE layers");
  tile(os, rangeOf(profile, &LayerProfile::experts), "experts a layer");
  tile(os, rangeOf(profile, &LayerProfile::k), "experts a token");
  tile(os, tokens > 0 ? grouped(tokens) : "–", "tokens");
  tile(os, loaded > 0 ? llvm::formatv("{0:f3}", entropy / loaded).str() : "–",
       "mean entropy of load");
  tile(os, loaded > 0 ? llvm::formatv("{0:f2}", worst).str() : "–", "highest Gini", worst > 0.6);
  tile(os, loaded > 0 ? grouped(double(never)) : "–", "never chosen", never > 0);
  tile(os, std::to_string(summary.superExperts.size()), "super experts");
  os << "</div>\n";
}

void warnings(llvm::raw_ostream &os, const Summary &summary) {
  if (summary.warnings.empty())
    return;
  constexpr size_t open = 5;
  os << "<section><h2>Warnings</h2>\n<ul class=\"warnings\">\n";
  for (size_t i = 0; i < std::min(summary.warnings.size(), kMostWarnings); ++i) {
    if (i == open)
      os << "</ul><details><summary>" << summary.warnings.size() - open
         << " more</summary><ul class=\"warnings\">\n";
    os << "<li>" << escapeMarkup(summary.warnings[i].text) << "</li>\n";
  }
  os << "</ul>" << (summary.warnings.size() > open ? "</details>" : "") << "</section>\n";
}

void distances(llvm::raw_ostream &os, const Profile &profile, const Summary &summary) {
  size_t n = profile.labels.size();
  if (n < 2 || n > kMostLabels)
    return;
  os << "<div><h3>Distance of loads</h3><div class=\"scroll\"><table>\n<tr><th></th>";
  for (size_t b = 0; b < n; ++b)
    os << "<th class=\"heat\">" << b + 1 << "</th>";
  os << "</tr>\n";
  for (size_t a = 0; a < n; ++a) {
    os << "<tr><td>" << a + 1 << " " << escapeMarkup(profile.labels[a]) << "</td>";
    for (size_t b = 0; b < n; ++b) {
      double value = summary.distances[a * n + b];
      if (a == b || std::isnan(value))
        os << "<td class=\"heat\">–</td>";
      else
        os << llvm::formatv("<td class=\"heat\" data-value=\"{0:f3}\">{0:f2}</td>", value);
    }
    os << "</tr>\n";
  }
  os << "</table></div></div>\n";
}

void labels(llvm::raw_ostream &os, const Profile &profile, const Summary &summary) {
  size_t n = profile.labels.size();
  os << "<section><h2>Data</h2><p>What was counted, and how far apart the labels' loads are: total "
        "variation, mean over layers; 0 for the same load, 1 when two labels share no expert.</p>"
        "<div class=\"row\"><div><h3>Labels</h3><table>\n<tr><th>label</th><th>tokens</th>"
        "<th>sequences</th></tr>\n";
  for (size_t l = 0; l < std::min(n, kMostRows); ++l)
    os << "<tr><td>" << escapeMarkup(profile.labels[l]) << "</td><td>"
       << (summary.tokens.empty() ? "–" : grouped(summary.tokens[l])) << "</td><td>"
       << (summary.sequences.empty() ? "–" : grouped(summary.sequences[l])) << "</td></tr>\n";
  os << "</table></div>\n";
  distances(os, profile, summary);
  os << "</div></section>\n";
}

void outputs(llvm::raw_ostream &os, const Profile &profile, const Summary &summary) {
  os << "<section id=\"super\"><h2>Largest outputs</h2><p>The largest absolute value that each "
        "expert put out. Super experts (orange) lie above 99.5 % of all experts and above a tenth "
        "of "
        "the largest, in the first three quarters of the layers. A model breaks without "
        "them.</p><canvas id=\"outputs\"></canvas>\n";
  if (!summary.superExperts.empty()) {
    os << "<details open><summary>super experts</summary><table>\n"
          "<tr><th>layer</th><th>expert</th><th>largest output</th></tr>\n";
    for (const SuperExpert &expert : llvm::ArrayRef(summary.superExperts).take_front(kMostRows))
      os << "<tr><td>" << escapeMarkup(profile.layers[size_t(expert.layer)].name) << "</td><td>"
         << expert.expert << "</td><td>" << llvm::formatv("{0:f2}", expert.outputMax)
         << "</td></tr>\n";
    os << "</table></details>\n";
  }
  os << "</section>\n";
}

void layerTable(llvm::raw_ostream &os, const Profile &profile, const Summary &summary) {
  os << "<section><details><summary>Table of layers</summary><div class=\"scroll\"><table>\n"
        "<tr><th>layer</th><th>experts</th><th>k</th><th>entropy</th><th>Gini</th>"
        "<th>max / mean</th><th>never chosen</th></tr>\n";
  for (size_t i = 0; i < std::min(profile.layers.size(), kMostRows); ++i) {
    const LayerProfile &layer = profile.layers[i];
    os << "<tr><td>" << escapeMarkup(layer.name) << "</td><td>" << layer.experts << "</td><td>"
       << (layer.k ? std::to_string(layer.k) : "–") << "</td>";
    if (const auto &load = summary.loads[i])
      os << llvm::formatv("<td>{0:f3}</td><td>{1:f3}</td><td>{2:f2}</td><td>{3}</td>",
                          load->entropy, load->gini, load->maxOverMean, load->never.size());
    os << "</tr>\n";
  }
  os << "</table></div></details></section>\n";
}

// What the script fills.
constexpr StringRef kLoadSection =
    R"html(<section><h2>Load of experts</h2>
<p>One row a layer, one cell an expert: how often it was chosen against an even load. Click a row to
look at its layer.</p>
<div class="bar"><div class="group" id="labels"></div><div class="group" id="sorting"></div></div>
<div class="scroll"><canvas id="load"></canvas></div>
<div class="legend">1/8 <i class="ramp"></i> 8 times an even load
<i class="dot" style="background:var(--none)"></i> never chosen</div></section>
<section><h2>Balance by layer</h2>
<p>Bold: the data chosen above; thin: the other labels. Entropy is 1 and Gini 0 when all experts are
chosen equally often.</p>
<div class="row"><div><h3>Entropy of load</h3><div id="entropy"></div></div>
<div><h3>Gini coefficient</h3><div id="gini"></div></div>
<div><h3>Busiest expert, times the mean</h3><div id="peak"></div></div></div></section>
<section id="confidence"><h2>Confidence of the router</h2>
<p>Median and quartiles over tokens.</p>
<div class="row"><div><h3>Entropy of a token's scores (1: cannot decide)</h3>
<div id="token-entropy"></div></div>
<div><h3>Second score / best score</h3><div id="token-ratio"></div></div></div></section>
<section id="one"><h2>One layer</h2>
<div class="bar"><select id="layer" aria-label="layer"></select></div><p id="about"></p>
<h3>Load, times an even load</h3><canvas id="bars"></canvas>
<div id="matrices" style="margin-top:20px"><h3>Pairs of experts</h3>
<div class="bar"><div class="group" id="kinds"></div><div class="group" id="grouping"></div></div>
<div class="side"><div><canvas id="matrix"></canvas><div class="legend" id="scale"></div>
<p id="blocks"></p></div><div><h3>Highest</h3><table id="pairs"></table></div></div></div></section>
)html";

} // namespace

std::string moec::profilePage(const Profile &profile) {
  Summary summary(profile);
  std::string page;
  llvm::raw_string_ostream os(page);
  os << "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>Profile "
        "of "
     << escapeMarkup(profile.model) << "</title>\n<style>" << kPageStyle
     << "</style></head><body><main>\n<h1>" << escapeMarkup(profile.model)
     << "</h1>\n<p>What the routers and experts of this model did on calibration data</p>\n";
  tiles(os, profile, summary);
  warnings(os, summary);
  os << kLoadSection;
  outputs(os, profile, summary);
  labels(os, profile, summary);
  layerTable(os, profile, summary);
  os << "<footer>Made by <code>moec profile</code>.</footer></main><div id=\"tip\"></div>\n";
  std::string data =
      pageData(profile, summary).dump(-1, ' ', false, json::error_handler_t::replace);
  os << "<script type=\"application/json\" id=\"data\">" << escapeScript(data)
     << "</script>\n<script>" << kPageTools << kPageScript << "</script></body></html>\n";
  return page;
}
