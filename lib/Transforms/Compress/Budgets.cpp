#include "moec/Transforms/Compress/Budgets.h"

#include "Problem.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"

#include <cmath>
#include <numeric>

using namespace moec;
using compress::problem;
using llvm::StringRef;

using Counts = std::vector<int64_t>;

int64_t Share::of(int64_t experts) const {
  return fraction ? int64_t(std::floor(value * double(experts) + 1e-9)) : int64_t(value);
}

llvm::Expected<Share> moec::parseShare(StringRef text) {
  Share share;
  StringRef digits = text.trim();
  bool percent = digits.consume_back("%");
  share.fraction = percent || digits.contains('.');
  if (digits.getAsDouble(share.value) || !std::isfinite(share.value) || share.value < 0)
    return problem("\"" + text + "\" is no number of experts (8) and no part of them (0.25, 25%)");
  if (percent)
    share.value /= 100;
  bool whole = share.value == std::floor(share.value) && share.value <= 1e9;
  if (share.fraction ? share.value > 1 : !whole)
    return problem("\"" + text + "\" is no number of experts (8) and no part of them (0.25, 25%)");
  return share;
}

// Unsupported where only protection forbids it: another method, which protects nothing, may do.
static llvm::Error tooMany(const LayerChoice &layer, int64_t drop) {
  bool guarded = drop <= layer.experts - layer.least;
  return problem("layer '" + layer.name + "': " + (guarded ? "unsupported: " : "") +
                 "cannot drop " + llvm::Twine(drop) + " of " +
                 llvm::Twine(layer.experts) + " experts; " + llvm::Twine(layer.most()) +
                 " may go, as " + llvm::Twine(layer.least) + " have to stay and " +
                 llvm::Twine(layer.experts - int64_t(layer.order.size())) +
                 " are protected or cost nothing");
}

bool moec::listsLayers(StringRef budget) {
  return !budget.empty() && llvm::isDigit(budget.front());
}

static llvm::Expected<Counts> explicitCounts(llvm::ArrayRef<LayerChoice> layers, StringRef text) {
  llvm::SmallVector<StringRef> parts;
  text.split(parts, ',');
  if (parts.size() != layers.size())
    return problem("budget \"" + text + "\" has " + llvm::Twine(parts.size()) + " numbers for " +
                   llvm::Twine(layers.size()) + " layers");
  Counts counts;
  for (StringRef part : parts) {
    int64_t n = 0;
    if (part.trim().getAsInteger(10, n) || n < 0)
      return problem("budget \"" + text + "\": \"" + part + "\" is no number of experts");
    counts.push_back(n);
  }
  return counts;
}

// The lowest of all candidates, `total` of them; a layer's own order decides within it.
static Counts lowest(llvm::ArrayRef<LayerChoice> layers, int64_t total, bool normalise) {
  std::vector<double> scale(layers.size(), 1);
  for (size_t l = 0; normalise && l < layers.size(); ++l) {
    double sum = 0;
    for (double score : layers[l].scores)
      sum += std::fabs(score);
    scale[l] = sum > 0 ? 1 / sum : 1;
  }
  Counts counts(layers.size(), 0);
  for (; total > 0; --total) {
    std::optional<size_t> best;
    double bestScore = 0;
    for (size_t l = 0; l < layers.size(); ++l) {
      if (counts[l] >= layers[l].most())
        continue;
      double score = layers[l].scores[layers[l].order[counts[l]]] * scale[l];
      if (!best || score < bestScore) {
        best = l;
        bestScore = score;
      }
    }
    ++counts[*best];
  }
  return counts;
}

// How many of a layer's experts may go when the others have to hold `part` of its mass.
static int64_t beyondMass(const LayerChoice &layer, double part) {
  double all = 0, gone = 0;
  for (double score : layer.scores)
    all += std::max(0.0, score);
  int64_t n = 0;
  for (; part <= 1 && n < layer.most(); ++n) {
    gone += std::max(0.0, layer.scores[layer.order[n]]);
    if (all - gone < part * all - 1e-12 * all)
      break;
  }
  return n;
}

static Counts byMass(llvm::ArrayRef<LayerChoice> layers, int64_t total) {
  auto counts = [&](double part) {
    Counts out;
    for (const LayerChoice &layer : layers)
      out.push_back(beyondMass(layer, part));
    return out;
  };
  auto sum = [](const Counts &c) { return std::accumulate(c.begin(), c.end(), int64_t(0)); };
  double low = 0, high = 2; // the part that stays: `low` drops enough, above 1 nothing goes
  for (int i = 0; i < 60; ++i) {
    double middle = (low + high) / 2;
    (sum(counts(middle)) > total ? low : high) = middle;
  }
  Counts out = counts(high), enough = counts(low);
  // Layers whose next expert goes at the same part: in order, up to the total.
  for (size_t l = 0; l < out.size(); ++l)
    while (sum(out) < total && out[l] < enough[l])
      ++out[l];
  return out;
}

llvm::Expected<std::vector<Counts>> moec::chooseDrops(llvm::ArrayRef<LayerChoice> layers,
                                                      llvm::ArrayRef<int64_t> drop,
                                                      StringRef budget) {
  Counts counts(drop.begin(), drop.end());
  int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t(0)), most = 0;
  for (const LayerChoice &layer : layers)
    most += layer.most();
  bool spread = budget == "global" || budget == "share" || budget == "mass";
  if (spread && total > most)
    return problem("cannot drop " + llvm::Twine(total) + " experts of " +
                   llvm::Twine(layers.size()) + " layers; " + llvm::Twine(most) +
                   " may go, as each layer keeps what a token takes and what is protected");
  if (budget == "global" || budget == "share") {
    counts = lowest(layers, total, budget == "share");
  } else if (budget == "mass") {
    counts = byMass(layers, total);
  } else if (listsLayers(budget)) {
    auto given = explicitCounts(layers, budget);
    if (!given)
      return given.takeError();
    counts = *given;
  } else if (budget != "uniform") {
    return problem("there is no budget \"" + budget +
                   "\"; it is uniform, global, share, mass, or a number for each layer");
  }
  std::vector<Counts> out;
  for (auto [layer, count] : llvm::zip(layers, counts)) {
    if (count > layer.most())
      return tooMany(layer, count);
    Counts ids(layer.order.begin(), layer.order.begin() + count);
    llvm::sort(ids);
    out.push_back(ids);
  }
  return out;
}
