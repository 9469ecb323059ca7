#include "Types.h"

#include "mlir/IR/Builders.h"
#include "llvm/Support/MathExtras.h"

using namespace moec;
using namespace moec::onnx_import;
using mlir::Type;

Type onnx_import::elementType(int32_t code, mlir::MLIRContext &context) {
  mlir::Builder b(&context);
  auto unsignedType = [&](unsigned width) { return b.getIntegerType(width, /*isSigned=*/false); };
  using T = onnx::TensorProto;
  switch (code) {
  case T::FLOAT: return b.getF32Type();
  case T::DOUBLE: return b.getF64Type();
  case T::FLOAT16: return b.getF16Type();
  case T::BFLOAT16: return b.getBF16Type();
  case T::FLOAT8E4M3FN: return mlir::Float8E4M3FNType::get(&context);
  case T::FLOAT8E4M3FNUZ: return mlir::Float8E4M3FNUZType::get(&context);
  case T::FLOAT8E5M2: return mlir::Float8E5M2Type::get(&context);
  case T::FLOAT8E5M2FNUZ: return mlir::Float8E5M2FNUZType::get(&context);
  case T::FLOAT8E8M0: return mlir::Float8E8M0FNUType::get(&context);
  case T::FLOAT4E2M1: return mlir::Float4E2M1FNType::get(&context);
  case T::BOOL: return b.getI1Type();
  case T::INT2: return b.getIntegerType(2);
  case T::INT4: return b.getIntegerType(4);
  case T::INT8: return b.getIntegerType(8);
  case T::INT16: return b.getIntegerType(16);
  case T::INT32: return b.getIntegerType(32);
  case T::INT64: return b.getIntegerType(64);
  case T::UINT2: return unsignedType(2);
  case T::UINT4: return unsignedType(4);
  case T::UINT8: return unsignedType(8);
  case T::UINT16: return unsignedType(16);
  case T::UINT32: return unsignedType(32);
  case T::UINT64: return unsignedType(64);
  case T::COMPLEX64: return mlir::ComplexType::get(b.getF32Type());
  case T::COMPLEX128: return mlir::ComplexType::get(b.getF64Type());
  default: return {};
  }
}

int32_t onnx_import::elementCode(Type type) {
  for (int32_t code = 1; code <= onnx::TensorProto_DataType_DataType_MAX; ++code)
    if (elementType(code, *type.getContext()) == type)
      return code;
  return 0;
}

Type onnx_import::tensorType(const onnx::TypeProto &type, mlir::MLIRContext &context) {
  if (!type.has_tensor_type())
    return {};
  Type element = elementType(type.tensor_type().elem_type(), context);
  if (!element)
    return {};
  if (!type.tensor_type().has_shape())
    return mlir::UnrankedTensorType::get(element);
  llvm::SmallVector<int64_t> dims;
  for (const auto &dim : type.tensor_type().shape().dim())
    dims.push_back(dim.has_dim_value() && dim.dim_value() >= 0 ? dim.dim_value()
                                                               : mlir::ShapedType::kDynamic);
  return mlir::RankedTensorType::get(dims, element);
}

bool onnx_import::isReasonable(mlir::RankedTensorType type) {
  int64_t count = 1;
  for (int64_t dim : type.getShape())
    if (!mlir::ShapedType::isDynamic(dim) &&
        (llvm::MulOverflow(count, dim, count) || count > int64_t(1) << 48))
      return false;
  return true;
}

mlir::DenseElementsAttr onnx_import::elementsOf(mlir::RankedTensorType type,
                                                const std::string &bytes) {
  Type element = type.getElementType();
  int64_t count = type.getNumElements();
  if (static_cast<int64_t>(bytes.size()) != (count * storageBits(element) + 7) / 8)
    return {};
  std::vector<char> unpacked(static_cast<size_t>(count * elementBytes(element)));
  unpackElements(element, bytes.data(), 0, count, unpacked.data());
  if (!element.isInteger(1))
    return mlir::DenseElementsAttr::getFromRawBuffer(type, unpacked);
  llvm::SmallVector<bool> bits(unpacked.begin(), unpacked.end());
  return mlir::DenseElementsAttr::get(type, bits);
}

mlir::DenseElementsAttr onnx_import::elementsOf(Context &context, const onnx::TensorProto &tensor,
                                                std::string &why) {
  Type element = elementType(tensor.data_type(), context.mlir);
  std::optional<std::string> bytes = readElements(context, tensor, why);
  if (!bytes)
    return {};
  if (!element) {
    why = "has an unsupported element type";
    return {};
  }
  llvm::SmallVector<int64_t> dims(tensor.dims().begin(), tensor.dims().end());
  mlir::DenseElementsAttr value = elementsOf(mlir::RankedTensorType::get(dims, element), *bytes);
  if (!value)
    why = "has data that does not fit its type and shape";
  return value;
}
