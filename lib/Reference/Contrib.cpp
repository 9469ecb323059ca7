// Operators of ONNX Runtime's com.microsoft domain.
#include "Attention.h"
#include "Call.h"
#include "Experts.h"
#include "Indices.h"
#include "MatMul.h"
#include "Normalisation.h"
#include "Shapes.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace llvm;

namespace moec::reference {

namespace {

void simplifiedLayerNorm(Call &c) {
  Tensor inverse;
  Elem stash = c.wants(1) ? c.outType(1) : Elem::f32;
  c.set(0, rmsNormalise(c.in(0), c.in(1), c.i64("axis", -1), c.f64("epsilon", 1e-5f), &inverse,
                        stash));
  c.set(1, inverse);
}

Tensor add(const Tensor &a, const Tensor &b) {
  Shape shape = broadcastShape(a.shape, b.shape);
  Elements<double> x(broadcast(a, shape)), y(broadcast(b, shape));
  std::vector<double> out(x.size());
  for (int64_t i = 0; i < x.size(); ++i)
    out[i] = x[i] + y[i];
  return pack(a.type, shape, out);
}

// Results: the normalised sum, mean (never computed), inverse deviation, the sum.
void skipSimplifiedLayerNorm(Call &c) {
  Tensor sum = add(c.in(0), c.in(1)), inverse;
  if (c.hasIn(3))
    sum = add(sum, c.in(3));
  Elem stash = c.wants(2) ? c.outType(2) : Elem::f32;
  c.set(0, rmsNormalise(sum, c.in(2), -1, c.f64("epsilon", 1e-5f), &inverse, stash));
  c.set(2, inverse);
  c.set(3, sum);
}

// x, position_ids [1] (the first position) or [B, S], cos and sin caches [positions, dim / 2].
void rotaryEmbedding(Call &c) {
  const Tensor &x = c.in(0);
  bool flat = x.rank() == 3;
  int64_t heads = c.i64("num_heads", 0), dim = c.i64("rotary_embedding_dim", 0);
  if (c.in(2).rank() != 2)
    fail("a cache of rank 2 expected, not " + text(c.in(2).shape));
  if (flat && heads == 0) // a head is as wide as the caches say
    heads = c.in(2).shape[1] > 0 ? x.shape[2] / (2 * c.in(2).shape[1]) : 0;
  Tensor split = flat ? splitHeads(x, heads) : x;
  if (split.rank() != 4)
    fail("rank 3 or 4 expected, not " + text(x.shape));
  Tensor positions = c.in(1);
  if (positions.rank() != 2) {
    int64_t first = c.intIn(1);
    std::vector<int64_t> each(split.shape[2]);
    std::iota(each.begin(), each.end(), first);
    positions = ints(each).reshaped({1, split.shape[2]});
  }
  Tensor y = rotate(split, cacheRows(c.in(2), positions), cacheRows(c.in(3), positions),
                    c.i64("interleaved", 0), dim);
  c.set(0, flat ? joinHeads(y) : y);
}

std::string checkRotary(mlir::Operation *op) {
  auto attributes = op->getAttrOfType<mlir::DictionaryAttr>("attributes");
  auto packed = attributes ? attributes.getAs<mlir::IntegerAttr>("is_packed_batching") : nullptr;
  return packed && packed.getInt() != 0 ? "RotaryEmbedding with packed batching" : "";
}

// A padding mask [B, T] (1: a token, 0: padding) as a bias.
Tensor paddingBias(const Tensor &mask, int64_t keys, double hidden) {
  if (mask.rank() != 2 || mask.shape[1] != keys)
    fail("unsupported: a key padding mask of shape " + text(mask.shape));
  Elements<int64_t> in(mask);
  std::vector<double> out(in.size());
  for (int64_t i = 0; i < in.size(); ++i)
    out[i] = in[i] != 0 ? 0 : hidden;
  return pack(Elem::f64, {mask.shape[0], 1, 1, keys}, out);
}

// query, key, value [B, S, H * D]; bias, key padding mask, attention bias, past key and value.
void multiHeadAttention(Call &c) {
  int64_t heads = c.i64("num_heads", 0), at = 0, past = 0;
  AttentionInputs in;
  Tensor *parts[] = {&in.q, &in.k, &in.v};
  for (int64_t i = 0; i < 3; ++i) {
    Tensor x = c.in(i);
    if (x.rank() == 3 && c.hasIn(3)) {
      x = add(x, part(c.in(3), 0, at, x.shape[2]));
      at += x.shape[2];
    }
    *parts[i] = x.rank() == 4 && i > 0 ? x : splitHeads(x, heads);
  }
  if (c.hasIn(6) && c.hasIn(7)) {
    if (c.in(6).rank() != 4 || c.in(7).rank() != 4)
      fail("past keys and values must have rank 4");
    past = c.in(6).shape[2];
    in.k = concat({c.in(6), in.k}, 2);
    in.v = concat({c.in(7), in.v}, 2);
  }
  int64_t keys = in.k.shape[2];
  double scale = c.f64("scale", 0);
  in.scale = scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(in.q.shape[3]));
  in.causal = c.i64("unidirectional", 0);
  in.offsets.assign(in.q.shape[0], past);
  if (c.hasIn(5))
    in.bias = cast(c.in(5), Elem::f64);
  if (c.hasIn(4)) {
    Tensor padding = paddingBias(c.in(4), keys, c.f64("mask_filter_value", -10000));
    in.bias = in.bias ? add(*in.bias, padding) : padding;
  }
  if (c.wants(3))
    in.scores = ScoresOutput::biased;
  AttentionResult result = attend(in);
  c.set(0, joinHeads(result.y));
  c.set(1, in.k);
  c.set(2, in.v);
  if (result.scores)
    c.set(3, *result.scores);
}

std::string checkAttention(mlir::Operation *op) {
  for (unsigned i = 8; i < op->getNumOperands(); ++i)
    if (!isa<mlir::NoneType>(op->getOperand(i).getType()))
      return "MultiHeadAttention with a cache of fixed size";
  for (unsigned i : {1u, 2u})
    if (i < op->getNumOperands() && isa<mlir::NoneType>(op->getOperand(i).getType()))
      return "MultiHeadAttention with packed keys and values";
  return "";
}

// Rows of one expert's fused first matrix that are the gate (first) or the up projection.
Tensor fusedHalf(const Tensor &t, int64_t fusion, bool up) {
  int64_t half = t.shape[0] / 2;
  if (fusion == 2)
    return part(t, 0, up ? half : 0, half);
  Shape starts(t.rank(), 0), steps(t.rank(), 1), sizes(t.shape);
  starts[0] = up;
  steps[0] = 2;
  sizes[0] = half;
  return slice(t, starts, steps, sizes);
}

// fc1 weights and bias, fc2, fc3 at operands 2 .. 7; stored [N, K] whatever the shape says.
FfnParameters moeParameters(Call &c, int64_t expert, int64_t hidden, int64_t fusion) {
  auto slab = [&](int64_t operand) -> std::optional<Tensor> {
    if (!c.hasIn(operand))
      return std::nullopt;
    Tensor t = part(c.in(operand), 0, expert, 1);
    if (t.rank() == 2)
      return t.reshaped({t.shape[1]});
    int64_t rows = operand == 4 ? hidden : t.size() / std::max<int64_t>(hidden, 1);
    return t.reshaped({rows, rows > 0 ? t.size() / rows : 0});
  };
  FfnParameters p;
  p.down = slab(4);
  p.downBias = slab(5);
  std::optional<Tensor> first = slab(2), firstBias = slab(3);
  if (c.hasIn(6)) { // fc1 is the gate, fc3 the up projection
    p.gate = first;
    p.gateBias = firstBias;
    p.up = slab(6);
    p.upBias = slab(7);
  } else if (fusion != 0) {
    p.gate = fusedHalf(*first, fusion, false);
    p.up = fusedHalf(*first, fusion, true);
    if (firstBias) {
      p.gateBias = fusedHalf(*firstBias, fusion, false);
      p.upBias = fusedHalf(*firstBias, fusion, true);
    }
  } else {
    p.up = first;
    p.upBias = firstBias;
  }
  return p;
}

FfnFormula moeFormula(Call &c) {
  FfnFormula f;
  std::string activation = c.str("activation_type", "relu");
  bool swiglu = activation == "swiglu";
  if (swiglu && !c.hasIn(6) && c.i64("swiglu_fusion", 0) == 0)
    fail("unsupported: swiglu without a third matrix and without fusion");
  f.gated = c.hasIn(6) || swiglu;
  // ONNX Runtime's gelu is the tanh approximation.
  f.activation = activations::byName(swiglu                 ? "swish"
                                     : activation == "gelu" ? "gelu_tanh"
                                                            : activation);
  if (!f.activation)
    fail("unsupported activation " + activation);
  if (swiglu) {
    f.alpha = c.f64("activation_alpha", 1);
    f.upOffset = c.f64("activation_beta", 0);
    if (c.has("swiglu_limit"))
      f.limit = c.f64("swiglu_limit", 0);
  }
  return f;
}

// Top-k of the softmax of the router's logits, ties to the lower id.
std::vector<Slot> moeSlots(Call &c, int64_t tokens) {
  const Tensor &logits = c.in(1);
  int64_t k = c.i64("k", 1), experts = logits.shape[1];
  if (k < 1 || k > experts)
    fail("k = " + Twine(k) + " does not fit " + Twine(experts) + " experts");
  Elements<double> z(logits);
  std::vector<Slot> slots;
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<double> p(z.data() + t * experts, z.data() + (t + 1) * experts);
    softmax(p);
    auto order = orderedIndices(experts, [&](int64_t a, int64_t b) { return p[a] > p[b]; });
    double sum = 0;
    for (int64_t j = 0; j < k; ++j)
      sum += p[order[j]];
    bool normalise = c.i64("normalize_routing_weights", 0);
    for (int64_t j = 0; j < k; ++j) {
      auto weight = static_cast<float>(normalise ? p[order[j]] / sum : p[order[j]]);
      if (weight != 0)
        slots.push_back({t, order[j], weight});
    }
  }
  return slots;
}

