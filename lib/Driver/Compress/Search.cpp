#include "Search.h"

#include "Elimination.h"

#include "moec/Driver/Error.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <cmath>

using namespace moec;

namespace {

uint64_t bytesKept(const Compressor &compressor, llvm::ArrayRef<int64_t> keep) {
  uint64_t bytes = 0;
  for (auto [room, n] : llvm::zip(compressor.layers(), keep))
    bytes += room.slabBytes * uint64_t(n);
  return bytes;
}

// Whether a recipe's budgets can be chosen, or follow from the method.
bool takesBudgets(const Recipe &recipe) {
  return findMethod(recipe.method)->family != CompressMethod::Family::given;
}

struct Search {
  Compressor &compressor;
  const SearchOptions &options;
  Progress &progress;
  SearchResult found;
  uint64_t room = 0; // bytes for expert slabs
  std::string refusal = ""; // why the first method that does not fit the model does not

  Candidate add(const Recipe &recipe, Compressor::Result result, llvm::StringRef step) {
    found.tried.push_back({recipe, std::move(result), step.str(), options.labels});
    return found.tried.back();
  }
  llvm::Expected<Candidate> measure(const Recipe &recipe, llvm::StringRef step) {
    auto result = compressor.measure(recipe, Compressor::Data::search);
    if (!result)
      return result.takeError();
    return add(recipe, std::move(*result), step);
  }

  // Budgets count slabs; constants of dropped experts, say, come on top.
  bool fits(const Candidate &candidate) const {
    uint64_t most = options.strict ? options.budget : compressor.originalSizes().weights;
    return candidate.result.sizes.weights <= most;
  }
  // Whether it is a result, not a step to one.
  bool isResult(const Candidate &candidate) const {
    return candidate.step != "sensitivity" && fits(candidate);
  }

  // Keeps the better one; false when it does not fit.
  bool keep(const Candidate &candidate) {
    if (!fits(candidate))
      return false;
    if (found.best.recipe.method.empty() || candidate.loss() < found.best.loss())
      found.best = candidate;
    return true;
  }
  llvm::Expected<bool> consider(const Recipe &recipe, llvm::StringRef step) {
    auto candidate = measure(recipe, step);
    if (!candidate)
      return candidate.takeError();
    return keep(*candidate);
  }

