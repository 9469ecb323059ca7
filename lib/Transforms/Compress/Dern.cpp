// recombine-neurons: see Merge.td.
#include "Alignment.h"
#include "MergeWeights.h"
#include "Problem.h"
#include "RewriteBank.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/Prune.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Compress/WeightHash.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "llvm/Support/FormatVariadic.h"

#include <numeric>

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_RECOMBINENEURONS
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

using namespace compress;

Rows unitRows(Rows rows) {
  for (int64_t i = 0; i < rows.rows(); ++i)
    if (double norm = rows.row(i).cast<double>().norm(); norm > 0 && std::isfinite(norm))
      rows.row(i) /= static_cast<float>(norm);
    else
      rows.row(i).setZero();
  return rows;
}

/// Neurons as rows of their parts: gate, up and down vectors and inner biases.
struct Segments {
  Rows gate, up, down;
  Rows gateBias, upBias; ///< [n, 1], or empty
  std::vector<double> weights;

  static Segments of(Neurons neurons, double weight) {
    Segments s;
    s.gate = std::move(neurons.in.gate);
    s.up = std::move(neurons.in.up);
    s.down = neurons.down.transpose();
    s.gateBias = neurons.in.gateBias.transpose();
    s.upBias = neurons.in.upBias.transpose();
    s.weights.assign(static_cast<size_t>(s.up.rows()), weight);
    return s;
  }
  int64_t size() const { return up.rows(); }
  SmallVector<Rows *> parts() { return {&gate, &up, &down, &gateBias, &upBias}; }
  void append(Segments &other, ArrayRef<int32_t> rows) {
    for (auto [to, from] : llvm::zip(parts(), other.parts())) {
      if (to->size() == 0)
        continue;
      int64_t n = to->rows();
      to->conservativeResize(n + static_cast<int64_t>(rows.size()), to->cols());
      to->bottomRows(static_cast<int64_t>(rows.size())) = takeRows(*from, rows);
    }
    for (int32_t row : rows)
      weights.push_back(other.weights[static_cast<size_t>(row)]);
  }
  /// What two neurons are compared by; without gates, which the method does better without.
  Rows directions() const {
    Rows all(up.rows(), up.cols() + down.cols());
    all << up, down;
    return unitRows(std::move(all));
  }
};

/// Weighted spherical k-means of neurons into `count` of them. The centres at first are the first
/// neurons, or with `largest` those with the largest number in their gate (or up) row.
Segments recombine(Segments &from, int64_t count, int64_t rounds, bool largest) {
  Rows directions = from.directions();
  std::vector<int32_t> order(static_cast<size_t>(from.size()));
  std::iota(order.begin(), order.end(), 0);
  if (largest) {
    const Rows &first = from.gate.size() > 0 ? from.gate : from.up;
    Eigen::VectorXf peak = first.cwiseAbs().rowwise().maxCoeff();
    llvm::stable_sort(order, [&](int32_t a, int32_t b) { return peak(a) > peak(b); });
  }
  order.resize(static_cast<size_t>(count));
  llvm::sort(order);
  Segments centres;
  for (auto [to, part] : llvm::zip(centres.parts(), from.parts()))
    if (part->size() > 0)
      *to = takeRows(*part, order);
  std::vector<int64_t> of, before;
  for (int64_t round = 0; round < rounds; ++round) {
    Rows likeness = directions * centres.directions().transpose();
    before = of;
    of.resize(static_cast<size_t>(from.size()));
    Eigen::VectorXd mass = Eigen::VectorXd::Zero(count);
    for (size_t s = 0; s < of.size(); ++s) {
      likeness.row(static_cast<int64_t>(s)).maxCoeff(&of[s]);
      mass(of[s]) += from.weights[s];
    }
    if (of == before)
      break;
    for (auto [to, part] : llvm::zip(centres.parts(), from.parts())) {
      if (part->size() == 0)
        continue;
      // Each member as long as the members' mean, then their mean. A bias is no direction.
      bool scaled = part->cols() > 1;
      Eigen::VectorXd length = part->cast<double>().rowwise().norm(), mean(count);
      mean.setZero();
      Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(count, part->cols());
      for (size_t s = 0; s < of.size(); ++s)
        mean(of[s]) += from.weights[s] * length(static_cast<int64_t>(s));
      for (size_t s = 0; s < of.size(); ++s) {
        double l = length(static_cast<int64_t>(s)), c = from.weights[s];
        if (scaled)
          c *= l > 0 && mass(of[s]) > 0 ? mean(of[s]) / mass(of[s]) / l : 0;
        sum.row(of[s]) += c * part->row(static_cast<int64_t>(s)).cast<double>();
      }
      for (int64_t c = 0; c < count; ++c)
        if (mass(c) > 0)
          to->row(c) = (sum.row(c) / mass(c)).cast<float>();
    }
  }
  return centres;
}

/// One layer: which neurons of dropped experts go where, and the new slabs.
class Recombination {
public:
  Recombination(moe::RoutedLayer &layer, const LayerDrops &drops, ArrayRef<double> importance,
                double alpha, int64_t rounds, bool largest)
      : layer(layer), drops(drops), alpha(alpha), rounds(rounds), largest(largest) {
    for (double value : importance)
      weights.push_back(std::isfinite(value) ? std::max(value, 0.0) : 0);
  }

