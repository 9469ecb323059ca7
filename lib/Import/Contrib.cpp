#include "Contrib.h"
#include "Context.h"

#include "onnx/defs/shape_inference.h"
#include "llvm/ADT/StringMap.h"

#include <climits>

using namespace moec::onnx_import;
using onnx::InferenceContext;
using Dim = onnx::TensorShapeProto::Dimension;

// A tensor used as a shape, or whose numbers inference follows, that claims to be longer would
// cost memory by its length alone.
static bool isLong(const onnx::TypeProto *type) {
  constexpr int64_t kMost = 65536;
  if (!type || !type->has_tensor_type() || type->tensor_type().shape().dim_size() != 1)
    return false;
  const Dim &dim = type->tensor_type().shape().dim(0);
  return dim.has_dim_value() && dim.dim_value() > kMost;
}

static bool isOpen(const onnx::TypeProto *type, int axis) {
  return !type || !type->has_tensor_type() || axis >= type->tensor_type().shape().dim_size() ||
         !type->tensor_type().shape().dim(axis).has_dim_value();
}

// The library takes unknown numbers of keys for 0 when it says how wide Attention's scores are.
static void openScores(InferenceContext &ctx) {
  if (ctx.getNumOutputs() < 4 || !ctx.getInputType(1))
    return;
  const onnx::TypeProto *keys = ctx.getInputType(1);
  bool past = ctx.getNumInputs() > 4 && ctx.hasInput(4);
  int axis = keys->tensor_type().shape().dim_size() == 3 ? 1 : 2;
  onnx::TypeProto *scores = ctx.getOutputType(3);
  bool open = isOpen(keys, axis) || (past && isOpen(ctx.getInputType(4), 2));
  if (open && scores && scores->tensor_type().shape().dim_size() == 4)
    scores->mutable_tensor_type()->mutable_shape()->mutable_dim(3)->clear_value();
}

// The same operator with bounds on what its inference does; null when it needs none.
static std::unique_ptr<onnx::OpSchema> guarded(const onnx::OpSchema &known) {
  static const llvm::StringMap<size_t> shapeInputs = {
      {"ConstantOfShape", 0}, {"Expand", 1}, {"Reshape", 1}, {"Tile", 1},
      {"Pad", 1},             {"Resize", 3}, {"CenterCropPad", 1}, {"Upsample", 1}};
  auto shapeInput = shapeInputs.find(known.Name());
  bool shaped = known.domain().empty() && shapeInput != shapeInputs.end() &&
                known.has_type_and_shape_inference_function();
  bool attention = known.domain().empty() && known.Name() == "Attention" &&
                   known.has_type_and_shape_inference_function();
  if (!shaped && !attention && !known.has_data_propagation_function())
    return nullptr;
  auto copy = std::make_unique<onnx::OpSchema>(known);
  if (attention)
    copy->TypeAndShapeInferenceFunction(
        [infer = known.GetTypeAndShapeInferenceFunction()](InferenceContext &ctx) {
          infer(ctx);
          openScores(ctx);
        });
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
