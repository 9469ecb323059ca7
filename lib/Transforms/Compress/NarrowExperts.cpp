// narrow-experts: see Narrow.td.
#include "NeuronScores.h"
#include "Problem.h"
#include "RepairSamples.h"
#include "RewriteBank.h"
#include "RewriteGather.h"
#include "moec/Transforms/Compress/Budgets.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_NARROWEXPERTS
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

using namespace compress;
using Numbers = std::vector<int64_t>;

bool isQuantised(Value value) {
  Operation *op = value.getDefiningOp();
  return op && (isa<moe::WeightDequantizeOp>(op) || llvm::any_of(op->getOperands(), isQuantised));
}

// Whether slices of `axis` part blocks that share a scale, so that they cannot stay quantised.
bool partsBlocks(Value value, int64_t axis) {
  Operation *op = value.getDefiningOp();
  if (!op || op->getNumOperands() == 0)
    return false;
  if (auto dequantize = dyn_cast<moe::WeightDequantizeOp>(op))
    return dequantize.getBlocks()[axis] > 1 &&
           dequantize.getBlocks()[axis] < rankedType(value).getDimSize(axis);
  if (auto transpose = dyn_cast<moe::WeightTransposeOp>(op))
    return partsBlocks(transpose.getInput(), transpose.getPerm()[axis]);
  if (isa<moe::WeightCastOp, moe::WeightSliceOp, moe::WeightGatherOp, moe::WeightConcatOp>(op))
    return llvm::any_of(op->getOperands(), [&](Value v) { return partsBlocks(v, axis); });
  return isQuantised(value); // other steps may move axes
}

// The axis of the neurons in each parameter, in the order of bankParameters; 0: none.
SmallVector<int64_t> neuronAxes(moe::BankOp bank) {
  SmallVector<int64_t> axes;
  for (auto [has, axis] : {std::pair(bank.getGate().has_value(), 1), {bank.getUp().has_value(), 1},
                           {bank.getDown().has_value(), 2}, {bank.getGateBias().has_value(), 1},
                           {bank.getUpBias().has_value(), 1}, {bank.getDownBias().has_value(), 0}})
    if (has)
      axes.push_back(axis);
  return axes;
}

// Leaves slab s the neurons kept[s], rising and as many of each.
void keepNeurons(moe::RoutedLayer &layer, ArrayRef<Numbers> kept) {
  ownBank(layer);
  moe::BankOp bank = layer.bank;
  SmallVector<ExpertEntry> entries = expertEntries(bank);
  SmallVector<moe::WeightBindOp> binds = bankParameters(bank);
  for (auto [i, axis] : llvm::enumerate(neuronAxes(bank))) {
    if (axis == 0)
      continue;
    WeightSteps steps(bank->getParentOfType<ModuleOp>()); // binds move
    Value value = binds[i].getValue();
    SmallVector<Value> parts;
    for (auto [slab, neurons] : llvm::enumerate(kept)) {
      Value part = gatherSlices(steps, value, 0, {static_cast<int64_t>(slab)});
      parts.push_back(gatherSlices(steps, part, axis, neurons));
    }
    setParameter(bank, static_cast<unsigned>(i),
                 parts.size() == 1 ? parts.front() : steps.concat(parts, 0));
  }
  int64_t width = static_cast<int64_t>(kept.front().size());
  for (ExpertEntry &entry : entries) {
    entry.width = std::min(entry.width, width);
    if (entry.slab < 0)
      continue;
    const Numbers &neurons = kept[static_cast<size_t>(entry.slab)];
    entry.width = llvm::lower_bound(neurons, bank.getWidth(&entry - entries.begin())) -
                  neurons.begin(); // those that it used
  }
  bank.setInter(static_cast<uint64_t>(width));
  setExperts(bank, entries);
  layer.bank = moe::findBank(layer.experts, layer.experts.getBank());
}

// The multiple below; that of a part of it where more than a 32nd of the width would be lost.
int64_t roundedWidth(int64_t width, int64_t multiple) {
  while (multiple > 1 && width % multiple > width / 32)
    multiple /= 2;
  return width - width % multiple;
}