  llvm::Error transfer(FfnBank &bank);
  llvm::Error write(FfnBank &bank);
  LogicalResult install();
  int64_t moved = 0;   ///< neurons
  int64_t changed() const { return llvm::count_if(received, [](auto &r) { return !r.empty(); }); }

private:
  llvm::Expected<Segments> segments(FfnBank &bank, int64_t expert) {
    auto neurons = neuronsOf(bank, bank.op().getSlab(expert));
    if (!neurons)
      return neurons.takeError();
    return Segments::of(std::move(*neurons), weights[static_cast<size_t>(expert)]);
  }

  moe::RoutedLayer &layer;
  const LayerDrops &drops;
  double alpha;
  int64_t rounds;
  bool largest;
  std::vector<double> weights;
  std::vector<int64_t> kept; // with slabs
  std::vector<std::map<int64_t, std::vector<int32_t>>> received; // by kept: of an expert, neurons
  std::vector<Attribute> literals; // of each parameter; null: nothing changed there
};

// Slabs of kept experts that are compared with a dropped one in one go.
constexpr int64_t kBlockBytes = int64_t(256) << 20;

llvm::Error Recombination::transfer(FfnBank &bank) {
  moe::BankOp op = bank.op();
  for (int64_t e = 0; e < drops.experts; ++e)
    if (op.getExpertStorage(e) == "dense" && !llvm::is_contained(drops.drop, e))
      kept.push_back(e);
  received.resize(kept.size());
  int64_t m = bank.inter(), bytes = m * bank.hidden() * 8;
  size_t size = static_cast<size_t>(std::max<int64_t>(1, kBlockBytes / bytes));
  std::vector<Eigen::VectorXf> best(drops.drop.size(), Eigen::VectorXf::Constant(m, -2));
  std::vector<std::vector<size_t>> heir(drops.drop.size(), std::vector<size_t>(m, 0));
  for (size_t begin = 0; begin < kept.size(); begin += size) {
    std::vector<Rows> block;
    for (size_t r = begin; r < std::min(kept.size(), begin + size); ++r) {
      auto own = segments(bank, kept[r]);
      if (!own)
        return own.takeError();
      block.push_back(own->directions());
    }
    for (auto [d, expert] : llvm::enumerate(drops.drop)) {
      auto gone = segments(bank, expert);
      if (!gone)
        return gone.takeError();
      Rows directions = gone->directions();
      for (size_t r = 0; r < block.size(); ++r) {
        Eigen::VectorXf most = (directions * block[r].transpose()).rowwise().maxCoeff();
        for (int64_t i = 0; i < m; ++i)
          if (most(i) > best[d](i)) {
            best[d](i) = most(i);
            heir[d][static_cast<size_t>(i)] = begin + r;
          }
      }
    }
  }
  for (auto [d, expert] : llvm::enumerate(drops.drop))
    for (int64_t i = 0; i < m; ++i)
      if (best[d](i) > alpha) {
        received[heir[d][static_cast<size_t>(i)]][expert].push_back(static_cast<int32_t>(i));
        ++moved;
      }
  return llvm::Error::success();
}

llvm::Error Recombination::write(FfnBank &bank) {
  moe::BankOp op = bank.op();
  SmallVector<moe::WeightBindOp> binds = bankParameters(op);
  std::vector<std::optional<LiteralWriter>> writers(binds.size());
  auto partOf = [&](Segments &s, moe::WeightBindOp bind) -> Rows * {
    StringRef name = bind.getSymName();
    return name == op.getGate()       ? &s.gate
           : name == op.getUp()       ? &s.up
           : name == op.getDown()     ? &s.down
           : name == op.getGateBias() ? &s.gateBias
           : name == op.getUpBias()   ? &s.upBias
                                      : nullptr; // down biases belong to no neuron
  };
  Segments none;
  for (auto [bind, writer] : llvm::zip(binds, writers)) {
    SmallVector<int64_t> shape(rankedType(bind.getValue()).getShape());
    shape[0] = changed();
    if (!partOf(none, bind) || shape[0] == 0)
      continue;
    auto made = LiteralWriter::create(
        RankedTensorType::get(shape, storedFloat(bind.getValue())));
    if (!made)
      return made.takeError();
    writer.emplace(std::move(*made));
  }
  for (auto [r, from] : llvm::enumerate(received)) {
    if (from.empty())
      continue;
    auto all = segments(bank, kept[r]);
    if (!all)
      return all.takeError();
    for (auto &[expert, rows] : from) {
      auto gone = segments(bank, expert);
      if (!gone)
        return gone.takeError();
      all->append(*gone, rows);
    }
    Segments fresh = recombine(*all, bank.inter(), rounds, largest);
    for (auto [bind, writer] : llvm::zip(binds, writers)) {
      if (!writer)
        continue;
      Rows *part = partOf(fresh, bind);
      Rows numbers = part == &fresh.down ? Rows(part->transpose()) : *part;
      if (llvm::Error error =
              writeAs(*writer, storedFloat(bind.getValue()), numbers.data(), numbers.size()))
        return error;
    }
  }
  for (auto [bind, writer] : llvm::zip(binds, writers)) {
    literals.push_back({});
    if (!writer)
      continue;
    auto made = writer->finish((bind.getSymName() + ".recombined").str());
    if (!made)
      return made.takeError();
    literals.back() = *made;
  }
  return llvm::Error::success();
}

