#include "Writer.h"

#include "Build.h"
#include "Opset.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/OnnxDialect.h"
#include "moec/Weights/Weights.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "onnx/defs/schema.h"

#include <limits>

using namespace mlir;
using namespace moec;
using namespace moec::onnx_export;
using ::onnx::AttributeProto;

std::string Writer::unique(StringRef name, llvm::StringMap<unsigned> &taken) {
  std::string result = name.str();
  for (unsigned &count = taken[name]; count++ > 0;) {
    result = (name + "_" + Twine(count - 1)).str();
    if (taken.try_emplace(result, 1).second)
      break;
  }
  return result;
}

void Writer::typeOf(Type type, ::onnx::TypeProto &out, ArrayAttr dims) {
  if (auto sequence = dyn_cast<onnx::SequenceType>(type))
    return typeOf(sequence.getElementType(), *out.mutable_sequence_type()->mutable_elem_type(), {});
  auto shaped = dyn_cast<ShapedType>(type);
  if (!shaped)
    return;
  auto *tensor = out.mutable_tensor_type();
  tensor->set_elem_type(elementCode(shaped.getElementType()));
  opset = std::max(opset, neededOpset(shaped.getElementType()));
  if (!shaped.hasRank())
    return;
  auto *shape = tensor->mutable_shape();
  bool named = dims && static_cast<int64_t>(dims.size()) == shaped.getRank();
  for (auto [i, size] : llvm::enumerate(shaped.getShape())) {
    auto *dim = shape->add_dim();
    if (!ShapedType::isDynamic(size))
      dim->set_dim_value(size);
    else if (auto symbol = named ? dyn_cast<StringAttr>(dims[i]) : StringAttr();
             symbol && !symbol.empty())
      dim->set_dim_param(symbol.str());
  }
}

void Writer::valueInfo(StringRef name, Type type, ::onnx::ValueInfoProto &out, ArrayAttr dims) {
  out.set_name(name.str());
  typeOf(type, *out.mutable_type(), dims);
}

std::string moec::onnx_export::rawBytes(DenseElementsAttr value) {
  Type element = value.getElementType();
  int64_t count = value.getNumElements();
  if (element.isInteger(1)) {
    std::string bytes;
    for (bool bit : value.getValues<bool>())
      bytes.push_back(bit ? 1 : 0);
    return bytes;
  }
  ArrayRef<char> raw = value.getRawData();
  std::string bytes;
  for (int64_t i = 0; i < count && value.isSplat(); ++i)
    bytes.append(raw.data(), raw.size());
  if (!value.isSplat())
    bytes.assign(raw.data(), raw.size());
  int64_t bits = storageBits(element);
  if (bits >= 8)
    return bytes;
  // Elements below 8 bits are packed, low bits first.
  std::string packed((count * bits + 7) / 8, '\0');
  unsigned mask = (1u << bits) - 1;
  for (int64_t i = 0; i < count; ++i)
    packed[i * bits / 8] |= static_cast<char>((bytes[i] & mask) << (i * bits % 8));
  return packed;
}

//===--- attributes
//-----------------------------------------------------------------------------===//

static void tensorOf(DenseElementsAttr value, ::onnx::TensorProto &out) {
  out.set_data_type(elementCode(value.getElementType()));
  for (int64_t dim : value.getType().getShape())
    out.add_dims(dim);
  out.set_raw_data(rawBytes(value));
}

