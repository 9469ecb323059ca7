// Brings a model to one form: no functions, a name on every node, and a node in place of each
// tensor that was left out of the message.
#include "Context.h"
#include "Contrib.h"

#include "onnx/inliner/inliner.h"
#include "onnx/defs/schema.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

using namespace moec;
using namespace moec::onnx_import;
using llvm::StringRef;

namespace {

// Functions that call functions can stand for far more nodes than the file has.
constexpr uint64_t kMaxNodes = 4'000'000;
constexpr unsigned kMaxCalls = 200;
// Tensors in attributes of other operators are small, or else not handled.
constexpr uint64_t kMaxAttribute = 1 << 20;

template <typename Nodes, typename Visit> void forEachNode(Nodes &nodes, const Visit &visit) {
  for (onnx::NodeProto &node : nodes) {
    visit(node);
    for (onnx::AttributeProto &attribute : *node.mutable_attribute()) {
      if (attribute.has_g())
        forEachNode(*attribute.mutable_g()->mutable_node(), visit);
      for (onnx::GraphProto &inner : *attribute.mutable_graphs())
        forEachNode(*inner.mutable_node(), visit);
    }
  }
}

void addInt(onnx::NodeProto &node, StringRef name, int64_t value) {
  onnx::AttributeProto *attribute = node.add_attribute();
  attribute->set_name(name.str());
  attribute->set_type(onnx::AttributeProto::INT);
  attribute->set_i(value);
}

class Normaliser {
public:
  Normaliser(Context &context, onnx::ModelProto &model) : context(context), model(model) {}

  void run() {
    names();
    if (!context.errors && model.functions_size() > 0)
      functions();
    if (context.errors)
      return;
    optionals();
    nameApart(*model.mutable_graph());
    forEachGraph(*model.mutable_graph(), [&](onnx::GraphProto &graph) { weights(graph); });
    constantInputs();
  }

private:
  void names() {
    auto tidy = [&](onnx::NodeProto &node) {
      if (node.domain() == "ai.onnx")
        node.clear_domain();
      if (node.domain() == kWeightDomain)
        context.error(node, "uses the domain " + StringRef(kWeightDomain) +
                                ", which is unsupported in models");
      // The library's graphs use these names for something else.
      if (node.op_type() == "Undefined" || node.op_type() == "Captured")
        context.error(node, "is an unsupported operator");
      if (node.name().empty())
        node.set_name(node.op_type() + "_" + std::to_string(counts[node.op_type()]++));
      node.set_name(printable(node.name()));
      defaults(node);
    };
    forEachNode(*model.mutable_graph()->mutable_node(), tidy);
    for (onnx::FunctionProto &function : *model.mutable_functions())
      forEachNode(*function.mutable_node(), tidy);
    if (model.graph().name().empty())
      model.mutable_graph()->set_name("main");
  }

  // Operators whose shapes the library infers from their bodies: there, an attribute that is left
  // out has no value, so the default is written down.
  static void defaults(onnx::NodeProto &node) {
    const auto *schema = node.domain().empty()
                             ? onnx::OpSchemaRegistry::Schema(node.op_type(), node.domain())
                             : nullptr;
    if (!schema || !schema->HasFunction() || schema->has_type_and_shape_inference_function())
      return;
    for (const auto &[name, attribute] : schema->attributes()) {
      bool given = llvm::any_of(node.attribute(), [&, &name = name](const auto &a) {
        return a.name() == name;
      });
      if (!given && attribute.default_value.has_name()) {
        *node.add_attribute() = attribute.default_value;
        node.mutable_attribute()->rbegin()->set_name(name);
      }
    }
  }

  static std::string keyOf(std::string domain, const std::string &name, const std::string &overload) {
    return (domain == "ai.onnx" ? "" : domain) + ":" + name + ":" + overload;
  }

  // Nodes that some nodes stand for when everything is inlined; errors for functions that call
  // themselves, or each other too deep. `known`: nothing while a function is being counted.
  template <typename Nodes>
  uint64_t expanded(Nodes &nodes, llvm::StringMap<std::optional<uint64_t>> &known,
                    const llvm::StringMap<onnx::FunctionProto *> &functions, unsigned depth = 0) {
    uint64_t total = 0;
    forEachNode(nodes, [&](onnx::NodeProto &node) {
      std::string callee = keyOf(node.domain(), node.op_type(), node.overload());
      onnx::FunctionProto *function = functions.lookup(callee);
      if (!function)
        ++total;
      if (!function || context.errors)
        return;
      auto [it, fresh] = known.try_emplace(callee);
      if (!fresh && !it->second)
        return context.error("function \"" + brief(node.op_type()) + "\" calls itself");
      if (depth >= kMaxCalls)
        return context.error("unsupported: functions call each other more than " +
                             llvm::Twine(kMaxCalls) + " deep");
      if (fresh) {
        uint64_t count = expanded(*function->mutable_node(), known, functions, depth + 1);
        known[callee] = count;
      }
      total = std::min(total + known[callee].value_or(0), kMaxNodes + 1);
    });
    return total;
  }

