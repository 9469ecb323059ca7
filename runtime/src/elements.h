/* Helpers of the operators: elements of any type, indices, shapes. */
#ifndef MOERT_ELEMENTS_H
#define MOERT_ELEMENTS_H
#include "internal.h"
#include <string.h>

enum {
  T_F32 = 1, T_U8 = 2, T_I8 = 3, T_U16 = 4, T_I16 = 5, T_I32 = 6, T_I64 = 7,
  T_BOOL = 9, T_F16 = 10, T_F64 = 11, T_U32 = 12, T_U64 = 13, T_BF16 = 16,
};

/* Copying more than this is worth several threads. */
#define PARALLEL_BYTES ((int64_t)256 << 10)

static inline int64_t view_count(const moert_view *v) {
  int64_t n = 1;
  for (int i = 0; i < v->rank; ++i)
    n *= v->dims[i];
  return n;
}

static inline int64_t dims_product(const moert_view *v, int first, int end) {
  int64_t n = 1;
  for (int i = first; i < end; ++i)
    n *= v->dims[i];
  return n;
}

static inline int64_t element_bytes(moert_ctx *ctx, const moert_view *v) {
  size_t bytes = moert_dtype_bytes((uint32_t)v->dtype);
  if (!bytes)
    moert_failf(ctx, MOERT_ERROR_INTERNAL, "internal: element type %d in the runtime", v->dtype);
  return (int64_t)bytes;
}

/* Operators that walk positions have room for this many. */
static inline void check_rank(moert_ctx *ctx, const moert_view *v, const char *op) {
  if (v->rank > MOERT_MAX_RANK)
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED, "unsupported: %s of rank %d (at most %d)", op,
                v->rank, MOERT_MAX_RANK);
}

/* Element i of an i64 or i32 tensor. */
static inline int64_t index_at(const moert_view *v, int64_t i) {
  return v->dtype == T_I32 ? ((const int32_t *)v->data)[i] : ((const int64_t *)v->data)[i];
}

/* An index of `size` with negative ones counted from the end; fails when out of range. */
static inline int64_t wrap_index(moert_ctx *ctx, int64_t index, int64_t size, const char *node,
                                 const char *op) {
  int64_t wrapped = index < 0 ? index + size : index;
  if (wrapped < 0 || wrapped >= size)
    moert_failf(ctx, MOERT_ERROR_INPUT,
                "node \"%s\" (%s): index %lld is out of range [-%lld, %lld)", node, op,
                (long long)index, (long long)size, (long long)size);
  return wrapped;
}

/* An axis in [0, rank): negative ones count from the end. */
static inline int wrap_axis(int64_t axis, int rank) {
  return (int)(axis < 0 ? axis + rank : axis);
}

static inline void copy_element(char *to, const char *from, int64_t bytes) {
  switch (bytes) {
  case 1:
    *to = *from;
    break;
  case 2:
    memcpy(to, from, 2);
    break;
  case 4:
    memcpy(to, from, 4);
    break;
  case 8:
    memcpy(to, from, 8);
    break;
  default:
    memcpy(to, from, (size_t)bytes);
  }
}

/* ---- 16-bit floats, rounded to nearest even -------------------------------------------------- */

static inline float bits_float(uint32_t bits) {
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
static inline uint32_t float_bits(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  return bits;
}

static inline float bf16_float(uint16_t x) { return bits_float((uint32_t)x << 16); }
static inline uint16_t float_bf16(float f) {
  uint32_t x = float_bits(f);
  if ((x & 0x7fffffff) > 0x7f800000)
    return (uint16_t)(x >> 16 | 0x40); // a NaN stays one
  return (uint16_t)((x + 0x7fff + (x >> 16 & 1)) >> 16);
}

static inline float f16_float(uint16_t x) {
  uint32_t sign = (uint32_t)(x & 0x8000) << 16, magnitude = x & 0x7fff;
  if (magnitude >= 0x7c00) // infinity, NaN
    return bits_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude < 0x400) // zero, subnormal: exact in f32
    return bits_float(sign | float_bits((float)magnitude * 0x1p-24f));
  return bits_float(sign | ((magnitude << 13) + 0x38000000));
}
static inline uint16_t float_f16(float f) {
  uint32_t x = float_bits(f), sign = x >> 16 & 0x8000;
  x &= 0x7fffffff;
  if (x > 0x7f800000)
    return (uint16_t)(sign | 0x7e00);
  if (x >= 0x477ff000) // rounds to 65536 or more
    return (uint16_t)(sign | 0x7c00);
  if (x < 0x38800000) { // subnormal: the addition rounds to a multiple of 2^-24
    float rounded = bits_float(x) + 0.5f;
    return (uint16_t)(sign | (float_bits(rounded) - float_bits(0.5f)));
  }
  return (uint16_t)(sign | (x - 0x38000000 + 0xfff + (x >> 13 & 1)) >> 13);
}

