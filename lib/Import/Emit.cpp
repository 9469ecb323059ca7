// A normalised, checked and typed model -> the onnx dialect.
#include "Context.h"
#include "Types.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/Onnx.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "onnx/defs/schema.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace moec;
using namespace moec::onnx_import;
using llvm::StringRef;

namespace {

class Emitter {
public:
  Emitter(Context &context, const ::onnx::ModelProto &model)
      : context(context), model(model), builder(&context.mlir) {}

  OwningOpRef<ModuleOp> run();

private:
  struct Scope {
    llvm::StringMap<Value> values;
    llvm::StringMap<const ::onnx::TypeProto *> types;
  };

  Location at(StringRef name) {
    return NameLoc::get(builder.getStringAttr(printable(name)));
  }
  Operation *create(StringRef name, Location loc, ValueRange operands, TypeRange types,
                    ArrayRef<NamedAttribute> attributes = {}) {
    OperationState state(loc, name);
    state.addOperands(operands);
    state.addTypes(types);
    state.addAttributes(attributes);
    return builder.create(state);
  }
  Value none() {
    if (!noneValue) {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(&main.front());
      noneValue = create("onnx.none", builder.getUnknownLoc(), {}, builder.getNoneType())
                      ->getResult(0);
    }
    return noneValue;
  }
  Value lookup(StringRef name) {
    if (name.empty())
      return none();
    for (Scope *scope : llvm::reverse(scopes))
      if (auto it = scope->values.find(name); it != scope->values.end())
        return it->second;
    return {};
  }
  void define(const std::string &name, Value value) { scopes.back()->values[name] = value; }

  Type typeOf(const std::string &name);
  Value weight(Operation *step, StringRef name, RankedTensorType type);
  bool literalOrConstant(const ::onnx::TensorProto &tensor, const std::string &name, Location loc);
  bool weightNode(const ::onnx::NodeProto &node);
  bool constant(const ::onnx::NodeProto &node);
  bool custom(const ::onnx::NodeProto &node);
  bool standard(const ::onnx::NodeProto &node);
  bool operands(const ::onnx::NodeProto &node, SmallVectorImpl<Value> &out);
  bool results(const ::onnx::NodeProto &node, SmallVectorImpl<Type> &out);
  bool node(const ::onnx::NodeProto &node);
  bool region(const ::onnx::NodeProto &node, const ::onnx::GraphProto &graph, Region &region,
              ValueRange operands);
  bool graph(const ::onnx::GraphProto &graph, Scope &scope);
  Attribute attribute(const ::onnx::NodeProto &node, const ::onnx::AttributeProto &attribute);
  bool function();
  DictionaryAttr signatureOf(const ::onnx::ValueInfoProto &info, Type type);
  bool agrees(const ::onnx::ValueInfoProto &declared, Type type);

  Context &context;
  const ::onnx::ModelProto &model;
  OpBuilder builder;
  ModuleOp module;
  Block *weights = nullptr;
  func::FuncOp main;
  Value noneValue;
  SmallVector<Scope *> scopes;
  llvm::StringMap<unsigned> binds;
  llvm::StringSet<> oddNames;
};

// Tensors, and sequences of them.
Type valueType(const ::onnx::TypeProto &type, MLIRContext &context) {
  if (!type.has_sequence_type())
    return tensorType(type, context);
  auto element =
      dyn_cast_or_null<TensorType>(tensorType(type.sequence_type().elem_type(), context));
  return element ? moec::onnx::SequenceType::get(&context, element) : Type();
}

// The type that inference found; null when it found none.
Type Emitter::typeOf(const std::string &name) {
  for (Scope *scope : llvm::reverse(scopes))
    if (auto it = scope->types.find(name); it != scope->types.end())
      return valueType(*it->second, context.mlir);
  return {};
}

// Binds a step of the weights region and uses it here.
Value Emitter::weight(Operation *step, StringRef name, RankedTensorType type) {
  std::string symbol = printable(name);
  for (unsigned &count = binds[symbol]; count++ > 0;) {
    std::string next = (StringRef(symbol) + "." + Twine(count - 1)).str();
    if (binds.try_emplace(next, 1).second) {
      symbol = next;
      break;
    }
  }
  Location loc = at(name);
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToEnd(weights);
    create("moe.weight.bind", loc, step->getResult(0), {},
           builder.getNamedAttr("sym_name", builder.getStringAttr(symbol)));
  }
  return create(
             "moe.weight.use", loc, {}, type,
             builder.getNamedAttr("weight", FlatSymbolRefAttr::get(builder.getStringAttr(symbol))))
      ->getResult(0);
}

