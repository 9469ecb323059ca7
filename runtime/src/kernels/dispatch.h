/* Sorting tokens by expert. */
#ifndef MOERT_DISPATCH_H
#define MOERT_DISPATCH_H
#include "tiles.h"

/* Rows of one expert: [first, first + rows) of the sorted order, cut into `parts` blocks of at most
 * part_rows rows. */
typedef struct moert_group {
  int32_t expert;
  int32_t first, rows;
  int32_t part_rows, parts;
  int32_t block0; /* number of its first block */
} moert_group;

/* A slot is entry (token, k) of ids and weights; its number is token * K + k. */
typedef struct moert_dispatch {
  int64_t rows;       /* slots that run */
  int32_t *slot;      /* [rows]: slot of each row of the sorted order */
  int32_t *position;  /* [T * K]: row of each slot, -1 for one that does not run */
  moert_group *groups; /* [active], largest first */
  int64_t active;
  int32_t *block_group; /* [blocks]: group of each block */
  int64_t blocks;
  void *memory; /* holds the arrays; free with moert_free */
} moert_dispatch;

/* Counting sort. Slots with id -1 or weight 0 do not run; ids may be null: slot k is expert k. Rows
 * of an expert are in order of slots. Fails the run on an id outside of [-1, E). */
MOERT_HIDDEN void moert_sort_by_expert(moert_ctx *ctx, int64_t T, int64_t K, int64_t E,
                                       const int32_t *ids, const float *weights,
                                       int64_t most_rows, moert_dispatch *out);

#endif
