/* What generated code needs around experts that it runs itself: sorting of slots, sums of rows, and
 * experts that choose tokens. */
#include "dispatch.h"
#include <stdlib.h>
#include <string.h>

void moert_sort_slots(moert_ctx *ctx, int64_t T, int64_t K, int64_t E, const int32_t *ids,
                      const float *weights, const int32_t *twins, int64_t *token, int64_t *first,
                      int32_t *position, float *sums) {
  moert_dispatch d;
  moert_sharing sharing = {.twins = twins, .merge = sums != NULL};
  moert_sort_by_expert(ctx, T, K, E, ids, weights, &sharing, INT32_MAX, &d);
  if (sums)
    memcpy(sums, d.weights, (size_t)(T * K) * sizeof *sums);
  for (int64_t row = 0; row < d.rows; ++row)
    token[row] = d.slot[row] / K;
  memcpy(position, d.position, (size_t)(T * K) * sizeof *position);
  memset(first, 0, (size_t)(E + 1) * sizeof *first);
  for (int64_t g = 0; g < d.active; ++g)
    first[d.groups[g].expert + 1] = d.groups[g].rows;
  for (int64_t e = 0; e < E; ++e)
    first[e + 1] += first[e];
  moert_free(ctx, d.memory);
}

typedef struct {
  int64_t T, K, width, step;
  const int32_t *position;
  const float *weights, *rows;
  int apart;
  float *out;
} combine_job;

static void combine_token(const combine_job *job, int64_t token) {
  int64_t width = job->width;
  float *out = job->out + token * (job->apart ? job->K : 1) * width;
  memset(out, 0, (size_t)((job->apart ? job->K : 1) * width) * sizeof *out);
  for (int64_t k = 0; k < job->K; ++k) {
    int64_t slot = token * job->K + k;
    if (job->position[slot] < 0)
      continue;
    const float *row = job->rows + job->position[slot] * width;
    float *to = job->apart ? out + k * width : out, weight = job->weights[slot];
    for (int64_t i = 0; i < width; ++i)
      to[i] += weight * row[i];
  }
}

static void combine_task(void *arg, int64_t task, int worker) {
  const combine_job *job = arg;
  (void)worker;
  int64_t end = moert_min((task + 1) * job->step, job->T);
  for (int64_t token = task * job->step; token < end; ++token)
    combine_token(job, token);
}

void moert_combine_rows(moert_ctx *ctx, int64_t T, int64_t K, int64_t width,
                        const int32_t *position, const float *weights, const float *rows,
                        int32_t apart, float *out) {
  if (T <= 0 || width <= 0)
    return;
  combine_job job = {.T = T,
                     .K = K,
                     .width = width,
                     .position = position,
                     .weights = weights,
                     .rows = rows,
                     .apart = apart,
                     .out = out};
  double terms = (double)T * (double)K * (double)width;
  int64_t tasks = moert_min(moert_tasks_worth(ctx, 2 * terms, 8 * terms), T);
  job.step = (T + tasks - 1) / tasks;
  moert_parallel(ctx, (T + job.step - 1) / job.step, combine_task, &job);
}

typedef struct {
  int32_t key, token;
} candidate;

// Falling by key, then rising by token.
static int compare(const void *left, const void *right) {
  const candidate *a = left, *b = right;
  if (a->key != b->key)
    return a->key > b->key ? -1 : 1;
  return a->token < b->token ? -1 : a->token > b->token;
}

// An integer that orders as the scores do; NaN is the smallest.
static int32_t key_of(float score) {
  float same = score + 0.0f; // -0 to 0
  int32_t bits;
  memcpy(&bits, &same, sizeof bits);
  return score != score ? INT32_MIN : bits ^ (bits >> 31 & INT32_MAX);
}

void moert_choose(moert_ctx *ctx, int64_t T, int64_t E, int64_t C, const float *scores,
                  int32_t *tokens, float *weights) {
  if (T > INT32_MAX)
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED, "expert choice: unsupported number of tokens: %lld",
                (long long)T);
  candidate *list = moert_alloc(ctx, T * (int64_t)sizeof *list);
  for (int64_t e = 0; e < E; ++e) {
    for (int64_t t = 0; t < T; ++t)
      list[t] = (candidate){key_of(scores[t * E + e]), (int32_t)t};
    qsort(list, (size_t)T, sizeof *list, compare);
    for (int64_t c = 0; c < C; ++c) {
      tokens[e * C + c] = c < T ? list[c].token : -1;
      weights[e * C + c] = c < T ? scores[list[c].token * E + e] : 0.0f;
    }
  }
  moert_free(ctx, list);
}
