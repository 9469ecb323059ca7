// Operators that are only defined by others: the library's own function bodies take their place.
#include "Context.h"
#include "Contrib.h"

#include "onnx/defs/function.h"
#include "onnx/inliner/inliner.h"
#include "onnx/shape_inference/implementation.h"
#include "llvm/ADT/StringMap.h"

using namespace moec;
using namespace moec::onnx_import;
using llvm::StringRef;

static constexpr llvm::StringLiteral kBodyDomain = "moec.body";

bool onnx_import::isWrittenOut(const onnx::NodeProto &node) {
  return (node.domain() == "ai.onnx.preview" && node.op_type() == "FlexAttention") ||
         (node.domain().empty() && node.op_type() == "SequenceMap");
}

namespace {

class Expander {
public:
  Expander(Context &context, onnx::ModelProto &model, bool standard)
      : context(context), model(model), standard(standard) {}

  void run() {
    bool any = false;
    forEachGraph(*model.mutable_graph(), [&](onnx::GraphProto &graph) {
      for (const onnx::NodeProto &node : graph.node())
        any |= isMine(node);
    });
    if (!any)
      return;
    readTypes();
    forEachGraph(*model.mutable_graph(), [&](onnx::GraphProto &graph) {
      for (onnx::NodeProto &node : *graph.mutable_node())
        if (isMine(node) && !context.errors)
          becomeCall(node);
    });
    if (context.errors)
      return;
    auto *opset = model.add_opset_import();
    opset->set_domain(kBodyDomain.str());
    opset->set_version(1);
    onnx::inliner::InlineLocalFunctions(model, /*convert_version=*/true);
    model.clear_functions();
    nameNodes();
  }

private:
  bool isMine(const onnx::NodeProto &node) {
    return isWrittenOut(node) && node.domain().empty() == standard;
  }

  // Bodies depend on the types of the inputs.
  void readTypes() {
    onnx::ModelProto probe = model;
    ContribRegistry registry;
    onnx::ShapeInferenceOptions options(/*check_type=*/true, /*strict_mode=*/1, /*data_prop=*/true);
    onnx::shape_inference::DataValueMap values;
    onnx::shape_inference::InferShapes(probe, &registry, options, &values);
    forEachGraph(*probe.mutable_graph(), [&](onnx::GraphProto &graph) {
      for (const auto *list : {&graph.input(), &graph.value_info(), &graph.output()})
        for (const onnx::ValueInfoProto &info : *list)
          types.try_emplace(info.name(), info.type());
      for (const onnx::TensorProto &tensor : graph.initializer()) {
        onnx::TypeProto type;
        type.mutable_tensor_type()->set_elem_type(tensor.data_type());
        for (int64_t d : tensor.dims())
          type.mutable_tensor_type()->mutable_shape()->add_dim()->set_dim_value(d);
        types.try_emplace(tensor.name(), type);
      }
    });
  }

  int versionOf(StringRef domain) const {
    for (const onnx::OperatorSetIdProto &opset : model.opset_import())
      if (opset.domain() == domain)
        return static_cast<int>(opset.version());
    return 1;
  }

  void becomeCall(onnx::NodeProto &node) {
    const onnx::OpSchema *schema = onnx::OpSchemaRegistry::Schema(
        node.op_type(), versionOf(node.domain()), node.domain());
    std::vector<onnx::TypeProto> inputs;
    for (const std::string &name : node.input()) {
      auto it = types.find(name);
      if (!name.empty() && it == types.end())
        return context.error(node, "is unsupported: nothing says the type of \"" + brief(name) + "\"");
      inputs.push_back(name.empty() ? onnx::TypeProto() : it->second);
    }
    onnx::FunctionBodyBuildContextImpl build(node, inputs);
    onnx::FunctionProto body;
    const onnx::FunctionProto *fixed = schema ? schema->GetFunction() : nullptr;
    if (fixed)
      body = *fixed;
    if (!fixed && !(schema && schema->HasContextDependentFunction() &&
                    schema->BuildContextDependentFunction(build, body)))
      return context.error(node, "is unsupported with these types or attributes");
    // What these bodies use is alike in all opsets that have the operator; graphs of the node are of
    // the model's.
    for (onnx::OperatorSetIdProto &opset : *body.mutable_opset_import())
      if (standard && opset.domain().empty())
        opset.set_version(versionOf(""));
    std::string name = node.op_type() + "." + std::to_string(count++);
    body.set_domain(kBodyDomain.str());
    body.set_name(name);
    node.set_domain(kBodyDomain.str());
    node.set_op_type(name);
    *model.add_functions() = body;
  }

  void nameNodes() {
    unsigned unnamed = 0;
    forEachGraph(*model.mutable_graph(), [&](onnx::GraphProto &graph) {
      for (onnx::NodeProto &node : *graph.mutable_node())
        if (node.name().empty())
          node.set_name("body/" + node.op_type() + "_" + std::to_string(unnamed++));
    });
  }

  Context &context;
  onnx::ModelProto &model;
  bool standard; // the default domain's operators, or the others
  llvm::StringMap<onnx::TypeProto> types;
  unsigned count = 0;
};

} // namespace

void onnx_import::expandStandard(Context &context, onnx::ModelProto &model) {
  Expander(context, model, true).run();
}

void onnx_import::expand(Context &context, onnx::ModelProto &model) {
  Expander(context, model, false).run();
}