LogicalResult Recombination::install() {
  auto module = layer.experts->getParentOfType<ModuleOp>();
  moe::BankOp bank = layer.bank;
  SmallVector<Value> values;
  for (auto [bind, literal] : llvm::zip(bankParameters(bank), literals)) {
    Value fresh;
    if (auto numbers = dyn_cast_or_null<ElementsAttr>(literal)) {
      OpBuilder builder = weightBuilder(module);
      fresh = moe::WeightLiteralOp::create(builder, layer.experts.getLoc(), numbers.getType(),
                                           numbers);
    }
    WeightSteps steps(module);
    SmallVector<SlabSource> slabs;
    int64_t next = 0;
    for (auto [r, expert] : llvm::enumerate(kept))
      slabs.push_back(fresh && !received[r].empty()
                          ? SlabSource{-1, steps.part(fresh, 0, next++, 1)}
                          : SlabSource{bank.getSlab(expert), {}});
    values.push_back(joinSlabs(steps, bind.getValue(), slabs));
  }
  SmallVector<int64_t> slabs(static_cast<size_t>(drops.experts), -1), keep;
  for (int64_t e = 0; e < drops.experts; ++e) {
    bool stays = !llvm::is_contained(drops.drop, e);
    if (stays)
      keep.push_back(e);
    if (bank.getExpertStorage(e) == "dense")
      slabs[static_cast<size_t>(e)] = stays ? llvm::find(kept, e) - kept.begin() : 0;
  }
  return failure(failed(aliasExperts(layer, slabs, values)) || failed(keepExperts(layer, keep)));
}

struct RecombineNeurons : impl::RecombineNeuronsBase<RecombineNeurons> {
  using RecombineNeuronsBase::RecombineNeuronsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto fail = [&](llvm::Error error) {
      module.emitError("recombine-neurons: " + llvm::toString(std::move(error)));
      signalPassFailure();
    };
    if (profile.empty())
      return fail(problem("needs a profile: profile=FILE"));
    if (!(alpha >= -1 && alpha <= 1) || rounds < 1)
      return fail(problem("alpha is a cosine, from -1 to 1, and rounds is at least 1"));
    if (start != "own" && start != "largest")
      return fail(problem("there is no start \"" + start + "\"; it is own or largest"));
    auto measured = readProfileOf(module, profile, folder);
    if (!measured)
      return fail(measured.takeError());
    auto options = pruneOptions(*measured, criterion, drop, keep, budget, labels);
    if (!options)
      return fail(options.takeError());
    auto plan = planDrops(module, *measured, *options);
    if (!plan)
      return fail(plan.takeError());
    SmallVector<moe::RoutedLayer> layers = moe::collectRoutedLayers(module);
    for (auto [layer, drops] : llvm::zip(layers, *plan)) {
      if (drops.drop.empty())
        continue;
      layer.bank = moe::findBank(layer.experts, layer.experts.getBank());
      std::string why = whyNoNewSlabs(layer.bank);
      llvm::Error error = why.empty() ? recombineLayer(layer, drops, *measured, *options)
                                      : problem(why);
      if (!error)
        continue;
      std::string text = llvm::toString(std::move(error));
      if (!text.empty())
        layerError(layer) << "recombine-neurons: " << text;
      return signalPassFailure();
    }
    cleanUp(module);
  }

private:
  llvm::Error recombineLayer(moe::RoutedLayer &layer, const LayerDrops &drops,
                             const Profile &measured, const PruneOptions &options) {
    auto importance = expertScores(measured, *measured.layer(drops.name), options.saliency);
    if (!importance)
      return importance.takeError();
    Recombination work(layer, drops, *importance, alpha, rounds, start == "largest");
    {
      WeightEvaluator evaluator(getOperation(), folder);
      auto bank = FfnBank::create(layer.bank, evaluator);
      if (!bank)
        return bank.takeError();
      if (llvm::Error error = work.transfer(*bank))
        return error;
      if (llvm::Error error = work.write(*bank))
        return error;
    }
    int64_t neurons = static_cast<int64_t>(drops.drop.size()) *
                      static_cast<int64_t>(moe::BankOp(layer.bank).getInter());
    if (failed(work.install()))
      return problem(""); // diagnosed
    numDropped += drops.drop.size();
    numMoved += work.moved;
    if (remarks)
      layer.experts->emitRemark()
          << "recombine-neurons: layer '" << drops.name << "': " << drops.drop.size() << " of "
          << drops.experts << " experts go (" << idList(drops.drop) << "); " << work.moved
          << " of their " << neurons << " neurons went to " << work.changed() << " others";
    return llvm::Error::success();
  }
};

} // namespace
} // namespace moec