  void functions() {
    llvm::StringMap<onnx::FunctionProto *> byName;
    google::protobuf::RepeatedPtrField<onnx::NodeProto> calls; // of those, too, that nothing calls
    for (onnx::FunctionProto &function : *model.mutable_functions()) {
      byName[keyOf(function.domain(), function.name(), function.overload())] = &function;
      onnx::NodeProto &call = *calls.Add();
      call.set_domain(function.domain());
      call.set_op_type(function.name());
      call.set_overload(function.overload());
    }
    llvm::StringMap<std::optional<uint64_t>> known;
    expanded(calls, known, byName);
    uint64_t total = expanded(*model.mutable_graph()->mutable_node(), known, byName);
    if (context.errors)
      return;
    if (total > kMaxNodes)
      return context.error("unsupported: functions expand to more than " + llvm::Twine(kMaxNodes) +
                           " nodes");
    try {
      onnx::inliner::InlineLocalFunctions(model, /*convert_version=*/true);
    } catch (const std::exception &e) {
      return context.error(llvm::Twine("functions: ") + e.what());
    }
    model.clear_functions();
    names();
  }

  // Optional values that are there are the values themselves. Empty ones stay, and are refused.
  void optionals() {
    forEachNode(*model.mutable_graph()->mutable_node(), [](onnx::NodeProto &node) {
      bool given = node.input_size() == 1 && !node.input(0).empty();
      if (!node.domain().empty())
        return;
      if (given && (node.op_type() == "Optional" || node.op_type() == "OptionalGetElement")) {
        node.set_op_type("Identity");
        node.clear_attribute();
      } else if (node.op_type() == "OptionalHasElement") {
        node.set_op_type("Constant");
        node.clear_input();
        onnx::AttributeProto *value = node.add_attribute();
        value->set_name("value");
        value->set_type(onnx::AttributeProto::TENSOR);
        value->mutable_t()->set_data_type(onnx::TensorProto::BOOL);
        value->mutable_t()->add_int32_data(given);
      }
    });
  }

  // A node without inputs whose output has the tensor's type.
  void becomeWeight(onnx::NodeProto &node, const onnx::TensorProto &tensor,
                    onnx::GraphProto &graph) {
    int64_t index = context.sourceOf(tensor) - context.sources.data();
    node.clear_attribute();
    node.set_op_type(kWeightOp.str());
    node.set_domain(kWeightDomain.str());
    addInt(node, "source", index);
    addInt(node, "type", tensor.data_type());
    onnx::AttributeProto *dims = node.add_attribute();
    dims->set_name("dims");
    dims->set_type(onnx::AttributeProto::INTS);
    *dims->mutable_ints() = tensor.dims();
    declareWeight(node, graph);
  }

  bool readBack(onnx::TensorProto &tensor, std::string &why) {
    std::optional<std::string> bytes = readElements(context, tensor, why);
    if (!bytes)
      return false;
    tensor.clear_external_data();
    tensor.clear_data_location();
    tensor.clear_float_data();
    if (!bytes->empty())
      tensor.set_raw_data(*bytes);
    return true;
  }

  // Whether a tensor that was left out is small enough, and of a kind, to be wanted in the graph.
  static bool wanted(const onnx::TensorProto &tensor, uint64_t count) {
    int32_t type = tensor.data_type();
    bool index = type == onnx::TensorProto::INT32 || type == onnx::TensorProto::INT64 ||
                 type == onnx::TensorProto::BOOL;
    uint64_t bytes = count * elementBits(type) / 8;
    return count <= 1 || (index && bytes <= (tensor.dims_size() <= 1 ? 64 << 10 : 1024));
  }

