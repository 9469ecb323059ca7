/* What experts made of some tokens. Every task owns the sums of an expert, or rows of a matrix. */
#include "../profile.h"
#include "lanes.h"
#include "tiles.h"
#include <string.h>

enum { TOKENS = 64 }; /* of a task */

typedef struct {
  int64_t T, E, K, H;
  const int32_t *ids;
  const float *weights, *x, *residual, *slots, *y;
  float *x_norm, *novelty; /* [T] */
  int64_t *first, *slot;   /* used slots by expert: [E + 1], [T K] */
  moert_sums *sums;
} experts_job;

static float dot(const float *a, const float *b, int64_t n) {
  moert_lanes s0 = moert_splat(0), s1 = s0;
  int64_t i = 0;
  for (; i + 2 * MOERT_LANES <= n; i += 2 * MOERT_LANES) {
    s0 += moert_load(a + i) * moert_load(b + i);
    s1 += moert_load(a + i + MOERT_LANES) * moert_load(b + i + MOERT_LANES);
  }
  float rest = 0;
  for (; i < n; ++i)
    rest += a[i] * b[i];
  return moert_add_lanes(s0 + s1) + rest;
}

// max(0, 1 - cos(r, r + y)) from a = r.r, b = r.y, c = y.y. Where the angle is small 1 - cos is
// sin^2 / (1 + cos), which loses nothing.
static float turn(double a, double b, double c) {
  double product = a * (a + 2 * b + c);
  if (!(product > 0))
    return a != a || c != c ? NAN : 1;
  double cosine = (a + b) / sqrt(product), sine2 = (a * c - b * b) / product;
  double value = cosine > 0 ? sine2 / (1 + cosine) : 1 - cosine;
  return value > 0 ? (float)value : value != value ? NAN : 0;
}

static void token_task(void *arg, int64_t task, int worker) {
  const experts_job *job = arg;
  int64_t H = job->H, end = moert_min((task + 1) * TOKENS, job->T);
  (void)worker;
  for (int64_t t = task * TOKENS; t < end; ++t) {
    const float *x = job->x + t * H, *r = job->residual + t * H, *y = job->y + t * H;
    job->x_norm[t] = sqrtf(dot(x, x, H));
    job->novelty[t] = turn(dot(r, r, H), dot(r, y, H), dot(y, y, H));
  }
}

static double larger(double a, double b) { return b > a || b != b ? b : a; }

// Sums over the channels of each of an expert's rows.
static void add_norms(const experts_job *job, int64_t e) {
  moert_sums *to = job->sums;
  int64_t H = job->H;
  for (int64_t i = job->first[e]; i < job->first[e + 1]; ++i) {
    int64_t slot = job->slot[i], t = slot / job->K;
    const float *v = job->slots + slot * H;
    double g = job->weights[slot], length = sqrt((double)dot(v, v, H)); // of g f
    double gated = g < 0 ? -length : length;
    double lengths = length * job->x_norm[t];
    double cosine = lengths > 0 ? dot(v, job->x + t * H, H) / lengths * (g < 0 ? -1 : 1) : 0;
    to->norm_sum[e] += length / fabs(g);
    to->gated_norm_sum[e] += gated;
    to->gated_norm_squares[e] += gated * gated;
    to->gated_norm_max[e] = larger(to->gated_norm_max[e], gated);
    to->novelty_sum[e] += gated * job->novelty[t];
    to->turn_sum[e] += gated * (1 - cosine);
  }
}

typedef struct {
  moert_lanes gated, sum, squares, most;
} channel_sums;

static void add_row(channel_sums *sums, moert_lanes v, float inverse) {
  moert_lanes f = v * inverse;
  sums->gated += v;
  sums->sum += f;
  sums->squares += f * f;
  sums->most = moert_larger(moert_absolute(f), sums->most);
}

static void add_sums(moert_sums *to, const channel_sums *sums, int64_t e, int64_t at, int64_t n) {
  for (int64_t k = 0; k < n; ++k, ++at) {
    to->gated_output_sum[at] += sums->gated[k];
    to->output_sum[at] += sums->sum[k];
    to->output_squares[at] += sums->squares[k];
    to->output_max_channel[at] = larger(to->output_max_channel[at], sums->most[k]);
    to->output_max[e] = larger(to->output_max[e], sums->most[k]);
  }
}

// Sums over an expert's rows, a cache line of channels at a time.
static void add_channels(const experts_job *job, int64_t e) {
  int64_t H = job->H, from = job->first[e], end = job->first[e + 1], c = 0;
  for (; c + 2 * MOERT_LANES <= H; c += 2 * MOERT_LANES) {
    channel_sums low = {0}, high = {0};
    for (int64_t i = from; i < end; ++i) {
      const float *v = job->slots + job->slot[i] * H + c;
      float inverse = 1.0f / job->weights[job->slot[i]];
      add_row(&low, moert_load(v), inverse);
      add_row(&high, moert_load(v + MOERT_LANES), inverse);
    }
    add_sums(job->sums, &low, e, e * H + c, MOERT_LANES);
    add_sums(job->sums, &high, e, e * H + c + MOERT_LANES, MOERT_LANES);
  }
  for (; c < H; c += MOERT_LANES) {
    int64_t n = moert_min(MOERT_LANES, H - c);
    channel_sums sums = {0};
    for (int64_t i = from; i < end; ++i) {
      moert_lanes v = moert_splat(0);
      memcpy(&v, job->slots + job->slot[i] * H + c, (size_t)n * sizeof(float));
      add_row(&sums, v, 1.0f / job->weights[job->slot[i]]);
    }
    add_sums(job->sums, &sums, e, e * H + c, n);
  }
}

