// Shapes of attention and of recurrences over time.
#include "ContribShapes.h"

#include <algorithm>

namespace moec::onnx_import::contrib {

// query [B, S, D] (or packed q, k, v), caches [B, heads, past, head size].
void groupQueryAttention(InferenceContext &ctx) {
  elementFrom(ctx, 0, 0);
  const TensorShapeProto *query = shapeOf(ctx, 0);
  int64_t heads = intOf(ctx, "num_heads", 0), kv = intOf(ctx, "kv_num_heads", 0);
  bool packed = !ctx.hasInput(1);
  if (query && query->dim_size() == 3) {
    TensorShapeProto result = *query;
    Dim *last = result.mutable_dim(2);
    if (packed && last->has_dim_value() && heads > 0 && kv > 0)
      last->set_dim_value(last->dim_value() / (heads + 2 * kv) * heads);
    else if (packed)
      *last = Dim();
    setShape(ctx, 0, result);
  }
  for (size_t output : {1, 2}) {
    size_t past = output + 2;
    if (output >= ctx.getNumOutputs() || !ctx.hasOutput(output))
      continue;
    elementFrom(ctx, ctx.hasInput(past) ? past : 0, output);
    const TensorShapeProto *cache = ctx.hasInput(past) ? shapeOf(ctx, past) : nullptr;
    TensorShapeProto result;
    for (int i = 0; i < 4; ++i)
      result.add_dim();
    if (cache && cache->dim_size() == 4)
      for (int i : {0, 1, 3})
        *result.mutable_dim(i) = cache->dim(i);
    else if (query && query->dim_size() == 3)
      *result.mutable_dim(0) = query->dim(0);
    setShape(ctx, output, result);
  }
}

void multiHeadAttention(InferenceContext &ctx) {
  elementFrom(ctx, 0, 0);
  const TensorShapeProto *query = shapeOf(ctx, 0), *value = shapeOf(ctx, 2);
  if (!query || query->dim_size() != 3 || !value || value->dim_size() != 3)
    return;
  TensorShapeProto result = *query;
  *result.mutable_dim(2) = value->dim(2);
  setShape(ctx, 0, result);
  int64_t heads = intOf(ctx, "num_heads", 0);
  for (size_t output : {1, 2}) {
    if (output >= ctx.getNumOutputs() || !ctx.hasOutput(output) || heads < 1)
      continue;
    elementFrom(ctx, 0, output);
    TensorShapeProto cache;
    *cache.add_dim() = query->dim(0);
    cache.add_dim()->set_dim_value(heads);
    cache.add_dim();
    const Dim &width = (output == 1 ? query : value)->dim(2);
    cache.add_dim();
    if (width.has_dim_value())
      cache.mutable_dim(3)->set_dim_value(width.dim_value() / heads);
    setShape(ctx, output, cache);
  }
}

// input [B, S, D], weights [D, q + k + v] -> [B, S, v], present [2, B, heads, T, size].
void attention(InferenceContext &ctx) {
  elementFrom(ctx, 0, 0);
  const TensorShapeProto *x = shapeOf(ctx, 0), *w = shapeOf(ctx, 1);
  if (!x || x->dim_size() != 3 || !w || w->dim_size() != 2 || !w->dim(1).has_dim_value())
    return;
  int64_t size = w->dim(1).dim_value() / 3, heads = intOf(ctx, "num_heads", 0);
  const ::onnx::AttributeProto *sizes = ctx.getAttribute("qkv_hidden_sizes");
  if (sizes && sizes->ints_size() == 3)
    size = sizes->ints(2);
  TensorShapeProto result = *x;
  *result.mutable_dim(2) = Dim();
  result.mutable_dim(2)->set_dim_value(size);
  setShape(ctx, 0, result);
  if (ctx.getNumOutputs() < 2 || !ctx.hasOutput(1) || heads < 1)
    return;
  elementFrom(ctx, 0, 1);
  TensorShapeProto present;
  present.add_dim()->set_dim_value(2);
  *present.add_dim() = x->dim(0);
  present.add_dim()->set_dim_value(heads);
  present.add_dim();
  present.add_dim()->set_dim_value(size / heads);
  setShape(ctx, 1, present);
}

// decay and beta [B, T, heads].
void linearAttentionGate(InferenceContext &ctx) {
  like(ctx);
  if (ctx.getNumOutputs() < 2 || !ctx.hasOutput(1))
    return;
  elementFrom(ctx, 0, 1);
  if (const TensorShapeProto *shape = shapeOf(ctx, 0))
    setShape(ctx, 1, *shape);
}

// The input's shape, and the last (kernel - 1) * dilation positions of each channel.
void causalConv(InferenceContext &ctx) {
  like(ctx);
  if (ctx.getNumOutputs() < 2 || !ctx.hasOutput(1))
    return;
  elementFrom(ctx, 0, 1);
  const TensorShapeProto *x = shapeOf(ctx, 0), *kernel = shapeOf(ctx, 1);
  bool plain = intOf(ctx, "state_window", 0) == 0 && intOf(ctx, "channels_last", 0) == 0;
  if (!x || !kernel || x->dim_size() != 3 || kernel->dim_size() != 3 || !plain)
    return;
  TensorShapeProto result;
  *result.add_dim() = x->dim(0);
  *result.add_dim() = x->dim(1);
  Dim *length = result.add_dim();
  if (kernel->dim(2).has_dim_value())
    length->set_dim_value((kernel->dim(2).dim_value() - 1) * intOf(ctx, "dilation", 1));
  setShape(ctx, 1, result);
}

// query [B, T, q heads * k], value [B, T, heads * v] -> [B, T, heads * v], state [B, heads, k, v].
void linearAttention(InferenceContext &ctx) {
  elementFrom(ctx, 0, 0);
  elementFrom(ctx, ctx.hasInput(3) ? 3 : 0, 1);
  const TensorShapeProto *query = shapeOf(ctx, 0), *value = shapeOf(ctx, 2);
  int64_t heads = intOf(ctx, "kv_num_heads", 0), qHeads = intOf(ctx, "q_num_heads", 0);
  if (!query || !value || query->dim_size() != 3 || value->dim_size() != 3 || heads < 1 ||
      qHeads < 1 || !value->dim(2).has_dim_value() || !query->dim(2).has_dim_value())
    return;
  int64_t size = value->dim(2).dim_value() / heads;
  TensorShapeProto result = *query;
  result.mutable_dim(2)->set_dim_value(size * std::max(heads, qHeads));
  setShape(ctx, 0, result);
  TensorShapeProto state;
  *state.add_dim() = query->dim(0);
  for (int64_t d : {heads, query->dim(2).dim_value() / qHeads, size})
    state.add_dim()->set_dim_value(d);
  setShape(ctx, 1, state);
}

// The value's shape (or that of packed tokens), and the state's.
void gatedDeltaNet(InferenceContext &ctx) {
  elementFrom(ctx, 0, 0);
  elementFrom(ctx, 6, 1);
  const TensorShapeProto *query = shapeOf(ctx, 0), *state = shapeOf(ctx, 6);
  if (state)
    setShape(ctx, 1, *state);
  if (ctx.hasInput(2)) {
    if (const TensorShapeProto *value = shapeOf(ctx, 2))
      setShape(ctx, 0, *value);
  } else if (query && query->dim_size() > 1 && state && state->dim_size() == 4) {
    TensorShapeProto result;
    for (int i = 0; i + 1 < query->dim_size(); ++i)
      *result.add_dim() = query->dim(i);
    *result.add_dim() = state->dim(1);
    *result.add_dim() = state->dim(2);
    setShape(ctx, 0, result);
  }
}

} // namespace moec::onnx_import::contrib
