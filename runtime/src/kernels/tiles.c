#include "tiles.h"
#include <string.h>
#include <xmmintrin.h>

static const float zeros[2 * MOERT_COLUMNS];

const void *moert_kernel_table(moert_ctx *ctx, int32_t slot, uint32_t op, uint32_t other) {
  // A slot holds the address of a table, not of a function (moert/kernels.h).
  const moert_kernel_head *head = (const void *)(uintptr_t)moert_kernel_of(ctx, slot);
  if (head->version != MOERT_KERNEL_VERSION)
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED, "kernel slot %d: unsupported kernel version %u", slot,
                head->version);
  if (head->op != op && head->op != other)
    moert_failf(ctx, MOERT_ERROR_INTERNAL, "kernel slot %d holds operation %u, not %u", slot,
                head->op, op);
  return head;
}

// `rows` rows from `first`, a multiple of the kernel's row block, times `panels` panels.
static void call(moert_tile_fn kernel, const moert_product *p, int64_t first_row, int64_t rows,
                 int64_t first_panel, int64_t panels) {
  const char *b = (const char *)p->b + first_panel * p->b_p * p->tiles->weight_bytes;
  int32_t columns = (int32_t)p->tiles->columns;
  moert_dim da[2] = {{0, (int32_t)p->k, 1, 0}, {0, (int32_t)rows, (int32_t)p->lda, 0}};
  moert_dim db[3] = {{0, columns, 1, 0},
                     {0, (int32_t)p->k, (int32_t)p->b_k, 0},
                     {0, (int32_t)panels, (int32_t)p->b_p, 0}};
  moert_dim dbias[2] = {{0, columns, 1, 0},
                        {0, (int32_t)panels, p->bias ? (int32_t)p->bias_p : 0, 0}};
  moert_dim dc[3] = {{0, MOERT_COLUMNS, 1, 0},
                     {0, (int32_t)rows, (int32_t)p->ldc, 0},
                     {0, (int32_t)panels, (int32_t)p->c_p, 0}};
  moert_buf a, bb, bias, c;
  moert_describe(&a, p->a + first_row * p->lda, da, 2);
  moert_describe(&bb, b, db, 3);
  moert_describe(&bias, p->bias ? p->bias + first_panel * p->bias_p : zeros, dbias, 2);
  moert_describe(&c, p->c + first_row * p->ldc + first_panel * p->c_p, dc, 3);
  kernel(&a, &bb, &bias, &c);
}

// At most so many steps of `stride` that offsets stay below 2^30.
static int64_t steps_within(int64_t wanted, int64_t stride) {
  int64_t most = ((int64_t)1 << 30) / moert_max(stride, 1);
  return moert_min(wanted, moert_max(most, 1));
}

// Rows [first, first + rows), a multiple of block, times all panels.
static void run_blocks(const moert_product *p, int64_t first, int64_t rows, int64_t block) {
  const moert_tiles *t = p->tiles;
  int64_t row_step = moert_max(steps_within(rows, moert_max(p->lda, p->ldc)) / block, 1) * block;
  int64_t most = steps_within(p->panels, moert_max(p->b_p, moert_max(p->c_p, p->bias_p)));
  for (int64_t r = 0; r < rows; r += row_step) {
    int64_t now = moert_min(row_step, rows - r);
    for (int64_t panel = 0; panel < p->panels;) {
      int64_t left = moert_min(p->panels - panel, most);
      int width = 0;
      while (t->panels[block - 1][width] > left)
        ++width;
      int64_t count = left / t->panels[block - 1][width] * t->panels[block - 1][width];
      call(t->fn[block - 1][width], p, first + r, now, panel, count);
      panel += count;
    }
  }
}

void moert_product_run(const moert_product *p) {
  if (p->rows <= 0 || p->panels <= 0)
    return;
  // Blocks of nearly equal size: 8 rows are 4 + 4, not 6 + 2.
  int64_t blocks = (p->rows + MOERT_TILE_ROWS - 1) / MOERT_TILE_ROWS;
  int64_t block = p->rows / blocks, larger = p->rows % blocks;
  if (larger)
    run_blocks(p, 0, larger * (block + 1), block + 1);
  run_blocks(p, larger * (block + 1), (blocks - larger) * block, block);
}

