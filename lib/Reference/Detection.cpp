// Regions of interest and the suppression of overlapping boxes.
#include "Call.h"
#include "Shapes.h"
#include <array>
#include <cmath>

using namespace llvm;

namespace moec::reference {
namespace {

// What a sample of RoiAlign reads: four elements with their weights; none outside.
std::vector<std::pair<int64_t, double>> corners(double y, double x, int64_t height, int64_t width) {
  auto h = static_cast<double>(height), w = static_cast<double>(width);
  if (!(y >= -1 && y <= h && x >= -1 && x <= w) || height == 0 || width == 0)
    return {};
  y = std::fmin(std::fmax(y, 0), h - 1);
  x = std::fmin(std::fmax(x, 0), w - 1);
  auto top = static_cast<int64_t>(y), left = static_cast<int64_t>(x);
  int64_t bottom = std::min(top + 1, height - 1), right = std::min(left + 1, width - 1);
  double dy = y - static_cast<double>(top), dx = x - static_cast<double>(left);
  return {{top * width + left, (1 - dy) * (1 - dx)},
          {top * width + right, (1 - dy) * dx},
          {bottom * width + left, dy * (1 - dx)},
          {bottom * width + right, dy * dx}};
}

int64_t batchOf(double index, int64_t batch) {
  if (!(index >= 0 && index < static_cast<double>(batch)))
    fail("a batch index out of range");
  return static_cast<int64_t>(index);
}

void roiAlign(Call &c) {
  const Tensor &x = c.in(0), &rois = c.in(1);
  if (x.rank() != 4 || rois.rank() != 2 || rois.shape[1] != 4 || c.in(2).size() != rois.shape[0])
    fail("regions " + text(rois.shape) + " do not fit " + text(x.shape));
  int64_t rows = c.i64("output_height", 1), columns = c.i64("output_width", 1);
  int64_t ratio = c.i64("sampling_ratio", 0), channels = x.shape[1];
  double scale = c.f64("spatial_scale", 1);
  bool half = c.str("coordinate_transformation_mode", "half_pixel") == "half_pixel";
  bool max = c.str("mode", "avg") == "max";
  std::vector<int64_t> batches = c.intsIn(2);
  Shape shape{rois.shape[0], channels, rows, columns};
  Elements<double> in(x), box(rois);
  std::vector<double> out(count(shape));
  for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
    int64_t pw = i % columns, ph = i / columns % rows, k = i / columns / rows % channels;
    int64_t r = i / columns / rows / channels;
    int64_t n = batchOf(static_cast<double>(batches[r]), x.shape[0]);
    auto edge = [&](int64_t j) { return box[r * 4 + j] * scale - (half ? 0.5 : 0); };
    double width = edge(2) - edge(0), height = edge(3) - edge(1);
    if (!half)
      width = std::fmax(width, 1), height = std::fmax(height, 1);
    double binW = width / static_cast<double>(columns), binH = height / static_cast<double>(rows);
    auto samples = [&](double bin) { // more would never end
      return ratio > 0 ? ratio : static_cast<int64_t>(std::ceil(std::fmin(std::fmax(bin, 0), 1e6)));
    };
    int64_t gridH = samples(binH), gridW = samples(binW);
    const double *plane = in.data() + (n * channels + k) * x.shape[2] * x.shape[3];
    double value = 0;
    bool first = true;
    for (int64_t s = 0; s < gridH * gridW; ++s) {
      double y =
          edge(1) + binH * (static_cast<double>(ph) +
                            (static_cast<double>(s / gridW) + 0.5) / static_cast<double>(gridH));
      double xx =
          edge(0) + binW * (static_cast<double>(pw) +
                            (static_cast<double>(s % gridW) + 0.5) / static_cast<double>(gridW));
      auto reads = corners(y, xx, x.shape[2], x.shape[3]);
      if (max && reads.empty())
        value = first ? 0 : std::fmax(value, 0), first = false;
      for (auto [element, weight] : reads) {
        double term = weight * plane[element];
        value = !max ? value + term : first ? term : std::fmax(value, term);
        first = false;
      }
    }
    out[i] = max ? value : value / static_cast<double>(std::max<int64_t>(gridH * gridW, 1));
  }
  c.set(0, pack(x.type, shape, out));
}

void maxRoiPool(Call &c) {
  const Tensor &x = c.in(0), &rois = c.in(1);
  auto pooled = c.i64s("pooled_shape").value_or(std::vector<int64_t>());
  if (x.rank() != 4 || rois.rank() != 2 || rois.shape[1] != 5 || pooled.size() != 2)
    fail("regions " + text(rois.shape) + " do not fit " + text(x.shape));
  double scale = c.f64("spatial_scale", 1);
  Shape shape{rois.shape[0], x.shape[1], pooled[0], pooled[1]};
  Elements<double> in(x), box(rois);
  std::vector<double> out(count(shape));
  for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
    int64_t k = i / pooled[1] / pooled[0] % x.shape[1], r = i / pooled[1] / pooled[0] / x.shape[1];
    int64_t n = batchOf(box[r * 5], x.shape[0]);
    // The elements [first, second) of an axis that a bin covers.
    auto bin = [&](int64_t axis, int64_t at) {
      auto start = static_cast<int64_t>(std::round(box[r * 5 + (axis == 0 ? 2 : 1)] * scale));
      auto end = static_cast<int64_t>(std::round(box[r * 5 + (axis == 0 ? 4 : 3)] * scale));
      double size = static_cast<double>(std::max<int64_t>(end - start + 1, 1)) /
                    static_cast<double>(pooled[axis]);
      auto clamp = [&](double v) {
        return std::min(std::max<int64_t>(static_cast<int64_t>(v) + start, 0), x.shape[axis + 2]);
      };
      return std::pair(clamp(std::floor(static_cast<double>(at) * size)),
                       clamp(std::ceil(static_cast<double>(at + 1) * size)));
    };
    auto [top, bottom] = bin(0, i / pooled[1] % pooled[0]);
    auto [left, right] = bin(1, i % pooled[1]);
    double value = top < bottom && left < right ? -INFINITY : 0;
    for (int64_t y = top; y < bottom; ++y)
      for (int64_t xx = left; xx < right; ++xx)
        value = std::fmax(value, in[((n * x.shape[1] + k) * x.shape[2] + y) * x.shape[3] + xx]);
    out[i] = value;
  }
  c.set(0, pack(x.type, shape, out));
}

