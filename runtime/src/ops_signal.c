/* Fourier transforms, mel weights, determinants; sums back into images. */
#include "elements.h"
#include <math.h>

/* Row-major position `index` over `dims`, one step further. */
static void step_index(int64_t *index, const int64_t *dims, int64_t rank) {
  for (int64_t i = rank; i-- > 0 && ++index[i] == dims[i];)
    index[i] = 0;
}

/* ---- DFT ------------------------------------------------------------------------------------- */

/* x [outer, size, inner, parts] -> out [outer, bins, inner, to_real ? 1 : 2]. */
void moert_op_dft(moert_ctx *ctx, const double *x, int64_t outer, int64_t size, int64_t inner,
                  int64_t parts, int64_t length, int64_t bins, int32_t inverse, int32_t to_real,
                  double *out) {
  int64_t used = size < length ? size : length, room = length > 0 ? length : 1;
  if (to_real && used > length / 2 + 1)
    used = length / 2 + 1;
  double *turn = moert_alloc(ctx, 4 * room * (int64_t)sizeof *turn), *signal = turn + 2 * room;
  double scale = inverse ? 1.0 / (double)room : 1;
  for (int64_t i = 0; i < length; ++i) {
    double angle = 2 * M_PI * (double)i / (double)length;
    turn[2 * i] = cos(angle);
    turn[2 * i + 1] = inverse ? sin(angle) : -sin(angle);
  }
  for (int64_t row = 0; row < outer * inner; ++row) {
    int64_t o = row / inner, n = row % inner;
    memset(signal, 0, (size_t)(2 * room) * sizeof *signal);
    for (int64_t i = 0; i < used; ++i) {
      const double *v = x + ((o * size + i) * inner + n) * parts;
      signal[2 * i] = v[0];
      signal[2 * i + 1] = parts == 2 ? v[1] : 0;
    }
    if (to_real && length > 0) { // the other half is the conjugate
      signal[1] = 0;
      if (length % 2 == 0)
        signal[length + 1] = 0;
      for (int64_t i = length / 2 + 1; i < length; ++i) {
        signal[2 * i] = signal[2 * (length - i)];
        signal[2 * i + 1] = -signal[2 * (length - i) + 1];
      }
    }
    int64_t terms = to_real ? length : used;
    for (int64_t k = 0; k < bins; ++k) {
      double re = 0, im = 0;
      for (int64_t i = 0, at = 0; i < terms; ++i) {
        re += signal[2 * i] * turn[2 * at] - signal[2 * i + 1] * turn[2 * at + 1];
        im += signal[2 * i] * turn[2 * at + 1] + signal[2 * i + 1] * turn[2 * at];
        at += k;
        at -= at >= length ? length : 0;
      }
      double *to = out + ((o * bins + k) * inner + n) * (to_real ? 1 : 2);
      to[0] = re * scale;
      if (!to_real)
        to[1] = im * scale;
    }
  }
  moert_free(ctx, turn);
}

/* ---- MelWeightMatrix ------------------------------------------------------------------------- */

/* out [length / 2 + 1, bands]. */
void moert_op_mel_weights(moert_ctx *ctx, int64_t bands, int64_t length, int64_t rate,
                          const double *low, const double *high, double *out, const char *node) {
  int64_t bins = length / 2 + 1;
  if (bands < 1 || length < 1 || rate < 1)
    moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\": sizes must be positive", node);
  int64_t *edges = moert_alloc(ctx, (bands + 2) * (int64_t)sizeof *edges);
  double from = 2595 * log10(1 + *low / 700), to = 2595 * log10(1 + *high / 700);
  for (int64_t i = 0; i < bands + 2; ++i) {
    double hertz =
        700 * (pow(10, ((double)i * (to - from) / (double)(bands + 2) + from) / 2595) - 1);
    double edge = floor((double)(length + 1) * hertz / (double)rate);
    if (!(edge >= 0 && edge < (double)(bins + (i == bands + 1))))
      moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\": a band edge is outside of the spectrum",
                  node);
    edges[i] = (int64_t)edge;
  }
  memset(out, 0, (size_t)(bins * bands) * sizeof *out);
  for (int64_t i = 0; i < bands; ++i) {
    int64_t left = edges[i], centre = edges[i + 1], right = edges[i + 2];
    if (left == centre)
      out[centre * bands + i] = 1;
    for (int64_t j = left; left < centre && j <= centre; ++j)
      out[j * bands + i] = (double)(j - left) / (double)(centre - left);
    for (int64_t j = centre; j < right; ++j)
      out[j * bands + i] = (double)(right - j) / (double)(right - centre);
  }
  moert_free(ctx, edges);
}

