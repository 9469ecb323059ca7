/* Resize, GridSample, AffineGrid: sums of a few weighted elements along each axis. */
#include "elements.h"
#include <math.h>

/* In the order of lib/Codegen/Host/Resample.cpp. */
enum { MODE_NEAREST, MODE_LINEAR, MODE_CUBIC };
enum {
  AT_HALF_PIXEL,
  AT_ALIGN_CORNERS,
  AT_ASYMMETRIC,
  AT_CROP,
  AT_PYTORCH,
  AT_SYMMETRIC,
};
enum { ROUND_PREFER_FLOOR, ROUND_PREFER_CEIL, ROUND_FLOOR, ROUND_CEIL };
enum { POLICY_STRETCH, POLICY_NOT_LARGER, POLICY_NOT_SMALLER };
enum { PAD_ZEROS, PAD_BORDER, PAD_REFLECTION };

static double cubic_weight(double x, double a) {
  x = fabs(x);
  if (x <= 1)
    return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static double linear_weight(double x) {
  x = fabs(x);
  return x < 1 ? 1 - x : 0;
}

static int64_t clamp_index(int64_t i, int64_t size) { return i < 0 ? 0 : i >= size ? size - 1 : i; }

/* ---- Resize ---------------------------------------------------------------------------------- */

void moert_op_resize_plan(moert_ctx *ctx, int64_t rank, const int64_t *in, int64_t count,
                          const int64_t *axes, const float *scales, const int64_t *sizes,
                          int32_t policy, double *scale, int64_t *out, const char *node) {
  for (int64_t i = 0; i < rank; ++i) {
    scale[i] = 1;
    out[i] = in[i];
  }
  double common = 0;
  for (int64_t i = 0; i < count; ++i) {
    int64_t a = axes[i];
    double s = scales ? scales[i] : (double)sizes[i] / (double)in[a];
    scale[a] = s;
    if (!i || (policy == POLICY_NOT_LARGER ? s < common : s > common))
      common = s;
  }
  for (int64_t i = 0; i < count; ++i) {
    int64_t a = axes[i];
    if (!scales && policy != POLICY_STRETCH) {
      scale[a] = common;
      out[a] = (int64_t)floor(common * (double)in[a] + 0.5);
    } else {
      out[a] = scales ? (int64_t)floor(scale[a] * (double)in[a]) : sizes[i];
    }
    if (out[a] < 0 || (out[a] > 0 && (!(scale[a] > 0) || !in[a])) || out[a] > (int64_t)1 << 40)
      moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\" (Resize): a scale or size out of range",
                  node);
  }
}

typedef struct {
  int mode, at, nearest, antialias, exclude;
  double a, extrapolation;
} resize_options;

typedef struct {
  int64_t in, out;
  double scale, start, end;
} resize_axis;

static double position_of(const resize_options *o, const resize_axis *axis, int64_t i) {
  double x = (double)i, in = (double)axis->in, width = axis->scale * in;
  double half = (x + 0.5) / axis->scale - 0.5, span = axis->end - axis->start;
  switch (o->at) {
  case AT_ALIGN_CORNERS:
    return width == 1 ? 0 : x * (in - 1) / (width - 1);
  case AT_ASYMMETRIC:
    return x / axis->scale;
  case AT_CROP:
    return axis->start * (in - 1) +
           (width == 1 ? span * (in - 1) / 2 : x * span * (in - 1) / (width - 1));
  case AT_PYTORCH:
    return axis->out > 1 ? half : 0;
  case AT_SYMMETRIC:
    return in / 2 * (1 - (double)axis->out / width) + half;
  default:
    return half;
  }
}

static int64_t nearest_of(const resize_options *o, double x) {
  double low = floor(x), ratio = x - low;
  int up = o->nearest == ROUND_CEIL          ? ratio > 0
           : o->nearest == ROUND_FLOOR       ? 0
           : o->nearest == ROUND_PREFER_CEIL ? ratio >= 0.5
                                             : ratio > 0.5;
  return (int64_t)low + up;
}

/* Taps that a position of this axis can have. */
static int64_t tap_room(const resize_options *o, const resize_axis *axis) {
  if (o->mode == MODE_NEAREST)
    return 1;
  double shrink = o->antialias && axis->scale < 1 ? axis->scale : 1;
  double first = floor((o->mode == MODE_CUBIC ? -2 : -1) / shrink) + 1;
  return (int64_t)(2 - 2 * first);
}

