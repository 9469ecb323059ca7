// The decision trees of an onnx.custom of the domain ai.onnx.ml, whichever of its operators and
// attribute forms they are written in.
#pragma once
#include "moec/Dialect/Onnx/Onnx.h"
#include "llvm/Support/Error.h"

namespace moec::onnx {

/// Nodes compare a feature of a row with a value; a child c < 0 is the leaf ~c. Checked: features,
/// children, leaves and targets exist, and no walk from a root meets a node twice.
struct TreeEnsemble {
  enum Mode : int32_t { LEQ, LT, GTE, GT, EQ, NEQ, MEMBER };
  enum Aggregate : int64_t { AVERAGE, SUM, MIN, MAX };
  enum Post { NONE, SOFTMAX, LOGISTIC };

  std::vector<int32_t> roots;
  std::vector<int32_t> modes, features, yes, no, missing; ///< by node
  std::vector<double> values;  ///< by node; of MEMBER the place in `members` where its set begins
  std::vector<double> members; ///< sets, each ended by a NaN
  std::vector<int64_t> entries; ///< leaf i owns targets[entries[i] .. entries[i + 1]) and weights
  std::vector<int32_t> targets;
  std::vector<double> weights, base; ///< base: one for each target, or empty
  int64_t count = 1;                 ///< of targets
  int64_t leastFeatures = 0;
  Aggregate aggregate = SUM;
  Post post = NONE;

  std::vector<int64_t> labels; ///< of a classifier
  bool classifier = false;
  /// A classifier of two labels whose weights all name class 0: their sum is the score of label 1.
  bool binary = false;
  bool allPositive = true; ///< binary: no weight is negative
};

/// True for TreeEnsemble, TreeEnsembleRegressor and TreeEnsembleClassifier of ai.onnx.ml.
bool isTreeEnsemble(CustomOp op);
/// Errors are one line and say "unsupported" where that is what it is.
llvm::Expected<TreeEnsemble> treeEnsembleOf(CustomOp op);

} // namespace moec::onnx
