/* Unique: equal rows once, in order of value or of first occurrence. */
#include "elements.h"
#include <stdlib.h>

typedef struct {
  const moert_view *rows;
  int64_t length; /* elements of a row */
} unique_job;

static int compare_rows(const unique_job *job, int64_t a, int64_t b) {
  for (int64_t i = 0; i < job->length; ++i) {
    uint64_t x = order_key(job->rows->dtype, job->rows->data, a * job->length + i);
    uint64_t y = order_key(job->rows->dtype, job->rows->data, b * job->length + i);
    if (x != y)
      return x < y ? -1 : 1;
  }
  return 0;
}

/* Equal rows stand in order of their index. */
static bool row_before(const unique_job *job, int64_t a, int64_t b) {
  int order = compare_rows(job, a, b);
  return order ? order < 0 : a < b;
}

static void sort_rows(const unique_job *job, int64_t *order, int64_t *scratch, int64_t n) {
  for (int64_t width = 1; width < n; width *= 2) {
    for (int64_t low = 0; low < n; low += 2 * width) {
      int64_t middle = low + width < n ? low + width : n;
      int64_t high = low + 2 * width < n ? low + 2 * width : n;
      for (int64_t i = low, j = middle, to = low; to < high; ++to)
        scratch[to] = i < middle && (j >= high || row_before(job, order[i], order[j])) ? order[i++]
                                                                                       : order[j++];
    }
    memcpy(order, scratch, (size_t)n * sizeof *order);
  }
}

static int by_index(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

int64_t moert_op_unique(moert_ctx *ctx, const moert_view *rows, int32_t sorted, void **out) {
  int64_t n = rows->dims[0], bytes = element_bytes(ctx, rows);
  unique_job job = {rows, dims_product(rows, 1, rows->rank)};
  int64_t each = (int64_t)sizeof(int64_t);
  int64_t *order = moert_alloc(ctx, n * each), *scratch = moert_alloc(ctx, n * each);
  int64_t *group = moert_alloc(ctx, n * each); /* of each row, by value */
  for (int64_t i = 0; i < n; ++i)
    order[i] = i;
  sort_rows(&job, order, scratch, n);
  int64_t found = 0; /* scratch: first row of each group */
  for (int64_t i = 0; i < n; ++i) {
    if (!i || compare_rows(&job, order[i - 1], order[i]))
      scratch[found++] = order[i];
    group[order[i]] = found - 1;
  }
  int64_t *firsts = moert_alloc(ctx, found * each), *counts = moert_alloc(ctx, found * each);
  int64_t *inverse = moert_alloc(ctx, n * each);
  char *values = moert_alloc(ctx, found * job.length * bytes);
  if (found)
    memcpy(firsts, scratch, (size_t)(found * each));
  if (!sorted)
    qsort(firsts, (size_t)found, sizeof *firsts, by_index);
  for (int64_t g = 0; g < found; ++g) { /* order: new place of each group */
    order[group[firsts[g]]] = g;
    counts[g] = 0;
    if (job.length)
      memcpy(values + g * job.length * bytes,
             (const char *)rows->data + firsts[g] * job.length * bytes,
             (size_t)(job.length * bytes));
  }
  for (int64_t i = 0; i < n; ++i) {
    inverse[i] = order[group[i]];
    ++counts[inverse[i]];
  }
  moert_free(ctx, order);
  moert_free(ctx, scratch);
  moert_free(ctx, group);
  out[0] = values;
  out[1] = firsts;
  out[2] = inverse;
  out[3] = counts;
  return found;
}
