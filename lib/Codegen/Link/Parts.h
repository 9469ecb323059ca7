// The steps of a link.
#pragma once
#include "moec/Codegen/Link/Link.h"
#include "moec/Weights/Weights.h"
#include "llvm/ADT/SmallVector.h"
#include <array>

namespace moec::link {

using Bytes = llvm::SmallVector<char, 0>;

llvm::Error internalError(const llvm::Twine &message);
llvm::Error fileError(llvm::StringRef path, std::error_code code);

/// ONNX TensorProto code of an element type by its MLIR spelling; 0 when it has none.
uint32_t onnxCode(llvm::StringRef dtype);
/// The MLIR type of such a spelling; null when unknown.
mlir::Type elementType(mlir::MLIRContext *context, llvm::StringRef dtype);

// --- weights -----------------------------------------------------------------------------------

struct PackedWeights {
  uint64_t bytes = 0;           ///< of the whole file
  std::array<uint8_t, 32> hash; ///< SHA-256 of header and manifest
};

/// Packs all weights into the open file `fd` (empty, readable and writable).
llvm::Expected<PackedWeights> writeWeights(const LinkInput &input, int fd, llvm::StringRef path,
                                           const std::function<void(uint64_t)> &progress);

/// Receives a slab's bytes at their offset within the slab.
using SlabSink = std::function<llvm::Error(uint64_t offset, llvm::ArrayRef<char> bytes)>;

/// Packs one weight. Checks that its shape is the entry's.
class Packer {
public:
  Packer(WeightEvaluator &weights, mlir::MLIRContext *context)
      : weights(weights), context(context) {}
  /// Size of the packed slab.
  llvm::Expected<uint64_t> bytes(const WeightEntry &entry);
  /// Sends every byte of the slab once; in rising order unless the layout is panel16.
  llvm::Error pack(const WeightEntry &entry, const SlabSink &sink);

private:
  struct Form; ///< what a layout means for one entry
  llvm::Expected<Form> formOf(const WeightEntry &entry);
  llvm::Error read(llvm::StringRef name, const Form &form, int64_t first, int64_t count,
                   Bytes &out);
  llvm::Error packPlain(const WeightEntry &entry, const Form &form, const SlabSink &sink);
  llvm::Error packColumns(const WeightEntry &entry, const Form &form, const SlabSink &sink);
  llvm::Error packRows(const WeightEntry &entry, const Form &form, const SlabSink &sink);
  llvm::Error packExperts(const WeightEntry &entry, const Form &form, const SlabSink &sink);

  WeightEvaluator &weights;
  mlir::MLIRContext *context;
};

// --- tables ------------------------------------------------------------------------------------

/// The descriptor of format.h.
llvm::Expected<Bytes> makeDescriptor(const LinkInput &input, const PackedWeights &weights);
/// An object with the symbols moert_descriptor and moert_code.
llvm::Expected<Bytes> makeTables(const LinkInput &input, llvm::ArrayRef<char> descriptor);

// --- linking -----------------------------------------------------------------------------------

/// Refuses objects with undefined symbols that neither another object nor libc or libm defines.
llvm::Error checkSymbols(llvm::ArrayRef<llvm::ArrayRef<char>> objects);
/// Runs lld. The library exports the two symbols of the tables only.
llvm::Error linkObjects(llvm::ArrayRef<llvm::ArrayRef<char>> objects, llvm::StringRef output);

} // namespace moec::link
