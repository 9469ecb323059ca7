/* The best experts of one row of scores: what routers and selections share. */
#ifndef MOERT_CHOOSE_H
#define MOERT_CHOOSE_H
#include "tiles.h"

/* `count` equal groups of neighbouring experts, of which the best `kept` take part. A group's score
 * is its largest, or with top2 the sum of its two largest. One group: no restriction. */
typedef struct moert_groups {
  int64_t count, kept;
  int32_t top2;
} moert_groups;

/* Ends the run unless K of E experts can be chosen. `what` begins the message. */
MOERT_HIDDEN void moert_check_choice(moert_ctx *ctx, const char *what, int64_t K, int64_t E,
                                     const moert_groups *groups);

/* Keys that order as scores + bias (null: none) do, as integers; NaN counts as -inf. Places from E
 * to `padded`, a multiple of 16, get a key below any other. Returns whether no score is NaN. */
MOERT_HIDDEN int moert_keys(const float *scores, const float *bias, int64_t E, int64_t padded,
                            int32_t *keys);

/* Puts the keys of experts outside of the best groups below any other; equal groups by number. */
MOERT_HIDDEN void moert_keep_groups(const moert_groups *groups, int64_t E, int32_t *keys);

/* Ids of the K largest keys in descending order, equal ones by id. Consumes those keys. */
MOERT_HIDDEN void moert_take_best(int32_t *keys, int64_t padded, int64_t K, int32_t *ids);

#endif