  // Equal elements (zeros that results are added to) are one number for the passes to see.
  bool uniform(const onnx::TensorProto &tensor, uint64_t count) {
    size_t width = elementBits(tensor.data_type()) / 8;
    std::string why;
    if (width == 0 || count < 2 || count * width > 64 << 10)
      return false;
    std::optional<std::string> bytes = readElements(context, tensor, why);
    return bytes && std::equal(bytes->begin() + width, bytes->end(), bytes->begin());
  }

  // Names whose values shape inference or the passes need although they are floats.
  static llvm::StringSet<> shapeFloats(const onnx::GraphProto &graph) {
    llvm::StringSet<> names;
    for (const onnx::NodeProto &node : graph.node())
      if (node.op_type() == "Resize" || node.op_type() == "Upsample")
        for (int i = 1; i < node.input_size(); ++i)
          names.insert(node.input(i));
      else if (node.op_type() == "OneHot" && node.input_size() > 2)
        names.insert(node.input(2)); // off and on
    return names;
  }

  // Decides what becomes of one tensor: true when it is to be a weight.
  bool examine(onnx::TensorProto &tensor, const std::string &what, bool needed) {
    std::string why;
    const TensorSource *source = context.sourceOf(tensor);
    std::optional<uint64_t> count = elementCount(tensor, why);
    bool good = count.has_value();
    if (good && source && !needed && !wanted(tensor, *count) && !uniform(tensor, *count)) {
      if (checkSource(context, tensor, *source, why))
        return true;
      good = false;
    } else if (good && source) {
      good = readBack(tensor, why);
    } else if (good) {
      good = readElements(context, tensor, why).has_value();
    }
    if (good)
      return false;
    // A file that is missing or cut off fails every initializer in it: one line says so.
    bool inFile = source && source->kind == TensorSource::Kind::external;
    if (inFile && !context.faultyFiles.insert(source->location).second)
      ++context.errors;
    else
      context.error(what + " " + why);
    return false;
  }

  void weights(onnx::GraphProto &graph) {
    graph.clear_quantization_annotation();
    llvm::StringSet<> needed = shapeFloats(graph);
    std::vector<onnx::NodeProto> fresh;
    google::protobuf::RepeatedPtrField<onnx::TensorProto> kept;
    google::protobuf::RepeatedPtrField<onnx::ValueInfoProto> none;
    declared.Add()->mutable_value_info()->Swap(graph.mutable_value_info());
    for (onnx::TensorProto &tensor : *graph.mutable_initializer()) {
      std::string what = "initializer \"" + brief(tensor.name()) + "\"";
      if (tensor.name().empty()) {
        context.error("an initializer has no name");
        continue;
      }
      if (!examine(tensor, what, needed.contains(tensor.name()))) {
        kept.Add()->Swap(&tensor);
        continue;
      }
      onnx::NodeProto &node = fresh.emplace_back();
      node.set_name(printable(tensor.name()));
      node.add_output(tensor.name());
      becomeWeight(node, tensor, graph);
    }
    graph.mutable_initializer()->Swap(&kept);
    for (onnx::NodeProto &node : *graph.mutable_node())
      attributes(node, graph, needed);
    // In front of the other nodes.
    google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
    nodes.Reserve(static_cast<int>(fresh.size()) + graph.node_size());
    for (onnx::NodeProto &node : fresh)
      nodes.Add()->Swap(&node);
    for (onnx::NodeProto &node : *graph.mutable_node())
      nodes.Add()->Swap(&node);
    graph.mutable_node()->Swap(&nodes);
    if (&graph == model.mutable_graph())
      ranks(graph);
    restoreDeclared(graph);
  }

  // Declared ranks serve where inference finds none.
  void ranks(const onnx::GraphProto &graph) {
    auto note = [&](const onnx::ValueInfoProto &info) {
      if (info.type().has_tensor_type() && info.type().tensor_type().has_shape())
        context.ranks[info.name()] = info.type().tensor_type().shape().dim_size();
    };
    for (const onnx::ValueInfoProto &info : declared.rbegin()->value_info())
      note(info);
    for (const onnx::ValueInfoProto &info : graph.output())
      note(info);
  }

