// Opset conversion and shape inference, both by the ONNX library.
#include "Context.h"
#include "Contrib.h"
#include "LoopTypes.h"

#include "onnx/shape_inference/implementation.h"
#include "onnx/version_converter/convert.h"
#include "llvm/ADT/StringMap.h"

#include <cstring>

using namespace moec;
using namespace moec::onnx_import;
using llvm::StringRef;

static constexpr int kOpset = 28; // of the onnx dialect
// More inference errors than this are no help.
static constexpr unsigned kMaxErrors = 20;

static onnx::OperatorSetIdProto *defaultOpset(onnx::ModelProto &model) {
  for (onnx::OperatorSetIdProto &opset : *model.mutable_opset_import())
    if (isDefaultDomain(opset.domain()))
      return &opset;
  return nullptr;
}

bool onnx_import::needsConversion(onnx::ModelProto &model, int version) {
  bool changed = false;
  forEachGraph(*model.mutable_graph(), [&](onnx::GraphProto &graph) {
    for (const onnx::NodeProto &node : graph.node()) {
      if (!node.domain().empty())
        continue;
      const onnx::OpSchema *then = onnx::OpSchemaRegistry::Schema(node.op_type(), version, "");
      const onnx::OpSchema *now = onnx::OpSchemaRegistry::Schema(node.op_type(), kOpset, "");
      changed |= !then || !now || then->SinceVersion() != now->SinceVersion();
    }
  });
  return changed;
}

// Types that the library cannot infer: of weights and of unknown operators' results.
static void restoreTypes(onnx::ModelProto &model,
                         const llvm::StringMap<onnx::ValueInfoProto> &declared) {
  forEachGraph(*model.mutable_graph(), [&](onnx::GraphProto &graph) {
    graph.clear_value_info();
    for (const onnx::NodeProto &node : graph.node()) {
      if (node.domain() == kWeightDomain) {
        declareWeight(node, graph);
        continue;
      }
      if (node.domain().empty())
        continue;
      for (const std::string &output : node.output())
        if (auto it = declared.find(output); it != declared.end())
          *graph.add_value_info() = it->second;
    }
  });
}

// One run of the library's inference. Models of old opsets use types that only newer ones allow,
// so types are checked after the conversion only.
static void inferOnce(onnx::ModelProto &model, bool checkTypes = true) {
  ContribRegistry registry;
  onnx::ShapeInferenceOptions options(checkTypes, /*strict_mode=*/1, /*data_prop=*/true);
  onnx::shape_inference::DataValueMap values;
  onnx::shape_inference::InferShapes(model, &registry, options, &values);
}

// Declared shapes of results may be wrong; only their element types take part in inference.
static void forgetDeclared(onnx::ModelProto &model) {
  for (onnx::ValueInfoProto &output : *model.mutable_graph()->mutable_output())
    if (output.type().has_tensor_type())
      output.mutable_type()->mutable_tensor_type()->clear_shape();
  stripInnerShapes(*model.mutable_graph());
}

using Constants = llvm::StringMap<::onnx::TensorProto>;