  llvm::Error tryMethod(Recipe recipe);
  llvm::Error chooseMethod(llvm::ArrayRef<int64_t> keep);
  Recipe bestWithBudgets() const;
  llvm::Error measureLayers();
  std::vector<int64_t> allocate() const;
  llvm::Error chooseBudgets();
  llvm::Error shift();
  std::vector<Recipe> worthRepairing() const;
  llvm::Error considerRepaired(const Recipe &recipe);
  llvm::Error repair();
};

// A method that does not fit the model is left out, not fatal.
llvm::Error Search::tryMethod(Recipe recipe) {
  std::string why;
  auto possible = completeRecipe(compressor, recipe, /*uniform=*/false, progress, why);
  if (!possible)
    return possible.takeError();
  if (!*possible)
    return llvm::Error::success();
  while (true) {
    auto result = compressor.measureSupported(recipe, Compressor::Data::search, why);
    if (!result)
      return result.takeError();
    if (!*result) {
      if (refusal.empty())
        refusal = why;
      return llvm::Error::success();
    }
    if (std::string idle = compressor.leftWhole(recipe, **result); !idle.empty()) {
      if (refusal.empty())
        refusal = idle;
      return llvm::Error::success();
    }
    bool fitting = keep(add(recipe, std::move(**result), "method"));
    if (fitting || !takesBudgets(recipe) || !shrinkBudget(compressor, recipe.keep))
      return llvm::Error::success();
  }
}

// All methods with the same number of experts a layer, nothing repaired.
llvm::Error Search::chooseMethod(llvm::ArrayRef<int64_t> keep) {
  for (const CompressMethod &method : compressMethods()) {
    if (!options.methods.empty() && !llvm::is_contained(options.methods, method.name))
      continue;
    progress.step(&method - compressMethods().begin() + 1, int64_t(compressMethods().size()),
                  method.name);
    if (!compressor.serves(method))
      continue;
    Recipe recipe;
    recipe.method = method.name.str(), recipe.keep = keep.vec();
    recipe.seed = options.seed, recipe.labels = options.labels;
    if (llvm::Error error = tryMethod(recipe))
      return error;
  }
  if (found.best.recipe.method.empty())
    return fail(Exit::unsupported, compressor.setup().model +
                                       ": unsupported: no method can compress its layers; the first says: " +
                                       refusal);
  return llvm::Error::success();
}

Recipe Search::bestWithBudgets() const {
  const Candidate *best = nullptr;
  for (const Candidate &candidate : found.tried)
    if (isResult(candidate) && takesBudgets(candidate.recipe) &&
        (!best || candidate.loss() < best->loss()))
      best = &candidate;
  return best ? best->recipe : Recipe();
}

// Two points of each layer's curve: half of what a uniform budget drops, and all of it.
llvm::Error Search::measureLayers() {
  const Recipe base = bestWithBudgets();
  if (base.method.empty()) // nothing but methods that choose the budgets themselves
    return llvm::Error::success();
  for (auto [i, room] : llvm::enumerate(compressor.layers())) {
    progress.step(int64_t(i) + 1, int64_t(compressor.layers().size()), room.name);
    Sensitivity sensitivity{room.name, {}};
    int64_t drop = room.experts - base.keep[i];
    for (int64_t part : {(drop + 1) / 2, drop}) {
      if (part <= 0 || (!sensitivity.rises.empty() && sensitivity.rises.back().first == part))
        continue;
      Recipe recipe = base;
      for (auto [other, keep] : llvm::zip(compressor.layers(), recipe.keep))
        keep = other.experts;
      recipe.keep[i] = room.experts - part;
      auto candidate = measure(recipe, "sensitivity");
      if (!candidate)
        return candidate.takeError();
      sensitivity.rises.push_back({part, std::max(candidate->loss() - found.original, 1e-9)});
    }
    found.sensitivities.push_back(std::move(sensitivity));
  }
  return llvm::Error::success();
}

// The rise of a layer is taken as a * dropped^p through its two points, p at least 1: then taking
// experts one at a time where the next one costs least for its bytes gives the least sum.
std::vector<int64_t> Search::allocate() const {
  const auto &layers = compressor.layers();
  std::vector<int64_t> keep;
  for (const LayerRoom &layer : layers)
    keep.push_back(layer.experts);
  auto rise = [&](size_t i, int64_t dropped) {
    const auto &points = found.sensitivities[i].rises;
    if (points.empty() || dropped <= 0)
      return 0.0;
    double p = 1.5;
    if (points.size() > 1)
      p = std::clamp(std::log(points[1].second / points[0].second) /
                         std::log(double(points[1].first) / double(points[0].first)),
                     1.0, 4.0);
    return points.back().second * std::pow(double(dropped) / double(points.back().first), p);
  };
  while (bytesKept(compressor, keep) > room) {
    size_t best = layers.size();
    double least = INFINITY;
    for (size_t i = 0; i < layers.size(); ++i) {
      if (keep[i] <= layers[i].fewest)
        continue;
      int64_t dropped = layers[i].experts - keep[i];
      double cost = (rise(i, dropped + 1) - rise(i, dropped)) / double(layers[i].slabBytes);
      if (cost < least)
        least = cost, best = i;
    }
    if (best == layers.size())
      break;
    --keep[best];
  }
  return keep;
}

// The three best methods with the budgets that the sensitivities say.
llvm::Error Search::chooseBudgets() {
  std::vector<Candidate> methods;
  for (const Candidate &candidate : found.tried)
    if (candidate.step == "method" && fits(candidate) && takesBudgets(candidate.recipe))
      methods.push_back(candidate);
  llvm::stable_sort(methods, [](const Candidate &a, const Candidate &b) { return a.loss() < b.loss(); });
  std::vector<int64_t> keep = allocate();
  for (const Candidate &candidate : llvm::ArrayRef(methods).take_front(3)) {
    Recipe recipe = candidate.recipe;
    recipe.keep = keep;
    if (auto fitting = consider(recipe, "budgets"); !fitting)
      return fitting.takeError();
  }
  return llvm::Error::success();
}

// Moves a few experts' room from one layer to another as long as that helps (after EvoESAP's
// budget-preserving mutation, arXiv 2603.06003; here every move is measured).
llvm::Error Search::shift() {
  const auto &layers = compressor.layers();
  Recipe base = bestWithBudgets();
  if (base.method.empty())
    return llvm::Error::success();
  double least = INFINITY;
  for (const Candidate &candidate : found.tried)
    if (candidate.recipe.key() == base.key())
      least = candidate.loss();
  int tries = 0;
  for (int64_t step : {8, 16, 32}) {
    bool better = true;
    while (better && tries < options.moves) {
      better = false;
      for (size_t from = 0; from < layers.size() && tries < options.moves; ++from)
        for (size_t to = 0; to < layers.size() && tries < options.moves; ++to) {
          Recipe recipe = base;
          int64_t n = std::max<int64_t>(layers[from].experts / step, 1);
          recipe.keep[from] -= n;
          recipe.keep[to] += n;
          if (from == to || recipe.keep[from] < layers[from].fewest ||
              recipe.keep[to] > layers[to].experts || bytesKept(compressor, recipe.keep) > room)
            continue;
          bool seen = llvm::any_of(found.tried, [&](const Candidate &c) {
            return c.recipe.key() == recipe.key();
          });
          if (seen)
            continue;
          progress.step(++tries, options.moves, layers[from].name + " to " + layers[to].name);
          auto candidate = measure(recipe, "moves");
          if (!candidate)
            return candidate.takeError();
          if (candidate->loss() >= least || !fits(*candidate))
            continue;
          least = candidate->loss(), base = recipe, better = true;
          if (least < found.best.loss())
            found.best = *candidate;
        }
    }
  }
  return llvm::Error::success();
}

// The best candidates, at most two of a method: a repair may change their order.
std::vector<Recipe> Search::worthRepairing() const {
  std::vector<const Candidate *> sorted;
  for (const Candidate &candidate : found.tried)
    if (isResult(candidate))
      sorted.push_back(&candidate);
  llvm::stable_sort(sorted, [](auto *a, auto *b) { return a->loss() < b->loss(); });
  std::map<std::string, int> of;
  std::vector<Recipe> recipes;
  for (const Candidate *candidate : sorted)
    if (recipes.size() < 6 && ++of[candidate->recipe.method] <= 2)
      recipes.push_back(candidate->recipe);
  return recipes;
}

// One that cannot be repaired so is left out.
llvm::Error Search::considerRepaired(const Recipe &recipe) {
  std::string why;
  auto result = compressor.measureSupported(recipe, Compressor::Data::search, why);
  if (!result)
    return result.takeError();
  if (*result)
    keep(add(recipe, std::move(**result), "repair"));
  return llvm::Error::success();
}

// All at once first; layer by layer, which takes a run for each layer, only for the best.
llvm::Error Search::repair() {
  if (options.repairs.empty())
    return llvm::Error::success();
  std::vector<Recipe> worth = worthRepairing();
  int64_t done = 0, all = int64_t(worth.size() + options.repairs.size()) - 1;
  for (Recipe recipe : worth) {
    recipe.repair = options.repairs.front();
    progress.step(++done, all, recipe.method);
    if (llvm::Error error = considerRepaired(recipe))
      return error;
  }
  for (Repair kind : llvm::ArrayRef(options.repairs).drop_front()) {
    Recipe recipe = found.best.recipe;
    recipe.repair = kind;
    progress.step(++done, all, recipe.method + ", layer by layer");
    if (llvm::Error error = considerRepaired(recipe))
      return error;
  }
  return llvm::Error::success();
}

} // namespace