/* ---- order ----------------------------------------------------------------------------------- */

static inline uint64_t key_of_f64(double x) {
  uint64_t bits;
  memcpy(&bits, &x, 8);
  if (x != x)
    return UINT64_MAX;
  if (x == 0)
    bits = 0; // -0 equals 0
  return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

/* A key whose unsigned order is the order of the elements; a NaN is the greatest. Every type fits f64
 * or a 64-bit integer. */
static inline uint64_t order_key(int32_t dtype, const void *data, int64_t i) {
  const uint64_t sign = (uint64_t)1 << 63;
  switch (dtype) {
  case T_F32:
    return key_of_f64(((const float *)data)[i]);
  case T_F64:
    return key_of_f64(((const double *)data)[i]);
  case T_F16:
    return key_of_f64(f16_float(((const uint16_t *)data)[i]));
  case T_BF16:
    return key_of_f64(bf16_float(((const uint16_t *)data)[i]));
  case T_I8:
    return (uint64_t)((const int8_t *)data)[i] ^ sign;
  case T_I16:
    return (uint64_t)((const int16_t *)data)[i] ^ sign;
  case T_I32:
    return (uint64_t)((const int32_t *)data)[i] ^ sign;
  case T_I64:
    return (uint64_t)((const int64_t *)data)[i] ^ sign;
  case T_U16:
    return ((const uint16_t *)data)[i];
  case T_U32:
    return ((const uint32_t *)data)[i];
  case T_U64:
    return ((const uint64_t *)data)[i];
  default:
    return ((const uint8_t *)data)[i];
  }
}

/* FOR_TYPES(dtype, X): expands X(storage type, compute type, load, store) for the numeric type. */
#define MOERT_SAME(x) (x)
#define MOERT_FOR_TYPES(dtype, X)                                                                  \
  switch (dtype) {                                                                                 \
  case T_F32: X(float, float, MOERT_SAME, MOERT_SAME) break;                                       \
  case T_F64: X(double, double, MOERT_SAME, MOERT_SAME) break;                                     \
  case T_F16: X(uint16_t, float, f16_float, float_f16) break;                                      \
  case T_BF16: X(uint16_t, float, bf16_float, float_bf16) break;                                   \
  case T_I8: X(int8_t, int8_t, MOERT_SAME, MOERT_SAME) break;                                      \
  case T_I16: X(int16_t, int16_t, MOERT_SAME, MOERT_SAME) break;                                   \
  case T_I32: X(int32_t, int32_t, MOERT_SAME, MOERT_SAME) break;                                   \
  case T_I64: X(int64_t, int64_t, MOERT_SAME, MOERT_SAME) break;                                   \
  case T_BOOL:                                                                                     \
  case T_U8: X(uint8_t, uint8_t, MOERT_SAME, MOERT_SAME) break;                                    \
  case T_U16: X(uint16_t, uint16_t, MOERT_SAME, MOERT_SAME) break;                                 \
  case T_U32: X(uint32_t, uint32_t, MOERT_SAME, MOERT_SAME) break;                                 \
  case T_U64: X(uint64_t, uint64_t, MOERT_SAME, MOERT_SAME) break;                                 \
  default: moert_failf(ctx, MOERT_ERROR_INTERNAL, "internal: element type %d in the runtime",      \
                       (int)(dtype));                                                              \
  }

#endif