// Neurons of an expert with which all of them take what `worth` take now: its output's bias stays.
int64_t widthOfBytes(moe::BankOp bank, int64_t worth) {
  int64_t inter = bank.getInter(), experts = bank.getExperts(), hidden = bank.getHidden();
  int64_t fixed = bank.getDownBias() ? hidden : 0;
  int64_t neuron = hidden * (1 + bool(bank.getGate()) + bool(bank.getUp())) +
                   bool(bank.getGateBias()) + bool(bank.getUpBias());
  int64_t room = (inter * neuron + fixed) * worth - fixed * experts;
  return std::max<int64_t>(0, room / (experts * neuron));
}

struct NarrowExperts : impl::NarrowExpertsBase<NarrowExperts> {
  using NarrowExpertsBase::NarrowExpertsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto fail = [&](const llvm::Twine &text) {
      module.emitError("narrow-experts: " + text);
      signalPassFailure();
    };
    if (profile.empty())
      return fail("needs a profile: profile=FILE");
    if (criterion != "obs" && criterion != "magnitude")
      return fail("there is no criterion \"" + criterion + "\"; it is obs or magnitude");
    if (multiple < 1 || !(ridge > 0) || minTokens < 0 || maxNeurons < 0)
      return fail("multiple and ridge have to be positive, min-tokens and max-neurons at least 0");
    auto widths = planWidths();
    if (!widths)
      return fail(llvm::toString(widths.takeError()));
    RepairSource source{profile, "", folder, /*holdOut=*/0, tokens, {}, labels};
    auto narrow = [&](RepairLayer &at) { return narrowLayer(at, (*widths)[at.layer.name]); };
    if (failed(repairLayers(module, "narrow-experts", source, narrow, [&] { ++numLeft; })))
      return signalPassFailure();
    cleanUp(module);
  }

private:
  llvm::Expected<std::map<std::string, int64_t>> planWidths();
  llvm::Error narrowLayer(RepairLayer &at, int64_t width);
  llvm::Expected<NeuronRanking> rank(RepairLayer &at, int64_t slab, int64_t count);
  void report(RepairLayer &at, int64_t width, double retained);

  int64_t byWeights = 0; // slabs of the layer at hand
};

} // namespace

// The width that each layer's experts get.
llvm::Expected<std::map<std::string, int64_t>> NarrowExperts::planWidths() {
  SmallVector<moe::RoutedLayer> layers = moe::collectRoutedLayers(getOperation());
  if (layers.empty())
    return problem("the model has no routed layer");
  bool listed = budget != "uniform";
  SmallVector<StringRef> parts;
  StringRef(budget).split(parts, ',');
  if (listed && parts.size() != layers.size())
    return problem("budget \"" + budget + "\" is not uniform and has " +
                   llvm::Twine(parts.size()) + " numbers for " + llvm::Twine(layers.size()) +
                   " layers");
  if (listed && !drop.empty())
    return problem("budget = " + budget + " says what each layer loses; give it without drop");
  if (!listed && drop.empty())
    return problem("needs drop (neurons of each expert: 32, 0.25) or budget (experts' worth of "
                   "each layer: 8,8)");
  auto share = parseShare(listed ? "0" : StringRef(drop));
  if (!share)
    return share.takeError();
  std::map<std::string, int64_t> widths;
  for (auto [i, layer] : llvm::enumerate(layers)) {
    int64_t inter = layer.bank.getInter(), experts = layer.bank.getExperts(), gone = 0;
    if (listed) {
      if (parts[i].trim().getAsInteger(10, gone) || gone < 0)
        return problem("budget \"" + budget + "\": \"" + parts[i] + "\" is no number of experts");
      if (gone >= experts)
        return problem("layer '" + layer.name + "': cannot lose the bytes of " +
                       llvm::Twine(gone) + " of " + llvm::Twine(experts) + " experts");
      gone = inter - widthOfBytes(layer.bank, experts - gone);
    } else {
      gone = share->of(inter);
    }
    int64_t width = inter - gone;
    if (inter > 0 && gone > 0 && width <= 0) // without a width the experts are regions
      return problem("layer '" + layer.name + "': " + (listed ? "unsupported: " : "") +
                     "cannot drop " + llvm::Twine(gone) + " of " + llvm::Twine(inter) +
                     " neurons; one has to stay");
    widths[layer.name] = gone > 0 ? roundedWidth(width, multiple) : width;
  }
  return widths;
}

