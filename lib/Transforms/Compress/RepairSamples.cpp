#include "RepairSamples.h"

#include "Problem.h"
#include "RepairPass.h"
#include "RewriteBank.h"
#include "RouterMap.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Compress/Saliency.h"
#include "moec/Transforms/Compress/WeightHash.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "llvm/ADT/DenseMap.h"

using namespace moec;
using namespace moec::compress;
using llvm::StringRef;

static llvm::Expected<const LayerProfile *> layerOf(const Profile &profile,
                                                    const moe::RoutedLayer &layer) {
  const LayerProfile *found = profile.layer(layer.name);
  if (!found)
    return problem("the profile has no such layer; profile this model");
  if (found->reservoir.tokens() == 0)
    return problem("the profile keeps no tokens of it; profile with tokens kept");
  moe::BankOp bank = layer.bank;
  if (found->hidden != static_cast<int64_t>(bank.getHidden()))
    return problem("the profile's tokens have " + llvm::Twine(found->hidden) +
                 " numbers, the bank's " + llvm::Twine(bank.getHidden()));
  return found;
}

namespace {

// A token of the original profile, and the same one of the current profile.
struct Pair {
  int32_t original, current;
};

} // namespace

// Tokens of labels that count and that are in both profiles, in the order of the original one.
static std::vector<Pair> pairTokens(const Profile &profile, const Reservoir &original,
                                    const Profile *current, const Reservoir *now,
                                    llvm::ArrayRef<double> labelWeights,
                                    const RepairSource &source) {
  std::map<std::pair<std::string, uint64_t>, int32_t> places;
  for (int64_t i = 0; now && i < now->tokens(); ++i)
    places[{current->labels[static_cast<size_t>(now->label[i])], now->key[i]}] =
        static_cast<int32_t>(i);
  std::vector<Pair> pairs;
  for (int64_t i = 0; i < original.tokens(); ++i) {
    const std::string &label = profile.labels[static_cast<size_t>(original.label[i])];
    if (!labelWeights.empty() && labelWeights[static_cast<size_t>(original.label[i])] == 0)
      continue;
    Pair pair{static_cast<int32_t>(i), -1};
    if (now) {
      auto place = places.find({label, original.key[i]});
      if (place == places.end())
        continue;
      pair.current = place->second;
    }
    pairs.push_back(pair);
  }
  int64_t n = static_cast<int64_t>(pairs.size());
  if (source.tokens > 0 && n > source.tokens) {
    std::vector<Pair> fewer; // evenly over the labels
    for (int64_t i = 0; i < source.tokens; ++i)
      fewer.push_back(pairs[static_cast<size_t>(i * n / source.tokens)]);
    pairs = fewer;
  }
  return pairs;
}

// Those to fit first; of the others, one in 1 / holdOut each.
static int64_t holdOut(std::vector<Pair> &pairs, double share) {
  std::vector<Pair> held, fitted;
  for (size_t i = 0; i < pairs.size(); ++i) {
    double at = static_cast<double>(i) * share;
    bool out = std::floor(at + share) > std::floor(at);
    (out ? held : fitted).push_back(pairs[i]);
  }
  pairs = fitted;
  pairs.insert(pairs.end(), held.begin(), held.end());
  return static_cast<int64_t>(fitted.size());
}

static Rows rowsOf(const std::vector<float> &data, int64_t columns, llvm::ArrayRef<int32_t> index) {
  Rows out(static_cast<int64_t>(index.size()), columns);
  for (auto [i, row] : llvm::enumerate(index))
    std::copy_n(data.begin() + row * columns, columns, out.row(static_cast<int64_t>(i)).data());
  return out;
}

static Picks picksAt(const LayerProfile &layer, llvm::ArrayRef<int32_t> index) {
  Picks picks;
  picks.k = layer.k;
  for (int32_t row : index) {
    auto ids = layer.reservoir.ids.begin() + row * layer.k;
    auto weights = layer.reservoir.weights.begin() + row * layer.k;
    picks.ids.insert(picks.ids.end(), ids, ids + layer.k);
    picks.weights.insert(picks.weights.end(), weights, weights + layer.k);
  }
  return picks;
}

llvm::Expected<LayerSamples> compress::collectSamples(const moe::RoutedLayer &layer,
                                                      const Profile &profile,
                                                      const Profile *current,
                                                      const RepairSource &source) {
  auto original = layerOf(profile, layer);
  if (!original)
    return original.takeError();
  const LayerProfile *now = nullptr;
  if (current) {
    auto found = layerOf(*current, layer);
    if (!found)
      return found.takeError();
    now = *found;
    if (now->experts != static_cast<int64_t>(moe::BankOp(layer.bank).getExperts()))
      return problem("current-profile has " + llvm::Twine(now->experts) + " experts, the bank " +
                   llvm::Twine(moe::BankOp(layer.bank).getExperts()));
  }
  const Reservoir &kept = (*original)->reservoir;
  auto labelWeights = parseLabelWeights(profile, source.labels);
  if (!labelWeights)
    return labelWeights.takeError();
  std::vector<Pair> pairs = pairTokens(profile, kept, current, now ? &now->reservoir : nullptr,
                                       *labelWeights, source);
  LayerSamples samples;
  samples.fitted = holdOut(pairs, source.holdOut);
  if (samples.fitted == 0)
    return problem(current ? "the two profiles share no token; take them over the same data"
                         : "the profile keeps no token of these labels");
  std::vector<int32_t> first, second;
  for (Pair pair : pairs) {
    first.push_back(pair.original);
    second.push_back(pair.current);
  }
  int64_t hidden = (*original)->hidden;
  samples.x = now ? rowsOf(now->reservoir.x, hidden, second) : rowsOf(kept.x, hidden, first);
  samples.target = rowsOf(kept.y, hidden, first);
  samples.scale = Eigen::VectorXf::Ones(samples.x.rows());
  for (size_t i = 0; i < first.size() && !labelWeights->empty(); ++i)
    samples.scale(static_cast<int64_t>(i)) = static_cast<float>(
        std::sqrt((*labelWeights)[static_cast<size_t>(kept.label[static_cast<size_t>(first[i])])]));
  samples.target = samples.scale.asDiagonal() * samples.target;
  samples.logits = rowsOf(kept.logits, (*original)->experts, first);
  samples.original = picksAt(**original, first);
  samples.isCurrent = now != nullptr;
  if (now)
    samples.picks = picksAt(*now, second);
  return samples;
}

