// A router and its experts as one com.microsoft.MoE node: softmax over all logits, top-k, optional
// renormalisation by the sum; experts of one width with an activation that the operator names. Of
// the forms of gated experts, ONNX Runtime's CPU kernel has only swiglu with interleaved rows, so
// that is the one written.
#include "Lower.h"
#include "PackedWeights.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace moec;
using namespace moec::onnx_export;

// The value behind casts and identities, which at most round.
static Value source(Value v) {
  while (Operation *op = v.getDefiningOp()) {
    StringRef name = op->getName().getStringRef();
    if (name != "onnx.Cast" && name != "onnx.Identity")
      break;
    v = op->getOperand(0);
  }
  return v;
}

// The logits in the tokens' type, without any rounding on the way; null if they are not.
static Value logitsAs(Build &b, Value z, Type element) {
  if (elementOf(z) == element)
    return z;
  Operation *op = z.getDefiningOp();
  if (op && op->getName().getStringRef() == "onnx.Cast" &&
      elementOf(op->getOperand(0)) == element && rankedType(op->getOperand(0)).getRank() == 2 &&
      element.getIntOrFloatBitWidth() <= 32 &&
      elementOf(z).getIntOrFloatBitWidth() > element.getIntOrFloatBitWidth())
    return op->getOperand(0);
  if (element.isF32() && (elementOf(z).isF16() || elementOf(z).isBF16()))
    return b.cast(z, element);
  return {};
}

// The operator's name of the formula; empty when it has none.
static StringRef activationType(moe::FfnAttr ffn) {
  StringRef name = ffn.getActivation();
  if (ffn.getGated())
    return name == "silu" || name == "swish" ? "swiglu" : "";
  return name == "gelu_tanh"                                      ? "gelu"
         : name == "relu" || name == "silu" || name == "identity" ? name
                                                                  : "";
}

static bool fits(moe::BankOp bank) {
  if (!bank.getBody() || activationType(*bank.getBody()).empty() || bank.getWidths())
    return false;
  // The node has a slab for each expert: shared ones would be stored as often as they are used.
  for (auto [e, twin] : llvm::enumerate(bank.getTwins()))
    if (bank.getExpertStorage(e) != "dense" || twin != static_cast<int64_t>(e))
      return false;
  return true;
}

// Whether the operator computes the same weights; with `same` also by the same formula.
static bool fits(moe::RouterAttr router, int64_t experts, bool same) {
  using Score = moe::RouterScore;
  using Renorm = moe::RouterRenorm;
  if (router.getGroups() > 1 && router.getGroupK() < router.getGroups())
    return false;
  if (router.getScale() != 1)
    return false;
  bool exact = router.getEpsilon() == 0 && router.getMinimum() == 0;
  if (router.getScore() == Score::Softmax && router.getRenorm() == Renorm::None)
    return true;
  if (router.getScore() == Score::Softmax && router.getRenorm() == Renorm::Sum) {
    // The chosen probabilities sum up to at least 1 / E: what is too small to change that in f32
    // changes nothing.
    double least = 1.0 / static_cast<double>(experts);
    return exact ||
           (!same && router.getEpsilon() < least * 0x1p-25 && router.getMinimum() <= least);
  }
  // Softmax over the chosen logits is the softmax over all, renormalised.
  return !same && router.getScore() == Score::Identity && router.getRenorm() == Renorm::Softmax;
}

Value Lowering::parameter(Build &b, moe::BankOp bank, StringRef name, Type element) {
  auto symbol = bank->getAttrOfType<FlatSymbolRefAttr>(name);
  if (!symbol || (name.ends_with("_bias") && Steps::isZero(steps.of(symbol.getValue()))))
    return {};
  SmallVector<int64_t> rows;
  for (int64_t e = 0; e < static_cast<int64_t>(bank.getExperts()); ++e)
    rows.push_back(bank.getSlab(e));
  return steps.cast(steps.gather(steps.of(symbol.getValue()), rows), element);
}

// gate and up [E, I, ..] row by row: [E, 2 I, ..].
static Value interleaved(Steps &steps, Value gate, Value up) {
  SmallVector<int64_t> shape(rankedType(gate).getShape()), apart(shape);
  apart.insert(apart.begin() + 2, 1);
  shape[1] *= 2;
  Value pairs = steps.concat({steps.reshape(gate, apart), steps.reshape(up, apart)}, 2);
  return steps.reshape(pairs, shape);
}

Value Lowering::firstWeights(Build &b, moe::BankOp bank, Type element) {
  Value up = parameter(b, bank, "up", element), gate = parameter(b, bank, "gate", element);
  return gate ? interleaved(steps, gate, up) : up;
}

Value Lowering::firstBiases(Build &b, moe::BankOp bank, Type element) {
  Value up = parameter(b, bank, "up_bias", element),
        gate = parameter(b, bank, "gate_bias", element);
  if (!bank.getBody()->getGated() || (!up && !gate))
    return up;
  Value zero = steps.zeros({int64_t(bank.getExperts()), int64_t(bank.getInter())}, element);
  return interleaved(steps, gate ? gate : zero, up ? up : zero);
}

