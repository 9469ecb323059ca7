// Normalisations: (Skip)SimplifiedLayerNormalization, SkipLayerNormalization,
// EmbedLayerNormalization, GatedRMSNorm, and GatedAdd. Formulas: docs/ContribOperators.md of ONNX
// Runtime.
#include "Contrib.h"

using namespace mlir;

namespace moec::prepare {

Value layerNorm(OnnxBuilder &b, Value x, Value gamma, Value beta, double epsilon) {
  Type element = rankedType(x).getElementType(), f32 = b.builder.getF32Type();
  Value wide = b.cast(x, f32);
  Value centred = b.binary("Sub", wide, b.reduce("ReduceMean", wide, {-1}));
  Value variance = b.reduce("ReduceMean", b.binary("Mul", centred, centred), {-1});
  Value root = b.unary("Sqrt", b.binary("Add", variance, b.scalar(f32, epsilon)));
  Value y = b.binary("Mul", b.binary("Div", centred, root), b.cast(gamma, f32));
  if (beta)
    y = b.binary("Add", y, b.cast(beta, f32));
  return b.cast(y, element);
}

namespace {

bool simplifiedLayerNorm(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1}) || !c.hasNone({}, {1}))
    return false;
  c.replace(0, rmsNorm(b, c.in(0), c.in(1), c.number("axis", -1), c.real("epsilon", 1e-5)));
  return true;
}

// Input, skip and an optional bias.
Value skipSum(const Custom &c, OnnxBuilder &b, Value bias) {
  Value sum = b.binary("Add", c.in(0), c.in(1));
  return bias ? b.binary("Add", sum, bias) : sum;
}

// Results: normalised sum, mean, inverse deviation, the sum itself.
bool skipSimplifiedLayerNorm(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1, 2}) || !c.hasNone({}, {1, 2}))
    return false;
  Value sum = skipSum(c, b, c.in(3));
  c.replace(0, rmsNorm(b, sum, c.in(2), -1, c.real("epsilon", 1e-5)));
  c.replace(3, sum);
  return true;
}

// gamma at 2, an optional beta at 3 and bias at 4.
bool skipLayerNorm(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1, 2}) || !c.hasNone({}, {1, 2}))
    return false;
  Value sum = skipSum(c, b, c.in(4));
  c.replace(0, layerNorm(b, sum, c.in(2), c.in(3), c.real("epsilon", 1e-5)));
  c.replace(3, sum);
  return true;
}

// rms(x) * scale * act(gate), in f32; norms over groups of as many elements as there are scales.
bool gatedRmsNorm(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1, 2}))
    return false;
  Value x = c.in(0), scale = c.in(1);
  auto type = rankedType(x);
  int64_t width = type.getRank() ? type.getShape().back() : -1;
  int64_t group = rankedType(scale).getRank() == 1 ? rankedType(scale).getDimSize(0) : -1;
  StringRef activation = c.text("activation", "silu");
  if (width <= 0 || group <= 0 || width % group != 0)
    return c.refuse("the width of its input or scales is unknown");
  if (activation != "silu" && activation != "swish" && activation != "sigmoid")
    return c.refuse("the activation \"" + activation + "\" is unknown");
  Type f32 = b.builder.getF32Type();
  Value wide = b.cast(x, f32), gate = b.cast(c.in(2), f32);
  SmallVector<int64_t> keep(type.getRank(), 0), apart = keep;
  keep.back() = width;
  apart.back() = width / group;
  apart.push_back(group);
  bool split = width != group;
  Value y = rmsNorm(b, split ? b.reshape(wide, apart) : wide, b.cast(scale, f32), -1,
                    c.real("epsilon", 1e-5));
  if (split)
    y = b.reshape(y, keep);
  gate = activation == "sigmoid" ? b.unary("Sigmoid", gate) : swish(b, gate, 1.0);
  c.replace(0, b.cast(b.binary("Mul", y, gate), type.getElementType()));
  return true;
}

// Sums of rows of up to three tables, normalised.
bool embedLayerNorm(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({2, 3, 5, 6}) || (c.in(4) && !c.areFloats({4})))
    return false;
  Value ids = c.in(0), segments = c.in(1), positions = c.in(8);
  for (Value v : {ids, segments, positions, c.in(7)})
    if (v && (!rankedType(v) || rankedType(v).getRank() != 2))
      return c.refuse("its ids are not [batch, length]");
  if (!ids || !segments != !c.in(4))
    return c.refuse("of a pair of inputs there is one");
  Value sum = b.gather(c.in(2), ids, 0);
  if (!positions)
    positions = b.unsqueeze(countTo(b, sizeOf(b, ids, 1), rankedType(ids).getDimSize(1)), {0});
  sum = b.binary("Add", sum, b.gather(c.in(3), positions, 0));
  if (segments)
    sum = b.binary("Add", sum, b.gather(c.in(4), segments, 0));
  c.replace(0, layerNorm(b, sum, c.in(5), c.in(6), c.real("epsilon", 1e-12)));
  if (c.wants(1)) {
    Value counted = c.in(7) ? c.in(7) : ids;
    Value ones = b.reduce("ReduceSum", counted, {1}, false);
    c.replace(1, c.in(7) ? ones : b.binary("Sub", ones, ones));
  }
  c.replace(2, sum);
  return true;
}

bool gatedAdd(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1, 2}) || !c.hasNone({3}, {}))
    return false;
  c.replace(0, b.binary("Add", c.in(0), b.binary("Mul", c.in(1), c.in(2))));
  return true;
}

} // namespace

void addContribNorms(ContribTable &table) {
  table["SimplifiedLayerNormalization"] = simplifiedLayerNorm;
  table["SkipSimplifiedLayerNormalization"] = skipSimplifiedLayerNorm;
  table["SkipLayerNormalization"] = skipLayerNorm;
  table["GatedRMSNorm"] = gatedRmsNorm;
  table["EmbedLayerNormalization"] = embedLayerNorm;
  table["GatedAdd"] = gatedAdd;
}

} // namespace moec::prepare
