// decompose-contrib: com.microsoft operators as standard onnx ops.
#include "Decompose.h"
#include "moec/Transforms/Prepare/Passes.h"
#include <cmath>

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_DECOMPOSECONTRIB
#include "moec/Transforms/Prepare/Passes.h.inc"

namespace {

using prepare::absent;

// One onnx.custom op: operands by position, attributes by ONNX name.
struct Custom {
  Operation *op;
  DictionaryAttr attributes;

  Value in(unsigned i) const {
    return i < op->getNumOperands() && !absent(op->getOperand(i))
               ? op->getOperand(i)
               : Value();
  }
  bool wants(unsigned i) const {
    return i < op->getNumResults() && !op->getResult(i).use_empty();
  }
  Attribute attr(StringRef name) const {
    return attributes ? attributes.get(name) : Attribute();
  }
  void replace(unsigned i, Value v) const {
    if (i < op->getNumResults() && v)
      op->getResult(i).replaceAllUsesWith(v);
  }
};

bool isFloatTensor(Value v) {
  auto type = rankedType(v);
  return type && isa<FloatType>(type.getElementType());
}

bool simplifiedLayerNorm(const Custom &c, OnnxBuilder &b) {
  if (!isFloatTensor(c.in(0)) || !c.in(1) || c.wants(1))
    return false;
  c.replace(0, prepare::rmsNorm(b, c.in(0), c.in(1),
                                prepare::intAttr(c.attr("axis"), -1),
                                prepare::floatAttr(c.attr("epsilon"), 1e-5)));
  return true;
}

// Results: normalised sum, mean, inverse deviation, the sum itself.
bool skipSimplifiedLayerNorm(const Custom &c, OnnxBuilder &b) {
  if (!isFloatTensor(c.in(0)) || !isFloatTensor(c.in(1)) || !c.in(2) ||
      c.wants(1) || c.wants(2))
    return false;
  Value sum = b.binary("Add", c.in(0), c.in(1));
  if (Value bias = c.in(3))
    sum = b.binary("Add", sum, bias);
  c.replace(0, prepare::rmsNorm(b, sum, c.in(2), -1,
                                prepare::floatAttr(c.attr("epsilon"), 1e-5)));
  c.replace(3, sum);
  return true;
}

// Rows of the caches by position: [B, S, dim / 2].
Value cacheRows(OnnxBuilder &b, Value cache, Value positions, Value x) {
  auto type = rankedType(positions);
  if (type.getRank() == 2)
    return b.gather(cache, positions, 0);
  // A single offset: positions are offset .. offset + S - 1.
  Type i64 = b.builder.getI64Type();
  int64_t axis = rankedType(x).getRank() == 4 ? 2 : 1;
  Value length = b.op("Squeeze", {b.shape(x, axis, axis + 1), b.ints(0)},
                      RankedTensorType::get({}, i64));
  Value range = b.op("Range", {b.scalar(i64, 0), length, b.scalar(i64, 1)},
                     RankedTensorType::get({rankedType(x).getDimSize(axis)}, i64));
  Value rows = b.binary("Add", range, positions);
  return b.unsqueeze(b.gather(cache, rows, 0), 0);
}

bool rotaryEmbedding(const Custom &c, OnnxBuilder &b) {
  Value x = c.in(0), positions = c.in(1), cos = c.in(2), sin = c.in(3);
  if (!isFloatTensor(x) || !positions || !cos || !sin ||
      !rankedType(positions) || !rankedType(cos) ||
      rankedType(cos).getRank() != 2 ||
      prepare::intAttr(c.attr("is_packed_batching"), 0) != 0 ||
      prepare::floatAttr(c.attr("scale"), 1.0) != 1.0)
    return false;
  prepare::Rotary options;
  options.interleaved = prepare::intAttr(c.attr("interleaved"), 0) != 0;
  options.heads = prepare::intAttr(c.attr("num_heads"), 0);
  options.rotaryDim = prepare::intAttr(c.attr("rotary_embedding_dim"), 0);
  int64_t half = rankedType(cos).getShape().back();
  // Without num_heads the head is as wide as the caches say.
  int64_t width = rankedType(x).getShape().back();
  if (options.heads == 0 && half > 0 && width > 0)
    options.heads = width / (2 * half);
  if (options.rotaryDim == 0 && half > 0) {
    options.rotaryDim = 2 * half;
    options.wholeHead = true;
  }
  auto done = prepare::rotary(b, x, cacheRows(b, cos, positions, x),
                              cacheRows(b, sin, positions, x), options);
  if (!done)
    return false;
  c.replace(0, *done);
  return true;
}

bool multiHeadAttention(const Custom &c, OnnxBuilder &b) {
  Value q = c.in(0), k = c.in(1), v = c.in(2);
  int64_t heads = prepare::intAttr(c.attr("num_heads"), 0);
  for (Value x : {q, k, v})
    if (!isFloatTensor(x) || rankedType(x).getRank() != 3 || heads <= 0 ||
        (rankedType(x).getShape().back() >= 0 &&
         rankedType(x).getShape().back() % heads != 0))
      return false;
  // bias, key padding mask, past, cache indirection
  for (unsigned i : {3u, 4u, 6u, 7u, 8u, 9u})
    if (c.in(i))
      return false;
  if (c.wants(1) || c.wants(2) || c.wants(3))
    return false;
  // Queries and keys have one width, the values may have another.
  int64_t width = std::max(rankedType(q).getShape().back(), rankedType(k).getShape().back());
  double scale = prepare::floatAttr(c.attr("scale"), 0);
  if (scale == 0 && width <= 0)
    return false;
  auto split = [&](Value x, int64_t all) {
    int64_t size = all > 0 ? all / heads : -1;
    return b.transpose(b.reshape(x, {0, 0, heads, size}), {0, 2, 1, 3});
  };
  int64_t vWidth = std::max<int64_t>(rankedType(v).getShape().back(), -1);
  prepare::Scores options;
  options.scale = scale != 0 ? scale : 1.0 / std::sqrt(double(width / heads));
  options.mask = c.in(5);
  options.causal = prepare::intAttr(c.attr("unidirectional"), 0) != 0;
  Value y = prepare::attend(b, split(q, width), split(k, width), split(v, vWidth), options);
  c.replace(0, b.reshape(b.transpose(y, {0, 2, 1, 3}), {0, 0, vWidth}));
  return true;
}

// FastGelu approximates with tanh; its bias is optional.
bool gelu(const Custom &c, OnnxBuilder &b, bool tanh) {
  Value x = c.in(0);
  if (!isFloatTensor(x) || (c.in(1) && !isFloatTensor(c.in(1))))
    return false;
  if (Value bias = c.in(1))
    x = b.binary("Add", x, bias);
  c.replace(0, prepare::gelu(b, x, tanh));
  return true;
}
bool exactGelu(const Custom &c, OnnxBuilder &b) { return gelu(c, b, false); }
bool fastGelu(const Custom &c, OnnxBuilder &b) { return gelu(c, b, true); }

bool quickGelu(const Custom &c, OnnxBuilder &b) {
  if (!isFloatTensor(c.in(0)))
    return false;
  c.replace(0, prepare::swish(b, c.in(0), prepare::floatAttr(c.attr("alpha"), 1.702)));
  return true;
}

Value lastTwoSwapped(OnnxBuilder &b, Value x) {
  auto perm = llvm::to_vector(llvm::seq<int64_t>(0, rankedType(x).getRank()));
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return b.transpose(x, perm);
}

bool fusedMatMul(const Custom &c, OnnxBuilder &b) {
  Value x = c.in(0), y = c.in(1);
  if (!isFloatTensor(x) || !isFloatTensor(y) || rankedType(x).getRank() < 2 ||
      rankedType(y).getRank() < 2 || prepare::intAttr(c.attr("transBatchA"), 0) != 0 ||
      prepare::intAttr(c.attr("transBatchB"), 0) != 0)
    return false;
  if (prepare::intAttr(c.attr("transA"), 0) != 0)
    x = lastTwoSwapped(b, x);
  if (prepare::intAttr(c.attr("transB"), 0) != 0)
    y = lastTwoSwapped(b, y);
  Value product = b.matmul(x, y);
  double alpha = prepare::floatAttr(c.attr("alpha"), 1.0);
  if (alpha != 1.0)
    product = b.binary("Mul", product, b.scalar(rankedType(x).getElementType(), alpha));
  c.replace(0, product);
  return true;
}

struct DecomposeContrib : impl::DecomposeContribBase<DecomposeContrib> {
  using DecomposeContribBase::DecomposeContribBase;

