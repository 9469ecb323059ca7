/* C = A B of run-time operands with any strides, for a two-dimensional batch. */
#include "tiles.h"
#include <string.h>

/* How a task gets at B. */
enum mode {
  DOT,    /* few rows, and B's columns are contiguous in k: row times row */
  DIRECT, /* B's rows are contiguous: they serve as panels */
  PACK    /* copied to panels */
};

typedef struct {
  const moert_bgemm_kernel *kernel;
  enum mode mode;
  int64_t b1, M, N, K;
  const float *A, *B;
  float *C;
  int64_t sa0, sa1, rsA, csA, sb0, sb1, rsB, csB, sc0, sc1, rsC;
  int64_t row_step, row_tasks, column_step, column_tasks;
  float *scratch; /* of each worker: panels of B, then rows of A */
  int64_t scratch_size, panels_size;
} bgemm_job;

// C[rows, columns] with K not a multiple of 16 finished by hand.
static void dot_task(const bgemm_job *job, const float *a, const float *b, float *c, int64_t rows,
                     int64_t columns) {
  int64_t whole = job->K / 16, n4 = columns / 4 * 4;
  for (int64_t first = 0; n4 && first < columns; first += n4) {
    if (first + n4 > columns)
      first = columns - n4; // the last columns again, from further left
    moert_dim da[3] = {{0, 16, 1, 0},
                       {0, (int32_t)whole, 16, 0},
                       {0, (int32_t)rows, (int32_t)job->rsA, 0}};
    moert_dim db[3] = {{0, 16, 1, 0},
                       {0, (int32_t)whole, 16, 0},
                       {0, (int32_t)n4, (int32_t)job->csB, 0}};
    moert_dim dc[2] = {{0, (int32_t)n4, 1, 0}, {0, (int32_t)rows, (int32_t)job->rsC, 0}};
    moert_buf ba, bb, bc;
    moert_describe(&ba, a, da, 3);
    moert_describe(&bb, b + first * job->csB, db, 3);
    moert_describe(&bc, c + first, dc, 2);
    job->kernel->dot(&ba, &bb, &bc);
  }
  int64_t from = n4 ? whole * 16 : 0;
  if (n4 && from == job->K)
    return;
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t n = 0; n < columns; ++n) {
      float sum = n4 ? c[m * job->rsC + n] : 0.0f;
      for (int64_t k = from; k < job->K; ++k)
        sum += a[m * job->rsA + k] * b[n * job->csB + k];
      c[m * job->rsC + n] = sum;
    }
}

static void tile_task(const bgemm_job *job, const float *a, const float *b, float *c, int64_t rows,
                      int64_t columns, float *scratch) {
  moert_product p = {.tiles = &job->kernel->tiles,
                     .a = a,
                     .lda = job->rsA,
                     .c = c,
                     .ldc = job->rsC,
                     .c_p = MOERT_COLUMNS,
                     .rows = rows,
                     .k = job->K};
  if (job->csA != 1) {
    float *copy = scratch + job->panels_size;
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t k = 0; k < job->K; ++k)
        copy[m * job->K + k] = a[m * job->rsA + k * job->csA];
    p.a = copy;
    p.lda = job->K;
  }
  int64_t direct = job->mode == DIRECT ? columns / MOERT_COLUMNS * MOERT_COLUMNS : 0;
  if (direct) {
    p.b = b;
    p.b_k = job->rsB;
    p.b_p = MOERT_COLUMNS;
    moert_product_columns(&p, direct);
  }
  if (direct == columns)
    return;
  moert_pack_panels(b + direct * job->csB, job->rsB, job->csB, job->K, columns - direct, scratch);
  p.b = scratch;
  p.b_k = MOERT_COLUMNS;
  p.b_p = job->K * MOERT_COLUMNS;
  p.c = c + direct;
  moert_product_columns(&p, columns - direct);
}

static void bgemm_task(void *arg, int64_t task, int worker) {
  const bgemm_job *job = arg;
  int64_t row = task % job->row_tasks * job->row_step;
  task /= job->row_tasks;
  int64_t column = task % job->column_tasks * job->column_step;
  task /= job->column_tasks;
  int64_t i1 = task % job->b1, i0 = task / job->b1;
  const float *a = job->A + i0 * job->sa0 + i1 * job->sa1 + row * job->rsA;
  const float *b = job->B + i0 * job->sb0 + i1 * job->sb1 + column * job->csB;
  float *c = job->C + i0 * job->sc0 + i1 * job->sc1 + row * job->rsC + column;
  int64_t rows = moert_min(job->row_step, job->M - row);
  int64_t columns = moert_min(job->column_step, job->N - column);
  if (job->mode == DOT)
    dot_task(job, a, b, c, rows, columns);
  else
    tile_task(job, a, b, c, rows, columns, job->scratch + worker * job->scratch_size);
}

