// Tables of layers and tried recipes, for the page of `moec compress`.
#include "PageParts.h"

#include "moec/Analysis/Page.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>

using namespace moec;
using namespace moec::page;

namespace {

constexpr size_t kMostRows = 2000;  // of tables
constexpr size_t kMostRemarks = 16; // of a layer

/// Whether a remark names the layer; the characters around the name belong to no longer one.
bool names(llvm::StringRef remark, llvm::StringRef layer) {
  auto inName = [](char c) {
    return llvm::isAlnum(c) || c == '_' || c == '.' || c == '/' || c == '#';
  };
  if (layer.empty())
    return false;
  for (size_t at = remark.find(layer); at != llvm::StringRef::npos;
       at = remark.find(layer, at + 1)) {
    size_t end = at + layer.size();
    if ((at == 0 || !inName(remark[at - 1])) && (end == remark.size() || !inName(remark[end])))
      return true;
  }
  return false;
}

/// Without the node that the pass pointed at: `node "a" (op): `.
llvm::StringRef withoutNode(llvm::StringRef remark) {
  if (!remark.starts_with("node "))
    return remark;
  size_t quote = remark.find("\": "), op = remark.find("): ");
  size_t end = std::min(quote, op);
  return end == llvm::StringRef::npos ? remark : remark.drop_front(end + 3);
}

std::string share(int64_t part, int64_t all) {
  return all > 0 ? number(100 * double(part) / double(all), 0) + " %" : "–";
}

void meter(llvm::raw_ostream &os, double part) {
  part = std::isfinite(part) ? std::clamp(part, 0.0, 1.0) : 0;
  os << llvm::formatv("<span class=\"meter\"><i style=\"width:{0:f1}%\"></i></span>", 100 * part);
}

void candidateRows(llvm::raw_ostream &os, const CompressReport &report,
                   std::vector<const Candidate *> rows, const std::string &best) {
  llvm::stable_sort(rows, [](const Candidate *a, const Candidate *b) {
    double x = a->loss(), y = b->loss(); // one that is not a number goes last
    return std::isnan(y) ? !std::isnan(x) : x < y;
  });
  const Measure &measure = report.measure();
  os << "<div class=\"scroll tall\"><table class=\"sortable log\">\n<thead><tr><th>method</th>"
        "<th>step</th><th>repair</th><th>"
     << report.measure().title()
     << "</th><th>rise</th><th>MiB</th><th class=\"left\">kept</th></tr></thead><tbody>\n";
  for (const Candidate *row : llvm::ArrayRef(rows).take_front(kMostRows)) {
    os << "<tr" << (row->recipe.key() == best ? " class=\"best\"" : "") << "><td>"
       << escapeMarkup(row->recipe.method) << "</td><td>" << escapeMarkup(row->step) << "</td><td>"
       << nameOf(row->recipe.repair) << "</td><td>" << shown(report, row->loss())
       << "</td><td>" << change(measure.shown(report.search->original), measure.shown(row->loss()))
       << "</td><td>" << mib(row->result.sizes.weights) << "</td><td class=\"left wrap\">"
       << keptText(report, row->recipe, row->result) << "</td></tr>\n";
  }
  os << "</tbody></table></div>\n";
  if (rows.size() > kMostRows)
    os << "<p>And " << rows.size() - kMostRows << " more.</p>\n";
}

} // namespace

std::vector<std::vector<std::string>> page::remarksByLayer(const CompressReport &report) {
  std::vector<std::vector<std::string>> out(report.layers.size() + 1);
  for (const std::string &remark : report.after.remarks) {
    llvm::StringRef text = withoutNode(remark);
    size_t of = report.layers.size();
    for (auto [i, layer] : llvm::enumerate(report.layers))
      if (names(text, layer.name) &&
          (of == report.layers.size() || layer.name.size() > report.layers[of].name.size()))
        of = i; // the longest name: others may be words
    if (!llvm::is_contained(out[of], text))
      out[of].push_back(text.str());
  }
  return out;
}

std::string page::runsText(llvm::ArrayRef<std::string> texts) {
  std::string all;
  for (size_t i = 0; i < texts.size();) {
    size_t n = 1;
    while (i + n < texts.size() && texts[i + n] == texts[i])
      ++n;
    all += all.empty() ? "" : ", ";
    if (n > 1)
      all += std::to_string(n) + " × ";
    all += texts[i];
    i += n;
  }
  return all;
}