// Integers and tensors of a number or two (off and on) are constants, others are weights.
bool Emitter::literalOrConstant(const ::onnx::TensorProto &tensor, const std::string &name,
                                Location loc) {
  std::string why;
  DenseElementsAttr value = elementsOf(context, tensor, why);
  if (!value) {
    context.error("constant \"" + name + "\" " + why);
    return false;
  }
  auto type = cast<RankedTensorType>(value.getType());
  bool small = type.getNumElements() <= 2 || type.getElementType().isSignlessInteger() ||
               value.isSplat();
  NamedAttribute attribute = builder.getNamedAttr("value", value);
  if (small) {
    define(name, create("onnx.Constant", loc, {}, type, attribute)->getResult(0));
    return true;
  }
  OpBuilder::InsertionGuard guard(builder);
  OpBuilder inWeights = OpBuilder::atBlockEnd(weights);
  OperationState state(loc, "moe.weight.literal");
  state.addTypes(type);
  state.addAttributes(attribute);
  define(name, weight(inWeights.create(state), name, type));
  return true;
}

bool Emitter::weightNode(const ::onnx::NodeProto &node) {
  const std::string &name = node.output(0);
  auto type = dyn_cast_or_null<RankedTensorType>(typeOf(name));
  size_t index = context.sources.size();
  for (const ::onnx::AttributeProto &attribute : node.attribute())
    if (attribute.name() == "source")
      index = static_cast<size_t>(attribute.i());
  if (!type || index >= context.sources.size()) {
    context.error("weight \"" + name + "\" was lost");
    return false;
  }
  const TensorSource &source = context.sources[index];
  OpBuilder inWeights = OpBuilder::atBlockEnd(weights);
  OperationState state(at(name), "moe.weight.load");
  state.addTypes(type);
  if (source.kind == TensorSource::Kind::typed || source.kind == TensorSource::Kind::nothing) {
    DenseElementsAttr value;
    std::string bytes, why = "has data that does not fit its type and shape";
    int32_t code = elementCode(type.getElementType());
    if (decodeTyped(source, code, static_cast<uint64_t>(type.getNumElements()), bytes))
      value = elementsOf(type, bytes);
    if (!value) {
      context.error("initializer \"" + name + "\" " + why);
      return false;
    }
    state.name = OperationName("moe.weight.literal", &context.mlir);
    state.addAttribute("value", value);
  } else {
    bool external = source.kind == TensorSource::Kind::external;
    state.addAttribute("file", builder.getStringAttr(external ? source.location : context.file));
    state.addAttribute("offset", builder.getI64IntegerAttr(static_cast<int64_t>(source.offset)));
  }
  define(name, weight(inWeights.create(state), name, type));
  return true;
}

// All forms of Constant become the one with a tensor.
bool Emitter::constant(const ::onnx::NodeProto &node) {
  for (const ::onnx::AttributeProto &a : node.attribute()) {
    ::onnx::TensorProto tensor;
    if (a.name() == "value") {
      tensor = a.t();
    } else if (a.name() == "value_int" || a.name() == "value_ints") {
      tensor.set_data_type(::onnx::TensorProto::INT64);
      for (int64_t v : a.ints())
        tensor.add_int64_data(v);
      if (a.name() == "value_int")
        tensor.add_int64_data(a.i());
      else
        tensor.add_dims(a.ints_size());
    } else if (a.name() == "value_float" || a.name() == "value_floats") {
      tensor.set_data_type(::onnx::TensorProto::FLOAT);
      for (float v : a.floats())
        tensor.add_float_data(v);
      if (a.name() == "value_float")
        tensor.add_float_data(a.f());
      else
        tensor.add_dims(a.floats_size());
    } else {
      break;
    }
    return literalOrConstant(tensor, node.output(0), at(node.name()));
  }
  context.error(node, "is unsupported: it holds neither a tensor nor numbers");
  return false;
}