bool Lowering::fitsTokens(moe::BankOp bank, ArrayRef<StringRef> parameters, Type element) {
  // Parameters of a wider type than the tokens would be rounded.
  return llvm::all_of(parameters, [&](StringRef name) {
    auto symbol = bank->getAttrOfType<FlatSymbolRefAttr>(name);
    return !symbol || wider(elementOf(steps.of(symbol.getValue())), element) == element;
  });
}

Value Lowering::named(Build &b, moe::BankOp bank, Value step, StringRef part) {
  return step ? use(b, step, (bank.getSymName() + "." + part).str()) : b.none();
}

SmallVector<Value> Lowering::floatInputs(Build &b, moe::BankOp bank, Type element) {
  if (!fitsTokens(bank, {"gate", "up", "down", "gate_bias", "up_bias", "down_bias"}, element))
    return {};
  return {named(b, bank, firstWeights(b, bank, element), "fc1"),
          named(b, bank, firstBiases(b, bank, element), "fc1_bias"),
          named(b, bank, parameter(b, bank, "down", element), "fc2"),
          named(b, bank, parameter(b, bank, "down_bias", element), "fc2_bias")};
}

// Whether both matrices have one scale a row, or blocks of one size along it.
static bool packedAlike(const Packed &first, const Packed &down, bool &rows) {
  auto rowwise = [](const Packed &p) {
    return p.block == p.depth && (!p.zero || p.bytesOfRows || p.bits == 8);
  };
  rows = rowwise(first) && rowwise(down);
  int64_t block = first.block;
  return rows || (block == down.block && !first.bytesOfRows && !down.bytesOfRows && block >= 16 &&
                  llvm::isPowerOf2_64(static_cast<uint64_t>(block)));
}

SmallVector<Value> Lowering::packedInputs(Build &b, moe::BankOp bank, Type element,
                                          SmallVectorImpl<NamedAttribute> &attributes) {
  auto value = [&](StringRef name) {
    auto symbol = bank->getAttrOfType<FlatSymbolRefAttr>(name);
    return symbol ? steps.of(symbol.getValue()) : Value();
  };
  Value gate = value("gate");
  auto first = gate ? interleavedRows(steps, gate, value("up")) : packedOf(steps, value("up"));
  auto down = packedOf(steps, value("down"));
  bool rows = false;
  if (!first || !down || !packedAlike(*first, *down, rows) ||
      !fitsTokens(bank, {"gate_bias", "up_bias", "down_bias"}, element))
    return {};
  SmallVector<int64_t> ids;
  for (int64_t e = 0; e < static_cast<int64_t>(bank.getExperts()); ++e)
    ids.push_back(bank.getSlab(e));
  SmallVector<Value> inputs(11, b.none());
  for (int p : {0, 1}) {
    Packed packed = gathered(steps, p == 0 ? *first : *down, ids);
    std::string name = "fc" + std::to_string(p + 1);
    Value scale = packed.scale, zero = packed.zero;
    if (rows) {
      auto flat = [&](Value v) {
        auto shape = rankedType(v).getShape();
        return shape.size() == 3 ? steps.reshape(v, shape.drop_back()) : v;
      };
      scale = flat(scale);
      zero = zero ? flat(zero) : zero;
    }
    inputs[3 * p] = named(b, bank, packed.bytes, name + "_packed");
    inputs[3 * p + 1] = named(b, bank, scale, name + "_scales");
    inputs[9 + p] = named(b, bank, zero, name + "_zero_points");
  }
  inputs[2] = named(b, bank, firstBiases(b, bank, element), "fc1_bias");
  inputs[5] = named(b, bank, parameter(b, bank, "down_bias", element), "fc2_bias");
  attributes.push_back(b.attr("expert_weight_bits", first->bits));
  attributes.push_back(b.attr("weights_prepacked", 0));
  if (!rows)
    attributes.push_back(b.attr("block_size", first->block));
  if (first->bits != down->bits)
    attributes.push_back(b.attr("fc2_expert_weight_bits", down->bits));
  while (isa<NoneType>(inputs.back().getType()))
    inputs.pop_back();
  return inputs;
}

// w / sum(w) over the slots: w.
static Value normalisedFrom(Value v) {
  Operation *div = v.getDefiningOp();
  if (!div || div->getName().getStringRef() != "onnx.Div")
    return {};
  Value w = div->getOperand(0);
  Operation *sum = source(div->getOperand(1)).getDefiningOp();
  return sum && sum->getName().getStringRef() == "onnx.ReduceSum" &&
                 source(sum->getOperand(0)) == source(w) && rankedType(w).getRank() == 2 &&
                 rankedType(sum->getResult(0)).getRank() == 2 &&
                 rankedType(sum->getResult(0)).getDimSize(1) == 1
             ? w
             : Value();
}