// Gives each inner graph its own copies of the small constants that it takes from outside:
// inference does not see values across graphs, and ReduceSum's axes, say, decide its shape.
static void sinkConstants(onnx::GraphProto &graph, const Constants &outer, unsigned &counter) {
  llvm::StringMap<std::string> copies;
  for (onnx::NodeProto &node : *graph.mutable_node())
    for (std::string &input : *node.mutable_input()) {
      auto constant = outer.find(input);
      if (constant == outer.end())
        continue;
      std::string &copy = copies[input];
      if (copy.empty()) {
        copy = "moec.copy." + std::to_string(counter++);
        onnx::TensorProto *tensor = graph.add_initializer();
        *tensor = constant->second;
        tensor->set_name(copy);
      }
      input = copy;
    }
  Constants inner = outer;
  auto add = [&](const std::string &name, const onnx::TensorProto &tensor) {
    if (tensor.data_type() == onnx::TensorProto::INT64 && tensor.dims_size() <= 1)
      inner[name] = tensor;
  };
  bool any = false;
  for (const onnx::NodeProto &node : graph.node())
    for (const onnx::AttributeProto &attribute : node.attribute())
      any |= attribute.has_g();
  if (!any)
    return;
  for (const onnx::TensorProto &tensor : graph.initializer())
    add(tensor.name(), tensor);
  for (const onnx::NodeProto &node : graph.node())
    if (node.domain().empty() && node.op_type() == "Constant" && node.attribute_size() == 1 &&
        node.attribute(0).has_t())
      add(node.output(0), node.attribute(0).t());
  for (onnx::NodeProto &node : *graph.mutable_node())
    for (onnx::AttributeProto &attribute : *node.mutable_attribute())
      if (attribute.has_g())
        sinkConstants(*attribute.mutable_g(), inner, counter);
}

// "k = 9; x is [n, 8]": what a node works on, where it is known.
static std::string describeInputs(const onnx::GraphProto &graph, StringRef name, StringRef op) {
  const onnx::NodeProto *found = nullptr;
  llvm::StringMap<const onnx::TensorProto *> constants;
  for (const onnx::TensorProto &tensor : graph.initializer())
    constants[tensor.name()] = &tensor;
  for (const onnx::NodeProto &node : graph.node()) {
    if (node.name() == name && node.op_type() == op)
      found = found ? found : &node;
    if (node.op_type() == "Constant" && node.attribute_size() == 1 && node.attribute(0).has_t())
      constants[node.output(0)] = &node.attribute(0).t();
  }
  llvm::StringMap<const onnx::TypeProto *> types;
  for (const auto *list : {&graph.value_info(), &graph.input(), &graph.output()})
    for (const onnx::ValueInfoProto &info : *list)
      types[info.name()] = &info.type();
  std::string values, shapes;
  for (int i = 0; found && i < found->input_size(); ++i) {
    const onnx::TensorProto *tensor = constants.lookup(found->input(i));
    if (tensor && tensor->data_type() == onnx::TensorProto::INT64 &&
        tensor->raw_data().size() + tensor->int64_data_size() * sizeof(int64_t) == 8) {
      int64_t value = tensor->int64_data_size() ? tensor->int64_data(0) : 0;
      if (tensor->has_raw_data())
        std::memcpy(&value, tensor->raw_data().data(), 8);
      values += (values.empty() ? "" : ", ") + found->input(i) + " = " + std::to_string(value);
      continue;
    }
    const onnx::TypeProto *type = types.lookup(found->input(i));
    if (!type || !type->tensor_type().has_shape())
      continue;
    std::string dims;
    for (const auto &dim : type->tensor_type().shape().dim())
      dims += (dims.empty() ? "" : ", ") + (dim.has_dim_value() ? std::to_string(dim.dim_value())
                                            : StringRef(dim.dim_param()).starts_with("unk__")
                                                ? "?"
                                                : dim.dim_param());
    shapes += (shapes.empty() ? "" : ", ") + found->input(i) + " is [" + dims + "]";
  }
  return values + (values.empty() || shapes.empty() ? "" : "; ") + shapes;
}

// "Inference error(s): (op_type:MatMul, node name: a): text", a line a node.
static void reportInference(Context &context, const onnx::GraphProto &graph, StringRef text) {
  unsigned before = context.errors;
  while (!text.empty() && context.errors - before < kMaxErrors) {
    auto [line, rest] = text.split('\n');
    text = rest;
    auto [head, tail] = line.split("(op_type:");
    if (tail.empty())
      continue;
    auto [op, named] = tail.split(", node name: ");
    auto [name, what] = named.split("): ");
    if (what.empty())
      std::tie(op, what) = tail.split("): ");
    // A failure inside a graph names the outer node first.
    if (what.contains("(op_type:")) {
      text = line.drop_front(line.find("(op_type:") + 9);
    } else {
      std::string inputs = describeInputs(graph, named.empty() ? "" : name, op);
      context.nodeError(op, named.empty() ? "" : name,
                        what.rtrim(" .\n") + (inputs.empty() ? "" : " (" + inputs + ")"));
    }
  }
  if (context.errors == before)
    context.error("shape inference: " + text);
}

