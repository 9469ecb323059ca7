/* Convolutions of f32 as products: the taps of a block of positions become the rows of a matrix
 * that stays in cache, which the weights multiply. */
#include "elements.h"

typedef struct {
  int64_t axes, rows, taps, plane, first, count, step;
  const int64_t *sizes, *kernel, *stride, *dilation, *places;
  int64_t strides[MOERT_MAX_RANK]; /* of a plane */
  const float *x;                  /* of one batch element */
  float *columns;                  /* [rows][count] */
} conv_job;

/* One row: what tap `row % taps` of channel `row / taps` meets at each position of the block. */
static void conv_row(const conv_job *job, int64_t row) {
  int64_t last = job->axes - 1, place[MOERT_MAX_RANK];
  const float *from = job->x + row / job->taps * job->plane;
  float *to = job->columns + row * job->count;
  for (int64_t a = last, rest = row % job->taps; a >= 0; rest /= job->kernel[a--])
    from += rest % job->kernel[a] * job->dilation[a] * job->strides[a];
  for (int64_t a = last, rest = job->first; a >= 0; rest /= job->places[a--])
    place[a] = rest % job->places[a];
  for (int64_t done = 0; done < job->count;) {
    int64_t run = job->places[last] - place[last];
    run = run < job->count - done ? run : job->count - done;
    const float *source = from;
    for (int64_t a = 0; a <= last; ++a)
      source += place[a] * job->stride[a] * job->strides[a];
    if (job->stride[last] == 1)
      memcpy(to + done, source, (size_t)run * sizeof *to);
    else
      for (int64_t i = 0; i < run; ++i)
        to[done + i] = source[i * job->stride[last]];
    done += run;
    place[last] += run;
    for (int64_t a = last; a > 0 && place[a] == job->places[a]; --a) {
      place[a] = 0;
      ++place[a - 1];
    }
  }
}

static void conv_rows(void *arg, int64_t task, int worker) {
  const conv_job *job = arg;
  (void)worker;
  for (int64_t row = task * job->step; row < job->rows && row < (task + 1) * job->step; ++row)
    conv_row(job, row);
}

static void fill_columns(moert_ctx *ctx, conv_job *job) {
  int64_t floats = job->rows * job->count, tasks = 4 * (int64_t)moert_threads(ctx);
  if (moert_threads(ctx) == 1 || floats * (int64_t)sizeof(float) < PARALLEL_BYTES)
    tasks = 1;
  job->step = (job->rows + tasks - 1) / tasks;
  if (tasks == 1)
    conv_rows(job, 0, 0);
  else
    moert_parallel(ctx, (job->rows + job->step - 1) / job->step, conv_rows, job);
}

void moert_op_conv(moert_ctx *ctx, int32_t slot, const int64_t *channels, int64_t axes,
                   const int64_t *geometry, const float *x, const float *w, float *out) {
  int64_t batch = channels[0], groups = channels[1], in = channels[2], each = channels[3];
  if (axes > MOERT_MAX_RANK)
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED, "unsupported: Conv over %lld axes", (long long)axes);
  conv_job job = {.axes = axes,
                  .taps = 1,
                  .plane = 1,
                  .sizes = geometry,
                  .kernel = geometry + axes,
                  .stride = geometry + 2 * axes,
                  .dilation = geometry + 3 * axes,
                  .places = geometry + 4 * axes};
  int64_t positions = 1;
  for (int64_t a = axes; a-- > 0;) {
    job.strides[a] = job.plane;
    job.plane *= job.sizes[a];
    job.taps *= job.kernel[a];
    positions *= job.places[a];
  }
  job.rows = groups * in * job.taps;
  if (!job.rows) { // sums of nothing
    memset(out, 0, (size_t)(batch * groups * each * positions) * sizeof *out);
    return;
  }
  int64_t k = in * job.taps, block = ((int64_t)1 << 20) / job.rows / 16 * 16;
  block = block < 64 ? 64 : block;
  block = block < positions ? block : positions;
  job.columns = moert_alloc(ctx, job.rows * block * (int64_t)sizeof *job.columns);
  for (int64_t n = 0; n < batch; ++n)
    for (job.first = 0; job.first < positions; job.first += block) {
      job.x = x + n * groups * in * job.plane;
      job.count = positions - job.first < block ? positions - job.first : block;
      fill_columns(ctx, &job);
      moert_bgemm(ctx, slot, 1, groups, each, job.count, k, w, 0, each * k, k, 1, job.columns, 0,
                  k * job.count, job.count, 1, out + n * groups * each * positions + job.first, 0,
                  each * positions, positions);
    }
  moert_free(ctx, job.columns);
}