// Any router with k used slots in each row, as the inputs of QMoE: falling numbers for the chosen
// experts, and their weights.
static std::optional<NodeRouter> scattered(Build &b, moe::ExpertsOp op, int64_t experts,
                                           Type element) {
  Value w = op.getWeights();
  int64_t k = rankedType(op.getIds()).getDimSize(1);
  if (wider(elementOf(w), element) != element || ShapedType::isDynamic(k))
    return std::nullopt;
  Value ids = b.cast(op.getIds(), b.builder.getI64Type());
  auto type = RankedTensorType::get({rankedType(w).getDimSize(0), experts}, element);
  Value zeros = b.zeros(b.concat({b.gather(b.shape(ids), b.ints(0), 0), b.ints(experts)}, 0), type);
  SmallVector<float> falling;
  for (int64_t i = k; i > 0; --i)
    falling.push_back(static_cast<float>(i));
  auto row = RankedTensorType::get({1, k}, b.builder.getF32Type());
  Value ranks = b.cast(b.constant(DenseElementsAttr::get(row, ArrayRef(falling))), element);
  ranks = b.op("Expand", {ranks, b.shape(ids)}, rankedType(ids).clone(element));
  auto put = [&](Value values) {
    return b.op("ScatterElements", {zeros, ids, values}, type,
                {b.attr("axis", 1), b.attr("reduction", "none")});
  };
  return NodeRouter{put(ranks), put(b.cast(w, element)), k, false};
}

std::optional<NodeRouter> Lowering::nodeRouter(Build &b, moe::ExpertsOp op, moe::BankOp bank,
                                               bool packed) {
  Type element = elementOf(op.getX());
  auto route = op.getIds().getDefiningOp<moe::RouteOp>();
  int64_t experts = bank.getExperts();
  bool same = options.fused == ExportOptions::Fused::automatic;
  if (route && source(op.getWeights()) == route.getWeights() && !route.getBias() &&
      fits(route.getRouter(), experts, same))
    if (Value logits = logitsAs(b, route.getLogits(), element))
      return NodeRouter{logits,
                        {},
                        static_cast<int64_t>(route.getRouter().getK()),
                        route.getRouter().getRenorm() != moe::RouterRenorm::None};
  // Only QMoE is told the weights.
  if (!packed)
    return std::nullopt;
  auto select = op.getIds().getDefiningOp<moe::SelectOp>();
  bool topK = select && !select.getCount() &&
              (select.getKind() == "top_k" || select.getKind() == "grouped_top_k");
  if (topK && select.getKind() == "top_k" && select.getWeightScores()) {
    Value plain = source(op.getWeights()), of = normalisedFrom(plain);
    if (plain == select.getWeights() || (of && source(of) == select.getWeights())) {
      Value probs = logitsAs(b, select.getScores(), element);
      Value weights = logitsAs(b, select.getWeightScores(), element);
      if (probs && weights)
        return NodeRouter{probs, weights, static_cast<int64_t>(*select.getK()),
                          static_cast<bool>(of)};
    }
  }
  return route || topK ? scattered(b, op, experts, element) : std::nullopt;
}

bool Lowering::fuse(moe::ExpertsOp op) {
  if (!op.getIds() || op.getCombine() != "sum")
    return false;
  moe::BankOp bank = moe::findBank(op, op.getBank());
  Type element = elementOf(op.getX());
  if (!fits(bank) || !(element.isF32() || element.isF16() || element.isBF16()))
    return false;
  Build b(op, layerName(op));
  SmallVector<NamedAttribute> attributes;
  SmallVector<Value> inputs = packedInputs(b, bank, element, attributes);
  bool packed = !inputs.empty();
  auto router = nodeRouter(b, op, bank, packed);
  if (router && !packed)
    inputs = floatInputs(b, bank, element);
  if (!router || inputs.empty())
    return false;
  moe::FfnAttr ffn = *bank.getBody();
  auto real = [&](StringRef name, double value) {
    return b.builder.getNamedAttr(name, b.builder.getF32FloatAttr(static_cast<float>(value)));
  };
  attributes.append({b.attr("activation_type", activationType(ffn)), b.attr("k", router->k),
                     b.attr("normalize_routing_weights", router->normalise)});
  if (ffn.getGated()) {
    attributes.push_back(b.attr("swiglu_fusion", 1));
    attributes.push_back(real("activation_alpha", ffn.getAlpha()));
    attributes.push_back(real("activation_beta", ffn.getUpOffset()));
    if (auto limit = ffn.getLimit())
      attributes.push_back(real("swiglu_limit", *limit));
  }
  inputs.insert(inputs.begin(), {op.getX(), router->probs});
  if (router->weights) {
    inputs.resize(14, b.none());
    inputs.push_back(router->weights);
  }
  Value y = b.op("custom", inputs, op.getResult().getType(),
                 {b.attr("domain", "com.microsoft"), b.attr("op_type", packed ? "QMoE" : "MoE"),
                  b.builder.getNamedAttr("attributes", b.builder.getDictionaryAttr(attributes))});
  op.getResult().replaceAllUsesWith(y);
  op->erase();
  ++report.fusedLayers;
  return true;
}