llvm::Expected<Picks> compress::picksOf(const moe::RoutedLayer &layer, const LayerSamples &samples,
                                        WeightEvaluator &weights) {
  if (samples.picks)
    return *samples.picks;
  std::string why;
  if (auto map = RouterMap::find(layer, weights, why))
    return map->route(samples.x, map->map);
  if (llvm::isa_and_nonnull<moe::RouteOp>(layer.router))
    return routeAgain(layer, samples.logits, weights);
  moe::BankOp bank = layer.bank;
  // Only what is behind the router has changed.
  if (!bank->hasAttr(kOrigin) && samples.logits.cols() == static_cast<int64_t>(bank.getExperts()))
    return samples.original;
  return routeAgain(layer, samples.logits, weights);
}

static bool hasOwnBank(moe::RoutedLayer &layer, llvm::ArrayRef<moe::RoutedLayer> layers) {
  return llvm::count_if(layers, [&](const moe::RoutedLayer &other) {
           return moe::BankOp(other.bank) == layer.bank;
         }) == 1;
}

llvm::Error compress::repairLayer(moe::RoutedLayer &layer, const Profile &profile,
                                  const Profile *current, const RepairSource &source,
                                  llvm::function_ref<llvm::Error(RepairLayer &)> repair,
                                  llvm::function_ref<void(const llvm::Twine &)> leave) {
  WeightEvaluator weights(layer.experts->getParentOfType<mlir::ModuleOp>(), source.folder);
  auto bank = FfnBank::create(layer.bank, weights);
  if (!bank) {
    leave(llvm::toString(bank.takeError()));
    return llvm::Error::success();
  }
  auto samples = collectSamples(layer, profile, current, source);
  if (!samples)
    return samples.takeError();
  auto picks = picksOf(layer, *samples, weights);
  if (!picks) {
    leave(llvm::toString(picks.takeError()));
    return llvm::Error::success();
  }
  RepairLayer at{layer, weights, *bank, *samples, *picks, *profile.layer(layer.name)};
  return repair(at);
}

llvm::LogicalResult compress::repairLayers(mlir::ModuleOp module, StringRef pass,
                                           const RepairSource &source,
                                           llvm::function_ref<llvm::Error(RepairLayer &)> repair,
                                           llvm::function_ref<void()> left) {
  if (source.holdOut < 0 || source.holdOut >= 1)
    return module.emitError() << pass << ": hold-out is a share from 0 to below 1, not "
                              << source.holdOut;
  // One layer's tokens at a time: they are most of a profile.
  auto open = [&](const std::string &path, StringRef layer) -> std::optional<Profile> {
    auto profile = readProfile(path, layer);
    if (profile)
      return std::move(*profile);
    module.emitError() << pass << ": " << llvm::toString(profile.takeError());
    return std::nullopt;
  };
  std::optional<Profile> whole = open(source.profile, ""), now;
  if (!whole || (!source.currentProfile.empty() && !(now = open(source.currentProfile, ""))))
    return mlir::failure();
  if (llvm::Error error = now ? checkWeights(module, *whole, *now, source.folder)
                              : checkWeights(module, *whole, source.folder))
    return module.emitError() << pass << ": " << llvm::toString(std::move(error));
  llvm::SmallVector<moe::RoutedLayer> layers = moe::collectRoutedLayers(module);
  std::vector<bool> wanted(layers.size(), source.layers.empty());
  for (StringRef name : source.layers) {
    auto layer = llvm::find_if(layers, [&](const auto &each) { return each.name == name; });
    size_t number = static_cast<size_t>(layer - layers.begin());
    if (number == layers.size() && (name.getAsInteger(10, number) || number >= layers.size()))
      return module.emitError() << pass << ": there is no layer \"" << name << "\"";
    wanted[number] = true;
  }
  for (auto [number, layer] : llvm::enumerate(layers)) {
    if (!wanted[number])
      continue;
    auto leave = [&, &layer = layer](const llvm::Twine &why) {
      left();
      layer.experts.emitRemark() << pass << ": " << layer.name << ": left: " << why.str();
    };
    if (!hasOwnBank(layer, layers)) {
      leave("unsupported: another layer uses its bank too");
      continue;
    }
    if (layer.experts->hasAttr(kRepaired)) {
      leave("its output is corrected already; refit weights before that");
      continue;
    }
    std::optional<Profile> profile = open(source.profile, layer.name), current;
    if (!profile ||
        (!source.currentProfile.empty() && !(current = open(source.currentProfile, layer.name))))
      return mlir::failure();
    if (llvm::Error error =
            repairLayer(layer, *profile, current ? &*current : nullptr, source, repair, leave))
      return layerError(layer) << pass << ": " << llvm::toString(std::move(error));
  }
  return mlir::success();
}
