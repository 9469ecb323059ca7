/* What a router did with some tokens: counts, scores, logits. Chunks of tokens are summed up in f32
 * (sums of numbers in f64) on all threads, then added to the profile in order. */
#include "../profile.h"
#include "lanes.h"
#include "tiles.h"
#include <string.h>

enum { CHUNK = 128, ROUND = 16 }; /* tokens of a task; tasks before their sums are added */

// One task's part of the sums.
typedef struct {
  double *score, *gate, *gate2, *top, *logit, *rank, *ratio, *mass, *entropy;
  float *pairs, *logit_gram, *score_gram; /* [E][E], [padded][padded] twice */
} part;

typedef struct {
  int64_t T, E, K, padded; /* E rounded up to 16 */
  int sigmoid;
  const int32_t *ids;
  const float *weights, *logits;
  int64_t first; /* token of the round */
  int64_t doubles, part_bytes, scratch_bytes;
  char *parts;   /* of each task of a round */
  char *scratch; /* of each worker: logits and scores [CHUNK][padded], the K best */
} routing_job;

static part part_at(const routing_job *job, int64_t task) {
  int64_t E = job->E, bins = job->K * MOERT_BINS;
  double *d = (double *)(job->parts + task * job->part_bytes);
  float *f = (float *)(d + job->doubles);
  return (part){d,
                d + E,
                d + 2 * E,
                d + 3 * E,
                d + 4 * E,
                d + 5 * E,
                d + 5 * E + E * job->K,
                d + 5 * E + E * job->K + bins,
                d + 5 * E + E * job->K + 2 * bins,
                f,
                f + E * E,
                f + E * E + job->padded * job->padded};
}

// Copies a row of logits into z, with zeros for what is masked (-infinity) or padded, and writes
// the scores. Returns their sum; *entropy is that of the scores over their sum.
static float score_row(const routing_job *job, const float *logits, float *z, float *p,
                       float *entropy) {
  int64_t E = job->E, padded = job->padded;
  const moert_lanes none = moert_splat(-INFINITY);
  memcpy(z, logits, (size_t)E * sizeof *z);
  for (int64_t e = E; e < padded; ++e)
    z[e] = -INFINITY;
  moert_lanes most = none, sum = moert_splat(0), weighted = moert_splat(0);
  for (int64_t e = 0; e < padded && !job->sigmoid; e += MOERT_LANES)
    most = moert_larger(moert_load(z + e), most);
  float shift = job->sigmoid ? 0 : moert_largest_lane(most);
  shift = shift > -INFINITY ? shift : 0;
  for (int64_t e = 0; e < padded; e += MOERT_LANES) {
    moert_lanes v = moert_load(z + e);
    moert_int_lanes used = v != none;
    v = moert_where(used, v);
    moert_lanes s = job->sigmoid ? 1.0f / (1.0f + moert_exp(-v)) : moert_exp(v - shift);
    s = moert_where(used, s);
    moert_store(z + e, v);
    moert_store(p + e, s);
    sum += s;
    weighted += s * (v - shift);
  }
  float total = moert_add_lanes(sum), dot = moert_add_lanes(weighted);
  *entropy = 0;
  if (!(total > 0))
    return total;
  if (job->sigmoid) {
    dot = 0;
    for (int64_t e = 0; e < E; ++e)
      dot += p[e] > 0 ? p[e] * logf(p[e]) : 0;
    *entropy = logf(total) - dot / total;
    return total;
  }
  moert_lanes scale = moert_splat(1.0f / total);
  for (int64_t e = 0; e < padded; e += MOERT_LANES)
    moert_store(p + e, moert_load(p + e) * scale);
  *entropy = logf(total) - dot / total;
  return 1;
}

// The most largest of n, falling, the first of equal ones first. Returns how many.
static int64_t best_of(const float *v, int64_t n, int64_t most, int32_t *index) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (count == most && !(v[i] > v[index[count - 1]]))
      continue;
    int64_t at = count < most ? count++ : most - 1;
    for (; at > 0 && v[i] > v[index[at - 1]]; --at)
      index[at] = index[at - 1];
    index[at] = (int32_t)i;
  }
  return count;
}

static int64_t bin_of(float share) {
  return share > 0 ? (int64_t)moert_min((int64_t)(share * MOERT_BINS), MOERT_BINS - 1) : 0;
}

