/* Gather, GatherND, GatherElements. */
#include "elements.h"

/* Copies `rows` slices of `slice` bytes; slice r comes from source(r). */
typedef struct {
  moert_ctx *ctx;
  const moert_view *data, *indices;
  const char *node;
  char *out;
  int64_t rows, per_task, slice;                /* bytes of a slice */
  int64_t axis_size, inner_rows;                /* Gather: size of the axis, number of indices */
  int64_t index_width, index_rows, batch_bytes; /* GatherND */
  const int64_t *strides;                       /* GatherND: bytes, by index component */
  const int64_t *sizes;
} gather_job;

static int64_t gather_end(const gather_job *job, int64_t task) {
  int64_t end = (task + 1) * job->per_task;
  return end < job->rows ? end : job->rows;
}

static void run_rows(gather_job *job, moert_task fn) {
  int64_t slice = job->slice > 0 ? job->slice : 1;
  job->per_task = job->rows;
  if (job->rows * slice > PARALLEL_BYTES) {
    job->per_task = (PARALLEL_BYTES / 4 + slice - 1) / slice;
  }
  if (job->rows > 0)
    moert_parallel(job->ctx, (job->rows + job->per_task - 1) / job->per_task, fn, job);
}

static void gather_rows(void *arg, int64_t task, int worker) {
  const gather_job *job = arg;
  const char *data = job->data->data;
  for (int64_t r = task * job->per_task, end = gather_end(job, task); r < end; ++r) {
    int64_t outer = r / job->inner_rows, at = r % job->inner_rows;
    int64_t index =
        wrap_index(job->ctx, index_at(job->indices, at), job->axis_size, job->node, "Gather");
    const char *from = data + (outer * job->axis_size + index) * job->slice;
    char *to = job->out + r * job->slice;
    if (job->slice <= 8)
      copy_element(to, from, job->slice);
    else
      memcpy(to, from, (size_t)job->slice);
  }
}

void moert_op_gather(moert_ctx *ctx, const moert_view *data, const moert_view *indices,
                     int64_t axis, void *out, const char *node) {
  int at = wrap_axis(axis, data->rank);
  gather_job job = {.ctx = ctx, .data = data, .indices = indices, .node = node, .out = out};
  job.axis_size = data->dims[at];
  job.inner_rows = view_count(indices);
  job.rows = dims_product(data, 0, at) * job.inner_rows;
  job.slice = dims_product(data, at + 1, data->rank) * element_bytes(ctx, data);
  run_rows(&job, gather_rows);
}

static void gather_nd_rows(void *arg, int64_t task, int worker) {
  const gather_job *job = arg;
  for (int64_t r = task * job->per_task, end = gather_end(job, task); r < end; ++r) {
    const char *from = (const char *)job->data->data + r / job->index_rows * job->batch_bytes;
    for (int64_t k = 0; k < job->index_width; ++k) {
      int64_t index = index_at(job->indices, r * job->index_width + k);
      from += wrap_index(job->ctx, index, job->sizes[k], job->node, "GatherND") * job->strides[k];
    }
    memcpy(job->out + r * job->slice, from, (size_t)job->slice);
  }
}

void moert_op_gather_nd(moert_ctx *ctx, const moert_view *data, const moert_view *indices,
                        int64_t batch_dims, void *out, const char *node) {
  check_rank(ctx, data, "GatherND");
  int batch = (int)batch_dims;
  int64_t width = indices->dims[indices->rank - 1];
  if (width < 0 || batch + width > data->rank)
    moert_failf(ctx, MOERT_ERROR_INPUT,
                "node \"%s\" (GatherND): index tuples of %lld do not fit rank %d", node,
                (long long)width, data->rank);
  for (int i = 0; i < batch; ++i)
    if (data->dims[i] != indices->dims[i])
      moert_failf(ctx, MOERT_ERROR_INPUT,
                  "node \"%s\" (GatherND): batch dimension %d is %lld in data, %lld in indices",
                  node, i, (long long)data->dims[i], (long long)indices->dims[i]);
  int64_t strides[MOERT_MAX_RANK];
  gather_job job = {.ctx = ctx, .data = data, .indices = indices, .node = node, .out = out};
  int64_t bytes = element_bytes(ctx, data);
  job.slice = dims_product(data, batch + (int)width, data->rank) * bytes;
  job.index_width = width;
  job.index_rows = dims_product(indices, batch, indices->rank - 1);
  job.rows = dims_product(indices, 0, indices->rank - 1);
  job.batch_bytes = dims_product(data, batch, data->rank) * bytes;
  for (int k = 0; k < width; ++k)
    strides[k] = dims_product(data, batch + k + 1, data->rank) * bytes;
  job.strides = strides;
  job.sizes = data->dims + batch;
  run_rows(&job, gather_nd_rows);
}

void moert_op_gather_elements(moert_ctx *ctx, const moert_view *data, const moert_view *indices,
                              int64_t axis, void *out, const char *node) {
  check_rank(ctx, data, "GatherElements");
  int at = wrap_axis(axis, data->rank);
  int64_t bytes = element_bytes(ctx, data), count = view_count(indices);
  int64_t strides[MOERT_MAX_RANK], position[MOERT_MAX_RANK] = {0};
  int64_t stride = 1;
  for (int i = data->rank; i-- > 0; stride *= data->dims[i]) {
    strides[i] = stride;
    if (i != at && indices->dims[i] > data->dims[i])
      moert_failf(ctx, MOERT_ERROR_INPUT,
                  "node \"%s\" (GatherElements): dimension %d of indices is %lld, of data %lld",
                  node, i, (long long)indices->dims[i], (long long)data->dims[i]);
  }
  for (int64_t n = 0; n < count; ++n) {
    int64_t offset = 0;
    for (int i = 0; i < data->rank; ++i)
      offset += (i == at ? 0 : position[i]) * strides[i];
    int64_t index = wrap_index(ctx, index_at(indices, n), data->dims[at], node, "GatherElements");
    offset += index * strides[at];
    copy_element((char *)out + n * bytes, (const char *)data->data + offset * bytes, bytes);
    for (int i = data->rank; i-- > 0 && ++position[i] == indices->dims[i];)
      position[i] = 0;
  }
}
