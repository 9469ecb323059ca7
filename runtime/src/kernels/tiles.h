/* Products on register tiles: what gemm, bgemm, experts and attention share. */
#ifndef MOERT_TILES_H
#define MOERT_TILES_H
#include "../context.h"
#include "moert/kernels.h"

#define MOERT_PANELS(columns) (((columns) + MOERT_COLUMNS - 1) / MOERT_COLUMNS)

/* One product on whole panels of B. Strides count elements. */
typedef struct moert_product {
  const moert_tiles *tiles;
  const float *a; /* [rows][k] */
  int64_t lda;
  const void *b; /* element (column x, k, panel p) at x + k * b_k + p * b_p */
  int64_t b_k, b_p;
  const float *bias; /* column x of panel p at x + p * bias_p; null: none */
  int64_t bias_p;
  float *c; /* element (row m, column x, panel p) at m * ldc + p * c_p + x */
  int64_t ldc, c_p;
  int64_t rows, panels, k;
} moert_product;

/* Writes rows x panels * 16 elements of C. Any thread. */
MOERT_HIDDEN void moert_product_run(const moert_product *product);

/* The same for `columns` columns, where the last panel may be a part of one: of C (c_p = 16) only
 * those are written, of bias only those are read; product->panels is ignored. */
MOERT_HIDDEN void moert_product_columns(const moert_product *product, int64_t columns);

/* Whether the offsets inside one tile fit the kernels' 32-bit indices. */
MOERT_HIDDEN int moert_product_fits(const moert_product *product);

/* The slot's table, checked to be of version MOERT_KERNEL_VERSION and one of two operations (pass
 * the same one twice); fails the run otherwise. */
MOERT_HIDDEN const void *moert_kernel_table(moert_ctx *ctx, int32_t slot, uint32_t op,
                                            uint32_t other);

/* Packs columns [0, columns) of a run-time B (element (k, n) at k * rs + n * cs) to panels. */
MOERT_HIDDEN void moert_pack_panels(const float *b, int64_t rs, int64_t cs, int64_t k,
                                    int64_t columns, float *panels);

/* How many tasks a job is worth, at most: 1 when the calling thread should do it alone. */
static inline int64_t moert_tasks_worth(moert_ctx *ctx, double flops, double bytes) {
  double ns = flops / 100.0 > bytes / 20.0 ? flops / 100.0 : bytes / 20.0;
  int64_t tasks = (int64_t)(ns / 3000.0), most = 4 * (int64_t)moert_threads(ctx);
  if (moert_threads(ctx) == 1 || tasks < 2)
    return 1;
  return tasks < most ? tasks : most;
}

/* A dense buffer description for the generated code, with `n` dimensions. */
static inline void moert_describe(moert_buf *buffer, const void *host, moert_dim *dims, int n) {
  *buffer = (moert_buf){.host = (void *)(uintptr_t)host,
                        .type = {2, 32, 1},
                        .dimensions = n,
                        .dim = dims};
}

static inline int64_t moert_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t moert_max(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