/* Fills the taps of position i; returns how many. */
static int64_t taps_of(const resize_options *o, const resize_axis *axis, double x, int64_t *index,
                       double *weight) {
  if (o->mode == MODE_NEAREST) {
    *index = clamp_index(nearest_of(o, x), axis->in);
    *weight = 1;
    return 1;
  }
  double shrink = o->antialias && axis->scale < 1 ? axis->scale : 1, sum = 0;
  int64_t room = tap_room(o, axis), first = 1 - room / 2, base = (int64_t)floor(x), n = 0;
  for (int64_t i = first; i < first + room; ++i) {
    if (o->exclude && (base + i < 0 || base + i >= axis->in))
      continue;
    double d = ((double)(base + i) - x) * shrink;
    weight[n] = o->mode == MODE_CUBIC ? cubic_weight(d, o->a) : linear_weight(d);
    index[n] = clamp_index(base + i, axis->in);
    sum += weight[n++];
  }
  for (int64_t i = 0; i < n && sum != 0; ++i)
    weight[i] /= sum;
  return n;
}

/* One axis of [outer, axis, inner]. */
static void resize_axis_of(moert_ctx *ctx, const resize_options *o, const resize_axis *axis,
                           int64_t outer, int64_t inner, const double *x, double *y) {
  int64_t room = tap_room(o, axis);
  int64_t *index = moert_alloc(ctx, room * (int64_t)(sizeof *index + sizeof(double)));
  double *weight = (double *)(index + room);
  for (int64_t i = 0; i < axis->out; ++i) {
    double at = position_of(o, axis, i);
    int outside = o->at == AT_CROP && (at < 0 || at > (double)(axis->in - 1));
    int64_t taps = outside || !axis->in ? 0 : taps_of(o, axis, at, index, weight);
    for (int64_t n = 0; n < outer; ++n) {
      double *to = y + (n * axis->out + i) * inner;
      for (int64_t k = 0; k < inner; ++k)
        to[k] = outside ? o->extrapolation : 0;
      for (int64_t t = 0; t < taps; ++t) {
        const double *from = x + (n * axis->in + index[t]) * inner, w = weight[t];
        for (int64_t k = 0; k < inner; ++k)
          to[k] += w * from[k];
      }
    }
  }
  moert_free(ctx, index);
}

void moert_op_resize(moert_ctx *ctx, int64_t rank, const double *x, const int64_t *in,
                     const int64_t *out, const double *scale, const double *roi,
                     const int64_t *options, const double *numbers, double *y) {
  resize_options o = {(int)options[0], (int)options[1], (int)options[2], (int)options[3],
                      (int)options[4], numbers[0],      numbers[1]};
  const double *from = x;
  double *owned = NULL;
  for (int64_t a = 0; a < rank; ++a) {
    resize_axis axis = {in[a], out[a], scale[a], roi ? roi[a] : 0, roi ? roi[rank + a] : 1};
    if (axis.in == axis.out && axis.scale == 1 && axis.start == 0 && axis.end == 1)
      continue;
    int64_t outer = 1, inner = 1;
    for (int64_t i = 0; i < rank; ++i)
      *(i < a ? &outer : &inner) *= i < a ? out[i] : i > a ? in[i] : 1;
    double *to = moert_alloc(ctx, outer * axis.out * inner * (int64_t)sizeof *to);
    resize_axis_of(ctx, &o, &axis, outer, inner, from, to);
    if (owned)
      moert_free(ctx, owned);
    from = owned = to;
  }
  int64_t total = 1;
  for (int64_t i = 0; i < rank; ++i)
    total *= out[i];
  if (total)
    memcpy(y, from, (size_t)total * sizeof *y);
  if (owned)
    moert_free(ctx, owned);
}

/* ---- GridSample ------------------------------------------------------------------------------ */

/* x mirrored at low and high until it lies between them. */
static double reflect(double x, double low, double high) {
  double range = high - low;
  if (range <= 0)
    return low;
  double d = fmod(fabs(x - low), 2 * range);
  return d <= range ? low + d : high - (d - range);
}

typedef struct {
  int mode, padding, corners;
} grid_options;