// Declares the rank of values of which inference found none and the file says one. Dimensions stay
// open: only the operators themselves are believed about sizes.
static bool addRanks(Context &context, onnx::GraphProto &graph) {
  bool added = false;
  auto add = [&](onnx::ValueInfoProto &info) {
    auto it = context.ranks.find(info.name());
    if (it == context.ranks.end() || !info.type().has_tensor_type() ||
        info.type().tensor_type().has_shape())
      return;
    auto *shape = info.mutable_type()->mutable_tensor_type()->mutable_shape();
    for (int i = 0; i < it->second; ++i)
      shape->add_dim();
    added = true;
  };
  for (onnx::ValueInfoProto &info : *graph.mutable_value_info())
    add(info);
  for (onnx::ValueInfoProto &info : *graph.mutable_output())
    add(info);
  return added;
}

// Infers, with what Loops carry: assumptions that do not hold are lowered, and all is done again.
static void inferWithLoops(Context &context, onnx::ModelProto &model) {
  constexpr int kRounds = 8;
  const onnx::ModelProto start = model;
  Carried carried;
  for (int round = 0; round <= kRounds; ++round) {
    model = start;
    inferOnce(model);
    // A Loop's first value may be the result of another Loop.
    for (int depth = 0; depth < kRounds && round < kRounds; ++depth) {
      if (!assumeCarried(*model.mutable_graph(), carried))
        break;
      inferOnce(model);
    }
    if (addRanks(context, *model.mutable_graph()))
      inferOnce(model);
    if (round == kRounds || verifyCarried(model.graph(), carried))
      return;
  }
}

void onnx_import::convert(Context &context, onnx::ModelProto &model) {
  onnx::OperatorSetIdProto *opset = defaultOpset(model);
  if (opset->version() == kOpset)
    return;
  if (!needsConversion(model, static_cast<int>(opset->version()))) {
    opset->set_version(kOpset);
    return;
  }
  llvm::StringMap<onnx::ValueInfoProto> declared;
  forEachGraph(*model.mutable_graph(), [&](onnx::GraphProto &graph) {
    for (const onnx::ValueInfoProto &info : graph.value_info())
      declared[info.name()] = info;
  });
  // Once before, under this importer's limits: the converter infers shapes without any.
  onnx::ModelProto probe = model;
  forgetDeclared(probe);
  try {
    inferOnce(probe, /*checkTypes=*/false);
  } catch (const std::exception &e) {
    return reportInference(context, probe.graph(), e.what());
  }
  try {
    onnx::ModelProto converted = onnx::version_conversion::ConvertVersion(model, kOpset);
    // The conversion keeps values and names; what it says about types is inferred anew.
    *converted.mutable_graph()->mutable_input() = model.graph().input();
    *converted.mutable_graph()->mutable_output() = model.graph().output();
    model.Swap(&converted);
  } catch (const std::exception &e) {
    return context.error("the conversion from opset " + llvm::Twine(opset->version()) +
                         " is unsupported: " + e.what());
  }
  restoreTypes(model, declared);
}

void onnx_import::infer(Context &context, onnx::ModelProto &model) {
  context.outputs.assign(model.graph().output().begin(), model.graph().output().end());
  forgetDeclared(model);
  unsigned copies = 0;
  sinkConstants(*model.mutable_graph(), {}, copies);
  try {
    inferWithLoops(context, model);
  } catch (const std::exception &e) {
    reportInference(context, model.graph(), e.what());
  }
}
