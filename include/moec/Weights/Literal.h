// New weights as literals of moe.weights that take no memory.
#pragma once
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

namespace moec {

/// Writes a new weight in pieces, to a file in the system's folder for temporary files that has no
/// name any more: the system drops it with the last map of it. Not thread safe.
class LiteralWriter {
public:
  /// Errors: no such file can be made; the type is unsupported, which are all with dynamic
  /// dimensions and those whose elements are no whole bytes or i1.
  static llvm::Expected<LiteralWriter> create(mlir::RankedTensorType type);
  LiteralWriter(LiteralWriter &&other);
  LiteralWriter &operator=(LiteralWriter &&) = delete;
  ~LiteralWriter();

  /// The next elements, row-major in the type. Errors: the disk is full; more than the type holds.
  llvm::Error write(llvm::ArrayRef<char> bytes);
  /// What was written, as `dense_resource<name>` (with a number behind a name that is taken). Its
  /// bytes are mapped, and the context owns the map. Errors: less was written than the type holds.
  llvm::Expected<mlir::ElementsAttr> finish(llvm::StringRef name);

private:
  LiteralWriter(mlir::RankedTensorType type, uint64_t length, int file)
      : type(type), length(length), file(file) {}
  mlir::RankedTensorType type;
  uint64_t length, written = 0;
  int file;
};

/// A moe.weight.literal of `type` at `builder`, which is in moe.weights; `fill` writes its elements.
llvm::Expected<mlir::Value>
makeLiteral(mlir::OpBuilder &builder, mlir::Location location, mlir::RankedTensorType type,
            llvm::StringRef name, llvm::function_ref<llvm::Error(LiteralWriter &)> fill);

} // namespace moec
