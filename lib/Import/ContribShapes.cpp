#include "ContribShapes.h"
#include "Context.h"
#include "Contrib.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/MathExtras.h"

using namespace moec::onnx_import;
using namespace moec::onnx_import::contrib;

namespace {

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
  static const llvm::StringSet<> activations = {"relu",   "relu2", "gelu",    "silu",
                                                "swiglu", "geglu", "identity"};
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
    const int64_t blocks = llvm::divideCeilSigned(k, block);
    int64_t want = n * blocks, count = 1;
    bool known = true;
    for (const Dim &dim : scales->dim())
      known &= dim.has_dim_value() && !__builtin_mul_overflow(count, dim.dim_value(), &count);
    if (known && count != want)
      fail_shape_inference("has ", count, " scales, not the ", want, " of ", n, " rows of ",
                           blocks, " blocks");
  }
  if (!a || a->dim_size() == 0 || n < 0)
    return;
  TensorShapeProto result = *a;
  *result.mutable_dim(result.dim_size() - 1) = Dim();
  result.mutable_dim(result.dim_size() - 1)->set_dim_value(n);
  setShape(ctx, 0, result);
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

// The router's scores and the gated half of what stands beside them.
void routerGateUp(InferenceContext &ctx) {
  const TensorShapeProto *x = shapeOf(ctx, 0), *w = shapeOf(ctx, 1);
  int64_t router = intOf(ctx, "router_size", -1);
  for (size_t output : {0, 1}) {
    elementFrom(ctx, 0, output);
    if (!x || !w || x->dim_size() == 0 || w->dim_size() != 2 || router < 0)
      continue;
    TensorShapeProto result = *x;
    Dim *last = result.mutable_dim(result.dim_size() - 1);
    *last = Dim();
    if (output == 0)
      last->set_dim_value(router);
    else if (w->dim(1).has_dim_value())
      last->set_dim_value((w->dim(1).dim_value() - router) / 2);
    setShape(ctx, output, result);
  }
}

// Half of the input where gate and up are one.
void swiglu(InferenceContext &ctx) {
  like(ctx);
  const TensorShapeProto *x = shapeOf(ctx, 0);
  if (!x || ctx.hasInput(1) || x->dim_size() == 0)
    return;
  TensorShapeProto result = *x;
  Dim *last = result.mutable_dim(result.dim_size() - 1);
  if (last->has_dim_value())
    last->set_dim_value(last->dim_value() / 2);
  else
    *last = Dim();
  setShape(ctx, 0, result);
}

// Three forms of scores [tokens, experts].
void groupRouter(InferenceContext &ctx) {
  const TensorShapeProto *z = shapeOf(ctx, 0), *bias = shapeOf(ctx, 1);
  for (size_t output = 0; output < ctx.getNumOutputs(); ++output) {
    if (!ctx.hasOutput(output))
      continue;
    elementFrom(ctx, output == 0 ? 0 : 1, output);
    if (!z || !bias || bias->dim_size() != 1)
      continue;
    TensorShapeProto result;
    Dim *tokens = result.add_dim();
    if (z->dim_size() == 2)
      *tokens = z->dim(0);
    *result.add_dim() = bias->dim(0);
    setShape(ctx, output, result);
  }
}

// [..., K] and [K, N] (or, of fp8, [N, K]) to [..., N], of a scale's type.
void scaledProduct(InferenceContext &ctx, size_t scale, int columns) {
  elementFrom(ctx, scale, 0);
  const TensorShapeProto *a = shapeOf(ctx, 0), *b = shapeOf(ctx, 1);
  if (!a || !b || a->dim_size() == 0 || b->dim_size() != 2)
    return;
  TensorShapeProto result = *a;
  *result.mutable_dim(result.dim_size() - 1) = b->dim(columns);
  setShape(ctx, 0, result);
}
void dynamicQuantizeMatMul(InferenceContext &ctx) { scaledProduct(ctx, 0, 1); }
void matMulIntegerToFloat(InferenceContext &ctx) { scaledProduct(ctx, 2, 1); }
void fp8MatMul(InferenceContext &ctx) { scaledProduct(ctx, 0, 0); }

// The shape of input 0 in another element type.
void dequantize(InferenceContext &ctx) {
  elementFrom(ctx, 1, 0);
  if (const TensorShapeProto *x = shapeOf(ctx, 0))
    setShape(ctx, 0, *x);
}
void quantize(InferenceContext &ctx) {
  if (ctx.hasInput(2))
    elementFrom(ctx, 2, 0);
  else
    onnx::updateOutputElemType(ctx, 0, onnx::TensorProto::UINT8);
  if (const TensorShapeProto *x = shapeOf(ctx, 0))
    setShape(ctx, 0, *x);
}