bool Writer::attribute(Operation *op, StringRef name, Attribute value, AttributeProto &out) {
  out.set_name(name.str());
  auto refuse = [&] {
    op->emitOpError() << "is unsupported by export: its attribute \"" << name << "\" is " << value;
    return false;
  };
  if (auto integer = dyn_cast<IntegerAttr>(value)) {
    out.set_type(AttributeProto::INT);
    out.set_i(integer.getInt());
  } else if (auto real = dyn_cast<FloatAttr>(value)) {
    out.set_type(AttributeProto::FLOAT);
    out.set_f(static_cast<float>(real.getValueAsDouble()));
  } else if (auto text = dyn_cast<StringAttr>(value)) {
    out.set_type(AttributeProto::STRING);
    out.set_s(text.str());
  } else if (auto ints = dyn_cast<DenseI64ArrayAttr>(value)) {
    out.set_type(AttributeProto::INTS);
    for (int64_t v : ints.asArrayRef())
      out.add_ints(v);
  } else if (auto floats = dyn_cast<DenseF32ArrayAttr>(value)) {
    out.set_type(AttributeProto::FLOATS);
    for (float v : floats.asArrayRef())
      out.add_floats(v);
  } else if (auto dense = dyn_cast<DenseElementsAttr>(value)) {
    out.set_type(AttributeProto::TENSOR);
    tensorOf(dense, *out.mutable_t());
  } else if (auto type = dyn_cast<TypeAttr>(value)) {
    out.set_type(AttributeProto::TYPE_PROTO);
    typeOf(type.getValue(), *out.mutable_tp());
  } else if (auto list = dyn_cast<ArrayAttr>(value)) {
    bool tensors = !list.empty() && isa<DenseElementsAttr>(list[0]);
    out.set_type(tensors ? AttributeProto::TENSORS : AttributeProto::STRINGS);
    for (Attribute item : list) {
      if (auto dense = dyn_cast<DenseElementsAttr>(item); dense && tensors)
        tensorOf(dense, *out.add_tensors());
      else if (auto text = dyn_cast<StringAttr>(item); text && !tensors)
        out.add_strings(text.str());
      else
        return refuse();
    }
  } else {
    return refuse();
  }
  return true;
}

// Defaults are left out, so that a node does not need the opset that brought the attribute.
static bool isDefault(const ::onnx::OpSchema *schema, const AttributeProto &attribute) {
  auto it = schema->attributes().find(attribute.name());
  if (it == schema->attributes().end() || it->second.required)
    return false;
  AttributeProto value = it->second.default_value;
  if (!value.has_type() || value.type() != attribute.type())
    return false;
  return value.i() == attribute.i() && value.f() == attribute.f() && value.s() == attribute.s() &&
         value.ints_size() == 0 && attribute.ints_size() == 0 && value.floats_size() == 0 &&
         attribute.floats_size() == 0 && !attribute.has_t() && !attribute.has_tp() &&
         attribute.strings_size() == 0 && attribute.tensors_size() == 0;
}

bool Writer::attributes(Operation *op, ::onnx::NodeProto &out) {
  bool custom = op->getName().getStringRef() == "onnx.custom";
  DictionaryAttr all = op->getAttrDictionary();
  if (custom)
    all = op->getAttrOfType<DictionaryAttr>("attributes");
  const ::onnx::OpSchema *schema =
      custom ? nullptr
             : ::onnx::OpSchemaRegistry::Schema(out.op_type(), moec::onnx::OnnxDialect::kOpset,
                                                ::onnx::ONNX_DOMAIN);
  if (!custom && !schema) {
    op->emitOpError("is unsupported by export: it is no operator of ONNX");
    return false;
  }
  for (NamedAttribute named : all ? all.getValue() : ArrayRef<NamedAttribute>()) {
    StringRef name = named.getName();
    if (schema && !schema->attributes().count(name.str()))
      continue; // notes of passes
    AttributeProto value;
    if (!attribute(op, name, named.getValue(), value))
      return false;
    if (!schema || !isDefault(schema, value))
      *out.add_attribute() = value;
  }
  return true;
}

//===--- graphs
//---------------------------------------------------------------------------------===//

std::string Writer::outputOf(Value v, StringRef wanted, Block &block, ::onnx::GraphProto &graph) {
  std::string name = names.lookup(v);
  Operation *def = v.getDefiningOp();
  bool computed = def && def->getBlock() == &block && !isa<moe::WeightUseOp>(def) &&
                  def->getName().getStringRef() != "onnx.Constant";
  bool again = llvm::any_of(graph.output(), [&](const auto &o) { return o.name() == name; });
  if (computed && !again && (wanted.empty() || wanted == name))
    return name;
  ::onnx::NodeProto &identity = *graph.add_node();
  identity.set_op_type("Identity");
  identity.set_name(unique("output/Identity", nodes));
  identity.add_input(name);
  std::string result = wanted.empty() ? unique(name, values) : wanted.str();
  identity.add_output(result);
  return result;
}