static void count_scores(const routing_job *job, const part *sums, const float *logits,
                         const float *z, const float *p, float total, float entropy,
                         int32_t *best) {
  int64_t E = job->E;
  for (int64_t e = 0; e < E; ++e) {
    sums->score[e] += p[e];
    sums->logit[e] += z[e];
  }
  int64_t n = best_of(logits, E, moert_min(job->K, E), best);
  if (n)
    sums->top[best[0]] += z[best[0]];
  float mass = 0;
  for (int64_t r = 0; r < n; ++r) {
    mass += p[best[r]];
    ++sums->ratio[r * MOERT_BINS + bin_of(p[best[r]] / p[best[0]])];
    ++sums->mass[r * MOERT_BINS + bin_of(mass / total)];
  }
  ++sums->entropy[bin_of(E > 1 ? entropy / logf((float)E) : 0)];
}

// `list` has room for K ids. An expert that a token has twice was chosen by one token.
static void count_slots(const routing_job *job, const part *sums, int64_t t, int32_t *list) {
  int64_t E = job->E, K = job->K, n = 0;
  const int32_t *ids = job->ids + t * K;
  const float *weights = job->weights + t * K;
  for (int64_t k = 0; k < K; ++k) {
    if (ids[k] < 0 || weights[k] == 0)
      continue;
    double g = weights[k];
    ++sums->rank[ids[k] * K + k];
    sums->gate[ids[k]] += g;
    sums->gate2[ids[k]] += g * g;
    int64_t j = 0;
    while (j < n && list[j] != ids[k])
      ++j;
    list[j] = ids[k];
    n += j == n;
  }
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      ++sums->pairs[list[i] * E + list[j]];
}

// gram[i][j] = the sum over rows of a[i] a[j], for j from the 16 that i is in on.
static void gram_of(const float *a, int64_t rows, int64_t width, float *gram) {
  for (int64_t i = 0; i < width; i += 4)
    for (int64_t j = i / 16 * 16; j < width; j += 16) {
      moert_lanes sum[4][2] = {0};
      for (int64_t r = 0; r < rows; ++r) {
        const float *row = a + r * width;
        moert_lanes b0 = moert_load(row + j), b1 = moert_load(row + j + MOERT_LANES);
        for (int q = 0; q < 4; ++q) {
          sum[q][0] += row[i + q] * b0;
          sum[q][1] += row[i + q] * b1;
        }
      }
      for (int q = 0; q < 4; ++q) {
        moert_store(gram + (i + q) * width + j, sum[q][0]);
        moert_store(gram + (i + q) * width + j + MOERT_LANES, sum[q][1]);
      }
    }
}

static void routing_task(void *arg, int64_t task, int worker) {
  const routing_job *job = arg;
  part sums = part_at(job, task);
  memset(sums.score, 0, (size_t)(job->doubles * 8 + job->E * job->E * 4));
  int64_t from = job->first + task * CHUNK, rows = moert_min(CHUNK, job->T - from);
  float *z = (float *)(job->scratch + worker * job->scratch_bytes), *p = z + CHUNK * job->padded;
  int32_t *best = (int32_t *)(p + CHUNK * job->padded);
  for (int64_t r = 0; r < rows; ++r)
    count_slots(job, &sums, from + r, best);
  if (!job->logits)
    return;
  for (int64_t r = 0; r < rows; ++r) {
    const float *logits = job->logits + (from + r) * job->E;
    float *zr = z + r * job->padded, *pr = p + r * job->padded, entropy;
    float total = score_row(job, logits, zr, pr, &entropy);
    count_scores(job, &sums, logits, zr, pr, total, entropy, best);
  }
  gram_of(z, rows, job->padded, sums.logit_gram);
  gram_of(p, rows, job->padded, sums.score_gram);
}

static void add(double *to, const double *from, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    to[i] += from[i];
}

static void add_gram(double *to, const float *from, int64_t E, int64_t padded) {
  for (int64_t i = 0; i < E; ++i)
    for (int64_t j = 0; j < E; ++j)
      to[i * E + j] += from[(i < j ? i : j) * padded + (i < j ? j : i)];
}

