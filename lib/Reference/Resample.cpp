// Resize, GridSample and AffineGrid: for each axis and output position the input elements that it
// reads, with their weights.
#include "Call.h"
#include "Shapes.h"
#include <cmath>

using namespace llvm;

namespace moec::reference {
namespace {

/// Elements of one axis (-1: a zero) and their weights.
using Taps = std::vector<std::pair<int64_t, double>>;

// R. G. Keys, "Cubic convolution interpolation for digital image processing", 1981.
double cubic(double x, double a) {
  x = std::fabs(x);
  if (x <= 1)
    return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

double triangle(double x) { return std::fmax(1 - std::fabs(x), 0); }

struct ResizeAxis {
  int64_t in = 0, out = 0;
  double scale = 1, start = 0, end = 1; // start and end of the region of interest
};

struct ResizeOptions {
  std::string mode, coordinates, nearest;
  bool antialias, excludeOutside;
  double a, extrapolation;
};

// Where output position i lies in the input.
double position(const ResizeOptions &o, const ResizeAxis &axis, int64_t i) {
  double x = static_cast<double>(i), in = static_cast<double>(axis.in), width = axis.scale * in;
  if (o.coordinates == "align_corners")
    return width == 1 ? 0 : x * (in - 1) / (width - 1);
  if (o.coordinates == "asymmetric")
    return x / axis.scale;
  if (o.coordinates == "tf_crop_and_resize") {
    double span = axis.end - axis.start;
    return axis.start * (in - 1) +
           (width == 1 ? span * (in - 1) / 2 : x * span * (in - 1) / (width - 1));
  }
  double half = (x + 0.5) / axis.scale - 0.5;
  if (o.coordinates == "half_pixel")
    return half;
  if (o.coordinates == "pytorch_half_pixel")
    return axis.out > 1 ? half : 0;
  if (o.coordinates == "half_pixel_symmetric")
    return in / 2 * (1 - static_cast<double>(axis.out) / width) + half;
  fail("coordinate_transformation_mode = " + o.coordinates);
}

int64_t nearestOf(const ResizeOptions &o, double x) {
  double low = std::floor(x), ratio = x - low;
  bool up = o.nearest == "ceil"                ? ratio > 0
            : o.nearest == "floor"             ? false
            : o.nearest == "round_prefer_ceil" ? ratio >= 0.5
                                               : ratio > 0.5;
  return static_cast<int64_t>(low) + up;
}

Taps resizeTaps(const ResizeOptions &o, const ResizeAxis &axis, double x) {
  auto clamped = [&](int64_t i) { return std::min(std::max<int64_t>(i, 0), axis.in - 1); };
  if (o.mode == "nearest")
    return {{clamped(nearestOf(o, x)), 1.0}};
  if (o.mode != "linear" && o.mode != "cubic")
    fail("mode = " + o.mode);
  double support = o.mode == "cubic" ? 2 : 1;
  double shrink = o.antialias ? std::fmin(axis.scale, 1) : 1;
  auto first = static_cast<int64_t>(std::floor(-support / shrink)) + 1, last = 1 - first;
  auto base = static_cast<int64_t>(std::floor(x));
  Taps taps;
  double sum = 0;
  for (int64_t i = first; i <= last; ++i) {
    double d = (static_cast<double>(i + base) - x) * shrink;
    double weight = o.mode == "cubic" ? cubic(d, o.a) : triangle(d);
    if (o.excludeOutside && (base + i < 0 || base + i >= axis.in))
      continue;
    taps.emplace_back(clamped(base + i), weight);
    sum += weight;
  }
  for (auto &tap : taps)
    tap.second /= sum == 0 ? 1 : sum;
  return taps;
}

std::vector<double> resizeAlong(const ResizeOptions &o, const ResizeAxis &axis,
                                const std::vector<double> &in, int64_t outer, int64_t inner) {
  std::vector<double> out(outer * axis.out * inner);
  for (int64_t i = 0; i < axis.out; ++i) {
    double x = position(o, axis, i);
    bool outside =
        o.coordinates == "tf_crop_and_resize" && (x < 0 || x > static_cast<double>(axis.in - 1));
    Taps taps = outside ? Taps() : resizeTaps(o, axis, x);
    for (int64_t n = 0; n < outer * inner; ++n) {
      double sum = outside ? o.extrapolation : 0;
      for (auto [element, weight] : taps)
        sum += weight * in[(n / inner * axis.in + element) * inner + n % inner];
      out[(n / inner * axis.out + i) * inner + n % inner] = sum;
    }
  }
  return out;
}

// Sizes, scales and regions of all axes.
std::vector<ResizeAxis> resizeAxes(const Call &c, const Tensor &x) {
  std::vector<int64_t> axes = c.i64s("axes").value_or(std::vector<int64_t>());
  if (axes.empty())
    for (int64_t i = 0; i < x.rank(); ++i)
      axes.push_back(i);
  std::vector<ResizeAxis> all(x.rank());
  for (int64_t i = 0; i < x.rank(); ++i)
    all[i].in = all[i].out = x.shape[i];
  size_t n = axes.size();
  auto numbers = [&](int64_t i, size_t size) {
    Elements<double> e(c.in(i));
    if (static_cast<size_t>(e.size()) != size)
      fail("input " + Twine(i) + " has not " + Twine(size) + " elements");
    return std::vector<double>(e.begin(), e.end());
  };
  auto given = [&](int64_t i) { return c.hasIn(i) && c.in(i).size() > 0; };
  if (given(3) == given(2))
    fail("either scales or sizes must be given");
  std::vector<double> factors, roi;
  if (given(3)) {
    for (auto [i, size] : enumerate(numbers(3, n)))
      factors.push_back(size / static_cast<double>(x.shape[Call::axis(axes[i], x.rank())]));
  } else {
    factors = numbers(2, n);
  }
  if (given(1) && c.str("coordinate_transformation_mode", "") == "tf_crop_and_resize")
    roi = numbers(1, 2 * n);
  std::string policy = c.str("keep_aspect_ratio_policy", "stretch");
  bool stretch = policy == "stretch" || !given(3);
  double common = policy == "not_larger" ? *std::min_element(factors.begin(), factors.end())
                                         : *std::max_element(factors.begin(), factors.end());
  for (size_t i = 0; i < n; ++i) {
    ResizeAxis &axis = all[Call::axis(axes[i], x.rank())];
    axis.scale = stretch ? factors[i] : common;
    double width = axis.scale * static_cast<double>(axis.in);
    axis.out = !given(3) ? static_cast<int64_t>(std::floor(width))
               : stretch ? static_cast<int64_t>(numbers(3, n)[i])
                         : static_cast<int64_t>(std::floor(width + 0.5));
    if (!roi.empty())
      axis.start = roi[i], axis.end = roi[n + i];
    if (axis.out > 0 && (!(axis.scale > 0) || axis.in == 0))
      fail("a scale that is not positive, or an axis of size 0");
  }
  return all;
}

void resize(Call &c) {
  const Tensor &x = c.in(0);
  ResizeOptions o{c.str("mode", "nearest"),
                  c.str("coordinate_transformation_mode", "half_pixel"),
                  c.str("nearest_mode", "round_prefer_floor"),
                  c.i64("antialias", 0) != 0,
                  c.i64("exclude_outside", 0) != 0,
                  c.f64("cubic_coeff_a", -0.75),
                  c.f64("extrapolation_value", 0)};
  Elements<double> in(x);
  std::vector<double> values(in.begin(), in.end());
  Shape shape(x.shape);
  std::vector<ResizeAxis> axes = resizeAxes(c, x);
  for (int64_t i = 0; i < x.rank(); ++i) {
    const ResizeAxis &axis = axes[i];
    bool whole = axis.start == 0 && axis.end == 1;
    if (axis.out != axis.in || axis.scale != 1 || !whole) {
      AxisView view(shape, i);
      values = resizeAlong(o, axis, values, view.outer, view.inner);
    }
    shape[i] = axis.out;
  }
  if (!isFloat(x.type))
    for (double &v : values)
      v = std::nearbyint(v);
  c.set(0, pack(x.type, shape, values));
}

// --- GridSample ---

struct GridOptions {
  std::string mode, padding;
  bool corners;
};

// x mirrored at the borders of [low, high] until it lies inside.
double reflect(double x, double low, double high) {
  double range = high - low;
  if (range <= 0)
    return low;
  double d = std::fmod(std::fabs(x - low), 2 * range);
  return d <= range ? low + d : high - (d - range);
}

Taps gridTaps(const GridOptions &o, int64_t size, double normal) {
  double n = static_cast<double>(size);
  double low = o.corners ? 0 : -0.5, high = o.corners ? n - 1 : n - 0.5;
  double x = o.corners ? (normal + 1) / 2 * (n - 1) : ((normal + 1) * n - 1) / 2;
  if (o.mode == "nearest")
    x = std::nearbyint(x);
  if (x < low || x > high) {
    if (o.padding == "border" &&
        o.mode != "cubic") // whose taps are moved one by one, as in PyTorch
      x = std::fmin(std::fmax(x, 0), n - 1);
    else if (o.padding == "reflection")
      x = reflect(x, low, high);
  }
  auto element = [&](int64_t i) -> int64_t {
    if (i >= 0 && i < size)
      return i;
    if (o.padding == "border")
      return i < 0 ? 0 : size - 1;
    return o.padding == "reflection"
               ? static_cast<int64_t>(reflect(static_cast<double>(i), low, high))
               : -1;
  };
  if (!std::isfinite(x))
    return {{-1, 0.0}};
  if (o.mode == "nearest")
    return {{element(static_cast<int64_t>(x)), 1.0}};
  bool wide = o.mode == "cubic";
  if (!wide && o.mode != "linear")
    fail("mode = " + o.mode);
  auto base = static_cast<int64_t>(std::floor(x));
  Taps taps;
  for (int64_t i = wide ? -1 : 0; i <= (wide ? 2 : 1); ++i) {
    double d = x - static_cast<double>(base + i);
    taps.emplace_back(element(base + i), wide ? cubic(d, -0.75) : triangle(d));
  }
  return taps;
}

// The sum over all combinations of the axes' taps.
double sample(const double *plane, ArrayRef<int64_t> sizes, ArrayRef<Taps> taps) {
  if (taps.empty())
    return *plane;
  int64_t inner = count(sizes.drop_front());
  double sum = 0;
  for (auto [element, weight] : taps.front())
    if (element >= 0)
      sum += weight * sample(plane + element * inner, sizes.drop_front(), taps.drop_front());
  return sum;
}

void gridSample(Call &c) {
  const Tensor &x = c.in(0), &grid = c.in(1);
  int64_t axes = x.rank() - 2;
  if (axes < 1 || grid.rank() != x.rank() || grid.shape[0] != x.shape[0] ||
      grid.shape.back() != axes)
    fail("a grid " + text(grid.shape) + " does not fit " + text(x.shape));
  GridOptions o{c.str("mode", "linear"), c.str("padding_mode", "zeros"),
                c.i64("align_corners", 0) != 0};
  if (o.mode == "bilinear" || o.mode == "bicubic")
    o.mode = o.mode.substr(2);
  Shape shape{x.shape[0], x.shape[1]};
  shape.append(grid.shape.begin() + 1, grid.shape.end() - 1);
  ArrayRef<int64_t> sizes = ArrayRef<int64_t>(x.shape).drop_front(2);
  int64_t inner = count(sizes), points = count(ArrayRef<int64_t>(shape).drop_front(2));
  Elements<double> in(x), at(grid);
  std::vector<double> out(count(shape));
  for (int64_t i = 0; i < x.shape[0] * points; ++i) {
    int64_t n = i / points, p = i % points;
    std::vector<Taps> taps;
    for (int64_t d = 0; d < axes; ++d) // the grid's coordinates begin with the last axis
      taps.push_back(gridTaps(o, sizes[d], at[i * axes + axes - 1 - d]));
    for (int64_t k = 0; k < x.shape[1]; ++k)
      out[(n * x.shape[1] + k) * points + p] =
          inner == 0 ? 0 : sample(in.data() + (n * x.shape[1] + k) * inner, sizes, taps);
  }
  c.set(0, pack(x.type, shape, out));
}

void affineGrid(Call &c) {
  const Tensor &theta = c.in(0);
  std::vector<int64_t> size = c.intsIn(1);
  auto axes = static_cast<int64_t>(size.size()) - 2;
  Shape wanted{size.empty() ? 0 : size[0], axes, axes + 1};
  if (axes < 1 || theta.shape != wanted)
    fail("theta " + text(theta.shape) + " does not fit " + text(size));
  bool corners = c.i64("align_corners", 0) != 0;
  Shape spatial(size.begin() + 2, size.end()), shape{size[0]};
  shape.append(spatial);
  shape.push_back(axes);
  int64_t points = count(spatial);
  Elements<double> in(theta);
  std::vector<double> out(count(shape));
  Shape at(axes, 0);
  for (int64_t p = 0; p < points; ++p, advance(at, spatial))
    for (int64_t n = 0; n < size[0]; ++n)
      for (int64_t row = 0; row < axes; ++row) {
        const double *factors = in.data() + (n * axes + row) * (axes + 1);
        double sum = factors[axes];
        for (int64_t d = 0; d < axes; ++d) {
          int64_t axis = axes - 1 - d; // x first
          double i = static_cast<double>(at[axis]), length = static_cast<double>(spatial[axis]);
          double normal = corners ? (spatial[axis] == 1 ? -1 : -1 + 2 * i / (length - 1))
                                  : (2 * i + 1) / length - 1;
          sum += factors[d] * normal;
        }
        out[(n * points + p) * axes + row] = sum;
      }
  c.set(0, pack(theta.type, shape, out));
}

} // namespace

void addResampling(Registry &r) {
  r.add("onnx.Resize", resize);
  r.add("onnx.GridSample", gridSample);
  r.add("onnx.AffineGrid", affineGrid);
}

} // namespace moec::reference
