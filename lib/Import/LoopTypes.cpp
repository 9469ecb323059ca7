#include "LoopTypes.h"

using namespace moec;
using namespace moec::onnx_import;

namespace {

using Types = llvm::StringMap<const onnx::TypeProto *>;

void addTypes(const onnx::GraphProto &graph, Types &types) {
  for (const auto *list : {&graph.value_info(), &graph.input(), &graph.output()})
    for (const onnx::ValueInfoProto &info : *list)
      types[info.name()] = &info.type();
}

const onnx::GraphProto *bodyOf(const onnx::NodeProto &node) {
  if (node.op_type() == "Loop" && node.domain().empty())
    for (const onnx::AttributeProto &attribute : node.attribute())
      if (attribute.name() == "body" && attribute.has_g())
        return &attribute.g();
  return nullptr;
}

// Results of a Loop that are carried values: as many as there are inputs after M and cond.
int carriedCount(const onnx::NodeProto &node, const onnx::GraphProto &body) {
  int count = std::min(node.input_size(), body.input_size()) - 2;
  return std::max(0, std::min({count, node.output_size(), body.output_size() - 1}));
}

bool hasShape(const onnx::TypeProto *type) {
  return type && type->has_tensor_type() && type->tensor_type().has_shape();
}

// The static dimensions of `from`, or only their number.
void copyShape(const onnx::TypeProto &from, Keeps keeps, onnx::TypeProto &to) {
  onnx::TensorShapeProto shape;
  for (const auto &dim : from.tensor_type().shape().dim()) {
    auto *next = shape.add_dim();
    if (keeps == Keeps::shape && dim.has_dim_value())
      next->set_dim_value(dim.dim_value());
  }
  *to.mutable_tensor_type()->mutable_shape() = shape;
}

bool assume(onnx::GraphProto &graph, Types outer, Carried &carried) {
  addTypes(graph, outer);
  llvm::StringMap<onnx::ValueInfoProto *> infos;
  for (auto *list : {graph.mutable_value_info(), graph.mutable_output()})
    for (onnx::ValueInfoProto &info : *list)
      infos[info.name()] = &info;
  bool any = false;
  for (onnx::NodeProto &node : *graph.mutable_node()) {
    if (const onnx::GraphProto *found = bodyOf(node)) {
      auto *body = const_cast<onnx::GraphProto *>(found);
      for (int i = 0, n = carriedCount(node, *body); i < n; ++i) {
        const onnx::TypeProto *first = outer.lookup(node.input(i + 2));
        onnx::ValueInfoProto *result = infos.lookup(node.output(i));
        auto known = carried.try_emplace(node.output(i), Keeps::shape).first;
        if (!hasShape(first) || !result || !result->type().has_tensor_type() ||
            hasShape(&result->type()) || known->second == Keeps::nothing)
          continue;
        copyShape(*first, known->second, *body->mutable_input(i + 2)->mutable_type());
        copyShape(*first, known->second, *result->mutable_type());
        any = true;
      }
    }
    for (onnx::AttributeProto &attribute : *node.mutable_attribute())
      if (attribute.has_g())
        any |= assume(*attribute.mutable_g(), outer, carried);
  }
  return any;
}

// Whether a value of type `found` is of the assumed type.
bool keepsTo(const onnx::TypeProto &assumed, const onnx::TypeProto &found) {
  if (!hasShape(&found))
    return false;
  const auto &a = assumed.tensor_type().shape(), &f = found.tensor_type().shape();
  if (a.dim_size() != f.dim_size())
    return false;
  for (int i = 0; i < a.dim_size(); ++i)
    if (a.dim(i).has_dim_value() &&
        (!f.dim(i).has_dim_value() || f.dim(i).dim_value() != a.dim(i).dim_value()))
      return false;
  return true;
}

} // namespace

void onnx_import::stripInnerShapes(onnx::GraphProto &graph) {
  forEachGraph(graph, [&](onnx::GraphProto &inner) {
    if (&inner == &graph)
      return;
    for (auto *list : {inner.mutable_input(), inner.mutable_output()})
      for (onnx::ValueInfoProto &info : *list)
        if (info.type().has_tensor_type())
          info.mutable_type()->mutable_tensor_type()->clear_shape();
  });
  // The number of the step is a scalar; so is the condition when no first one is given.
  forEachGraph(graph, [&](onnx::GraphProto &inner) {
    for (onnx::NodeProto &node : *inner.mutable_node()) {
      auto *body = const_cast<onnx::GraphProto *>(bodyOf(node));
      for (int i = 0; body && i < std::min(2, body->input_size()); ++i)
        if (i == 0 || (node.input_size() > 1 && node.input(1).empty()))
          body->mutable_input(i)->mutable_type()->mutable_tensor_type()->mutable_shape();
    }
  });
}

bool onnx_import::assumeCarried(onnx::GraphProto &graph, Carried &carried) {
  return assume(graph, {}, carried);
}

bool onnx_import::verifyCarried(const onnx::GraphProto &graph, Carried &carried) {
  bool all = true;
  forEachGraph(const_cast<onnx::GraphProto &>(graph), [&](onnx::GraphProto &inner) {
    for (const onnx::NodeProto &node : inner.node()) {
      const onnx::GraphProto *body = bodyOf(node);
      for (int i = 0, n = body ? carriedCount(node, *body) : 0; i < n; ++i) {
        const onnx::TypeProto &assumed = body->input(i + 2).type();
        auto known = carried.find(node.output(i));
        if (known == carried.end() || known->second == Keeps::nothing || !hasShape(&assumed) ||
            keepsTo(assumed, body->output(i + 1).type()))
          continue;
        known->second = known->second == Keeps::shape ? Keeps::rank : Keeps::nothing;
        all = false;
      }
    }
  });
  return all;
}