std::string page::keptText(const CompressReport &report, const Recipe &recipe,
                           const Compressor::Result &result) {
  std::vector<LayerShape> layers = layersAfter(report, recipe, result);
  const bool narrow = isNarrow(report, layers);
  std::vector<std::string> texts;
  for (auto [before, after] : llvm::zip(report.layers, layers))
    texts.push_back(narrow ? share(after.neurons, before.neurons) : std::to_string(after.experts));
  return runsText(texts) + (narrow ? " of the neurons" : " experts");
}

void page::layers(llvm::raw_ostream &os, const CompressReport &report) {
  if (report.layers.empty())
    return;
  std::vector<std::vector<std::string>> remarks = remarksByLayer(report);
  std::vector<LayerShape> left = layersAfter(report, report.recipe, report.after);
  const bool cosines = report.after.cosines.size() == report.layers.size();
  os << "<section><h2>What was done to each layer</h2>\n<div class=\"scroll tall\"><table "
        "class=\"layers\">\n<thead><tr><th>layer</th><th>experts</th><th>neurons</th><th></th><th>k</th>"
        "<th>MiB before</th><th>MiB after</th>"
     << (cosines ? "<th>cosine of outputs</th>" : "")
     << "<th class=\"left\">what the passes say</th></tr></thead><tbody>\n";
  for (size_t i = 0; i < std::min(report.layers.size(), kMostRows); ++i) {
    const LayerRoom &layer = report.layers[i];
    const int64_t kept = left[i].experts, neurons = left[i].neurons;
    const bool known = layer.neurons > 0 && neurons > 0;
    const double part = known ? double(neurons) / double(layer.neurons)
                              : double(kept) / double(std::max<int64_t>(layer.experts, 1));
    os << "<tr><td title=\"" << escapeMarkup(layer.name) << "\">" << escapeMarkup(layer.name)
       << "</td><td>" << layer.experts << " → " << kept << "</td><td>"
       << (known ? share(neurons, layer.neurons) : "–") << "</td><td>";
    meter(os, part);
    os << "</td><td>" << layer.k << "</td><td>" << mib(layer.slabBytes * uint64_t(layer.experts))
       << "</td><td>" << mib(uint64_t(double(layer.slabBytes * uint64_t(layer.experts)) * part)) << "</td>";
    if (cosines)
      os << "<td>" << number(report.after.cosines[i], 4) << "</td>";
    os << "<td class=\"left wrap\">";
    for (const std::string &remark : llvm::ArrayRef(remarks[i]).take_front(kMostRemarks))
      os << "<div>" << escapeMarkup(remark) << "</div>";
    if (remarks[i].size() > kMostRemarks)
      os << "<div>and " << remarks[i].size() - kMostRemarks << " more</div>";
    os << "</td></tr>\n";
  }
  os << "</tbody></table></div>\n";
  if (!remarks.back().empty()) {
    os << "<details><summary>Further remarks</summary>\n";
    for (const std::string &remark : llvm::ArrayRef(remarks.back()).take_front(kMostRows))
      os << "<p>" << escapeMarkup(remark) << "</p>\n";
    os << "</details>\n";
  }
  os << "</section>\n";
}

void page::searchLog(llvm::raw_ostream &os, const CompressReport &report) {
  if (!report.search || report.search->tried.empty())
    return;
  std::vector<const Candidate *> whole, single;
  for (const Candidate &candidate : report.search->tried)
    (candidate.step == "sensitivity" ? single : whole).push_back(&candidate);
  const std::string best = report.search->best.recipe.key();
  os << "<section><h2>Search log</h2>\n<p>Best first, on the search data (original: "
     << report.measure().title() << " " << shown(report, report.search->original) << "). A click on a column's name sorts by "
     << "it.</p>\n";
  candidateRows(os, report, std::move(whole), best);
  if (!single.empty()) {
    os << "<details><summary>" << single.size() << " measurements of one layer each</summary>\n";
    candidateRows(os, report, std::move(single), "");
    os << "</details>\n";
  }
  os << "</section>\n";
}