llvm::Expected<NeuronRanking> NarrowExperts::rank(RepairLayer &at, int64_t slab, int64_t count) {
  bool surgeon = criterion == "obs" && at.bank.inter() <= maxNeurons;
  const LayerSamples &samples = at.samples;
  auto measured = neuronStatistics(at.bank, slab, samples.x, at.picks, samples.scale, surgeon);
  if (!measured)
    return measured.takeError();
  auto down = at.bank.down(slab);
  if (!down)
    return down.takeError();
  if (measured->tokens < minTokens || measured->tokens == 0) {
    auto weights = at.bank.slab(slab);
    if (!weights)
      return weights.takeError();
    ++byWeights;
    return leastNeurons(weightScores(*weights, *down), count);
  }
  if (surgeon)
    return surgeonNeurons(measured->gram, *down, count, ridge);
  Eigen::VectorXd columns = down->cast<double>().colwise().squaredNorm();
  return leastNeurons(measured->energy.cwiseProduct(columns), count);
}

llvm::Error NarrowExperts::narrowLayer(RepairLayer &at, int64_t width) {
  int64_t inter = at.bank.inter(), slabs = at.bank.slabs(), count = inter - width;
  if (count == 0)
    return llvm::Error::success();
  for (auto [bind, axis] : llvm::zip(bankParameters(at.layer.bank), neuronAxes(at.layer.bank)))
    if (axis > 0 && partsBlocks(bind.getValue(), axis)) {
      ++numLeft;
      at.layer.experts.emitRemark() << "narrow-experts: " << at.layer.name
                                    << ": left: unsupported: @" << bind.getSymName()
                                    << " is quantised in blocks of several neurons";
      return llvm::Error::success();
    }
  byWeights = 0;
  double retained = 0;
  std::vector<Numbers> kept;
  for (int64_t slab = 0; slab < slabs; ++slab) {
    auto ranking = rank(at, slab, count);
    if (!ranking)
      return ranking.takeError();
    retained += ranking->retained / static_cast<double>(slabs);
    std::vector<bool> gone(static_cast<size_t>(inter), false);
    for (int64_t neuron : ranking->gone)
      gone[static_cast<size_t>(neuron)] = true;
    Numbers stay;
    for (int64_t i = 0; i < inter; ++i)
      if (!gone[static_cast<size_t>(i)])
        stay.push_back(i);
    kept.push_back(std::move(stay));
  }
  report(at, width, retained);
  keepNeurons(at.layer, kept);
  ++numNarrowed;
  numNeurons += static_cast<unsigned>(slabs * count);
  return llvm::Error::success();
}

void NarrowExperts::report(RepairLayer &at, int64_t width, double retained) {
  if (!remarks)
    return;
  int64_t inter = at.bank.inter();
  StringRef used = inter <= maxNeurons ? StringRef(criterion) : "magnitude";
  auto remark = at.layer.experts.emitRemark()
                << "narrow-experts: " << at.layer.name << ": width " << inter << " -> " << width
                << "; " << llvm::formatv("{0:f1}", 100 * retained).str() << " % of " << used
                << " stays (" << at.samples.tokens() << " tokens)";
  if (byWeights > 0)
    remark << "; " << byWeights << " of " << at.bank.slabs() << " slabs, with fewer than "
           << std::max<int64_t>(1, minTokens) << " tokens, by their weights";
  auto guarded = at.layer.bank->getAttrOfType<DenseI64ArrayAttr>(kProtected);
  if (guarded && !guarded.empty())
    remark << "; " << guarded.size() << " protected experts are narrowed, too";
}

} // namespace moec
