#include "Contrib.h"
#include "Context.h"

#include "onnx/defs/shape_inference.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

#include <climits>

using namespace moec::onnx_import;
using onnx::InferenceContext;
using onnx::TensorShapeProto;

namespace {

using Infer = void (*)(InferenceContext &);
using Dim = TensorShapeProto::Dimension;

const TensorShapeProto *shapeOf(InferenceContext &ctx, size_t i) {
  return onnx::hasInputShape(ctx, i) ? &onnx::getInputShape(ctx, i) : nullptr;
}

int64_t intOf(InferenceContext &ctx, const char *name, int64_t otherwise) {
  const onnx::AttributeProto *attribute = ctx.getAttribute(name);
  return attribute && attribute->has_i() ? attribute->i() : otherwise;
}

void setShape(InferenceContext &ctx, size_t output, const TensorShapeProto &shape) {
  if (output < ctx.getNumOutputs())
    *ctx.getOutputType(output)->mutable_tensor_type()->mutable_shape() = shape;
}

void elementFrom(InferenceContext &ctx, size_t input, size_t output) {
  if (input < ctx.getNumInputs() && output < ctx.getNumOutputs() && ctx.getInputType(input))
    onnx::propagateElemTypeFromInputToOutput(ctx, input, output);
}

// Output 0 has the type of input 0.
void like(InferenceContext &ctx) {
  if (ctx.getNumInputs() == 0 || ctx.getNumOutputs() == 0 || !ctx.getInputType(0))
    return;
  onnx::propagateShapeAndTypeFromFirstInput(ctx);
}

// Experts are counted by the router's scores [tokens, experts] and by axis 0 of every parameter.
void moe(InferenceContext &ctx, bool quantised) {
  like(ctx);
  const TensorShapeProto *scores = shapeOf(ctx, 1);
  if (!scores)
    return;
  if (scores->dim_size() != 2)
    fail_shape_inference("the router's scores have rank ", scores->dim_size(), ", not 2");
  if (!scores->dim(1).has_dim_value())
    return;
  static const llvm::StringSet<> activations = {"relu", "relu2", "gelu", "silu", "swiglu", "geglu",
                                                "identity"};
  const onnx::AttributeProto *activation = ctx.getAttribute("activation_type");
  if (activation && !activations.contains(activation->s()))
    fail_shape_inference("the activation_type \"", activation->s(), "\" is unknown");
  int64_t experts = scores->dim(1).dim_value(), k = intOf(ctx, "k", 1);
  if (k < 1 || k > experts)
    fail_shape_inference("k = ", k, " is not in 1 to ", experts, ", the number of experts");
  for (size_t i = 2; i < ctx.getNumInputs(); ++i) {
    const TensorShapeProto *shape = ctx.hasInput(i) ? shapeOf(ctx, i) : nullptr;
    // The scores of a router that weighs differently than it selects come last.
    if (!shape || shape->dim_size() == 0 || !shape->dim(0).has_dim_value() || i >= 14)
      continue;
    if (shape->dim(0).dim_value() != experts)
      fail_shape_inference("the router has ", experts, " experts but input ", i, " has ",
                           shape->dim(0).dim_value());
  }
  checkExperts(ctx, quantised);
}

void plainMoe(InferenceContext &ctx) { moe(ctx, /*quantised=*/false); }
void quantisedMoe(InferenceContext &ctx) { moe(ctx, /*quantised=*/true); }

// Normalised, mean, deviation, and (with a skip input) the sum.
void norm(InferenceContext &ctx) {
  like(ctx);
  for (size_t output = 1; output < ctx.getNumOutputs(); ++output) {
    if (!ctx.hasOutput(output) || !ctx.getInputType(0))
      continue;
    if (output == 3)
      elementFrom(ctx, 0, 3);
    else
      onnx::updateOutputElemType(ctx, output, onnx::TensorProto::FLOAT);
    const TensorShapeProto *shape = shapeOf(ctx, 0);
    if (!shape)
      continue;
    TensorShapeProto result = *shape;
    if (output != 3 && result.dim_size() > 0)
      result.mutable_dim(result.dim_size() - 1)->set_dim_value(1);
    setShape(ctx, output, result);
  }
}

// The axes of a product's operand, those of its matrices last: with `batch` the first of the two
// stands in front of the batch axes.
TensorShapeProto arranged(const TensorShapeProto &shape, bool batch, bool trans) {
  TensorShapeProto result;
  int rank = shape.dim_size();
  for (int i = 0; i < rank; ++i)
    *result.add_dim() = shape.dim(!batch || i == rank - 1 ? i : i == rank - 2 ? 0 : i + 1);
  if (trans)
    result.mutable_dim()->SwapElements(rank - 2, rank - 1);
  return result;
}

// A [..., M, K] x B [..., K, N] with optional transposes.
void fusedMatMul(InferenceContext &ctx) {
  elementFrom(ctx, 0, 0);
  const TensorShapeProto *left = shapeOf(ctx, 0), *right = shapeOf(ctx, 1);
  if (!left || !right || left->dim_size() < 2 || right->dim_size() < 2)
    return;
  TensorShapeProto a = arranged(*left, intOf(ctx, "transBatchA", 0), intOf(ctx, "transA", 0));
  TensorShapeProto b = arranged(*right, intOf(ctx, "transBatchB", 0), intOf(ctx, "transB", 0));
  int ra = a.dim_size(), rb = b.dim_size();
  TensorShapeProto batchA, batchB, result;
  for (int i = 0; i < ra - 2; ++i)
    *batchA.add_dim() = a.dim(i);
  for (int i = 0; i < rb - 2; ++i)
    *batchB.add_dim() = b.dim(i);
  onnx::bidirectionalBroadcastShapeInference(batchA, batchB, result);
  *result.add_dim() = a.dim(ra - 2);
  *result.add_dim() = b.dim(rb - 1);
  setShape(ctx, 0, result);
}

void fusedGemm(InferenceContext &ctx) {
  elementFrom(ctx, 0, 0);
  const TensorShapeProto *a = shapeOf(ctx, 0), *b = shapeOf(ctx, 1);
  if (!a || !b || a->dim_size() != 2 || b->dim_size() != 2)
    return;
  TensorShapeProto result;
  *result.add_dim() = a->dim(intOf(ctx, "transA", 0) ? 1 : 0);
  *result.add_dim() = b->dim(intOf(ctx, "transB", 0) ? 0 : 1);
  setShape(ctx, 0, result);
}

// The last dimension of input 0 becomes N.
void matMulNBits(InferenceContext &ctx) {
  elementFrom(ctx, 0, 0);
  const TensorShapeProto *a = shapeOf(ctx, 0);
  int64_t n = intOf(ctx, "N", -1), k = intOf(ctx, "K", -1), block = intOf(ctx, "block_size", -1);
  const TensorShapeProto *scales = ctx.hasInput(2) ? shapeOf(ctx, 2) : nullptr;
  if (scales && n > 0 && k > 0 && block > 0 && n < INT_MAX && k < INT_MAX) {
    int64_t want = n * ((k + block - 1) / block), count = 1;
    bool known = true;
    for (const Dim &dim : scales->dim())
      known &= dim.has_dim_value() && !__builtin_mul_overflow(count, dim.dim_value(), &count);
    if (known && count != want)
      fail_shape_inference("has ", count, " scales, not the ", want, " of ", n, " rows of ",
                           (k + block - 1) / block, " blocks");
  }
  if (!a || a->dim_size() == 0 || n < 0)
    return;
  TensorShapeProto result = *a;
  *result.mutable_dim(result.dim_size() - 1) = Dim();
  result.mutable_dim(result.dim_size() - 1)->set_dim_value(n);
  setShape(ctx, 0, result);
}

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

// What is known of any operator: nothing, unless the importer asked for a guess.
void unknown(InferenceContext &ctx) {
  const onnx::AttributeProto *guess = ctx.getAttribute(kGuessAttribute.str());
  if (!guess || ctx.getNumInputs() == 0 || !ctx.getInputType(0) ||
      !ctx.getInputType(0)->has_tensor_type())
    return;
  for (size_t output = 0; output < ctx.getNumOutputs(); ++output)
    if (ctx.hasOutput(output))
      elementFrom(ctx, 0, output);
}

Infer inferenceOf(const std::string &domain, const std::string &op) {
  static const llvm::StringMap<Infer> table = {
      {"MoE", plainMoe}, {"QMoE", quantisedMoe}, {"QuickGelu", like}, {"Gelu", like}, {"FastGelu", like},
      {"BiasGelu", like}, {"RotaryEmbedding", like}, {"GemmaRotaryEmbedding", like},
      {"SimplifiedLayerNormalization", norm}, {"SkipSimplifiedLayerNormalization", norm},
      {"SkipLayerNormalization", norm}, {"FusedMatMul", fusedMatMul}, {"FusedGemm", fusedGemm},
      {"MatMulNBits", matMulNBits}, {"GroupQueryAttention", groupQueryAttention},
      {"MultiHeadAttention", multiHeadAttention}, {"GatedAdd", like}, {"GatedRMSNorm", like},
      {"MRotaryEmbedding", like}, {"LinearAttentionGate", linearAttentionGate},
      {"CausalConvWithState", causalConv}, {"LinearAttention", linearAttention},
      {"GatedDeltaNet", gatedDeltaNet}};
  if (domain != "com.microsoft")
    return unknown;
  auto it = table.find(op);
  return it == table.end() ? unknown : it->second;
}

} // namespace

