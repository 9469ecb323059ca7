#include "moec/Transforms/Compress/Prune.h"

#include "MissingStatistic.h"
#include "Problem.h"
#include "Reconstruction.h"
#include "RewriteBank.h"
#include "moec/Transforms/Compress/Budgets.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Compress/WeightHash.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Weights/Literal.h"
#include "llvm/Support/FormatVariadic.h"

#include <numeric>

using namespace mlir;
using namespace moec;
using namespace moec::compress;

std::string moec::idList(ArrayRef<int64_t> ids) {
  std::string text;
  for (int64_t id : ids)
    text += (text.empty() ? "" : ", ") + std::to_string(id);
  return text;
}

llvm::Expected<PruneOptions> moec::pruneOptions(const Profile &profile, StringRef criterion,
                                                StringRef drop, StringRef keep, StringRef budget,
                                                StringRef labels) {
  auto weights = parseLabelWeights(profile, labels);
  if (!weights)
    return weights.takeError();
  PruneOptions options;
  options.saliency.criterion = criterion.str();
  options.saliency.labelWeights = std::move(*weights);
  options.drop = drop.str();
  options.keep = keep.str();
  options.budget = budget.str();
  return options;
}

static bool keepsRouter(const PruneOptions &options) {
  return options.replace == "zero" || options.replace == "constant";
}

static bool reconstructs(const PruneOptions &options) {
  return options.saliency.criterion == "reconstruction";
}

static llvm::Error checkOptions(const PruneOptions &options) {
  bool none = options.drop.empty() && options.keep.empty();
  if ((!options.drop.empty() && !options.keep.empty()) || (none && !listsLayers(options.budget)))
    return problem("needs one of `drop` and `keep`: a number of experts (8) or a part (0.25); or "
                   "`budget` with what each layer loses (8,4)");
  if (!llvm::is_contained({"drop", "mask", "zero", "constant"}, StringRef(options.replace)))
    return problem("replace = \"" + options.replace + "\" is none of drop, mask, zero, constant");
  if (reconstructs(options) && (keepsRouter(options) || options.saliency.perLabel))
    return problem("criterion = reconstruction lets the router choose anew, over all labels: it "
                   "goes with neither per-label nor replace = zero or constant");
  if (options.minExperts < 1)
    return problem("min-experts = " + llvm::Twine(options.minExperts) + " is below 1");
  return llvm::Error::success();
}

// How many experts a layer loses, from `drop` or `keep`.
static llvm::Expected<int64_t> wantedDrops(const PruneOptions &options, int64_t experts) {
  if (options.drop.empty() && options.keep.empty())
    return 0;
  auto share = parseShare(options.drop.empty() ? options.keep : options.drop);
  if (!share)
    return share.takeError();
  if (options.keep.empty())
    return share->of(experts);
  if (share->fraction)
    return Share{1 - share->value, true}.of(experts);
  return std::max<int64_t>(0, experts - share->of(experts));
}

// Puts `choice.order`, droppable ids, in the order of rising loss, as far as `count`. Scores: the rise
// of the relative error as each goes; what is left to 1 belongs to those that stay.
static llvm::Error orderByLoss(moe::RoutedLayer &layer, const Profile &profile,
                               const PruneOptions &options, int64_t count, LayerChoice &choice) {
  RepairSource source;
  source.folder = options.folder;
  source.tokens = options.tokens;
  for (auto [label, weight] : llvm::zip(profile.labels, options.saliency.labelWeights))
    source.labels +=
        llvm::formatv("{0}{1}:{2:e16}", source.labels.empty() ? "" : ",", label, weight).str();
  std::optional<Profile> own; // the tokens of all layers together would take much
  if (!options.tokensFrom.empty()) {
    auto read = readProfile(options.tokensFrom, layer.name);
    if (!read)
      return read.takeError();
    own = std::move(*read);
    selectKept(layer, *own);
  }
  auto drops = dropByReconstruction(layer, own ? *own : profile, source, choice.order,
                                    std::min(count, choice.most()));
  if (!drops)
    return problem("layer '" + layer.name + "': " + llvm::toString(drops.takeError()));
  double left = 1;
  for (double rise : drops->rise)
    left -= rise;
  int64_t others = choice.experts - static_cast<int64_t>(drops->order.size());
  choice.scores.assign(choice.experts, others > 0 ? std::max(0.0, left) / double(others) : 0);
  for (auto [e, rise] : llvm::zip(drops->order, drops->rise))
    choice.scores[e] = rise;
  llvm::stable_sort(choice.order, [&](int64_t a, int64_t b) {
    return llvm::find(drops->order, a) < llvm::find(drops->order, b);
  });
  return llvm::Error::success();
}