bool moec::shrinkBudget(const Compressor &compressor, std::vector<int64_t> &keep) {
  bool any = false;
  for (auto [layer, n] : llvm::zip(compressor.layers(), keep))
    if (n > layer.fewest)
      --n, any = true;
  return any;
}

llvm::Expected<std::vector<int64_t>> moec::uniformBudget(const Compressor &compressor,
                                                         uint64_t budget) {
  Sizes sizes = compressor.originalSizes();
  uint64_t rest = sizes.weights - sizes.experts, all = 0;
  std::vector<int64_t> keep;
  for (const LayerRoom &layer : compressor.layers())
    all += layer.slabBytes * uint64_t(layer.experts);
  double share = budget > rest ? double(budget - rest) / double(all) : 0;
  for (const LayerRoom &layer : compressor.layers()) {
    keep.push_back(std::min(layer.experts, int64_t(std::floor(share * double(layer.experts) + 1e-9))));
    if (keep.back() < layer.fewest)
      return fail(Exit::input,
                  llvm::formatv("{0}: a budget of {1} bytes cannot be met: layer {2} would keep {3} "
                                "of {4} experts, but each token takes {5}",
                                compressor.setup().model, budget, layer.name, keep.back(),
                                layer.experts, layer.fewest)
                      .str());
  }
  return keep;
}

