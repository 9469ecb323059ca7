#include "RegionEmit.h"
#include "MoEOps.h"
#include "moec/Dialect/MoE/MoE.h"

using namespace mlir;

namespace moec::raise {

namespace {

using Contexts = SmallVector<std::pair<Value, StringRef>>;

// The first axes, which run over tokens, as one.
Value joinRows(OnnxBuilder &b, Value v, int64_t rowAxes) {
  auto type = rankedType(v);
  SmallVector<int64_t> dims(type.getShape().drop_front(rowAxes));
  if (llvm::none_of(dims, ShapedType::isDynamic)) {
    dims.insert(dims.begin(), -1);
    return b.reshape(v, dims);
  }
  dims.insert(dims.begin(), ShapedType::kDynamic);
  return b.reshapeLike(v, b.concat({b.ints(-1), b.shape(v, rowAxes, type.getRank())}, 0),
                       RankedTensorType::get(dims, type.getElementType()));
}

// The shape of y [T, ...] with the rows of `tokens` in front.
Value splitRows(OnnxBuilder &b, Value tokens, int64_t rowAxes, Value y, RankedTensorType type) {
  if (type.getNumDynamicDims() <= 1) {
    SmallVector<int64_t> dims;
    for (int64_t d : type.getShape())
      dims.push_back(ShapedType::isDynamic(d) ? -1 : d);
    return b.ints(dims);
  }
  int64_t rank = rankedType(y).getRank();
  Value rows = b.shape(tokens, 0, rowAxes);
  return rank > 1 ? b.concat({rows, b.shape(y, 1, rank)}, 0) : rows;
}

// [T, E] of the weights that `ids` [T, K] choose.
Value denseWeights(OnnxBuilder &b, Value ids, Value weights, int64_t experts) {
  auto type = rankedType(weights);
  auto dense = RankedTensorType::get({type.getDimSize(0), experts}, type.getElementType());
  Value shape = b.concat({b.shape(weights, 0, 1), b.ints(experts)}, 0);
  Value zeros = b.op("Expand", {b.unsqueeze(b.scalar(type.getElementType(), 0), {0, 1}), shape},
                     dense);
  Value index = b.cast(ids, b.builder.getI64Type());
  return b.op("ScatterElements", {zeros, index, weights}, dense,
              {b.attr("axis", int64_t(1)), b.attr("reduction", StringRef("add"))});
}

// Experts that the graph gives all tokens, and that round by what they are
// given: each runs on all tokens, and the weights follow.
Value onAllTokens(OnnxBuilder &b, const Layer &layer, Value x, Value dense, const Contexts &contexts,
                  RankedTensorType each) {
  int64_t experts = layer.routing->experts;
  auto type = rankedType(dense);
  Value one = b.unsqueeze(b.scalar(type.getElementType(), 1), {0, 1});
  Value ones = b.op("Expand", {one, b.shape(dense, 0, 2)}, type);
  SmallVector<int64_t> dims(each.getShape());
  dims.insert(dims.begin() + 1, experts);
  Value y = createExperts(b, layer.bank, x, {}, ones, contexts,
                          RankedTensorType::get(dims, each.getElementType()));
  y.getDefiningOp()->setAttr("combine", b.builder.getStringAttr("none"));
  SmallVector<int64_t> behind;
  for (int64_t i = 2; i < static_cast<int64_t>(dims.size()); ++i)
    behind.push_back(i);
  Value w = b.cast(dense, each.getElementType());
  if (!behind.empty())
    w = b.unsqueeze(w, behind);
  return b.reduce("ReduceSum", b.binary("Mul", y, w), {1}, false);
}

} // namespace

RankedTensorType typeLast(const Layer &layer, Value tensor) {
  auto type = rankedType(tensor);
  auto axis = layer.inner.find(tensor);
  if (axis == layer.inner.end())
    return type;
  SmallVector<int64_t> dims;
  for (int64_t i : axisToEnd(axis->second, type.getRank()))
    dims.push_back(type.getDimSize(i));
  return RankedTensorType::get(dims, type.getElementType());
}

Value featuresLast(OnnxBuilder &b, const Layer &layer, Value tensor, Value now) {
  auto axis = layer.inner.find(tensor);
  return axis == layer.inner.end()
             ? now
             : b.transpose(now, axisToEnd(axis->second, rankedType(now).getRank()));
}

Value featuresBack(OnnxBuilder &b, const Layer &layer, Value y) {
  auto axis = layer.inner.find(layer.result);
  if (axis == layer.inner.end())
    return y;
  return b.op("Transpose", {y}, layer.result.getType(),
              {b.attr("perm", axisFromEnd(axis->second, rankedType(y).getRank()))});
}

Value emitRegionLayer(OnnxBuilder &b, const Layer &layer, Value ids,
                      llvm::function_ref<Value(Value)> now,
                      llvm::function_ref<Value(Value)> weights) {
  auto type = typeLast(layer, layer.result);
  Value tokens = featuresLast(b, layer, layer.x, now(layer.x)), x;
  Contexts contexts;
  for (const Source &source : layer.region->sources) {
    Value v = featuresLast(b, layer, source.value, now(source.value));
    if (source.rowAxes > 1)
      v = joinRows(b, v, source.rowAxes);
    if (!x)
      x = v;
    else
      contexts.push_back({v, source.rowAxes > 0 ? "rows" : "whole"});
  }
  SmallVector<int64_t> dims(layer.each.getShape());
  dims[0] = rankedType(x).getDimSize(0);
  auto each = RankedTensorType::get(dims, layer.each.getElementType());
  Value w = weights(x), y;
  if (layer.region->coupled && !layer.region->given)
    y = onAllTokens(b, layer, x, ids ? denseWeights(b, ids, w, layer.routing->experts) : w,
                    contexts, each);
  else
    y = createExperts(b, layer.bank, x, ids, w, contexts, each);
  y = b.cast(y, type.getElementType());
  if (type.getRank() == each.getRank())
    return featuresBack(b, layer, y.getType() != type ? b.op("Identity", y, type) : y);
  y = b.reshapeLike(y, splitRows(b, tokens, layer.region->sources.front().rowAxes, y, type), type);
  return featuresBack(b, layer, y);
}

} // namespace moec::raise
