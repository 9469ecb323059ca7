/* LinearAttention: a state of [key size, value size] for each head, updated step by step. */
#include "elements.h"
#include <math.h>

typedef struct {
  int64_t length, heads, kv_heads, keys, values, decays, betas;
  const float *q, *k, *v, *decay, *beta;
  float scale;
  float *state, *out, *scratch; /* values floats of each worker */
} linear_job;

/* One step of one key/value head. */
static void linear_step(const linear_job *job, int64_t step, int64_t head, float *state,
                        float *change) {
  int64_t n = job->values;
  const float *key = job->k + (step * job->kv_heads + head) * job->keys;
  const float *value = job->v + (step * job->kv_heads + head) * n;
  if (job->decay) {
    const float *rates = job->decay + step * job->decays;
    for (int64_t d = 0; d < job->keys; ++d) {
      int64_t at = job->decays == 1               ? 0
                   : job->decays == job->kv_heads ? head
                                                  : head * job->keys + d;
      float factor = expf(rates[at]);
      for (int64_t e = 0; e < n; ++e)
        state[d * n + e] *= factor;
    }
  }
  memcpy(change, value, (size_t)n * sizeof *change);
  if (job->beta) {
    float beta = job->beta[step * job->betas + (job->betas == 1 ? 0 : head)];
    for (int64_t d = 0; d < job->keys; ++d)
      for (int64_t e = 0; e < n; ++e)
        change[e] -= state[d * n + e] * key[d];
    for (int64_t e = 0; e < n; ++e)
      change[e] *= beta;
  }
  for (int64_t d = 0; d < job->keys; ++d)
    for (int64_t e = 0; e < n; ++e)
      state[d * n + e] += key[d] * change[e];
  int64_t group = job->heads / job->kv_heads;
  for (int64_t g = head * group; g < (head + 1) * group; ++g) {
    const float *query = job->q + (step * job->heads + g) * job->keys;
    float *out = job->out + (step * job->heads + g) * n;
    memset(out, 0, (size_t)n * sizeof *out);
    for (int64_t d = 0; d < job->keys; ++d)
      for (int64_t e = 0; e < n; ++e)
        out[e] += query[d] * job->scale * state[d * n + e];
  }
}

static void linear_task(void *arg, int64_t task, int worker) {
  const linear_job *job = arg;
  float *state = job->state + task * job->keys * job->values;
  for (int64_t t = 0; t < job->length; ++t)
    linear_step(job, task / job->kv_heads * job->length + t, task % job->kv_heads, state,
                job->scratch + worker * job->values);
}

void moert_op_linear_attention(moert_ctx *ctx, const int64_t *sizes, const float *q, const float *k,
                               const float *v, const float *decay, const float *beta, float scale,
                               float *state, float *out, const char *node) {
  linear_job job = {.length = sizes[1],
                    .heads = sizes[2],
                    .kv_heads = sizes[3],
                    .keys = sizes[4],
                    .values = sizes[5],
                    .decays = sizes[6],
                    .betas = sizes[7],
                    .q = q,
                    .k = k,
                    .v = v,
                    .decay = decay,
                    .beta = beta,
                    .scale = scale,
                    .state = state,
                    .out = out};
  if (scale == 0)
    job.scale = 1 / sqrtf((float)job.keys);
  int64_t heads = job.kv_heads;
  if ((decay && job.decays != heads && job.decays != 1 && job.decays != heads * job.keys) ||
      (beta && job.betas != heads && job.betas != 1))
    moert_failf(ctx, MOERT_ERROR_INPUT,
                "node \"%s\" (LinearAttention): decay or beta does not fit the heads", node);
  job.scratch = moert_alloc(ctx, moert_threads(ctx) * job.values * (int64_t)sizeof(float));
  moert_parallel(ctx, sizes[0] * heads, linear_task, &job);
  moert_free(ctx, job.scratch);
}
