/* Eight floats at a time, for sums that compiled kernels do not make. */
#ifndef MOERT_LANES_H
#define MOERT_LANES_H
#include <math.h>
#include <stdint.h>

enum { MOERT_LANES = 8 };
typedef float moert_lanes __attribute__((vector_size(32), aligned(4)));
typedef int32_t moert_int_lanes __attribute__((vector_size(32), aligned(4)));

static inline moert_lanes moert_load(const float *p) { return *(const moert_lanes *)p; }
static inline void moert_store(float *p, moert_lanes v) { *(moert_lanes *)p = v; }
static inline moert_lanes moert_splat(float v) { return (moert_lanes){v, v, v, v, v, v, v, v}; }

/* x where the mask is set, else 0. */
static inline moert_lanes moert_where(moert_int_lanes mask, moert_lanes x) {
  return (moert_lanes)((moert_int_lanes)x & mask);
}
static inline moert_lanes moert_larger(moert_lanes a, moert_lanes b) {
  moert_int_lanes greater = a > b;
  return (moert_lanes)(((moert_int_lanes)a & greater) | ((moert_int_lanes)b & ~greater));
}
static inline moert_lanes moert_absolute(moert_lanes a) {
  return (moert_lanes)((moert_int_lanes)a & INT32_MAX);
}
static inline float moert_add_lanes(moert_lanes v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
static inline float moert_largest_lane(moert_lanes v) {
  float m = v[0];
  for (int i = 1; i < MOERT_LANES; ++i)
    m = v[i] > m ? v[i] : m;
  return m;
}

/* e^x to about 2e-7 of the value for |x| < 87; the ends beyond. exp(x) = 2^n exp(r), |r| <= ln 2 /
 * 2, with a Taylor polynomial for exp(r). */
static inline moert_lanes moert_exp(moert_lanes x) {
  x = moert_larger(x, moert_splat(-87.0f));
  x = -moert_larger(-x, moert_splat(-88.0f));
  moert_lanes n = __builtin_elementwise_roundeven(x * moert_splat(0x1.715476p+0f));
  /* ln 2 in two parts, so that n times the first is exact. */
  moert_lanes r = x - n * moert_splat(0x1.62ep-1f) - n * moert_splat(0x1.0bfbe8p-15f);
  moert_lanes y = moert_splat(1.0f / 720);
  y = y * r + 1.0f / 120;
  y = y * r + 1.0f / 24;
  y = y * r + 1.0f / 6;
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  moert_int_lanes power = (__builtin_convertvector(n, moert_int_lanes) + 127) << 23;
  return y * (moert_lanes)power;
}

#endif
