#include "moec/Dialect/Onnx/TreeEnsemble.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringSwitch.h"
#include <cmath>

using namespace mlir;
using namespace moec::onnx;

namespace {

llvm::Error wrong(const llvm::Twine &what) {
  return llvm::createStringError(std::errc::invalid_argument, what.str().c_str());
}

/// The attributes of the node in the form in which the code below wants them.
class Attributes {
public:
  explicit Attributes(CustomOp op)
      : all(op->getAttrOfType<DictionaryAttr>("attributes")) {}

  std::vector<int64_t> ints(StringRef name) const {
    auto list = get<DenseI64ArrayAttr>(name);
    return list ? list.asArrayRef().vec() : std::vector<int64_t>();
  }
  /// FLOATS, or the tensor `name` + "_as_tensor", or a tensor of the name itself.
  std::vector<double> numbers(StringRef name) const {
    if (auto list = get<DenseF32ArrayAttr>(name))
      return {list.asArrayRef().begin(), list.asArrayRef().end()};
    std::vector<double> out;
    auto tensor = get<DenseElementsAttr>((name + "_as_tensor").str());
    if (!tensor)
      tensor = get<DenseElementsAttr>(name);
    if (!tensor || !isa<FloatType>(tensor.getElementType()))
      return out;
    for (llvm::APFloat value : tensor.getValues<llvm::APFloat>()) {
      bool lost;
      value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lost);
      out.push_back(value.convertToDouble());
    }
    return out;
  }
  int64_t integer(StringRef name, int64_t otherwise) const {
    auto value = get<IntegerAttr>(name);
    return value ? value.getInt() : otherwise;
  }
  StringRef text(StringRef name, StringRef otherwise) const {
    auto value = get<StringAttr>(name);
    return value ? value.getValue() : otherwise;
  }
  template <class T>
  T get(StringRef name) const {
    return all ? dyn_cast_or_null<T>(all.get(name)) : T();
  }

private:
  DictionaryAttr all;
};

std::optional<int32_t> modeOf(StringRef text) {
  return llvm::StringSwitch<std::optional<int32_t>>(text)
      .Case("BRANCH_LEQ", TreeEnsemble::LEQ)
      .Case("BRANCH_LT", TreeEnsemble::LT)
      .Case("BRANCH_GTE", TreeEnsemble::GTE)
      .Case("BRANCH_GT", TreeEnsemble::GT)
      .Case("BRANCH_EQ", TreeEnsemble::EQ)
      .Case("BRANCH_NEQ", TreeEnsemble::NEQ)
      .Case("LEAF", -1)
      .Default(std::nullopt);
}

/// The numbers of the operator TreeEnsemble for the texts of the older ones.
int64_t postOf(StringRef text) {
  return llvm::StringSwitch<int64_t>(text)
      .Case("NONE", 0)
      .Case("SOFTMAX", 1)
      .Case("LOGISTIC", 2)
      .Default(3);
}
int64_t aggregateOf(StringRef text) {
  return llvm::StringSwitch<int64_t>(text)
      .Case("AVERAGE", 0)
      .Case("SUM", 1)
      .Case("MIN", 2)
      .Case("MAX", 3)
      .Default(4);
}

llvm::Error setModes(TreeEnsemble &t, int64_t aggregate, int64_t post) {
  if (aggregate < 0 || aggregate > 3 || post < 0 || post > 2)
    return wrong("unsupported aggregate_function or post_transform");
  t.aggregate = static_cast<TreeEnsemble::Aggregate>(aggregate);
  t.post = static_cast<TreeEnsemble::Post>(post);
  return llvm::Error::success();
}