bool Writer::subgraph(Operation *op, Region &region, StringRef name, ::onnx::NodeProto &out) {
  AttributeProto &attribute = *out.add_attribute();
  attribute.set_name(name.str());
  attribute.set_type(AttributeProto::GRAPH);
  ::onnx::GraphProto &graph = *attribute.mutable_g();
  graph.set_name((out.name() + "." + name).str());
  Block &inner = region.front();
  for (BlockArgument argument : inner.getArguments()) {
    std::string base = nodeName(argument.getLoc());
    names[argument] = unique(base.empty() ? "argument" : base, values);
    valueInfo(names[argument], argument.getType(), *graph.add_input());
  }
  if (!block(inner, graph))
    return false;
  for (Value v : inner.getTerminator()->getOperands()) {
    std::string output = outputOf(v, "", inner, graph);
    valueInfo(output, v.getType(), *graph.add_output());
  }
  return true;
}

// Constants stand among the initializers of the main graph, where inner graphs see them.
void Writer::constant(Operation *op) {
  auto value = op->getAttrOfType<DenseElementsAttr>("value");
  std::string &name = constants[value];
  if (name.empty()) {
    std::string base = nodeName(op->getLoc());
    name = unique(base.empty() ? "constant" : base, values);
    ::onnx::TensorProto &tensor = *model.mutable_graph()->add_initializer();
    tensor.set_name(name);
    tensorOf(value, tensor);
  }
  names[op->getResult(0)] = name;
}

void Writer::weight(Operation *op) {
  StringRef bind = cast<moe::WeightUseOp>(op).getWeight();
  std::string &name = initializers[bind];
  if (name.empty()) {
    name = unique(bind, values);
    auto type = cast<RankedTensorType>(op->getResult(0).getType());
    stored.push_back({bind.str(), model.graph().initializer_size()});
    ::onnx::TensorProto &tensor = *model.mutable_graph()->add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(elementCode(type.getElementType()));
    opset = std::max(opset, neededOpset(type.getElementType()));
    for (int64_t dim : type.getShape())
      tensor.add_dims(dim);
  }
  names[op->getResult(0)] = name;
}

void Writer::define(Operation *op, ::onnx::NodeProto &out) {
  std::string base = nodeName(op->getLoc());
  if (base.empty())
    base = out.op_type();
  for (auto [i, result] : llvm::enumerate(op->getResults())) {
    std::string &name = names[result]; // an output of the main graph has its name already
    if (isa<NoneType>(result.getType()))
      name.clear();
    else if (name.empty())
      name = unique(i ? base + "." + std::to_string(i) : base, values);
    out.add_output(name);
  }
  while (out.output_size() > 0 && out.output(out.output_size() - 1).empty())
    out.mutable_output()->RemoveLast();
}

// The version of another domain that has the operator as it is now; 1 where the ONNX library does
// not know it.
static int domainVersion(const std::string &domain, const std::string &name) {
  const ::onnx::OpSchema *schema =
      ::onnx::OpSchemaRegistry::Schema(name, std::numeric_limits<int>::max(), domain);
  if (schema && schema->Deprecated())
    schema = ::onnx::OpSchemaRegistry::Schema(name, schema->SinceVersion() - 1, domain);
  return schema ? schema->SinceVersion() : 1;
}

