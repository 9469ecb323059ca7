// decompose-onnx: composed standard operators as primitive ones.
#include "Decompose.h"
#include "moec/Transforms/Prepare/Passes.h"

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
  prepare::replaceResult(b, op, 0, y);
  return true;
}

bool layerNormalization(Operation *op, OnnxBuilder &b) {
  Value x = in(op, 0);
  if (!isFloatTensor(x) || !in(op, 1))
    return false;
  auto type = rankedType(x);
  Type f32 = b.builder.getF32Type(), element = type.getElementType();
  int64_t axis = prepare::intAttr(op->getAttr("axis"), -1);
  SmallVector<int64_t> axes;
  for (int64_t i = axis < 0 ? axis + type.getRank() : axis; i < type.getRank();
       ++i)
    axes.push_back(i);
  Value wide = b.cast(x, f32);
  Value mean = b.reduce("ReduceMean", wide, axes);
  Value centred = b.binary("Sub", wide, mean);
  Value variance =
      b.reduce("ReduceMean", b.binary("Mul", centred, centred), axes);
  Value eps = b.scalar(f32, prepare::floatAttr(op->getAttr("epsilon"), 1e-5));
  Value root = b.unary("Sqrt", b.binary("Add", variance, eps));
  Value y = b.cast(b.binary("Div", centred, root), element);
  y = b.binary("Mul", y, b.cast(in(op, 1), element));
  if (Value bias = in(op, 2))
    y = b.binary("Add", y, b.cast(bias, element));
  prepare::replaceResult(b, op, 0, y);
  auto give = [&](unsigned i, Value v) {
    prepare::replaceResult(b, op, i, b.cast(v, rankedType(op->getResult(i)).getElementType()));
  };
  if (used(op, 1))
    give(1, mean);
  if (used(op, 2))
    give(2, b.unary("Reciprocal", root));
  return true;
}

bool gelu(Operation *op, OnnxBuilder &b) {
  Value x = in(op, 0);
  if (!isFloatTensor(x))
    return false;
  auto mode = op->getAttrOfType<StringAttr>("approximate");
  prepare::replaceResult(b, op, 0, prepare::gelu(b, x, mode && mode == "tanh"));
  return true;
}

bool swish(Operation *op, OnnxBuilder &b) {
  Value x = in(op, 0);
  if (!isFloatTensor(x))
    return false;
  double alpha = prepare::floatAttr(op->getAttr("alpha"), 1.0);
  prepare::replaceResult(b, op, 0, prepare::swish(b, x, alpha));
  return true;
}

bool swiGlu(Operation *op, OnnxBuilder &b) {
  Value gate = in(op, 0), x = in(op, 1);
  if (!isFloatTensor(gate) || !isFloatTensor(x))
    return false;
  double alpha = prepare::floatAttr(op->getAttr("alpha"), 1.0);
  Value y = b.binary("Mul", prepare::swish(b, gate, alpha), x);
  prepare::replaceResult(b, op, 0, y);
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
  prepare::replaceResult(b, op, 0, *y);
  return true;
}

// Where a terminator takes a result of the op: there the type has to stay.
struct Ending {
  OpOperand *use;
  Type type;
};

SmallVector<Ending> endingsOf(Operation *op) {
  SmallVector<Ending> endings;
  for (OpResult result : op->getResults())
    for (OpOperand &use : result.getUses())
      if (use.getOwner()->hasTrait<OpTrait::IsTerminator>())
        endings.push_back({&use, result.getType()});
  return endings;
}

void restoreTypes(ArrayRef<Ending> endings) {
  for (const Ending &ending : endings) {
    Value value = ending.use->get();
    if (value.getType() == ending.type)
      continue;
    OpBuilder builder(ending.use->getOwner());
    OnnxBuilder b(builder, value.getLoc());
    ending.use->set(b.op("Identity", value, ending.type));
  }
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
        {"onnx.SwiGLU", swiGlu},
        {"onnx.NegativeLogLikelihoodLoss", prepare::negativeLogLikelihood},
        {"onnx.SoftmaxCrossEntropyLoss", prepare::softmaxCrossEntropy},
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
      if (it == table.end() && !writeOutAttention && prepare::isKernelAttention(op))
        continue;
      SmallVector<Ending> endings = endingsOf(op);
      bool done = it == table.end() ? prepare::attention(op, b, writeOutAttention)
                                    : it->second(op, b);
      if (!done) {
        ++numKept;
        continue;
      }
      restoreTypes(endings);
      op->erase();
      ++numDecomposed;
    }
    prepare::expertsFirst(getOperation());
  }
};

} // namespace
} // namespace moec