/// TreeEnsemble, version 5: nodes and leaves apart.
llvm::Error readNew(const Attributes &a, TreeEnsemble &t) {
  if (llvm::Error error = setModes(t, a.integer("aggregate_function", 1), a.integer("post_transform", 0)))
    return error;
  t.count = a.integer("n_targets", 1);
  auto narrow = [](const std::vector<int64_t> &list) {
    std::vector<int32_t> out;
    for (int64_t v : list)
      out.push_back(v == static_cast<int32_t>(v) ? static_cast<int32_t>(v) : -1);
    return out;
  };
  t.roots = narrow(a.ints("tree_roots"));
  t.features = narrow(a.ints("nodes_featureids"));
  t.values = a.numbers("nodes_splits");
  t.members = a.numbers("membership_values");
  t.targets = narrow(a.ints("leaf_targetids"));
  t.weights = a.numbers("leaf_weights");
  for (size_t i = 0; i <= t.targets.size(); ++i)
    t.entries.push_back(static_cast<int64_t>(i));
  size_t nodes = t.features.size();
  auto modes = a.get<DenseElementsAttr>("nodes_modes");
  if (!modes || !modes.getElementType().isInteger(8) ||
      static_cast<size_t>(modes.getNumElements()) != nodes)
    return wrong("nodes_modes does not fit the nodes");
  for (llvm::APInt mode : modes.getValues<llvm::APInt>())
    t.modes.push_back(static_cast<int32_t>(mode.getZExtValue()));
  auto children = [&](StringRef ids, StringRef leaves) {
    std::vector<int32_t> out = narrow(a.ints(ids));
    std::vector<int64_t> isLeaf = a.ints(leaves);
    for (size_t i = 0; i < out.size() && i < isLeaf.size(); ++i)
      out[i] = isLeaf[i] ? ~out[i] : out[i];
    return out;
  };
  t.yes = children("nodes_truenodeids", "nodes_trueleafs");
  t.no = children("nodes_falsenodeids", "nodes_falseleafs");
  t.missing = narrow(a.ints("nodes_missing_value_tracks_true"));
  // Sets are consumed in the order of the nodes that have one.
  if (!t.members.empty() && !std::isnan(t.members.back()))
    t.members.push_back(std::nan(""));
  size_t at = 0;
  for (size_t i = 0; i < nodes && i < t.values.size(); ++i) {
    if (t.modes[i] != TreeEnsemble::MEMBER)
      continue;
    if (at >= t.members.size())
      return wrong("membership_values has too few sets");
    t.values[i] = static_cast<double>(at);
    while (!std::isnan(t.members[at]))
      ++at;
    ++at;
  }
  return llvm::Error::success();
}

/// The older operators: leaves are nodes, and everything is named by (tree, node).
class OldReader {
public:
  OldReader(const Attributes &a, TreeEnsemble &t) : a(a), t(t) {}

  llvm::Error read(StringRef what) { // "target" or "class"
    std::vector<int64_t> trees = a.ints("nodes_treeids"), ids = a.ints("nodes_nodeids");
    auto texts = a.get<ArrayAttr>("nodes_modes");
    size_t n = trees.size();
    std::vector<int64_t> yes = a.ints("nodes_truenodeids"), no = a.ints("nodes_falsenodeids");
    std::vector<int64_t> features = a.ints("nodes_featureids");
    std::vector<double> values = a.numbers("nodes_values");
    std::vector<int64_t> missing = a.ints("nodes_missing_value_tracks_true");
    if (!texts || texts.size() != n || ids.size() != n || yes.size() != n || no.size() != n ||
        features.size() != n || values.size() != n || (!missing.empty() && missing.size() != n))
      return wrong("lists of nodes of different lengths");
    if (llvm::Error error = place(trees, ids, texts))
      return error;
    std::vector<char> isChild(n, 0);
    for (size_t i = 0; i < n; ++i) {
      if (places[i] < 0)
        continue;
      const int64_t named[2] = {yes[i], no[i]};
      int32_t children[2];
      for (int k = 0; k < 2; ++k) {
        auto child = index.find({trees[i], named[k]});
        if (child == index.end())
          return wrong("a child that is no node of its tree");
        children[k] = places[child->second];
        isChild[child->second] = 1;
      }
      t.modes.push_back(modes[i]);
      t.features.push_back(features[i] == static_cast<int32_t>(features[i])
                               ? static_cast<int32_t>(features[i])
                               : -1);
      t.values.push_back(values[i]);
      t.missing.push_back(missing.empty() ? 0 : missing[i] != 0);
      t.yes.push_back(children[0]);
      t.no.push_back(children[1]);
    }
    for (size_t i = 0; i < n; ++i)
      if (!isChild[i])
        t.roots.push_back(places[i]);
    return readLeaves(what);
  }

private:
  /// Numbers nodes and leaves apart.
  llvm::Error place(const std::vector<int64_t> &trees, const std::vector<int64_t> &ids,
                    ArrayAttr texts) {
    int32_t nodes = 0;
    for (size_t i = 0; i < trees.size(); ++i) {
      auto text = dyn_cast<StringAttr>(texts[i]);
      auto mode = text ? modeOf(text.getValue()) : std::nullopt;
      if (!mode)
        return wrong("unsupported mode of a node");
      if (!index.try_emplace({trees[i], ids[i]}, i).second)
        return wrong("a node that occurs twice");
      modes.push_back(*mode);
      places.push_back(*mode < 0 ? ~leaves++ : nodes++);
    }
    return llvm::Error::success();
  }

