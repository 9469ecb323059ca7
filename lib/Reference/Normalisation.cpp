#include "Normalisation.h"
#include "Call.h"
#include "Shapes.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace llvm;

namespace moec::reference {

void softmax(MutableArrayRef<double> row) {
  double top = -INFINITY, sum = 0;
  for (double v : row)
    top = std::fmax(top, v); // NaN comes back by exp
  for (double &v : row)
    sum += v = std::exp(v - top);
  for (double &v : row)
    v /= sum;
}

namespace {

// f changes each run along `axis` in place.
template <class F>
Tensor alongAxis(const Tensor &x, int64_t axis, F f) {
  AxisView view(x.shape, Call::axis(axis, x.rank()));
  Elements<double> in(x);
  std::vector<double> out(in.size()), row(view.size);
  for (int64_t o = 0; o < view.outer; ++o)
    for (int64_t i = 0; i < view.inner; ++i) {
      auto at = [&](int64_t k) { return (o * view.size + k) * view.inner + i; };
      for (int64_t k = 0; k < view.size; ++k)
        row[k] = in[at(k)];
      f(MutableArrayRef<double>(row));
      for (int64_t k = 0; k < view.size; ++k)
        out[at(k)] = row[k];
    }
  return pack(x.type, x.shape, out);
}

void softmaxOp(Call &c) { c.set(0, alongAxis(c.in(0), c.i64("axis", -1), softmax)); }

void logSoftmax(Call &c) {
  c.set(0, alongAxis(c.in(0), c.i64("axis", -1), [](MutableArrayRef<double> row) {
          double top = -INFINITY, sum = 0;
          for (double v : row)
            top = std::fmax(top, v);
          for (double v : row)
            sum += std::exp(v - top);
          for (double &v : row)
            v = v - top - std::log(sum);
        }));
}

void hardmax(Call &c) {
  c.set(0, alongAxis(c.in(0), c.i64("axis", -1), [](MutableArrayRef<double> row) {
          size_t best = std::max_element(row.begin(), row.end()) - row.begin();
          for (size_t i = 0; i < row.size(); ++i)
            row[i] = i == best;
        }));
}

void lpNormalization(Call &c) {
  int64_t p = c.i64("p", 2);
  if (p != 1 && p != 2)
    fail("p = " + Twine(p) + " is neither 1 nor 2");
  c.set(0, alongAxis(c.in(0), c.i64("axis", -1), [&](MutableArrayRef<double> row) {
          double norm = 0;
          for (double v : row)
            norm += p == 1 ? std::fabs(v) : v * v;
          norm = p == 1 ? norm : std::sqrt(norm);
          for (double &v : row)
            v = norm == 0 ? 0 : v / norm;
        }));
}

// (x - mean) / sqrt(variance + epsilon) of one run; what was subtracted and multiplied.
std::pair<double, double> standardise(MutableArrayRef<double> row, double epsilon) {
  double n = static_cast<double>(row.size()), mean = 0, variance = 0;
  for (double v : row)
    mean += v / n;
  for (double v : row)
    variance += (v - mean) * (v - mean) / n;
  double inverse = 1 / std::sqrt(variance + epsilon);
  for (double &v : row)
    v = (v - mean) * inverse;
  return {mean, inverse};
}

Shape reducedShape(const Tensor &x, int64_t axis) {
  Shape shape(x.shape);
  std::fill(shape.begin() + axis, shape.end(), 1);
  return shape;
}

void layerNormalization(Call &c) {
  const Tensor &x = c.in(0);
  int64_t axis = Call::axis(c.i64("axis", -1), x.rank());
  Elements<double> in(x), scale(broadcast(c.in(1), x.shape));
  std::vector<double> out(in.begin(), in.end()), means, inverses;
  int64_t length = count(ArrayRef<int64_t>(x.shape).drop_front(axis));
  for (int64_t at = 0; length > 0 && at < in.size(); at += length) {
    auto [mean, inverse] =
        standardise(MutableArrayRef<double>(out).slice(at, length), c.f64("epsilon", 1e-5f));
    means.push_back(mean);
    inverses.push_back(inverse);
  }
  for (int64_t i = 0; i < in.size(); ++i)
    out[i] *= scale[i];
  if (c.hasIn(2)) {
    Elements<double> bias(broadcast(c.in(2), x.shape));
    for (int64_t i = 0; i < in.size(); ++i)
      out[i] += bias[i];
  }
  c.set(0, pack(x.type, x.shape, out));
  for (int64_t i : {1, 2})
    if (c.wants(i))
      c.set(i, pack(c.outType(i), reducedShape(x, axis), i == 1 ? means : inverses));
}

void rmsNormalization(Call &c) {
  c.set(0, rmsNormalise(c.in(0), c.in(1), c.i64("axis", -1), c.f64("epsilon", 1e-5f)));
}

// x [N, C, ...] standardised over groups of C / groups channels; scale and bias are [C].
void normaliseGroups(Call &c, int64_t groups) {
  const Tensor &x = c.in(0);
  if (x.rank() < 2 || groups < 1 || x.shape[1] % groups != 0)
    fail(Twine(groups) + " groups do not divide the channels of " + text(x.shape));
  int64_t channels = x.shape[1], inner = count(ArrayRef<int64_t>(x.shape).drop_front(2));
  if (c.in(1).size() != channels || c.in(2).size() != channels)
    fail("scale and bias need " + Twine(channels) + " elements");
  Elements<double> in(x), scale(c.in(1)), bias(c.in(2));
  std::vector<double> out(in.begin(), in.end());
  int64_t length = channels / groups * inner;
  for (int64_t at = 0; length > 0 && at < in.size(); at += length)
    standardise(MutableArrayRef<double>(out).slice(at, length), c.f64("epsilon", 1e-5f));
  for (int64_t i = 0; i < in.size(); ++i) {
    int64_t channel = i / inner % channels;
    out[i] = out[i] * scale[channel] + bias[channel];
  }
  c.set(0, pack(x.type, x.shape, out));
}

// Mean and variance of each channel of [N, channels, inner].
std::pair<std::vector<double>, std::vector<double>>
channelMoments(const Elements<double> &in, int64_t channels, int64_t inner) {
  std::vector<double> mean(channels), variance(channels);
  double n = static_cast<double>(in.size()) / static_cast<double>(std::max<int64_t>(channels, 1));
  for (int64_t i = 0; i < in.size(); ++i)
    mean[i / inner % channels] += in[i] / n;
  for (int64_t i = 0; i < in.size(); ++i) {
    double d = in[i] - mean[i / inner % channels];
    variance[i / inner % channels] += d * d / n;
  }
  return {mean, variance};
}

void batchNormalization(Call &c) {
  const Tensor &x = c.in(0);
  int64_t channels = x.rank() > 1 ? x.shape[1] : 1;
  int64_t inner = x.rank() > 2 ? count(ArrayRef<int64_t>(x.shape).drop_front(2)) : 1;
  for (int64_t i = 1; i < 5; ++i)
    if (c.in(i).size() != channels)
      fail("scale, bias, mean and variance need " + Twine(channels) + " elements");
  Elements<double> in(x), scale(c.in(1)), bias(c.in(2)), givenMean(c.in(3)), givenVariance(c.in(4));
  std::vector<double> mean(givenMean.begin(), givenMean.end());
  std::vector<double> variance(givenVariance.begin(), givenVariance.end());
  if (c.i64("training_mode", 0) != 0) {
    auto [ownMean, ownVariance] = channelMoments(in, channels, inner);
    double momentum = c.f64("momentum", 0.9f);
    for (int64_t k = 0; k < channels; ++k) {
      mean[k] = mean[k] * momentum + ownMean[k] * (1 - momentum);
      variance[k] = variance[k] * momentum + ownVariance[k] * (1 - momentum);
    }
    if (c.wants(1))
      c.set(1, pack(c.outType(1), {channels}, mean));
    if (c.wants(2))
      c.set(2, pack(c.outType(2), {channels}, variance));
    mean = ownMean, variance = ownVariance;
  }
  double epsilon = c.f64("epsilon", 1e-5f);
  std::vector<double> out(in.size());
  for (int64_t i = 0; i < in.size(); ++i) {
    int64_t k = i / inner % channels;
    out[i] = (in[i] - mean[k]) / std::sqrt(variance[k] + epsilon) * scale[k] + bias[k];
  }
  c.set(0, pack(x.type, x.shape, out));
}

// Axes of one mean and variance last, standardised, and back.
void meanVarianceNormalization(Call &c) {
  const Tensor &x = c.in(0);
  std::vector<int64_t> axes = c.i64s("axes").value_or(std::vector<int64_t>{0, 2, 3});
  std::vector<bool> reduced(x.rank(), false);
  for (int64_t a : axes)
    reduced[Call::axis(a, x.rank())] = true;
  Shape perm, last, back(x.rank(), 0);
  for (int64_t i = 0; i < x.rank(); ++i)
    (reduced[i] ? last : perm).push_back(i);
  perm.append(last);
  for (int64_t i = 0; i < x.rank(); ++i)
    back[perm[i]] = i;
  Tensor moved = transpose(x, perm);
  int64_t length = count(ArrayRef<int64_t>(moved.shape).take_back(last.size()));
  Elements<double> in(moved);
  std::vector<double> out(in.begin(), in.end());
  for (int64_t at = 0; length > 0 && at < in.size(); at += length) {
    MutableArrayRef<double> row = MutableArrayRef<double>(out).slice(at, length);
    double n = static_cast<double>(length), mean = 0, variance = 0;
    for (double v : row)
      mean += v / n;
    for (double v : row)
      variance += (v - mean) * (v - mean) / n;
    for (double &v : row)
      v = (v - mean) / (std::sqrt(variance) + 1e-9);
  }
  c.set(0, transpose(pack(x.type, moved.shape, out), back));
}

} // namespace

Tensor rmsNormalise(const Tensor &x, const Tensor &scale, int64_t axis, double epsilon,
                    Tensor *inverse, Elem stash) {
  axis = Call::axis(axis, x.rank());
  Elements<double> in(x), factor(broadcast(scale, x.shape));
  std::vector<double> out(in.size()), inverses;
  int64_t length = count(ArrayRef<int64_t>(x.shape).drop_front(axis));
  for (int64_t at = 0; length > 0 && at < in.size(); at += length) {
    double sum = 0;
    for (int64_t i = at; i < at + length; ++i)
      sum += in[i] * in[i];
    double by = 1 / std::sqrt(sum / static_cast<double>(length) + epsilon);
    inverses.push_back(by);
    for (int64_t i = at; i < at + length; ++i)
      out[i] = in[i] * by * factor[i];
  }
  if (inverse)
    *inverse = pack(stash, reducedShape(x, axis), inverses);
  return pack(x.type, x.shape, out);
}

void addNormalisation(Registry &r) {
  r.add("onnx.Softmax", softmaxOp);
  r.add("onnx.LogSoftmax", logSoftmax);
  r.add("onnx.Hardmax", hardmax);
  r.add("onnx.LpNormalization", lpNormalization);
  r.add("onnx.LayerNormalization", layerNormalization);
  r.add("onnx.RMSNormalization", rmsNormalization);
  r.add("onnx.GroupNormalization", [](Call &c) { normaliseGroups(c, c.i64("num_groups", 0)); });
  r.add("onnx.InstanceNormalization",
        [](Call &c) { normaliseGroups(c, c.in(0).rank() > 1 ? c.in(0).shape[1] : 0); });
  r.add("onnx.BatchNormalization", batchNormalization);
  r.add("onnx.MeanVarianceNormalization", meanVarianceNormalization);
}

} // namespace moec::reference
