/* A sample of tokens that does not depend on the order they come in: those with the smallest keys. */
#include "internal.h"
#include "profile.h"
#include <stdlib.h>
#include <string.h>

// The finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
// OOPSLA 2014).
static uint64_t mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

static uint64_t hash_label(const char *label) {
  uint64_t h = 0;
  for (; *label; ++label)
    h = mix(h ^ (unsigned char)*label);
  return h;
}

static bool allocate(moert_reservoir *r, int64_t floats, int64_t slots) {
  r->floats = floats;
  r->slots = slots;
  size_t n = (size_t)r->capacity;
  r->heap = malloc(n * sizeof *r->heap);
  r->numbers = malloc(n * (size_t)floats * sizeof *r->numbers);
  r->ids = malloc(n * (size_t)slots * sizeof *r->ids + 1);
  return r->heap && r->numbers && r->ids;
}

static void swap(moert_reservoir *r, int64_t a, int64_t b) {
  __typeof__(*r->heap) t = r->heap[a];
  r->heap[a] = r->heap[b];
  r->heap[b] = t;
}

// Makes room for a token and tells its row; -1 when it does not belong to the sample.
static int64_t take_row(moert_reservoir *r, uint64_t key) {
  if (r->count < r->capacity) {
    int64_t i = r->count++, row = i;
    r->heap[i].key = key;
    r->heap[i].row = row;
    for (; i > 0 && r->heap[(i - 1) / 2].key < r->heap[i].key; i = (i - 1) / 2)
      swap(r, i, (i - 1) / 2);
    return row;
  }
  if (key >= r->heap[0].key)
    return -1;
  int64_t row = r->heap[0].row;
  r->heap[0].key = key;
  for (int64_t i = 0;;) {
    int64_t child = 2 * i + 1;
    if (child + 1 < r->count && r->heap[child + 1].key > r->heap[child].key)
      ++child;
    if (child >= r->count || r->heap[child].key <= r->heap[i].key)
      return row;
    swap(r, i, child);
    i = child;
  }
}

void moert_reservoir_add(moert_ctx *ctx, moert_sums *sums, int64_t T, int64_t E, int64_t K,
                         int64_t H, const int32_t *ids, const float *weights, const float *logits,
                         const float *x, const float *y) {
  const struct moert_profile *profile = ctx->profile;
  moert_reservoir *r = &sums->reservoir;
  if (!r->heap && !allocate(r, 2 * H + E + K, K)) {
    moert_reservoir_free(r);
    moert_failf(ctx, MOERT_ERROR_RESOURCE, "out of memory for a reservoir of %lld tokens",
                (long long)profile->capacity);
  }
  int64_t length = T / moert_profile_parts(profile, T);
  uint64_t label = hash_label(profile->labels[profile->label]);
  for (int64_t t = 0; t < T; ++t) {
    uint64_t sequence = (uint64_t)(profile->first_sequence + t / length);
    int64_t row = take_row(r, mix(mix(label + sequence) + (uint64_t)(t % length)));
    if (row < 0)
      continue;
    float *to = r->numbers + row * r->floats;
    memcpy(to, x + t * H, (size_t)H * sizeof *to);
    if (logits)
      memcpy(to + H, logits + t * E, (size_t)E * sizeof *to);
    else
      memset(to + H, 0, (size_t)E * sizeof *to);
    memcpy(to + H + E, weights + t * K, (size_t)K * sizeof *to);
    memcpy(to + H + E + K, y + t * H, (size_t)H * sizeof *to);
    memcpy(r->ids + row * K, ids + t * K, (size_t)K * sizeof *r->ids);
  }
}

void moert_reservoir_free(moert_reservoir *r) {
  free(r->heap);
  free(r->numbers);
  free(r->ids);
  *r = (moert_reservoir){.capacity = r->capacity};
}

static int compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b; // the key stands first
  return x < y ? -1 : x > y;
}

bool moert_reservoir_visit(const moert_layer_profile *layer, const char *label,
                           const moert_reservoir *r, const moert_profile_visitor *visitor) {
  size_t n = (size_t)r->count;
  __typeof__(r->heap) order = malloc(n * sizeof *order);
  if (!order)
    return false;
  memcpy(order, r->heap, n * sizeof *order);
  qsort(order, n, sizeof *order, compare);
  for (size_t i = 0; i < n; ++i) {
    const float *from = r->numbers + order[i].row * r->floats;
    moert_profile_token token = {
        .layer = layer->name, .label = label, .key = order[i].key, .hidden = layer->H,
        .experts = layer->E, .k = layer->K, .x = from, .logits = from + layer->H,
        .weights = from + layer->H + layer->E, .y = from + layer->H + layer->E + layer->K,
        .ids = r->ids + order[i].row * r->slots};
    visitor->token(visitor->arg, &token);
  }
  free(order);
  return true;
}
