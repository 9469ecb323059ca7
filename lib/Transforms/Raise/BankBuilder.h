// From a matched expert body to a moe.bank: canonical layouts made by weight
// steps, [E, I, H] for gate and up, [E, H, I] for down.
#pragma once

#include "FfnMatch.h"
#include "RegionBody.h"
#include "moec/Transforms/Prepare/WeightSteps.h"

namespace moec::raise {

struct BankShape {
  int64_t experts = 0, hidden = 0, inter = 0;
  llvm::SmallVector<int64_t> widths; // of experts of different inner sizes
  llvm::SmallVector<FixedExpert> fixed; // experts without parameters, by id

  bool isFixed(size_t expert) const {
    return llvm::any_of(fixed, [&](const FixedExpert &f) { return f.expert == int64_t(expert); });
  }
  int64_t slabs() const { return experts - int64_t(fixed.size()); }
};

class BankBuilder {
public:
  BankBuilder(mlir::ModuleOp module, WeightSteps &steps)
      : module(module), steps(steps) {}

  // Checks that every projection has a matrix for each of `experts` experts,
  // reached by its own id, and that the sizes fit. On failure `why` names the
  // obligation; nothing is built then.
  std::optional<BankShape> check(const Ffn &ffn, int64_t experts,
                                 std::string &why);
  // The bank's symbol. Call only after check().
  mlir::FlatSymbolRefAttr build(const Ffn &ffn, const BankShape &shape,
                                mlir::Location loc);

  // Experts that are regions: their parameters are constant, and their own.
  bool check(const RegionBody &body, std::string &why) {
    return ownSlices(body, steps, why);
  }
  // `result` becomes the type [N, ...] of what an expert gives.
  mlir::FlatSymbolRefAttr build(const RegionBody &body, mlir::Location loc,
                                mlir::RankedTensorType &result);

  // A bank from stacked weights values in canonical layout (null: absent).
  struct Parts {
    mlir::Value gate, up, down, gateBias, upBias, downBias;
  };
  mlir::FlatSymbolRefAttr build(const Parts &parts, const Ffn &ffn,
                                const BankShape &shape, mlir::Location loc);

  WeightSteps &weightSteps() { return steps; }

private:
  std::string freshName();
  bool checkSet(const WeightSet &set, const BankShape &shape, std::string &why);
  bool checkWidths(const Ffn &ffn, BankShape &shape);
  // [slabs, rows, cols] of a projection.
  mlir::Value matrix(const Projection &p, const BankShape &shape, int64_t innerAxis);
  mlir::Value biasOf(const Projection &p, const BankShape &shape, int64_t rows);
  // A narrower expert's parameter, filled up with zeros along the inner axis.
  mlir::Value widened(mlir::Value v, int64_t axis, const BankShape &shape);

  mlir::ModuleOp module;
  WeightSteps &steps;
  unsigned counter = 0;
};

} // namespace moec::raise
