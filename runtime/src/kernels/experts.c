/* Experts on sorted tokens: gather rows, up (gate, up and activation at once), down, weighted sum.
 *
 * Three schedules, equal in every bit of the result because each element is always the same sum in
 * the same order:
 *   fused    many blocks of rows: a task takes one block through up and down, then a second job
 *            sums the slots of the tokens;
 *   columns  few rows (decode): tasks of up are (block, columns of I); tasks of down are columns of
 *            H for all rows, with the sum at the end;
 *   phased   the rest: (block, columns) tasks for up and for down, then the sums.
 *
 * Experts that share parameters are one group of rows, and a token's slots in it one row under the
 * sum of their weights. Experts without parameters have no rows: the sums add them at their end. */
#include "dispatch.h"
#include <string.h>

enum { MOST_ROWS = 64 }; /* of a block */
#define MOST_BYTES ((int64_t)256 << 20) /* of intermediate rows */

typedef struct {
  const moert_tiles *up, *down;
  moert_combine_fn combine;
  int64_t T, H, I, K;
  const float *x, *weights, *up_bias, *down_bias;
  const char *gate_up, *down_weights;
  const int32_t *ids;
  const int32_t *slabs, *widths, *twins; /* of each expert; null: its own row, all of I, itself */
  const float *constants;                /* [][H] */
  float *out;
  moert_dispatch d;
  int64_t I16, H16;    /* rounded up to 16 */
  float *hidden;       /* [rows][I16], of each worker when fused: [MOST_ROWS][I16] */
  float *gathered;     /* of each worker: [MOST_ROWS][H] */
  float *y;            /* [rows][H16] */
  int64_t up_groups, up_panels;     /* groups of up_panels panels of I */
  int64_t down_groups, down_panels; /* of H */
  int64_t token_step;
} experts_job;

typedef struct {
  const moert_group *group;
  int64_t first, rows; /* of the sorted order */
} block;

static block block_at(const moert_group *group, int64_t part) {
  int64_t from = part * group->part_rows;
  return (block){group, group->first + from, moert_min(group->part_rows, group->rows - from)};
}

static int64_t slab_of(const experts_job *job, block b) {
  return job->slabs ? job->slabs[b.group->expert] : b.group->expert;
}

static int64_t width_of(const experts_job *job, block b) {
  return job->widths ? job->widths[b.group->expert] : job->I;
}

// The rows of x that a block needs, one after the other.
static const float *gather(const experts_job *job, block b, int worker, int64_t *lda) {
  *lda = 0;
  if (job->T == 1) // all rows are the one token
    return job->x;
  *lda = job->H;
  float *rows = job->gathered + worker * MOST_ROWS * job->H;
  for (int64_t r = 0; r < b.rows; ++r)
    memcpy(rows + r * job->H, job->x + job->d.slot[b.first + r] / job->K * job->H,
           (size_t)job->H * sizeof(float));
  return rows;
}

static void run_up(const experts_job *job, block b, int64_t first_panel, int64_t panels,
                   float *hidden, int worker) {
  const moert_tiles *t = job->up;
  int64_t row = slab_of(job, b);
  panels = moert_min(panels, MOERT_PANELS(width_of(job, b)) - first_panel);
  if (panels <= 0)
    return;
  int64_t panel = job->H * t->columns, slab = job->I16 / MOERT_COLUMNS * panel;
  int64_t bias_row = job->I16 / MOERT_COLUMNS * t->columns;
  moert_product p = {.tiles = t, .b_k = t->columns, .b_p = panel, .bias_p = t->columns,
                     .ldc = job->I16, .c_p = MOERT_COLUMNS, .rows = b.rows, .panels = panels,
                     .k = job->H};
  p.a = gather(job, b, worker, &p.lda);
  p.b = job->gate_up + (row * slab + first_panel * panel) * t->weight_bytes;
  if (job->up_bias)
    p.bias = job->up_bias + row * bias_row + first_panel * t->columns;
  p.c = hidden + first_panel * MOERT_COLUMNS;
  moert_product_run(&p);
}

