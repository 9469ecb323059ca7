#include "MergePlan.h"

#include "Clustering.h"
#include "MergeFeatures.h"
#include "Problem.h"
#include "Refit.h"
#include "RewriteBank.h"
#include "moec/Transforms/Compress/Prune.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include <set>

using namespace moec;
using namespace moec::compress;
using llvm::ArrayRef;
using llvm::StringRef;

static llvm::Error inLayer(StringRef layer, const llvm::Twine &text) {
  return problem("layer '" + layer + "': " + text);
}

static llvm::Error inLayer(StringRef layer, llvm::Error error) {
  return inLayer(layer, llvm::toString(std::move(error)));
}

namespace {

struct Preset {
  StringRef name, feature, group, align, weights, combine, router;
};

constexpr Preset kPresets[] = {
    {"ream", "gated-output", "pseudo-prune", "weights", "saliency", "average", "drop"},
    {"hc-smoe", "mean-output", "agglomerative", "none", "frequency", "average", "alias"},
    {"m-smoe", "router-logits", "dominant", "weights", "frequency", "average", "alias"},
    {"sub-moe", "output-cosine", "kmeans", "none", "frequency", "subspace", "alias"},
    {"mergemoe", "weights", "dominant", "none", "frequency", "lstsq-down", "alias"},
};

} // namespace

static llvm::Error oneOf(StringRef option, StringRef value, ArrayRef<StringRef> names) {
  if (llvm::is_contained(names, value))
    return llvm::Error::success();
  std::string text;
  for (StringRef name : names)
    text += (text.empty() ? "" : ", ") + name.str();
  return problem("there is no " + option + " \"" + value + "\"; it is one of " + text);
}

llvm::Error compress::resolveOptions(MergeOptions &options) {
  llvm::SmallVector<StringRef> names;
  for (const Preset &preset : kPresets)
    names.push_back(preset.name);
  if (llvm::Error error = oneOf("preset", options.preset, names))
    return error;
  const Preset &preset = *llvm::find_if(
      kPresets, [&](const Preset &p) { return p.name == options.preset; });
  auto fill = [&](StringRef option, std::string &value, StringRef otherwise,
                  ArrayRef<StringRef> known) {
    if (value.empty())
      value = otherwise.str();
    return oneOf(option, value, known);
  };
  llvm::Error error = llvm::joinErrors(
      llvm::joinErrors(
          fill("feature", options.feature, preset.feature,
               {"router-logits", "mean-output", "output-cosine", "weights", "gated-output"}),
          fill("group", options.group, preset.group,
               {"dominant", "pseudo-prune", "agglomerative", "kmeans"})),
      llvm::joinErrors(
          llvm::joinErrors(fill("align", options.align, preset.align, {"none", "weights"}),
                           fill("weights", options.weights, preset.weights,
                                {"frequency", "saliency", "uniform"})),
          llvm::joinErrors(fill("combine", options.combine, preset.combine,
                                {"average", "subspace", "lstsq-down"}),
                           fill("router", options.router, preset.router, {"alias", "drop"}))));
  if (error)
    return error;
  if (options.maxGroup < 2)
    return problem("max-group = " + llvm::Twine(options.maxGroup) + " is below 2");
  if (!(options.rank > 0 && options.rank <= 1))
    return problem("rank has to be above 0 and not above 1");
  return llvm::Error::success();
}

int64_t LayerMerge::merged() const {
  int64_t count = 0;
  for (const MergeGroup &group : groups)
    count += static_cast<int64_t>(group.members.size()) - 1;
  return count;
}

static bool isProtected(moe::BankOp bank, int64_t expert) {
  auto ids = bank->getAttrOfType<mlir::DenseI64ArrayAttr>(kProtected);
  return ids && llvm::is_contained(ids.asArrayRef(), expert);
}

std::string compress::whyNoNewSlabs(moe::BankOp bank) {
  if (bank.getImplementations().size() > 1)
    return "unsupported: its experts have several kinds";
  if (bankParameters(bank).empty())
    return "unsupported: its experts have no parameters";
  std::set<int64_t> slabs;
  for (int64_t e = 0, n = bank.getExperts(); e < n; ++e) {
    if (bank.getExpertStorage(e) != "dense")
      continue;
    if (bank.getWidth(e) != static_cast<int64_t>(bank.getInter()))
      return "unsupported: its experts have different widths; merge before neurons are pruned";
    if (!slabs.insert(bank.getSlab(e)).second)
      return "unsupported: two of its experts share a slab already; merge once";
  }
  for (moe::WeightBindOp bind : bankParameters(bank))
    if (!storedFloat(bind.getValue()))
      return ("unsupported: @" + bind.getSymName() +
              " is not stored as floats, merged slabs would be larger; merge, then quantise")
          .str();
  return "";
}

static std::string whyNot(moe::BankOp bank, const MergeOptions &options) {
  bool isFfn = bank.getBody() && bank.getUp() && bank.getDown();
  if (!isFfn && options.align == "weights")
    return "unsupported: its experts are regions, whose neurons are not known; give align=none";
  if (!isFfn && options.combine == "lstsq-down")
    return "unsupported: its experts are regions; give combine=average";
  return whyNoNewSlabs(bank);
}