Attribute Emitter::attribute(const ::onnx::NodeProto &node, const ::onnx::AttributeProto &a) {
  using Proto = ::onnx::AttributeProto;
  std::string why;
  if (!a.ref_attr_name().empty()) {
    context.error(node, "attribute \"" + a.name() + "\" refers to one of a function");
    return {};
  }
  switch (a.type()) {
  case Proto::INT:
    return builder.getI64IntegerAttr(a.i());
  case Proto::FLOAT:
    return builder.getF32FloatAttr(a.f());
  case Proto::STRING:
    return builder.getStringAttr(a.s());
  case Proto::INTS:
    return builder.getDenseI64ArrayAttr({a.ints().data(), static_cast<size_t>(a.ints_size())});
  case Proto::FLOATS:
    return builder.getDenseF32ArrayAttr({a.floats().data(), static_cast<size_t>(a.floats_size())});
  case Proto::STRINGS: {
    SmallVector<Attribute> strings;
    for (const std::string &s : a.strings())
      strings.push_back(builder.getStringAttr(s));
    return builder.getArrayAttr(strings);
  }
  case Proto::TENSOR:
    if (DenseElementsAttr value = elementsOf(context, a.t(), why))
      return value;
    break;
  case Proto::TENSORS: {
    SmallVector<Attribute> tensors;
    for (const ::onnx::TensorProto &t : a.tensors()) {
      DenseElementsAttr value = elementsOf(context, t, why);
      if (!value)
        break;
      tensors.push_back(value);
    }
    if (tensors.size() == static_cast<size_t>(a.tensors_size()))
      return builder.getArrayAttr(tensors);
    break;
  }
  case Proto::TYPE_PROTO:
    if (Type type = tensorType(a.tp(), context.mlir))
      return TypeAttr::get(type);
    why = "is an unsupported type";
    break;
  default:
    why = "is of an unsupported kind";
  }
  context.error(node, "attribute \"" + a.name() + "\" " + why);
  return {};
}

bool Emitter::operands(const ::onnx::NodeProto &node, SmallVectorImpl<Value> &out) {
  for (const std::string &input : node.input()) {
    Value value = lookup(input);
    if (!value) {
      context.error(node, "input \"" + brief(input) + "\" is not defined");
      return false;
    }
    out.push_back(value);
  }
  return true;
}

bool Emitter::results(const ::onnx::NodeProto &node, SmallVectorImpl<Type> &out) {
  for (const std::string &output : node.output()) {
    Type type = output.empty() ? Type(builder.getNoneType()) : typeOf(output);
    if (!type) {
      context.error(node, "is unsupported: nothing says the type of its output \"" + brief(output) +
                              "\"");
      return false;
    }
    auto ranked = dyn_cast<RankedTensorType>(type);
    if (ranked && !isReasonable(ranked)) {
      context.error(node, "is unsupported: its output \"" + brief(output) +
                              "\" has more than 2^48 elements");
      return false;
    }
    out.push_back(type);
  }
  return true;
}

bool Emitter::custom(const ::onnx::NodeProto &node) {
  SmallVector<Value> inputs;
  SmallVector<Type> types;
  if (!operands(node, inputs) || !results(node, types))
    return false;
  SmallVector<NamedAttribute> attributes;
  for (const ::onnx::AttributeProto &a : node.attribute()) {
    if (a.name() == kGuessAttribute || a.name().empty())
      continue;
    Attribute value = attribute(node, a);
    if (!value)
      return false;
    attributes.push_back(builder.getNamedAttr(a.name(), value));
  }
  // The default domain's name for what ONNX Runtime registers there.
  bool hidden = node.op_type() == "SimplifiedLayerNormalization";
  SmallVector<NamedAttribute> all = {
      builder.getNamedAttr("domain", builder.getStringAttr(hidden ? "" : node.domain())),
      builder.getNamedAttr("op_type", builder.getStringAttr(node.op_type()))};
  if (!attributes.empty())
    all.push_back(builder.getNamedAttr("attributes", builder.getDictionaryAttr(attributes)));
  Operation *op = create("onnx.custom", at(node.name()), inputs, types, all);
  for (auto [name, value] : llvm::zip(node.output(), op->getResults()))
    define(name, value);
  return true;
}