static void add_part(const routing_job *job, const part *from, moert_sums *to) {
  int64_t E = job->E, K = job->K;
  for (int64_t e = 0; e < E; ++e)
    to->count[e] += from->pairs[e * E + e];
  add(to->rank_count, from->rank, E * K);
  add(to->gate_sum, from->gate, E);
  add(to->gate_squares, from->gate2, E);
  for (int64_t i = 0; i < E * E; ++i)
    to->coactivation[i] += from->pairs[i];
  if (!job->logits)
    return;
  add(to->score_sum, from->score, E);
  add(to->top_logit_sum, from->top, E);
  add(to->logit_sum, from->logit, E);
  add(to->ratio_bins, from->ratio, K * MOERT_BINS);
  add(to->mass_bins, from->mass, K * MOERT_BINS);
  add(to->entropy_bins, from->entropy, MOERT_BINS);
  add_gram(to->logit_gram, from->logit_gram, E, job->padded);
  add_gram(to->score_gram, from->score_gram, E, job->padded);
}

static void check_ids(moert_ctx *ctx, const routing_job *job) {
  for (int64_t i = 0; i < job->T * job->K; ++i)
    if (job->ids[i] < -1 || job->ids[i] >= job->E)
      moert_failf(ctx, MOERT_ERROR_INPUT, "expert id %lld of %lld experts", (long long)job->ids[i],
                  (long long)job->E);
}

// How much of each sequence an expert gets.
static void count_sequences(moert_ctx *ctx, const routing_job *job, moert_sums *to) {
  int64_t parts = moert_profile_parts(ctx->profile, job->T), slots = job->T / parts * job->K;
  double *counts = moert_alloc(ctx, job->E * (int64_t)sizeof *counts);
  for (int64_t s = 0; s < parts; ++s) {
    memset(counts, 0, (size_t)job->E * sizeof *counts);
    for (int64_t i = s * slots; i < (s + 1) * slots; ++i)
      if (job->ids[i] >= 0 && job->weights[i] != 0)
        ++counts[job->ids[i]];
    for (int64_t e = 0; e < job->E; ++e) {
      double share = counts[e] / (double)slots;
      to->sequence_share[e] += share;
      to->sequence_share_squares[e] += share * share;
    }
  }
  moert_free(ctx, counts);
  *to->tokens += (double)job->T;
  *to->sequences += (double)parts;
}

void moert_profile_routing(moert_ctx *ctx, moert_sums *sums, int64_t T, int64_t E, int64_t K,
                           int32_t sigmoid, const int32_t *ids, const float *weights,
                           const float *logits) {
  routing_job job = {.T = T,
                     .E = E,
                     .K = K,
                     .padded = (E + 15) / 16 * 16,
                     .sigmoid = sigmoid,
                     .ids = ids,
                     .weights = weights,
                     .logits = logits};
  check_ids(ctx, &job);
  count_sequences(ctx, &job, sums);
  job.doubles = 5 * E + E * K + (2 * K + 1) * MOERT_BINS;
  int64_t floats = E * E + (logits ? 2 * job.padded * job.padded : 0);
  job.part_bytes = (job.doubles * 8 + floats * 4 + 63) / 64 * 64;
  job.scratch_bytes = ((2 * CHUNK * job.padded + K) * 4 + 63) / 64 * 64;
  int64_t tasks = (T + CHUNK - 1) / CHUNK;
  job.parts = moert_alloc(ctx, moert_min(tasks, ROUND) * job.part_bytes);
  job.scratch = moert_alloc(ctx, moert_threads(ctx) * job.scratch_bytes);
  for (int64_t task = 0; task < tasks; task += ROUND) {
    int64_t count = moert_min(ROUND, tasks - task);
    job.first = task * CHUNK;
    moert_parallel(ctx, count, routing_task, &job);
    for (int64_t i = 0; i < count; ++i) {
      part from = part_at(&job, i);
      add_part(&job, &from, sums);
    }
  }
  moert_free(ctx, job.scratch);
  moert_free(ctx, job.parts);
}

void moert_probe_routing(moert_ctx *ctx, const char *layer, int64_t T, int64_t E, int64_t K,
                         int32_t sigmoid, const int32_t *ids, const float *weights,
                         const float *logits) {
  if (!ctx->profile || T <= 0 || K <= 0)
    return;
  int groups = MOERT_OF_ROUTING | (logits ? MOERT_OF_LOGITS : 0);
  moert_sums *sums = moert_profile_sums(ctx, layer, groups, E, K, 0);
  moert_profile_routing(ctx, sums, T, E, K, sigmoid, ids, weights, logits);
}
