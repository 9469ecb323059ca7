// Checks a model before the library works on it, so that errors name the node and all unsupported
// operators are listed at once; then lets the library's own checker look.
#include "Context.h"

#include "mlir/IR/OperationSupport.h"
#include "onnx/checker.h"
#include "onnx/defs/schema.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

#include <queue>

using namespace moec;
using namespace moec::onnx_import;
using llvm::StringRef;

namespace {

// Names that a graph uses and does not define: taken from the graphs around it.
void captures(const onnx::GraphProto &graph, llvm::StringSet<> &out) {
  llvm::StringSet<> used, defined;
  for (const onnx::ValueInfoProto &input : graph.input())
    defined.insert(input.name());
  for (const onnx::TensorProto &tensor : graph.initializer())
    defined.insert(tensor.name());
  for (const onnx::NodeProto &node : graph.node()) {
    for (const std::string &input : node.input())
      used.insert(input);
    for (const onnx::AttributeProto &attribute : node.attribute()) {
      if (attribute.has_g())
        captures(attribute.g(), used);
      for (const onnx::GraphProto &inner : attribute.graphs())
        captures(inner, used);
    }
    for (const std::string &output : node.output())
      defined.insert(output);
  }
  for (const onnx::ValueInfoProto &output : graph.output())
    used.insert(output.name());
  for (const auto &name : used)
    if (!name.getKey().empty() && !defined.contains(name.getKey()))
      out.insert(name.getKey());
}

class Checker {
public:
  Checker(Context &context, onnx::ModelProto &model, int version)
      : context(context), model(model), version(version) {}

  void run() {
    llvm::StringSet<> none;
    graph(*model.mutable_graph(), {}, true);
  }

private:
  using Scopes = llvm::SmallVector<const llvm::StringSet<> *>;

  void define(llvm::StringSet<> &names, const std::string &name) {
    if (!name.empty() && !names.insert(name).second)
      context.error("value \"" + brief(name) + "\" is defined twice");
  }

  void type(const onnx::ValueInfoProto &info, StringRef what, bool main, bool required) {
    std::string label = (what + " \"" + brief(info.name()) + "\"").str();
    const onnx::TypeProto &type = info.type();
    if (type.value_case() == onnx::TypeProto::VALUE_NOT_SET) {
      if (required)
        context.error(label + " has no type");
      return;
    }
    // Inside of a model sequences of tensors are values too.
    if (!main && type.has_sequence_type() && type.sequence_type().elem_type().has_tensor_type())
      return;
    if (!type.has_tensor_type())
      return context.error(label + " is unsupported: it is no tensor but " +
                           (type.has_sequence_type()   ? "a sequence"
                            : type.has_optional_type() ? "an optional"
                            : type.has_map_type()      ? "a map"
                                                       : "a sparse tensor"));
    int32_t element = type.tensor_type().elem_type();
    if (element == 0 && !required)
      return;
    if (elementBits(element) == 0)
      return context.error(label + " has the unsupported element type " +
                           (element == 0 ? "UNDEFINED" : onnx::TensorProto_DataType_Name(
                               static_cast<onnx::TensorProto_DataType>(element))));
    if (required && !type.tensor_type().has_shape())
      return context.error(label + " is unsupported: its rank is unknown");
    onnx::TensorProto shape; // static dimensions only
    for (const auto &dim : type.tensor_type().shape().dim())
      if (dim.has_dim_value())
        shape.add_dims(dim.dim_value());
    std::string why;
    if (!elementCount(shape, why))
      context.error(label + " " + why);
  }

  void graph(onnx::GraphProto &graph, Scopes scopes, bool main) {
    llvm::StringSet<> names;
    if (main && graph.output_size() == 0)
      context.error("the model has no outputs");
    for (const onnx::ValueInfoProto &input : graph.input()) {
      if (input.name().empty())
        context.error("an input has no name");
      type(input, main ? "input" : "input of a subgraph", main, main);
      define(names, input.name());
    }
    for (const onnx::TensorProto &tensor : graph.initializer())
      define(names, tensor.name());
    for (onnx::NodeProto &node : *graph.mutable_node()) {
      operatorOf(node);
      for (const std::string &output : node.output())
        define(names, output);
    }
    scopes.push_back(&names);
    auto known = [&](StringRef name) {
      return llvm::any_of(scopes, [&](const llvm::StringSet<> *s) { return s->contains(name); });
    };
    for (onnx::NodeProto &node : *graph.mutable_node())
      for (const std::string &input : node.input())
        if (!input.empty() && !known(input))
          context.error(node, "input \"" + brief(input) + "\" is not defined");
    for (const onnx::ValueInfoProto &output : graph.output()) {
      if (output.name().empty()) {
        context.error("an output has no name");
        continue;
      }
      type(output, main ? "output" : "output of a subgraph", main, false);
      if (!known(output.name()))
        context.error("output \"" + brief(output.name()) + "\" is not defined");
    }
    sort(graph);
    for (onnx::NodeProto &node : *graph.mutable_node())
      for (onnx::AttributeProto &attribute : *node.mutable_attribute())
        if (attribute.has_g())
          this->graph(*attribute.mutable_g(), scopes, false);
        else if (attribute.graphs_size() > 0)
          context.error(node, "has an unsupported list of graphs in \"" + brief(attribute.name()) + "\"");
  }

