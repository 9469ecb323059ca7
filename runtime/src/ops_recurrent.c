/* RNN, GRU and LSTM: the steps after the product with the inputs, which is the caller's. */
#include "elements.h"
#include "kernels/tiles.h"
#include <math.h>

enum { RECURRENT_RNN, RECURRENT_GRU, RECURRENT_LSTM };
/* In the order of lib/Codegen/Host/Recurrent.cpp. */
enum {
  ACT_TANH,
  ACT_SIGMOID,
  ACT_RELU,
  ACT_SOFTSIGN,
  ACT_SOFTPLUS,
  ACT_LEAKY_RELU,
  ACT_THRESHOLDED_RELU,
  ACT_ELU,
  ACT_AFFINE,
  ACT_SCALED_TANH,
  ACT_HARD_SIGMOID,
};

typedef struct {
  int kind, coupled, reset_after, slot, gemm_slot;
  int64_t gates, length, batch, hidden, directions;
  const void *x, *r, *bias, *peephole;
  void *h, *cell, *y;
  const int64_t *lengths;
  const int64_t *functions;
  const double *parameters; /* alpha and beta of each function */
  double clip;
  float *panels[2]; /* R^T of this direction, packed; or null */
} recurrent_job;

/* out = h R^T. `part`: which of the panels holds these rows of R. */
static void multiply_f32(moert_ctx *ctx, const recurrent_job *job, int part, const float *h,
                         const float *r, int64_t rows, float *out, int64_t stride) {
  int64_t n = job->hidden;
  if (job->panels[part])
    moert_gemm(ctx, job->gemm_slot, job->batch, rows, n, h, n, job->panels[part], NULL, out,
               stride);
  else
    moert_bgemm(ctx, job->slot, 1, 1, job->batch, rows, n, h, 0, 0, n, 1, r, 0, 0, 1, n, out, 0, 0,
                stride);
}

/* Packs what every step multiplies by, when enough rows use it. */
static void pack_f32(moert_ctx *ctx, recurrent_job *job, const float *r) {
  int64_t n = job->hidden, width = job->gates * n;
  int64_t first = job->kind == RECURRENT_GRU && !job->reset_after ? 2 * n : width;
  job->panels[0] = job->panels[1] = NULL;
  if (job->gemm_slot < 0 || job->batch < 3 || job->length < 2 || n < 1)
    return;
  int64_t columns[2] = {first, width - first};
  for (int i = 0; i < 2; ++i) {
    if (!columns[i])
      continue;
    int64_t size = MOERT_PANELS(columns[i]) * MOERT_COLUMNS * n;
    job->panels[i] = moert_alloc(ctx, size * (int64_t)sizeof(float));
    moert_pack_panels(r + (i ? first * n : 0), 1, n, n, columns[i], job->panels[i]);
  }
}

#define REAL float
#define NAME(x) f32_##x
#define TANH tanhf
#define EXP expf
#define MULTIPLY(part, h, r, rows, out, stride)                                                    \
  multiply_f32(ctx, job, part, h, r, rows, out, stride)
#include "recurrent.h"
#undef REAL
#undef NAME
#undef TANH
#undef EXP
#undef MULTIPLY

static void multiply_f64(const double *h, const double *r, int64_t batch, int64_t rows, int64_t n,
                         double *out, int64_t stride) {
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t j = 0; j < rows; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < n; ++k)
        sum += h[b * n + k] * r[j * n + k];
      out[b * stride + j] = sum;
    }
}

#define REAL double
#define NAME(x) f64_##x
#define TANH tanh
#define EXP exp
#define MULTIPLY(part, h, r, rows, out, stride) multiply_f64(h, r, batch, rows, n, out, stride)
#include "recurrent.h"

void moert_op_recurrent(moert_ctx *ctx, int32_t slot, int32_t gemm_slot, int32_t kind,
                        int32_t is_f64, const int64_t *sizes, const int64_t *options,
                        const int64_t *functions, const double *numbers, const void *x,
                        const void *r, const void *bias, const int64_t *lengths,
                        const void *peephole, void *h, void *cell, void *y, const char *node) {
  recurrent_job job = {
      .kind = kind,
      .slot = slot,
      .gemm_slot = gemm_slot,
      .length = sizes[0],
      .batch = sizes[1],
      .hidden = sizes[2],
      .directions = sizes[3],
      .gates = kind == RECURRENT_RNN   ? 1
               : kind == RECURRENT_GRU ? 3
                                       : 4,
      .coupled = options[1] != 0,
      .reset_after = options[2] != 0,
      .x = x,
      .r = r,
      .bias = bias,
      .peephole = peephole,
      .h = h,
      .cell = cell,
      .y = y,
      .functions = functions,
      .parameters = numbers + 1,
      .clip = numbers[0],
  };
  int64_t *all = moert_alloc(ctx, (job.batch + 1) * (int64_t)sizeof *all);
  for (int64_t b = 0; b < job.batch; ++b) {
    all[b] = lengths ? lengths[b] : job.length;
    if (all[b] < 0 || all[b] > job.length)
      moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\": a sequence length of %lld, not 0 to %lld",
                  node, (long long)all[b], (long long)job.length);
  }
  job.lengths = all;
  for (int64_t d = 0; d < job.directions; ++d) {
    int backward = options[0] == 1 || d == 1;
    if (is_f64) {
      f64_direction(ctx, &job, d, backward);
      continue;
    }
    pack_f32(ctx, &job, (const float *)r + d * job.gates * job.hidden * job.hidden);
    f32_direction(ctx, &job, d, backward);
    for (int i = 0; i < 2; ++i)
      if (job.panels[i])
        moert_free(ctx, job.panels[i]);
  }
  moert_free(ctx, all);
}