void moert_product_columns(const moert_product *product, int64_t columns) {
  moert_product p = *product;
  p.panels = columns / MOERT_COLUMNS;
  moert_product_run(&p);
  int64_t rest = columns % MOERT_COLUMNS;
  if (!rest)
    return;
  enum { ROWS = 8 * MOERT_TILE_ROWS };
  float c[ROWS * MOERT_COLUMNS], bias[MOERT_COLUMNS] = {0};
  moert_product last = p;
  last.panels = 1;
  last.b = (const char *)p.b + p.panels * p.b_p * p.tiles->weight_bytes;
  if (p.bias) {
    memcpy(bias, p.bias + p.panels * p.bias_p, (size_t)rest * sizeof(float));
    last.bias = bias;
  }
  last.c = c;
  last.ldc = MOERT_COLUMNS;
  float *out = p.c + p.panels * MOERT_COLUMNS;
  for (int64_t row = 0; row < p.rows; row += ROWS) {
    last.a = p.a + row * p.lda;
    last.rows = moert_min(ROWS, p.rows - row);
    moert_product_run(&last);
    for (int64_t r = 0; r < last.rows; ++r)
      memcpy(out + (row + r) * p.ldc, c + r * MOERT_COLUMNS, (size_t)rest * sizeof(float));
  }
}

int moert_product_fits(const moert_product *p) {
  const int64_t most = (int64_t)1 << 30;
  return p->k < most && p->lda < most / MOERT_TILE_ROWS && p->ldc < most / MOERT_TILE_ROWS &&
         p->b_p < most / 4 && p->c_p < most / 4 && p->b_k * moert_max(p->k, 1) < most;
}

// Four columns of contiguous k: a transposition in registers.
static void pack_columns(const float *b, int64_t cs, int64_t k, float *panel) {
  const float *b0 = b, *b1 = b + cs, *b2 = b1 + cs, *b3 = b2 + cs;
  int64_t i = 0;
  for (; i + 4 <= k; i += 4) {
    __m128 r0 = _mm_loadu_ps(b0 + i), r1 = _mm_loadu_ps(b1 + i);
    __m128 r2 = _mm_loadu_ps(b2 + i), r3 = _mm_loadu_ps(b3 + i);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    _mm_storeu_ps(panel + (i + 0) * MOERT_COLUMNS, r0);
    _mm_storeu_ps(panel + (i + 1) * MOERT_COLUMNS, r1);
    _mm_storeu_ps(panel + (i + 2) * MOERT_COLUMNS, r2);
    _mm_storeu_ps(panel + (i + 3) * MOERT_COLUMNS, r3);
  }
  for (; i < k; ++i) {
    float *to = panel + i * MOERT_COLUMNS;
    to[0] = b0[i], to[1] = b1[i], to[2] = b2[i], to[3] = b3[i];
  }
}

void moert_pack_panels(const float *b, int64_t rs, int64_t cs, int64_t k, int64_t columns,
                       float *panels) {
  for (int64_t first = 0; first < columns; first += MOERT_COLUMNS) {
    int64_t count = moert_min(MOERT_COLUMNS, columns - first);
    const float *from = b + first * cs;
    float *panel = panels + first * k;
    if (count == MOERT_COLUMNS && cs == 1) {
      for (int64_t i = 0; i < k; ++i)
        memcpy(panel + i * MOERT_COLUMNS, from + i * rs, MOERT_COLUMNS * sizeof(float));
      continue;
    }
    int64_t done = 0;
    if (rs == 1)
      for (; done + 4 <= count; done += 4)
        pack_columns(from + done * cs, cs, k, panel + done);
    for (int64_t i = 0; i < k; ++i)
      for (int64_t n = done; n < MOERT_COLUMNS; ++n)
        panel[i * MOERT_COLUMNS + n] = n < count ? from[i * rs + n * cs] : 0.0f;
  }
}
