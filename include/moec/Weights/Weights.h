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
/// links, hard links, other than regular files, Git LFS pointers, and ranges beyond the end or
/// that overflow; the error says which rule. Not thread safe. Mapped memory lives as long as the
/// reader; a file that shrinks meanwhile ends the process (SIGBUS).
class WeightReader {
public:
  explicit WeightReader(llvm::StringRef folder);
  ~WeightReader();
  llvm::Expected<llvm::ArrayRef<char>> map(llvm::StringRef file, uint64_t offset, uint64_t length);
  /// Length of a file in bytes, under the same rules.
  llvm::Expected<uint64_t> size(llvm::StringRef file);
  /// Tells the system that the pages of a range are not needed soon (keeps resident memory small).
  /// The range stays readable.
  void release(llvm::ArrayRef<char> range);
  /// The same for everything that is mapped.
  void releaseAll();

private:
  struct Data;
  std::unique_ptr<Data> data;
};

/// Evaluates binds of the module's moe.weights, a slab of axis 0 at a time: a slab costs memory
/// in proportion to itself, not to the weight (steps that move axis 0 read one source weight in
/// pieces). Elements are row-major in the bind's type; each takes elementBytes(type), so i1 and
/// types below 8 bits take a byte each, sign- or zero-extended. Not thread safe. The module must
/// not change while the evaluator lives.
///
/// Arithmetic (combine, low_rank) is done in f64 and rounded once to the result's type.
class WeightEvaluator {
public:
  /// `folder` is what the files of moe.weight.load are relative to.
  WeightEvaluator(mlir::ModuleOp module, llvm::StringRef folder);
  ~WeightEvaluator();
  llvm::Expected<mlir::RankedTensorType> type(llvm::StringRef bind);
  /// Rows [first, first + count) of axis 0, into `out` (resized). A rank-0 weight is one row.
  llvm::Error rows(llvm::StringRef bind, int64_t first, int64_t count,
                   llvm::SmallVectorImpl<char> &out);
  /// Elements [first, first + count), row-major: costs memory for these only, even of one large row.
  llvm::Error elements(llvm::StringRef bind, int64_t first, int64_t count,
                       llvm::SmallVectorImpl<char> &out);
  /// Whether a weight of rank 2 was made by a transpose, its last step but for casts: rows of axis
  /// 0 then cost a pass over all of its source each, and columns cost what rows cost otherwise.
  bool isTransposed(llvm::StringRef bind);
  /// Columns [first, first + count) of a transposed weight, the elements of each side by side.
  llvm::Error columns(llvm::StringRef bind, int64_t first, int64_t count,
                      llvm::SmallVectorImpl<char> &out);
  /// The whole weight.
  llvm::Error all(llvm::StringRef bind, llvm::SmallVectorImpl<char> &out);

private:
  struct Data;
  std::unique_ptr<Data> data;
};

/// Bytes of one element in buffers (i1 and types below 8 bits: 1); 0 for types that have none.
int64_t elementBytes(mlir::Type type);
/// Bits of one element in files, where types of 2 and 4 bits are packed, low bits first (i1: 8).
int64_t storageBits(mlir::Type type);
/// Elements [first, first + count) of data as it lies in files into a buffer: takes types below
/// 8 bits apart and makes every i1 a 0 or 1. `packed` is the start of the whole data.
void unpackElements(mlir::Type type, const char *packed, int64_t first, int64_t count, char *out);
/// Converts `count` float elements between f16, bf16, f32 and f64, rounding to nearest even.
void convertFloats(mlir::Type from, const char *in, mlir::Type to, char *out, int64_t count);
/// Converts between any real types: floats to integers towards zero, NaN to 0 and what is out of
/// range to the nearest bound; wide integers to narrow ones modulo 2^n; to i1 whether different
/// from zero.
void convertElements(mlir::Type from, const char *in, mlir::Type to, char *out, int64_t count);

} // namespace moec
