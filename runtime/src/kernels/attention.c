/* softmax(scale q k^T + mask) v for every head: k^T is packed to panels once per key/value head,
 * then tasks of (head, block of query rows) compute a block of scores, its softmax and its product
 * with v while the scores stay in cache. */
#include "tiles.h"
#include <math.h>
#include <string.h>

enum { MOST_ROWS = 96 }; /* queries of a task */

typedef struct {
  const moert_bgemm_kernel *kernel;
  int64_t heads, kv_heads, S, L, D, DV;
  const float *q, *k, *v, *mask;
  int64_t sqb, sqh, sqi, skb, skh, skj, svb, svh, svj, smb, smh, smi, smj;
  int32_t causal;
  int64_t offset;
  float scale;
  float *out;
  int64_t sob, soh, soi;
  int64_t padded;               /* L rounded up to 16 */
  float *keys;                  /* packed k^T of each (batch, kv head) */
  int64_t row_step, row_tasks;  /* queries of a task */
  float *scratch;               /* of each worker: scores, then a part of a panel of v */
  int64_t scratch_size;
} attention_job;

static void pack_keys(void *arg, int64_t task, int worker) {
  const attention_job *job = arg;
  (void)worker;
  const float *k = job->k + task / job->kv_heads * job->skb + task % job->kv_heads * job->skh;
  moert_pack_panels(k, 1, job->skj, job->D, job->L, job->keys + task * job->padded * job->D);
}

// Keys that any of the queries up to `last` may see.
static int64_t visible_keys(const attention_job *job, int64_t last) {
  if (!job->causal)
    return job->L;
  return moert_max(moert_min(last + job->offset + 1, job->L), 1);
}

// One row of raw products -> masked and scaled scores, padded with -inf; whether any key is seen.
static int mask_row(const attention_job *job, float *row, const float *mask, int64_t i,
                     int64_t keys, int64_t padded) {
  if (!mask)
    for (int64_t j = 0; j < keys; ++j)
      row[j] *= job->scale;
  else if (job->smj == 1)
    for (int64_t j = 0; j < keys; ++j)
      row[j] = row[j] * job->scale + mask[j];
  else
    for (int64_t j = 0; j < keys; ++j)
      row[j] = row[j] * job->scale + mask[j * job->smj];
  int64_t seen = job->causal ? moert_max(moert_min(i + job->offset + 1, keys), 0) : keys;
  for (int64_t j = seen; j < padded; ++j)
    row[j] = -INFINITY;
  for (int64_t j = 0; j < seen; ++j)
    if (row[j] != -INFINITY)
      return 1;
  row[0] = 0; // any probabilities: the result is 0
  return 0;
}

static void attention_task(void *arg, int64_t task, int worker) {
  const attention_job *job = arg;
  const moert_tiles *tiles = &job->kernel->tiles;
  int64_t first = task % job->row_tasks * job->row_step;
  task /= job->row_tasks;
  int64_t head = task % job->heads, b = task / job->heads;
  int64_t kv = head / (job->heads / job->kv_heads);
  int64_t rows = moert_min(job->row_step, job->S - first);
  int64_t keys = visible_keys(job, first + rows - 1), padded = MOERT_PANELS(keys) * MOERT_COLUMNS;
  float *scores = job->scratch + worker * job->scratch_size;
  float *part = scores + job->row_step * job->padded, *sums = part + job->L * MOERT_COLUMNS;

  moert_product_run(&(moert_product){
      .tiles = tiles,
      .a = job->q + b * job->sqb + head * job->sqh + first * job->sqi,
      .lda = job->sqi,
      .b = job->keys + (b * job->kv_heads + kv) * job->padded * job->D,
      .b_k = MOERT_COLUMNS,
      .b_p = job->D * MOERT_COLUMNS,
      .c = scores,
      .ldc = padded,
      .c_p = MOERT_COLUMNS,
      .rows = rows,
      .panels = padded / MOERT_COLUMNS,
      .k = job->D});
  const float *mask = job->mask ? job->mask + b * job->smb + head * job->smh : NULL;
  int seen[MOST_ROWS];
  for (int64_t r = 0; r < rows; ++r)
    seen[r] = mask_row(job, scores + r * padded, mask ? mask + (first + r) * job->smi : NULL,
                       first + r, keys, padded);

  moert_dim d[3] = {{0, 16, 1, 0},
                    {0, (int32_t)(padded / 16), 16, 0},
                    {0, (int32_t)rows, (int32_t)padded, 0}};
  moert_dim ds[1] = {{0, (int32_t)rows, 1, 0}};
  moert_buf in, exps, sum;
  moert_describe(&in, scores, d, 3);
  moert_describe(&exps, scores, d, 3);
  moert_describe(&sum, sums, ds, 1);
  job->kernel->softmax(&in, &exps, &sum);

  float *out = job->out + b * job->sob + head * job->soh + first * job->soi;
  const float *v = job->v + b * job->svb + kv * job->svh;
  int64_t direct = job->DV / MOERT_COLUMNS * MOERT_COLUMNS;
  moert_product p = {.tiles = tiles, .a = scores, .lda = padded, .b = v, .b_k = job->svj,
                     .b_p = MOERT_COLUMNS, .c = out, .ldc = job->soi, .c_p = MOERT_COLUMNS,
                     .rows = rows, .k = keys};
  moert_product_columns(&p, direct);
  if (direct < job->DV) { // v's last columns, as a padded panel
    moert_pack_panels(v + direct, job->svj, 1, keys, job->DV - direct, part);
    p.b = part;
    p.b_k = MOERT_COLUMNS;
    p.c = out + direct;
    moert_product_columns(&p, job->DV - direct);
  }
  for (int64_t r = 0; r < rows; ++r) {
    if (!seen[r]) {
      memset(out + r * job->soi, 0, (size_t)job->DV * sizeof *out);
      continue;
    }
    float inverse = 1.0f / sums[r];
    for (int64_t n = 0; n < job->DV; ++n)
      out[r * job->soi + n] *= inverse;
  }
}

