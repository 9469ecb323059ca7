/* The accumulators of a profile and the C interface to them. */
#include "profile.h"
#include "internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const char *name;
  int group, max;
  int32_t rank;
  char size[2]; /* E, K, H, B, or 0 */
  size_t place; /* in moert_sums */
} statistic;

enum { E = 'E', K = 'K', H = 'H', B = 'B' };
static const statistic statistics[] = {
#define X(name, group, max, rank, a, b)                                                            \
  {#name, group, max, rank, {a, b}, offsetof(moert_sums, name)},
    MOERT_STATISTICS(X)
#undef X
};

static double **place_of(const moert_sums *sums, const statistic *s) {
  return (double **)((char *)sums + s->place);
}

static int64_t size_of(const moert_layer_profile *layer, char code) {
  return code == E ? layer->E : code == K ? layer->K : code == H ? layer->H : MOERT_BINS;
}

static int64_t count_of(const moert_layer_profile *layer, const statistic *s) {
  int64_t n = 1;
  for (int32_t i = 0; i < s->rank; ++i)
    n *= size_of(layer, s->size[i]);
  return n;
}

static void out_of_memory(moert_ctx *ctx) {
  moert_failf(ctx, MOERT_ERROR_RESOURCE, "out of memory for the profile");
}

/* ---- accumulators ---------------------------------------------------------------------------- */

static moert_layer_profile *find_layer(moert_ctx *ctx, const char *name, int64_t experts,
                                       int64_t slots, int64_t hidden) {
  struct moert_profile *profile = ctx->profile;
  moert_layer_profile *layer = NULL;
  for (int64_t i = 0; i < profile->layer_count && !layer; ++i)
    if (!strcmp(profile->layers[i].name, name))
      layer = &profile->layers[i];
  if (!layer) {
    moert_layer_profile *grown =
        realloc(profile->layers, (size_t)(profile->layer_count + 1) * sizeof *grown);
    if (!grown)
      out_of_memory(ctx);
    profile->layers = grown;
    layer = &grown[profile->layer_count];
    *layer = (moert_layer_profile){.name = strdup(name), .E = experts};
    layer->sums = calloc((size_t)profile->label_count, sizeof *layer->sums);
    if (!layer->name || !layer->sums) {
      free(layer->name);
      free(layer->sums);
      out_of_memory(ctx);
    }
    ++profile->layer_count;
  }
  layer->K = layer->K ? layer->K : slots;
  layer->H = layer->H ? layer->H : hidden;
  if (layer->E != experts || (slots && layer->K != slots) || (hidden && layer->H != hidden))
    moert_failf(ctx, MOERT_ERROR_INTERNAL, "internal: probes of layer \"%s\" differ", name);
  return layer;
}

// Memory for all statistics of one group.
static bool add_group(const moert_layer_profile *layer, moert_sums *sums, int group, int index) {
  int64_t n = 0;
  for (size_t i = 0; i < MOERT_STATISTIC_COUNT; ++i)
    n += statistics[i].group == group ? count_of(layer, &statistics[i]) : 0;
  double *memory = sums->memory[index] = calloc((size_t)n, sizeof *memory);
  if (!memory)
    return false;
  for (size_t i = 0; i < MOERT_STATISTIC_COUNT; ++i) {
    if (statistics[i].group != group)
      continue;
    int64_t count = count_of(layer, &statistics[i]);
    *place_of(sums, &statistics[i]) = memory;
    for (int64_t k = 0; k < count && statistics[i].max; ++k)
      memory[k] = -INFINITY;
    memory += count;
  }
  sums->groups |= group;
  return true;
}

moert_sums *moert_profile_sums(moert_ctx *ctx, const char *name, int groups, int64_t experts,
                               int64_t slots, int64_t hidden) {
  struct moert_profile *profile = ctx->profile;
  moert_layer_profile *layer = find_layer(ctx, name, experts, slots, hidden);
  moert_sums **sums = &layer->sums[profile->label];
  if (!*sums && !(*sums = calloc(1, sizeof **sums)))
    out_of_memory(ctx);
  (*sums)->reservoir.capacity = profile->capacity;
  for (int index = 0; index < 4; ++index) {
    int group = 1 << index;
    if ((groups & group) && !((*sums)->groups & group) && !add_group(layer, *sums, group, index))
      out_of_memory(ctx);
  }
  return *sums;
}

int64_t moert_profile_parts(const struct moert_profile *profile, int64_t T) {
  return profile->sequences > 0 && T % profile->sequences == 0 ? profile->sequences : 1;
}

static void free_sums(moert_sums *sums) {
  if (!sums)
    return;
  for (int i = 0; i < 4; ++i)
    free(sums->memory[i]);
  moert_reservoir_free(&sums->reservoir);
  free(sums);
}

void moert_profile_free(struct moert_profile *profile) {
  if (!profile)
    return;
  for (int64_t i = 0; i < profile->layer_count; ++i) {
    for (int64_t k = 0; k < profile->label_count; ++k)
      free_sums(profile->layers[i].sums[k]);
    free(profile->layers[i].sums);
    free(profile->layers[i].name);
  }
  for (int64_t i = 0; i < profile->label_count; ++i)
    free(profile->labels[i]);
  free(profile->layers);
  free(profile->labels);
  free(profile);
}

/* ---- C interface ----------------------------------------------------------------------------- */

void moert_session_profile_stop(moert_session *session) {
  moert_ctx *ctx = session ? moert_session_context(session) : NULL;
  if (!ctx)
    return;
  moert_profile_free(ctx->profile);
  ctx->profile = NULL;
}

moert_status moert_session_profile_start(moert_session *session,
                                         const moert_profile_options *options,
                                         moert_error *error) {
  if (!session || (options && options->reservoir < 0))
    return moert_error_set(error, MOERT_ERROR_USAGE,
                           "moert_session_profile_start: null session or negative reservoir");
  moert_session_profile_stop(session);
  struct moert_profile *profile = calloc(1, sizeof *profile);
  if (!profile)
    return moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  profile->capacity = options ? options->reservoir : 0;
  moert_session_context(session)->profile = profile;
  moert_status status = moert_session_profile_data(session, "", 1, 0, error);
  if (status)
    moert_session_profile_stop(session);
  return status;
}

// Adds a label to all layers.
static bool add_label(struct moert_profile *profile, const char *label) {
  size_t n = (size_t)profile->label_count + 1;
  char **labels = realloc(profile->labels, n * sizeof *labels);
  if (labels)
    profile->labels = labels;
  char *copy = labels ? strdup(label) : NULL;
  bool done = copy != NULL;
  for (int64_t i = 0; i < profile->layer_count && done; ++i) {
    moert_sums **sums = realloc(profile->layers[i].sums, n * sizeof *sums);
    done = sums != NULL;
    if (!done)
      break;
    profile->layers[i].sums = sums;
    sums[n - 1] = NULL;
  }
  if (!done) {
    free(copy);
    return false;
  }
  labels[n - 1] = copy;
  profile->label_count = (int64_t)n;
  return true;
}

moert_status moert_session_profile_data(moert_session *session, const char *label,
                                        int64_t sequences, int64_t first_sequence,
                                        moert_error *error) {
  struct moert_profile *profile = session ? moert_session_context(session)->profile : NULL;
  if (!profile || !label || sequences < 1 || first_sequence < 0)
    return moert_error_set(error, MOERT_ERROR_USAGE,
                           "moert_session_profile_data: no profile, no label, or no sequences");
  int64_t i = 0;
  while (i < profile->label_count && strcmp(profile->labels[i], label))
    ++i;
  if (i == profile->label_count && !add_label(profile, label))
    return moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  profile->label = i;
  profile->sequences = sequences;
  profile->first_sequence = first_sequence;
  return MOERT_OK;
}

static bool visit_layer(const struct moert_profile *profile, const moert_layer_profile *layer,
                        const moert_profile_visitor *visitor) {
  for (int64_t l = 0; l < profile->label_count; ++l) {
    const moert_sums *sums = layer->sums[l];
    for (size_t k = 0; k < MOERT_STATISTIC_COUNT && sums && visitor->statistic; ++k) {
      const statistic *s = &statistics[k];
      if (!(sums->groups & s->group))
        continue;
      moert_profile_statistic value = {.layer = layer->name, .label = profile->labels[l],
                                       .name = s->name, .is_max = s->max, .rank = s->rank,
                                       .data = *place_of(sums, s)};
      for (int32_t d = 0; d < s->rank; ++d)
        value.dims[d] = size_of(layer, s->size[d]);
      visitor->statistic(visitor->arg, &value);
    }
    if (sums && sums->reservoir.count && visitor->token &&
        !moert_reservoir_visit(layer, profile->labels[l], &sums->reservoir, visitor))
      return false;
  }
  return true;
}

static moert_status visit_profile(moert_session *session, const moert_profile_visitor *visitor,
                                  bool take, moert_error *error) {
  struct moert_profile *profile = session ? moert_session_context(session)->profile : NULL;
  if (!profile || !visitor)
    return moert_error_set(error, MOERT_ERROR_USAGE, "moert_session_profile_%s: no profile or no "
                           "visitor", take ? "take" : "read");
  bool done = true;
  for (int64_t i = 0; i < profile->layer_count && done; ++i) {
    moert_layer_profile *layer = &profile->layers[i];
    done = visit_layer(profile, layer, visitor);
    for (int64_t l = 0; l < profile->label_count && take; ++l) {
      free_sums(layer->sums[l]);
      layer->sums[l] = NULL;
    }
  }
  if (take)
    moert_session_profile_stop(session);
  return done ? MOERT_OK : moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
}

moert_status moert_session_profile_read(moert_session *session,
                                        const moert_profile_visitor *visitor, moert_error *error) {
  return visit_profile(session, visitor, false, error);
}

moert_status moert_session_profile_take(moert_session *session,
                                        const moert_profile_visitor *visitor, moert_error *error) {
  return visit_profile(session, visitor, true, error);
}
