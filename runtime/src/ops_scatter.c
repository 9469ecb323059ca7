/* ScatterElements and ScatterND, in place: `out` already holds a copy of the data.
 *
 * Updates are applied one after the other in the indices' row-major order, so that results do not
 * depend on the number of threads. 16-bit floats are joined in f32 and rounded at each step.
 * max and min: a NaN on either side gives NaN. Integers wrap. */
#include "elements.h"

#define IS_NAN(x) ((x) != (x))

// Joins `count` consecutive elements at `to` with those at `from`.
static void join(moert_ctx *ctx, int32_t dtype, int32_t reduction, char *to, const char *from,
                 int64_t count) {
#define JOIN_LOOP(S, C, LOAD, STORE, EXPRESSION)                                                   \
  for (int64_t i = 0; i < count; ++i) {                                                            \
    C a = LOAD(((const S *)to)[i]), b = LOAD(((const S *)from)[i]);                                \
    ((S *)to)[i] = (S)STORE(EXPRESSION);                                                           \
  }
#define JOIN(S, C, LOAD, STORE)                                                                    \
  switch (reduction) {                                                                             \
  case MOERT_SCATTER_ADD:                                                                          \
    JOIN_LOOP(S, C, LOAD, STORE, (C)(a + b)) break;                                                \
  case MOERT_SCATTER_MUL:                                                                          \
    JOIN_LOOP(S, C, LOAD, STORE, (C)(a * b)) break;                                                \
  case MOERT_SCATTER_MAX:                                                                          \
    JOIN_LOOP(S, C, LOAD, STORE, IS_NAN(a) || a > b ? a : b) break;                                \
  default:                                                                                         \
    JOIN_LOOP(S, C, LOAD, STORE, IS_NAN(a) || a < b ? a : b) break;                                \
  }
  MOERT_FOR_TYPES(dtype, JOIN)
#undef JOIN
#undef JOIN_LOOP
}

static void check_reduction(moert_ctx *ctx, const moert_view *out, int32_t reduction,
                            const char *node, const char *op) {
  if (reduction < MOERT_SCATTER_SET || reduction > MOERT_SCATTER_MIN)
    moert_failf(ctx, MOERT_ERROR_INTERNAL, "internal: node \"%s\" (%s): reduction %d", node, op,
                reduction);
  if (reduction != MOERT_SCATTER_SET && out->dtype == T_BOOL)
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED,
                "node \"%s\" (%s): unsupported: a reduction of booleans", node, op);
}

void moert_op_scatter_elements(moert_ctx *ctx, const moert_view *out, const moert_view *indices,
                               const moert_view *updates, int64_t axis, int32_t reduction,
                               const char *node) {
  check_reduction(ctx, out, reduction, node, "ScatterElements");
  check_rank(ctx, out, "ScatterElements");
  int at = wrap_axis(axis, out->rank);
  int64_t bytes = element_bytes(ctx, out), count = view_count(indices);
  int64_t strides[MOERT_MAX_RANK], position[MOERT_MAX_RANK] = {0};
  int64_t stride = 1;
  for (int i = out->rank; i-- > 0; stride *= out->dims[i]) {
    strides[i] = stride;
    if (indices->dims[i] != updates->dims[i] || (i != at && indices->dims[i] > out->dims[i]))
      moert_failf(ctx, MOERT_ERROR_INPUT,
                  "node \"%s\" (ScatterElements): dimension %d is %lld in data, %lld in indices, "
                  "%lld in updates",
                  node, i, (long long)out->dims[i], (long long)indices->dims[i],
                  (long long)updates->dims[i]);
  }
  for (int64_t n = 0; n < count; ++n) {
    int64_t offset = 0;
    for (int i = 0; i < out->rank; ++i)
      offset += (i == at ? 0 : position[i]) * strides[i];
    int64_t index = wrap_index(ctx, index_at(indices, n), out->dims[at], node, "ScatterElements");
    offset += index * strides[at];
    char *to = (char *)out->data + offset * bytes;
    const char *from = (const char *)updates->data + n * bytes;
    if (reduction == MOERT_SCATTER_SET)
      copy_element(to, from, bytes);
    else
      join(ctx, out->dtype, reduction, to, from, 1);
    for (int i = out->rank; i-- > 0 && ++position[i] == indices->dims[i];)
      position[i] = 0;
  }
}

void moert_op_scatter_nd(moert_ctx *ctx, const moert_view *out, const moert_view *indices,
                         const moert_view *updates, int32_t reduction, const char *node) {
  check_reduction(ctx, out, reduction, node, "ScatterND");
  int64_t width = indices->dims[indices->rank - 1];
  if (width < 0 || width > out->rank)
    moert_failf(ctx, MOERT_ERROR_INPUT,
                "node \"%s\" (ScatterND): index tuples of %lld do not fit rank %d", node,
                (long long)width, out->rank);
  int64_t bytes = element_bytes(ctx, out);
  int64_t rows = dims_product(indices, 0, indices->rank - 1);
  int64_t slice = dims_product(out, (int)width, out->rank);
  if (view_count(updates) != rows * slice)
    moert_failf(ctx, MOERT_ERROR_INPUT,
                "node \"%s\" (ScatterND): %lld updates, but the indices need %lld", node,
                (long long)view_count(updates), (long long)(rows * slice));
  for (int64_t r = 0; r < rows; ++r) {
    int64_t offset = 0;
    for (int k = 0; k < width; ++k) {
      int64_t index = index_at(indices, r * width + k);
      offset = offset * out->dims[k] + wrap_index(ctx, index, out->dims[k], node, "ScatterND");
    }
    char *to = (char *)out->data + offset * slice * bytes;
    const char *from = (const char *)updates->data + r * slice * bytes;
    if (reduction == MOERT_SCATTER_SET)
      memcpy(to, from, (size_t)(slice * bytes));
    else
      join(ctx, out->dtype, reduction, to, from, slice);
  }
}