llvm::Expected<std::vector<int64_t>> moec::uniformDrop(const Compressor &compressor, double share) {
  std::vector<int64_t> keep;
  for (const LayerRoom &layer : compressor.layers()) {
    keep.push_back(layer.experts - int64_t(std::floor(share * double(layer.experts) + 1e-9)));
    if (keep.back() < layer.fewest)
      return fail(Exit::input,
                  llvm::formatv("{0}: cannot drop {1:f1} % of layer {2}: it would keep {3} of {4} "
                                "experts, but each token takes {5}",
                                compressor.setup().model, 100 * share, layer.name, keep.back(),
                                layer.experts, layer.fewest)
                      .str());
  }
  return keep;
}

llvm::Expected<SearchResult> moec::searchRecipe(Compressor &compressor, const SearchOptions &options,
                                                Progress &progress) {
  Sizes sizes = compressor.originalSizes();
  Search search{compressor, options, progress, {}, options.budget - (sizes.weights - sizes.experts)};
  auto original = compressor.measure(Recipe(), Compressor::Data::search);
  if (!original)
    return original.takeError();
  search.found.original = original->quality.weighted(options.labels);
  if (!std::isfinite(search.found.original))
    return fail(Exit::input, "--labels " + options.labels + ": none of the calibration data");
  const Measure &measure = compressor.measure();
  auto said = [&](double loss) {
    return (measure.title() + " " + measure.text(measure.shown(loss))).str();
  };
  auto stage = [&](llvm::StringRef name, llvm::Error (Search::*run)()) -> llvm::Error {
    progress.begin(name);
    if (llvm::Error error = (search.*run)())
      return error;
    std::string note = search.found.best.recipe.method + ": " + said(search.found.best.loss());
    if (!measure.needsOriginal())
      note += " (original " + measure.text(measure.shown(search.found.original)) + ")";
    progress.end(note);
    return llvm::Error::success();
  };
  progress.begin("try methods");
  if (llvm::Error error = search.chooseMethod(options.keep))
    return error;
  progress.end(llvm::formatv("{0}: {1}", search.found.best.recipe.method,
                             said(search.found.best.loss())));
  if (llvm::Error error = stage("measure layers", &Search::measureLayers))
    return error;
  if (llvm::Error error = stage("set budgets", &Search::chooseBudgets))
    return error;
  if (llvm::Error error = stage("shift budgets", &Search::shift))
    return error;
  if (llvm::Error error = stage("repair", &Search::repair))
    return error;
  return std::move(search.found);
}
