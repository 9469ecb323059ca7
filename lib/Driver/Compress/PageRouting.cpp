// Load of experts before and after, for the page of `moec compress`.
#include "PageParts.h"

#include "moec/Analysis/Derived.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Base64.h"

#include <algorithm>
#include <cmath>

using namespace moec;
using namespace moec::page;
using nlohmann::json;

namespace {

constexpr size_t kMostCells = 600000; // of both maps: 3 MB of the page, base64 included
constexpr int64_t kNarrow = 64;       // experts a layer: two maps fit beside each other

/// 1 for an even load, as 16-bit parts of the largest one; 0 is kept for what was never chosen.
json packed(const std::vector<double> &values, double scale) {
  std::string bytes;
  for (double value : values) {
    auto part = value > 0 ? uint16_t(std::clamp(std::round(value / scale), 1.0, 65535.0)) : 0;
    bytes += char(part & 255);
    bytes += char(part >> 8);
  }
  return llvm::encodeBase64(bytes);
}

std::vector<double> evenLoads(const LayerProfile *layer) {
  std::vector<double> out;
  if (!layer)
    return out;
  if (auto load = loadOf(*layer))
    for (double share : load->shares)
      out.push_back(share * double(layer->experts));
  return out;
}

bool hasLoads(const Profile &profile) {
  return llvm::any_of(profile.layers,
                      [](const LayerProfile &layer) { return !evenLoads(&layer).empty(); });
}

size_t cellsOf(const CompressReport &report) {
  size_t cells = 0;
  for (const LayerRoom &layer : report.layers)
    cells += 2 * size_t(layer.experts);
  return cells;
}

} // namespace

json page::routingData(const CompressReport &report) {
  json out = {{"layers", json::array()},
              {"after", report.profileAfter && hasLoads(*report.profileAfter)}};
  if (cellsOf(report) > kMostCells || !hasLoads(report.profileBefore))
    return out;
  std::vector<std::vector<double>> before, after;
  double largest = 1;
  for (const LayerRoom &layer : report.layers) {
    before.push_back(evenLoads(report.profileBefore.layer(layer.name)));
    after.push_back(
        evenLoads(report.profileAfter ? report.profileAfter->layer(layer.name) : nullptr));
    for (const auto *values : {&before.back(), &after.back()})
      for (double value : *values)
        largest = std::max(largest, value);
  }
  const double scale = largest / 65535;
  out["scale"] = scale;
  std::vector<LayerShape> left = layersAfter(report, report.recipe, report.after);
  for (auto [i, layer] : llvm::enumerate(report.layers)) {
    json entry = {{"name", layer.name}, {"before", packed(before[i], scale)}};
    if (!after[i].empty()) {
      entry["after"] = packed(after[i], scale);
      const std::vector<int64_t> &origin = left[i].origin;
      if (after[i].size() < before[i].size() && origin.size() == after[i].size())
        entry["origin"] = origin;
    }
    out["layers"].push_back(std::move(entry));
  }
  return out;
}

void page::routing(llvm::raw_ostream &os, const CompressReport &report) {
  if (!hasLoads(report.profileBefore))
    return;
  os << "<section><h2>Load of experts</h2>\n";
  if (cellsOf(report) > kMostCells) {
    os << "<p>Too many experts for a picture; <code>moec profile</code> has the numbers.</p>"
          "</section>\n";
    return;
  }
  const bool after = report.profileAfter && hasLoads(*report.profileAfter);
  const bool narrow =
      llvm::all_of(report.layers, [](const LayerRoom &layer) { return layer.experts <= kNarrow; });
  os << "<p>One row a layer, one cell an expert: how often it is chosen against an even load of "
        "the experts that the layer has.</p>\n<div class=\"bar\"><div class=\"group\" "
        "id=\"sorting\"></div></div>\n<div"
     << (narrow && after ? " class=\"row\"" : "")
     << "><div><h3>Before</h3><div class=\"scroll\"><canvas id=\"before\"></canvas></div></div>\n";
  if (after)
    os << "<div><h3>After</h3><div class=\"scroll\"><canvas id=\"after\"></canvas></div></div>\n";
  os << "</div>\n<div class=\"legend\"><span id=\"least\"></span> <i class=\"ramp\"></i> "
        "<span id=\"most\"></span>\n<i class=\"dot\" style=\"background:var(--none)\"></i> never "
        "chosen";
  if (after)
    os << "\n<i class=\"dot gone\"></i> gone";
  os << "</div></section>\n";
}