static enum mode choose_mode(const bgemm_job *job) {
  const int64_t most = (int64_t)1 << 30;
  if (job->csA == 1 && job->rsB == 1 && job->M <= 2 && job->csB >= 0 &&
      job->csB * job->N < most && job->rsA * job->M < most && job->rsC * job->M < most)
    return DOT;
  // Packing costs a pass over B and is worth it when many rows follow: panels are read in order.
  if (job->csB == 1 && job->M <= 24 && job->rsB >= 0 && job->rsB * job->K < most)
    return DIRECT;
  return PACK;
}

static void split(moert_ctx *ctx, bgemm_job *job, int64_t batch) {
  double flops = 2.0 * (double)job->M * (double)job->N * (double)job->K;
  double bytes = 4.0 * (double)job->N * (double)job->K;
  int64_t tasks = moert_tasks_worth(ctx, flops * (double)batch, bytes * (double)batch);
  int64_t wanted = moert_max((tasks + batch - 1) / batch, 1);
  // Packed panels of one task stay in L2.
  int64_t most = moert_max((256 << 10) / (64 * moert_max(job->K, 1)), 4) * MOERT_COLUMNS;
  if (job->mode == DOT)
    most = job->N;
  int64_t step = moert_min((job->N + wanted - 1) / wanted, most);
  job->column_step = moert_max((step + 63) / 64 * 64, 64);
  job->column_tasks = (job->N + job->column_step - 1) / job->column_step;
  job->row_step = job->M;
  if (job->csA != 1) // rows are copied: bound the copy
    job->row_step = moert_min(job->M, 96);
  if (job->column_tasks < wanted && job->M >= 96) {
    int64_t parts = (wanted + job->column_tasks - 1) / job->column_tasks;
    job->row_step = moert_min(job->row_step, moert_max((job->M / parts + 5) / 6 * 6, 48));
  }
  job->row_tasks = (job->M + job->row_step - 1) / job->row_step;
}

void moert_bgemm(moert_ctx *ctx, int32_t slot, int64_t b0, int64_t b1, int64_t M, int64_t N,
                 int64_t K, const float *A, int64_t sa0, int64_t sa1, int64_t rsA, int64_t csA,
                 const float *B, int64_t sb0, int64_t sb1, int64_t rsB, int64_t csB, float *C,
                 int64_t sc0, int64_t sc1, int64_t rsC) {
  const moert_bgemm_kernel *kernel =
      moert_kernel_table(ctx, slot, MOERT_KERNEL_BGEMM, MOERT_KERNEL_ATTENTION);
  if (b0 <= 0 || b1 <= 0 || M <= 0 || N <= 0)
    return;
  if (K == 1) // strides along k do not matter then
    csA = rsB = 1;
  bgemm_job job = {.kernel = kernel, .b1 = b1, .M = M, .N = N, .K = K, .A = A, .B = B, .C = C,
                   .sa0 = sa0, .sa1 = sa1, .rsA = rsA, .csA = csA, .sb0 = sb0, .sb1 = sb1,
                   .rsB = rsB, .csB = csB, .sc0 = sc0, .sc1 = sc1, .rsC = rsC};
  job.mode = choose_mode(&job);
  split(ctx, &job, b0 * b1);
  moert_product check = {.lda = rsA, .ldc = rsC, .b_p = K * MOERT_COLUMNS, .b_k = 1, .k = K};
  if (!moert_product_fits(&check))
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED,
                "unsupported size of a matrix product: %lld x %lld x %lld", (long long)M,
                (long long)N, (long long)K);

  int64_t columns = moert_min(job.column_step, N);
  if (job.mode == DIRECT)
    columns = moert_min(columns, MOERT_COLUMNS); // the last part of a panel
  if (job.mode != DOT) {
    job.panels_size = MOERT_PANELS(columns) * MOERT_COLUMNS * K;
    job.scratch_size = job.panels_size + (csA == 1 ? 0 : job.row_step * K);
    job.scratch_size = (job.scratch_size + 31) / 16 * 16;
    job.scratch = moert_alloc(ctx, job.scratch_size * moert_threads(ctx) * (int64_t)sizeof(float));
  }
  int64_t tasks = b0 * b1 * job.column_tasks * job.row_tasks;
  double flops = 2.0 * (double)(b0 * b1) * (double)M * (double)N * (double)K;
  if (moert_tasks_worth(ctx, flops, 4.0 * (double)(b0 * b1) * (double)N * (double)K) == 1)
    for (int64_t task = 0; task < tasks; ++task)
      bgemm_task(&job, task, 0);
  else
    moert_parallel(ctx, tasks, bgemm_task, &job);
  if (job.scratch)
    moert_free(ctx, job.scratch);
}
