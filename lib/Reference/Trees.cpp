// Ensembles of decision trees: ai.onnx.ml's TreeEnsemble and the two operators that it replaced.
#include "Call.h"
#include "Shapes.h"
#include "moec/Dialect/Onnx/TreeEnsemble.h"
#include <cmath>

using namespace llvm;
using moec::onnx::TreeEnsemble;

namespace moec::reference {

namespace {

TreeEnsemble ensembleOf(Call &c) {
  auto trees = onnx::treeEnsembleOf(cast<onnx::CustomOp>(c.op));
  if (!trees)
    fail(toString(trees.takeError()));
  return std::move(*trees);
}

bool takes(const TreeEnsemble &t, int32_t node, double x) {
  double value = t.values[node];
  if (std::isnan(x) && t.missing[node])
    return true;
  switch (t.modes[node]) {
  case TreeEnsemble::LEQ:
    return x <= value;
  case TreeEnsemble::LT:
    return x < value;
  case TreeEnsemble::GTE:
    return x >= value;
  case TreeEnsemble::GT:
    return x > value;
  case TreeEnsemble::EQ:
    return x == value;
  case TreeEnsemble::NEQ:
    return x != value;
  default:
    break;
  }
  for (auto i = static_cast<size_t>(value); !std::isnan(t.members[i]); ++i)
    if (t.members[i] == x)
      return true;
  return false;
}

// The joined leaves of one row.
std::vector<double> sums(const TreeEnsemble &t, const double *row) {
  std::vector<std::vector<double>> found(t.count);
  for (int32_t place : t.roots) {
    while (place >= 0)
      place = takes(t, place, row[t.features[place]]) ? t.yes[place] : t.no[place];
    for (int64_t i = t.entries[~place]; i < t.entries[~place + 1]; ++i)
      found[t.targets[i]].push_back(t.weights[i]);
  }
  std::vector<double> out(t.count, 0);
  for (int64_t k = 0; k < t.count; ++k) {
    const std::vector<double> &list = found[k];
    if (t.aggregate == TreeEnsemble::MIN || t.aggregate == TreeEnsemble::MAX) {
      if (!list.empty())
        out[k] = t.aggregate == TreeEnsemble::MIN ? *std::min_element(list.begin(), list.end())
                                                  : *std::max_element(list.begin(), list.end());
    } else {
      for (double v : list)
        out[k] += v;
      if (t.aggregate == TreeEnsemble::AVERAGE)
        out[k] /= static_cast<double>(t.roots.size());
    }
    if (!t.base.empty())
      out[k] += t.base[k];
  }
  return out;
}

void finish(const TreeEnsemble &t, std::vector<double> &v) {
  if (t.post == TreeEnsemble::LOGISTIC) {
    for (double &x : v)
      x = 1 / (1 + std::exp(-x));
  } else if (t.post == TreeEnsemble::SOFTMAX) {
    double top = *std::max_element(v.begin(), v.end()), sum = 0;
    for (double &x : v)
      sum += x = std::exp(x - top);
    for (double &x : v)
      x /= sum;
  }
}

// The scores of both classes from the one sum.
std::vector<double> both(const TreeEnsemble &t, double sum) {
  if (t.post == TreeEnsemble::NONE && t.allPositive)
    return {1 - sum, sum};
  return {-sum, sum};
}

void trees(Call &c) {
  TreeEnsemble t = ensembleOf(c);
  const Tensor &x = c.in(0);
  if (x.rank() != 2 || x.shape[1] < t.leastFeatures)
    fail("rows of " + Twine(t.leastFeatures) + " features or more are needed, not " + text(x.shape));
  Elements<double> in(x);
  std::vector<double> scores;
  std::vector<int64_t> labels;
  for (int64_t row = 0; row < x.shape[0]; ++row) {
    std::vector<double> v = sums(t, in.data() + row * x.shape[1]);
    if (t.classifier) {
      int64_t best = t.binary ? v[0] > (t.allPositive ? 0.5 : 0.0)
                              : std::max_element(v.begin(), v.end()) - v.begin();
      labels.push_back(t.labels[best]);
    }
    if (t.binary)
      v = both(t, v[0]);
    finish(t, v);
    scores.insert(scores.end(), v.begin(), v.end());
  }
  int64_t width = t.binary ? 2 : t.count;
  if (!t.classifier)
    return c.set(0, pack(c.outType(0), {x.shape[0], width}, scores));
  c.set(0, pack(Elem::i64, {x.shape[0]}, labels));
  c.set(1, pack(Elem::f32, {x.shape[0], width}, scores));
}

std::string checkTrees(mlir::Operation *op) {
  auto ensemble = onnx::treeEnsembleOf(cast<onnx::CustomOp>(op));
  return ensemble ? "" : toString(ensemble.takeError());
}

} // namespace

void addTrees(Registry &r) {
  for (const char *name : {"TreeEnsemble", "TreeEnsembleRegressor", "TreeEnsembleClassifier"})
    r.add(("ai.onnx.ml::" + std::string(name)), trees, checkTrees);
}

} // namespace moec::reference