bool moec::onnx_import::isInferred(const std::string &domain, const std::string &op) {
  return inferenceOf(domain, op) != unknown ||
         onnx::OpSchemaRegistry::Instance()->GetSchema(op, INT_MAX, domain);
}

// A tensor used as a shape, or whose numbers inference follows, that claims to be longer would
// cost memory by its length alone.
static bool isLong(const onnx::TypeProto *type) {
  constexpr int64_t kMost = 65536;
  if (!type || !type->has_tensor_type() || type->tensor_type().shape().dim_size() != 1)
    return false;
  const Dim &dim = type->tensor_type().shape().dim(0);
  return dim.has_dim_value() && dim.dim_value() > kMost;
}

// The same operator with bounds on what its inference does; null when it needs none.
static std::unique_ptr<onnx::OpSchema> guarded(const onnx::OpSchema &known) {
  static const llvm::StringMap<size_t> shapeInputs = {
      {"ConstantOfShape", 0}, {"Expand", 1}, {"Reshape", 1}, {"Tile", 1},
      {"Pad", 1},             {"Resize", 3}, {"CenterCropPad", 1}, {"Upsample", 1}};
  auto shapeInput = shapeInputs.find(known.Name());
  bool shaped = known.domain().empty() && shapeInput != shapeInputs.end() &&
                known.has_type_and_shape_inference_function();
  if (!shaped && !known.has_data_propagation_function())
    return nullptr;
  auto copy = std::make_unique<onnx::OpSchema>(known);
  if (shaped)
    copy->TypeAndShapeInferenceFunction(
        [infer = known.GetTypeAndShapeInferenceFunction(),
         input = shapeInput->second](InferenceContext &ctx) {
          if (input < ctx.getNumInputs() && isLong(ctx.getInputType(input)))
            fail_shape_inference("is unsupported: a shape of more than 65536 numbers");
          infer(ctx);
        });
  if (known.has_data_propagation_function())
    copy->PartialDataPropagationFunction(
        [propagate = known.GetDataPropagationFunction()](onnx::DataPropagationContext &ctx) {
          for (size_t i = 0; i < ctx.getNumInputs(); ++i)
            if (isLong(ctx.getInputType(i)))
              return;
          propagate(ctx);
        });
  return copy;
}

