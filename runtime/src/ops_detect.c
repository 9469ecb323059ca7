/* Regions of interest, suppression of overlapping boxes, deformed windows. */
#include "elements.h"
#include <math.h>
#include <stdlib.h>

static double clamp(double x, double low, double high) {
  return x < low ? low : x > high ? high : x;
}

static int64_t batch_of(moert_ctx *ctx, double index, int64_t batch, const char *node) {
  if (!(index >= 0 && index < (double)batch))
    moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\": batch index %g is out of range [0, %lld)",
                node, index, (long long)batch);
  return (int64_t)index;
}

/* ---- RoiAlign -------------------------------------------------------------------------------- */

/* Four elements and their weights; 0 when the sample lies outside. */
static int roi_corners(double y, double x, int64_t height, int64_t width, int64_t *index,
                       double *weight) {
  if (!(y >= -1 && y <= (double)height && x >= -1 && x <= (double)width) || !height || !width)
    return 0;
  y = clamp(y, 0, (double)(height - 1));
  x = clamp(x, 0, (double)(width - 1));
  int64_t top = (int64_t)y, left = (int64_t)x;
  int64_t bottom = top + 1 < height ? top + 1 : top, right = left + 1 < width ? left + 1 : left;
  double dy = y - (double)top, dx = x - (double)left;
  index[0] = top * width + left, weight[0] = (1 - dy) * (1 - dx);
  index[1] = top * width + right, weight[1] = (1 - dy) * dx;
  index[2] = bottom * width + left, weight[2] = dy * (1 - dx);
  index[3] = bottom * width + right, weight[3] = dy * dx;
  return 4;
}

typedef struct {
  double x, y, bin_w, bin_h;
  int64_t grid_w, grid_h;
} roi_region;

static double roi_bin(const double *plane, const int64_t *in, const roi_region *r, int64_t row,
                      int64_t column, int is_max) {
  double value = 0;
  int first = 1;
  for (int64_t s = 0; s < r->grid_h * r->grid_w; ++s) {
    int64_t index[4];
    double weight[4];
    double dy = ((double)(s / r->grid_w) + 0.5) / (double)r->grid_h;
    double dx = ((double)(s % r->grid_w) + 0.5) / (double)r->grid_w;
    int n = roi_corners(r->y + r->bin_h * ((double)row + dy),
                        r->x + r->bin_w * ((double)column + dx), in[2], in[3], index, weight);
    if (is_max && !n) {
      value = first ? 0 : fmax(value, 0);
      first = 0;
    }
    for (int i = 0; i < n; ++i) {
      double term = weight[i] * plane[index[i]];
      value = !is_max ? value + term : first ? term : fmax(value, term);
      first = 0;
    }
  }
  int64_t samples = r->grid_h * r->grid_w;
  return is_max ? value : value / (double)(samples > 0 ? samples : 1);
}

void moert_op_roi_align(moert_ctx *ctx, const double *x, const int64_t *in, const double *rois,
                        const int64_t *batches, int64_t count, const int64_t *options, float scale,
                        double *out, const char *node) {
  int64_t rows = options[0], columns = options[1], ratio = options[2];
  int half = options[3] != 0, is_max = options[4] != 0;
  for (int64_t i = 0; i < count; ++i) {
    int64_t n = batch_of(ctx, (double)batches[i], in[0], node);
    double edge[4];
    for (int k = 0; k < 4; ++k)
      edge[k] = rois[i * 4 + k] * scale - (half ? 0.5 : 0);
    double width = edge[2] - edge[0], height = edge[3] - edge[1];
    if (!half)
      width = fmax(width, 1), height = fmax(height, 1);
    roi_region r = {edge[0], edge[1], width / (double)columns, height / (double)rows, ratio, ratio};
    if (ratio <= 0) {
      r.grid_h = (int64_t)ceil(clamp(r.bin_h, 0, 1e6));
      r.grid_w = (int64_t)ceil(clamp(r.bin_w, 0, 1e6));
    }
    for (int64_t c = 0; c < in[1]; ++c)
      for (int64_t p = 0; p < rows * columns; ++p)
        out[(i * in[1] + c) * rows * columns + p] =
            roi_bin(x + (n * in[1] + c) * in[2] * in[3], in, &r, p / columns, p % columns, is_max);
  }
}

/* ---- MaxRoiPool ------------------------------------------------------------------------------ */

/* The elements [*first, *end) of an axis that bin `at` of `bins` covers. */
static void roi_range(double from, double to, float scale, int64_t bins, int64_t at, int64_t size,
                      int64_t *first, int64_t *end) {
  double start = round(from * scale), length = fmax(round(to * scale) - start + 1, 1);
  double bin = length / (double)bins, n = (double)size;
  *first = (int64_t)clamp(floor((double)at * bin) + start, 0, n);
  *end = (int64_t)clamp(ceil((double)(at + 1) * bin) + start, 0, n);
}

void moert_op_max_roi_pool(moert_ctx *ctx, const double *x, const int64_t *in, const double *rois,
                           int64_t count, int64_t rows, int64_t columns, float scale, double *out,
                           const char *node) {
  for (int64_t i = 0; i < count * in[1] * rows * columns; ++i) {
    int64_t c = i / columns / rows % in[1];
    const double *roi = rois + i / columns / rows / in[1] * 5;
    int64_t n = batch_of(ctx, roi[0], in[0], node), top, bottom, left, right;
    roi_range(roi[2], roi[4], scale, rows, i / columns % rows, in[2], &top, &bottom);
    roi_range(roi[1], roi[3], scale, columns, i % columns, in[3], &left, &right);
    const double *plane = x + (n * in[1] + c) * in[2] * in[3];
    double value = top < bottom && left < right ? -INFINITY : 0;
    for (int64_t y = top; y < bottom; ++y)
      for (int64_t k = left; k < right; ++k)
        value = fmax(value, plane[y * in[3] + k]);
    out[i] = value;
  }
}

