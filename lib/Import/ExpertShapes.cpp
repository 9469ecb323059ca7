// Shapes of the parameters of com.microsoft.MoE and QMoE, as ONNX Runtime documents the operators
// (docs/ContribOperators.md): matrices are [experts, rows, columns], fc1 and fc3 take tokens in,
// fc2 gives them back. A first matrix may hold gate and up rows, so it may have twice the inner
// size.
#include "Contrib.h"

#include "onnx/defs/shape_inference.h"

#include <algorithm>

#include "llvm/Support/MathExtras.h"

using onnx::InferenceContext;
using onnx::TensorShapeProto;

namespace {

class Experts {
public:
  Experts(InferenceContext &ctx, bool quantised) : ctx(ctx), quantised(quantised) {
    for (int p : {1, 2, 3})
      bits[p] = number(("fc" + std::to_string(p) + "_expert_weight_bits").c_str(),
                       number("expert_weight_bits", 4));
    block = number("block_size", 0);
  }

  void check() {
    size_t first = 2, second = quantised ? 5 : 4, third = quantised ? 8 : 6;
    for (size_t needed : {first, second})
      if (needed >= ctx.getNumInputs() || !ctx.hasInput(needed))
        fail_shape_inference("has no ", needed == first ? "first" : "second", " matrices (input ",
                             needed, ")");
    // Other layouts than the portable one are known to few.
    if (quantised &&
        (number("weights_prepacked", 0) != 0 || foreignNumbers() ||
         std::any_of(bits + 1, bits + 4, [](int64_t b) { return b != 2 && b != 4 && b != 8; })))
      return;
    const TensorShapeProto *x = shape(0);
    int64_t hidden = x && x->dim_size() > 0 ? size(*x, x->dim_size() - 1) : -1;
    int64_t rows = matrices(1, first, -1, hidden, "hidden size");
    matrices(3, third, -1, hidden, "hidden size");
    const TensorShapeProto *down = shape(second);
    int64_t inner = down && down->dim_size() == 3 ? size(*down, 2) : -1;
    if (!quantised && inner == hidden && size(*down, 1) != hidden)
      inner = size(*down, 1); // old files, see matrices()
    if (inner > 0)
      inner *= packed(2);
    if (rows > 0 && inner > 0 && rows != inner && rows != 2 * inner)
      fail_shape_inference("input ", second, " has the inner size ", inner,
                           ", which does not fit the ", rows, " rows of input ", first);
    matrices(2, second, hidden, inner, "inner size");
  }

private:
  int64_t number(const char *name, int64_t otherwise) {
    const onnx::AttributeProto *attribute = ctx.getAttribute(name);
    return attribute && attribute->has_i() ? attribute->i() : otherwise;
  }
  bool foreignNumbers() {
    const onnx::AttributeProto *kind = ctx.getAttribute("quant_type");
    return kind && kind->s() != "int";
  }
  int64_t packed(int projection) const { return quantised ? 8 / bits[projection] : 1; }
  const TensorShapeProto *shape(size_t i) {
    return onnx::hasInputShape(ctx, i) ? &onnx::getInputShape(ctx, i) : nullptr;
  }
  static int64_t size(const TensorShapeProto &shape, int i) {
    return shape.dim(i).has_dim_value() ? shape.dim(i).dim_value() : -1;
  }

  // Matrices and what belongs to them; gives their rows. -1: not known. Old files declare [experts,
  // columns, rows] for the same bytes, which the kernels read all the same.
  int64_t matrices(int projection, size_t input, int64_t rows, int64_t columns, const char *what) {
    const TensorShapeProto *m =
        input < ctx.getNumInputs() && ctx.hasInput(input) ? shape(input) : nullptr;
    if (!m)
      return rows;
    if (m->dim_size() != 3)
      fail_shape_inference("input ", input, " has rank ", m->dim_size(), ", not 3");
    int64_t pack = packed(projection), whole = (columns + pack - 1) / pack * pack;
    int64_t n = size(*m, 1), k = size(*m, 2) < 0 ? -1 : size(*m, 2) * pack;
    if (!quantised && columns >= 0 && n == columns && k != columns)
      std::swap(n, k);
    if (columns >= 0 && k >= 0 && whole != k)
      fail_shape_inference("the matrices of input ", input, " have ", k, " columns, not the ", what,
                           " ", columns);
    if (rows >= 0 && n >= 0 && n != rows)
      fail_shape_inference("the matrices of input ", input, " have ", n,
                           " rows, not the hidden size ", rows);
    if (quantised)
      scales(input + 1, n, columns);
    return n;
  }

  // [experts, rows], or with blocks of columns [experts, rows, blocks].
  void scales(size_t input, int64_t rows, int64_t columns) {
    const TensorShapeProto *s =
        input < ctx.getNumInputs() && ctx.hasInput(input) ? shape(input) : nullptr;
    if (!s)
      return;
    if (s->dim_size() != (block > 0 ? 3 : 2))
      fail_shape_inference("the scales of input ", input, " have rank ", s->dim_size(),
                           block > 0 ? ", not 3 (experts, rows, blocks)"
                                     : ", not 2 (experts, rows)");
    if (rows >= 0 && size(*s, 1) >= 0 && size(*s, 1) != rows)
      fail_shape_inference("the scales of input ", input, " are for ", size(*s, 1), " rows, not ",
                           rows);
    if (block <= 0 || columns < 0 || size(*s, 2) < 0)
      return;
    const int64_t blocks = llvm::divideCeilSigned(columns, block);
    if (size(*s, 2) != blocks)
      fail_shape_inference("the scales of input ", input, " are for ", size(*s, 2), " blocks, not ",
                           blocks);
  }

  InferenceContext &ctx;
  bool quantised;
  int64_t bits[4] = {}, block; // bits: of projections 1, 2, 3
};

} // namespace

void moec::onnx_import::checkExperts(InferenceContext &ctx, bool quantised) {
  Experts(ctx, quantised).check();
}