/* ---- Det ------------------------------------------------------------------------------------- */

static double eliminate(double *m, int64_t n) {
  double result = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (fabs(m[i * n + k]) > fabs(m[pivot * n + k]))
        pivot = i;
    if (m[pivot * n + k] == 0)
      return 0;
    for (int64_t j = 0; pivot != k && j < n; ++j) {
      double swapped = m[k * n + j];
      m[k * n + j] = m[pivot * n + j];
      m[pivot * n + j] = swapped;
    }
    result *= pivot == k ? m[k * n + k] : -m[k * n + k];
    for (int64_t i = k + 1; i < n; ++i) {
      double factor = m[i * n + k] / m[k * n + k];
      for (int64_t j = k; j < n; ++j)
        m[i * n + j] -= factor * m[k * n + j];
    }
  }
  return result;
}

void moert_op_det(moert_ctx *ctx, const double *x, int64_t count, int64_t n, double *out) {
  double *copy = moert_alloc(ctx, (n * n + 1) * (int64_t)sizeof *copy);
  for (int64_t i = 0; i < count; ++i) {
    memcpy(copy, x + i * n * n, (size_t)(n * n) * sizeof *copy);
    out[i] = eliminate(copy, n);
  }
  moert_free(ctx, copy);
}

/* ---- Col2Im, MaxUnpool ----------------------------------------------------------------------- */

/* geometry: sizes, kernel, strides, dilations, padding before, positions; `axes` of each.
 * x [planes, taps, positions] is added up into out [planes, sizes]. */
void moert_op_col2im(moert_ctx *ctx, const double *x, int64_t planes, int64_t axes,
                     const int64_t *geometry, double *out) {
  const int64_t *sizes = geometry, *kernel = sizes + axes, *stride = kernel + axes;
  const int64_t *dilation = stride + axes, *before = dilation + axes, *places = before + axes;
  int64_t taps = 1, positions = 1, inner = 1, tap[MOERT_MAX_RANK] = {0};
  if (axes > MOERT_MAX_RANK)
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED, "unsupported: Col2Im of %lld axes", (long long)axes);
  for (int64_t a = 0; a < axes; ++a) {
    taps *= kernel[a];
    positions *= places[a];
    inner *= sizes[a];
  }
  memset(out, 0, (size_t)(planes * inner) * sizeof *out);
  for (int64_t t = 0; t < taps; ++t, step_index(tap, kernel, axes)) {
    int64_t place[MOERT_MAX_RANK] = {0};
    for (int64_t p = 0; p < positions; ++p, step_index(place, places, axes)) {
      int64_t element = 0, inside = 1;
      for (int64_t a = 0; a < axes; ++a) {
        int64_t at = place[a] * stride[a] + tap[a] * dilation[a] - before[a];
        inside &= at >= 0 && at < sizes[a];
        element = element * sizes[a] + at;
      }
      for (int64_t plane = 0; inside && plane < planes; ++plane)
        out[plane * inner + element] += x[(plane * taps + t) * positions + p];
    }
  }
}

/* dims: of the tensor that was pooled, then of out. */
void moert_op_max_unpool(moert_ctx *ctx, const double *x, const int64_t *indices, int64_t count,
                         int64_t rank, const int64_t *dims, double *out, const char *node) {
  const int64_t *plain = dims, *wide = dims + rank;
  int64_t total = 1, room = 1;
  for (int64_t i = 0; i < rank; ++i) {
    total *= wide[i];
    room *= plain[i];
  }
  memset(out, 0, (size_t)total * sizeof *out);
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = indices[i], at = 0, stride = 1, inside = rest >= 0 && rest < room;
    for (int64_t a = rank; inside && a-- > 0; rest /= plain[a]) {
      inside = rest % plain[a] < wide[a];
      at += rest % plain[a] * stride;
      stride *= wide[a];
    }
    if (!inside)
      moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\" (MaxUnpool): index %lld is out of range",
                  node, (long long)indices[i]);
    out[at] = x[i];
  }
}
