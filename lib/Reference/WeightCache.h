// Weights evaluated late and kept while they fit.
#pragma once
#include "Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "moec/Weights/Weights.h"
#include <list>
#include <map>

namespace moec::reference {

/// Evaluates weights of moe.weights, whole or a row of axis 0 at a time, and keeps the most
/// recently used up to a bound of bytes.
class WeightCache {
public:
  WeightCache(mlir::ModuleOp module, llvm::StringRef folder) : evaluator(module, folder) {}
  Tensor whole(llvm::StringRef bind) { return get(bind, -1); }
  Tensor row(llvm::StringRef bind, int64_t row) {
    if (row < 0)
      fail("weight " + bind + " has no row " + llvm::Twine(row));
    return get(bind, row);
  }

private:
  using Key = std::pair<std::string, int64_t>;
  struct Entry {
    Tensor tensor;
    std::list<Key>::iterator place;
  };
  Tensor get(llvm::StringRef bind, int64_t row);
  Tensor evaluate(llvm::StringRef bind, int64_t row);

  static constexpr int64_t bound = int64_t(1) << 30;
  WeightEvaluator evaluator;
  std::map<Key, Entry> entries;
  std::list<Key> order; // most recent first
  int64_t held = 0;
};

} // namespace moec::reference