static void expert_task(void *arg, int64_t e, int worker) {
  const experts_job *job = arg;
  (void)worker;
  if (job->first[e] == job->first[e + 1])
    return;
  add_norms(job, e);
  add_channels(job, e);
}

static void sort_slots(experts_job *job) {
  int64_t n = job->T * job->K;
  memset(job->first, 0, (size_t)(job->E + 1) * sizeof *job->first);
  for (int64_t i = 0; i < n; ++i)
    if (job->ids[i] >= 0 && job->weights[i] != 0)
      ++job->first[job->ids[i] + 1];
  for (int64_t e = 0; e < job->E; ++e)
    job->first[e + 1] += job->first[e];
  for (int64_t i = 0; i < n; ++i)
    if (job->ids[i] >= 0 && job->weights[i] != 0)
      job->slot[job->first[job->ids[i]]++] = i;
  memmove(job->first + 1, job->first, (size_t)job->E * sizeof *job->first);
  job->first[0] = 0;
}

void moert_probe_experts(moert_ctx *ctx, const char *layer, int64_t T, int64_t E, int64_t K,
                         int64_t H, int32_t sigmoid, const int32_t *ids, const float *weights,
                         const float *logits, const float *x, const float *residual,
                         const float *slots, const float *y) {
  if (!ctx->profile || T <= 0 || K <= 0 || H <= 0)
    return;
  int groups = MOERT_OF_ROUTING | MOERT_OF_EXPERTS | (logits ? MOERT_OF_LOGITS : 0);
  moert_sums *sums = moert_profile_sums(ctx, layer, groups, E, K, H);
  moert_profile_routing(ctx, sums, T, E, K, sigmoid, ids, weights, logits);
  if (ctx->profile->capacity > 0)
    moert_reservoir_add(ctx, sums, T, E, K, H, ids, weights, logits, x, y);
  experts_job job = {.T = T,
                     .E = E,
                     .K = K,
                     .H = H,
                     .ids = ids,
                     .weights = weights,
                     .x = x,
                     .residual = residual,
                     .slots = slots,
                     .y = y,
                     .sums = sums};
  job.first = moert_alloc(ctx, (E + 1 + T * K) * (int64_t)sizeof(int64_t));
  job.slot = job.first + E + 1;
  job.x_norm = moert_alloc(ctx, 2 * T * (int64_t)sizeof(float));
  job.novelty = job.x_norm + T;
  sort_slots(&job);
  moert_parallel(ctx, (T + TOKENS - 1) / TOKENS, token_task, &job);
  moert_parallel(ctx, E, expert_task, &job);
  moert_free(ctx, job.x_norm);
  moert_free(ctx, job.first);
}

// ---- all experts
// ----------------------------------------------------------------------------------

typedef struct {
  int64_t S, E, H;
  const float *outputs;
  float *inverse; /* [S][E], 1 / |f|; 0 of a zero */
  moert_sums *sums;
} all_job;

// The sum and the lengths of one expert's outputs.
static void output_task(void *arg, int64_t e, int worker) {
  const all_job *job = arg;
  (void)worker;
  double *sum = job->sums->all_output_sum + e * job->H;
  for (int64_t s = 0; s < job->S; ++s) {
    const float *f = job->outputs + (s * job->E + e) * job->H;
    for (int64_t c = 0; c < job->H; ++c)
      sum[c] += f[c];
    float length = sqrtf(dot(f, f, job->H));
    job->inverse[s * job->E + e] = length > 0 ? 1 / length : length;
  }
}

// A row of cosines, from the diagonal on.
static void cosine_task(void *arg, int64_t task, int worker) {
  const all_job *job = arg;
  int64_t E = job->E, H = job->H, i = task;
  (void)worker;
  for (int64_t s = 0; s < job->S; ++s) {
    const float *f = job->outputs + s * E * H, *inverse = job->inverse + s * E;
    for (int64_t j = i; j < E; ++j)
      job->sums->output_cosine[i * E + j] +=
          (double)(dot(f + i * H, f + j * H, H) * inverse[i] * inverse[j]);
  }
}

void moert_probe_all(moert_ctx *ctx, const char *layer, int64_t S, int64_t E, int64_t H,
                     const float *outputs) {
  if (!ctx->profile || S <= 0 || H <= 0)
    return;
  moert_sums *sums = moert_profile_sums(ctx, layer, MOERT_OF_ALL, E, 0, H);
  all_job job = {.S = S, .E = E, .H = H, .outputs = outputs, .sums = sums};
  job.inverse = moert_alloc(ctx, S * E * (int64_t)sizeof(float));
  moert_parallel(ctx, E, output_task, &job);
  moert_parallel(ctx, E, cosine_task, &job);
  for (int64_t i = 0; i < E; ++i)
    for (int64_t j = 0; j < i; ++j)
      sums->output_cosine[i * E + j] = sums->output_cosine[j * E + i];
  *sums->sampled += (double)S;
  moert_free(ctx, job.inverse);
}