// `count`: how many may go at most.
static llvm::Expected<LayerChoice> choiceOf(moe::RoutedLayer &layer, const Profile &profile,
                                            const PruneOptions &options, int64_t count) {
  moe::BankOp bank = layer.bank;
  LayerChoice choice;
  choice.name = layer.name;
  choice.experts = bank.getExperts();
  const LayerProfile *measured = profile.layer(layer.name);
  if (!measured)
    return problem("layer '" + layer.name + "': the profile has no such layer; profile this model");
  if (measured->experts != choice.experts)
    return problem("layer '" + layer.name + "': the profile has " + llvm::Twine(measured->experts) +
                   " experts, the model " + llvm::Twine(choice.experts) + "; profile this model");
  if (reconstructs(options)) {
    choice.scores.assign(choice.experts, 0);
  } else {
    auto scores = expertScores(profile, *measured, options.saliency);
    if (!scores)
      return scores.takeError();
    choice.scores = std::move(*scores);
  }
  auto guarded = bank->getAttrOfType<DenseI64ArrayAttr>(kProtected);
  for (int64_t e : dropOrder(*measured, choice.scores, options.saliency))
    if (bank.getExpertStorage(e) == "dense" &&
        !(guarded && llvm::is_contained(guarded.asArrayRef(), e)))
      choice.order.push_back(e);
  choice.least = std::max(options.minExperts, keepsRouter(options) ? 1 : layer.fewestExperts());
  if (reconstructs(options))
    if (llvm::Error error = orderByLoss(layer, profile, options, count, choice))
      return std::move(error);
  return choice;
}

// Most that layer i may lose: all where the budget is spread by scores.
static int64_t mostOf(const PruneOptions &options, size_t i, int64_t wanted) {
  SmallVector<StringRef> parts;
  StringRef(options.budget).split(parts, ',');
  int64_t listed = 0;
  if (options.budget == "uniform")
    return wanted;
  return i < parts.size() && !parts[i].trim().getAsInteger(10, listed)
             ? listed : std::numeric_limits<int64_t>::max();
}

// A list of what each layer loses says the total as well.
static llvm::Error checkTotal(const PruneOptions &options, ArrayRef<int64_t> wanted,
                              ArrayRef<std::vector<int64_t>> drops) {
  if (!listsLayers(options.budget) || (options.drop.empty() && options.keep.empty()))
    return llvm::Error::success();
  int64_t given = std::accumulate(wanted.begin(), wanted.end(), int64_t(0)), listed = 0;
  for (const std::vector<int64_t> &ids : drops)
    listed += static_cast<int64_t>(ids.size());
  if (given == listed)
    return llvm::Error::success();
  bool drop = !options.drop.empty();
  return problem("budget = " + options.budget + " drops " + llvm::Twine(listed) + " experts, " +
                 (drop ? "drop = " + options.drop : "keep = " + options.keep) + " means " +
                 llvm::Twine(given) + "; give the list alone");
}

llvm::Expected<std::vector<LayerDrops>> moec::planDrops(ModuleOp module, const Profile &profile,
                                                        const PruneOptions &options) {
  if (llvm::Error error = checkOptions(options))
    return std::move(error);
  std::vector<LayerChoice> choices;
  std::vector<int64_t> wanted;
  for (moe::RoutedLayer &layer : moe::collectRoutedLayers(module)) {
    auto drop = wantedDrops(options, int64_t(layer.bank.getExperts()));
    if (!drop)
      return drop.takeError();
    auto choice = choiceOf(layer, profile, options, mostOf(options, choices.size(), *drop));
    if (!choice)
      return choice.takeError();
    choices.push_back(std::move(*choice));
    wanted.push_back(*drop);
  }
  if (choices.empty())
    return problem("the model has no routed layer");
  auto drops = chooseDrops(choices, wanted, options.budget);
  if (!drops)
    return drops.takeError();
  if (llvm::Error error = checkTotal(options, wanted, *drops))
    return std::move(error);
  std::vector<LayerDrops> plan;
  for (auto [choice, ids] : llvm::zip(choices, *drops)) {
    LayerDrops layer{choice.name, choice.experts, ids, 1};
    double all = 0, gone = 0;
    for (double score : choice.scores)
      all += std::max(0.0, score);
    for (int64_t e : ids)
      gone += std::max(0.0, choice.scores[e]);
    if (reconstructs(options)) // the sum may be above 1
      all = 1;
    layer.retained = all > 0 ? std::max(0.0, 1 - gone / all) : 1;
    plan.push_back(layer);
  }
  return plan;
}

