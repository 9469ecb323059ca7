#include "Refit.h"

#include "DownStore.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Prepare/WeightSteps.h"
#include <set>

using namespace moec;
using namespace moec::compress;
using llvm::ArrayRef;

mlir::Type compress::storedFloat(mlir::Value value) {
  mlir::Operation *op = value.getDefiningOp();
  if (!op)
    return {};
  if (llvm::isa<moe::WeightDequantizeOp, moe::WeightUnpackOp>(op))
    return {};
  if (op->getNumOperands() == 0) {
    mlir::Type element = rankedType(value).getElementType();
    return llvm::isa<mlir::FloatType>(element) && storageBits(element) >= 16 ? element
                                                                             : mlir::Type();
  }
  mlir::Type widest;
  for (mlir::Value operand : op->getOperands()) {
    mlir::Type type = storedFloat(operand);
    if (!type)
      return {};
    if (!widest || storageBits(type) > storageBits(widest))
      widest = type;
  }
  return widest;
}

void compress::roundTo(mlir::Type type, float *values, int64_t count) {
  auto f32 = mlir::Float32Type::get(type.getContext());
  if (type == f32)
    return;
  std::vector<char> there(static_cast<size_t>(count * elementBytes(type)));
  convertFloats(f32, reinterpret_cast<const char *>(values), type, there.data(), count);
  convertFloats(type, there.data(), f32, reinterpret_cast<char *>(values), count);
}

namespace {

class Refit {
public:
  Refit(RepairLayer &at, ArrayRef<int64_t> slabs, const RefitOptions &options)
      : at(at), options(options), slabs(slabs), n(at.samples.tokens()),
        fitted(at.samples.fitted) {
    for (double ridge : options.ridges)
      ridges.push_back(ridge);
    if (fitted < n) // else the first one is taken
      llvm::sort(ridges, std::greater<>());
  }
  llvm::Expected<RefitResult> run();

private:
  bool prepare();
  llvm::Error sweep(bool first);
  llvm::Error solveGroup(size_t begin, size_t end, bool first);
  void change(std::vector<Down> &now, int64_t column, Eigen::MatrixXd &w);
  llvm::Expected<FeatureBlock> features(int64_t slab);
  Eigen::MatrixXd fit(ArrayRef<FeatureBlock> blocks, const Eigen::MatrixXd &pull);
  llvm::Expected<Down> old(int64_t slab);
  llvm::Expected<Down> latest(size_t place, bool first);
  void install();
  mlir::Value merged(mlir::Value old, mlir::ElementsAttr fresh);
  int64_t perSlab() const { return at.bank.inter() + withBias; }

  RepairLayer &at;
  const RefitOptions &options;
  std::vector<int64_t> slabs;
  int64_t n, fitted;
  llvm::SmallVector<double> ridges; // that are still to choose from
  bool withBias = false, newBias = false;
  mlir::Type stored, biasStored;
  Rows residual;
  std::vector<std::vector<int32_t>> slots; // of each expert
  std::unique_ptr<DownStore> store, before;
  RefitResult result;
};

} // namespace

// What cannot be refitted says why.
bool Refit::prepare() {
  moe::BankOp bank = at.bank.op();
  auto bindOf = [&](std::optional<llvm::StringRef> name) {
    return moe::findBind(bank, *name).getValue();
  };
  stored = storedFloat(bindOf(bank.getDown()));
  withBias = bank.getDownBias() ? options.biases : options.addBiases;
  newBias = withBias && !bank.getDownBias();
  biasStored = !withBias || newBias ? stored : storedFloat(bindOf(bank.getDownBias()));
  if (!stored || !biasStored) {
    result.why = "unsupported: its down weights are not stored as floats, new ones would be larger";
    return false;
  }
  slots.resize(static_cast<size_t>(at.bank.experts()));
  std::set<int64_t> used;
  for (size_t i = 0; i < at.picks.ids.size(); ++i) {
    int32_t e = at.picks.ids[i];
    if (e < 0 || at.picks.weights[i] == 0 || bank.getExpertStorage(e) != "dense")
      continue;
    slots[static_cast<size_t>(e)].push_back(static_cast<int32_t>(i));
    used.insert(bank.getSlab(e));
  }
  if (slabs.empty())
    slabs.assign(used.begin(), used.end());
  if (slabs.empty())
    result.why = "no token uses one of its slabs";
  return !slabs.empty();
}