static void run_down(const experts_job *job, block b, int64_t first_panel, int64_t panels,
                     const float *hidden) {
  int64_t panel = job->I * MOERT_COLUMNS, slab = job->H16 / MOERT_COLUMNS * panel;
  int64_t first = first_panel * MOERT_COLUMNS, row = slab_of(job, b);
  int64_t columns = moert_min(panels * MOERT_COLUMNS, job->H - first);
  moert_product p = {.tiles = job->down, .a = hidden, .lda = job->I16, .b_k = MOERT_COLUMNS,
                     .b_p = panel, .bias_p = MOERT_COLUMNS, .c = job->y + b.first * job->H16 + first,
                     .ldc = job->H16, .c_p = MOERT_COLUMNS, .rows = b.rows, .k = width_of(job, b)};
  p.b = job->down_weights + (row * slab + first_panel * panel) * job->down->weight_bytes;
  if (job->down_bias)
    p.bias = job->down_bias + row * job->H + first;
  moert_product_columns(&p, columns);
}

// out[tokens, columns] = the weighted sum of the tokens' rows of y.
static void sum_rows(const experts_job *job, int64_t token, int64_t tokens, int64_t first,
                     int64_t columns) {
  int64_t whole = columns / MOERT_COLUMNS * MOERT_COLUMNS;
  const int32_t *position = job->d.position + token * job->K;
  const float *weights = job->d.weights + token * job->K;
  float *out = job->out + token * job->H + first;
  if (whole) {
    moert_dim dy[2] = {{0, (int32_t)whole, 1, 0}, {0, INT32_MAX, (int32_t)job->H16, 0}};
    moert_dim dk[2] = {{0, (int32_t)job->K, 1, 0}, {0, (int32_t)tokens, (int32_t)job->K, 0}};
    moert_dim dout[2] = {{0, (int32_t)whole, 1, 0}, {0, (int32_t)tokens, (int32_t)job->H, 0}};
    moert_buf y, at, w, o;
    moert_describe(&y, job->y + first, dy, 2);
    moert_describe(&at, position, dk, 2);
    moert_describe(&w, weights, dk, 2);
    moert_describe(&o, out, dout, 2);
    job->combine(&y, &at, &w, &o);
  }
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t n = whole; n < columns; ++n) {
      float sum = 0;
      for (int64_t k = 0; k < job->K; ++k)
        if (position[t * job->K + k] >= 0)
          sum += weights[t * job->K + k] *
                 job->y[position[t * job->K + k] * job->H16 + first + n];
      out[t * job->H + n] = sum;
    }
}

// Adds `columns` elements of an expert without parameters under a slot's weight.
static void add_simple(const experts_job *job, int64_t token, int32_t slab, float weight,
                       int64_t first, int64_t columns) {
  float *out = job->out + token * job->H + first;
  const float *row = slab == MOERT_SLAB_IDENTITY
                         ? job->x + token * job->H
                         : job->constants + (MOERT_SLAB_CONSTANT - (int64_t)slab) * job->H;
  if (slab != MOERT_SLAB_ZERO) {
    for (int64_t n = 0; n < columns; ++n)
      out[n] += weight * row[first + n];
  } else if (weight - weight != 0) { // not finite: times zero it is NaN
    for (int64_t n = 0; n < columns; ++n)
      out[n] += weight * 0.0f;
  }
}

// The result of the tokens, for some columns of it.
static void run_combine(const experts_job *job, int64_t token, int64_t tokens, int64_t first,
                        int64_t columns) {
  if (job->d.rows)
    sum_rows(job, token, tokens, first, columns);
  for (int64_t t = token; t < token + tokens; ++t) {
    if (!job->d.rows)
      memset(job->out + t * job->H + first, 0, (size_t)columns * sizeof(float));
    for (int64_t i = t * job->K; job->d.simple && i < (t + 1) * job->K; ++i) {
      int32_t expert = moert_expert_of(job->ids, job->weights, i, job->K);
      if (expert >= 0 && job->slabs[expert] < 0)
        add_simple(job, t, job->slabs[expert], job->weights[i], first, columns);
    }
  }
}

static void fused_task(void *arg, int64_t task, int worker) {
  const experts_job *job = arg;
  const moert_group *group = &job->d.groups[job->d.block_group[task]];
  block b = block_at(group, task - group->block0);
  float *hidden = job->hidden + worker * MOST_ROWS * job->I16;
  run_up(job, b, 0, job->I16 / MOERT_COLUMNS, hidden, worker);
  run_down(job, b, 0, job->H16 / MOERT_COLUMNS, hidden);
}

static void combine_task(void *arg, int64_t task, int worker) {
  const experts_job *job = arg;
  (void)worker;
  int64_t token = task * job->token_step;
  run_combine(job, token, moert_min(job->token_step, job->T - token), 0, job->H);
}

