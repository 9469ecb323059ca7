/* Element types by their ONNX TensorProto codes. */
#include "internal.h"

typedef struct {
  uint32_t onnx;
  const char *name;
  DLDataType dl;
} dtype;

static const dtype kTypes[] = {
    {1, "f32", {kDLFloat, 32, 1}},    {2, "ui8", {kDLUInt, 8, 1}},
    {3, "i8", {kDLInt, 8, 1}},        {4, "ui16", {kDLUInt, 16, 1}},
    {5, "i16", {kDLInt, 16, 1}},      {6, "i32", {kDLInt, 32, 1}},
    {7, "i64", {kDLInt, 64, 1}},      {9, "i1", {kDLBool, 8, 1}},
    {10, "f16", {kDLFloat, 16, 1}},   {11, "f64", {kDLFloat, 64, 1}},
    {12, "ui32", {kDLUInt, 32, 1}},   {13, "ui64", {kDLUInt, 64, 1}},
    {16, "bf16", {kDLBfloat, 16, 1}},
    {17, "f8E4M3FN", {kDLFloat8_e4m3fn, 8, 1}},
    {18, "f8E4M3FNUZ", {kDLFloat8_e4m3fnuz, 8, 1}},
    {19, "f8E5M2", {kDLFloat8_e5m2, 8, 1}},
    {20, "f8E5M2FNUZ", {kDLFloat8_e5m2fnuz, 8, 1}},
    {21, "ui4", {kDLUInt, 4, 1}},     {22, "i4", {kDLInt, 4, 1}},
    {23, "f4E2M1FN", {kDLFloat4_e2m1fn, 4, 1}},
    {24, "f8E8M0FNU", {kDLFloat8_e8m0fnu, 8, 1}},
    {25, "ui2", {kDLUInt, 2, 1}},     {26, "i2", {kDLInt, 2, 1}},
};

static const dtype *find(uint32_t onnx) {
  for (size_t i = 0; i < sizeof kTypes / sizeof *kTypes; ++i)
    if (kTypes[i].onnx == onnx)
      return &kTypes[i];
  return NULL;
}

size_t moert_dtype_bytes(uint32_t onnx) {
  const dtype *type = find(onnx);
  return type ? (type->dl.bits + 7u) / 8u : 0; // narrow elements have a byte each
}

const char *moert_dtype_name(uint32_t onnx) {
  const dtype *type = find(onnx);
  return type ? type->name : "unknown";
}

DLDataType moert_dtype_dl(uint32_t onnx) {
  const dtype *type = find(onnx);
  return type ? type->dl : (DLDataType){0, 0, 0};
}
