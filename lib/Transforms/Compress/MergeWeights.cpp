#include "MergeWeights.h"

#include "Alignment.h"
#include "RewriteGather.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include <Eigen/Eigenvalues>

using namespace moec;
using namespace moec::compress;
using llvm::ArrayRef;

void SharedBasis::add(const Rows &matrix, double weight) {
  Eigen::MatrixXd wide = matrix.cast<double>();
  gram.noalias() += wide * wide.transpose();
  mean += weight * wide;
}

Rows SharedBasis::merged(double rank) const {
  int64_t n = gram.rows(), kept = static_cast<int64_t>(std::ceil(rank * double(n) - 1e-9));
  if (kept >= n || !gram.allFinite())
    return mean.cast<float>();
  // U of the singular value decomposition, by rising singular values.
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
  Eigen::MatrixXd basis = solver.eigenvectors().rightCols(std::max<int64_t>(1, kept));
  return (basis * (basis.transpose() * mean)).cast<float>();
}

// The value in the type in which it is stored: in front of a cast, when there is one.
static mlir::Value narrow(WeightSteps &steps, mlir::Value value, mlir::Type stored) {
  if (auto cast = value.getDefiningOp<moe::WeightCastOp>())
    if (rankedType(cast.getInput()).getElementType() == stored)
      return cast.getInput();
  return steps.cast(value, stored);
}

mlir::Value compress::joinSlabs(WeightSteps &steps, mlir::Value from, ArrayRef<SlabSource> slabs) {
  mlir::Type stored = storedFloat(from);
  llvm::SmallVector<mlir::Value> parts;
  llvm::SmallVector<int64_t> rows;
  auto flush = [&] {
    if (!rows.empty())
      parts.push_back(narrow(steps, gatherSlices(steps, from, 0, rows), stored));
    rows.clear();
  };
  for (const SlabSource &slab : slabs) {
    if (!slab.fresh) {
      rows.push_back(slab.row);
      continue;
    }
    flush();
    parts.push_back(slab.fresh);
  }
  flush();
  mlir::Value all = parts.size() == 1 ? parts.front() : steps.concat(parts, 0);
  return steps.cast(all, rankedType(from).getElementType());
}

llvm::Error compress::writeAs(LiteralWriter &writer, mlir::Type stored, const float *numbers,
                              int64_t count) {
  std::vector<char> bytes(static_cast<size_t>(count * elementBytes(stored)));
  convertFloats(mlir::Float32Type::get(stored.getContext()),
                reinterpret_cast<const char *>(numbers), stored, bytes.data(), count);
  return writer.write(bytes);
}

namespace {

class Merger {
public:
  Merger(moe::RoutedLayer &layer, const LayerMerge &plan, const MergeOptions &options)
      : layer(layer), plan(plan), options(options),
        module(layer.experts->getParentOfType<mlir::ModuleOp>()), bank(layer.bank) {}

  llvm::Error align(MergeResult &result);
  llvm::Expected<llvm::SmallVector<mlir::Value>> parameters();
  llvm::SmallVector<int64_t> slabs() const;

private:
  mlir::Value member(WeightSteps &steps, moe::WeightBindOp bind, int64_t expert);
  mlir::Value average(WeightSteps &steps, moe::WeightBindOp bind, const MergeGroup &group);
  llvm::Expected<mlir::ElementsAttr> subspace(moe::WeightBindOp bind, WeightEvaluator &weights);
  int64_t neuronAxis(moe::WeightBindOp bind) const;
  bool inBasis(moe::WeightBindOp bind) const {
    return options.combine == "subspace" && options.rank < 1 &&
           rankedType(bind.getValue()).getRank() == 3;
  }

  moe::RoutedLayer &layer;
  const LayerMerge &plan;
  const MergeOptions &options;
  mlir::ModuleOp module;
  moe::BankOp bank;
  std::map<int64_t, std::vector<int64_t>> orders; // of the neurons of aligned experts
};

} // namespace