// Task -> block and group of columns: all blocks of an expert for one group of columns, then the
// next group, so that an expert's weights are streamed once.
static block split_task(const experts_job *job, int64_t task, int64_t groups, int64_t *column_group) {
  const moert_group *group = &job->d.groups[job->d.block_group[task / groups]];
  int64_t local = task - group->block0 * groups;
  *column_group = local / group->parts;
  return block_at(group, local % group->parts);
}

static void up_task(void *arg, int64_t task, int worker) {
  const experts_job *job = arg;
  int64_t columns;
  block b = split_task(job, task, job->up_groups, &columns);
  int64_t panel = columns * job->up_panels;
  run_up(job, b, panel, moert_min(job->up_panels, job->I16 / MOERT_COLUMNS - panel),
         job->hidden + b.first * job->I16, worker);
}

static void down_task(void *arg, int64_t task, int worker) {
  const experts_job *job = arg;
  int64_t columns;
  (void)worker;
  block b = split_task(job, task, job->down_groups, &columns);
  int64_t panel = columns * job->down_panels;
  run_down(job, b, panel, moert_min(job->down_panels, job->H16 / MOERT_COLUMNS - panel),
           job->hidden + b.first * job->I16);
}

static void down_columns_task(void *arg, int64_t task, int worker) {
  const experts_job *job = arg;
  (void)worker;
  int64_t panel = task * job->down_panels;
  int64_t panels = moert_min(job->down_panels, job->H16 / MOERT_COLUMNS - panel);
  for (int64_t g = 0; g < job->d.active; ++g)
    for (int64_t part = 0; part < job->d.groups[g].parts; ++part) {
      block b = block_at(&job->d.groups[g], part);
      run_down(job, b, panel, panels, job->hidden + b.first * job->I16);
    }
  int64_t first = panel * MOERT_COLUMNS;
  run_combine(job, 0, job->T, first, moert_min(panels * MOERT_COLUMNS, job->H - first));
}

// Runs the tasks here or on all threads.
static void run(moert_ctx *ctx, int alone, int64_t tasks, moert_task fn, experts_job *job) {
  if (!alone) {
    moert_parallel(ctx, tasks, fn, job);
    return;
  }
  for (int64_t task = 0; task < tasks; ++task)
    fn(job, task, 0);
}

// Panels of one task so that there are about `wanted` groups of whole tiles.
static int64_t group_panels(int64_t panels, int64_t wanted) {
  int64_t each = (panels + moert_max(wanted, 1) - 1) / moert_max(wanted, 1);
  return moert_min(moert_max((each + 3) / 4 * 4, 4), moert_max(panels, 1));
}

static void combine(moert_ctx *ctx, int alone, experts_job *job) {
  int threads = moert_threads(ctx);
  job->token_step = alone ? job->T : moert_max((job->T + 2 * threads - 1) / (2 * threads), 8);
  run(ctx, alone, (job->T + job->token_step - 1) / job->token_step, combine_task, job);
}

static void schedule(moert_ctx *ctx, experts_job *job) {
  int threads = moert_threads(ctx);
  int64_t up_panels = job->I16 / MOERT_COLUMNS, down_panels = job->H16 / MOERT_COLUMNS;
  double weights = (double)(job->up->columns / MOERT_COLUMNS + 1) * (double)job->H * (double)job->I;
  int64_t tasks = moert_tasks_worth(ctx, 2.0 * (double)job->d.rows * weights,
                                    (double)job->d.active * weights * job->up->weight_bytes);
  int alone = tasks == 1;
  int fused = (alone || job->d.blocks >= 3 * threads) && job->I16 * MOST_ROWS <= (128 << 10);
  int columns = !fused && job->d.rows <= MOST_ROWS && down_panels >= 4 * threads;
  int64_t per_block = (tasks + job->d.blocks - 1) / job->d.blocks;

  int64_t workers = alone ? 1 : threads;
  int64_t hidden = fused ? workers * MOST_ROWS : job->d.rows;
  int64_t sizes[3] = {hidden * job->I16, job->T == 1 ? 0 : workers * MOST_ROWS * job->H,
                      job->d.rows * job->H16};
  job->hidden = moert_alloc(ctx, (sizes[0] + sizes[1] + sizes[2] + 48) * (int64_t)sizeof(float));
  job->gathered = job->hidden + (sizes[0] + 15) / 16 * 16;
  job->y = job->gathered + (sizes[1] + 15) / 16 * 16;

  if (fused) {
    run(ctx, alone, job->d.blocks, fused_task, job);
  } else {
    job->up_panels = group_panels(up_panels, per_block);
    job->up_groups = (up_panels + job->up_panels - 1) / job->up_panels;
    run(ctx, alone, job->d.blocks * job->up_groups, up_task, job);
    job->down_panels = group_panels(down_panels, columns ? tasks : per_block);
    job->down_groups = (down_panels + job->down_panels - 1) / job->down_panels;
    if (columns)
      run(ctx, alone, job->down_groups, down_columns_task, job);
    else
      run(ctx, alone, job->d.blocks * job->down_groups, down_task, job);
  }
  if (!columns)
    combine(ctx, alone, job);
  moert_free(ctx, job->hidden);
}