  // Whether the operator can be imported; gives a name to each output that must have one.
  void operatorOf(onnx::NodeProto &node) {
    if (!node.domain().empty()) {
      for (const onnx::AttributeProto &attribute : node.attribute())
        if (attribute.has_g() && !isWrittenOut(node))
          context.error(node, "is unsupported: a graph in an operator of domain \"" +
                                  node.domain() + "\"");
      return;
    }
    const onnx::OpSchema *schema =
        onnx::OpSchemaRegistry::Schema(node.op_type(), version, onnx::ONNX_DOMAIN);
    if (!schema) {
      // ONNX Runtime's optimiser puts this one of its own into the default domain.
      if (node.op_type() == "SimplifiedLayerNormalization") {
        node.set_domain("com.microsoft");
        return nameOutputs(node, 1);
      }
      return context.error(node, "is an unsupported operator: ONNX opset " +
                                     llvm::Twine(version) + " does not have it");
    }
    // The conversion puts others in their place.
    if (node.op_type() == "Scatter" || node.op_type() == "Upsample")
      return schema->Deprecated() ? context.error(node, "is an unsupported operator")
                                  : nameOutputs(node, 1);
    if (isWrittenOut(node))
      return nameOutputs(node, node.output_size());
    if (schema->Deprecated() || !mlir::RegisteredOperationName::lookup(
                                    "onnx." + node.op_type(), &context.mlir))
      return context.error(node, "is an unsupported operator");
    if (schema->HasFunction()) // whose body refers to attributes that must be there
      addDefaults(node, *schema);
    int needed = 0;
    for (const auto &output : schema->outputs())
      needed += output.GetOption() == onnx::OpSchema::Single;
    bool variadic = !schema->outputs().empty() &&
                    schema->outputs().back().GetOption() == onnx::OpSchema::Variadic;
    nameOutputs(node, variadic ? std::max(needed, node.output_size()) : needed);
  }

  static void addDefaults(onnx::NodeProto &node, const onnx::OpSchema &schema) {
    for (const auto &[name, attribute] : schema.attributes()) {
      bool given = llvm::any_of(node.attribute(), [&, &name = name](const auto &a) {
        return a.name() == name;
      });
      if (!given && !attribute.default_value.name().empty())
        *node.add_attribute() = attribute.default_value;
    }
  }

  void nameOutputs(onnx::NodeProto &node, int count) {
    while (node.output_size() < count)
      node.add_output();
    for (int i = 0; i < count; ++i)
      if (node.output(i).empty())
        node.set_output(i, "moec.unused." + std::to_string(unused++));
  }

  // Producers before users, otherwise in the file's order.
  void sort(onnx::GraphProto &graph) {
    int count = graph.node_size();
    llvm::StringMap<int> producer;
    for (int i = 0; i < count; ++i)
      for (const std::string &output : graph.node(i).output())
        producer[output] = i;
    std::vector<std::vector<int>> users(count);
    std::vector<int> waits(count, 0);
    bool sorted = true;
    for (int i = 0; i < count; ++i) {
      llvm::StringSet<> used;
      for (const std::string &input : graph.node(i).input())
        used.insert(input);
      for (const onnx::AttributeProto &attribute : graph.node(i).attribute())
        if (attribute.has_g())
          captures(attribute.g(), used);
      for (const auto &name : used)
        if (auto it = producer.find(name.getKey());
            !name.getKey().empty() && it != producer.end()) {
          users[it->second].push_back(i);
          ++waits[i];
          sorted &= it->second < i;
        }
    }
    if (sorted)
      return;
    std::priority_queue<int, std::vector<int>, std::greater<int>> ready;
    for (int i = 0; i < count; ++i)
      if (waits[i] == 0)
        ready.push(i);
    google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
    while (!ready.empty()) {
      int i = ready.top();
      ready.pop();
      nodes.Add()->Swap(graph.mutable_node(i));
      for (int user : users[i])
        if (--waits[user] == 0)
          ready.push(user);
    }
    if (nodes.size() == count)
      return graph.mutable_node()->Swap(&nodes);
    for (int i = 0; i < count; ++i)
      if (waits[i] > 0)
        return context.error(graph.node(i), "is in, or after, a cycle of nodes");
  }

  Context &context;
  onnx::ModelProto &model;
  int version;
  unsigned unused = 0;
};

// "text ==> Context: Bad node spec for node. Name: N OpType: O"
void reportChecker(Context &context, StringRef text) {
  auto [what, where] = text.split("==> Context:");
  StringRef rest = where.split("Name: ").second;
  auto [name, op] = rest.split(" OpType: ");
  op = op.take_until([](char c) { return c == '\n' || c == ' '; });
  if (op.empty())
    return context.error(what);
  context.nodeError(op, name, what);
}

} // namespace

void onnx_import::check(Context &context, onnx::ModelProto &model) {
  int version = 0;
  bool contrib = false;
  for (const onnx::OperatorSetIdProto &opset : model.opset_import()) {
    if (isDefaultDomain(opset.domain()))
      version = static_cast<int>(opset.version());
    contrib |= opset.domain() == "com.microsoft";
  }
  if (!contrib) {
    auto *opset = model.add_opset_import();
    opset->set_domain("com.microsoft");
    opset->set_version(1);
  }
  Checker(context, model, version).run();
  if (context.errors)
    return;
  try {
    onnx::checker::check_model(model);
  } catch (const std::exception &e) {
    reportChecker(context, e.what());
  }
}