static StringRef criterionOf(const MergeOptions &options) {
  return options.weights == "saliency" ? StringRef(options.criterion) : "frequency";
}

// The scores that the members' weights come from; empty for equal weights.
static llvm::Expected<std::vector<double>> scoresOf(const Profile *profile, StringRef layer,
                                                    const MergeOptions &options) {
  if (options.weights == "uniform")
    return std::vector<double>();
  SaliencyOptions saliency;
  saliency.criterion = criterionOf(options).str();
  saliency.labelWeights = options.labelWeights;
  auto scores = expertScores(*profile, *profile->layer(layer), saliency);
  if (!scores || options.weights != "saliency")
    return scores;
  double least = 0.5;
  for (double score : *scores)
    if (score > 0)
      least = std::min(least, score);
  for (double &score : *scores)
    score = score > 0 ? score : least;
  return scores;
}

static MergeGroup groupOf(std::vector<int64_t> members, ArrayRef<double> scores) {
  MergeGroup group;
  llvm::sort(members.begin() + 1, members.end());
  double sum = 0;
  for (int64_t e : members)
    sum += scores.empty() ? 0 : std::max(0.0, scores[static_cast<size_t>(e)]);
  for (int64_t e : members)
    group.weights.push_back(sum > 0 && std::isfinite(sum)
                                ? std::max(0.0, scores[static_cast<size_t>(e)]) / sum
                                : 1.0 / static_cast<double>(members.size()));
  group.members = std::move(members);
  return group;
}

// The partition of all experts with parameters that these groups, of two or more, are part of.
static LayerMerge partition(moe::RoutedLayer &layer, const Groups &groups,
                            ArrayRef<double> scores) {
  LayerMerge out{layer.name, {}};
  std::set<int64_t> placed;
  for (const auto &group : groups) {
    placed.insert(group.begin(), group.end());
    out.groups.push_back(groupOf(group, scores));
  }
  for (int64_t e = 0, n = layer.bank.getExperts(); e < n; ++e)
    if (layer.bank.getExpertStorage(e) == "dense" && !placed.count(e))
      out.groups.push_back(groupOf({e}, scores));
  llvm::sort(out.groups, [](const MergeGroup &a, const MergeGroup &b) {
    return a.members.front() < b.members.front();
  });
  return out;
}

// The groups that one layer is given: "0,3|1,5".
static llvm::Expected<Groups> parseGroups(moe::RoutedLayer &layer, StringRef text) {
  Groups groups;
  std::set<int64_t> seen;
  llvm::SmallVector<StringRef> parts;
  text.split(parts, '|');
  for (StringRef part : parts) {
    llvm::SmallVector<StringRef> ids;
    part.split(ids, ',');
    std::vector<int64_t> group;
    for (StringRef id : ids) {
      int64_t e = 0;
      if (id.trim().getAsInteger(10, e) || e < 0 ||
          e >= static_cast<int64_t>(layer.bank.getExperts()))
        return inLayer(layer.name, "groups: \"" + id + "\" is none of its " +
                                       llvm::Twine(layer.bank.getExperts()) + " experts");
      if (!seen.insert(e).second)
        return inLayer(layer.name, "groups: expert " + llvm::Twine(e) +
                                       " is named twice; groups have to be a partition");
      if (layer.bank.getExpertStorage(e) != "dense" ||
          (ids.size() > 1 && isProtected(layer.bank, e)))
        return inLayer(layer.name, "groups: expert " + llvm::Twine(e) +
                                       " is protected or has no parameters");
      group.push_back(e);
    }
    groups.push_back(group);
  }
  return groups;
}

static llvm::Expected<std::vector<LayerMerge>> givenGroups(
    llvm::MutableArrayRef<moe::RoutedLayer> layers, const Profile *profile,
    const MergeOptions &options) {
  llvm::StringMap<StringRef> texts;
  llvm::SmallVector<StringRef> parts;
  StringRef(options.groups).split(parts, ';', -1, false);
  for (StringRef part : parts) {
    auto [name, groups] = part.rsplit('=');
    name = name.trim();
    if (llvm::none_of(layers, [&](auto &l) { return l.name == name; }) || name == part.trim())
      return problem("groups: \"" + part + "\" names no layer; write layer0=0,3|1,5;layer2=4,7");
    if (!texts.try_emplace(name, groups).second)
      return inLayer(name, "groups: it is named twice");
  }
  std::vector<LayerMerge> plan;
  for (moe::RoutedLayer &layer : layers) {
    Groups groups;
    if (texts.count(layer.name)) {
      if (std::string why = whyNot(layer.bank, options); !why.empty())
        return inLayer(layer.name, why);
      auto parsed = parseGroups(layer, texts[layer.name]);
      if (!parsed)
        return parsed.takeError();
      groups = *parsed;
    }
    const LayerProfile *measured = profile ? profile->layer(layer.name) : nullptr;
    if (!groups.empty() && options.weights != "uniform" &&
        (!measured || measured->experts != static_cast<int64_t>(layer.bank.getExperts())))
      return inLayer(layer.name, "weights = " + options.weights +
                                     " needs a profile of this model; or give weights=uniform");
    auto scores = groups.empty() ? std::vector<double>() : scoresOf(profile, layer.name, options);
    if (!scores)
      return inLayer(layer.name, scores.takeError());
    plan.push_back(partition(layer, groups, *scores));
    int64_t left = static_cast<int64_t>(plan.back().groups.size());
    if (options.router == "drop" && plan.back().merged() > 0 && left < layer.k())
      return inLayer(layer.name, "groups: " + llvm::Twine(left) + " experts are left, but a token "
                                 "takes " + llvm::Twine(layer.k()) + "; give router=alias");
  }
  return plan;
}