bool Emitter::standard(const ::onnx::NodeProto &node) {
  const ::onnx::OpSchema *schema = ::onnx::OpSchemaRegistry::Schema(
      node.op_type(), moec::onnx::OnnxDialect::kOpset, ::onnx::ONNX_DOMAIN);
  std::string name = "onnx." + node.op_type();
  if (!schema || !RegisteredOperationName::lookup(name, &context.mlir)) {
    context.error(node, "is an unsupported operator");
    return false;
  }
  SmallVector<Value> inputs;
  SmallVector<Type> types;
  if (!operands(node, inputs) || !results(node, types))
    return false;
  // Every input and output that the schema has is there.
  auto fixed = [](const auto &formals) {
    size_t count = formals.size();
    return count && formals.back().GetOption() == ::onnx::OpSchema::Variadic ? count - 1 : count;
  };
  while (inputs.size() < fixed(schema->inputs()))
    inputs.push_back(none());
  while (types.size() < fixed(schema->outputs()))
    types.push_back(builder.getNoneType());
  OperationState state(at(node.name()), name);
  state.addOperands(inputs);
  state.addTypes(types);
  llvm::StringMap<const ::onnx::GraphProto *> graphs;
  for (const ::onnx::AttributeProto &a : node.attribute()) {
    if (a.type() == ::onnx::AttributeProto::GRAPH) {
      graphs[a.name()] = &a.g();
      continue;
    }
    if (!schema->attributes().count(a.name()))
      continue; // internal attributes, which begin with two underscores
    Attribute value = attribute(node, a);
    if (!value)
      return false;
    state.addAttribute(a.name(), value);
  }
  SmallVector<StringRef> order;
  if (node.op_type() == "If")
    order = {"then_branch", "else_branch"};
  else if (!graphs.empty())
    order = {"body"};
  for (StringRef key : order) {
    const ::onnx::GraphProto *body = graphs.lookup(key);
    Region *inner = state.addRegion();
    if (!body || graphs.size() != order.size()) {
      context.error(node, "has other graphs than its operator");
      return false;
    }
    if (!region(node, *body, *inner, inputs))
      return false;
  }
  Operation *op = builder.create(state);
  for (auto [output, value] : llvm::zip(node.output(), op->getResults()))
    if (!output.empty())
      define(output, value);
  return true;
}

bool Emitter::region(const ::onnx::NodeProto &node, const ::onnx::GraphProto &graph,
                     Region &region, ValueRange operands) {
  OpBuilder::InsertionGuard guard(builder);
  Block *block = builder.createBlock(&region);
  Scope scope;
  scopes.push_back(&scope);
  llvm::scope_exit pop([&] { scopes.pop_back(); });
  for (auto [i, input] : llvm::enumerate(graph.input())) {
    Type type = valueType(input.type(), context.mlir);
    // Without a type of its own it has that of the operand, whose shape may change from step to
    // step.
    if (!type && i < operands.size()) {
      if (auto given = dyn_cast<TensorType>(operands[i].getType()))
        type = UnrankedTensorType::get(given.getElementType());
      else if (auto list = dyn_cast<moec::onnx::SequenceType>(operands[i].getType()))
        type = moec::onnx::SequenceType::get(
            &context.mlir, UnrankedTensorType::get(list.getElementType().getElementType()));
    }
    if (!type) {
      context.error(node, "is unsupported: nothing says the type of input \"" + input.name() +
                              "\" of its graph");
      return false;
    }
    define(input.name(), block->addArgument(type, at(input.name())));
  }
  if (!this->graph(graph, scope))
    return false;
  SmallVector<Value> yielded;
  for (const ::onnx::ValueInfoProto &output : graph.output()) {
    Value value = lookup(output.name());
    if (!value) {
      context.error(node, "output \"" + brief(output.name()) + "\" of its graph is not defined");
      return false;
    }
    yielded.push_back(value);
  }
  create("onnx.yield", at(node.name()), yielded, {});
  return true;
}

bool Emitter::node(const ::onnx::NodeProto &node) {
  if (node.domain() == kWeightDomain)
    return weightNode(node);
  if (!node.domain().empty())
    return custom(node);
  if (node.op_type() == "Constant")
    return constant(node);
  return standard(node);
}

bool Emitter::graph(const ::onnx::GraphProto &graph, Scope &scope) {
  // Last, because exact: the declared types of weights, which may be outputs too.
  for (const auto *list : {&graph.input(), &graph.output(), &graph.value_info()})
    for (const ::onnx::ValueInfoProto &info : *list)
      if (info.type().has_tensor_type() || info.type().has_sequence_type())
        scope.types[info.name()] = &info.type();
  for (const ::onnx::TensorProto &tensor : graph.initializer())
    if (!literalOrConstant(tensor, tensor.name(), at(tensor.name())))
      return false;
  for (const ::onnx::NodeProto &next : graph.node())
    if (!node(next))
      return false;
  return true;
}

