#include "FusedNode.h"
#include "MoEOps.h"

using namespace mlir;

namespace moec::raise {

namespace {

// Operands and attributes of the node by the contract of ONNX Runtime.
struct Node {
  Operation *op;
  DictionaryAttr attributes;

  Value in(unsigned i) const {
    return i < op->getNumOperands() && !isAbsent(op->getOperand(i))
               ? op->getOperand(i)
               : Value();
  }
  Attribute attr(StringRef name) const {
    return attributes ? attributes.get(name) : Attribute();
  }
  int64_t number(StringRef name, int64_t otherwise) const {
    auto i = dyn_cast_or_null<IntegerAttr>(attr(name));
    return i ? i.getInt() : otherwise;
  }
  double real(StringRef name, double otherwise) const {
    auto f = dyn_cast_or_null<FloatAttr>(attr(name));
    return f ? f.getValueAsDouble() : otherwise;
  }
  std::string text(StringRef name, StringRef otherwise) const {
    auto s = dyn_cast_or_null<StringAttr>(attr(name));
    return (s ? s.getValue() : otherwise).str();
  }
};

// The activation of the node; false when unknown.
bool activationOf(const Node &node, Ffn &ffn, std::string &why) {
  std::string name = node.text("activation_type", "relu");
  bool fc3 = static_cast<bool>(node.in(6));
  ffn.gated = fc3 || name == "swiglu";
  if (name == "swiglu") {
    ffn.alpha = node.real("activation_alpha", 1.0);
    ffn.upOffset = node.real("activation_beta", 0.0);
    ffn.activation = ffn.alpha == 1.0 ? "silu" : "swish";
    if (node.attr("swiglu_limit"))
      ffn.limit = node.real("swiglu_limit", 0.0);
    return true;
  }
  if (name == "gelu")
    name = "gelu_tanh"; // what ONNX Runtime computes
  if (name != "relu" && name != "silu" && name != "gelu_tanh" &&
      name != "identity") {
    why = "the activation \"" + name + "\" is unknown";
    return false;
  }
  ffn.activation = name;
  return true;
}

// Rows of gate and up inside the first tensor.
void halves(Ffn &ffn, const Node &node, int64_t inter) {
  int64_t fusion = node.number("swiglu_fusion", 0);
  bool interleaved = fusion == 1;
  ffn.gate = {nullptr, nullptr, 0, inter, interleaved ? 2 : 1};
  ffn.up = {nullptr, nullptr, interleaved ? 1 : inter, inter,
            interleaved ? 2 : 1};
}

} // namespace

bool isFusedMoE(Operation *op) {
  if (!isOnnx(op, "custom"))
    return false;
  return strAttr(op, "domain") == "com.microsoft" &&
         strAttr(op, "op_type") == "MoE";
}

bool raiseFusedMoE(Operation *op, BankBuilder &banks, WeightSteps &steps,
                   std::string &why) {
  Node node{op, op->getAttrOfType<DictionaryAttr>("attributes")};
  Value x = node.in(0), logits = node.in(1);
  auto xType = ranked(x), zType = ranked(logits);
  auto fc1 = ranked(node.in(2)), fc2 = ranked(node.in(4));
  if (!xType || !zType || !fc1 || !fc2 || zType.getRank() != 2 ||
      fc1.getRank() != 3 || fc2.getRank() != 3 || !fc1.hasStaticShape() ||
      !fc2.hasStaticShape()) {
    why = "an operand's shape is unknown";
    return false;
  }
  if (node.number("use_sparse_mixer", 0) != 0) {
    why = "the sparse mixer is unsupported";
    return false;
  }
  for (unsigned i = 2; i < 8; ++i)
    if (node.in(i) && !isWeight(node.in(i))) {
      why = "the experts' parameters are not constant";
      return false;
    }
  Ffn ffn;
  if (!activationOf(node, ffn, why))
    return false;
  BankShape shape;
  shape.experts = fc1.getDimSize(0);
  shape.hidden = fc2.getDimSize(1);
  shape.inter = fc2.getDimSize(2);
  bool fused = ffn.gated && !node.in(6);
  int64_t rows = fused ? 2 * shape.inter : shape.inter;
  int64_t k = node.number("k", 1);
  if (fc1.getDimSize(1) != rows || fc1.getDimSize(2) != shape.hidden ||
      zType.getDimSize(1) != shape.experts || k < 1 || k > shape.experts) {
    why = "the shapes of experts and router do not fit together";
    return false;
  }
  if (fused && node.number("swiglu_fusion", 0) == 0) {
    why = "swiglu without fc3 and without a fused layout";
    return false;
  }
  auto value = [&](unsigned i) {
    return node.in(i) ? steps.of(node.in(i)) : Value();
  };
  BankBuilder::Parts parts;
  parts.down = value(4);
  parts.downBias = value(5);
  if (fused) {
    halves(ffn, node, shape.inter);
    auto cut = [&](Value v, const Projection &p) {
      return v ? steps.part(v, 1, p.offset, p.size, p.stride) : Value();
    };
    parts.gate = cut(value(2), ffn.gate);
    parts.up = cut(value(2), ffn.up);
    parts.gateBias = cut(value(3), ffn.gate);
    parts.upBias = cut(value(3), ffn.up);
  } else if (ffn.gated) {
    parts.gate = value(2);
    parts.gateBias = value(3);
    parts.up = value(6);
    parts.upBias = value(7);
  } else {
    parts.up = value(2);
    parts.upBias = value(3);
  }
  FlatSymbolRefAttr bank = banks.build(parts, ffn, shape, op->getLoc());
  OpBuilder builder(op);
  OnnxBuilder b(builder, op->getLoc());
  Type f32 = builder.getF32Type();
  auto [ids, w] = createSelect(b, b.softmax(b.cast(logits, f32), -1), k);
  if (node.number("normalize_routing_weights", 0) != 0)
    w = b.binary("Div", w, b.reduce("ReduceSum", w, {-1}));
  Value rowsOfX = xType.getRank() == 2 ? x : b.reshape(x, {-1, shape.hidden});
  Value y = createExperts(b, bank, rowsOfX, ids, w);
  y = b.cast(y, xType.getElementType());
  if (xType.getRank() != 2)
    y = b.reshapeLike(y, b.shape(x, 0, xType.getRank()), xType);
  op->getResult(0).replaceAllUsesWith(y);
  op->erase();
  return true;
}

} // namespace moec::raise
