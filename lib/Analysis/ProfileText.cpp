#include "Summary.h"

#include "moec/Analysis/ProfilePage.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <numeric>

using namespace moec;
using llvm::StringRef;
using nlohmann::json;

static std::vector<double> mostOfLayers(const Profile &profile, StringRef name) {
  std::vector<double> most;
  for (const LayerProfile &layer : profile.layers)
    if (const Statistic *statistic = layer.find(name)) {
      most.resize(profile.labels.size());
      for (size_t l = 0; l < std::min(most.size(), statistic->values.size()); ++l)
        most[l] = std::max(most[l], statistic->values[l]);
    }
  return most;
}

Summary::Summary(const Profile &profile)
    : tokens(mostOfLayers(profile, moec::stat::tokens)),
      sequences(mostOfLayers(profile, moec::stat::sequences)), distances(labelDistances(profile)),
      superExperts(moec::superExperts(profile)), warnings(profileWarnings(profile)) {
  for (const LayerProfile &layer : profile.layers)
    loads.push_back(loadOf(layer));
}

std::string moec::grouped(double number) {
  std::string digits = llvm::formatv("{0:f0}", number);
  for (int64_t at = int64_t(digits.size()) - 3; at > 0 && digits[size_t(at - 1)] != '-'; at -= 3)
    digits.insert(size_t(at), ",");
  return digits;
}

