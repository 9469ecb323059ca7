// Pools, LRN and Col2Im.
#include "Window.h"
#include <cmath>
#include <limits>

using namespace llvm;

namespace moec::reference {
namespace {

Window poolWindow(const Call &c) {
  auto kernel = c.i64s("kernel_shape");
  if (!kernel)
    fail("kernel_shape is missing");
  return windowOf(c, c.in(0), *kernel);
}

// One result for each position of each plane: fold(plane's first element, taps).
using Taps = ArrayRef<int64_t>;
template <class T, class F>
std::vector<T> pool(const Tensor &x, const Window &win, F fold) {
  int64_t planes = x.shape[0] * x.shape[1], positions = count(win.out), inner = count(win.sizes);
  std::vector<T> out(planes * positions);
  Shape at(win.out.size(), 0);
  for (int64_t p = 0; p < positions; ++p, advance(at, win.out)) {
    std::vector<int64_t> taps;
    win.forEachTap(at, [&](int64_t element, int64_t) { taps.push_back(element); });
    for (int64_t plane = 0; plane < planes; ++plane)
      out[plane * positions + p] = fold(plane * inner, Taps(taps), ArrayRef<int64_t>(at));
  }
  return out;
}

Shape pooled(const Tensor &x, const Window &win) {
  Shape shape{x.shape[0], x.shape[1]};
  shape.append(win.out);
  return shape;
}

// Taps of a window that lie in the input and its declared padding.
int64_t paddedTaps(const Window &win, ArrayRef<int64_t> at) {
  int64_t taps = 1;
  for (size_t i = 0; i < at.size(); ++i) {
    int64_t inside = 0;
    for (int64_t k = 0; k < win.kernel[i]; ++k)
      inside += at[i] * win.strides[i] + k * win.dilations[i] <
                win.sizes[i] + win.before[i] + win.after[i];
    taps *= inside;
  }
  return taps;
}

void averagePool(Call &c) {
  Window win = poolWindow(c);
  bool padding = c.i64("count_include_pad", 0) != 0;
  Elements<double> in(c.in(0));
  auto out = pool<double>(c.in(0), win, [&](int64_t first, Taps taps, ArrayRef<int64_t> at) {
    double sum = 0;
    for (int64_t t : taps)
      sum += in[first + t];
    return sum / static_cast<double>(padding ? paddedTaps(win, at) : taps.size());
  });
  c.set(0, pack(c.in(0).type, pooled(c.in(0), win), out));
}

void lpPool(Call &c) {
  Window win = poolWindow(c);
  double p = c.f64("p", 2);
  Elements<double> in(c.in(0));
  auto out = pool<double>(c.in(0), win, [&](int64_t first, Taps taps, ArrayRef<int64_t>) {
    double sum = 0;
    for (int64_t t : taps)
      sum += std::pow(std::fabs(in[first + t]), p);
    return std::pow(sum, 1 / p);
  });
  c.set(0, pack(c.in(0).type, pooled(c.in(0), win), out));
}

// The element as Indices count it: row-major, or with the first spatial axis fastest.
int64_t indexOf(int64_t element, const Shape &sizes, bool columnMajor) {
  if (!columnMajor)
    return element;
  int64_t index = 0;
  for (size_t i = sizes.size(); i-- > 0;) {
    int64_t inner = 1;
    for (size_t j = 0; j < i; ++j)
      inner *= sizes[j];
    index += element % sizes[i] * inner;
    element /= sizes[i];
  }
  return index;
}

void maxPool(Call &c) {
  Window win = poolWindow(c);
  const Tensor &x = c.in(0);
  bool columns = c.i64("storage_order", 0) != 0;
  withComputeType(x.type, [&](auto zero) {
    using T = decltype(zero);
    Elements<T> in(x);
    auto best = [&](int64_t first, Taps taps) {
      int64_t at = -1;
      for (int64_t t : taps)
        if (at < 0 || in[first + t] > in[first + at] || in[first + t] != in[first + t])
          at = at >= 0 && in[first + at] != in[first + at] ? at : t;
      return at;
    };
    auto values = pool<T>(x, win, [&](int64_t first, Taps taps, ArrayRef<int64_t>) {
      int64_t at = best(first, taps);
      if (at >= 0)
        return in[first + at];
      return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity()
                                                  : std::numeric_limits<T>::lowest();
    });
    c.set(0, pack<T>(x.type, pooled(x, win), values));
    if (!c.wants(1))
      return;
    auto indices = pool<int64_t>(x, win, [&](int64_t first, Taps taps, ArrayRef<int64_t>) {
      return first + indexOf(std::max<int64_t>(best(first, taps), 0), win.sizes, columns);
    });
    c.set(1, pack(Elem::i64, pooled(x, win), indices));
  });
}

enum class Global { average, max, lp };

template <Global kind>
void globalPool(Call &c) {
  const Tensor &x = c.in(0);
  if (x.rank() < 2)
    fail("rank 2 or more expected, not " + text(x.shape));
  Elements<double> in(x);
  int64_t planes = x.shape[0] * x.shape[1], inner = planes == 0 ? 0 : in.size() / planes;
  double p = c.f64("p", 2);
  std::vector<double> out(planes);
  for (int64_t plane = 0; plane < planes; ++plane) {
    double value = kind == Global::max ? -INFINITY : 0;
    for (double v : ArrayRef<double>(in.data() + plane * inner, inner))
      if (kind == Global::max)
        value = v > value || std::isnan(v) ? v : value;
      else
        value += kind == Global::lp ? std::pow(std::fabs(v), p) : v;
    if (kind == Global::average)
      value /= static_cast<double>(inner);
    out[plane] = kind == Global::lp ? std::pow(value, 1 / p) : value;
  }
  Shape shape(x.rank(), 1);
  shape[0] = x.shape[0], shape[1] = x.shape[1];
  c.set(0, pack(x.type, shape, out));
}

void maxUnpool(Call &c) {
  const Tensor &x = c.in(0);
  if (x.rank() < 3 || c.in(1).shape != x.shape)
    fail("indices " + text(c.in(1).shape) + " do not fit " + text(x.shape));
  size_t n = x.shape.size() - 2;
  Shape kernel = spatialAttr(c, "kernel_shape", n, 1), strides = spatialAttr(c, "strides", n, 1);
  Shape pads = spatialAttr(c, "pads", 2 * n, 0), plain(x.shape);
  for (size_t i = 0; i < n; ++i)
    plain[i + 2] = (x.shape[i + 2] - 1) * strides[i] - pads[i] - pads[n + i] + kernel[i];
  Shape shape(plain);
  if (c.hasIn(2)) {
    std::vector<int64_t> given = c.intsIn(2);
    shape.assign(given.begin(), given.end());
    if (shape.size() != plain.size())
      fail("output_shape " + text(shape) + " does not fit " + text(plain));
  }
  // The indices count in the tensor that was pooled; a larger output has it in its corner.
  Elements<double> in(x);
  std::vector<int64_t> indices = c.intsIn(1);
  std::vector<double> out(count(shape));
  for (int64_t i = 0; i < in.size(); ++i) {
    int64_t rest = indices[i], at = 0;
    if (rest < 0 || rest >= count(plain))
      fail("index " + Twine(rest) + " is outside of " + text(plain));
    Shape stride = stridesOf(plain), wide = stridesOf(shape);
    for (size_t d = 0; d < plain.size(); ++d) {
      if (rest / stride[d] >= shape[d])
        fail("index " + Twine(indices[i]) + " is outside of " + text(shape));
      at += rest / stride[d] * wide[d];
      rest %= stride[d];
    }
    out[at] = in[i];
  }
  c.set(0, pack(x.type, shape, out));
}

void lrn(Call &c) {
  const Tensor &x = c.in(0);
  int64_t size = c.i64("size", 1);
  if (x.rank() < 2 || size < 1)
    fail("size = " + Twine(size) + " over " + text(x.shape));
  double alpha = c.f64("alpha", 1e-4f), beta = c.f64("beta", 0.75), bias = c.f64("bias", 1);
  AxisView view(x.shape, 1);
  Elements<double> in(x);
  std::vector<double> out(in.size());
  for (int64_t i = 0; i < in.size(); ++i) {
    int64_t channel = i / view.inner % view.size;
    int64_t first = std::max<int64_t>(channel - (size - 1) / 2, 0);
    int64_t last = std::min(channel + size / 2, view.size - 1);
    double sum = 0;
    for (int64_t k = first; k <= last; ++k) {
      double v = in[i + (k - channel) * view.inner];
      sum += v * v;
    }
    out[i] = in[i] / std::pow(bias + alpha / static_cast<double>(size) * sum, beta);
  }
  c.set(0, pack(x.type, x.shape, out));
}

// [N, C * taps, positions] added up where the windows of an image read it.
void col2Im(Call &c) {
  const Tensor &x = c.in(0);
  std::vector<int64_t> image = c.intsIn(1), block = c.intsIn(2);
  size_t n = image.size();
  if (x.rank() != 3 || block.size() != n)
    fail("blocks of " + Twine(block.size()) + " axes in images of " + Twine(n));
  int64_t taps = count(block);
  if (taps == 0 || x.shape[1] % taps != 0)
    fail(Twine(taps) + " taps do not divide " + text(x.shape));
  int64_t channels = x.shape[1] / taps;
  Shape shape{x.shape[0], channels};
  shape.append(image.begin(), image.end());
  Window win = windowOf(c, Tensor(x.type, shape), block);
  int64_t positions = count(win.out), inner = count(win.sizes);
  if (positions != x.shape[2])
    fail(Twine(positions) + " positions do not fit " + text(x.shape));
  Elements<double> in(x);
  std::vector<double> out(count(shape));
  Shape at(n, 0);
  for (int64_t p = 0; p < positions; ++p, advance(at, win.out))
    win.forEachTap(at, [&](int64_t element, int64_t tap) {
      for (int64_t plane = 0; plane < x.shape[0] * channels; ++plane)
        out[plane * inner + element] += in[(plane * taps + tap) * positions + p];
    });
  c.set(0, pack(x.type, shape, out));
}

} // namespace

void addPools(Registry &r) {
  r.add("onnx.AveragePool", averagePool);
  r.add("onnx.MaxPool", maxPool);
  r.add("onnx.LpPool", lpPool);
  r.add("onnx.GlobalAveragePool", globalPool<Global::average>);
  r.add("onnx.GlobalMaxPool", globalPool<Global::max>);
  r.add("onnx.GlobalLpPool", globalPool<Global::lp>);
  r.add("onnx.MaxUnpool", maxUnpool);
  r.add("onnx.LRN", lrn);
  r.add("onnx.Col2Im", col2Im);
}

} // namespace moec::reference
