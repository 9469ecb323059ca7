// Normalisations: (Skip)SimplifiedLayerNormalization, SkipLayerNormalization, GatedRMSNorm, and
// GatedAdd. Formulas: docs/ContribOperators.md of ONNX Runtime.
#include "Contrib.h"

using namespace mlir;

namespace moec::prepare {

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
  Type element = rankedType(sum).getElementType(), f32 = b.builder.getF32Type();
  Value wide = b.cast(sum, f32);
  Value centred = b.binary("Sub", wide, b.reduce("ReduceMean", wide, {-1}));
  Value variance = b.reduce("ReduceMean", b.binary("Mul", centred, centred), {-1});
  Value root = b.unary("Sqrt", b.binary("Add", variance, b.scalar(f32, c.real("epsilon", 1e-5))));
  Value y = b.binary("Mul", b.binary("Div", centred, root), b.cast(c.in(2), f32));
  if (Value beta = c.in(3))
    y = b.binary("Add", y, b.cast(beta, f32));
  c.replace(0, b.cast(y, element));
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
  table["GatedAdd"] = gatedAdd;
}

} // namespace moec::prepare
