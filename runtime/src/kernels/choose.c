#include "choose.h"
#include <immintrin.h>
#include <math.h>
#include <string.h>

void moert_check_choice(moert_ctx *ctx, const char *what, int64_t K, int64_t E,
                        const moert_groups *groups) {
  if (K < 1 || K > E || E > INT32_MAX / 2)
    moert_failf(ctx, MOERT_ERROR_INPUT, "%s: cannot choose %lld of %lld experts", what,
                (long long)K, (long long)E);
  if (groups->count < 1 || groups->kept < 1 || groups->kept > groups->count ||
      E % groups->count != 0 || K > groups->kept * (E / groups->count))
    moert_failf(ctx, MOERT_ERROR_INPUT,
                "%s: cannot choose %lld experts in %lld of %lld groups of %lld experts", what,
                (long long)K, (long long)groups->kept, (long long)groups->count, (long long)E);
}

int moert_keys(const float *scores, const float *bias, int64_t E, int64_t padded, int32_t *keys) {
  int32_t nans = 0;
  for (int64_t e = 0; e < E; ++e) {
    float key = scores[e] + (bias ? bias[e] : 0.0f); // also turns -0 to 0
    int32_t bits;
    memcpy(&bits, &key, sizeof bits);
    int32_t nan = (bits & INT32_MAX) > 0x7f800000;
    nans |= nan;
    bits = nan ? (int32_t)0xff800000u : bits;
    keys[e] = bits ^ (bits >> 31 & INT32_MAX);
  }
  for (int64_t e = E; e < padded; ++e)
    keys[e] = INT32_MIN;
  return !nans;
}

static float score_of_key(int32_t key) {
  int32_t bits = key ^ (key >> 31 & INT32_MAX);
  float score;
  memcpy(&score, &bits, sizeof score);
  return score;
}

// The score of the group of `size` keys.
static float group_score(const int32_t *keys, int64_t size, int32_t top2) {
  int32_t first = INT32_MIN, second = INT32_MIN;
  for (int64_t e = 0; e < size; ++e) {
    int32_t low = keys[e] < first ? keys[e] : first;
    first = keys[e] > first ? keys[e] : first;
    second = low > second ? low : second;
  }
  float score = score_of_key(first) + (top2 && size > 1 ? score_of_key(second) : 0.0f);
  return score == score ? score : -INFINITY; // inf - inf
}

void moert_keep_groups(const moert_groups *groups, int64_t E, int32_t *keys) {
  int64_t size = E / groups->count;
  // A group falls out when `kept` others go before it. Groups are few.
  for (int64_t pass = groups->kept; pass < groups->count; ++pass) {
    int64_t worst = -1;
    float score = 0;
    for (int64_t g = 0; g < groups->count; ++g) {
      const int32_t *group = keys + g * size;
      if (*group == INT32_MIN)
        continue;
      float s = group_score(group, size, groups->top2);
      if (worst < 0 || !(s > score)) {
        worst = g;
        score = s;
      }
    }
    for (int64_t e = 0; worst >= 0 && e < size; ++e)
      keys[worst * size + e] = INT32_MIN;
  }
}

// The place of the largest of `count` keys (a multiple of 16), the first of equal ones.
static int64_t largest_key(const int32_t *keys, int64_t count) {
  __m256i a = _mm256_loadu_si256((const __m256i *)keys);
  __m256i b = _mm256_loadu_si256((const __m256i *)(keys + 8));
  for (int64_t i = 16; i < count; i += 16) {
    a = _mm256_max_epi32(a, _mm256_loadu_si256((const __m256i *)(keys + i)));
    b = _mm256_max_epi32(b, _mm256_loadu_si256((const __m256i *)(keys + i + 8)));
  }
  a = _mm256_max_epi32(a, b);
  a = _mm256_max_epi32(a, _mm256_permute2x128_si256(a, a, 1));
  a = _mm256_max_epi32(a, _mm256_shuffle_epi32(a, 0x4e));
  a = _mm256_max_epi32(a, _mm256_shuffle_epi32(a, 0xb1)); // the largest in every lane
  for (int64_t i = 0;; i += 8) {
    __m256i same = _mm256_cmpeq_epi32(a, _mm256_loadu_si256((const __m256i *)(keys + i)));
    int mask = _mm256_movemask_ps(_mm256_castsi256_ps(same));
    if (mask)
      return i + __builtin_ctz((unsigned)mask);
  }
}

void moert_take_best(int32_t *keys, int64_t padded, int64_t K, int32_t *ids) {
  for (int64_t k = 0; k < K; ++k) {
    int64_t best = largest_key(keys, padded);
    ids[k] = (int32_t)best;
    keys[best] = INT32_MIN;
  }
}