// Those that may be merged, those that matter most first.
static llvm::Expected<std::vector<int64_t>> byImportance(moe::BankOp bank, const Profile &profile,
                                                         StringRef layer,
                                                         const MergeOptions &options) {
  SaliencyOptions saliency;
  saliency.criterion = criterionOf(options).str();
  saliency.labelWeights = options.labelWeights;
  auto scores = expertScores(profile, *profile.layer(layer), saliency);
  if (!scores)
    return scores.takeError();
  std::vector<int64_t> order = dropOrder(*profile.layer(layer), *scores, saliency);
  std::reverse(order.begin(), order.end());
  llvm::erase_if(order, [&](int64_t e) {
    return bank.getExpertStorage(e) != "dense" || isProtected(bank, e);
  });
  return order;
}

static llvm::Expected<Groups> findGroups(const Features &features, ArrayRef<int64_t> order,
                                         int64_t merged, const MergeOptions &options) {
  int64_t count = static_cast<int64_t>(order.size()) - merged;
  if (count < 1 && merged < features.similarity.rows())
    return problem("unsupported: " + llvm::Twine(merged) + " of its experts would go, but only " +
                   llvm::Twine(order.size()) + " are neither protected nor without weights");
  if (count < 1)
    return problem("all of its experts would go; at least one has to stay");
  if (options.group == "dominant")
    return joinCentres(features.similarity, order.take_front(count), order.drop_front(count),
                       options.maxGroup);
  if (options.group == "pseudo-prune")
    return fillCentres(features.similarity, order.take_front(count), order.drop_front(count),
                       options.maxGroup);
  std::vector<int64_t> items(order.begin(), order.end());
  llvm::sort(items);
  auto groups = options.group == "kmeans"
                    ? kMeans(features.points, items, count, options.maxGroup, options.seed)
                    : linkAverage(features.similarity, items, count, options.maxGroup);
  if (!groups)
    return groups;
  // The member that matters most stands for its group.
  for (auto &group : *groups)
    std::swap(group.front(), *llvm::min_element(group, [&](int64_t a, int64_t b) {
                return llvm::find(order, a) < llvm::find(order, b);
              }));
  return groups;
}

llvm::Expected<std::vector<LayerMerge>> compress::planMerges(mlir::ModuleOp module,
                                                             const Profile *profile,
                                                             const MergeOptions &options) {
  llvm::SmallVector<moe::RoutedLayer> layers = moe::collectRoutedLayers(module);
  if (!options.groups.empty())
    return givenGroups(layers, profile, options);
  if (!profile)
    return problem("needs a profile: profile=FILE");
  PruneOptions counts;
  counts.saliency.criterion = criterionOf(options).str();
  counts.saliency.labelWeights = options.labelWeights;
  counts.drop = options.drop;
  counts.keep = options.keep;
  counts.budget = options.budget;
  counts.replace = options.router == "alias" ? "zero" : "drop"; // whether a token's slots matter
  auto drops = planDrops(module, *profile, counts);
  if (!drops)
    return drops.takeError();
  WeightEvaluator weights(module, options.folder);
  std::vector<LayerMerge> plan;
  for (auto [layer, drop] : llvm::zip(layers, *drops)) {
    Groups groups;
    std::vector<double> scores;
    if (!drop.drop.empty()) {
      if (std::string why = whyNot(layer.bank, options); !why.empty())
        return inLayer(layer.name, why);
      auto features = expertFeatures(options.feature, layer.bank, profile->layer(layer.name),
                                     options.labelWeights, weights);
      if (!features)
        return inLayer(layer.name, features.takeError());
      auto order = byImportance(layer.bank, *profile, layer.name, options);
      if (!order)
        return inLayer(layer.name, order.takeError());
      auto found = findGroups(*features, *order, static_cast<int64_t>(drop.drop.size()), options);
      if (!found)
        return inLayer(layer.name, found.takeError());
      auto of = scoresOf(profile, layer.name, options);
      if (!of)
        return inLayer(layer.name, of.takeError());
      groups = std::move(*found);
      scores = std::move(*of);
    }
    plan.push_back(partition(layer, groups, scores));
  }
  return plan;
}
