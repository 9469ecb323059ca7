/* C = A W (+ bias) with packed weights: tasks of row blocks x column groups. */
#include "tiles.h"

typedef struct {
  moert_product product;
  int64_t N;
  int64_t row_step, row_tasks;
  int64_t column_step; /* a multiple of a panel */
} gemm_job;

static void gemm_task(void *arg, int64_t task, int worker) {
  const gemm_job *job = arg;
  (void)worker;
  moert_product p = job->product;
  // Neighbouring tasks read the same rows: weights are streamed once for each block of rows.
  int64_t column_tasks = (job->N + job->column_step - 1) / job->column_step;
  int64_t row = task / column_tasks * job->row_step;
  int64_t column = task % column_tasks * job->column_step;
  p.a += row * p.lda;
  p.c += row * p.ldc + column;
  p.rows = moert_min(job->row_step, p.rows - row);
  p.b = (const char *)p.b + column / MOERT_COLUMNS * p.b_p * p.tiles->weight_bytes;
  if (p.bias)
    p.bias += column;
  moert_product_columns(&p, moert_min(job->column_step, job->N - column));
}

static int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

void moert_gemm(moert_ctx *ctx, int32_t slot, int64_t M, int64_t N, int64_t K, const float *A,
                int64_t lda, const void *W, const float *bias, float *C, int64_t ldc) {
  const moert_gemm_kernel *kernel =
      moert_kernel_table(ctx, slot, MOERT_KERNEL_GEMM, MOERT_KERNEL_GEMM);
  if (M <= 0 || N <= 0)
    return;
  gemm_job job = {{.tiles = &kernel->tiles,
                   .a = A,
                   .lda = lda,
                   .b = W,
                   .b_k = MOERT_COLUMNS,
                   .b_p = K * MOERT_COLUMNS,
                   .bias = bias,
                   .bias_p = MOERT_COLUMNS,
                   .c = C,
                   .ldc = ldc,
                   .c_p = MOERT_COLUMNS,
                   .rows = M,
                   .k = K},
                  .N = N};
  if (!moert_product_fits(&job.product))
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED,
                "unsupported size of a matrix product: %lld x %lld x %lld", (long long)M,
                (long long)N, (long long)K);

  double flops = 2.0 * (double)M * (double)N * (double)K;
  double bytes = (double)N * (double)K * kernel->tiles.weight_bytes;
  int64_t tasks = moert_tasks_worth(ctx, flops, bytes);
  // Rows of A that stay in L2 while all columns pass.
  int64_t resident = moert_max((384 << 10) / (4 * moert_max(K, 1)) / 24 * 24, 48);
  job.row_step = moert_min(M, resident);
  int64_t row_tasks = (M + job.row_step - 1) / job.row_step;
  int64_t column_tasks = moert_max((tasks + row_tasks - 1) / row_tasks, 1);
  job.column_step = moert_max(round_up((N + column_tasks - 1) / column_tasks, 4 * MOERT_COLUMNS),
                              4 * MOERT_COLUMNS);
  column_tasks = (N + job.column_step - 1) / job.column_step;
  if (column_tasks * row_tasks < tasks && M > 12) { // few columns: split the rows further
    int64_t wanted = (tasks + column_tasks - 1) / column_tasks;
    job.row_step = moert_max(round_up((M + wanted - 1) / wanted, MOERT_TILE_ROWS), 12);
    row_tasks = (M + job.row_step - 1) / job.row_step;
  }
  if (tasks == 1) // no hand-over to other threads
    for (int64_t task = 0; task < row_tasks * column_tasks; ++task)
      gemm_task(&job, task, 0);
  else
    moert_parallel(ctx, row_tasks * column_tasks, gemm_task, &job);
}
