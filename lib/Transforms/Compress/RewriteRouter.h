// A router's values without some of the experts: what the graph would compute if the logits of the
// others were -infinity.
#pragma once

#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Prepare/WeightSteps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>

namespace moec::compress {

/// Whether a value is 0 for an expert whose logit is -infinity: a softmax, a sigmoid, and the like.
bool vanishes(mlir::Value value);

/// Walks back from a value with an axis of experts to where that axis comes from (the columns of a
/// linear map, biases, tables, values of unknown origin) and builds the value again, each new
/// operation behind the one that it stands for. Old operations stay.
class ExpertAxis {
public:
  /// With `mask` all experts stay and the others' logits get -infinity in front of each softmax
  /// over the experts; without, their columns go.
  ExpertAxis(mlir::ModuleOp module, int64_t experts, llvm::ArrayRef<int64_t> keep, bool mask);

  /// `value`, whose axis `axis` is the experts, without the others. Of a softmax over the experts
  /// the result sums up to 1 over the kept ones.
  mlir::Value narrow(mlir::Value value, int64_t axis);
  /// Where narrow() meets `value`, it takes `narrowed`.
  void given(mlir::Value value, mlir::Value narrowed) { made[{value, -1}] = narrowed; }

  /// `value`, whose experts are axis `back` from the end, plus 0 for the kept and -infinity for the
  /// others; with `product`, times 1 and 0.
  mlir::Value masked(mlir::Value value, int64_t back = 1, bool product = false);

private:
  using Key = std::pair<mlir::Value, int64_t>; // a value and an axis, counted from the end
  mlir::Value build(mlir::Value value, int64_t back);
  mlir::Value weight(mlir::Value value, int64_t axis);
  mlir::Value elementwise(mlir::Operation *op, int64_t back, bool reducedOnly);
  mlir::Value linear(mlir::Operation *op, int64_t back);
  mlir::Value reshaped(mlir::Operation *op, int64_t back);
  mlir::Value overOtherAxis(mlir::Operation *op, int64_t back);
  mlir::Value joined(mlir::Operation *op, int64_t back);
  mlir::Value gathered(mlir::Value value, int64_t axis);
  mlir::Value operand(mlir::Value value, int64_t back);
  mlir::Value reduced(mlir::Value value, int64_t back);
  mlir::Value buildReduced(mlir::Value value, int64_t back);
  mlir::Value clone(mlir::Operation *op, llvm::ArrayRef<mlir::Value> operands,
                    std::optional<int64_t> back);
  bool isExperts(mlir::Value value, int64_t back) const;
  int64_t kept() const { return mask ? experts : static_cast<int64_t>(keep.size()); }

  mlir::OpBuilder builder;
  WeightSteps steps;
  int64_t experts;
  llvm::SmallVector<int64_t> keep;
  bool mask;
  llvm::DenseMap<Key, mlir::Value> made, reductions;
};

} // namespace moec::compress