// Name, and a symbol (or "") for each dimension. Names that are not printable as they are stay
// different from each other; equal symbols mean equal sizes, so such a symbol is given up.
DictionaryAttr Emitter::signatureOf(const ::onnx::ValueInfoProto &info, Type type) {
  std::string name = printable(info.name());
  while (name != info.name() && !oddNames.insert(name).second)
    name += "?";
  SmallVector<Attribute> dims;
  if (auto ranked = dyn_cast<RankedTensorType>(type))
    for (int64_t i = 0; i < ranked.getRank(); ++i) {
      StringRef symbol;
      if (ranked.isDynamicDim(i) && i < info.type().tensor_type().shape().dim_size())
        symbol = info.type().tensor_type().shape().dim(i).dim_param();
      dims.push_back(builder.getStringAttr(printable(symbol) == symbol ? symbol : StringRef()));
    }
  return builder.getDictionaryAttr(
      {builder.getNamedAttr("onnx.name", builder.getStringAttr(name)),
       builder.getNamedAttr("onnx.dims", builder.getArrayAttr(dims))});
}

// Whether a declared output can be what was inferred.
bool Emitter::agrees(const ::onnx::ValueInfoProto &declared, Type type) {
  auto said = dyn_cast_or_null<RankedTensorType>(tensorType(declared.type(), context.mlir));
  auto found = dyn_cast<RankedTensorType>(type);
  if (!said || !found ||
      (said.getRank() == found.getRank() && succeeded(verifyCompatibleShape(said, found))))
    return true;
  std::string text;
  llvm::raw_string_ostream(text) << "output \"" << declared.name() << "\" is declared as " << said
                                 << " but computed as " << found;
  context.error(text);
  return false;
}

bool Emitter::function() {
  const ::onnx::GraphProto &graph = model.graph();
  SmallVector<Type> inputs, outputs;
  for (const ::onnx::ValueInfoProto &input : graph.input())
    inputs.push_back(tensorType(input.type(), context.mlir));
  main = func::FuncOp::create(builder, at(graph.name()), "main",
                              builder.getFunctionType(inputs, {}));
  Block *block = main.addEntryBlock();
  builder.setInsertionPointToEnd(block);
  Scope scope;
  scopes.push_back(&scope);
  llvm::scope_exit pop([&] { scopes.pop_back(); });
  for (auto [i, input] : llvm::enumerate(graph.input())) {
    define(input.name(), block->getArgument(i));
    block->getArgument(i).setLoc(at(input.name()));
    main.setArgAttrs(i, signatureOf(input, inputs[i]));
  }
  if (!this->graph(graph, scope))
    return false;
  SmallVector<Value> returned;
  SmallVector<DictionaryAttr> attributes;
  for (const ::onnx::ValueInfoProto &output : context.outputs) {
    Value value = lookup(output.name());
    if (!value || !isa<TensorType>(value.getType())) {
      context.error("output \"" + brief(output.name()) + "\" is not defined");
      return false;
    }
    if (!agrees(output, value.getType()))
      return false;
    returned.push_back(value);
    outputs.push_back(value.getType());
    attributes.push_back(signatureOf(output, value.getType()));
  }
  func::ReturnOp::create(builder, builder.getUnknownLoc(), returned);
  main.setType(builder.getFunctionType(inputs, outputs));
  for (auto [i, attribute] : llvm::enumerate(attributes))
    main.setResultAttrs(i, attribute);
  return true;
}

OwningOpRef<ModuleOp> Emitter::run() {
  OwningOpRef<ModuleOp> result = ModuleOp::create(builder.getUnknownLoc());
  module = *result;
  builder.setInsertionPointToEnd(module.getBody());
  OperationState state(builder.getUnknownLoc(), "moe.weights");
  state.addAttribute("sym_name", builder.getStringAttr("weights"));
  weights = &state.addRegion()->emplaceBlock();
  builder.create(state);
  return function() && !context.errors ? std::move(result) : nullptr;
}

} // namespace

OwningOpRef<ModuleOp> onnx_import::emit(Context &context, const ::onnx::ModelProto &model) {
  return Emitter(context, model).run();
}
