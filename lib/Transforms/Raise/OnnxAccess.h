// Reading onnx ops by name and position (the dialect's stable contract).
#pragma once

#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>

namespace moec::raise {

bool isOnnx(mlir::Operation *op, llvm::StringRef name);
bool isAbsent(mlir::Value v);
double floatAttr(mlir::Operation *op, llvm::StringRef name, double otherwise);
std::string strAttr(mlir::Operation *op, llvm::StringRef name);
llvm::SmallVector<int64_t> intsAttr(mlir::Operation *op, llvm::StringRef name);
// Contents of onnx.Constant as numbers (integers, floats and booleans alike).
std::optional<llvm::SmallVector<double>> constNumbers(mlir::Value v);
// All elements equal: that number.
std::optional<double> constSplat(mlir::Value v);
// Integers of a small shape computation; an element may be unknown.
using Ints = llvm::SmallVector<std::optional<int64_t>, 4>;
std::optional<Ints> evalInts(mlir::Value v, int depth = 0);
std::optional<llvm::SmallVector<int64_t>> evalAllInts(mlir::Value v);
std::optional<int64_t> evalInt(mlir::Value v);
mlir::RankedTensorType ranked(mlir::Value v);
/// Whether the ops of a block can read a value: it is of this block or of one around it.
bool isVisible(mlir::Value v, mlir::Block *block);
bool isWeight(mlir::Value v); // moe.weight.use or a constant
// 'node "name" (Op)' as diagnostics call it.
std::string describe(mlir::Operation *op);
/// The remark at `op` that a layer was not raised, because of what stands at `at`. `kind`, a
/// literal, is the check of moec lint that it belongs to; it becomes the diagnostic's metadata.
void remarkRefused(mlir::Operation *op, llvm::StringRef reason, mlir::Operation *at,
                   llvm::StringRef kind = "not-raised");

} // namespace moec::raise
