// Reading weight bytes: mapped files with containment rules, and the streaming evaluator of the
// values in moe.weights.
#pragma once
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/Error.h"
#include <memory>
#include <string>

namespace moec {

/// Maps byte ranges of files below one folder, read-only. Refuses absolute paths, `..`, symbolic
/// links, hard links, other than regular files, and ranges beyond the end or that overflow; the
/// error says which rule. Not thread safe. Mapped memory lives as long as the reader.
class WeightReader {
public:
  explicit WeightReader(llvm::StringRef folder);
  ~WeightReader();
  llvm::Expected<llvm::ArrayRef<char>> map(llvm::StringRef file, uint64_t offset, uint64_t length);
  /// Tells the system that the pages of a range are not needed soon (keeps resident memory small).
  void release(llvm::ArrayRef<char> range);

private:
  struct Data;
  std::unique_ptr<Data> data;
};

/// Evaluates binds of the module's moe.weights, a slab of axis 0 at a time: a slab costs memory
/// in proportion to itself, not to the weight (steps that move axis 0 may cost one source weight).
/// Elements are row-major in the bind's type; i1 takes a byte. Not thread safe.
class WeightEvaluator {
public:
  WeightEvaluator(mlir::ModuleOp module, llvm::StringRef folder);
  ~WeightEvaluator();
  llvm::Expected<mlir::RankedTensorType> type(llvm::StringRef bind);
  /// Rows [first, first + count) of axis 0, into `out` (resized). A rank-0 weight is one row.
  llvm::Error rows(llvm::StringRef bind, int64_t first, int64_t count,
                   llvm::SmallVectorImpl<char> &out);
  /// The whole weight.
  llvm::Error all(llvm::StringRef bind, llvm::SmallVectorImpl<char> &out);

private:
  struct Data;
  std::unique_ptr<Data> data;
};

/// Bytes of one element as stored in files and buffers (i1: 1).
int64_t elementBytes(mlir::Type type);
/// Converts `count` float elements between f16, bf16, f32 and f64, rounding to nearest even.
void convertFloats(mlir::Type from, const char *in, mlir::Type to, char *out, int64_t count);

} // namespace moec
