/* Router: logits -> scores -> the K best experts of each token -> mixing weights. */
#include "choose.h"
#include <math.h>
#include <string.h>

enum { ROWS = 16 }; /* tokens of one call of the scores kernel */

typedef struct {
  const moert_route_kernel *kernel;
  int64_t T, E, K;
  moert_groups groups;
  const float *logits, *bias;
  int32_t *ids;
  float *weights;
  int64_t row_step;
  int64_t padded;  /* E rounded up to 16 */
  float *scratch;  /* of each worker: ROWS rows of scores, then keys of one row */
  int64_t scratch_size;
} route_job;

// Rows of scores (padded) of `rows` tokens from their logits; sums of the rows.
static void score_rows(const route_job *job, const float *logits, int64_t rows, float *scores,
                       float *sums) {
  for (int64_t r = 0; r < rows; ++r) {
    memcpy(scores + r * job->padded, logits + r * job->E, (size_t)job->E * sizeof(float));
    for (int64_t e = job->E; e < job->padded; ++e)
      scores[r * job->padded + e] = -INFINITY;
  }
  if (!job->kernel->scores)
    return;
  moert_dim d[3] = {{0, 16, 1, 0},
                    {0, (int32_t)(job->padded / 16), 16, 0},
                    {0, (int32_t)rows, (int32_t)job->padded, 0}};
  moert_dim ds[1] = {{0, (int32_t)rows, 1, 0}};
  moert_buf in, out, sum;
  moert_describe(&in, scores, d, 3);
  moert_describe(&out, scores, d, 3);
  moert_describe(&sum, sums, ds, 1);
  job->kernel->scores(&in, &out, &sum);
}

// The K experts of the largest keys in descending order, equal ones by id. Returns false when a
// score is NaN; the ids are valid all the same.
static int select_best(const route_job *job, const float *scores, int32_t *keys, int32_t *ids) {
  int ordered = moert_keys(scores, job->bias, job->E, job->padded, keys);
  if (job->groups.count > 1)
    moert_keep_groups(&job->groups, job->E, keys);
  moert_take_best(keys, job->padded, job->K, ids);
  return ordered;
}

static void renormalise(const moert_route_kernel *kernel, float *weights, int64_t K) {
  switch (kernel->renorm) {
  case MOERT_RENORM_SUM: {
    float sum = 0;
    for (int64_t i = 0; i < K; ++i)
      sum += weights[i];
    sum += kernel->epsilon;
    // A minimum of 0 must not turn a negative sum (of identity scores) into 0.
    if (kernel->minimum > 0 && sum < kernel->minimum)
      sum = kernel->minimum;
    for (int64_t i = 0; i < K; ++i)
      weights[i] /= sum;
    break;
  }
  case MOERT_RENORM_SOFTMAX: {
    float largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < K; ++i)
      largest = weights[i] > largest ? weights[i] : largest;
    for (int64_t i = 0; i < K; ++i)
      sum += weights[i] = expf(weights[i] - largest);
    for (int64_t i = 0; i < K; ++i)
      weights[i] /= sum;
    break;
  }
  case MOERT_RENORM_SIGMOID:
    for (int64_t i = 0; i < K; ++i)
      weights[i] = 1.0f / (1.0f + expf(-weights[i]));
    break;
  default:
    break;
  }
}

static void route_token(const route_job *job, const float *scores, int32_t *keys, int32_t *ids,
                        float *weights) {
  const moert_route_kernel *kernel = job->kernel;
  int ordered = select_best(job, scores, keys, ids);
  for (int64_t i = 0; i < job->K; ++i)
    weights[i] = scores[ids[i]];
  renormalise(kernel, weights, job->K);
  for (int64_t i = 0; i < job->K; ++i)
    weights[i] = ordered ? weights[i] * kernel->scale : NAN;
}

static void route_task(void *arg, int64_t task, int worker) {
  const route_job *job = arg;
  float *scores = job->scratch + worker * job->scratch_size;
  int32_t *keys = (int32_t *)(scores + ROWS * job->padded);
  int64_t end = moert_min((task + 1) * job->row_step, job->T);
  for (int64_t t = task * job->row_step; t < end; t += ROWS) {
    int64_t rows = moert_min(ROWS, end - t);
    float sums[ROWS];
    score_rows(job, job->logits + t * job->E, rows, scores, sums);
    for (int64_t r = 0; r < rows; ++r) {
      float *row = scores + r * job->padded;
      if (job->kernel->score == MOERT_SCORE_SOFTMAX)
        for (int64_t e = 0; e < job->E; ++e) // the kernel leaves exp(x - max)
          row[e] /= sums[r];
      route_token(job, row, keys, job->ids + (t + r) * job->K,
                  job->weights + (t + r) * job->K);
    }
  }
}

static void route(moert_ctx *ctx, int32_t slot, route_job job) {
  const moert_route_kernel *kernel =
      moert_kernel_table(ctx, slot, MOERT_KERNEL_ROUTE, MOERT_KERNEL_ROUTE);
  int64_t T = job.T, E = job.E;
  moert_check_choice(ctx, "router", job.K, E, &job.groups);
  if (T <= 0)
    return;
  job.kernel = kernel;
  job.padded = MOERT_PANELS(E) * MOERT_COLUMNS;
  job.scratch_size = (ROWS + 1) * job.padded;
  // About 1.5 ns an expert.
  int64_t tasks = moert_tasks_worth(ctx, 150.0 * (double)T * (double)E, 0);
  job.row_step = ((T + tasks - 1) / tasks + ROWS - 1) / ROWS * ROWS;
  tasks = (T + job.row_step - 1) / job.row_step;
  job.scratch = moert_alloc(ctx, moert_threads(ctx) * job.scratch_size * (int64_t)sizeof(float));
  moert_parallel(ctx, tasks, route_task, &job);
  moert_free(ctx, job.scratch);
}

void moert_route(moert_ctx *ctx, int32_t slot, int64_t T, int64_t E, int64_t K,
                 const float *logits, const float *bias, int32_t *ids, float *weights) {
  route(ctx, slot, (route_job){.T = T, .E = E, .K = K, .groups = {1, 1, 0}, .logits = logits,
                               .bias = bias, .ids = ids, .weights = weights});
}

void moert_route_groups(moert_ctx *ctx, int32_t slot, int64_t T, int64_t E, int64_t K,
                        int64_t groups, int64_t group_k, int32_t top2, const float *logits,
                        const float *bias, int32_t *ids, float *weights) {
  route(ctx, slot, (route_job){.T = T, .E = E, .K = K, .groups = {groups, group_k, top2},
                               .logits = logits, .bias = bias, .ids = ids, .weights = weights});
}