const onnx::OpSchema *ContribRegistry::GetSchema(const std::string &key, int version,
                                                 const std::string &domain) const {
  if (const onnx::OpSchema *known =
          onnx::OpSchemaRegistry::Instance()->GetSchema(key, version, domain)) {
    auto [it, fresh] = bounded.try_emplace(known);
    if (fresh)
      it->second = guarded(*known);
    return it->second ? it->second.get() : known;
  }
  if (isDefaultDomain(domain))
    return nullptr;
  std::unique_ptr<onnx::OpSchema> &schema = made[{domain, key}];
  if (!schema) {
    schema = std::make_unique<onnx::OpSchema>(key, "moec", 0);
    schema->SetDomain(domain)
        .SinceVersion(1)
        .AllowUncheckedAttributes()
        .Input(0, "inputs", "", "I", onnx::OpSchema::Variadic, /*is_homogeneous=*/false,
               /*min_arity=*/0)
        .Output(0, "outputs", "", "O", onnx::OpSchema::Variadic, /*is_homogeneous=*/false,
                /*min_arity=*/0)
        .TypeConstraint("I", onnx::OpSchema::all_tensor_types_ir13(), "")
        .TypeConstraint("O", onnx::OpSchema::all_tensor_types_ir13(), "")
        .TypeAndShapeInferenceFunction(inferenceOf(domain, key));
    schema->Finalize();
  }
  return schema.get();
}