/* ---- NonMaxSuppression ----------------------------------------------------------------------- */

typedef struct {
  double score;
  int64_t index;
} scored_box;

static int compare_boxes(const void *a, const void *b) {
  const scored_box *x = a, *y = b;
  if (x->score != y->score)
    return x->score > y->score ? -1 : 1;
  return x->index < y->index ? -1 : 1;
}

/* [y1, x1, y2, x2] in order. */
static void normal_box(const double *b, int centre, double *to) {
  if (centre) { // x, y, width, height
    to[0] = b[1] - b[3] / 2, to[1] = b[0] - b[2] / 2;
    to[2] = b[1] + b[3] / 2, to[3] = b[0] + b[2] / 2;
  } else {
    to[0] = fmin(b[0], b[2]), to[1] = fmin(b[1], b[3]);
    to[2] = fmax(b[0], b[2]), to[3] = fmax(b[1], b[3]);
  }
}

static int overlaps(const double *a, const double *b, int centre, double limit) {
  double p[4], q[4];
  normal_box(a, centre, p);
  normal_box(b, centre, q);
  double h = fmin(p[2], q[2]) - fmax(p[0], q[0]), w = fmin(p[3], q[3]) - fmax(p[1], q[1]);
  double area_p = (p[2] - p[0]) * (p[3] - p[1]), area_q = (q[2] - q[0]) * (q[3] - q[1]);
  return h > 0 && w > 0 && area_p > 0 && area_q > 0 && h * w / (area_p + area_q - h * w) > limit;
}

/* numbers: IoU threshold, score threshold; -inf keeps every score. */
int64_t moert_op_nms(moert_ctx *ctx, const double *boxes, const double *scores, int64_t batch,
                     int64_t classes, int64_t count, int64_t most, int32_t centre,
                     const double *numbers, void **out) {
  scored_box *order = moert_alloc(ctx, (count + 1) * (int64_t)sizeof *order);
  if (most > count)
    most = count;
  if (most < 0)
    most = 0;
  int64_t *to = moert_alloc(ctx, batch * classes * most * 3 * (int64_t)sizeof *to), found = 0;
  for (int64_t row = 0; row < batch * classes; ++row) {
    const double *box = boxes + row / classes * count * 4;
    int64_t n = 0, first = found;
    for (int64_t i = 0; i < count; ++i)
      if (numbers[1] == -INFINITY || scores[row * count + i] > numbers[1])
        order[n++] = (scored_box){scores[row * count + i], i};
    qsort(order, (size_t)n, sizeof *order, compare_boxes);
    for (int64_t i = 0; i < n && found - first < most; ++i) {
      int keep = 1;
      for (int64_t j = first; j < found && keep; ++j)
        keep = !overlaps(box + order[i].index * 4, box + to[j * 3 + 2] * 4, centre, numbers[0]);
      if (!keep)
        continue;
      to[found * 3] = row / classes;
      to[found * 3 + 1] = row % classes;
      to[found++ * 3 + 2] = order[i].index;
    }
  }
  moert_free(ctx, order);
  *out = to;
  return found;
}

/* ---- DeformConv ------------------------------------------------------------------------------ */

static double deform_sample(const double *plane, int64_t height, int64_t width, double y,
                            double x) {
  if (!(y > -1 && y < (double)height && x > -1 && x < (double)width))
    return 0;
  double top = floor(y), left = floor(x), sum = 0;
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      double row = top + i, column = left + j;
      if (row >= 0 && row < (double)height && column >= 0 && column < (double)width)
        sum += plane[(int64_t)row * width + (int64_t)column] * (1 - fabs(y - row)) *
               (1 - fabs(x - column));
    }
  return sum;
}

/* geometry: kernel, strides, dilations, padding before, positions; two of each. */
void moert_op_deform_columns(moert_ctx *ctx, const double *x, const int64_t *in,
                             const double *offsets, const double *mask, int64_t groups,
                             const int64_t *geometry, double *out) {
  (void)ctx;
  const int64_t *kernel = geometry, *stride = geometry + 2, *dilation = geometry + 4;
  const int64_t *before = geometry + 6, *places = geometry + 8;
  int64_t taps = kernel[0] * kernel[1], positions = places[0] * places[1];
  for (int64_t row = 0; row < in[0] * in[1] * taps; ++row) {
    int64_t tap = row % taps, c = row / taps % in[1], n = row / taps / in[1];
    int64_t entry = (n * groups + c / (in[1] / groups)) * taps + tap;
    const double *plane = x + (n * in[1] + c) * in[2] * in[3];
    for (int64_t p = 0; p < positions; ++p) {
      double y = (double)(p / places[1] * stride[0] + tap / kernel[1] * dilation[0] - before[0]);
      double k = (double)(p % places[1] * stride[1] + tap % kernel[1] * dilation[1] - before[1]);
      y += offsets[2 * entry * positions + p];
      k += offsets[(2 * entry + 1) * positions + p];
      double value = deform_sample(plane, in[2], in[3], y, k);
      out[row * positions + p] = mask ? value * mask[entry * positions + p] : value;
    }
  }
}
