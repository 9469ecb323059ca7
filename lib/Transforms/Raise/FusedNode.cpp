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

namespace {

struct NodeShape {
  BankShape bank;
  bool fused = false; // gate and up in one tensor
  int64_t k = 0;
};

// A parameter must hold that many elements for each expert; the node's kernels
// read [E, N, K] whatever order of N and K the shape declares.
bool holds(const Node &node, unsigned i, int64_t experts, int64_t elements) {
  auto type = ranked(node.in(i));
  return !node.in(i) ||
         (type && type.hasStaticShape() && type.getRank() >= 2 &&
          type.getDimSize(0) == experts &&
          type.getNumElements() == experts * elements);
}

// Sizes of the layer; false with the reason when operands do not fit.
bool shapeOf(const Node &node, const Ffn &ffn, NodeShape &shape,
             std::string &why) {
  auto x = ranked(node.in(0)), z = ranked(node.in(1));
  auto fc1 = ranked(node.in(2)), fc2 = ranked(node.in(4));
  if (!x || !z || !fc1 || !fc2 || x.getRank() < 2 || fc1.getRank() != 3 ||
      fc2.getRank() != 3 || !fc1.hasStaticShape() || !fc2.hasStaticShape() ||
      x.getShape().back() < 1) {
    why = "an operand's shape is unknown";
    return false;
  }
  BankShape &b = shape.bank;
  b.experts = fc2.getDimSize(0);
  b.hidden = x.getShape().back();
  int64_t matrix = fc2.getDimSize(1) * fc2.getDimSize(2);
  b.inter = matrix / b.hidden;
  shape.fused = ffn.gated && !node.in(6);
  shape.k = node.number("k", 1);
  int64_t rows = shape.fused ? 2 * b.inter : b.inter;
  if (z.getRank() != 2) {
    why = "the router's logits are not [tokens, experts]";
    return false;
  }
  if (shape.k < 1 || shape.k > b.experts) {
    why = "k = " + std::to_string(shape.k) + " is out of range for " +
          std::to_string(b.experts) + " experts";
    return false;
  }
  bool ok = z.getDimSize(1) == b.experts && b.inter > 0 &&
            b.inter * b.hidden == matrix &&
            holds(node, 2, b.experts, rows * b.hidden) &&
            holds(node, 3, b.experts, rows) && holds(node, 5, b.experts, b.hidden) &&
            holds(node, 6, b.experts, b.inter * b.hidden) &&
            holds(node, 7, b.experts, b.inter);
  if (!ok)
    why = "the shapes of experts and router do not fit together";
  return ok;
}

// The bank's parameters in canonical layouts.
BankBuilder::Parts partsOf(const Node &node, const Ffn &ffn,
                           const NodeShape &shape, WeightSteps &steps) {
  const BankShape &b = shape.bank;
  int64_t rows = shape.fused ? 2 * b.inter : b.inter;
  auto matrix = [&](unsigned i, int64_t n, int64_t k) {
    return node.in(i) ? steps.reshape(steps.of(node.in(i)), {b.experts, n, k})
                      : Value();
  };
  auto vector = [&](unsigned i, int64_t n) {
    return node.in(i) ? steps.reshape(steps.of(node.in(i)), {b.experts, n})
                      : Value();
  };
  BankBuilder::Parts parts;
  Value first = matrix(2, rows, b.hidden), bias = vector(3, rows);
  parts.down = matrix(4, b.hidden, b.inter);
  parts.downBias = vector(5, b.hidden);
  if (shape.fused) {
    auto cut = [&](Value v, const Projection &p) {
      return v ? steps.part(v, 1, p.offset, p.size, p.stride) : Value();
    };
    parts.gate = cut(first, ffn.gate);
    parts.up = cut(first, ffn.up);
    parts.gateBias = cut(bias, ffn.gate);
    parts.upBias = cut(bias, ffn.up);
  } else if (ffn.gated) {
    parts.gate = first;
    parts.gateBias = bias;
    parts.up = matrix(6, b.inter, b.hidden);
    parts.upBias = vector(7, b.inter);
  } else {
    parts.up = first;
    parts.upBias = bias;
  }
  return parts;
}

} // namespace

bool raiseFusedMoE(Operation *op, BankBuilder &banks, WeightSteps &steps,
                   std::string &why) {
  Node node{op, op->getAttrOfType<DictionaryAttr>("attributes")};
  if (node.number("use_sparse_mixer", 0) != 0) {
    why = "the sparse mixer is unsupported";
    return false;
  }
  for (unsigned i = 2; i < 8; ++i)
    if (node.in(i) && !steps.of(node.in(i))) {
      why = "the experts' parameters are not constant";
      return false;
    }
  Ffn ffn;
  NodeShape shape;
  if (!activationOf(node, ffn, why) || !shapeOf(node, ffn, shape, why))
    return false;
  if (shape.fused) {
    if (node.number("swiglu_fusion", 0) == 0) {
      why = "swiglu has neither a third tensor nor a fused layout";
      return false;
    }
    halves(ffn, node, shape.bank.inter);
  }
  FlatSymbolRefAttr bank = banks.build(partsOf(node, ffn, shape, steps), ffn,
                                       shape.bank, op->getLoc());
  OpBuilder builder(op);
  OnnxBuilder b(builder, op->getLoc());
  Value x = node.in(0);
  auto xType = ranked(x);
  Value scores = b.softmax(b.cast(node.in(1), builder.getF32Type()), -1);
  auto [ids, w] = createSelect(b, scores, shape.k);
  if (node.number("normalize_routing_weights", 0) != 0)
    w = b.binary("Div", w, b.reduce("ReduceSum", w, {-1}));
  Value rowsOfX =
      xType.getRank() == 2 ? x : b.reshape(x, {-1, shape.bank.hidden});
  Value y = createExperts(b, bank, rowsOfX, ids, w);
  auto type = ranked(op->getResult(0));
  if (xType.getRank() != 2)
    y = b.reshapeLike(y, b.shape(x, 0, xType.getRank()), type ? type : xType);
  else if (type && y.getType() != type)
    y = b.op("Identity", y, type);
  op->getResult(0).replaceAllUsesWith(y);
  op->erase();
  return true;
}

} // namespace moec::raise
