/* moe.select: scores -> the experts chosen for each token, with empty slots, and their raw weights. */
#include "choose.h"
#include <math.h>

typedef struct {
  int32_t kind; /* enum moert_select_kind */
  moert_groups groups;
  float bound;      /* p, or the threshold */
  int64_t at_least; /* of threshold */
  int64_t T, E, K, used;
  const float *scores, *weight_scores;
  const int32_t *given;
  int32_t *ids;
  float *weights;
  int64_t padded, row_step;
  int32_t *scratch; /* of each worker: keys of one row */
  int64_t *bad;     /* of each worker: an id that is no expert's, + 1 */
} select_job;

// How many of the K ranked experts a row takes.
static int64_t taken(const select_job *job, const float *scores, const int32_t *ids) {
  int64_t n = moert_min(job->K, job->used), count = 0;
  if (job->kind == MOERT_SELECT_TOP_P) {
    double sum = 0;
    while (count < n && (count == 0 || sum < job->bound))
      sum += scores[ids[count++]];
    return count;
  }
  if (job->kind == MOERT_SELECT_THRESHOLD) {
    while (count < n && scores[ids[count]] >= job->bound)
      ++count;
    return moert_max(count, moert_min(n, job->at_least));
  }
  return n;
}

static int has_nan(const float *row, int64_t E) {
  int nans = 0;
  for (int64_t e = 0; e < E; ++e)
    nans |= row[e] != row[e];
  return nans;
}

// The ids of one row in ids[0..), and how many of them are used.
static int64_t choose(const select_job *job, int64_t t, const float *scores, int32_t *keys,
                      int32_t *ids) {
  if (job->kind == MOERT_SELECT_EXTERNAL) {
    for (int64_t k = 0; k < job->K; ++k)
      ids[k] = job->given[t * job->K + k];
    return job->K;
  }
  if (job->kind == MOERT_SELECT_ALL) {
    for (int64_t k = 0; k < job->K; ++k)
      ids[k] = (int32_t)k;
    return job->K;
  }
  moert_keys(scores, NULL, job->E, job->padded, keys);
  if (job->groups.count > 1)
    moert_keep_groups(&job->groups, job->E, keys);
  moert_take_best(keys, job->padded, job->K, ids);
  return taken(job, scores, ids);
}

static void select_task(void *arg, int64_t task, int worker) {
  const select_job *job = arg;
  int32_t *keys = job->scratch + worker * job->padded;
  int64_t end = moert_min((task + 1) * job->row_step, job->T);
  for (int64_t t = task * job->row_step; t < end; ++t) {
    const float *scores = job->scores + t * job->E;
    const float *from = job->weight_scores ? job->weight_scores + t * job->E : scores;
    int32_t *ids = job->ids + t * job->K;
    float *weights = job->weights + t * job->K;
    if (has_nan(scores, job->E) || (from != scores && has_nan(from, job->E))) {
      for (int64_t k = 0; k < job->K; ++k) {
        ids[k] = (int32_t)moert_min(k, job->E - 1);
        weights[k] = NAN;
      }
      continue;
    }
    int64_t used = choose(job, t, scores, keys, ids);
    for (int64_t k = 0; k < job->K; ++k) {
      int32_t id = k < used ? ids[k] : -1;
      if (id < -1 || id >= job->E) {
        job->bad[worker] = (int64_t)id + 1;
        id = -1;
      }
      ids[k] = id;
      weights[k] = id < 0 ? 0.0f : from[id];
    }
  }
}

void moert_select(moert_ctx *ctx, int32_t kind, int64_t T, int64_t E, int64_t K, int64_t groups,
                  int64_t group_k, int32_t top2, float bound, int64_t at_least, int64_t used,
                  const float *scores, const float *weight_scores, const int32_t *given,
                  int32_t *ids, float *weights) {
  select_job job = {.kind = kind, .groups = {groups, group_k, top2}, .bound = bound,
                    .at_least = at_least, .T = T, .E = E, .K = K, .used = used, .scores = scores,
                    .weight_scores = weight_scores, .given = given, .ids = ids,
                    .weights = weights};
  if (kind != MOERT_SELECT_EXTERNAL)
    moert_check_choice(ctx, "selection", K, E, &job.groups);
  if (used < 0 || used > K)
    moert_failf(ctx, MOERT_ERROR_INPUT,
                "selection: the number of used slots %lld is not between 0 and %lld",
                (long long)used, (long long)K);
  if (T <= 0 || K <= 0)
    return;
  job.padded = MOERT_PANELS(E) * MOERT_COLUMNS;
  int64_t tasks = moert_tasks_worth(ctx, 150.0 * (double)T * (double)E, 0);
  job.row_step = (T + tasks - 1) / tasks;
  tasks = (T + job.row_step - 1) / job.row_step;
  int64_t threads = moert_threads(ctx);
  job.bad = moert_alloc(ctx, threads * (int64_t)sizeof(int64_t));
  job.scratch = moert_alloc(ctx, threads * job.padded * (int64_t)sizeof(int32_t));
  for (int64_t i = 0; i < threads; ++i)
    job.bad[i] = 0;
  moert_parallel(ctx, tasks, select_task, &job);
  int64_t bad = 0;
  for (int64_t i = 0; i < threads; ++i)
    bad = job.bad[i] != 0 ? job.bad[i] : bad;
  moert_free(ctx, job.scratch);
  moert_free(ctx, job.bad);
  if (bad != 0)
    moert_failf(ctx, MOERT_ERROR_INPUT, "selection: expert id %lld of %lld experts",
                (long long)(bad - 1), (long long)E);
}
