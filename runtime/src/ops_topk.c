/* TopK, always sorted. Ties go to the lower index. NaN counts as greater than every number. */
#include "elements.h"

/* An element under its order_key. */
typedef struct {
  uint64_t key;
  int64_t index;
} entry;

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
    entry e = {order_key(job->x->dtype, job->x->data, first + i * job->inner) ^ job->flip, i};
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