// The job tells sizes, parameters and where results go; x, weights and out are those of all tokens.
static void experts(moert_ctx *ctx, int32_t slot_up, int32_t slot_down, int64_t T, int64_t E,
                    experts_job job) {
  const moert_up_kernel *up =
      moert_kernel_table(ctx, slot_up, MOERT_KERNEL_EXPERTS_UP, MOERT_KERNEL_EXPERTS_UP);
  const moert_gemm_kernel *second =
      moert_kernel_table(ctx, slot_down, MOERT_KERNEL_GEMM, MOERT_KERNEL_GEMM);
  int64_t H = job.H, I = job.I, K = job.K;
  const float *x = job.x, *weights = job.weights;
  const int32_t *ids = job.ids;
  const moert_sharing sharing = {.twins = job.twins, .slabs = job.slabs, .merge = 1};
  float *out = job.out;
  if (T <= 0 || H <= 0)
    return;
  job.up = &up->tiles;
  job.down = &second->tiles;
  job.combine = second->combine;
  job.I16 = MOERT_PANELS(I) * MOERT_COLUMNS;
  job.H16 = MOERT_PANELS(H) * MOERT_COLUMNS;
  moert_product check = {.lda = H, .ldc = moert_max(job.I16, job.H16),
                         .b_p = moert_max(H * up->tiles.columns, I * MOERT_COLUMNS),
                         .k = moert_max(H, I)};
  if (!moert_product_fits(&check))
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED, "experts: unsupported size: %lld x %lld",
                (long long)H, (long long)I);
  // Intermediate rows take memory: many tokens go through in parts. Also keeps the kernels' 32-bit
  // indices in range.
  int64_t row_bytes = moert_max(K, 1) * (job.I16 + job.H16) * (int64_t)sizeof(float);
  int64_t step = moert_max(MOST_BYTES / row_bytes, MOST_ROWS);
  for (int64_t token = 0; token < T; token += step) {
    job.T = moert_min(step, T - token);
    job.x = x + token * H;
    job.weights = weights + token * K;
    job.ids = ids ? ids + token * K : NULL;
    job.out = out + token * H;
    moert_sort_by_expert(ctx, job.T, K, E, job.ids, job.weights, &sharing, MOST_ROWS, &job.d);
    if (job.d.rows)
      schedule(ctx, &job);
    else
      combine(ctx, moert_tasks_worth(ctx, 0, 8.0 * (double)(job.T * H)) == 1, &job);
    moert_free(ctx, job.d.memory);
  }
}

void moert_experts(moert_ctx *ctx, int32_t slot_up, int32_t slot_down, int64_t T, int64_t H,
                   int64_t I, int64_t E, int64_t K, const float *x, const int32_t *ids,
                   const float *weights, const void *gate_up, const float *gate_up_bias,
                   const void *down, const float *down_bias, float *out) {
  experts(ctx, slot_up, slot_down, T, E,
          (experts_job){.H = H, .I = I, .K = K, .x = x, .ids = ids, .weights = weights,
                        .gate_up = gate_up, .up_bias = gate_up_bias, .down_weights = down,
                        .down_bias = down_bias, .out = out});
}

void moert_experts_mixed(moert_ctx *ctx, int32_t slot_up, int32_t slot_down, int64_t T, int64_t H,
                         int64_t I, int64_t E, int64_t K, const float *x, const int32_t *ids,
                         const float *weights, const void *gate_up, const float *gate_up_bias,
                         const void *down, const float *down_bias, const int32_t *slabs,
                         const int32_t *widths, const int32_t *twins, const float *constants,
                         float *out) {
  experts(ctx, slot_up, slot_down, T, E,
          (experts_job){.H = H, .I = I, .K = K, .x = x, .ids = ids, .weights = weights,
                        .gate_up = gate_up, .up_bias = gate_up_bias, .down_weights = down,
                        .down_bias = down_bias, .slabs = slabs, .widths = widths, .twins = twins,
                        .constants = constants, .out = out});
}