/* At most four taps of one axis; index -1 stands for a zero. */
static int grid_taps(const grid_options *o, int64_t size, double normal, int64_t *index,
                     double *weight) {
  double n = (double)size, low = o->corners ? 0 : -0.5, high = o->corners ? n - 1 : n - 0.5;
  double x = o->corners ? (normal + 1) / 2 * (n - 1) : ((normal + 1) * n - 1) / 2;
  if (o->mode == MODE_NEAREST)
    x = nearbyint(x);
  if (x < low || x > high) {
    if (o->padding == PAD_BORDER && o->mode != MODE_CUBIC) // whose taps are moved one by one
      x = fmin(fmax(x, 0), n - 1);
    else if (o->padding == PAD_REFLECTION)
      x = reflect(x, low, high);
  }
  if (!isfinite(x) || fabs(x) > 0x1p52) {
    *index = -1;
    *weight = 0;
    return 1;
  }
  int64_t base = (int64_t)floor(x);
  int first = o->mode == MODE_CUBIC ? -1 : 0;
  int taps = o->mode == MODE_NEAREST ? 1 : o->mode == MODE_LINEAR ? 2 : 4;
  for (int i = 0; i < taps; ++i) {
    int64_t at = base + first + i;
    double d = x - (double)at;
    weight[i] = o->mode == MODE_NEAREST  ? 1
                : o->mode == MODE_LINEAR ? linear_weight(d)
                                         : cubic_weight(d, -0.75);
    if (at < 0 || at >= size)
      at = o->padding == PAD_BORDER       ? clamp_index(at, size)
           : o->padding == PAD_REFLECTION ? (int64_t)reflect((double)at, low, high)
                                          : -1;
    index[i] = at;
  }
  return taps;
}

void moert_op_grid_sample(moert_ctx *ctx, int64_t axes, const double *x, const int64_t *in,
                          const double *grid, int64_t points, const int64_t *options, double *y) {
  grid_options o = {(int)options[0], (int)options[1], (int)options[2]};
  int64_t index[MOERT_MAX_RANK][4], inner = 1, channels = in[1];
  double weight[MOERT_MAX_RANK][4];
  int taps[MOERT_MAX_RANK];
  if (axes > MOERT_MAX_RANK)
    moert_failf(ctx, MOERT_ERROR_UNSUPPORTED, "unsupported: GridSample of rank %lld",
                (long long)axes + 2);
  for (int64_t a = 0; a < axes; ++a)
    inner *= in[2 + a];
  for (int64_t i = 0; i < in[0] * points; ++i) {
    int64_t n = i / points, combinations = 1;
    for (int64_t a = 0; a < axes; ++a) {
      taps[a] = grid_taps(&o, in[2 + a], grid[i * axes + axes - 1 - a], index[a], weight[a]);
      combinations *= taps[a];
    }
    for (int64_t c = 0; c < channels; ++c)
      y[(n * channels + c) * points + i % points] = 0;
    for (int64_t t = 0; t < combinations && inner; ++t) {
      int64_t element = 0, rest = t;
      double w = 1;
      for (int64_t a = 0; a < axes; ++a) {
        int64_t k = index[a][rest % taps[a]];
        w *= k < 0 ? 0 : weight[a][rest % taps[a]];
        element = element * in[2 + a] + (k < 0 ? 0 : k);
        rest /= taps[a];
      }
      for (int64_t c = 0; c < channels && w != 0; ++c)
        y[(n * channels + c) * points + i % points] += w * x[(n * channels + c) * inner + element];
    }
  }
}

void moert_op_affine_grid(moert_ctx *ctx, int64_t axes, const double *theta, const int64_t *dims,
                          int32_t corners, double *grid) {
  (void)ctx;
  int64_t points = 1;
  for (int64_t a = 0; a < axes; ++a)
    points *= dims[1 + a];
  for (int64_t i = 0; i < dims[0] * points * axes; ++i) {
    const double *factors = theta + (i / axes / points * axes + i % axes) * (axes + 1);
    double sum = factors[axes];
    int64_t rest = i / axes % points;
    for (int64_t a = axes; a-- > 0; rest /= dims[1 + a]) { // x first, the last axis
      double at = (double)(rest % dims[1 + a]), n = (double)dims[1 + a];
      double normal = !corners ? (2 * at + 1) / n - 1 : n == 1 ? -1 : -1 + 2 * at / (n - 1);
      sum += factors[axes - 1 - a] * normal;
    }
    grid[i] = sum;
  }
}