// What the experts of a slab compute from their tokens before the down projection, times weights.
llvm::Expected<FeatureBlock> Refit::features(int64_t slab) {
  moe::BankOp bank = at.bank.op();
  int64_t inter = at.bank.inter();
  std::set<int32_t> tokens;
  llvm::SmallVector<size_t> experts;
  for (size_t e = 0; e < slots.size(); ++e)
    if (!slots[e].empty() && bank.getSlab(static_cast<int64_t>(e)) == slab) {
      experts.push_back(e);
      for (int32_t slot : slots[e])
        tokens.insert(slot / static_cast<int32_t>(at.picks.k));
    }
  FeatureBlock block;
  block.rows.assign(tokens.begin(), tokens.end());
  block.features = Rows::Zero(static_cast<int64_t>(block.rows.size()), perSlab());
  if (experts.empty())
    return block;
  auto weights = at.bank.slab(slab);
  if (!weights)
    return weights.takeError();
  for (size_t e : experts) {
    std::vector<int32_t> index;
    for (int32_t slot : slots[e])
      index.push_back(slot / static_cast<int32_t>(at.picks.k));
    Rows h = at.bank.intermediate(*weights, takeRows(at.samples.x, index),
                                  bank.getWidth(static_cast<int64_t>(e)));
    for (auto [i, slot] : llvm::enumerate(slots[e])) {
      auto place = std::lower_bound(block.rows.begin(), block.rows.end(), index[i]);
      auto row = block.features.row(place - block.rows.begin());
      float g = at.picks.weights[static_cast<size_t>(slot)] * at.samples.scale(index[i]);
      row.head(inter) += g * h.row(static_cast<int64_t>(i));
      if (withBias)
        row(inter) += g;
    }
  }
  return block;
}

llvm::Expected<Down> Refit::old(int64_t slab) {
  auto matrix = at.bank.down(slab);
  if (!matrix)
    return matrix.takeError();
  auto bias = at.bank.downBias(slab);
  if (!bias)
    return bias.takeError();
  return Down{std::move(*matrix), std::move(*bias)};
}

// As the last sweep left it.
llvm::Expected<Down> Refit::latest(size_t place, bool first) {
  if (first)
    return old(slabs[place]);
  return before->read(place);
}

// The change of the unknowns of these blocks. Each ridge takes a factorisation, so that they are
// tried from the middle one on as long as the error on the tokens held out falls, and groups
// behind the first one take what it took.
Eigen::MatrixXd Refit::fit(ArrayRef<FeatureBlock> blocks, const Eigen::MatrixXd &pull) {
  RidgeSystem system(blocks, residual, fitted);
  if (fitted == n || ridges.size() == 1) {
    result.ridge = ridges.front();
    return system.solve(result.ridge, pull);
  }
  Eigen::MatrixXd best;
  double least = 0;
  auto better = [&](double ridge) {
    Eigen::MatrixXd w = system.solve(ridge, pull);
    if (w.size() == 0)
      return false;
    Rows left = residual.bottomRows(n - fitted);
    subtractPrediction(blocks, w, left, fitted);
    double error = squares(left, 0, n - fitted);
    if (best.size() > 0 && error >= least)
      return false;
    best = std::move(w);
    least = error;
    result.ridge = ridge;
    return true;
  };
  size_t middle = ridges.size() / 2, at = middle;
  better(ridges[at]);
  while (at + 1 < ridges.size() && better(ridges[at + 1]))
    ++at;
  if (at == middle) // smaller ones are no better
    while (at > 0 && better(ridges[at - 1]))
      --at;
  if (best.size() > 0)
    ridges.assign(1, result.ridge);
  return best;
}