// The element type that the bank's parameters are stored in.
static Type storedType(moe::BankOp bank) {
  SmallVector<moe::WeightBindOp> binds = bankParameters(bank);
  if (binds.empty())
    return Float32Type::get(bank.getContext());
  Value value = binds.back().getValue();
  Type element = rankedType(value).getElementType();
  while (Operation *op = value.getDefiningOp()) {
    if (op->getNumOperands() != 1)
      break;
    value = op->getOperand(0);
    if (auto type = rankedType(value).getElementType(); isa<FloatType>(type))
      element = type;
  }
  return element.isF16() || element.isBF16() ? element : Float32Type::get(bank.getContext());
}

// The mean outputs of experts over the tokens that chose them, [experts, hidden].
static llvm::Expected<Value> meanOutputs(moe::RoutedLayer &layer, const LayerProfile &measured,
                                         ArrayRef<int64_t> experts, ArrayRef<double> labels) {
  std::vector<double> n = measured.total(stat::count, labels);
  std::vector<double> sums = measured.total(stat::outputSum, labels);
  int64_t hidden = measured.hidden;
  if (sums.empty() || n.empty())
    return problem("layer '" + layer.name + "': " + missingStatistic(measured, stat::outputSum, 1));
  if (hidden != static_cast<int64_t>(layer.bank.getHidden()))
    return problem("layer '" + layer.name + "': unsupported: the profile has rows of " +
                   llvm::Twine(hidden) + " numbers, its experts give others");
  Type element = storedType(layer.bank);
  auto type = RankedTensorType::get({static_cast<int64_t>(experts.size()), hidden}, element);
  OpBuilder builder = weightBuilder(layer.experts->getParentOfType<ModuleOp>());
  auto fill = [&](LiteralWriter &writer) -> llvm::Error {
    for (int64_t e : experts) {
      SmallVector<char> row;
      for (int64_t h = 0; h < hidden; ++h) {
        bool lost;
        llvm::APFloat number(n[e] > 0 ? sums[e * hidden + h] / n[e] : 0.0);
        number.convert(cast<FloatType>(element).getFloatSemantics(),
                       llvm::APFloat::rmNearestTiesToEven, &lost);
        uint64_t bits = number.bitcastToAPInt().getZExtValue();
        for (unsigned byte = 0; byte < element.getIntOrFloatBitWidth() / 8; ++byte)
          row.push_back(static_cast<char>(bits >> (8 * byte)));
      }
      if (llvm::Error error = writer.write(row))
        return error;
    }
    return llvm::Error::success();
  };
  auto made = makeLiteral(builder, layer.experts.getLoc(), type, layer.name + ".constants", fill);
  if (!made || element.isF32())
    return made;
  return moe::WeightCastOp::create(builder, layer.experts.getLoc(),
                                   type.clone(builder.getF32Type()), *made)
      .getResult();
}

static LogicalResult applyTo(moe::RoutedLayer &layer, const LayerDrops &drops,
                             const Profile &profile, const PruneOptions &options) {
  if (drops.drop.empty())
    return success();
  if (keepsRouter(options)) {
    Value constants;
    if (options.replace == "constant") {
      auto made = meanOutputs(layer, *profile.layer(drops.name), drops.drop,
                              options.saliency.labelWeights);
      if (!made)
        return layer.experts->emitError(llvm::toString(made.takeError()));
      constants = *made;
    }
    return replaceExperts(layer, drops.drop, options.replace, constants);
  }
  SmallVector<int64_t> keep;
  for (int64_t e = 0; e < drops.experts; ++e)
    if (!llvm::is_contained(drops.drop, e))
      keep.push_back(e);
  return keepExperts(layer, keep, options.replace == "mask");
}

LogicalResult moec::applyDrops(ModuleOp module, ArrayRef<LayerDrops> plan, const Profile &profile,
                               const PruneOptions &options) {
  SmallVector<moe::RoutedLayer> layers = moe::collectRoutedLayers(module);
  for (const LayerDrops &drops : plan) {
    auto *layer = llvm::find_if(layers, [&](auto &l) { return l.name == drops.name; });
    if (layer == layers.end())
      return module.emitError("layer '" + drops.name + "': the model has no such layer");
    if (failed(applyTo(*layer, drops, profile, options)))
      return failure();
  }
  return success();
}
