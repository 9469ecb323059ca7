// Experts that own fixed rows of a tensor: which expert a row is of follows from
// its place, as with the slots of Soft MoE and with the tokens experts chose.
//
// Walks from a result up to the source of the rows, through views that only move
// rows, products with an expert's matrices or with all experts' along the axis of
// experts, and elementwise operators.
#pragma once

#include "Analysis.h"
#include <functional>

namespace moec::raise {

// A factor of an axis: `size` (-1: known at run time only) positions, `stride`
// apart, of one axis of the source.
struct RowAtom {
  enum { Places = 0, Features = 1, Batch = 2 }; // Batch + i: another axis
  int64_t source, stride, size;
  bool operator==(const RowAtom &o) const {
    return source == o.source && stride == o.stride && size == o.size;
  }
};
inline constexpr int64_t mostRows = int64_t(1) << 20; // of an expert, and experts
using RowAxis = llvm::SmallVector<RowAtom, 2>;        // outermost first, none: size 1

// What a value holds, and of which rows.
struct OwnRows {
  llvm::SmallVector<RowAxis, 4> axes;
  int64_t offset = 0; // the first of its places
  Expr *expr = nullptr;
};

// An axis of all of `n` features, in order.
RowAxis features(int64_t n);
bool isFeatures(const RowAxis &axis);
// All factors of the axes in order, neighbours that follow each other as one.
RowAxis flatRows(llvm::ArrayRef<RowAxis> axes);

class OwnRowsWalk {
public:
  // Rows that a value is the source of, or of something beside them.
  using Source = std::function<std::optional<OwnRows>(mlir::Value)>;
  explicit OwnRowsWalk(Source source) : source(std::move(source)) {}

  std::optional<OwnRows> at(mlir::Value v);
  // Parts of one expert each, in order of id, as one expression for all; null: they
  // are not that. `why` then says so.
  Expr *joined(llvm::ArrayRef<OwnRows> parts);

  Analysis analysis{Reading()};
  int64_t places = 0;                // of all experts; set by the source
  int64_t experts = 0;               // 0: not known yet
  mlir::Operation *failed = nullptr; // where the first walk from a source ended
  std::string why = "the experts' rows are rearranged in a way no known layer does";

private:
  using Result = std::optional<OwnRows>;
  Result visit(mlir::Operation *op, mlir::Value v);
  Result view(mlir::Operation *op, mlir::Value v);
  Result part(const OwnRows &in, int64_t axis, int64_t start, int64_t size);
  Result slice(mlir::Operation *op, mlir::Value v);
  Result matmul(mlir::Operation *op);
  Result gemm(mlir::Operation *op);
  Result concat(mlir::Operation *op);
  Result binary(mlir::Operation *op);
  Result withBias(const OwnRows &x, mlir::Value bias);
  Result linear(const OwnRows &x, mlir::Value w, bool nk, bool stacked);
  bool isExpertAxis(const RowAxis &axis, int64_t offset);
  bool setExperts(int64_t n);

  Source source;
  llvm::DenseMap<mlir::Value, Result> known;
  int depth = 0;
};

// Zeros of any shape.
bool isZero(mlir::Value v);
// Whether the first number of a shape is the first of the shape of `of`.
bool countsRows(mlir::Value shape, mlir::Value of);
// "Softmax" behind casts, transposes and reshapes that stay, or null; `axis` of `v`
// becomes the axis of the op's result, -1: it cannot be told.
mlir::Operation *softmaxBehind(mlir::Value v, int64_t &axis);

} // namespace moec::raise
