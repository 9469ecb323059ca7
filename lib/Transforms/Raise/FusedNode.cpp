#include "FusedNode.h"
#include "FusedOperands.h"
#include "MoEOps.h"
#include "Pattern.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;

namespace moec::raise {

namespace {

// The expert's formula, and whether gate and up lie in one tensor, by rows in turn or in halves.
struct Formula {
  Ffn ffn;
  bool fused = false, interleaved = false;
};

// Attributes of later versions of the operators may change what a node computes.
bool knowsAttributes(const FusedNode &node, std::string &why) {
  static const llvm::StringSet<> known = {"activation_type",
                                          "k",
                                          "normalize_routing_weights",
                                          "use_sparse_mixer",
                                          "swiglu_fusion",
                                          "swiglu_limit",
                                          "activation_alpha",
                                          "activation_beta",
                                          "expert_weight_bits",
                                          "fc1_expert_weight_bits",
                                          "fc2_expert_weight_bits",
                                          "fc3_expert_weight_bits",
                                          "block_size",
                                          "quant_type",
                                          "weights_prepacked",
                                          "accuracy_level",
                                          "swiglu_limit_after_activation"};
  if (node.attributes)
    for (NamedAttribute attribute : node.attributes)
      if (auto number = dyn_cast<IntegerAttr>(attribute.getValue());
          !known.contains(attribute.getName()) && (!number || number.getInt() != 0)) {
        why = "the attribute " + attribute.getName().str() + " is unsupported";
        return false;
      }
  return true;
}

bool formulaOf(const FusedNode &node, Formula &formula, std::string &why) {
  Ffn &ffn = formula.ffn;
  std::string name = node.text("activation_type", "relu");
  bool apart = static_cast<bool>(node.matrix(3));
  int64_t fusion = node.number("swiglu_fusion", 0);
  if (node.number("swiglu_limit_after_activation", 0) != 0) {
    why = "swiglu_limit_after_activation is unsupported";
    return false;
  }
  if (name == "swiglu" || name == "geglu") {
    // Files from before the attribute are interleaved; the CUDA kernel of QMoE reads them so.
    if (fusion == 0 && !apart && node.quantised && node.semantics == Semantics::ortCuda)
      fusion = 1;
    formula.fused = !apart;
    formula.interleaved = fusion == 1;
    if (fusion < 0 || fusion > 2 || (fusion != 0) == apart) {
      why = apart ? "swiglu_fusion = " + std::to_string(fusion) + " stands beside fc3"
                  : name + " has neither fc3 nor a fused layout (swiglu_fusion 1 or 2)";
      if (fusion == 0 && node.quantised)
        why += "; old files are interleaved, which --moe-semantics=ort-cuda assumes";
      return false;
    }
  }
  ffn.gated = apart || formula.fused;
  if (name == "swiglu") {
    ffn.alpha = node.real("activation_alpha", 1.0);
    ffn.upOffset = node.real("activation_beta", 0.0);
    ffn.activation = ffn.alpha == 1.0 ? "silu" : "swish";
    if (node.attr("swiglu_limit"))
      ffn.limit = node.real("swiglu_limit", 0.0);
    if (ffn.limit && *ffn.limit >= std::numeric_limits<float>::max())
      ffn.limit.reset(); // none, as some exporters write it
    if (ffn.limit && !(*ffn.limit > 0)) {
      why = "a swiglu_limit that is not positive is unsupported";
      return false;
    }
    return true;
  }
  // All kernels of ONNX Runtime compute the form with tanh.
  if (name == "gelu" || name == "geglu")
    name = "gelu_tanh";
  if (name != "relu" && name != "relu2" && name != "silu" && name != "gelu_tanh" &&
      name != "identity") {
    why = "the activation_type \"" + name + "\" is unknown";
    return false;
  }
  ffn.activation = name;
  return true;
}

// Sizes of the layer; false with the reason when operands do not fit.
bool shapeOf(const FusedNode &node, const Packing &packing, BankShape &shape, std::string &why) {
  auto x = ranked(node.x()), fc1 = ranked(node.matrix(1)), fc2 = ranked(node.matrix(2));
  if (!x || !fc1 || !fc2 || x.getRank() < 2 || fc1.getRank() < 2 || fc2.getRank() < 2 ||
      !fc1.hasStaticShape() || !fc2.hasStaticShape() || x.getShape().back() < 1) {
    why = "an operand's shape is unknown";
    return false;
  }
  shape.experts = fc2.getDimSize(0);
  shape.hidden = x.getShape().back();
  int64_t numbers = fc2.getNumElements() * packing.perElement(2);
  int64_t each = shape.experts * shape.hidden;
  shape.inter = each > 0 ? numbers / each : 0;
  // The kernels read [E, N, K] whatever order of N and K a shape declares.
  bool ok = shape.inter > 0 && shape.inter * each == numbers && fc1.getDimSize(0) == shape.experts;
  if (!ok)
    why = "the shapes of experts and router do not fit together";
  return ok;
}

// The bank's parameters in canonical layouts; false with the reason.
bool partsOf(const FusedNode &node, const Packing &packing, const Formula &formula,
             const BankShape &shape, WeightSteps &steps, BankBuilder::Parts &parts,
             std::string &why) {
  int64_t e = shape.experts, inter = shape.inter;
  int64_t rows = formula.fused ? 2 * inter : inter;
  auto matrix = [&](int p, int64_t n, int64_t k) {
    return matrixOf(node, packing, p, e, n, k, steps, why);
  };
  auto vector = [&](int p, int64_t n) -> std::optional<Value> {
    if (!node.bias(p))
      return Value();
    Value v = steps.of(node.bias(p));
    if (v && cast<RankedTensorType>(v.getType()).getNumElements() == e * n)
      return steps.reshape(v, {e, n});
    why = "fc" + std::to_string(p) + "_experts_bias " +
          (v ? "does not fit the experts" : "is not constant");
    return std::nullopt;
  };
  Value first = matrix(1, rows, shape.hidden);
  auto bias = vector(1, rows);
  parts.down = first ? matrix(2, shape.hidden, inter) : Value();
  auto downBias = vector(2, shape.hidden);
  if (!parts.down || !bias || !downBias)
    return false;
  parts.downBias = *downBias;
  if (formula.fused) {
    auto cut = [&](Value v, bool up) {
      int64_t offset = !up ? 0 : formula.interleaved ? 1 : inter;
      return v ? steps.part(v, 1, offset, inter, formula.interleaved ? 2 : 1) : v;
    };
    parts.gate = cut(first, false);
    parts.up = cut(first, true);
    parts.gateBias = cut(*bias, false);
    parts.upBias = cut(*bias, true);
  } else if (formula.ffn.gated) {
    parts.gate = first;
    parts.gateBias = *bias;
    parts.up = matrix(3, inter, shape.hidden);
    auto upBias = vector(3, inter);
    if (!parts.up || !upBias)
      return false;
    parts.upBias = *upBias;
  } else {
    parts.up = first;
    parts.upBias = *bias;
  }
  return true;
}

// Whether a parameter is no weight, but all have the sizes of the layer.
bool isComputed(const FusedNode &node, const Formula &formula, const BankShape &shape,
                WeightSteps &steps) {
  bool computed = false;
  int64_t rows = formula.fused ? 2 * shape.inter : shape.inter;
  const int64_t matrices[] = {rows * shape.hidden, shape.hidden * shape.inter,
                              shape.inter * shape.hidden};
  const int64_t biases[] = {rows, shape.hidden, shape.inter};
  for (int p : {1, 2, 3})
    for (auto [operand, size] :
         {std::pair{node.matrix(p), matrices[p - 1]}, {node.bias(p), biases[p - 1]}}) {
      if (!operand)
        continue;
      auto type = ranked(operand);
      if (!type || !type.hasStaticShape() || type.getNumElements() != shape.experts * size)
        return false;
      computed |= !steps.of(operand);
    }
  return computed;
}

} // namespace

bool isFusedMoE(Operation *op) {
  if (!isOnnx(op, "custom") || strAttr(op, "domain") != "com.microsoft")
    return false;
  std::string type = strAttr(op, "op_type");
  return type == "MoE" || type == "QMoE";
}

bool raiseFusedMoE(Operation *op, BankBuilder &banks, WeightSteps &steps, Semantics semantics,
                   std::string &why) {
  FusedNode node{op, op->getAttrOfType<DictionaryAttr>("attributes"),
                 strAttr(op, "op_type") == "QMoE", semantics};
  Formula formula;
  BankShape shape;
  BankBuilder::Parts parts;
  auto packing = packingOf(node, why);
  if (!packing || !knowsAttributes(node, why) || !formulaOf(node, formula, why) ||
      !shapeOf(node, *packing, shape, why) || !checkRouter(node, shape.experts, why))
    return false;
  bool computed = !node.quantised && isComputed(node, formula, shape, steps);
  if (!computed && !partsOf(node, *packing, formula, shape, steps, parts, why))
    return false;
  OpBuilder builder(op);
  OnnxBuilder b(builder, op->getLoc());
  Routed routed = routeNode(node, b, shape.experts);
  Value x = node.x();
  auto xType = ranked(x);
  Value rows = xType.getRank() == 2 ? x : b.reshape(x, {-1, shape.hidden}), y;
  if (computed)
    y = regionExperts(node, b, formula.ffn, formula.fused, formula.interleaved, shape, rows, routed,
                      steps);
  else
    y = createExperts(b, banks.build(parts, formula.ffn, shape, op->getLoc()), rows, routed.ids,
                      routed.weights);
  auto type = ranked(op->getResult(0));
  if (xType.getRank() != 2)
    y = b.reshapeLike(y, b.shape(x, 0, xType.getRank()), type ? type : xType);
  else if (type && y.getType() != type)
    y = b.op("Identity", y, type);
  markPattern(y, "fused node");
  op->getResult(0).replaceAllUsesWith(y);
  op->erase();
  return true;
}

} // namespace moec::raise
