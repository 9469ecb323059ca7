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

/* What experts have in common. Null pointers: nothing. */
typedef struct moert_sharing {
  const int32_t *twins; /* [E]: the first expert with the same parameters, mostly itself */
  const int32_t *slabs; /* [E]: negative for an expert without parameters; its slots get no row */
  int merge;            /* slots of one token whose experts are twins become one: weights add up */
} moert_sharing;

/* A slot is entry (token, k) of ids and weights; its number is token * K + k. */
typedef struct moert_dispatch {
  int64_t rows;       /* slots that run */
  int32_t *slot;      /* [rows]: slot of each row of the sorted order */
  int32_t *position;  /* [T * K]: row of each slot, -1 for one that does not run */
  moert_group *groups; /* [active], largest first */
  int64_t active;
  int32_t *block_group; /* [blocks]: group of each block */
  int64_t blocks;
  const float *weights; /* [T * K]: those given, or also those of the slots merged into one */
  int simple;           /* whether slots without a row run: experts without parameters */
  void *memory;         /* holds the arrays; free with moert_free */
} moert_dispatch;

/* Counting sort. Slots with id -1 or weight 0 do not run; ids may be null: slot k is expert k. Rows
 * of an expert are in order of slots, those of twins in one group. Fails the run on an id outside
 * of [-1, E). */
MOERT_HIDDEN void moert_sort_by_expert(moert_ctx *ctx, int64_t T, int64_t K, int64_t E,
                                       const int32_t *ids, const float *weights,
                                       const moert_sharing *sharing, int64_t most_rows,
                                       moert_dispatch *out);

/* The expert of a slot that runs, else -1. */
static inline int32_t moert_expert_of(const int32_t *ids, const float *weights, int64_t slot,
                                      int64_t K) {
  if (weights[slot] == 0.0f)
    return -1;
  return ids ? ids[slot] : (int32_t)(slot % K);
}

#endif
