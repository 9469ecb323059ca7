// Values of inner graphs get names of their own where another graph has the name too. ONNX lets
// sibling graphs share names, but the library's inference keeps what it knows of values by name
// alone.
#include "Context.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

using namespace moec;
using namespace moec::onnx_import;

namespace {

class Renamer {
public:
  /// `outer`: new names of values around the graph.
  void run(onnx::GraphProto &graph, const llvm::StringMap<std::string> &outer) {
    llvm::StringMap<std::string> names = outer;
    llvm::StringSet<> mine;
    auto define = [&](const std::string &name) {
      if (!name.empty() && mine.insert(name).second && !used.insert(name).second)
        names[name] = fresh(name);
    };
    for (const onnx::ValueInfoProto &input : graph.input())
      define(input.name());
    for (const onnx::TensorProto &tensor : graph.initializer())
      define(tensor.name());
    for (const onnx::NodeProto &node : graph.node())
      for (const std::string &output : node.output())
        define(output);
    if (!names.empty())
      rename(graph, names);
    for (onnx::NodeProto &node : *graph.mutable_node())
      for (onnx::AttributeProto &attribute : *node.mutable_attribute()) {
        if (attribute.has_g())
          run(*attribute.mutable_g(), names);
        for (onnx::GraphProto &inner : *attribute.mutable_graphs())
          run(inner, names);
      }
  }

private:
  llvm::StringSet<> used;

  std::string fresh(const std::string &name) {
    std::string result;
    for (unsigned i = 1; result.empty() || !used.insert(result).second; ++i)
      result = name + "." + std::to_string(i);
    return result;
  }

  static void rename(onnx::GraphProto &graph, const llvm::StringMap<std::string> &names) {
    auto apply = [&](std::string *name) {
      if (auto it = names.find(*name); it != names.end())
        *name = it->second;
    };
    for (auto *list : {graph.mutable_input(), graph.mutable_output(), graph.mutable_value_info()})
      for (onnx::ValueInfoProto &info : *list)
        apply(info.mutable_name());
    for (onnx::TensorProto &tensor : *graph.mutable_initializer())
      apply(tensor.mutable_name());
    for (onnx::NodeProto &node : *graph.mutable_node()) {
      for (std::string &input : *node.mutable_input())
        apply(&input);
      for (std::string &output : *node.mutable_output())
        apply(&output);
    }
  }
};

} // namespace

void onnx_import::nameApart(onnx::GraphProto &graph) { Renamer().run(graph, {}); }