llvm::Error Merger::align(MergeResult &result) {
  if (options.align == "none")
    return llvm::Error::success();
  WeightEvaluator weights(module, options.folder);
  auto ffn = FfnBank::create(bank, weights);
  if (!ffn)
    return ffn.takeError();
  for (const MergeGroup &group : plan.groups) {
    if (group.members.size() == 1)
      continue;
    auto first = neuronsOf(*ffn, bank.getSlab(group.members.front()));
    if (!first)
      return first.takeError();
    for (int64_t e : ArrayRef(group.members).drop_front()) {
      auto other = neuronsOf(*ffn, bank.getSlab(e));
      if (!other)
        return other.takeError();
      std::vector<int64_t> order = alignNeurons(*first, *other);
      int64_t moved = 0;
      for (size_t i = 0; i < order.size(); ++i)
        moved += order[i] != static_cast<int64_t>(i);
      result.moved += moved;
      result.aligned += static_cast<int64_t>(order.size());
      if (moved > 0)
        orders[e] = std::move(order);
    }
  }
  return llvm::Error::success();
}

// The axis along which a parameter of a #moe.ffn has the neurons; 0: none.
int64_t Merger::neuronAxis(moe::WeightBindOp bind) const {
  moe::BankOp op = bank;
  llvm::StringRef name = bind.getSymName();
  if (op.getDown() == name)
    return 2;
  return op.getDownBias() == name ? 0 : 1;
}

mlir::Value Merger::member(WeightSteps &steps, moe::WeightBindOp bind, int64_t expert) {
  moe::BankOp op = bank;
  mlir::Value slab = gatherSlices(steps, bind.getValue(), 0, {op.getSlab(expert)});
  auto order = orders.find(expert);
  if (int64_t axis = neuronAxis(bind); axis > 0 && order != orders.end())
    slab = gatherSlices(steps, slab, axis, order->second);
  return narrow(steps, slab, storedFloat(bind.getValue()));
}

mlir::Value Merger::average(WeightSteps &steps, moe::WeightBindOp bind, const MergeGroup &group) {
  llvm::SmallVector<mlir::Value> inputs;
  llvm::SmallVector<double> coefficients;
  for (auto [e, weight] : llvm::zip(group.members, group.weights)) {
    if (weight == 0)
      continue;
    inputs.push_back(member(steps, bind, e));
    coefficients.push_back(weight);
  }
  if (inputs.size() == 1)
    return inputs.front();
  mlir::OpBuilder builder = weightBuilder(module);
  return moe::WeightCombineOp::create(builder, layer.experts.getLoc(), inputs.front().getType(),
                                      inputs, coefficients);
}

// The merged slabs of a parameter as numbers, [groups of several, ...].
llvm::Expected<mlir::ElementsAttr> Merger::subspace(moe::WeightBindOp bind,
                                                    WeightEvaluator &weights) {
  auto type = rankedType(bind.getValue());
  mlir::Type stored = storedFloat(bind.getValue());
  mlir::Type f32 = mlir::Float32Type::get(module.getContext());
  int64_t rows = type.getDimSize(1), columns = type.getDimSize(2), axis = neuronAxis(bind);
  int64_t count = llvm::count_if(plan.groups, [](auto &g) { return g.members.size() > 1; });
  auto writer = LiteralWriter::create(mlir::RankedTensorType::get({count, rows, columns}, stored));
  if (!writer)
    return writer.takeError();
  for (const MergeGroup &group : plan.groups) {
    if (group.members.size() == 1)
      continue;
    SharedBasis basis(rows, columns);
    for (auto [e, weight] : llvm::zip(group.members, group.weights)) {
      llvm::SmallVector<char, 0> bytes;
      moe::BankOp op = bank;
      if (llvm::Error error = weights.rows(bind.getSymName(), op.getSlab(e), 1, bytes))
        return std::move(error);
      Rows matrix(rows, columns), placed;
      convertFloats(type.getElementType(), bytes.data(), f32,
                    reinterpret_cast<char *>(matrix.data()), matrix.size());
      if (auto order = orders.find(e); order != orders.end()) {
        placed.resize(rows, columns);
        for (size_t i = 0; i < order->second.size(); ++i) {
          int64_t to = static_cast<int64_t>(i), from = order->second[i];
          if (axis == 1)
            placed.row(to) = matrix.row(from);
          else
            placed.col(to) = matrix.col(from);
        }
        matrix = std::move(placed);
      }
      basis.add(matrix, weight);
    }
    Rows merged = basis.merged(options.rank);
    if (llvm::Error error = writeAs(*writer, stored, merged.data(), merged.size()))
      return std::move(error);
  }
  return writer->finish((bind.getSymName() + ".merged").str());
}

