// Weights that were dequantised from integers, as com.microsoft.QMoE holds them.
#pragma once
#include "Steps.h"

#include <optional>

namespace moec::onnx_export {

/// A matrix for each expert: bytes [E, N, K * bits / 8], scales [E, N, blocks], and zero points
/// [E, N, bytes of blocks] or null, which is 2^(bits - 1). `bytesOfRows`: zero points [E, bytes
/// of N] instead, one for each row.
struct Packed {
  mlir::Value bytes, scale, zero;
  bool bytesOfRows = false;
  int64_t bits = 0, block = 0; // block: K when a row has one scale
  int64_t depth = 0;           // K

  bool sameFormat(const Packed &other) const {
    return bits == other.bits && block == other.block && depth == other.depth &&
           !zero == !other.zero && !bytesOfRows && !other.bytesOfRows &&
           scaleType() == other.scaleType();
  }
  mlir::Type scaleType() const {
    return mlir::cast<mlir::RankedTensorType>(scale.getType()).getElementType();
  }
};

/// What [E, N, K] or, for one expert, [N, K] was dequantised from; nullopt when it was not, or
/// when other steps stand between that cannot be done with bytes.
std::optional<Packed> packedOf(Steps &steps, mlir::Value v);
/// Rows of gate and up in turn, which is how QMoE holds both in one tensor.
std::optional<Packed> interleavedRows(Steps &steps, mlir::Value gate, mlir::Value up);
/// Experts `rows` of it.
Packed gathered(Steps &steps, Packed packed, llvm::ArrayRef<int64_t> rows);

} // namespace moec::onnx_export
