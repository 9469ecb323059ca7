/* What a session changes in the logits of routers. */
#include "internal.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Settings of one layer, [experts] each in one block; null scale: none. */
struct moert_hook {
  float *scale, *bias;
  int32_t *keep; /* 0 or 1 */
};

// "a", "b", ..., cut when there are many.
static void list_layers(const moert_model *model, char *text, size_t size) {
  size_t used = 0;
  *text = 0;
  for (uint32_t i = 0; i < model->descriptor->hooks && used + 1 < size; ++i) {
    int n = snprintf(text + used, size - used, "%s\"%s\"", i ? ", " : "", model->hooks[i].layer);
    used += n > 0 ? (size_t)n : 0;
  }
}

// The number of a layer; -1 after an error.
static int64_t find(const moert_model *model, const char *layer, moert_error *error) {
  uint32_t count = model->descriptor->hooks;
  for (uint32_t i = 0; layer && i < count; ++i)
    if (!strcmp(model->hooks[i].layer, layer))
      return i;
  char layers[600];
  list_layers(model, layers, sizeof layers);
  if (!layer)
    moert_error_set(error, MOERT_ERROR_USAGE, "moert_session_set_routing: null layer");
  else if (!count)
    moert_error_set(error, MOERT_ERROR_USAGE,
                    "layer \"%s\": the model was compiled without routing hooks", layer);
  else
    moert_error_set(error, MOERT_ERROR_USAGE,
                    "layer \"%s\" has no routing hook; layers with one: %s", layer, layers);
  return -1;
}

static moert_status check(const moert_hook_info *info, const moert_routing *routing, size_t experts,
                          moert_error *error) {
  if (experts != info->experts)
    return moert_error_set(error, MOERT_ERROR_USAGE,
                           "layer \"%s\": settings for %zu experts, its router has %zu",
                           info->layer, experts, info->experts);
  size_t kept = 0;
  for (size_t e = 0; e < experts; ++e) {
    kept += !routing->keep || routing->keep[e];
    if ((routing->scale && !isfinite(routing->scale[e])) ||
        (routing->bias && !isfinite(routing->bias[e])))
      return moert_error_set(error, MOERT_ERROR_USAGE,
                             "layer \"%s\": the scale or bias of expert %zu is not finite",
                             info->layer, e);
  }
  if (kept < info->k)
    return moert_error_set(error, MOERT_ERROR_USAGE,
                           "layer \"%s\": the mask keeps %zu experts, its router chooses %zu",
                           info->layer, kept, info->k);
  return MOERT_OK;
}

moert_status moert_hooks_set(const moert_model *model, moert_ctx *ctx, const char *layer,
                             const moert_routing *routing, size_t experts, moert_error *error) {
  int64_t at = find(model, layer, error);
  if (at < 0)
    return MOERT_ERROR_USAGE;
  if (!routing)
    return moert_error_set(error, MOERT_ERROR_USAGE, "moert_session_set_routing: null routing");
  moert_status status = check(&model->hooks[at], routing, experts, error);
  if (status)
    return status;
  if (!ctx->hooks)
    ctx->hooks = calloc(model->descriptor->hooks, sizeof *ctx->hooks);
  float *block = malloc(experts * (2 * sizeof(float) + sizeof(int32_t)));
  if (!ctx->hooks || !block) {
    free(block);
    return moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  }
  struct moert_hook hook = {block, block + experts, (int32_t *)(block + 2 * experts)};
  for (size_t e = 0; e < experts; ++e) {
    hook.scale[e] = routing->scale ? routing->scale[e] : 1;
    hook.bias[e] = routing->bias ? routing->bias[e] : 0;
    hook.keep[e] = !routing->keep || routing->keep[e];
  }
  free(ctx->hooks[at].scale);
  ctx->hooks[at] = hook;
  return MOERT_OK;
}

moert_status moert_hooks_clear(const moert_model *model, moert_ctx *ctx, const char *layer,
                               moert_error *error) {
  int64_t at = layer ? find(model, layer, error) : 0;
  if (at < 0)
    return MOERT_ERROR_USAGE;
  uint32_t end = layer ? (uint32_t)at + 1 : model->descriptor->hooks;
  for (uint32_t i = (uint32_t)at; ctx->hooks && i < end; ++i) {
    free(ctx->hooks[i].scale);
    ctx->hooks[i] = (struct moert_hook){0};
  }
  return MOERT_OK;
}

void moert_hooks_release(const moert_model *model, moert_ctx *ctx) {
  moert_hooks_clear(model, ctx, NULL, NULL);
  free(ctx->hooks);
  ctx->hooks = NULL;
}

void *moert_logit_hook(moert_ctx *ctx, int32_t hook, int64_t T, int64_t E, int32_t mask_only,
                       const float *z) {
  if (!ctx->hooks || !ctx->hooks[hook].scale)
    return NULL;
  const struct moert_hook *h = &ctx->hooks[hook];
  float *out = moert_alloc(ctx, T * E * (int64_t)sizeof *out);
  for (int64_t t = 0; t < T; ++t)
    for (int64_t e = 0; e < E; ++e) {
      float value = z[t * E + e];
      if (!mask_only)
        value = value * h->scale[e] + h->bias[e];
      out[t * E + e] = h->keep[e] ? value : -INFINITY;
    }
  return out;
}