  void attributes(onnx::NodeProto &node, onnx::GraphProto &graph,
                  const llvm::StringSet<> &needed) {
    for (onnx::AttributeProto &attribute : *node.mutable_attribute()) {
      std::vector<onnx::TensorProto *> tensors;
      if (attribute.has_t())
        tensors.push_back(attribute.mutable_t());
      for (onnx::TensorProto &tensor : *attribute.mutable_tensors())
        tensors.push_back(&tensor);
      for (onnx::TensorProto *tensor : tensors) {
        bool constant = node.op_type() == "Constant" && node.domain().empty() &&
                        attribute.name() == "value" && node.output_size() == 1;
        std::string why;
        std::optional<uint64_t> count = elementCount(*tensor, why);
        bool small = count && *count * elementBits(tensor->data_type()) / 8 <= kMaxAttribute;
        if (constant) {
          if (examine(*tensor, "node \"" + node.name() + "\" (Constant): its value",
                      needed.contains(node.output(0))))
            return becomeWeight(node, onnx::TensorProto(*tensor), graph);
        } else if (count && !small) {
          context.error(node, "has an unsupported tensor of more than 1 MiB in \"" +
                                  attribute.name() + "\"");
        } else if (!count || !readBackOrCheck(*tensor, why)) {
          context.error(node, "the tensor in \"" + attribute.name() + "\" " + why);
        }
      }
    }
  }

  bool readBackOrCheck(onnx::TensorProto &tensor, std::string &why) {
    return context.sourceOf(tensor) ? readBack(tensor, why)
                                    : readElements(context, tensor, why).has_value();
  }

  // The version of a domain that the file asks for.
  int64_t versionOf(const std::string &domain) const {
    for (const onnx::OperatorSetIdProto &opset : model.opset_import())
      if (opset.domain() == domain)
        return opset.version();
    return 1;
  }

  // What the file says about intermediate values may be stale or wrong, so shapes are inferred
  // anew. Only for operators that nobody knows the file's word is taken.
  void restoreDeclared(onnx::GraphProto &graph) {
    llvm::StringMap<const onnx::ValueInfoProto *> byName;
    for (const onnx::ValueInfoProto &info : declared.rbegin()->value_info())
      byName[info.name()] = &info;
    for (onnx::NodeProto &node : *graph.mutable_node()) {
      if (node.domain().empty() || node.domain() == kWeightDomain ||
          isInferred(node.domain(), node.op_type(), versionOf(node.domain())))
        continue;
      bool all = true;
      for (const std::string &output : node.output()) {
        const onnx::ValueInfoProto *info = byName.lookup(output);
        bool known = info && info->type().has_tensor_type() &&
                     info->type().tensor_type().elem_type() != 0;
        all &= known || output.empty();
        if (known)
          *graph.add_value_info() = *info;
      }
      // An operator that ONNX has may not have an attribute of ours.
      if (!all && node.input_size() > 0 &&
          !onnx::OpSchemaRegistry::Instance()->GetSchema(node.op_type(), INT_MAX, node.domain()))
        addInt(node, kGuessAttribute, 1);
    }
  }

  // An input that also has an initializer is a constant (its value could be overridden at run
  // time; compiled code does not offer that).
  void constantInputs() {
    llvm::StringSet<> constant;
    onnx::GraphProto &graph = *model.mutable_graph();
    for (const onnx::TensorProto &tensor : graph.initializer())
      constant.insert(tensor.name());
    for (const onnx::NodeProto &node : graph.node())
      if (node.domain() == kWeightDomain)
        constant.insert(node.output(0));
    google::protobuf::RepeatedPtrField<onnx::ValueInfoProto> inputs;
    for (onnx::ValueInfoProto &input : *graph.mutable_input())
      if (!constant.contains(input.name()))
        inputs.Add()->Swap(&input);
    graph.mutable_input()->Swap(&inputs);
  }

  Context &context;
  onnx::ModelProto &model;
  google::protobuf::RepeatedPtrField<onnx::GraphProto> declared;
  llvm::StringMap<unsigned> counts;
};

} // namespace

void onnx_import::declareWeight(const onnx::NodeProto &node, onnx::GraphProto &graph) {
  onnx::ValueInfoProto *info = graph.add_value_info();
  info->set_name(node.output(0));
  auto *type = info->mutable_type()->mutable_tensor_type();
  for (const onnx::AttributeProto &attribute : node.attribute()) {
    if (attribute.name() == "type")
      type->set_elem_type(static_cast<int32_t>(attribute.i()));
    if (attribute.name() == "dims")
      for (int64_t dim : attribute.ints())
        type->mutable_shape()->add_dim()->set_dim_value(dim);
  }
  type->mutable_shape();
}

void onnx_import::normalise(Context &context, onnx::ModelProto &model) {
  Normaliser(context, model).run();
  auto *opset = model.add_opset_import();
  opset->set_domain(kWeightDomain.str());
  opset->set_version(1);
}
