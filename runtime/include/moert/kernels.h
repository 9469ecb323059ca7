/* Leaf kernels: what the objects of Codegen/CPU export and runtime/src/kernels calls.
 *
 * The symbol of a kernel slot is a constant table (not a function): its head says which operation it
 * serves, so the runtime casts the slot's moert_kernel to the table of that operation. Tables are
 * immutable; the functions in them keep no state, allocate nothing and may run on any thread.
 *
 * All matrices are f32 except packed weights (f32, f16 or bf16). Packed weights are panels of
 * MOERT_COLUMNS columns, the last one padded with zeros (layouts: Codegen/KernelSpec/Program.h).
 */
#ifndef MOERT_KERNELS_H
#define MOERT_KERNELS_H
#include <stddef.h>
#include <stdint.h>

#define MOERT_KERNEL_VERSION 2u /* of these tables; checked before a table is used */
#define MOERT_COLUMNS 16        /* columns of a panel */
#define MOERT_TILE_ROWS 6       /* largest row block of a tile kernel */
#define MOERT_TILE_WIDTHS 3     /* tile kernels of a row block: at most 4, 2 and 1 panels */

/* halide_dimension_t and halide_buffer_t of Halide 21, which generated functions take. */
typedef struct moert_dim {
  int32_t min, extent, stride;
  uint32_t flags;
} moert_dim;

typedef struct moert_buf {
  uint64_t device;
  const void *device_interface;
  void *host;
  uint64_t flags;
  struct {
    uint8_t code, bits;
    uint16_t lanes;
  } type;
  int32_t dimensions;
  moert_dim *dim;
  void *padding;
} moert_buf;

#ifdef __cplusplus
static_assert(sizeof(moert_dim) == 16 && sizeof(moert_buf) == 56, "halide_buffer_t of Halide 21");
#else
_Static_assert(sizeof(moert_dim) == 16 && sizeof(moert_buf) == 56, "halide_buffer_t of Halide 21");
_Static_assert(offsetof(moert_buf, host) == 16 && offsetof(moert_buf, dim) == 40,
               "halide_buffer_t of Halide 21");
#endif

enum moert_kernel_op {
  MOERT_KERNEL_GEMM = 1,
  MOERT_KERNEL_BGEMM,
  MOERT_KERNEL_EXPERTS_UP,
  MOERT_KERNEL_ROUTE,
  MOERT_KERNEL_ATTENTION
};

typedef struct moert_kernel_head {
  uint32_t version; /* MOERT_KERNEL_VERSION */
  uint32_t op;      /* enum moert_kernel_op */
} moert_kernel_head;

/* C(x, m, p) = epilogue(sum over k of A(k, m) * B(x, k, p)), x < 16 columns of panel p.
 *   a    (k, m): strides (1, lda)
 *   b    (x, k, p): strides (1, any, any); x < 32 when experts_up is gated: 16 gate, 16 up columns
 *   bias (x, p): strides (1, any); a stride of 0 repeats one panel
 *   c    (x, m, p): strides (1, ldc, any)
 * The function of row block r takes any multiple of r rows and any multiple of its panels. */
typedef int (*moert_tile_fn)(moert_buf *a, moert_buf *b, moert_buf *bias, moert_buf *c);

typedef struct moert_tiles {
  uint32_t weight_bytes; /* of one element of B */
  uint32_t columns;      /* of one panel of B: 16, or 32 for gate and up side by side */
  /* For row blocks r = 1..6 three functions of falling width (equal ones may repeat): the panels
   * that fn[r - 1][i] takes at a time, the last one 1. */
  uint32_t panels[MOERT_TILE_ROWS][MOERT_TILE_WIDTHS];
  moert_tile_fn fn[MOERT_TILE_ROWS][MOERT_TILE_WIDTHS];
} moert_tiles;

/* out(h, t) = sum over k, in order, of weight(k, t) * rows(h, position(k, t)); position -1 is an empty
 * slot. The extent of h is a multiple of 16; the innermost dimensions are dense. */
typedef int (*moert_combine_fn)(moert_buf *rows, moert_buf *position, moert_buf *weight,
                                moert_buf *out);

/* c(n, m) = sum over x < 16 and k of a(x, k, m) * b(x, k, n), rows times rows: strides (1, 16, any),
 * c (1, any). The extent of n is a multiple of 4. */
typedef int (*moert_dot_fn)(moert_buf *a, moert_buf *b, moert_buf *c);

/* Rows of scores (x < 16, chunk, row), strides (1, 16, any), may be in place. Softmax:
 * out = exp(in - largest of the row); sigmoid: of each element. sums(row) = sum of out. Padding: -inf. */
typedef int (*moert_scores_fn)(moert_buf *in, moert_buf *out, moert_buf *sums);

/* gemm, and the down projection of experts. */
typedef struct moert_gemm_kernel {
  moert_kernel_head head;
  moert_tiles tiles;
  moert_combine_fn combine;
} moert_gemm_kernel;

/* experts_up; the epilogue holds the activation. */
typedef struct moert_up_kernel {
  moert_kernel_head head;
  moert_tiles tiles;
} moert_up_kernel;

/* bgemm and attention: B is f32 and not packed ahead. */
typedef struct moert_bgemm_kernel {
  moert_kernel_head head;
  moert_tiles tiles;
  moert_dot_fn dot;
  moert_scores_fn softmax; /* of attention; null in bgemm */
} moert_bgemm_kernel;

enum moert_router_score { MOERT_SCORE_SOFTMAX, MOERT_SCORE_SIGMOID, MOERT_SCORE_IDENTITY };
enum moert_router_renorm {
  MOERT_RENORM_NONE,
  MOERT_RENORM_SUM,
  MOERT_RENORM_SOFTMAX,
  MOERT_RENORM_SIGMOID
};

/* Kinds of moe.select, of which the function `select` of the table is told. */
enum moert_select_kind {
  MOERT_SELECT_TOP_K, /* also in groups */
  MOERT_SELECT_TOP_P,
  MOERT_SELECT_THRESHOLD,
  MOERT_SELECT_ALL,
  MOERT_SELECT_EXTERNAL
};

typedef struct moert_route_kernel {
  moert_kernel_head head;
  uint32_t score, renorm;
  float epsilon, minimum, scale;
  uint32_t reserved;
  moert_scores_fn scores; /* null for identity */
} moert_route_kernel;

#endif
