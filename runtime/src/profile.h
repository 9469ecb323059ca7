/* A session's profile: sums by layer and label that the probes of generated code add to. All of it
 * belongs to the thread of the run; only what kernels/probe_*.c hand to moert_parallel runs elsewhere,
 * on parts that do not overlap or that are added up in order: a profile does not depend on the number
 * of threads. */
#ifndef MOERT_PROFILE_H
#define MOERT_PROFILE_H
#include "context.h"
#include <stdbool.h>

/* Groups of statistics; a layer has those that its probes can tell. */
enum { MOERT_OF_ROUTING = 1, MOERT_OF_LOGITS = 2, MOERT_OF_EXPERTS = 4, MOERT_OF_ALL = 8 };

enum { MOERT_BINS = 32 };

/* X(name, group, merged by maximum, rank, size, size): in the order of moert_sums. Sizes: E experts, K
 * slots, H hidden, B bins. */
#define MOERT_STATISTICS(X)                                                                        \
  X(tokens, MOERT_OF_ROUTING, 0, 0, 0, 0)                                                          \
  X(sequences, MOERT_OF_ROUTING, 0, 0, 0, 0)                                                       \
  X(count, MOERT_OF_ROUTING, 0, 1, E, 0)                                                           \
  X(rank_count, MOERT_OF_ROUTING, 0, 2, E, K)                                                      \
  X(gate_sum, MOERT_OF_ROUTING, 0, 1, E, 0)                                                        \
  X(gate_squares, MOERT_OF_ROUTING, 0, 1, E, 0)                                                    \
  X(coactivation, MOERT_OF_ROUTING, 0, 2, E, E)                                                    \
  X(sequence_share, MOERT_OF_ROUTING, 0, 1, E, 0)                                                  \
  X(sequence_share_squares, MOERT_OF_ROUTING, 0, 1, E, 0)                                          \
  X(score_sum, MOERT_OF_LOGITS, 0, 1, E, 0)                                                        \
  X(top_logit_sum, MOERT_OF_LOGITS, 0, 1, E, 0)                                                    \
  X(logit_sum, MOERT_OF_LOGITS, 0, 1, E, 0)                                                        \
  X(logit_gram, MOERT_OF_LOGITS, 0, 2, E, E)                                                       \
  X(score_gram, MOERT_OF_LOGITS, 0, 2, E, E)                                                       \
  X(ratio_bins, MOERT_OF_LOGITS, 0, 2, K, B)                                                       \
  X(mass_bins, MOERT_OF_LOGITS, 0, 2, K, B)                                                        \
  X(entropy_bins, MOERT_OF_LOGITS, 0, 1, B, 0)                                                     \
  X(norm_sum, MOERT_OF_EXPERTS, 0, 1, E, 0)                                                        \
  X(gated_norm_sum, MOERT_OF_EXPERTS, 0, 1, E, 0)                                                  \
  X(gated_norm_squares, MOERT_OF_EXPERTS, 0, 1, E, 0)                                              \
  X(gated_norm_max, MOERT_OF_EXPERTS, 1, 1, E, 0)                                                  \
  X(novelty_sum, MOERT_OF_EXPERTS, 0, 1, E, 0)                                                     \
  X(turn_sum, MOERT_OF_EXPERTS, 0, 1, E, 0)                                                        \
  X(output_max, MOERT_OF_EXPERTS, 1, 1, E, 0)                                                      \
  X(output_max_channel, MOERT_OF_EXPERTS, 1, 2, E, H)                                              \
  X(output_sum, MOERT_OF_EXPERTS, 0, 2, E, H)                                                      \
  X(output_squares, MOERT_OF_EXPERTS, 0, 2, E, H)                                                  \
  X(gated_output_sum, MOERT_OF_EXPERTS, 0, 2, E, H)                                                \
  X(sampled, MOERT_OF_ALL, 0, 0, 0, 0)                                                             \
  X(all_output_sum, MOERT_OF_ALL, 0, 2, E, H)                                                      \
  X(output_cosine, MOERT_OF_ALL, 0, 2, E, E)

enum moert_statistic {
#define X(name, group, max, rank, a, b) MOERT_STAT_##name,
  MOERT_STATISTICS(X)
#undef X
      MOERT_STATISTIC_COUNT
};

/* The tokens with the smallest keys: a heap whose top has the largest. */
typedef struct moert_reservoir {
  int64_t count, capacity, floats, slots; /* floats and ids of a token */
  struct { uint64_t key; int64_t row; } *heap;
  float *numbers; /* [capacity][x H, logits E, weights K, y H] */
  int32_t *ids;   /* [capacity][K] */
} moert_reservoir;

/* Of one layer and label; null where a statistic is not collected. */
typedef struct moert_sums {
#define X(name, group, max, rank, a, b) double *name;
  MOERT_STATISTICS(X)
#undef X
  int groups;
  double *memory[4]; /* of each group */
  moert_reservoir reservoir;
} moert_sums;

typedef struct moert_layer_profile {
  char *name;
  int64_t E, K, H;
  moert_sums **sums; /* by label; null: no data */
} moert_layer_profile;

struct moert_profile {
  int64_t capacity; /* of each reservoir */
  char **labels;
  int64_t label_count, label;
  int64_t sequences, first_sequence;
  moert_layer_profile *layers;
  int64_t layer_count;
};

/* The sums of a layer under the current label, with the statistics of `groups`; never null. K and H
 * are 0 where a probe does not tell them. */
MOERT_HIDDEN moert_sums *moert_profile_sums(moert_ctx *ctx, const char *layer, int groups, int64_t E,
                                            int64_t K, int64_t H);
/* Number of equal parts of T tokens. */
MOERT_HIDDEN int64_t moert_profile_parts(const struct moert_profile *profile, int64_t T);

/* Keeps those of T tokens that have the smallest keys so far. logits may be null. */
MOERT_HIDDEN void moert_reservoir_add(moert_ctx *ctx, moert_sums *sums, int64_t T, int64_t E,
                                      int64_t K, int64_t H, const int32_t *ids,
                                      const float *weights, const float *logits, const float *x,
                                      const float *y);
MOERT_HIDDEN void moert_reservoir_free(moert_reservoir *reservoir);
/* Hands the tokens of one layer and label to the visitor; false when out of memory. */
MOERT_HIDDEN bool moert_reservoir_visit(const moert_layer_profile *layer, const char *label,
                                        const moert_reservoir *reservoir,
                                        const moert_profile_visitor *visitor);

MOERT_HIDDEN void moert_profile_free(struct moert_profile *profile);
/* probe_routing without the question whether there is a profile. */
MOERT_HIDDEN void moert_profile_routing(moert_ctx *ctx, moert_sums *sums, int64_t T, int64_t E,
                                        int64_t K, int32_t sigmoid, const int32_t *ids,
                                        const float *weights, const float *logits);

#endif