// Slabs [begin, end) together; one that is too large by itself in ranges of its columns.
llvm::Error Refit::solveGroup(size_t begin, size_t end, bool first) {
  std::vector<FeatureBlock> blocks;
  std::vector<Down> now;
  int64_t m = perSlab(), unknowns = m * static_cast<int64_t>(end - begin), inter = at.bank.inter();
  Eigen::MatrixXd pull;
  if (!first)
    pull = Eigen::MatrixXd::Zero(unknowns, at.bank.hidden());
  for (size_t i = begin; i < end; ++i) {
    auto block = features(slabs[i]);
    if (!block)
      return block.takeError();
    blocks.push_back(std::move(*block));
    auto down = latest(i, first);
    if (!down)
      return down.takeError();
    now.push_back(std::move(*down));
    if (first)
      continue;
    auto origin = old(slabs[i]);
    if (!origin)
      return origin.takeError();
    int64_t from = static_cast<int64_t>(i - begin) * m;
    pull.middleRows(from, inter) = (origin->matrix - now.back().matrix).transpose().cast<double>();
    if (withBias)
      pull.row(from + inter) = (origin->bias - now.back().bias).cast<double>();
  }
  int64_t step = std::max<int64_t>(1, std::min(unknowns, options.maxUnknowns));
  for (int64_t column = 0; column < unknowns; column += step) {
    int64_t width = std::min(step, unknowns - column);
    std::vector<FeatureBlock> part;
    if (width != unknowns)
      part.push_back({blocks[0].rows, blocks[0].features.middleCols(column, width)});
    ArrayRef<FeatureBlock> solved = part.empty() ? ArrayRef(blocks) : ArrayRef(part);
    Eigen::MatrixXd w = fit(solved, first ? pull : Eigen::MatrixXd(pull.middleRows(column, width)));
    if (w.size() == 0)
      continue;
    change(now, column, w);
    subtractPrediction(solved, w, residual);
  }
  for (const Down &down : now)
    if (llvm::Error error = store->append(down))
      return error;
  return llvm::Error::success();
}

// Adds `w` to the unknowns from `column` on and makes it the change that is left after rounding, so
// that errors are those of what is written.
void Refit::change(std::vector<Down> &now, int64_t column, Eigen::MatrixXd &w) {
  int64_t m = perSlab(), inter = at.bank.inter();
  for (int64_t i = 0; i < w.rows(); ++i) {
    Down &down = now[static_cast<size_t>((column + i) / m)];
    int64_t in = (column + i) % m;
    Eigen::RowVectorXf old = down.bias;
    if (in < inter)
      old = down.matrix.col(in).transpose();
    Eigen::RowVectorXf fresh = (old.cast<double>() + w.row(i)).cast<float>();
    roundTo(in < inter ? stored : biasStored, fresh.data(), fresh.size());
    if (in < inter)
      down.matrix.col(in) = fresh.transpose();
    else
      down.bias = fresh;
    w.row(i) = (fresh - old).cast<double>();
  }
}

llvm::Error Refit::sweep(bool first) {
  auto made = DownStore::create(static_cast<int64_t>(slabs.size()), at.bank.hidden(),
                                at.bank.inter(), stored, withBias ? biasStored : mlir::Type());
  if (!made)
    return made.takeError();
  store = std::move(*made);
  size_t size = static_cast<size_t>(std::max<int64_t>(1, options.maxUnknowns / perSlab()));
  result.groups = 0;
  for (size_t begin = 0; begin < slabs.size(); begin += size, ++result.groups)
    if (llvm::Error error = solveGroup(begin, std::min(slabs.size(), begin + size), first))
      return error;
  return store->close(moe::BankOp(at.layer.bank).getSymName());
}

