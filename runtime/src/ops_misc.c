/* NonZero, CumSum, CumProd, ArgMax/ArgMin, OneHot. */
#include "elements.h"

static bool is_zero(const char *element, int64_t bytes, bool is_float) {
  uint64_t bits = 0;
  copy_element((char *)&bits, element, bytes);
  if (is_float)
    bits &= ~((uint64_t)1 << (bytes * 8 - 1)); // -0 is zero
  return !bits;
}

int64_t moert_op_nonzero(moert_ctx *ctx, const moert_view *x, void **out) {
  check_rank(ctx, x, "NonZero");
  int64_t bytes = element_bytes(ctx, x), count = view_count(x), found = 0;
  bool is_float = x->dtype == T_F32 || x->dtype == T_F64 || x->dtype == T_F16 || x->dtype == T_BF16;
  const char *data = x->data;
  for (int64_t i = 0; i < count; ++i)
    found += !is_zero(data + i * bytes, bytes, is_float);
  int64_t *to = moert_alloc(ctx, x->rank * found * (int64_t)sizeof *to);
  *out = to;
  int64_t position[MOERT_MAX_RANK] = {0};
  for (int64_t i = 0, n = 0; i < count; ++i) {
    if (!is_zero(data + i * bytes, bytes, is_float)) {
      for (int k = 0; k < x->rank; ++k)
        to[k * found + n] = position[k];
      ++n;
    }
    for (int k = x->rank; k-- > 0 && ++position[k] == x->dims[k];)
      position[k] = 0;
  }
  return found;
}

#define CUMULATE(S, C, LOAD, STORE, START, OPERATOR)                                               \
  for (int64_t o = 0; o < outer; ++o)                                                              \
    for (int64_t n = 0; n < inner; ++n) {                                                          \
      C sum = START;                                                                               \
      for (int64_t i = 0; i < size; ++i) {                                                         \
        int64_t e = (o * size + (reverse ? size - 1 - i : i)) * inner + n;                         \
        C value = LOAD(((const S *)x->data)[e]);                                                   \
        C next = (C)(sum OPERATOR value);                                                          \
        ((S *)out)[e] = (S)STORE(exclusive ? sum : next);                                          \
        sum = next;                                                                                \
      }                                                                                            \
    }

void moert_op_cumsum(moert_ctx *ctx, const moert_view *x, int64_t axis, int32_t exclusive,
                     int32_t reverse, void *out) {
  int at = wrap_axis(axis, x->rank);
  int64_t size = x->dims[at], inner = dims_product(x, at + 1, x->rank);
  int64_t outer = dims_product(x, 0, at);
#define CUMSUM(S, C, LOAD, STORE) CUMULATE(S, C, LOAD, STORE, 0, +)
  MOERT_FOR_TYPES(x->dtype, CUMSUM)
#undef CUMSUM
}

void moert_op_cumprod(moert_ctx *ctx, const moert_view *x, int64_t axis, int32_t exclusive,
                      int32_t reverse, void *out) {
  int at = wrap_axis(axis, x->rank);
  int64_t size = x->dims[at], inner = dims_product(x, at + 1, x->rank);
  int64_t outer = dims_product(x, 0, at);
#define CUMPROD(S, C, LOAD, STORE) CUMULATE(S, C, LOAD, STORE, 1, *)
  MOERT_FOR_TYPES(x->dtype, CUMPROD)
#undef CUMPROD
}

// A NaN wins over every number, in both directions, as in NumPy.
void moert_op_arg(moert_ctx *ctx, const moert_view *x, int64_t axis, int32_t is_max,
                  int32_t select_last, int64_t *out) {
  int at = wrap_axis(axis, x->rank);
  int64_t size = x->dims[at], inner = dims_product(x, at + 1, x->rank);
  int64_t outer = dims_product(x, 0, at);
  if (!size && outer * inner)
    moert_failf(ctx, MOERT_ERROR_INPUT, "%s over an axis of size 0", is_max ? "ArgMax" : "ArgMin");
#define ARG(S, C, LOAD, STORE)                                                                     \
  for (int64_t o = 0; o < outer; ++o)                                                              \
    for (int64_t n = 0; n < inner; ++n) {                                                          \
      int64_t best = 0;                                                                            \
      C top = LOAD(((const S *)x->data)[o * size * inner + n]);                                    \
      for (int64_t i = 1; i < size; ++i) {                                                         \
        C value = LOAD(((const S *)x->data)[(o * size + i) * inner + n]);                          \
        bool nan = value != value, top_nan = top != top;                                           \
        bool better = nan ? !top_nan : !top_nan && (is_max ? value > top : value < top);           \
        bool equal = nan ? top_nan : value == top;                                                 \
        if (better || (equal && select_last)) {                                                    \
          best = i;                                                                                \
          top = value;                                                                             \
        }                                                                                          \
      }                                                                                            \
      out[o * inner + n] = best;                                                                   \
    }
  MOERT_FOR_TYPES(x->dtype, ARG)
#undef ARG
}

// Element i as an integer; floats are truncated, what does not fit gives an index out of range.
static int64_t as_index(moert_ctx *ctx, const moert_view *v, int64_t i) {
  int64_t result = INT64_MIN;
#define AS_INDEX(S, C, LOAD, STORE)                                                                \
  {                                                                                                \
    C value = LOAD(((const S *)v->data)[i]);                                                       \
    if ((double)value > -9e18 && (double)value < 9e18)                                             \
      result = (int64_t)value;                                                                     \
  }
  MOERT_FOR_TYPES(v->dtype, AS_INDEX)
#undef AS_INDEX
  return result;
}

void moert_op_onehot(moert_ctx *ctx, const moert_view *indices, int64_t axis, int64_t depth,
                     const moert_view *values, void *out) {
  int at = wrap_axis(axis, indices->rank + 1);
  int64_t bytes = element_bytes(ctx, values);
  int64_t outer = dims_product(indices, 0, at), inner = dims_product(indices, at, indices->rank);
  const char *off = values->data, *on = off + bytes;
  char *to = out;
  for (int64_t i = 0; i < outer * depth * inner; ++i)
    copy_element(to + i * bytes, off, bytes);
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t n = 0; n < inner; ++n) {
      int64_t index = as_index(ctx, indices, o * inner + n);
      if (index < 0)
        index += depth;
      if (index >= 0 && index < depth) // others have no hot element
        copy_element(to + ((o * depth + index) * inner + n) * bytes, on, bytes);
    }
}
