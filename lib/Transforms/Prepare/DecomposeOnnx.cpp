// decompose-onnx: composed standard operators as primitive ones.
#include "Decompose.h"
#include "moec/Transforms/Prepare/Passes.h"
#include <cmath>
#include <limits>

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_DECOMPOSEONNX
#include "moec/Transforms/Prepare/Passes.h.inc"

namespace {

using prepare::absent;

Value in(Operation *op, unsigned i) {
  return i < op->getNumOperands() && !absent(op->getOperand(i))
             ? op->getOperand(i)
             : Value();
}

bool used(Operation *op, unsigned i) {
  return i < op->getNumResults() && !op->getResult(i).use_empty();
}

bool isFloatTensor(Value v) {
  auto type = rankedType(v);
  return type && isa<FloatType>(type.getElementType());
}

bool rmsNormalization(Operation *op, OnnxBuilder &b) {
  if (!isFloatTensor(in(op, 0)) || !in(op, 1))
    return false;
  Value y = prepare::rmsNorm(
      b, in(op, 0), in(op, 1), prepare::intAttr(op->getAttr("axis"), -1),
      prepare::floatAttr(op->getAttr("epsilon"), 1e-5));
  op->getResult(0).replaceAllUsesWith(y);
  return true;
}

bool layerNormalization(Operation *op, OnnxBuilder &b) {
  Value x = in(op, 0);
  if (!isFloatTensor(x) || !in(op, 1) || used(op, 1) || used(op, 2))
    return false;
  auto type = rankedType(x);
  Type f32 = b.builder.getF32Type(), element = type.getElementType();
  int64_t axis = prepare::intAttr(op->getAttr("axis"), -1);
  SmallVector<int64_t> axes;
  for (int64_t i = axis < 0 ? axis + type.getRank() : axis; i < type.getRank();
       ++i)
    axes.push_back(i);
  Value wide = b.cast(x, f32);
  Value centred = b.binary("Sub", wide, b.reduce("ReduceMean", wide, axes));
  Value variance =
      b.reduce("ReduceMean", b.binary("Mul", centred, centred), axes);
  Value eps = b.scalar(f32, prepare::floatAttr(op->getAttr("epsilon"), 1e-5));
  Value root = b.unary("Sqrt", b.binary("Add", variance, eps));
  Value y = b.cast(b.binary("Div", centred, root), element);
  y = b.binary("Mul", y, b.cast(in(op, 1), element));
  if (Value bias = in(op, 2))
    y = b.binary("Add", y, b.cast(bias, element));
  op->getResult(0).replaceAllUsesWith(y);
  return true;
}

bool gelu(Operation *op, OnnxBuilder &b) {
  Value x = in(op, 0);
  if (!isFloatTensor(x))
    return false;
  auto mode = op->getAttrOfType<StringAttr>("approximate");
  op->getResult(0).replaceAllUsesWith(prepare::gelu(b, x, mode && mode == "tanh"));
  return true;
}

bool swish(Operation *op, OnnxBuilder &b) {
  Value x = in(op, 0);
  if (!isFloatTensor(x))
    return false;
  double alpha = prepare::floatAttr(op->getAttr("alpha"), 1.0);
  op->getResult(0).replaceAllUsesWith(prepare::swish(b, x, alpha));
  return true;
}

bool rotaryEmbedding(Operation *op, OnnxBuilder &b) {
  Value x = in(op, 0), cos = in(op, 1), sin = in(op, 2), positions = in(op, 3);
  if (!isFloatTensor(x) || !rankedType(cos) || !rankedType(sin))
    return false;
  if (positions) {
    if (!rankedType(positions) || rankedType(cos).getRank() != 2)
      return false;
    cos = b.gather(cos, positions, 0);
    sin = b.gather(sin, positions, 0);
  }
  prepare::Rotary options;
  options.interleaved =
      prepare::intAttr(op->getAttr("interleaved"), 0) != 0;
  options.heads = prepare::intAttr(op->getAttr("num_heads"), 0);
  options.rotaryDim =
      prepare::intAttr(op->getAttr("rotary_embedding_dim"), 0);
  auto y = prepare::rotary(b, x, cos, sin, options);
  if (!y)
    return false;
  op->getResult(0).replaceAllUsesWith(*y);
  return true;
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
  return b.reshapeLike(wide, shape,
                       RankedTensorType::get(dims, type.getElementType()));
}

// What an Attention node computes, with heads as an axis and the past joined.
struct AttentionNode {
  Value q, k, v;
  int64_t rank = 0, qHeads = 0, kvHeads = 0;
  prepare::Scores scores;
};

// Reads the node; false when it uses what the formula does not cover.
bool readAttention(Operation *op, AttentionNode &n) {
  n.q = in(op, 0), n.k = in(op, 1), n.v = in(op, 2);
  bool window = prepare::intAttr(op->getAttr("left_window_size"), -1) != -1 ||
                prepare::intAttr(op->getAttr("right_window_size"), -1) != -1;
  if (!isFloatTensor(n.q) || !isFloatTensor(n.k) || !isFloatTensor(n.v) ||
      in(op, 6) || used(op, 3) || window || !in(op, 4) != !in(op, 5) ||
      (in(op, 3) && !rankedType(in(op, 3))))
    return false;
  n.rank = rankedType(n.q).getRank();
  if (n.rank != 3 && n.rank != 4)
    return false;
  n.qHeads = n.rank == 4 ? rankedType(n.q).getDimSize(1)
                         : prepare::intAttr(op->getAttr("q_num_heads"), 0);
  n.kvHeads = n.rank == 4 ? rankedType(n.k).getDimSize(1)
                          : prepare::intAttr(op->getAttr("kv_num_heads"), 0);
  int64_t size = rankedType(n.q).getShape().back();
  if (n.qHeads <= 0 || n.kvHeads <= 0 || n.qHeads % n.kvHeads != 0 || size < 0 ||
      rankedType(n.v).getShape().back() < 0 ||
      rankedType(n.k).getRank() != n.rank || rankedType(n.v).getRank() != n.rank)
    return false;
  if (n.rank == 3)
    size /= n.qHeads;
  double scale = prepare::floatAttr(op->getAttr("scale"), 0);
  n.scores.scale = scale != 0 ? scale : 1.0 / std::sqrt(static_cast<double>(size));
  n.scores.softcap = prepare::floatAttr(op->getAttr("softcap"), 0);
  n.scores.mask = in(op, 3);
  n.scores.causal = prepare::intAttr(op->getAttr("is_causal"), 0) != 0;
  return true;
}

// The attention kernel's types: f32 and f16, a mask of them or of booleans.
bool kernelTypes(const AttentionNode &n) {
  Type element = rankedType(n.q).getElementType();
  auto mask = n.scores.mask ? rankedType(n.scores.mask) : RankedTensorType();
  return (element.isF32() || element.isF16()) && n.scores.softcap == 0 &&
         rankedType(n.k).getElementType() == element &&
         rankedType(n.v).getElementType() == element &&
         (!mask || mask.getElementType() == element ||
          mask.getElementType().isInteger(1));
}

// With keys of the past, "causal" counts from the past's length.
void maskPast(OnnxBuilder &b, AttentionNode &n, Value past) {
  Type i64 = b.builder.getI64Type();
  Type element = rankedType(n.q).getElementType();
  n.scores.offset = b.op("Squeeze", {b.shape(past, 2, 3), b.ints(0)},
                         RankedTensorType::get({}, i64));
  Value visible = prepare::causalMask(b, n.q, n.k, n.scores.offset);
  Value zero = b.scalar(element, 0);
  Value low = b.scalar(element, -std::numeric_limits<double>::infinity());
  auto added = [&](Value mask) {
    return rankedType(mask).getElementType().isInteger(1)
               ? b.op("Where", {mask, zero, low}, rankedType(mask).clone(element))
               : mask;
  };
  n.scores.mask = n.scores.mask
                      ? b.binary("Add", added(n.scores.mask), added(visible))
                      : visible;
  n.scores.causal = false;
}

// Rewrites the node for the attention kernel, or in primitive ops when the
// kernel does not cover it or `writeOut`.
bool attention(Operation *op, OnnxBuilder &b, bool writeOut) {
  AttentionNode n;
  if (!readAttention(op, n))
    return false;
  n.q = splitHeads(b, n.q, n.qHeads);
  n.k = splitHeads(b, n.k, n.kvHeads);
  n.v = splitHeads(b, n.v, n.kvHeads);
  if (Value past = in(op, 4)) {
    n.k = b.concat({past, n.k}, 2);
    n.v = b.concat({in(op, 5), n.v}, 2);
    if (n.scores.causal)
      maskPast(b, n, past);
  }
  if (used(op, 1))
    op->getResult(1).replaceAllUsesWith(n.k);
  if (used(op, 2))
    op->getResult(2).replaceAllUsesWith(n.v);
  Value y;
  if (!writeOut && kernelTypes(n)) {
    if (n.scores.mask)
      n.scores.mask = prepare::kernelMask(b, n.scores.mask, n.q, n.k);
    y = prepare::attentionOp(b, n.q, n.k, n.v, n.scores);
  } else {
    int64_t group = n.qHeads / n.kvHeads;
    y = prepare::attend(b, n.q, repeatHeads(b, n.k, group),
                        repeatHeads(b, n.v, group), n.scores);
  }
  if (n.rank == 3) {
    int64_t width = rankedType(y).getShape().back() * n.qHeads;
    y = b.reshape(b.transpose(y, {0, 2, 1, 3}), {0, 0, width});
  }
  op->getResult(0).replaceAllUsesWith(y);
  return true;
}

// Already as the kernel takes it.
bool isKernelForm(Operation *op) {
  AttentionNode n;
  return readAttention(op, n) && n.rank == 4 && !in(op, 4) && !used(op, 1) &&
         !used(op, 2) && kernelTypes(n) &&
         (!n.scores.mask || rankedType(n.scores.mask).getRank() == 4);
}

struct DecomposeOnnx : impl::DecomposeOnnxBase<DecomposeOnnx> {
  using DecomposeOnnxBase::DecomposeOnnxBase;

  void runOnOperation() override {
    using Fn = bool (*)(Operation *, OnnxBuilder &);
    const llvm::StringMap<Fn> table = {
        {"onnx.RMSNormalization", rmsNormalization},
        {"onnx.LayerNormalization", layerNormalization},
        {"onnx.Gelu", gelu},
        {"onnx.Swish", swish},
        {"onnx.RotaryEmbedding", rotaryEmbedding},
        {"onnx.Einsum", prepare::einsum},
    };
    SmallVector<Operation *> ops;
    getOperation()->walk([&](Operation *op) {
      StringRef name = op->getName().getStringRef();
      if (table.contains(name) || name == "onnx.Attention")
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      OpBuilder builder(op);
      OnnxBuilder b(builder, op->getLoc());
      auto it = table.find(op->getName().getStringRef());
      if (it == table.end() && !writeOutAttention && isKernelForm(op))
        continue;
      bool done = it == table.end() ? attention(op, b, writeOutAttention)
                                    : it->second(op, b);
      if (!done) {
        ++numKept;
        continue;
      }
      op->erase();
      ++numDecomposed;
    }
  }
};

} // namespace
} // namespace moec
