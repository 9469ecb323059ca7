// Fourier transforms, mel weights, windows and determinants.
#include "Call.h"
#include "Shapes.h"
#include <cmath>
#include <complex>

using namespace llvm;

namespace moec::reference {
namespace {

using Complex = std::complex<double>;

// The first `bins` elements of the transform of a signal that is cut or padded to `length`.
std::vector<Complex> transform(ArrayRef<Complex> signal, int64_t length, int64_t bins,
                               bool inverse) {
  std::vector<Complex> out(bins);
  auto used = std::min<int64_t>(length, static_cast<int64_t>(signal.size()));
  for (int64_t k = 0; k < bins; ++k) {
    for (int64_t n = 0; n < used; ++n) {
      double angle = 2 * M_PI * static_cast<double>(k * n % length) / static_cast<double>(length);
      out[k] += signal[n] * std::polar(1.0, inverse ? angle : -angle);
    }
    if (inverse)
      out[k] /= static_cast<double>(length);
  }
  return out;
}

void dft(Call &c) {
  const Tensor &x = c.in(0);
  int64_t axis = Call::axis(c.hasIn(2) ? c.intIn(2) : c.i64("axis", -2), x.rank());
  bool inverse = c.i64("inverse", 0) != 0, onesided = c.i64("onesided", 0) != 0;
  if (x.rank() < 2 || axis == x.rank() - 1 || x.shape.back() < 1 || x.shape.back() > 2)
    fail(text(x.shape) + " along axis " + Twine(axis));
  bool real = x.shape.back() == 1, toReal = inverse && onesided;
  int64_t size = x.shape[axis];
  int64_t length = c.hasIn(1) ? c.intIn(1) : toReal ? 2 * (size - 1) : size;
  if (length < 1)
    fail("a transform of length " + Twine(length));
  int64_t bins = onesided && !inverse ? length / 2 + 1 : length;
  Shape shape(x.shape);
  shape[axis] = bins;
  shape.back() = toReal ? 1 : 2;
  Shape outer(x.shape);
  outer[axis] = 1;
  outer.pop_back();
  Shape in = stridesOf(x.shape), to = stridesOf(shape), at(outer.size(), 0);
  Elements<double> values(x);
  std::vector<double> out(count(shape));
  for (int64_t row = 0; row < count(outer); ++row, advance(at, outer)) {
    int64_t from = 0, into = 0;
    for (size_t d = 0; d < at.size(); ++d)
      from += at[d] * in[d], into += at[d] * to[d];
    std::vector<Complex> signal;
    for (int64_t i = 0; i < size; ++i) {
      const double *v = values.data() + from + i * in[axis];
      signal.emplace_back(v[0], real ? 0 : v[1]);
    }
    if (toReal) { // the other half is the conjugate
      signal.resize(length / 2 + 1);
      for (int64_t i = length / 2 + 1; i < length; ++i)
        signal.push_back(std::conj(signal[length - i]));
      signal[0] = signal[0].real();
      if (length % 2 == 0)
        signal[length / 2] = signal[length / 2].real();
    }
    auto result = transform(signal, length, bins, inverse);
    for (int64_t i = 0; i < bins; ++i) {
      out[into + i * to[axis]] = result[i].real();
      if (!toReal)
        out[into + i * to[axis] + 1] = result[i].imag();
    }
  }
  c.set(0, pack(x.type, shape, out));
}

void stft(Call &c) {
  const Tensor &x = c.in(0);
  if (x.rank() < 2 || x.rank() > 3 || (x.rank() == 3 && (x.shape[2] < 1 || x.shape[2] > 2)))
    fail("a signal " + text(x.shape));
  int64_t parts = x.rank() == 3 ? x.shape[2] : 1, batch = x.shape[0], size = x.shape[1];
  int64_t step = c.intIn(1);
  std::vector<double> window;
  if (c.hasIn(2)) {
    Elements<double> e(c.in(2));
    window.assign(e.begin(), e.end());
  }
  int64_t length = c.hasIn(3)       ? c.intIn(3)
                   : window.empty() ? size
                                    : static_cast<int64_t>(window.size());
  if (window.empty())
    window.assign(std::max<int64_t>(length, 0), 1);
  if (step < 1 || length < 1 || length > size || static_cast<int64_t>(window.size()) != length)
    fail("frames of " + Twine(length) + " with a window of " + Twine(window.size()) + " every " +
         Twine(step));
  bool onesided = c.i64("onesided", 1) != 0;
  int64_t frames = 1 + (size - length) / step, bins = onesided ? length / 2 + 1 : length;
  Elements<double> values(x);
  std::vector<double> out;
  for (int64_t row = 0; row < batch * frames; ++row) {
    std::vector<Complex> signal;
    for (int64_t i = 0; i < length; ++i) {
      const double *v = values.data() + (row / frames * size + row % frames * step + i) * parts;
      signal.push_back(Complex(v[0], parts == 2 ? v[1] : 0) * window[i]);
    }
    for (Complex v : transform(signal, length, bins, false))
      out.insert(out.end(), {v.real(), v.imag()});
  }
  c.set(0, pack(x.type, {batch, frames, bins, 2}, out));
}

void melWeightMatrix(Call &c) {
  int64_t bands = c.intIn(0), length = c.intIn(1), rate = c.intIn(2);
  double low = Elements<double>(cast(c.in(3), Elem::f64))[0];
  double high = Elements<double>(cast(c.in(4), Elem::f64))[0];
  int64_t bins = length / 2 + 1;
  if (bands < 1 || length < 1 || rate < 1)
    fail("sizes must be positive");
  auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  double step = (mel(high) - mel(low)) / static_cast<double>(bands + 2);
  std::vector<int64_t> edges;
  for (int64_t i = 0; i < bands + 2; ++i) {
    double hertz = 700 * (std::pow(10, (static_cast<double>(i) * step + mel(low)) / 2595) - 1);
    edges.push_back(static_cast<int64_t>(
        std::floor(static_cast<double>(length + 1) * hertz / static_cast<double>(rate))));
    if (edges.back() < 0 || edges.back() >= bins + (i == bands + 1))
      fail("a band edge is outside of the spectrum");
  }
  std::vector<double> out(bins * bands);
  auto part = [](int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); };
  for (int64_t i = 0; i < bands; ++i) {
    int64_t left = edges[i], centre = edges[i + 1], right = edges[i + 2];
    if (left == centre)
      out[centre * bands + i] = 1;
    for (int64_t j = left; left < centre && j <= centre; ++j)
      out[j * bands + i] = part(j - left, centre - left);
    for (int64_t j = centre; j < right; ++j)
      out[j * bands + i] = part(right - j, right - centre);
  }
  c.set(0, pack(c.outType(0), {bins, bands}, out));
}

// a0 - a1 cos(2 pi i / n) + a2 cos(4 pi i / n).
template <int kind>
void cosineWindow(Call &c) {
  static constexpr double coefficients[][3] = {
      {0.5, 0.5, 0}, {25.0 / 46, 21.0 / 46, 0}, {0.42, 0.5, 0.08}};
  const double *a = coefficients[kind];
  int64_t size = c.intIn(0);
  double n = static_cast<double>(c.i64("periodic", 1) != 0 ? size : size - 1);
  std::vector<double> out(std::max<int64_t>(size, 0));
  for (int64_t i = 0; i < size; ++i) {
    double angle = 2 * M_PI * static_cast<double>(i) / n;
    out[i] = a[0] - a[1] * std::cos(angle) + a[2] * std::cos(2 * angle);
  }
  c.set(0, pack(c.outType(0), {static_cast<int64_t>(out.size())}, out));
}

// By elimination with the largest pivot.
double determinant(std::vector<double> m, int64_t n) {
  double result = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (std::fabs(m[i * n + k]) > std::fabs(m[pivot * n + k]))
        pivot = i;
    if (m[pivot * n + k] == 0)
      return 0;
    for (int64_t j = 0; pivot != k && j < n; ++j)
      std::swap(m[k * n + j], m[pivot * n + j]);
    result *= pivot == k ? m[k * n + k] : -m[k * n + k];
    for (int64_t i = k + 1; i < n; ++i) {
      double factor = m[i * n + k] / m[k * n + k];
      for (int64_t j = k; j < n; ++j)
        m[i * n + j] -= factor * m[k * n + j];
    }
  }
  return result;
}

void det(Call &c) {
  const Tensor &x = c.in(0);
  if (x.rank() < 2 || x.shape.back() != x.shape[x.rank() - 2])
    fail(text(x.shape) + " are no square matrices");
  int64_t n = x.shape.back();
  Elements<double> in(x);
  Shape shape(x.shape.begin(), x.shape.end() - 2);
  std::vector<double> out;
  for (int64_t i = 0; i < count(shape); ++i)
    out.push_back(determinant({in.begin() + i * n * n, in.begin() + (i + 1) * n * n}, n));
  c.set(0, pack(x.type, shape, out));
}

} // namespace

void addSignal(Registry &r) {
  r.add("onnx.DFT", dft);
  r.add("onnx.STFT", stft);
  r.add("onnx.MelWeightMatrix", melWeightMatrix);
  r.add("onnx.HannWindow", cosineWindow<0>);
  r.add("onnx.HammingWindow", cosineWindow<1>);
  r.add("onnx.BlackmanWindow", cosineWindow<2>);
  r.add("onnx.Det", det);
}

} // namespace moec::reference
