// The evaluator's inside: one method a step of moe.weights.
#pragma once
#include "Elements.h"

#include "mlir/IR/Operation.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/Twine.h"

#include <cstring>
#include <memory>
#include <vector>

namespace moec::weights {

/// Elements of a value: in a buffer given, in one of its own, or lent by a mapped file.
struct Piece {
  llvm::ArrayRef<char> bytes;
  llvm::ArrayRef<char> mapped; // to release once the bytes are used
  std::unique_ptr<char[]> owned;
};

/// A request: elements [first, first + count) of `value`, in row-major order.
struct Step {
  mlir::Operation *op;
  mlir::Value value;
  mlir::RankedTensorType type;
  int64_t bytes; // of one element
  int64_t first, count;
};

llvm::Error fault(mlir::Value step, const llvm::Twine &text);

inline llvm::ArrayRef<int64_t> shapeOf(mlir::Value v) {
  return llvm::cast<mlir::RankedTensorType>(v.getType()).getShape();
}
inline int64_t product(llvm::ArrayRef<int64_t> dims) {
  int64_t n = 1;
  for (int64_t d : dims)
    n *= d;
  return n;
}
inline int64_t elementsOf(mlir::Value v) { return product(shapeOf(v)); }

/// Data read at once where a step needs more of its operand than of its result.
constexpr int64_t kChunkBytes = 8 << 20;

} // namespace moec::weights

struct moec::WeightEvaluator::Data {
  using Piece = weights::Piece;
  using Step = weights::Step;

  explicit Data(llvm::StringRef folder) : reader(folder) {}
  llvm::Expected<mlir::Value> value(llvm::StringRef bind);
  /// Writes elements to `out`.
  llvm::Error into(mlir::Value value, int64_t first, int64_t count, char *out);
  /// Elements wherever they are; those that must be computed go to `out` when it is not null.
  llvm::Expected<Piece> get(mlir::Value value, int64_t first, int64_t count, char *out = nullptr);

  llvm::Expected<Piece> load(const Step &step, char *out);
  llvm::Expected<Piece> reshape(const Step &step, char *out);
  llvm::Expected<Piece> written(const Step &step, llvm::StringRef name, char *out);
  llvm::Error literal(const Step &step, char *out);
  llvm::Error resource(const Step &step, char *out);
  llvm::Error cast(const Step &step, char *out);
  llvm::Error transpose(const Step &step, char *out);
  llvm::Error slice(const Step &step, char *out);
  llvm::Error gather(const Step &step, char *out);
  llvm::Error concat(const Step &step, char *out);
  llvm::Error combine(const Step &step, char *out);
  llvm::Error lowRank(const Step &step, char *out);
  llvm::Error unpack(const Step &step, char *out);
  llvm::Error dequantize(const Step &step, char *out);
  template <typename T> llvm::Error dequantizeAs(const Step &step, char *out);
  /// Elements of any type as numbers of type T (float or double).
  template <typename T>
  llvm::Error numbers(mlir::Value value, int64_t first, int64_t count, std::vector<T> &out);
  /// Reads `value` in pieces of at most about kChunkBytes and hands each to `use`(first element,
  /// number, bytes). Pieces begin and end at multiples of `unit` elements.
  llvm::Error stream(mlir::Value value, int64_t first, int64_t count, int64_t unit,
                     llvm::function_ref<void(int64_t, int64_t, const char *)> use);
  llvm::Error transposeUnit(const Step &step, int64_t base, llvm::ArrayRef<int64_t> dims,
                            llvm::ArrayRef<int64_t> perm, int64_t first, int64_t count,
                            char *out);

  /// Counts mapped bytes that were read and drops the pages now and then.
  void touched(llvm::ArrayRef<char> mapped);
  /// The same for bytes that the IR refers to.
  void copied(llvm::ArrayRef<char> literal);

  WeightReader reader;
  int64_t resident = 0;   // bytes that may be, at most
  uintptr_t lastPage = 0; // that was touched; 0: none
  llvm::SmallVector<llvm::ArrayRef<char>> literals; // ranges that were read
  int64_t literalBytes = 0;
  llvm::StringMap<mlir::Value> binds;
  unsigned depth = 0;
};