void moe(Call &c) {
  const Tensor &x = c.in(0), &logits = c.in(1);
  if (x.rank() < 2 || logits.rank() != 2)
    fail("tokens " + text(x.shape) + " and logits " + text(logits.shape) + " do not fit");
  int64_t hidden = x.shape.back(), tokens = count(ArrayRef<int64_t>(x.shape).drop_back());
  int64_t experts = logits.shape[1];
  if (logits.shape[0] != tokens)
    fail("logits of " + Twine(logits.shape[0]) + " tokens for " + Twine(tokens));
  for (int64_t i : {2, 3, 4, 5, 6, 7})
    if (c.hasIn(i) && (c.in(i).rank() != (i % 2 ? 2 : 3) || c.in(i).shape[0] != experts))
      fail("expert parameters " + text(c.in(i).shape) + " for " + Twine(experts) + " experts");
  if (c.in(4).size() == 0 || c.in(2).size() == 0)
    fail("empty expert parameters");
  FfnFormula formula = moeFormula(c);
  int64_t fusion = c.hasIn(6) ? 0 : formula.gated ? c.i64("swiglu_fusion", 0) : 0;
  std::vector<Slot> slots = moeSlots(c, tokens);
  Elements<float> in(x);
  auto out = runSlots(slots, ArrayRef(in.data(), in.size()), tokens, hidden, experts,
                      [&](int64_t e, ArrayRef<float> rows, int64_t n) {
                        return applyFfn(formula, moeParameters(c, e, hidden, fusion), rows, n);
                      });
  c.set(0, pack(x.type, x.shape, out));
}

std::string checkMoE(mlir::Operation *op) {
  auto attributes = op->getAttrOfType<mlir::DictionaryAttr>("attributes");
  auto mixer = attributes ? attributes.getAs<mlir::IntegerAttr>("use_sparse_mixer") : nullptr;
  return mixer && mixer.getInt() != 0 ? "MoE with the sparse mixer" : "";
}

} // namespace

void addContrib(Registry &r) {
  r.add("com.microsoft::SimplifiedLayerNormalization", simplifiedLayerNorm);
  r.add("com.microsoft::SkipSimplifiedLayerNormalization", skipSimplifiedLayerNorm);
  r.add("com.microsoft::RotaryEmbedding", rotaryEmbedding, checkRotary);
  r.add("com.microsoft::MultiHeadAttention", multiHeadAttention, checkAttention);
  r.add("com.microsoft::MoE", moe, checkMoE);
}

} // namespace moec::reference
