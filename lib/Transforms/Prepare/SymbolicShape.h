// Sizes that are known only at run time, by where they come from: enough to see
// that two shape computations of a graph give the same size.
#pragma once

#include "mlir/IR/Block.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>

namespace moec::prepare {

// A number, or the size of one dimension of a value, or the named size of a
// function argument's dimension (onnx.dims), or an element of a computed integer
// tensor, or nothing known.
struct Size {
  std::optional<int64_t> number;
  mlir::Value of;
  int64_t dim = -1;
  bool element = false; // element `dim` of `of`, not its dimension: any integer
  mlir::Attribute symbol;

  bool known() const { return number || of || symbol; }
  bool isDim() const { return (of && !element) || symbol; } // at least 0
  // Equal for certain.
  bool operator==(const Size &o) const {
    return known() && number == o.number && of == o.of && dim == o.dim &&
           element == o.element && symbol == o.symbol;
  }
};

using Sizes = llvm::SmallVector<Size, 5>;

// Remembers every size it was asked for, so that tracing a graph is linear. Values
// that were asked for must live as long as this does. One thread.
class SymbolicSizes {
public:
  // Dimension `dim` of a ranked tensor, traced to where its size is decided.
  Size of(mlir::Value v, int64_t dim);
  // Elements of an integer vector (or scalar) that a graph computes from shapes;
  // empty when its length is unknown.
  Sizes elements(mlir::Value vector);
  // Asks for all sizes in a block, first to last: later questions find answers
  // close by, however deep the graph is.
  void visit(mlir::Block &block);

private:
  friend class Descent;
  friend Size dimOf(mlir::Value v, int64_t dim, SymbolicSizes &sizes);
  llvm::DenseMap<std::pair<mlir::Value, int64_t>, Size> known;
  int level = 0;
};

} // namespace moec::prepare