void moert_attention(moert_ctx *ctx, int32_t slot, int64_t batch, int64_t heads, int64_t kv_heads,
                     int64_t S, int64_t L, int64_t D, int64_t DV, const float *q, int64_t sqb,
                     int64_t sqh, int64_t sqi, const float *k, int64_t skb, int64_t skh,
                     int64_t skj, const float *v, int64_t svb, int64_t svh, int64_t svj,
                     const float *mask, int64_t smb, int64_t smh, int64_t smi, int64_t smj,
                     int32_t causal, int64_t offset, float scale, float *out, int64_t sob,
                     int64_t soh, int64_t soi) {
  const moert_bgemm_kernel *kernel =
      moert_kernel_table(ctx, slot, MOERT_KERNEL_ATTENTION, MOERT_KERNEL_ATTENTION);
  if (kv_heads < 1 || heads % kv_heads)
    moert_failf(ctx, MOERT_ERROR_INPUT, "attention: %lld heads are no multiple of %lld",
                (long long)heads, (long long)kv_heads);
  if (batch <= 0 || heads <= 0 || S <= 0 || DV <= 0)
    return;
  if (L <= 0) { // a sum over nothing
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < S; ++i)
          memset(out + b * sob + h * soh + i * soi, 0, (size_t)DV * sizeof(float));
    return;
  }
  const int64_t most = (int64_t)1 << 30;
  if (L > most / 64 || D > most / 64 || sqi > most / 8 || soi > most / 8 || svj * L > most)
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED, "attention: unsupported size: %lld keys of %lld",
                (long long)L, (long long)D);
  attention_job job = {.kernel = kernel, .heads = heads, .kv_heads = kv_heads, .S = S, .L = L,
                       .D = D, .DV = DV, .q = q, .k = k, .v = v, .mask = mask, .sqb = sqb,
                       .sqh = sqh, .sqi = sqi, .skb = skb, .skh = skh, .skj = skj, .svb = svb,
                       .svh = svh, .svj = svj, .smb = smb, .smh = smh, .smi = smi, .smj = smj,
                       .causal = causal, .offset = offset, .scale = scale, .out = out,
                       .sob = sob, .soh = soh, .soi = soi};
  job.padded = MOERT_PANELS(L) * MOERT_COLUMNS;
  // Scores of a task stay in L2; blocks of whole register tiles.
  job.row_step = moert_min(moert_max((192 << 10) / (4 * moert_max(job.padded, 1)) / 6 * 6, 6),
                           causal ? 48 : MOST_ROWS); // small ones skip more of what a causal row does not see
  job.row_step = moert_min(job.row_step, S);
  job.row_tasks = (S + job.row_step - 1) / job.row_step;
  job.scratch_size = (job.row_step * job.padded + L * MOERT_COLUMNS + job.row_step + 31) / 16 * 16;
  job.scratch = moert_alloc(ctx, moert_threads(ctx) * job.scratch_size * (int64_t)sizeof(float));
  job.keys = moert_alloc(ctx, batch * kv_heads * job.padded * D * (int64_t)sizeof(float));

  double pairs = (double)batch * (double)heads * (double)S * (double)L;
  double flops = pairs * (2.0 * (double)D + 2.0 * (double)DV + 60.0);
  int alone = moert_tasks_worth(ctx, flops, 0) == 1;
  int64_t packs = batch * kv_heads, tasks = batch * heads * job.row_tasks;
  for (int64_t task = 0; alone && task < packs; ++task)
    pack_keys(&job, task, 0);
  for (int64_t task = 0; alone && task < tasks; ++task)
    attention_task(&job, task, 0);
  if (!alone) {
    moert_parallel(ctx, packs, pack_keys, &job);
    moert_parallel(ctx, tasks, attention_task, &job);
  }
  moert_free(ctx, job.keys);
  moert_free(ctx, job.scratch);
}
