#include "RoutingPicture.h"

#include "moec/Driver/Session.h"

#include "llvm/Support/FormatVariadic.h"

#include <algorithm>
#include <numeric>

using namespace moec;

void RoutingRecord::add(const std::vector<Tensor> &outputs) {
  for (const Tensor &ids : outputs) {
    llvm::StringRef name = ids.name;
    if (!name.consume_front(routingOutputPrefix) || ids.shape.size() != 2)
      continue;
    Layer &layer = layers[name.str()];
    for (int64_t t = 0; t < ids.shape[0]; ++t) {
      std::vector<int64_t> &choice = layer.choices.emplace_back();
      for (int64_t k = 0; k < ids.shape[1]; ++k) {
        int64_t id = int64_t(ids.at(t * ids.shape[1] + k));
        if (id < 0)
          continue;
        if (size_t(id) >= layer.counts.size())
          layer.counts.resize(size_t(id) + 1);
        ++layer.counts[id];
        choice.push_back(id);
      }
    }
  }
}

void RoutingRecord::printText(llvm::raw_ostream &os) const {
  static constexpr llvm::StringLiteral shades[] = {" ", "░", "▒", "▓", "█"};
  size_t experts = 0;
  for (auto &[name, layer] : layers)
    experts = std::max(experts, layer.counts.size());
  os << llvm::formatv("Experts chosen, by layer (expert 0 to {0}; darker is busier)\n",
                      experts ? experts - 1 : 0);
  for (auto &[name, layer] : layers) {
    int64_t total = std::accumulate(layer.counts.begin(), layer.counts.end(), int64_t(0));
    int64_t most = layer.counts.empty()
                       ? 0
                       : *std::max_element(layer.counts.begin(), layer.counts.end());
    os << llvm::formatv("  {0,-14}|", name);
    for (size_t e = 0; e < experts; ++e) {
      int64_t n = e < layer.counts.size() ? layer.counts[e] : 0;
      os << shades[n == 0 ? 0 : 1 + std::min<int64_t>(3, n * 4 / (most + 1))];
    }
    size_t busiest = size_t(std::find(layer.counts.begin(), layer.counts.end(), most) -
                            layer.counts.begin());
    os << llvm::formatv("|  busiest {0}: {1:f1}%\n", busiest,
                        total ? 100.0 * double(most) / double(total) : 0.0);
  }
}

static std::string escape(llvm::StringRef text) {
  std::string out;
  for (char c : text)
    switch (c) {
    case '<': out += "&lt;"; break;
    case '>': out += "&gt;"; break;
    case '&': out += "&amp;"; break;
    case '"': out += "&quot;"; break;
    case '\n': out += "⏎"; break;
    default: out += c;
    }
  return out;
}

void RoutingRecord::printHtml(llvm::raw_ostream &os, const std::vector<std::string> &tokens) const {
  os << "<!doctype html><meta charset=\"utf-8\"><title>Routing</title>\n"
        "<style>body{font:14px sans-serif;margin:2em}svg{background:#f4f4f4;display:block}"
        "rect{fill:#1f5fa8}rect:hover{fill:#d1495b}</style>\n"
        "<h1>Experts chosen for each token</h1>\n";
  for (auto &[name, layer] : layers) {
    os << "<h2>" << escape(name) << "</h2>\n<p>tokens left to right, experts top to bottom</p>\n"
       << llvm::formatv("<svg width=\"{0}\" height=\"{1}\">\n", layer.choices.size() * 8,
                        layer.counts.size() * 8);
    for (size_t t = 0; t < layer.choices.size(); ++t)
      for (int64_t e : layer.choices[t])
        os << llvm::formatv("<rect x=\"{0}\" y=\"{1}\" width=\"7\" height=\"7\"><title>expert {2}: "
                            "{3}</title></rect>\n",
                            t * 8, e * 8, e, t < tokens.size() ? escape(tokens[t]) : "");
    os << "</svg>\n";
  }
}
