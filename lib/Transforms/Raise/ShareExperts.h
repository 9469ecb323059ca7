// What share-experts does for banks of one formula and for banks of regions.
#pragma once

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Prepare/WeightSteps.h"

namespace moec::raise {

// A row of axis 0 of a weight: where its numbers come from.
using Row = std::pair<mlir::Value, int64_t>;
Row rowOf(mlir::Value weight, int64_t row);
// The weight of the rows, in order.
mlir::Value stackRows(WeightSteps &steps, llvm::ArrayRef<Row> rows);

// A sum of experts' results under dense weights.
bool isDenseSum(moe::ExpertsOp op);
moe::BankOp bankOf(moe::ExpertsOp op);
// A symbol of the module that begins like `base`.
std::string freshBankName(mlir::ModuleOp module, llvm::StringRef base);
// Ones [T, n], beside the rows of x.
mlir::Value onesFor(OnnxBuilder &b, mlir::Value x, int64_t n, mlir::Type element);
// sum over e of weights[t, e] * all[t, columns[e], ...]; `n` experts in all.
mlir::Value weighted(OnnxBuilder &b, mlir::Value all, llvm::ArrayRef<int64_t> columns, int64_t n,
                     mlir::Value weights, mlir::RankedTensorType type);

// Sums of a block over experts that they share, of banks whose regions read tokens of several
// tensors or are of several kinds: one moe.experts for each group (Tang et al., "Progressive
// Layered Extraction", 2020). `bound` are the weights by the names of their binds.
unsigned shareKinds(mlir::ModuleOp module, mlir::Block &block, WeightSteps &steps,
                    const llvm::DenseMap<mlir::StringAttr, mlir::Value> &bound);

} // namespace moec::raise
