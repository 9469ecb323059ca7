// decompose-onnx: onnx.Attention in the form of the attention kernel, or written out.
#include "Decompose.h"
#include <cmath>
#include <limits>

using namespace mlir;

namespace moec::prepare {
namespace {

Value in(Operation *op, unsigned i) {
  return i < op->getNumOperands() && !absent(op->getOperand(i)) ? op->getOperand(i) : Value();
}

bool used(Operation *op, unsigned i) {
  return i < op->getNumResults() && !op->getResult(i).use_empty();
}

bool isFloatTensor(Value v) {
  auto type = rankedType(v);
  return type && isa<FloatType>(type.getElementType());
}

// What an Attention node computes, with heads as an axis and the past joined.
struct Node {
  Value q, k, v, mask;
  Value past, lengths; // of past keys and of valid keys
  int64_t rank = 0, qHeads = 0, kvHeads = 0;
  double scale = 1, softcap = 0;
  bool causal = false;
  int64_t left = -1, right = -1; // windows; -1: none
  int64_t mode = 0;              // of result 3
  bool scores = false;           // result 3 is used
  Type precision;                // of the softmax

  bool limited() const { return causal || left >= 0 || right >= 0 || lengths; }
};

// Reads the node; false when a head's number or size is unknown.
bool readNode(Operation *op, Node &n) {
  n.q = in(op, 0), n.k = in(op, 1), n.v = in(op, 2), n.mask = in(op, 3);
  n.past = in(op, 4), n.lengths = in(op, 6);
  if (!isFloatTensor(n.q) || !isFloatTensor(n.k) || !isFloatTensor(n.v) || !n.past != !in(op, 5) ||
      (n.past && n.lengths) || (n.mask && !rankedType(n.mask)) ||
      (n.past && (!rankedType(n.past) || !rankedType(in(op, 5)))) ||
      (n.lengths && !rankedType(n.lengths)))
    return false;
  n.rank = rankedType(n.q).getRank();
  if (n.rank != 3 && n.rank != 4)
    return false;
  n.qHeads = n.rank == 4 ? rankedType(n.q).getDimSize(1) : intAttr(op->getAttr("q_num_heads"), 0);
  n.kvHeads = n.rank == 4 ? rankedType(n.k).getDimSize(1) : intAttr(op->getAttr("kv_num_heads"), 0);
  int64_t size = rankedType(n.q).getShape().back();
  if (n.qHeads <= 0 || n.kvHeads <= 0 || n.qHeads % n.kvHeads != 0 || size < 0 ||
      rankedType(n.v).getShape().back() < 0 || rankedType(n.k).getRank() != n.rank ||
      rankedType(n.v).getRank() != n.rank)
    return false;
  if (n.rank == 3)
    size /= n.qHeads;
  double scale = floatAttr(op->getAttr("scale"), 0);
  n.scale = scale != 0 ? scale : 1.0 / std::sqrt(static_cast<double>(size));
  n.softcap = floatAttr(op->getAttr("softcap"), 0);
  n.causal = intAttr(op->getAttr("is_causal"), 0) != 0;
  n.left = intAttr(op->getAttr("left_window_size"), -1);
  n.right = intAttr(op->getAttr("right_window_size"), -1);
  n.mode = intAttr(op->getAttr("qk_matmul_output_mode"), 0);
  n.scores = used(op, 3);
  n.precision = rankedType(n.q).getElementType();
  Builder b(op->getContext());
  switch (intAttr(op->getAttr("softmax_precision"), 0)) {
  case 1:
    n.precision = b.getF32Type();
    break;
  case 11:
    n.precision = b.getF64Type();
    break;
  default: // half precision is what the operands have, or less than it
    break;
  }
  return true;
}

// The attention kernel's types: f32 and f16, a mask of them or of booleans.
bool kernelTypes(const Node &n) {
  Type element = rankedType(n.q).getElementType();
  auto mask = n.mask ? rankedType(n.mask) : RankedTensorType();
  return (element.isF32() || element.isF16()) && n.softcap == 0 && !n.scores &&
         rankedType(n.k).getElementType() == element &&
         rankedType(n.v).getElementType() == element &&
         (!mask || mask.getElementType() == element || mask.getElementType().isInteger(1));
}

// Whether the mask's last axis may end before the keys do: what is missing is hidden.
bool shortMask(const Node &n) {
  if (!n.mask || rankedType(n.mask).getRank() == 0)
    return false;
  int64_t width = rankedType(n.mask).getShape().back(), keys = rankedType(n.k).getDimSize(2);
  return width >= 0 && (keys < 0 || width < keys);
}

// [B, S, heads * d] -> [B, heads, S, d]; four axes stay.
Value splitHeads(OnnxBuilder &b, Value x, int64_t heads) {
  auto type = rankedType(x);
  if (type.getRank() == 4)
    return x;
  int64_t size = type.getShape().back() / heads;
  return b.transpose(b.reshape(x, {0, 0, heads, size}), {0, 2, 1, 3});
}

// Every key/value head serves `group` query heads.
Value repeatHeads(OnnxBuilder &b, Value x, int64_t group) {
  if (group == 1)
    return x;
  auto type = rankedType(x);
  int64_t heads = type.getDimSize(1);
  SmallVector<int64_t> dims(type.getShape());
  dims.insert(dims.begin() + 2, group);
  Value wide = b.op("Expand", {b.unsqueeze(x, 2), b.ints({1, 1, group, 1, 1})},
                    RankedTensorType::get(dims, type.getElementType()));
  dims.erase(dims.begin() + 2);
  dims[1] = heads * group;
  Value batch = b.shape(x, 0, 1), rest = b.shape(x, 2, 4);
  Value shape = b.concat({batch, b.ints(heads * group), rest}, 0);
  return b.reshapeLike(wide, shape, RankedTensorType::get(dims, type.getElementType()));
}

Value scalarSize(OnnxBuilder &b, Value x, int64_t axis) {
  return b.op("Squeeze", {b.shape(x, axis, axis + 1), b.ints(0)},
              RankedTensorType::get({}, b.builder.getI64Type()));
}

// 0, 1, ... along axis 2 of x.
Value positions(OnnxBuilder &b, Value x) {
  Type i64 = b.builder.getI64Type();
  return b.op("Range", {b.scalar(i64, 0), scalarSize(b, x, 2), b.scalar(i64, 1)},
              RankedTensorType::get({rankedType(x).getDimSize(2)}, i64));
}

// Boolean [S, T], or [B, 1, S, T] with numbers of valid keys: key j is visible from query i, whose
// position is i + the past's length, or i + the number of valid keys - S.
Value visibleKeys(OnnxBuilder &b, const Node &n) {
  Type i64 = b.builder.getI64Type();
  Value rows = b.unsqueeze(positions(b, n.q), 1), columns = b.unsqueeze(positions(b, n.k), 0);
  Value valid = n.lengths ? b.unsqueeze(b.cast(n.lengths, i64), {1, 2, 3}) : Value();
  if (valid)
    rows = b.binary("Add", b.binary("Sub", valid, scalarSize(b, n.q, 2)), rows);
  else if (n.past)
    rows = b.binary("Add", rows, scalarSize(b, n.past, 2));
  Value all;
  auto also = [&](Value condition) { all = all ? b.binary("And", all, condition) : condition; };
  if (n.causal)
    also(b.binary("LessOrEqual", columns, rows));
  if (n.left >= 0)
    also(b.binary("GreaterOrEqual", columns,
                  b.binary("Sub", rows, b.scalar(i64, static_cast<double>(n.left)))));
  if (n.right >= 0)
    also(b.binary("LessOrEqual", columns,
                  b.binary("Add", rows, b.scalar(i64, static_cast<double>(n.right)))));
  if (valid)
    also(b.binary("Less", columns, valid));
  return all;
}

// 0 where a boolean mask is set, else -inf; other masks as they are.
Value additive(OnnxBuilder &b, Value mask, Type element) {
  if (!rankedType(mask).getElementType().isInteger(1))
    return b.cast(mask, element);
  Value low = b.scalar(element, -std::numeric_limits<double>::infinity());
  return b.op("Where", {mask, b.scalar(element, 0), low}, rankedType(mask).clone(element));
}

// The mask with hidden keys behind its last column.
Value widened(OnnxBuilder &b, Value mask, Value k) {
  auto type = rankedType(mask);
  SmallVector<int64_t> dims(type.getShape()), pads(2 * dims.size() - 1, 0);
  int64_t keys = rankedType(k).getDimSize(2);
  Value missing = b.ints(keys - dims.back());
  if (keys < 0)
    missing = b.binary("Max", b.binary("Sub", b.shape(k, 2, 3), b.ints(dims.back())), b.ints(0));
  dims.back() = keys;
  bool boolean = type.getElementType().isInteger(1);
  Value hidden =
      b.scalar(type.getElementType(), boolean ? 0 : -std::numeric_limits<double>::infinity());
  return b.op("Pad", {mask, b.concat({b.ints(pads), missing}, 0), hidden, b.none()},
              RankedTensorType::get(dims, type.getElementType()), {b.attr("mode", "constant")});
}

// Joins the node's limits with its mask; null when every key is visible.
Value wholeMask(OnnxBuilder &b, const Node &n, bool limits) {
  Value mask = n.mask;
  if (shortMask(n))
    mask = widened(b, mask, n.k);
  if (!limits)
    return mask;
  Value visible = visibleKeys(b, n);
  if (!mask)
    return visible;
  if (rankedType(mask).getElementType().isInteger(1))
    return b.binary("And", mask, visible);
  Type element = rankedType(n.q).getElementType();
  return b.binary("Add", b.cast(mask, element), additive(b, visible, element));
}

// A row that sees no key has no probabilities: zeros.
Value guarded(OnnxBuilder &b, Value probabilities, Value bias) {
  Type element = rankedType(bias).getElementType();
  Type precise = rankedType(probabilities).getElementType();
  Value best = b.reduce("ReduceMax", bias, rankedType(bias).getRank() - 1);
  Value low = b.scalar(element, -std::numeric_limits<double>::infinity());
  Value none = b.binary("Equal", best, low);
  return b.op("Where", {none, b.scalar(precise, 0), probabilities}, probabilities.getType());
}

struct WrittenOut {
  Value y, scores;
};

// k and v have as many heads as q.
WrittenOut writeOut(OnnxBuilder &b, const Node &n, Value k, Value v) {
  Type element = rankedType(n.q).getElementType();
  Value scores = b.matmul(n.q, b.transpose(k, {0, 1, 3, 2}));
  scores = b.binary("Mul", scores, b.scalar(element, n.scale));
  WrittenOut out{Value(), scores};
  if (n.softcap != 0) { // before the mask, which it would make finite
    Value cap = b.scalar(element, n.softcap);
    scores = b.binary("Mul", b.unary("Tanh", b.binary("Div", scores, cap)), cap);
  }
  out.scores = n.mode == 1 ? scores : out.scores;
  Value bias;
  if (n.mask || n.limited()) {
    bias = additive(b, wholeMask(b, n, n.limited()), element);
    scores = b.binary("Add", scores, bias);
  }
  out.scores = n.mode == 2 ? scores : out.scores;
  Value p = b.softmax(b.cast(scores, n.precision), -1);
  // Of causal rows alone each sees its own key, or one of the past.
  bool onlyCausal = !n.mask && !n.lengths && n.left < 0 && n.right < 0;
  if (bias && !onlyCausal && rankedType(bias).getRank() > 0)
    p = guarded(b, p, bias);
  p = b.cast(p, element);
  out.scores = n.mode == 3 ? p : out.scores;
  out.y = b.matmul(p, v);
  return out;
}

} // namespace

bool attention(Operation *op, OnnxBuilder &b, bool writtenOut) {
  Node n;
  if (!readNode(op, n))
    return false;
  n.q = splitHeads(b, n.q, n.qHeads);
  n.k = splitHeads(b, n.k, n.kvHeads);
  n.v = splitHeads(b, n.v, n.kvHeads);
  if (n.past) {
    n.k = b.concat({n.past, n.k}, 2);
    n.v = b.concat({in(op, 5), n.v}, 2);
  }
  if (used(op, 1))
    op->getResult(1).replaceAllUsesWith(n.k);
  if (used(op, 2))
    op->getResult(2).replaceAllUsesWith(n.v);
  Value y;
  if (!writtenOut && kernelTypes(n)) {
    bool plainCausal = n.causal && !n.past && !n.lengths && n.left < 0 && n.right < 0;
    Scores scores;
    scores.scale = n.scale;
    scores.causal = plainCausal;
    scores.mask = wholeMask(b, n, n.limited() && !plainCausal);
    if (scores.mask)
      scores.mask = kernelMask(b, scores.mask, n.q, n.k);
    y = attentionOp(b, n.q, n.k, n.v, scores);
  } else {
    int64_t group = n.qHeads / n.kvHeads;
    WrittenOut out = writeOut(b, n, repeatHeads(b, n.k, group), repeatHeads(b, n.v, group));
    y = out.y;
    if (n.scores)
      op->getResult(3).replaceAllUsesWith(out.scores);
  }
  if (n.rank == 3) {
    int64_t width = rankedType(y).getShape().back() * n.qHeads;
    y = b.reshape(b.transpose(y, {0, 2, 1, 3}), {0, 0, width});
  }
  op->getResult(0).replaceAllUsesWith(y);
  return true;
}

bool isKernelAttention(Operation *op) {
  Node n;
  return readNode(op, n) && n.rank == 4 && !n.past && !n.lengths && n.left < 0 && n.right < 0 &&
         !used(op, 1) && !used(op, 2) && kernelTypes(n) && !shortMask(n) &&
         (!n.mask || rankedType(n.mask).getRank() == 4);
}

} // namespace moec::prepare