namespace {

constexpr size_t kMapColumns = 32;
constexpr size_t kMostWarnings = 20;

std::string plain(StringRef name) {
  std::string out = name.str();
  auto breaks = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  std::replace_if(out.begin(), out.end(), breaks, '?');
  return out;
}

std::string padded(std::string text, size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

/// Experts from left to right, several a column when there are many: the mean share of a column
/// against that of an even load, from a quarter (lowest bar) to four times (highest).
std::string map(const Load &load) {
  static constexpr StringRef bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  size_t experts = load.shares.size(), columns = std::min(experts, kMapColumns);
  std::string text;
  for (size_t c = 0; c < columns; ++c) {
    size_t first = c * experts / columns, end = (c + 1) * experts / columns;
    const double *shares = load.shares.data();
    double mean =
        std::accumulate(shares + first, shares + end, 0.0) * double(experts) / double(end - first);
    double level = mean > 0 ? std::round((std::log2(mean) + 2) / 4 * 7) : -1;
    text += mean > 0 ? bars[size_t(std::clamp(level, 0.0, 7.0))] : "·";
  }
  return text;
}

size_t widest(size_t least, llvm::ArrayRef<std::string> names) {
  for (const std::string &name : names)
    least = std::max(least, name.size());
  return std::min<size_t>(least, 40);
}

void printLabels(llvm::raw_ostream &os, const Profile &profile, const Summary &summary) {
  if (profile.labels.empty())
    return;
  size_t n = profile.labels.size(), width = widest(5, profile.labels);
  os << "\n"
     << llvm::formatv("{0}  {1,14}  {2,10}  furthest label\n", padded("label", width), "tokens",
                      "sequences");
  for (size_t l = 0; l < n; ++l) {
    size_t furthest = l;
    for (size_t other = 0; other < n; ++other)
      if (summary.distances[l * n + other] > summary.distances[l * n + furthest])
        furthest = other;
    os << llvm::formatv("{0}  {1,14}  {2,10}  {3}\n", padded(plain(profile.labels[l]), width),
                        summary.tokens.empty() ? "-" : grouped(summary.tokens[l]),
                        summary.sequences.empty() ? "-" : grouped(summary.sequences[l]),
                        furthest == l
                            ? "-"
                            : llvm::formatv("{0} ({1:f3})", plain(profile.labels[furthest]),
                                            summary.distances[l * n + furthest])
                                  .str());
  }
}

void printLayers(llvm::raw_ostream &os, const Profile &profile, const Summary &summary) {
  std::vector<std::string> names;
  for (const LayerProfile &layer : profile.layers)
    names.push_back(plain(layer.name));
  size_t width = widest(5, names);
  os << "\n"
     << llvm::formatv("{0}  experts   k  entropy   Gini  max/mean  never  busiest         load\n",
                      padded("layer", width));
  for (size_t i = 0; i < names.size(); ++i) {
    const LayerProfile &layer = profile.layers[i];
    os << llvm::formatv("{0}  {1,7}  {2,2}", padded(names[i], width), layer.experts,
                        layer.k ? std::to_string(layer.k) : "-");
    if (const auto &load = summary.loads[i]) {
      auto busiest = std::max_element(load->shares.begin(), load->shares.end());
      std::string most =
          llvm::formatv("{0} ({1:f1} %)", busiest - load->shares.begin(), 100 * *busiest);
      os << llvm::formatv("  {0,7:f3}  {1,5:f3}  {2,8:f2}  {3,5}  {4}  {5}", load->entropy,
                          load->gini, load->maxOverMean, load->never.size(), padded(most, 14),
                          map(*load));
    }
    os << "\n";
  }
}

json toJson(const Profile &profile, const Summary &summary, size_t number) {
  const LayerProfile &layer = profile.layers[number];
  json out = {{"name", layer.name},     {"experts", layer.experts},
              {"k", layer.k},           {"hidden", layer.hidden},
              {"router", layer.router}, {"weight_hash", layer.weightHash}};
  for (auto &[name, statistic] : layer.statistics)
    out["statistics"].push_back(name);
  out["reservoir_tokens"] = layer.reservoir.tokens();
  const auto &load = summary.loads[number];
  if (!load)
    return out;
  out["load"] = {{"shares", load->shares},
                 {"gini", load->gini},
                 {"entropy", load->entropy},
                 {"max_over_mean", load->maxOverMean},
                 {"never_chosen", load->never}};
  for (size_t l = 0; l < profile.labels.size(); ++l) {
    std::vector<double> weights(profile.labels.size());
    weights[l] = 1;
    Load part = *loadOf(layer, weights);
    out["labels"][profile.labels[l]] = {{"shares", part.shares},
                                        {"gini", part.gini},
                                        {"entropy", part.entropy},
                                        {"max_over_mean", part.maxOverMean},
                                        {"never_chosen", part.never}};
  }
  return out;
}

StringRef kindName(WarningKind kind) {
  switch (kind) {
  case WarningKind::noTokens:
    return "no-tokens";
  case WarningKind::never:
    return "never-chosen";
  case WarningKind::dominant:
    return "dominant";
  case WarningKind::unbalanced:
    return "unbalanced";
  case WarningKind::nearlyEqual:
    return "nearly-equal";
  }
  llvm_unreachable("kinds are listed");
}

} // namespace

std::string moec::profileText(const Profile &profile) {
  Summary summary(profile);
  double tokens = 0;
  for (double count : summary.tokens)
    tokens += count;
  std::string text;
  llvm::raw_string_ostream os(text);
  os << plain(profile.model) << ": " << profile.layers.size() << " layers, "
     << profile.labels.size() << " labels, "
     << (summary.tokens.empty() ? "tokens not known" : grouped(tokens) + " tokens") << "\n";
  printLabels(os, profile, summary);
  printLayers(os, profile, summary);
  os << "load: · never chosen, ▁ a quarter of an even load or less, ▅ even, █ four times or more\n";
  if (!summary.superExperts.empty())
    os << "\nsuper experts (do not remove them):\n";
  for (const SuperExpert &expert : summary.superExperts)
    os << llvm::formatv("  {0}, expert {1}: largest output {2}\n",
                        plain(profile.layers[size_t(expert.layer)].name), expert.expert,
                        llvm::formatv("{0:f2}", expert.outputMax).str());
  if (!summary.warnings.empty())
    os << "\nwarnings:\n";
  for (const ProfileWarning &warning : llvm::ArrayRef(summary.warnings).take_front(kMostWarnings))
    os << "  " << plain(warning.text) << "\n";
  if (summary.warnings.size() > kMostWarnings)
    os << "  and " << summary.warnings.size() - kMostWarnings << " more\n";
  return text;
}

std::string moec::profileJson(const Profile &profile) {
  Summary summary(profile);
  size_t n = profile.labels.size();
  json out = {{"model", profile.model},           {"labels", json::array()},
              {"label_distances", json::array()}, {"layers", json::array()},
              {"super_experts", json::array()},   {"warnings", json::array()}};
  for (size_t l = 0; l < n; ++l) {
    json label = {{"name", profile.labels[l]}, {"tokens", nullptr}, {"sequences", nullptr}};
    if (!summary.tokens.empty())
      label["tokens"] = summary.tokens[l];
    if (!summary.sequences.empty())
      label["sequences"] = summary.sequences[l];
    out["labels"].push_back(label);
    out["label_distances"].push_back(
        std::vector<double>(summary.distances.begin() + int64_t(l * n),
                            summary.distances.begin() + int64_t(l * n + n)));
  }
  for (size_t i = 0; i < profile.layers.size(); ++i)
    out["layers"].push_back(toJson(profile, summary, i));
  for (const SuperExpert &expert : summary.superExperts)
    out["super_experts"].push_back({{"layer", profile.layers[size_t(expert.layer)].name},
                                    {"expert", expert.expert},
                                    {"output_max", expert.outputMax}});
  for (const ProfileWarning &warning : summary.warnings)
    out["warnings"].push_back({{"kind", kindName(warning.kind)},
                               {"layer", profile.layers[size_t(warning.layer)].name},
                               {"experts", warning.experts},
                               {"value", warning.value},
                               {"text", warning.text}});
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}