llvm::Expected<llvm::SmallVector<mlir::Value>> Merger::parameters() {
  llvm::SmallVector<moe::WeightBindOp> binds = bankParameters(bank);
  llvm::SmallVector<mlir::ElementsAttr> numbers(binds.size());
  if (options.combine == "subspace") {
    WeightEvaluator weights(module, options.folder);
    for (auto [i, bind] : llvm::enumerate(binds))
      if (inBasis(bind)) {
        auto made = subspace(bind, weights);
        if (!made)
          return made.takeError();
        numbers[i] = *made;
      }
  }
  llvm::SmallVector<mlir::Value> values;
  for (auto [bind, literal] : llvm::zip(binds, numbers)) {
    mlir::Value from = bind.getValue(), fresh;
    if (literal) {
      mlir::OpBuilder builder = weightBuilder(module);
      fresh = moe::WeightLiteralOp::create(builder, layer.experts.getLoc(), literal.getType(),
                                           literal);
    }
    WeightSteps steps(module);
    llvm::SmallVector<SlabSource> slabs;
    moe::BankOp op = bank;
    int64_t merged = 0;
    for (const MergeGroup &group : plan.groups) {
      if (group.members.size() == 1)
        slabs.push_back({op.getSlab(group.members.front()), {}});
      else
        slabs.push_back({-1, fresh ? steps.part(fresh, 0, merged++, 1)
                                   : average(steps, bind, group)});
    }
    values.push_back(joinSlabs(steps, from, slabs));
  }
  return values;
}

// Of each expert.
llvm::SmallVector<int64_t> Merger::slabs() const {
  moe::BankOp op = bank;
  llvm::SmallVector<int64_t> out(op.getExperts(), -1);
  for (auto [i, group] : llvm::enumerate(plan.groups))
    for (int64_t e : group.members)
      out[static_cast<size_t>(e)] = static_cast<int64_t>(i);
  return out;
}

static llvm::Error diagnosed() {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), "");
}

llvm::Expected<MergeResult> compress::mergeLayer(moe::RoutedLayer &layer, const LayerMerge &plan,
                                                 llvm::StringRef profile, llvm::StringRef labels,
                                                 const MergeOptions &options) {
  MergeResult result;
  Merger merger(layer, plan, options);
  if (llvm::Error error = merger.align(result))
    return std::move(error);
  auto values = merger.parameters();
  if (!values)
    return values.takeError();
  if (mlir::failed(aliasExperts(layer, merger.slabs(), *values)))
    return diagnosed();
  if (options.router == "drop") {
    llvm::SmallVector<int64_t> keep;
    llvm::SmallVector<bool> gone(layer.bank.getExperts(), false);
    for (const MergeGroup &group : plan.groups)
      for (int64_t e : ArrayRef(group.members).drop_front())
        gone[static_cast<size_t>(e)] = true;
    for (size_t e = 0; e < gone.size(); ++e)
      if (!gone[e])
        keep.push_back(static_cast<int64_t>(e));
    if (mlir::failed(keepExperts(layer, keep)))
      return diagnosed();
  }
  if (options.combine != "lstsq-down")
    return result;
  layer.bank = moe::findBank(layer.experts, layer.experts.getBank());
  llvm::SmallVector<int64_t> merged;
  for (auto [i, group] : llvm::enumerate(plan.groups))
    if (group.members.size() > 1)
      merged.push_back(static_cast<int64_t>(i));
  RepairSource source;
  source.folder = options.folder;
  source.labels = labels.str();
  RefitOptions refit;
  refit.ridges = {0.3, 0.1, 0.03, 0.01};
  auto tokens = readProfile(profile, layer.name);
  if (!tokens)
    return tokens.takeError();
  auto made = refitLayer(layer, merged, *tokens, nullptr, source, refit);
  if (!made)
    return made.takeError();
  result.refit = *made;
  return result;
}