bool Writer::node(Operation *op, ::onnx::GraphProto &graph) {
  bool custom = op->getName().getStringRef() == "onnx.custom";
  ::onnx::NodeProto &out = *graph.add_node();
  out.set_op_type(custom ? op->getAttrOfType<StringAttr>("op_type").str()
                         : op->getName().stripDialect().str());
  std::string name = nodeName(op->getLoc());
  out.set_name(unique(name.empty() ? out.op_type() : name, nodes));
  if (custom && !op->getAttrOfType<StringAttr>("domain").empty()) {
    out.set_domain(op->getAttrOfType<StringAttr>("domain").str());
    int64_t &version = domains[out.domain()];
    version = std::max<int64_t>(version, domainVersion(out.domain(), out.op_type()));
  }
  for (Value operand : op->getOperands())
    out.add_input(isa<NoneType>(operand.getType()) ? std::string() : names.lookup(operand));
  while (out.input_size() > 0 && out.input(out.input_size() - 1).empty())
    out.mutable_input()->RemoveLast();
  if (!attributes(op, out))
    return false;
  bool ok = true;
  StringRef graphs[] = {"then_branch", "else_branch"};
  for (auto [i, region] : llvm::enumerate(op->getRegions()))
    ok &= subgraph(op, region, op->getNumRegions() == 2 ? graphs[i] : StringRef("body"), out);
  define(op, out);
  if (!custom)
    opset = std::max(opset, neededOpset(op, out));
  return ok;
}

bool Writer::block(Block &block, ::onnx::GraphProto &graph) {
  bool ok = true;
  bool main = &graph == &model.graph();
  for (Operation &op : block.without_terminator()) {
    StringRef name = op.getName().getStringRef();
    if (name == "onnx.none")
      continue;
    if (name == "onnx.Constant" && op.getAttrOfType<DenseElementsAttr>("value")) {
      constant(&op);
      continue;
    }
    if (isa<moe::WeightUseOp>(op)) {
      weight(&op);
      continue;
    }
    ok &= node(&op, graph);
    for (Value result : op.getResults())
      if (main && isa<ShapedType>(result.getType()) && !isOutput.contains(result))
        valueInfo(names[result], result.getType(), *graph.add_value_info());
  }
  return ok;
}

//===--- the signature
//--------------------------------------------------------------------------===//

static std::string nameOf(DictionaryAttr attributes, const Twine &otherwise) {
  auto name = attributes ? attributes.getAs<StringAttr>("onnx.name") : StringAttr();
  return name && !name.empty() ? name.str() : otherwise.str();
}

static ArrayAttr dimsOf(DictionaryAttr attributes) {
  return attributes ? attributes.getAs<ArrayAttr>("onnx.dims") : ArrayAttr();
}

bool Writer::run() {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || main.isExternal() || !main.getBody().hasOneBlock()) {
    module.emitError("is unsupported by export: it has no function @main");
    return false;
  }
  for (Type type : main.getFunctionType().getInputs())
    if (!isa<TensorType>(type)) {
      main.emitOpError("is unsupported by export: it takes something else than tensors");
      return false;
    }
  ::onnx::GraphProto &graph = *model.mutable_graph();
  std::string name = nodeName(main.getLoc());
  graph.set_name(name.empty() ? "main" : name);
  Block &body = main.front();
  for (auto [i, argument] : llvm::enumerate(body.getArguments())) {
    DictionaryAttr attributes = main.getArgAttrDict(i);
    names[argument] = unique(nameOf(attributes, "input_" + Twine(i)), values);
    valueInfo(names[argument], argument.getType(), *graph.add_input(), dimsOf(attributes));
  }
  // Outputs keep their names: what computes them is called so.
  std::vector<std::string> wanted;
  for (auto [i, v] : llvm::enumerate(body.getTerminator()->getOperands())) {
    wanted.push_back(unique(nameOf(main.getResultAttrDict(i), "output_" + Twine(i)), values));
    Operation *def = v.getDefiningOp();
    StringRef kind = def ? def->getName().getStringRef() : StringRef();
    if (def && kind != "onnx.Constant" && kind != "moe.weight.use" && isOutput.insert(v).second)
      names[v] = wanted.back();
  }
  if (!block(body, graph))
    return false;
  for (auto [i, v] : llvm::enumerate(body.getTerminator()->getOperands()))
    valueInfo(outputOf(v, wanted[i], body, graph), v.getType(), *graph.add_output(),
              dimsOf(main.getResultAttrDict(i)));
  auto *standard = model.add_opset_import();
  standard->set_domain("");
  standard->set_version(opset);
  model.set_ir_version(irVersionOf(opset));
  for (auto &[domain, version] : domains) {
    auto *import = model.add_opset_import();
    import->set_domain(domain);
    import->set_version(version);
  }
  return true;
}
