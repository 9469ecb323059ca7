// Element types and attribute access.
#include "Emitter.h"
#include "mlir/IR/BuiltinAttributes.h"

using namespace moec::host;

std::optional<DType> moec::host::dtypeOf(mlir::Type type) {
  if (type.isF32())
    return DType::F32;
  if (type.isF16())
    return DType::F16;
  if (type.isBF16())
    return DType::BF16;
  if (type.isF64())
    return DType::F64;
  if (mlir::isa<mlir::Float8E4M3FNType>(type))
    return DType::F8E4M3FN;
  if (mlir::isa<mlir::Float8E4M3FNUZType>(type))
    return DType::F8E4M3FNUZ;
  if (mlir::isa<mlir::Float8E5M2Type>(type))
    return DType::F8E5M2;
  if (mlir::isa<mlir::Float8E5M2FNUZType>(type))
    return DType::F8E5M2FNUZ;
  if (mlir::isa<mlir::Float4E2M1FNType>(type))
    return DType::F4E2M1;
  if (mlir::isa<mlir::Float8E8M0FNUType>(type))
    return DType::F8E8M0;
  auto integer = mlir::dyn_cast<mlir::IntegerType>(type);
  if (!integer)
    return std::nullopt;
  bool u = integer.isUnsigned();
  switch (integer.getWidth()) {
  case 1:
    return DType::Bool;
  case 2:
    return u ? DType::U2 : DType::I2;
  case 4:
    return u ? DType::U4 : DType::I4;
  case 8:
    return u ? DType::U8 : DType::I8;
  case 16:
    return u ? DType::U16 : DType::I16;
  case 32:
    return u ? DType::U32 : DType::I32;
  case 64:
    return u ? DType::U64 : DType::I64;
  default:
    return std::nullopt;
  }
}

int64_t moec::host::byteSize(DType type) {
  switch (type) {
  case DType::U8:
  case DType::I8:
  case DType::Bool:
  case DType::F8E4M3FN ... DType::I2:
    return 1;
  case DType::U16:
  case DType::I16:
  case DType::F16:
  case DType::BF16:
    return 2;
  case DType::I64:
  case DType::U64:
  case DType::F64:
    return 8;
  default:
    return 4;
  }
}

bool moec::host::isFloat(DType type) {
  return type == DType::F32 || type == DType::F16 || type == DType::BF16 || type == DType::F64 ||
         isNarrowFloat(type);
}

bool moec::host::isNarrowFloat(DType type) {
  return (type >= DType::F8E4M3FN && type <= DType::F8E5M2FNUZ) || type == DType::F4E2M1 ||
         type == DType::F8E8M0;
}

unsigned moec::host::narrowWidth(DType type) {
  return type == DType::U4 || type == DType::I4 ? 4 : type == DType::U2 || type == DType::I2 ? 2 : 0;
}

bool moec::host::isUnsigned(DType type) {
  return type == DType::U8 || type == DType::U16 || type == DType::U32 || type == DType::U64 ||
         type == DType::U4 || type == DType::U2 || type == DType::Bool;
}

const char *moec::host::dtypeName(DType type) {
  switch (type) {
  case DType::F32:
    return "f32";
  case DType::F16:
    return "f16";
  case DType::BF16:
    return "bf16";
  case DType::F64:
    return "f64";
  case DType::I8:
    return "i8";
  case DType::I16:
    return "i16";
  case DType::I32:
    return "i32";
  case DType::I64:
    return "i64";
  case DType::U8:
    return "ui8";
  case DType::U16:
    return "ui16";
  case DType::U32:
    return "ui32";
  case DType::U64:
    return "ui64";
  case DType::Bool:
    return "i1";
  case DType::F8E4M3FN:
    return "f8E4M3FN";
  case DType::F8E4M3FNUZ:
    return "f8E4M3FNUZ";
  case DType::F8E5M2:
    return "f8E5M2";
  case DType::F8E5M2FNUZ:
    return "f8E5M2FNUZ";
  case DType::U4:
    return "ui4";
  case DType::I4:
    return "i4";
  case DType::F4E2M1:
    return "f4E2M1FN";
  case DType::F8E8M0:
    return "f8E8M0FNU";
  case DType::U2:
    return "ui2";
  case DType::I2:
    return "i2";
  }
  return "?";
}

llvm::Type *Emitter::storageType(DType type) {
  if (type == DType::F32)
    return b.getFloatTy();
  if (type == DType::F64)
    return b.getDoubleTy();
  if (type == DType::F16)
    return b.getHalfTy();
  return b.getIntNTy(byteSize(type) * 8); // bf16 as bits: it is converted by shifts
}

int64_t moec::host::intAttr(mlir::Operation *op, llvm::StringRef name, int64_t fallback) {
  if (auto attr = mlir::dyn_cast_or_null<mlir::IntegerAttr>(op->getAttr(name)))
    return attr.getValue().getSExtValue();
  return fallback;
}

double moec::host::floatAttr(mlir::Operation *op, llvm::StringRef name, double fallback) {
  if (auto attr = mlir::dyn_cast_or_null<mlir::FloatAttr>(op->getAttr(name)))
    return attr.getValueAsDouble();
  return fallback;
}

std::string moec::host::stringAttr(mlir::Operation *op, llvm::StringRef name,
                                   llvm::StringRef fallback) {
  if (auto attr = mlir::dyn_cast_or_null<mlir::StringAttr>(op->getAttr(name)))
    return attr.getValue().str();
  return fallback.str();
}

std::optional<std::vector<int64_t>> moec::host::intsAttr(mlir::Operation *op,
                                                         llvm::StringRef name) {
  mlir::Attribute attr = op->getAttr(name);
  if (auto dense = mlir::dyn_cast_or_null<mlir::DenseI64ArrayAttr>(attr))
    return std::vector<int64_t>(dense.asArrayRef());
  return std::nullopt;
}

DType moec::host::resultType(mlir::Operation *op, unsigned index) {
  auto shaped = mlir::dyn_cast<mlir::ShapedType>(op->getResult(index).getType());
  return shaped ? dtypeOf(shaped.getElementType()).value_or(DType::F32) : DType::F32;
}

std::optional<size_t> moec::host::normalAxis(int64_t axis, size_t rank) {
  auto r = static_cast<int64_t>(rank);
  if (axis < -r || axis >= r)
    return std::nullopt;
  return static_cast<size_t>(axis < 0 ? axis + r : axis);
}