// [y1, x1, y2, x2] with y1 <= y2 and x1 <= x2.
std::array<double, 4> normalBox(const double *b, bool centre) {
  if (centre) // x, y, width, height
    return {b[1] - b[3] / 2, b[0] - b[2] / 2, b[1] + b[3] / 2, b[0] + b[2] / 2};
  return {std::fmin(b[0], b[2]), std::fmin(b[1], b[3]), std::fmax(b[0], b[2]),
          std::fmax(b[1], b[3])};
}

// Intersection over union.
double overlap(const std::array<double, 4> &a, const std::array<double, 4> &b) {
  double h = std::fmin(a[2], b[2]) - std::fmax(a[0], b[0]);
  double w = std::fmin(a[3], b[3]) - std::fmax(a[1], b[1]);
  double areaA = (a[2] - a[0]) * (a[3] - a[1]), areaB = (b[2] - b[0]) * (b[3] - b[1]);
  if (h <= 0 || w <= 0 || areaA <= 0 || areaB <= 0)
    return 0;
  return h * w / (areaA + areaB - h * w);
}

void nonMaxSuppression(Call &c) {
  const Tensor &boxes = c.in(0), &scores = c.in(1);
  if (boxes.rank() != 3 || scores.rank() != 3 || boxes.shape[2] != 4 ||
      boxes.shape[0] != scores.shape[0] || boxes.shape[1] != scores.shape[2])
    fail("boxes " + text(boxes.shape) + " do not fit scores " + text(scores.shape));
  auto number = [&](int64_t i, double fallback) {
    return c.hasIn(i) && c.in(i).size() > 0 ? Elements<double>(cast(c.in(i), Elem::f64))[0]
                                            : fallback;
  };
  int64_t most = c.hasIn(2) && c.in(2).size() > 0 ? c.intsIn(2)[0] : 0;
  double limit = number(3, 0), threshold = number(4, -INFINITY);
  bool centre = c.i64("center_point_box", 0) != 0, filtered = c.hasIn(4) && c.in(4).size() > 0;
  Elements<double> box(boxes), score(scores);
  int64_t count = boxes.shape[1], classes = scores.shape[1];
  std::vector<int64_t> out;
  for (int64_t row = 0; row < boxes.shape[0] * classes; ++row) {
    int64_t n = row / classes;
    std::vector<int64_t> order, kept;
    for (int64_t i = 0; i < count; ++i)
      if (!filtered || score[row * count + i] > threshold)
        order.push_back(i);
    llvm::sort(order, [&](int64_t a, int64_t b) {
      double x = score[row * count + a], y = score[row * count + b];
      return x > y || (x == y && a < b);
    });
    auto at = [&](int64_t i) { return normalBox(box.data() + (n * count + i) * 4, centre); };
    for (int64_t i : order) {
      if (static_cast<int64_t>(kept.size()) >= most)
        break;
      if (llvm::any_of(kept, [&](int64_t j) { return overlap(at(i), at(j)) > limit; }))
        continue;
      kept.push_back(i);
      out.insert(out.end(), {n, row % classes, i});
    }
  }
  c.set(0, pack(Elem::i64, {static_cast<int64_t>(out.size()) / 3, 3}, out));
}

} // namespace

void addDetection(Registry &r) {
  r.add("onnx.RoiAlign", roiAlign);
  r.add("onnx.MaxRoiPool", maxRoiPool);
  r.add("onnx.NonMaxSuppression", nonMaxSuppression);
}

} // namespace moec::reference