  llvm::Error readLeaves(StringRef what) {
    std::vector<int64_t> trees = a.ints((what + "_treeids").str());
    std::vector<int64_t> ids = a.ints((what + "_nodeids").str());
    std::vector<int64_t> targets = a.ints((what + "_ids").str());
    std::vector<double> weights = a.numbers((what + "_weights").str());
    size_t n = trees.size();
    if (ids.size() != n || targets.size() != n || weights.size() != n)
      return wrong("lists of leaves of different lengths");
    std::vector<std::vector<size_t>> of(leaves);
    for (size_t i = 0; i < n; ++i) {
      auto node = index.find({trees[i], ids[i]});
      if (node == index.end() || places[node->second] >= 0)
        return wrong("a weight whose node is no leaf");
      of[~places[node->second]].push_back(i);
    }
    t.entries.push_back(0);
    for (const std::vector<size_t> &leaf : of) {
      for (size_t i : leaf) {
        t.targets.push_back(targets[i] == static_cast<int32_t>(targets[i])
                                ? static_cast<int32_t>(targets[i])
                                : -1);
        t.weights.push_back(weights[i]);
      }
      t.entries.push_back(static_cast<int64_t>(t.targets.size()));
    }
    return llvm::Error::success();
  }

  const Attributes &a;
  TreeEnsemble &t;
  llvm::DenseMap<std::pair<int64_t, int64_t>, size_t> index;
  std::vector<int32_t> modes, places; ///< by given node; places: of leaves ~leaf
  int32_t leaves = 0;
};

llvm::Error readClassifier(const Attributes &a, TreeEnsemble &t) {
  t.classifier = true;
  t.labels = a.ints("classlabels_int64s");
  t.count = static_cast<int64_t>(t.labels.size());
  if (t.labels.empty())
    return wrong("unsupported: classes that are not integers");
  t.allPositive = llvm::all_of(t.weights, [](double w) { return w >= 0; });
  t.binary = t.count == 2 && llvm::all_of(t.targets, [](int32_t id) { return id == 0; });
  if (!t.binary)
    return llvm::Error::success();
  if (t.base.size() > 1)
    return wrong("unsupported: two base values of two classes that share one sum");
  // The standard is silent; ONNX Runtime leaves out the softmax of the two.
  if (t.post == TreeEnsemble::SOFTMAX)
    t.post = TreeEnsemble::NONE;
  t.count = 1;
  return llvm::Error::success();
}

llvm::Error check(TreeEnsemble &t) {
  auto nodes = static_cast<int32_t>(t.features.size());
  auto leaves = static_cast<int32_t>(t.entries.size()) - 1;
  if (t.missing.empty())
    t.missing.assign(nodes, 0);
  for (const auto *list : {&t.modes, &t.yes, &t.no, &t.missing})
    if (static_cast<int32_t>(list->size()) != nodes)
      return wrong("lists of nodes of different lengths");
  if (static_cast<int32_t>(t.values.size()) != nodes || t.targets.size() != t.weights.size())
    return wrong("lists of nodes or leaves of different lengths");
  if (t.count < 1 || t.count > 1 << 20 ||
      (!t.base.empty() && static_cast<int64_t>(t.base.size()) != t.count))
    return wrong("a number of targets that does not fit");
  auto exists = [&](int32_t place) { return place < 0 ? ~place < leaves : place < nodes; };
  std::vector<int32_t> parents(nodes, 0);
  for (int32_t i = 0; i < nodes; ++i) {
    if (t.modes[i] < 0 || t.modes[i] > TreeEnsemble::MEMBER || t.features[i] < 0 ||
        !exists(t.yes[i]) || !exists(t.no[i]))
      return wrong("a node with a mode, feature or child that does not exist");
    t.leastFeatures = std::max<int64_t>(t.leastFeatures, t.features[i] + int64_t(1));
    for (int32_t child : {t.yes[i], t.no[i]})
      if (child >= 0 && ++parents[child] > 1)
        return wrong("a node with two parents");
  }
  for (int32_t root : t.roots)
    if (!exists(root) || (root >= 0 && parents[root]))
      return wrong("a root that is no node, or a child");
  for (int32_t target : t.targets)
    if (target < 0 || target >= t.count)
      return wrong("a target or class out of range");
  return llvm::Error::success();
}

} // namespace

bool moec::onnx::isTreeEnsemble(CustomOp op) {
  return op.getDomain() == "ai.onnx.ml" && op.getOpType().starts_with("TreeEnsemble");
}

llvm::Expected<TreeEnsemble> moec::onnx::treeEnsembleOf(CustomOp op) {
  Attributes a(op);
  TreeEnsemble t;
  StringRef name = op.getOpType();
  if (name == "TreeEnsemble") {
    if (llvm::Error error = readNew(a, t))
      return error;
  } else {
    bool classifier = name == "TreeEnsembleClassifier";
    if (llvm::Error error = setModes(t, classifier ? 1 : aggregateOf(a.text("aggregate_function", "SUM")),
                                     postOf(a.text("post_transform", "NONE"))))
      return error;
    t.base = a.numbers("base_values");
    t.count = a.integer("n_targets", 1);
    if (llvm::Error error = OldReader(a, t).read(classifier ? "class" : "target"))
      return error;
    if (classifier)
      if (llvm::Error error = readClassifier(a, t))
        return error;
  }
  if (llvm::Error error = check(t))
    return error;
  return t;
}
