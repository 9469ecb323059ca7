#include "Executors.h"
#include "Lint.h"

#include "moec/Dialect/MoE/MoE.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/Support/FormatVariadic.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace moec;

namespace {

// Two scores whose difference is below this share of their size count as equal: other kernels,
// threads or precisions may choose otherwise.
constexpr double nearTie = 1e-5;

struct RoutedLayer {
  mlir::Operation *op; // moe.route or moe.select
  int64_t k = 0, experts = 0;
  bool comparable = false; // a plain top-k: the k-th and the next score decide
  moe::RouterScore score = moe::RouterScore::Identity;
  size_t scores = 0, ids = 0, bias = 0; // outputs; bias 0: none
  std::vector<int64_t> counts;
  int64_t tokens = 0, ties = 0;
};

struct RoutingLint {
  std::vector<RoutedLayer> layers;
  std::vector<mlir::Value> values;
  std::vector<std::string> names;

  size_t expose(mlir::Value v) {
    values.push_back(v);
    names.push_back("moec.lint." + std::to_string(values.size()));
    return values.size();
  }
  void find(mlir::ModuleOp module);
  void count(RoutedLayer &layer, const Tensor &ids);
  void measure(RoutedLayer &layer, const Tensor &scores, const Tensor *bias);
};

void RoutingLint::find(mlir::ModuleOp module) {
  auto main = module.lookupSymbol<mlir::func::FuncOp>("main");
  for (mlir::Operation &op : main.front()) { // those in branches have no value outside
    RoutedLayer layer{&op};
    if (auto route = llvm::dyn_cast<moe::RouteOp>(op)) {
      layer.comparable = route.getRouter().getGroups() == 1;
      layer.score = route.getRouter().getScore();
      layer.k = route.getRouter().getK();
      layer.bias = op.getNumOperands() > 1 ? expose(op.getOperand(1)) : 0;
    } else if (auto select = llvm::dyn_cast<moe::SelectOp>(op)) {
      layer.comparable = select.getKind() == "top_k" && !select.getCount();
      layer.k = select.getK().value_or(0);
    } else {
      continue;
    }
    auto type = llvm::cast<mlir::RankedTensorType>(op.getOperand(0).getType());
    layer.experts = type.isDynamicDim(1) ? 0 : type.getDimSize(1);
    layer.counts.resize(size_t(layer.experts));
    layer.scores = expose(op.getOperand(0));
    layer.ids = expose(op.getResult(0));
    layers.push_back(std::move(layer));
  }
}

void RoutingLint::count(RoutedLayer &layer, const Tensor &ids) {
  for (int64_t i = 0; i < ids.count(); ++i)
    if (int64_t id = int64_t(ids.at(i)); id >= 0 && size_t(id) < layer.counts.size())
      ++layer.counts[size_t(id)];
}

void RoutingLint::measure(RoutedLayer &layer, const Tensor &scores, const Tensor *bias) {
  int64_t experts = scores.shape.back(), tokens = experts ? scores.count() / experts : 0;
  layer.tokens += tokens;
  if (!layer.comparable || layer.k >= experts)
    return;
  std::vector<double> row(static_cast<size_t>(experts));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t e = 0; e < experts; ++e)
      row[size_t(e)] = scores.at(t * experts + e);
    if (bias) { // without one, the logits' order is the scores'
      double top = *std::max_element(row.begin(), row.end()), sum = 0;
      for (double &z : row) {
        z = layer.score == moe::RouterScore::Softmax   ? std::exp(z - top)
            : layer.score == moe::RouterScore::Sigmoid ? 1 / (1 + std::exp(-z))
                                                       : z;
        sum += z;
      }
      for (int64_t e = 0; e < experts; ++e)
        row[size_t(e)] = row[size_t(e)] / (layer.score == moe::RouterScore::Softmax ? sum : 1) +
                         bias->at(e);
    }
    std::sort(row.begin(), row.end(), std::greater<>());
    double last = row[size_t(layer.k) - 1], gap = last - row[size_t(layer.k)];
    double size = std::max(row.front() - last, std::fabs(last));
    layer.ties += std::isfinite(gap) && gap <= nearTie * size;
  }
}

void report(const RoutedLayer &layer, Findings &findings) {
  if (layer.ties)
    addFinding(findings, Finding::warning, "near-tie-routing", layer.op,
               llvm::formatv("{0} of {1} tokens choose between experts whose scores are nearly equal: "
                             "other hardware or precision may route them otherwise",
                             layer.ties, layer.tokens));
  std::string idle;
  int64_t unused = 0;
  for (auto [e, n] : llvm::enumerate(layer.counts))
    if (!n && ++unused <= 16)
      idle += (idle.empty() ? "" : ", ") + std::to_string(e);
  if (unused && layer.tokens)
    addFinding(findings, Finding::note, "unused-experts", layer.op,
               llvm::formatv("{0} of {1} experts were chosen by none of {2} tokens: {3}{4}", unused,
                             layer.experts, layer.tokens, idle, unused > 16 ? ", ..." : ""));
}

} // namespace

llvm::Error moec::lintRouting(Model &model, const std::vector<TestSet> &sets, Findings &findings) {
  RoutingLint lint;
  lint.find(model.module());
  if (lint.layers.empty())
    return llvm::Error::success();
  addOutputs(model.module(), lint.values, lint.names);
  Progress quiet(ProgressMode::none, 0);
  auto executor = compileAndOpen(model, OpenOptions{}, quiet);
  if (!executor)
    return executor.takeError();
  for (const TestSet &set : sets) {
    auto outputs = (*executor)->run(set.inputs);
    if (!outputs)
      return outputs.takeError();
    size_t own = outputs->size() - lint.values.size();
    auto at = [&](size_t exposed) -> const Tensor & { return (*outputs)[own + exposed - 1]; };
    for (RoutedLayer &layer : lint.layers) {
      lint.count(layer, at(layer.ids));
      lint.measure(layer, at(layer.scores), layer.bias ? &at(layer.bias) : nullptr);
    }
  }
  for (const RoutedLayer &layer : lint.layers)
    report(layer, findings);
  return llvm::Error::success();
}
