/* TopK, always sorted. Ties go to the lower index. NaN counts as greater than every number. */
#include "elements.h"

/* An element under a key whose unsigned order is the elements' order. */
typedef struct {
  uint64_t key;
  int64_t index;
} entry;

static uint64_t key_of_f64(double x) {
  uint64_t bits;
  memcpy(&bits, &x, 8);
  if (x != x)
    return UINT64_MAX;
  if (x == 0)
    bits = 0; // -0 equals 0
  return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

// Every other type fits f64 or a 64-bit integer.
static uint64_t key_at(int32_t dtype, const void *data, int64_t i) {
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

static bool before(entry a, entry b) {
  return a.key > b.key || (a.key == b.key && a.index < b.index);
}

// The root of the heap is the entry that goes last.
static void sift_down(entry *heap, int64_t count, int64_t at) {
  entry moved = heap[at];
  for (;;) {
    int64_t child = 2 * at + 1;
    if (child >= count)
      break;
    if (child + 1 < count && before(heap[child], heap[child + 1]))
      ++child;
    if (!before(moved, heap[child]))
      break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = moved;
}

typedef struct {
  const moert_view *x;
  int64_t size, inner, k, bytes, rows, per_task;
  uint64_t flip;  /* all ones for the smallest */
  entry *scratch; /* k entries for each worker */
  char *values;
  int64_t *indices;
} topk_job;

static void topk_row(const topk_job *job, int64_t row, entry *heap) {
  int64_t first = row / job->inner * job->size * job->inner + row % job->inner;
  int64_t k = job->k;
  for (int64_t i = 0; i < job->size; ++i) {
    entry e = {key_at(job->x->dtype, job->x->data, first + i * job->inner) ^ job->flip, i};
    if (i < k) {
      heap[i] = e;
      for (int64_t at = i == k - 1 ? k / 2 : 0; at-- > 0;)
        sift_down(heap, k, at);
    } else if (before(e, heap[0])) {
      heap[0] = e;
      sift_down(heap, k, 0);
    }
  }
  for (int64_t end = k; end-- > 1;) { // heap sort: the last one to its place
    entry last = heap[0];
    heap[0] = heap[end];
    heap[end] = last;
    sift_down(heap, end, 0);
  }
  int64_t out = row / job->inner * k * job->inner + row % job->inner;
  for (int64_t i = 0; i < k; ++i) {
    int64_t to = out + i * job->inner, from = first + heap[i].index * job->inner;
    copy_element(job->values + to * job->bytes, (const char *)job->x->data + from * job->bytes,
                 job->bytes);
    job->indices[to] = heap[i].index;
  }
}

static void topk_rows(void *arg, int64_t task, int worker) {
  const topk_job *job = arg;
  int64_t end = (task + 1) * job->per_task;
  for (int64_t r = task * job->per_task; r < end && r < job->rows; ++r)
    topk_row(job, r, job->scratch + worker * job->k);
}

void moert_op_topk(moert_ctx *ctx, const moert_view *x, int64_t axis, int64_t k, int32_t largest,
                   void *values, int64_t *indices, const char *node) {
  int at = wrap_axis(axis, x->rank);
  topk_job job = {.x = x,
                  .size = x->dims[at],
                  .k = k,
                  .flip = largest ? 0 : UINT64_MAX,
                  .values = values,
                  .indices = indices,
                  .bytes = element_bytes(ctx, x)};
  if (k < 0 || k > job.size)
    moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\" (TopK): k = %lld is not in [0, %lld]", node,
                (long long)k, (long long)job.size);
  job.inner = dims_product(x, at + 1, x->rank);
  job.rows = dims_product(x, 0, at) * job.inner;
  if (!k || !job.rows)
    return;
  job.scratch = moert_alloc(ctx, moert_threads(ctx) * k * (int64_t)sizeof(entry));
  job.per_task = 16384 / job.size + 1;
  moert_parallel(ctx, (job.rows + job.per_task - 1) / job.per_task, topk_rows, &job);
  moert_free(ctx, job.scratch);
}