// ids [B, S] and tables [.., H] -> [B, S, H]; lengths [B]; the sum before the norm.
void embedLayerNorm(InferenceContext &ctx) {
  const TensorShapeProto *ids = shapeOf(ctx, 0), *table = shapeOf(ctx, 2);
  for (size_t output = 0; output < ctx.getNumOutputs(); ++output) {
    if (!ctx.hasOutput(output))
      continue;
    elementFrom(ctx, output == 1 ? 0 : 2, output);
    if (!ids || ids->dim_size() != 2 || !table || table->dim_size() != 2)
      continue;
    TensorShapeProto result;
    *result.add_dim() = ids->dim(0);
    if (output != 1) {
      *result.add_dim() = ids->dim(1);
      *result.add_dim() = table->dim(1);
    }
    setShape(ctx, output, result);
  }
}

// As Conv of ONNX.
void fusedConv(InferenceContext &ctx) {
  const onnx::OpSchema *conv = onnx::OpSchemaRegistry::Instance()->GetSchema("Conv", 22, "");
  if (conv && conv->has_type_and_shape_inference_function())
    conv->GetTypeAndShapeInferenceFunction()(ctx);
}

// Numbers, scale, zero point of one tensor or two.
void qLinearUnary(InferenceContext &ctx) { like(ctx); }
void qLinearBinary(InferenceContext &ctx) {
  elementFrom(ctx, 0, 0);
  const TensorShapeProto *a = shapeOf(ctx, 0), *b = shapeOf(ctx, 3);
  TensorShapeProto result;
  if (!a || !b)
    return;
  onnx::bidirectionalBroadcastShapeInference(*a, *b, result);
  setShape(ctx, 0, result);
}
void qLinearWhere(InferenceContext &ctx) {
  elementFrom(ctx, 1, 0);
  const TensorShapeProto *c = shapeOf(ctx, 0), *a = shapeOf(ctx, 1), *b = shapeOf(ctx, 4);
  TensorShapeProto both, result;
  if (!a || !b || !c)
    return;
  onnx::bidirectionalBroadcastShapeInference(*a, *b, both);
  onnx::bidirectionalBroadcastShapeInference(*c, both, result);
  setShape(ctx, 0, result);
}
void qLinearConcat(InferenceContext &ctx) {
  elementFrom(ctx, 2, 0);
  const TensorShapeProto *first = shapeOf(ctx, 2);
  if (!first)
    return;
  int64_t axis = intOf(ctx, "axis", 0), rank = first->dim_size(), sum = 0;
  axis += axis < 0 ? rank : 0;
  if (axis < 0 || axis >= rank)
    return;
  for (size_t i = 2; i < ctx.getNumInputs() && sum >= 0; i += 3) {
    const TensorShapeProto *part = shapeOf(ctx, i);
    bool known =
        part && part->dim_size() == rank && part->dim(static_cast<int>(axis)).has_dim_value();
    sum = known ? sum + part->dim(static_cast<int>(axis)).dim_value() : -1;
  }
  TensorShapeProto result = *first;
  Dim *dim = result.mutable_dim(static_cast<int>(axis));
  *dim = Dim();
  if (sum >= 0)
    dim->set_dim_value(sum);
  setShape(ctx, 0, result);
}
void qLinearReduceMean(InferenceContext &ctx) { elementFrom(ctx, 0, 0); }
void qGemm(InferenceContext &ctx) {
  if (ctx.hasInput(8))
    elementFrom(ctx, 8, 0);
  else
    onnx::updateOutputElemType(ctx, 0, onnx::TensorProto::FLOAT);
  const TensorShapeProto *a = shapeOf(ctx, 0), *b = shapeOf(ctx, 3);
  if (!a || !b || a->dim_size() != 2 || b->dim_size() != 2)
    return;
  TensorShapeProto result;
  *result.add_dim() = a->dim(intOf(ctx, "transA", 0) ? 1 : 0);
  *result.add_dim() = b->dim(intOf(ctx, "transB", 0) ? 0 : 1);
  setShape(ctx, 0, result);
}

