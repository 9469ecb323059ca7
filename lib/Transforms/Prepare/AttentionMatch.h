// Attention as exporters spell it out: softmax(q k^T * scale + mask) v.
#pragma once

#include "SymbolicShape.h"
#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>
#include <string>

namespace moec::prepare {

// One step between q k^T and the softmax that hides keys.
struct MaskTerm {
  mlir::Value tensor;       // added, or the condition when `conditional`
  bool conditional = false; // scores stay where `tensor` (is not `inverted`) ...
  bool inverted = false;
  double low = 0;           // ... and are this number elsewhere
};

struct AttentionMatch {
  mlir::Value q;                    // [B, h, S, d]
  mlir::Value k, v;                 // [B, hkv, T, d], [B, hkv, T, e]
  llvm::SmallVector<int64_t, 4> kPerm; // transpose that makes k, empty: none
  double scale = 1.0;
  llvm::SmallVector<MaskTerm, 2> masks;
  bool guarded = false;             // NaN probabilities count as 0
  mlir::Operation *softmax = nullptr;
};

// `product` is a MatMul. Nullopt without a reason when it multiplies no softmax;
// otherwise `why` says what is not attention about it.
std::optional<AttentionMatch> matchAttention(mlir::Operation *product,
                                             SymbolicSizes &sizes,
                                             std::string &why);

} // namespace moec::prepare
