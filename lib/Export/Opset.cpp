#include "Opset.h"

#include "moec/Dialect/Onnx/OnnxDialect.h"

#include "mlir/IR/BuiltinTypes.h"
#include "onnx/defs/data_type_utils.h"
#include "onnx/defs/schema.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringRef.h"

using namespace mlir;
using namespace moec;
using namespace moec::onnx_export;
using ::onnx::OpSchema;

int32_t moec::onnx_export::elementCode(Type type) {
  using T = ::onnx::TensorProto;
  if (int64_t code = moec::onnx::typeCode(type))
    return static_cast<int32_t>(code);
  if (auto integer = dyn_cast<IntegerType>(type); integer && integer.getWidth() == 4)
    return integer.isUnsigned() ? T::UINT4 : T::INT4;
  else if (integer && integer.getWidth() == 2)
    return integer.isUnsigned() ? T::UINT2 : T::INT2;
  if (auto complex = dyn_cast<ComplexType>(type))
    return complex.getElementType().isF64() ? T::COMPLEX128 : T::COMPLEX64;
  return isa<Float8E4M3FNType>(type)     ? T::FLOAT8E4M3FN
         : isa<Float8E4M3FNUZType>(type) ? T::FLOAT8E4M3FNUZ
         : isa<Float8E5M2Type>(type)     ? T::FLOAT8E5M2
         : isa<Float8E5M2FNUZType>(type) ? T::FLOAT8E5M2FNUZ
         : isa<Float8E8M0FNUType>(type)  ? T::FLOAT8E8M0
         : isa<Float4E2M1FNType>(type)   ? T::FLOAT4E2M1
                                         : T::UNDEFINED;
}

int64_t moec::onnx_export::neededOpset(Type element) {
  if (isa<Float4E2M1FNType>(element))
    return 23;
  if (isa<Float8E8M0FNUType>(element))
    return 24;
  return element.isInteger(2) || element.isUnsignedInteger(2) ? 25 : 21;
}

static constexpr int64_t kOldest = 21, kNewest = moec::onnx::OnnxDialect::kOpset;

static const OpSchema *schemaOf(const std::string &name, int64_t version) {
  return ::onnx::OpSchemaRegistry::Schema(name, static_cast<int>(version), ::onnx::ONNX_DOMAIN);
}

// Whether values have types that the operator's formal parameters allow.
static bool allows(const std::vector<OpSchema::FormalParameter> &formals, ValueRange values) {
  for (auto [i, v] : llvm::enumerate(values)) {
    auto type = dyn_cast<ShapedType>(v.getType());
    if (!type)
      continue;
    if (formals.empty() ||
        (i >= formals.size() && formals.back().GetOption() != OpSchema::Variadic))
      return false;
    const auto &formal = formals[std::min(i, formals.size() - 1)];
    ::onnx::TypeProto proto;
    proto.mutable_tensor_type()->set_elem_type(elementCode(type.getElementType()));
    if (!formal.GetTypes().count(::onnx::Utils::DataTypeUtils::ToType(proto)))
      return false;
  }
  return true;
}

// From opset 21 to 28 versions of an operator differ by added types, inputs and attributes, which
// nodes show; and Attention in what it computes.
static bool saysTheSame(const OpSchema &old, const OpSchema &now, Operation *op,
                        const ::onnx::NodeProto &node) {
  if (old.since_version() == now.since_version())
    return true;
  if (node.op_type() == "Attention" || node.input_size() > old.max_input() ||
      node.output_size() > old.max_output())
    return false;
  for (const ::onnx::AttributeProto &attribute : node.attribute())
    if (!old.attributes().count(attribute.name()))
      return false;
  return allows(old.inputs(), op->getOperands()) && allows(old.outputs(), op->getResults());
}

int64_t moec::onnx_export::neededOpset(Operation *op, const ::onnx::NodeProto &node) {
  const OpSchema *now = schemaOf(node.op_type(), kNewest);
  if (!now)
    return 0;
  for (int64_t version = kOldest; version < kNewest; ++version)
    if (const OpSchema *old = schemaOf(node.op_type(), version);
        old && saysTheSame(*old, *now, op, node))
      return version;
  return kNewest;
}

int64_t moec::onnx_export::irVersionOf(int64_t opset) {
  // Opsets 21 and 22 came with version 10, each later one with a version of its own up to 25.
  return opset <= 22 ? 10 : std::min<int64_t>(opset, 25) - 12;
}