// The bank's rows with the new ones in their places.
mlir::Value Refit::merged(mlir::Value old, mlir::ElementsAttr fresh) {
  auto module = at.layer.experts->getParentOfType<mlir::ModuleOp>();
  mlir::OpBuilder builder = weightBuilder(module);
  mlir::Value literal = moe::WeightLiteralOp::create(builder, at.layer.experts.getLoc(),
                                                     fresh.getType(), fresh);
  WeightSteps steps(module);
  literal = steps.cast(literal, rankedType(old).getElementType());
  int64_t rows = rankedType(old).getDimSize(0), count = static_cast<int64_t>(slabs.size());
  if (count == rows)
    return literal;
  llvm::SmallVector<int64_t> index;
  for (int64_t row = 0; row < rows; ++row) {
    auto place = std::lower_bound(slabs.begin(), slabs.end(), row);
    bool is = place != slabs.end() && *place == row;
    index.push_back(is ? place - slabs.begin() : count + row);
  }
  return steps.gather(steps.concat({literal, old}, 0), 0, index);
}

void Refit::install() {
  moe::BankOp bank = at.layer.bank;
  auto place = [&](llvm::StringRef bind) {
    unsigned i = 0;
    for (moe::WeightBindOp each : bankParameters(bank)) {
      if (each.getSymName() == bind)
        break;
      ++i;
    }
    return i;
  };
  llvm::StringRef down = *bank.getDown();
  mlir::Value oldDown = moe::findBind(bank, down).getValue();
  setParameter(bank, place(down), merged(oldDown, before->matrices()));
  if (!withBias)
    return;
  if (!newBias) {
    llvm::StringRef bias = *bank.getDownBias();
    mlir::Value oldBias = moe::findBind(bank, bias).getValue();
    setParameter(bank, place(bias), merged(oldBias, before->biases()));
    return;
  }
  auto module = bank->getParentOfType<mlir::ModuleOp>();
  mlir::OpBuilder builder = weightBuilder(module);
  mlir::Type element =
      rankedType(moe::findBind(bank, *bank.getDown()).getValue()).getElementType();
  auto zeros = mlir::RankedTensorType::get({at.bank.slabs(), at.bank.hidden()}, element);
  mlir::Attribute zero = builder.getFloatAttr(element, 0);
  mlir::Value none = moe::WeightLiteralOp::create(builder, bank.getLoc(), zeros,
                                                  mlir::DenseElementsAttr::get(zeros, zero));
  mlir::Value all = merged(none, before->biases());
  bank.setDownBiasAttr(WeightSteps(module).bind(all, (bank.getSymName() + ".down_bias").str()));
}

llvm::Expected<RefitResult> Refit::run() {
  if (!prepare())
    return result;
  auto lacking = residualOf(at, at.picks);
  if (!lacking)
    return lacking.takeError();
  residual = std::move(*lacking);
  result.before = errorsOf(at.samples, residual);
  result.unknowns = perSlab() * static_cast<int64_t>(slabs.size());
  bool once = result.unknowns <= options.maxUnknowns;
  for (int64_t i = 0; i < (once ? 1 : std::max<int64_t>(1, options.sweeps)); ++i) {
    if (llvm::Error error = sweep(i == 0))
      return std::move(error);
    if (before)
      before->discard();
    before = std::move(store);
  }
  result.after = errorsOf(at.samples, residual);
  result.changed = result.after < result.before;
  if (result.changed) {
    install();
  } else {
    before->discard();
    result.why = "new weights do no better: " +
                 changeText(at.samples, result.before, result.after);
  }
  return result;
}

llvm::Expected<RefitResult> compress::refitDown(RepairLayer &at, ArrayRef<int64_t> slabs,
                                                const RefitOptions &options) {
  return Refit(at, slabs, options).run();
}

llvm::Expected<RefitResult> compress::refitLayer(moe::RoutedLayer &layer, ArrayRef<int64_t> slabs,
                                                 const Profile &profile, const Profile *current,
                                                 const RepairSource &source,
                                                 const RefitOptions &options) {
  RefitResult result;
  auto refit = [&](RepairLayer &at) -> llvm::Error {
    auto made = refitDown(at, slabs, options);
    if (!made)
      return made.takeError();
    result = *made;
    return llvm::Error::success();
  };
  auto leave = [&](const llvm::Twine &why) { result.why = why.str(); };
  if (llvm::Error error = repairLayer(layer, profile, current, source, refit, leave))
    return std::move(error);
  return result;
}
