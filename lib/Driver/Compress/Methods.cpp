#include "Methods.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

using namespace moec;
using llvm::StringRef;
using Family = CompressMethod::Family;

// In the order of docs/compression.md. Sources stand with the passes' documentation.
static constexpr CompressMethod methods[] = {
    {"random", "experts drawn by the seed: the baseline of every other method", Family::prune,
     "prune-experts", "criterion=random", 0},
    {"frequency", "how often an expert is chosen", Family::prune, "prune-experts",
     "criterion=frequency", 0},
    {"soft", "sum of its mixing weights (soft count)", Family::prune, "prune-experts",
     "criterion=soft", 0},
    {"score", "sum of the router's scores over all tokens (SEER soft, EMO)", Family::prune,
     "prune-experts", "criterion=score", 0},
    {"tcess", "sum of the best logit of each token (PreMoe)", Family::prune, "prune-experts",
     "criterion=tcess", 0},
    {"measured", "each expert's absence measured: KL of the predictions, again and again",
     Family::given, "keep-experts", "", 0},
    {"mean-norm", "mean norm of its output (EAN)", Family::prune, "prune-experts",
     "criterion=mean-norm", 1},
    {"gated-norm", "sum of weight times norm of its output", Family::prune, "prune-experts",
     "criterion=gated-norm", 1},
    {"reap", "mean of weight times norm of its output (REAP)", Family::prune, "prune-experts",
     "criterion=reap", 1},
    {"reap-l2", "root mean square of weight times norm (REAP, L2)", Family::prune, "prune-experts",
     "criterion=reap-l2", 1},
    {"easy-ep", "weight times norm times the turn of the residual stream (EASY-EP)", Family::prune,
     "prune-experts", "criterion=easy-ep", 1},
    {"tenp", "weight times norm times the turn against its input (TENP's expert score)",
     Family::prune, "prune-experts", "criterion=tenp", 1},
    {"reconstruction", "greedy: the expert that the layer's output misses least (NAEE, greedy)",
     Family::prune, "prune-experts", "criterion=reconstruction", 1, true},
    {"mone", "fluctuation; dropped experts become their mean output (MoNE)", Family::replace,
     "prune-experts", "criterion=mone replace=constant", 1},
    {"soft-const", "soft count; dropped experts become their mean output", Family::replace,
     "prune-experts", "criterion=soft replace=constant", 1},
    {"soft-zero", "soft count; dropped experts become zero, the router stays", Family::replace,
     "prune-experts", "criterion=soft replace=zero", 0},
    {"ream", "the tail merged into few salient experts, their router rows dropped (REAM)",
     Family::merge, "merge-experts", "preset=ream", 1},
    {"hc-smoe", "mean outputs clustered, frequency-weighted averages (HC-SMoE)", Family::merge,
     "merge-experts", "preset=hc-smoe", 2},
    {"m-smoe", "router logits, aligned neurons, frequency-weighted averages (M-SMoE)",
     Family::merge, "merge-experts", "preset=m-smoe", 0},
    {"sub-moe", "output cosine, merged in a common basis (Sub-MoE)", Family::merge,
     "merge-experts", "preset=sub-moe", 2},
    {"mergemoe", "weight cosine, averages with least-squares down projections (MergeMoE)",
     Family::merge, "merge-experts", "preset=mergemoe", 1, true},
    {"dern", "neurons of dropped experts recombined into the kept ones (DERN)", Family::recombine,
     "recombine-neurons", "", 0},
    {"narrow-magnitude", "all experts stay, with their largest neurons (HEAPr with G = I, ENP)",
     Family::narrow, "narrow-experts", "criterion=magnitude", 1, true},
    {"narrow-obs", "all experts stay, with the neurons that optimal brain surgeon keeps",
     Family::narrow, "narrow-experts", "criterion=obs", 1, true},
};

llvm::ArrayRef<CompressMethod> moec::compressMethods() { return methods; }

const CompressMethod *moec::findMethod(StringRef name) {
  for (const CompressMethod &method : methods)
    if (method.name == name)
      return &method;
  return nullptr;
}

StringRef moec::nameOf(Repair repair) {
  switch (repair) {
  case Repair::none: return "none";
  case Repair::down: return "down";
  case Repair::sequential: return "sequential";
  }
  return "";
}

static std::string list(llvm::ArrayRef<int64_t> numbers) {
  return llvm::join(llvm::map_range(numbers, [](int64_t n) { return std::to_string(n); }), ",");
}

std::string Recipe::key() const {
  if (method.empty())
    return "original";
  return llvm::formatv("{0} keep={1} repair={2} seed={3} labels={4} protect={5}{6}{7}", method,
                       list(keep), nameOf(repair), seed, labels, int(protect),
                       more.empty() ? "" : " ", more);
}

// The options of a method's pass.
static std::string optionsOf(const Recipe &recipe, const CompressMethod &method,
                             llvm::ArrayRef<int64_t> experts, StringRef profile,
                             StringRef folder) {
  if (method.family == Family::given)
    return recipe.more;
  llvm::SmallVector<int64_t> drop;
  for (auto [all, keep] : llvm::zip(experts, recipe.keep))
    drop.push_back(all - keep);
  std::string options = llvm::formatv("profile={0} folder={1} budget={2} {3}", profile, folder,
                                      list(drop), method.options);
  if (method.family == Family::prune || method.family == Family::replace)
    options += " seed=" + std::to_string(recipe.seed);
  if (!recipe.labels.empty())
    options += " labels=" + recipe.labels;
  return recipe.more.empty() ? options : options + " " + recipe.more;
}

std::string moec::pipelineOf(const Recipe &recipe, llvm::ArrayRef<int64_t> experts,
                             StringRef profile, StringRef folder) {
  const CompressMethod *method = findMethod(recipe.method);
  if (!method)
    return "";
  std::string pipeline;
  if (recipe.protect && method->tier > 0)
    pipeline = ("protect-experts{profile=" + profile + " folder=" + folder + "},").str();
  pipeline += method->pass.str() + "{" + optionsOf(recipe, *method, experts, profile, folder) + "}";
  if (recipe.repair == Repair::down)
    pipeline += "," + repairPipeline(recipe, -1, profile, "", folder);
  return pipeline + ",canonicalize,cse";
}

std::string moec::repairPipeline(const Recipe &recipe, int64_t layer, StringRef profile,
                                 StringRef current, StringRef folder) {
  std::string options = llvm::formatv("profile={0} folder={1}", profile, folder);
  if (!current.empty())
    options += (" current-profile=" + current).str();
  if (layer >= 0)
    options += " layers=" + std::to_string(layer);
  if (!recipe.labels.empty())
    options += " labels=" + recipe.labels;
  return "repair-down{" + options + "}";
}
