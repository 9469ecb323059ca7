// Element types: their MLIR types, codes, sizes and names.
#include "Narrow.h"
#include "mlir/IR/BuiltinTypes.h"

using namespace llvm;

namespace moec::reference {

Elem elemOf(mlir::Type type) {
  if (type.isF32())
    return Elem::f32;
  if (type.isF64())
    return Elem::f64;
  if (type.isF16())
    return Elem::f16;
  if (type.isBF16())
    return Elem::bf16;
  if (isa<mlir::Float8E4M3FNType>(type))
    return Elem::f8e4m3fn;
  if (isa<mlir::Float8E4M3FNUZType>(type))
    return Elem::f8e4m3fnuz;
  if (isa<mlir::Float8E5M2Type>(type))
    return Elem::f8e5m2;
  if (isa<mlir::Float8E5M2FNUZType>(type))
    return Elem::f8e5m2fnuz;
  if (isa<mlir::Float4E2M1FNType>(type))
    return Elem::f4e2m1;
  if (isa<mlir::Float8E8M0FNUType>(type))
    return Elem::f8e8m0;
  auto integer = dyn_cast<mlir::IntegerType>(type);
  if (!integer)
    return type.isIndex() ? Elem::i64 : Elem::none;
  bool u = integer.isUnsigned();
  switch (integer.getWidth()) {
  case 1:
    return Elem::boolean;
  case 2:
    return u ? Elem::u2 : Elem::i2;
  case 4:
    return u ? Elem::u4 : Elem::i4;
  case 8:
    return u ? Elem::u8 : Elem::i8;
  case 16:
    return u ? Elem::u16 : Elem::i16;
  case 32:
    return u ? Elem::u32 : Elem::i32;
  case 64:
    return u ? Elem::u64 : Elem::i64;
  default:
    return Elem::none;
  }
}

Elem elemOf(int64_t code) {
  switch (code) {
  case 1 ... 7:
  case 9 ... 13:
  case 16 ... 26:
    return static_cast<Elem>(code);
  default:
    return Elem::none;
  }
}

int64_t bytesOf(Elem e) {
  switch (e) {
  case Elem::u8:
  case Elem::i8:
  case Elem::boolean:
  case Elem::f8e4m3fn ... Elem::i2:
    return 1;
  case Elem::u16:
  case Elem::i16:
  case Elem::f16:
  case Elem::bf16:
    return 2;
  case Elem::f32:
  case Elem::i32:
  case Elem::u32:
    return 4;
  case Elem::i64:
  case Elem::u64:
  case Elem::f64:
    return 8;
  case Elem::none:
    break;
  }
  fail("unsupported element type");
}

bool isFloat(Elem e) {
  return e == Elem::f32 || e == Elem::f16 || e == Elem::bf16 || e == Elem::f64 || isNarrowFloat(e);
}

const char *nameOf(Elem e) {
  switch (e) {
  case Elem::f32:
    return "f32";
  case Elem::u8:
    return "u8";
  case Elem::i8:
    return "i8";
  case Elem::u16:
    return "u16";
  case Elem::i16:
    return "i16";
  case Elem::i32:
    return "i32";
  case Elem::i64:
    return "i64";
  case Elem::boolean:
    return "bool";
  case Elem::f16:
    return "f16";
  case Elem::f64:
    return "f64";
  case Elem::u32:
    return "u32";
  case Elem::u64:
    return "u64";
  case Elem::bf16:
    return "bf16";
  case Elem::f8e4m3fn:
    return "f8E4M3FN";
  case Elem::f8e4m3fnuz:
    return "f8E4M3FNUZ";
  case Elem::f8e5m2:
    return "f8E5M2";
  case Elem::f8e5m2fnuz:
    return "f8E5M2FNUZ";
  case Elem::u4:
    return "u4";
  case Elem::i4:
    return "i4";
  case Elem::f4e2m1:
    return "f4E2M1FN";
  case Elem::f8e8m0:
    return "f8E8M0FNU";
  case Elem::u2:
    return "u2";
  case Elem::i2:
    return "i2";
  case Elem::none:
    break;
  }
  return "none";
}

} // namespace moec::reference
