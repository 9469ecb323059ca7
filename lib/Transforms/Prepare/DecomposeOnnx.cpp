// decompose-onnx: composed standard operators as primitive ones.
#include "Decompose.h"
#include "moec/Transforms/Prepare/Passes.h"
#include <cmath>

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
  Type t = rankedType(x).getElementType();
  auto mode = op->getAttrOfType<StringAttr>("approximate");
  Value inner;
  if (mode && mode == "tanh") {
    Value cube = b.binary("Mul", b.binary("Mul", x, x), x);
    Value poly =
        b.binary("Add", x, b.binary("Mul", cube, b.scalar(t, 0.044715)));
    inner = b.unary("Tanh", b.binary("Mul", poly,
                                     b.scalar(t, 0.7978845608028654)));
  } else {
    inner = b.unary("Erf", b.binary("Mul", x, b.scalar(t, M_SQRT1_2)));
  }
  Value half = b.binary("Mul", x, b.scalar(t, 0.5));
  Value y = b.binary("Mul", half, b.binary("Add", inner, b.scalar(t, 1.0)));
  op->getResult(0).replaceAllUsesWith(y);
  return true;
}

bool swish(Operation *op, OnnxBuilder &b) {
  Value x = in(op, 0);
  if (!isFloatTensor(x))
    return false;
  double alpha = prepare::floatAttr(op->getAttr("alpha"), 1.0);
  Type t = rankedType(x).getElementType();
  Value arg = alpha == 1.0 ? x : b.binary("Mul", x, b.scalar(t, alpha));
  Value y = b.binary("Mul", x, b.unary("Sigmoid", arg));
  op->getResult(0).replaceAllUsesWith(y);
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

bool attention(Operation *op, OnnxBuilder &b) {
  Value q = in(op, 0), k = in(op, 1), v = in(op, 2);
  if (!isFloatTensor(q) || !isFloatTensor(k) || !isFloatTensor(v) ||
      in(op, 6) || used(op, 3))
    return false;
  int64_t rank = rankedType(q).getRank();
  int64_t qHeads = rank == 4 ? rankedType(q).getDimSize(1)
                             : prepare::intAttr(op->getAttr("q_num_heads"), 0);
  int64_t kvHeads = rank == 4
                        ? rankedType(k).getDimSize(1)
                        : prepare::intAttr(op->getAttr("kv_num_heads"), 0);
  if ((rank != 3 && rank != 4) || qHeads <= 0 || kvHeads <= 0 ||
      qHeads % kvHeads != 0 || rankedType(q).getShape().back() < 0 ||
      rankedType(v).getShape().back() < 0)
    return false;
  q = splitHeads(b, q, qHeads);
  k = splitHeads(b, k, kvHeads);
  v = splitHeads(b, v, kvHeads);
  prepare::Scores options;
  if (Value past = in(op, 4)) {
    if (!in(op, 5))
      return false;
    k = b.concat({past, k}, 2);
    v = b.concat({in(op, 5), v}, 2);
    options.offset =
        b.op("Squeeze", {b.shape(past, 2, 3), b.ints(0)},
             RankedTensorType::get({}, b.builder.getI64Type()));
  }
  if (used(op, 1))
    op->getResult(1).replaceAllUsesWith(k);
  if (used(op, 2))
    op->getResult(2).replaceAllUsesWith(v);
  double size = static_cast<double>(rankedType(q).getShape().back());
  double scale = prepare::floatAttr(op->getAttr("scale"), 0);
  options.scale = scale != 0 ? scale : 1.0 / std::sqrt(size);
  options.softcap = prepare::floatAttr(op->getAttr("softcap"), 0);
  options.mask = in(op, 3);
  options.causal = prepare::intAttr(op->getAttr("is_causal"), 0) != 0;
  int64_t group = qHeads / kvHeads;
  Value y = prepare::attend(b, q, repeatHeads(b, k, group),
                            repeatHeads(b, v, group), options);
  if (rank == 3) {
    int64_t width = rankedType(y).getShape().back() * qHeads;
    y = b.reshape(b.transpose(y, {0, 2, 1, 3}), {0, 0, width});
  }
  op->getResult(0).replaceAllUsesWith(y);
  return true;
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
        {"onnx.Attention", attention},
    };
    SmallVector<std::pair<Operation *, Fn>> ops;
    getOperation()->walk([&](Operation *op) {
      auto it = table.find(op->getName().getStringRef());
      if (it != table.end())
        ops.push_back({op, it->second});
    });
    for (auto [op, decompose] : ops) {
      OpBuilder builder(op);
      OnnxBuilder b(builder, op->getLoc());
      if (!decompose(op, b)) {
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
