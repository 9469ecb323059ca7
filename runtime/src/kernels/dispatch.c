#include "dispatch.h"
#include <string.h>

static void check_ids(moert_ctx *ctx, const int32_t *ids, int64_t slots, int64_t E) {
  for (int64_t i = 0; i < slots; ++i)
    if (ids[i] < -1 || ids[i] >= E)
      moert_failf(ctx, MOERT_ERROR_INPUT, "experts: id %d is not one of %lld experts", ids[i],
                  (long long)E);
}

// Largest first, then by id; few groups, nearly always in some order: insertion is enough below a
// few hundred, and steps of a shell sort keep it so above.
static void sort_groups(moert_group *groups, int64_t count) {
  static const int steps[] = {301, 132, 57, 23, 10, 4, 1};
  for (size_t s = 0; s < sizeof steps / sizeof *steps; ++s)
    for (int64_t i = steps[s]; i < count; ++i) {
      moert_group group = groups[i];
      int64_t at = i;
      for (; at >= steps[s]; at -= steps[s]) {
        const moert_group *before = &groups[at - steps[s]];
        if (before->rows > group.rows ||
            (before->rows == group.rows && before->expert < group.expert))
          break;
        groups[at] = *before;
      }
      groups[at] = group;
    }
}

// Cuts the groups into blocks of nearly equal size.
static int64_t cut_groups(moert_dispatch *out, int64_t most_rows) {
  int64_t blocks = 0;
  for (int64_t g = 0; g < out->active; ++g) {
    moert_group *group = &out->groups[g];
    group->parts = (int32_t)((group->rows + most_rows - 1) / most_rows);
    group->part_rows = (group->rows + group->parts - 1) / group->parts;
    group->parts = (group->rows + group->part_rows - 1) / group->part_rows;
    group->block0 = (int32_t)blocks;
    for (int32_t part = 0; part < group->parts; ++part)
      out->block_group[blocks++] = (int32_t)g;
  }
  return blocks;
}

// The experts of all slots, as out->position for now, and how often each occurs.
static void count_slots(int64_t T, int64_t K, const int32_t *ids, const float *weights,
                        const moert_sharing *sharing, int32_t *counts, moert_dispatch *out) {
  for (int64_t i = 0; i < T * K; ++i) {
    int32_t expert = moert_expert_of(ids, weights, i, K);
    if (expert >= 0 && sharing->slabs && sharing->slabs[expert] < 0) {
      out->simple = 1;
      expert = -1;
    }
    if (expert >= 0 && sharing->twins)
      expert = sharing->twins[expert];
    out->position[i] = expert;
    if (expert >= 0)
      ++counts[expert];
  }
}

// Slots of a token with one expert become the first of them. `last` [E] is scratch.
static void merge_slots(int64_t T, int64_t K, int64_t E, int32_t *counts, int32_t *last,
                        float *sums, moert_dispatch *out) {
  for (int64_t e = 0; e < E; ++e)
    last[e] = -1;
  for (int64_t t = 0; t < T; ++t)
    for (int64_t i = t * K; i < (t + 1) * K; ++i) {
      int32_t expert = out->position[i];
      if (expert < 0)
        continue;
      if (last[expert] < t * K) {
        last[expert] = (int32_t)i;
        continue;
      }
      sums[last[expert]] += sums[i];
      out->position[i] = -1;
      --counts[expert];
    }
}

// From counts to the first rows, and the groups in order of expert.
static void make_groups(int64_t E, int32_t *next, moert_dispatch *out) {
  int32_t rows = 0;
  out->active = 0;
  for (int32_t e = 0; e < E; ++e) {
    int32_t count = next[e];
    next[e] = rows;
    if (count)
      out->groups[out->active++] = (moert_group){.expert = e, .first = rows, .rows = count};
    rows += count;
  }
  out->rows = rows;
}

void moert_sort_by_expert(moert_ctx *ctx, int64_t T, int64_t K, int64_t E, const int32_t *ids,
                          const float *weights, const moert_sharing *sharing, int64_t most_rows,
                          moert_dispatch *out) {
  int64_t slots = T * K;
  if (slots > INT32_MAX || E > INT32_MAX / 2)
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED, "experts: unsupported number of slots: %lld x %lld",
                (long long)T, (long long)K);
  if (ids)
    check_ids(ctx, ids, slots, E);
  int merge = sharing->merge && sharing->twins && K > 1;
  int64_t most_active = moert_min(slots, E), most_blocks = most_active + slots / most_rows * 2 + 1;
  size_t words = (size_t)(2 * slots + most_blocks + E + (merge ? slots + E : 0));
  char *memory = moert_alloc(ctx, (int64_t)((size_t)most_active * sizeof(moert_group) +
                                            words * sizeof(int32_t) + 64));
  out->memory = memory;
  out->groups = (moert_group *)memory;
  out->slot = (int32_t *)(out->groups + most_active);
  out->position = out->slot + slots;
  out->block_group = out->position + slots;
  out->weights = weights;
  out->simple = 0;
  int32_t *next = out->block_group + most_blocks; // [E]: count, then next row
  memset(next, 0, (size_t)E * sizeof *next);
  count_slots(T, K, ids, weights, sharing, next, out);
  if (merge) {
    float *sums = (float *)(next + 2 * E);
    memcpy(sums, weights, (size_t)slots * sizeof *sums);
    merge_slots(T, K, E, next, next + E, sums, out);
    out->weights = sums;
  }
  make_groups(E, next, out);
  for (int64_t i = 0; i < slots; ++i) {
    int32_t expert = out->position[i];
    if (expert < 0)
      continue;
    out->position[i] = next[expert]++;
    out->slot[out->position[i]] = (int32_t)i;
  }
  sort_groups(out->groups, out->active);
  out->blocks = cut_groups(out, most_rows);
}
