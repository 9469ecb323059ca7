// Convolutions, as their definition says: a sum over channels and taps for each output.
#include "Window.h"
#include <cmath>

using namespace llvm;

namespace moec::reference {
namespace {

struct Channels {
  int64_t in, out, groups; ///< of a group: in, out
};

// Weights [M, C / groups, kernel...] over x [N, C, ...].
Channels channelsOf(const Call &c, const Tensor &x, const Tensor &w) {
  int64_t groups = c.i64("group", 1);
  if (x.rank() < 3 || w.rank() != x.rank() || groups < 1 || w.shape[0] % groups != 0 ||
      w.shape[1] * groups != x.shape[1])
    fail("weights " + text(w.shape) + " in " + Twine(groups) + " groups do not fit " +
         text(x.shape));
  return {w.shape[1], w.shape[0] / groups, groups};
}

Shape outShape(const Tensor &x, int64_t channels, const Shape &spatial) {
  Shape shape{x.shape[0], channels};
  shape.append(spatial);
  return shape;
}

template <class T>
std::vector<T> convolve(const Tensor &x, ArrayRef<T> in, ArrayRef<T> weights, const Window &win,
                        const Channels &ch) {
  int64_t positions = count(win.out), taps = count(win.kernel), inner = count(win.sizes);
  int64_t channels = ch.out * ch.groups;
  std::vector<T> out(x.shape[0] * channels * positions);
  Shape at(win.out.size(), 0);
  for (int64_t o = 0; o < positions; ++o, advance(at, win.out)) {
    std::vector<std::pair<int64_t, int64_t>> reads;
    win.forEachTap(at, [&](int64_t element, int64_t tap) { reads.emplace_back(element, tap); });
    for (int64_t row = 0; row < x.shape[0] * channels; ++row) {
      int64_t n = row / channels, m = row % channels, group = m / ch.out;
      T sum = 0;
      for (int64_t k = 0; k < ch.in; ++k) {
        int64_t source = (n * x.shape[1] + group * ch.in + k) * inner;
        for (auto [element, tap] : reads)
          sum += in[source + element] * weights[(m * ch.in + k) * taps + tap];
      }
      out[row * positions + o] = sum;
    }
  }
  return out;
}

void addBias(const Call &c, int64_t i, std::vector<double> &out, int64_t channels,
             int64_t positions) {
  if (!c.hasIn(i))
    return;
  Elements<double> bias(c.in(i));
  if (bias.size() != channels)
    fail("a bias of " + Twine(bias.size()) + " elements for " + Twine(channels) + " channels");
  for (size_t j = 0; j < out.size(); ++j)
    out[j] += bias[static_cast<int64_t>(j) / positions % channels];
}

void conv(Call &c) {
  const Tensor &x = c.in(0), &w = c.in(1);
  Channels ch = channelsOf(c, x, w);
  Window win = windowOf(c, x, ArrayRef<int64_t>(w.shape).drop_front(2));
  Elements<double> in(x), weights(w);
  auto out = convolve<double>(x, {in.data(), static_cast<size_t>(in.size())},
                              {weights.data(), static_cast<size_t>(weights.size())}, win, ch);
  addBias(c, 2, out, w.shape[0], count(win.out));
  c.set(0, pack(x.type, outShape(x, w.shape[0], win.out), out));
}

// The elements less their zero point, one for all or one for each slice of axis 0.
std::vector<int64_t> centred(const Call &c, int64_t i, int64_t zero) {
  Elements<int64_t> in(c.in(i));
  std::vector<int64_t> out(in.begin(), in.end());
  if (!c.hasIn(zero))
    return out;
  std::vector<int64_t> zeros = c.intsIn(zero);
  int64_t rows = c.in(i).shape[0], n = static_cast<int64_t>(zeros.size());
  if (n != 1 && n != rows)
    fail("a zero point of " + Twine(n) + " elements");
  int64_t length = rows == 0 ? 1 : std::max<int64_t>(in.size() / rows, 1);
  for (int64_t j = 0; j < in.size(); ++j)
    out[j] -= zeros[n == 1 ? 0 : j / length];
  return out;
}

void convInteger(Call &c) {
  const Tensor &x = c.in(0), &w = c.in(1);
  Channels ch = channelsOf(c, x, w);
  Window win = windowOf(c, x, ArrayRef<int64_t>(w.shape).drop_front(2));
  if (c.hasIn(2) && c.in(2).size() != 1)
    fail("x_zero_point must be one number");
  auto out = convolve<int64_t>(x, centred(c, 0, 2), centred(c, 1, 3), win, ch);
  c.set(0, pack(Elem::i32, outShape(x, w.shape[0], win.out), out));
}

// The window that the gradient of a convolution has: input element i adds to the outputs
// i * stride + tap * dilation - before.
Window transposedWindow(const Call &c, const Tensor &x, ArrayRef<int64_t> kernel) {
  size_t n = kernel.size();
  Window w;
  w.kernel.assign(kernel.begin(), kernel.end());
  w.out.assign(x.shape.begin() + 2, x.shape.end());
  w.strides = spatialAttr(c, "strides", n, 1);
  w.dilations = spatialAttr(c, "dilations", n, 1);
  Shape pads = spatialAttr(c, "pads", 2 * n, 0), extra = spatialAttr(c, "output_padding", n, 0);
  Shape wanted = spatialAttr(c, "output_shape", n, -1);
  std::string mode = c.str("auto_pad", "NOTSET");
  bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  for (size_t i = 0; i < n; ++i) {
    int64_t full = w.strides[i] * (w.out[i] - 1) + extra[i] + (kernel[i] - 1) * w.dilations[i] + 1;
    int64_t before = mode == "VALID" ? 0 : pads[i], after = mode == "VALID" ? 0 : pads[n + i];
    // A kernel shorter than the stride does not reach input * stride.
    int64_t size = wanted[i] >= 0 ? wanted[i] : same ? std::min(w.out[i] * w.strides[i], full) : -1;
    if (size >= 0) {
      int64_t total = std::max<int64_t>(full - size, 0);
      before = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
    } else {
      size = full - before - after;
    }
    if (size < 0)
      fail("the padding exceeds the output");
    w.before.push_back(before);
    w.sizes.push_back(size);
  }
  return w;
}

void convTranspose(Call &c) {
  const Tensor &x = c.in(0), &w = c.in(1);
  int64_t groups = c.i64("group", 1);
  if (x.rank() < 3 || w.rank() != x.rank() || groups < 1 || w.shape[0] != x.shape[1] ||
      x.shape[1] % groups != 0)
    fail("weights " + text(w.shape) + " in " + Twine(groups) + " groups do not fit " +
         text(x.shape));
  Window win = transposedWindow(c, x, ArrayRef<int64_t>(w.shape).drop_front(2));
  int64_t inputs = x.shape[1], each = w.shape[1], channels = each * groups;
  int64_t positions = count(win.out), taps = count(win.kernel), inner = count(win.sizes);
  Elements<double> in(x), weights(w);
  std::vector<double> out(x.shape[0] * channels * inner);
  Shape at(win.out.size(), 0);
  for (int64_t p = 0; p < positions; ++p, advance(at, win.out))
    win.forEachTap(at, [&](int64_t element, int64_t tap) {
      for (int64_t row = 0; row < x.shape[0] * inputs; ++row) {
        int64_t n = row / inputs, k = row % inputs, group = k / (inputs / groups);
        for (int64_t m = 0; m < each; ++m)
          out[(n * channels + group * each + m) * inner + element] +=
              in[row * positions + p] * weights[(k * each + m) * taps + tap];
      }
    });
  addBias(c, 2, out, channels, inner);
  c.set(0, pack(x.type, outShape(x, channels, win.sizes), out));
}

// x [N, C, H, W] at (y, x) by bilinear interpolation; zeros outside.
double bilinear(const double *plane, int64_t height, int64_t width, double y, double x) {
  double sum = 0;
  int64_t top = static_cast<int64_t>(std::floor(y)), left = static_cast<int64_t>(std::floor(x));
  for (int64_t i = top; i <= top + 1; ++i)
    for (int64_t j = left; j <= left + 1; ++j)
      if (i >= 0 && i < height && j >= 0 && j < width)
        sum += plane[i * width + j] * (1 - std::fabs(y - static_cast<double>(i))) *
               (1 - std::fabs(x - static_cast<double>(j)));
  return sum;
}

void deformConv(Call &c) {
  const Tensor &x = c.in(0), &w = c.in(1);
  Channels ch = channelsOf(c, x, w);
  if (x.rank() != 4)
    fail("unsupported: DeformConv of rank " + Twine(x.rank()));
  Window win = windowOf(c, x, ArrayRef<int64_t>(w.shape).drop_front(2));
  int64_t offsetGroups = c.i64("offset_group", 1), taps = count(win.kernel);
  int64_t positions = count(win.out), inner = count(win.sizes), channels = w.shape[0];
  if (offsetGroups < 1 || x.shape[1] % offsetGroups != 0)
    fail("offset_group = " + Twine(offsetGroups));
  Shape offsets{x.shape[0], offsetGroups * taps * 2, win.out[0], win.out[1]}, masks(offsets);
  masks[1] /= 2;
  if (c.in(2).shape != offsets || (c.hasIn(4) && c.in(4).shape != masks))
    fail("offsets or mask do not fit " + text(offsets));
  Elements<double> in(x), weights(w), offset(c.in(2));
  std::optional<Elements<double>> mask;
  if (c.hasIn(4))
    mask.emplace(c.in(4));
  int64_t perGroup = x.shape[1] / offsetGroups;
  std::vector<double> out(x.shape[0] * channels * positions);
  for (int64_t at = 0; at < static_cast<int64_t>(out.size()); ++at) {
    int64_t p = at % positions, m = at / positions % channels, n = at / positions / channels;
    int64_t oy = p / win.out[1], ox = p % win.out[1];
    for (int64_t k = 0; k < ch.in; ++k)
      for (int64_t t = 0; t < taps; ++t) {
        int64_t channel = m / ch.out * ch.in + k, group = channel / perGroup;
        int64_t entry = (n * offsetGroups + group) * taps + t;
        auto base = [&](int64_t o, int64_t tap, int i) {
          return static_cast<double>(o * win.strides[i] + tap * win.dilations[i] - win.before[i]);
        };
        double y = base(oy, t / win.kernel[1], 0) + offset[(entry * 2) * positions + p];
        double xx = base(ox, t % win.kernel[1], 1) + offset[(entry * 2 + 1) * positions + p];
        double value = bilinear(in.data() + (n * x.shape[1] + channel) * inner, win.sizes[0],
                                win.sizes[1], y, xx);
        out[at] += value * (mask ? (*mask)[entry * positions + p] : 1) *
                   weights[(m * ch.in + k) * taps + t];
      }
  }
  addBias(c, 3, out, channels, positions);
  c.set(0, pack(x.type, outShape(x, channels, win.out), out));
}

} // namespace

void addConvolutions(Registry &r) {
  r.add("onnx.Conv", conv);
  r.add("onnx.ConvInteger", convInteger);
  r.add("onnx.ConvTranspose", convTranspose);
  r.add("onnx.DeformConv", deformConv);
}

} // namespace moec::reference