// The indices take the place of the gathered axis; bytes hold several numbers.
void gatherBlocks(InferenceContext &ctx) {
  elementFrom(ctx, 2, 0);
  const TensorShapeProto *data = shapeOf(ctx, 0), *indices = shapeOf(ctx, 1);
  if (!data || !indices)
    return;
  int64_t rank = data->dim_size(), axis = intOf(ctx, "gather_axis", 0);
  axis += axis < 0 ? rank : 0;
  int64_t bits = intOf(ctx, "bits", 4);
  const onnx::TypeProto *type = ctx.getInputType(0);
  bool bytes = type->tensor_type().elem_type() == onnx::TensorProto::UINT8;
  if (axis < 0 || axis >= rank || (bytes && bits != 2 && bits != 4 && bits != 8))
    return;
  TensorShapeProto result;
  for (int64_t i = 0; i < rank; ++i) {
    if (i == axis) {
      for (const Dim &dim : indices->dim())
        *result.add_dim() = dim;
      continue;
    }
    *result.add_dim() = data->dim(static_cast<int>(i));
    Dim *dim = result.mutable_dim(result.dim_size() - 1);
    if (bytes && i == rank - 1 && dim->has_dim_value())
      dim->set_dim_value(dim->dim_value() * (8 / bits));
  }
  setShape(ctx, 0, result);
}

} // namespace

Inference moec::onnx_import::inferenceOf(const std::string &domain, const std::string &op) {
  static const llvm::StringMap<Inference> table = {{"MoE", plainMoe},
                                                   {"QMoE", quantisedMoe},
                                                   {"QuickGelu", like},
                                                   {"Gelu", like},
                                                   {"FastGelu", like},
                                                   {"BiasGelu", like},
                                                   {"RotaryEmbedding", like},
                                                   {"GemmaRotaryEmbedding", like},
                                                   {"SimplifiedLayerNormalization", norm},
                                                   {"SkipSimplifiedLayerNormalization", norm},
                                                   {"SkipLayerNormalization", norm},
                                                   {"FusedMatMul", fusedMatMul},
                                                   {"TransposeMatMul", fusedMatMul},
                                                   {"FusedGemm", fusedGemm},
                                                   {"MatMulNBits", matMulNBits},
                                                   {"GroupQueryAttention", groupQueryAttention},
                                                   {"MultiHeadAttention", multiHeadAttention},
                                                   {"GatedAdd", like},
                                                   {"GatedRMSNorm", like},
                                                   {"MRotaryEmbedding", like},
                                                   {"LinearAttentionGate", linearAttentionGate},
                                                   {"CausalConvWithState", causalConv},
                                                   {"LinearAttention", linearAttention},
                                                   {"GatedDeltaNet", gatedDeltaNet},
                                                   {"RouterGateUpProj", routerGateUp},
                                                   {"SwiGLU", swiglu},
                                                   {"MoEGroupRouter", groupRouter},
                                                   {"DynamicQuantizeMatMul", dynamicQuantizeMatMul},
                                                   {"MatMulIntegerToFloat", matMulIntegerToFloat},
                                                   {"MatMulBlockQuantizedFp8Weight", fp8MatMul},
                                                   {"QuantizeLinear", quantize},
                                                   {"DequantizeLinear", dequantize},
                                                   {"GatherBlockQuantized", gatherBlocks},
                                                   {"FusedConv", fusedConv},
                                                   {"Attention", attention},
                                                   {"EmbedLayerNormalization", embedLayerNorm},
                                                   {"QLinearAdd", qLinearBinary},
                                                   {"QLinearMul", qLinearBinary},
                                                   {"QLinearSigmoid", qLinearUnary},
                                                   {"QLinearLeakyRelu", qLinearUnary},
                                                   {"QLinearSoftmax", qLinearUnary},
                                                   {"QLinearWhere", qLinearWhere},
                                                   {"QLinearConcat", qLinearConcat},
                                                   {"QLinearReduceMean", qLinearReduceMean},
                                                   {"QGemm", qGemm}};
  if (domain != "com.microsoft")
    return unknown;
  auto it = table.find(op);
  return it == table.end() ? unknown : it->second;
}

bool moec::onnx_import::isInferred(const std::string &domain, const std::string &op,
                                   int64_t version) {
  if (inferenceOf(domain, op) != unknown)
    return true;
  const onnx::OpSchema *schema =
      onnx::OpSchemaRegistry::Schema(op, static_cast<int>(version), domain);
  return schema && schema->has_type_and_shape_inference_function();
}