  void runOnOperation() override {
    using Fn = bool (*)(const Custom &, OnnxBuilder &);
    const llvm::StringMap<Fn> table = {
        {"SimplifiedLayerNormalization", simplifiedLayerNorm},
        {"SkipSimplifiedLayerNormalization", skipSimplifiedLayerNorm},
        {"RotaryEmbedding", rotaryEmbedding},
        {"MultiHeadAttention", multiHeadAttention},
        {"Gelu", exactGelu},
        {"BiasGelu", exactGelu},
        {"FastGelu", fastGelu},
        {"QuickGelu", quickGelu},
        {"FusedMatMul", fusedMatMul},
    };
    SmallVector<Operation *> ops;
    getOperation()->walk([&](Operation *op) {
      if (op->getName().getStringRef() == "onnx.custom")
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      auto type = op->getAttrOfType<StringAttr>("op_type");
      auto domain = op->getAttrOfType<StringAttr>("domain");
      if (!type || !domain ||
          (domain != "com.microsoft" && !domain.getValue().empty() &&
           domain != "ai.onnx"))
        continue;
      auto it = table.find(type.getValue());
      if (it == table.end())
        continue;
      OpBuilder builder(op);
      OnnxBuilder b(builder, op->getLoc());
      Custom custom{op, op->getAttrOfType<DictionaryAttr>("attributes")};
      if (!it->second(custom, b)) {
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
