// Ops that only move elements: reshapes, transposes, cuts, joins, repeats, padding.
#include "Call.h"
#include "Shapes.h"
#include <algorithm>

using namespace llvm;

namespace moec::reference {

namespace {

void reshape(Call &c) {
  const Tensor &x = c.in(0);
  std::vector<int64_t> want = c.intsIn(1);
  bool allowZero = c.i64("allowzero", 0);
  Shape shape;
  int64_t inferred = -1, known = 1;
  for (size_t i = 0; i < want.size(); ++i) {
    int64_t d = want[i];
    if (d == 0 && !allowZero) {
      if (static_cast<int64_t>(i) >= x.rank())
        fail("the new shape copies dimension " + Twine(i) + " of a tensor of rank " +
             Twine(x.rank()));
      d = x.shape[i];
    }
    if (d == -1) {
      if (inferred >= 0)
        fail("the new shape " + text(want) + " leaves two dimensions open");
      inferred = static_cast<int64_t>(i);
    } else if (d < 0) {
      fail("the new shape is " + text(want));
    }
    shape.push_back(d);
  }
  if (inferred >= 0) {
    shape[inferred] = 1;
    known = count(shape);
    if (known == 0 ? x.size() != 0 : x.size() % known != 0)
      fail(text(x.shape) + " does not fit the shape " + text(want));
    shape[inferred] = known == 0 ? 0 : x.size() / known;
  }
  c.set(0, x.reshaped(shape));
}

void flatten(Call &c) {
  const Tensor &x = c.in(0);
  int64_t axis = c.i64("axis", 1);
  if (axis < -x.rank() || axis > x.rank())
    fail("axis " + Twine(axis) + " is outside of rank " + Twine(x.rank()));
  axis += axis < 0 ? x.rank() : 0;
  ArrayRef<int64_t> shape(x.shape);
  c.set(0, x.reshaped({count(shape.take_front(axis)), count(shape.drop_front(axis))}));
}

std::optional<std::vector<int64_t>> axesOf(Call &c, int64_t operand) {
  if (c.hasIn(operand))
    return c.intsIn(operand);
  return c.i64s("axes");
}

void squeeze(Call &c) {
  const Tensor &x = c.in(0);
  std::vector<bool> drop(x.rank(), false);
  if (auto axes = axesOf(c, 1)) {
    for (int64_t a : *axes) {
      a = Call::axis(a, x.rank());
      if (x.shape[a] != 1)
        fail("axis " + Twine(a) + " of " + text(x.shape) + " is not 1");
      drop[a] = true;
    }
  } else {
    for (int64_t i = 0; i < x.rank(); ++i)
      drop[i] = x.shape[i] == 1;
  }
  Shape shape;
  for (int64_t i = 0; i < x.rank(); ++i)
    if (!drop[i])
      shape.push_back(x.shape[i]);
  c.set(0, x.reshaped(shape));
}

void unsqueeze(Call &c) {
  const Tensor &x = c.in(0);
  auto axes = axesOf(c, 1);
  if (!axes)
    fail("no axes");
  int64_t rank = x.rank() + static_cast<int64_t>(axes->size());
  std::vector<bool> added(rank, false);
  for (int64_t a : *axes) {
    a = Call::axis(a, rank);
    if (added[a])
      fail("axis " + Twine(a) + " is named twice");
    added[a] = true;
  }
  Shape shape;
  int64_t next = 0;
  for (bool a : added)
    shape.push_back(a ? 1 : x.shape[next++]);
  c.set(0, x.reshaped(shape));
}

void transposeOp(Call &c) {
  auto perm = c.i64s("perm");
  if (!perm) {
    perm.emplace();
    for (int64_t i = c.in(0).rank(); i-- > 0;)
      perm->push_back(i);
  }
  c.set(0, transpose(c.in(0), *perm));
}

void expand(Call &c) {
  Shape shape(broadcastShape(c.in(0).shape, c.intsIn(1)));
  c.set(0, broadcast(c.in(0), shape));
}

void concatOp(Call &c) {
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < c.inputs(); ++i)
    parts.push_back(c.in(i));
  if (parts.empty())
    fail("nothing to concatenate");
  c.set(0, concat(parts, Call::axis(c.i64("axis", 0), parts[0].rank())));
}

void split(Call &c) {
  const Tensor &x = c.in(0);
  int64_t axis = Call::axis(c.i64("axis", 0), x.rank()), n = c.outputs(), total = x.shape[axis];
  std::vector<int64_t> sizes;
  if (c.hasIn(1)) {
    sizes = c.intsIn(1);
  } else {
    n = c.i64("num_outputs", n);
    int64_t each = n > 0 ? (total + n - 1) / n : 0;
    for (int64_t i = 0, left = total; i < n; ++i, left -= sizes.back())
      sizes.push_back(std::min(each, left));
  }
  int64_t sum = 0;
  for (int64_t s : sizes)
    sum += s;
  if (static_cast<int64_t>(sizes.size()) != c.outputs() || sum != total)
    fail("parts " + text(sizes) + " do not make up " + Twine(total) + " elements in " +
         Twine(c.outputs()) + " results");
  for (int64_t i = 0, at = 0; i < c.outputs(); at += sizes[i++])
    c.set(i, part(x, axis, at, sizes[i]));
}

void sliceOp(Call &c) {
  const Tensor &x = c.in(0);
  std::vector<int64_t> starts = c.intsIn(1), ends = c.intsIn(2), axes, steps;
  if (c.hasIn(3))
    axes = c.intsIn(3);
  else
    for (size_t i = 0; i < starts.size(); ++i)
      axes.push_back(static_cast<int64_t>(i));
  steps = c.hasIn(4) ? c.intsIn(4) : std::vector<int64_t>(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    fail("starts, ends, axes and steps differ in length");
  Shape from(x.rank(), 0), by(x.rank(), 1), size(x.shape);
  for (size_t i = 0; i < starts.size(); ++i) {
    int64_t axis = Call::axis(axes[i], x.rank()), n = x.shape[axis], step = steps[i];
    if (step == 0)
      fail("a step of 0");
    // Far beyond the ends means to the end: INT64_MIN and INT64_MAX are usual.
    auto clamp = [&](int64_t at, int64_t low, int64_t high) {
      return std::clamp(at < 0 ? (at < -n ? int64_t(-1) : at + n) : at, low, high);
    };
    int64_t start =
        step > 0 ? clamp(starts[i], 0, n) : clamp(starts[i], 0, std::max<int64_t>(n - 1, 0));
    int64_t end = step > 0 ? clamp(ends[i], 0, n) : clamp(ends[i], -1, n - 1);
    int64_t span = n == 0 ? 0 : step > 0 ? end - start : start - end;
    // 1 + (span - 1) / |step| without a negated INT64_MIN.
    uint64_t stride = step > 0 ? step : -static_cast<uint64_t>(step);
    size[axis] = span <= 0 ? 0 : static_cast<int64_t>(1 + static_cast<uint64_t>(span - 1) / stride);
    from[axis] = size[axis] ? start : 0;
    by[axis] = size[axis] > 1 ? step : 1;
  }
  c.set(0, slice(x, from, by, size));
}

void tile(Call &c) {
  const Tensor &x = c.in(0);
  std::vector<int64_t> repeats = c.intsIn(1);
  if (static_cast<int64_t>(repeats.size()) != x.rank())
    fail(Twine(repeats.size()) + " repeats for rank " + Twine(x.rank()));
  // [d0, d1] -> [1, d0, 1, d1] -> [r0, d0, r1, d1]
  Shape narrow, wide, shape;
  for (int64_t i = 0; i < x.rank(); ++i) {
    narrow.append({1, x.shape[i]});
    wide.append({repeats[i], x.shape[i]});
    shape.push_back(count({repeats[i], x.shape[i]}));
  }
  c.set(0, broadcast(x.reshaped(narrow), wide).reshaped(shape));
}

// The element of an axis of n that position p of the padded axis shows; -1: the constant.
int64_t paddedFrom(int64_t p, int64_t n, const std::string &mode) {
  if (p >= 0 && p < n)
    return p;
  if (mode == "constant" || n == 0)
    return -1;
  if (mode == "edge")
    return p < 0 ? 0 : n - 1;
  if (mode == "wrap")
    return ((p % n) + n) % n;
  if (n == 1) // reflect
    return 0;
  int64_t period = 2 * (n - 1), q = ((p % period) + period) % period;
  return q < n ? q : period - q;
}

void pad(Call &c) {
  const Tensor &x = c.in(0);
  std::vector<int64_t> pads = c.intsIn(1), axes;
  std::string mode = c.str("mode", "constant");
  if (mode != "constant" && mode != "edge" && mode != "wrap" && mode != "reflect")
    fail("unsupported: Pad with mode " + mode);
  if (c.hasIn(3))
    axes = c.intsIn(3);
  else
    for (int64_t i = 0; i < x.rank(); ++i)
      axes.push_back(i);
  if (pads.size() != 2 * axes.size())
    fail(Twine(pads.size()) + " pads for " + Twine(axes.size()) + " axes");
  for (int64_t p : pads)
    if (p < -(int64_t(1) << 40) || p > int64_t(1) << 40)
      fail("pads " + text(pads) + " are too large");
  Tensor out = x, fill(x.type, {});
  if (c.hasIn(2)) {
    if (c.in(2).size() != 1)
      fail("the constant of Pad holds " + Twine(c.in(2).size()) + " elements");
    fill = cast(c.in(2), x.type);
  }
  for (size_t i = 0; i < axes.size(); ++i) { // one axis after the other
    int64_t axis = Call::axis(axes[i], x.rank()), n = out.shape[axis];
    int64_t before = pads[i], size = n + before + pads[axes.size() + i];
    Shape shape(out.shape);
    shape[axis] = std::max<int64_t>(size, 0);
    Tensor next(x.type, shape);
    AxisView view(out.shape, axis);
    int64_t width = bytesOf(x.type), run = view.inner * width;
    for (int64_t o = 0; o < view.outer; ++o)
      for (int64_t p = 0; p < size; ++p) {
        int64_t from = paddedFrom(p - before, n, mode);
        char *to = next.mutableBytes() + (o * size + p) * run;
        if (from >= 0 && run > 0)
          std::memcpy(to, out.bytes() + (o * n + from) * run, run);
        for (int64_t e = 0; from < 0 && e < view.inner; ++e)
          std::memcpy(to + e * width, fill.bytes(), width);
      }
    out = next;
  }
  c.set(0, out);
}

// Each axis is cut or padded with zeros to a size, evenly on both sides.
void centerCropPad(Call &c) {
  Tensor x = c.in(0);
  std::vector<int64_t> sizes = c.intsIn(1), axes = c.i64s("axes").value_or(std::vector<int64_t>());
  for (int64_t i = 0; !c.has("axes") && i < x.rank(); ++i)
    axes.push_back(i);
  if (axes.size() != sizes.size())
    fail(Twine(sizes.size()) + " sizes for " + Twine(axes.size()) + " axes");
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t axis = Call::axis(axes[i], x.rank()), n = x.shape[axis], want = sizes[i];
    if (want < 0)
      fail("size " + Twine(want));
    if (want <= n) {
      x = part(x, axis, (n - want) / 2, want);
      continue;
    }
    Shape before(x.shape), after(x.shape);
    before[axis] = (want - n) / 2;
    after[axis] = want - n - before[axis];
    x = concat({Tensor(x.type, before), x, Tensor(x.type, after)}, axis);
  }
  c.set(0, x);
}

void trilu(Call &c) {
  const Tensor &x = c.in(0);
  if (x.rank() < 2)
    fail("a matrix expected, not " + text(x.shape));
  int64_t k = c.hasIn(1) ? c.intIn(1) : 0;
  bool upper = c.i64("upper", 1);
  Tensor out(x.type, x.shape);
  int64_t rows = x.shape[x.rank() - 2], columns = x.shape[x.rank() - 1], width = bytesOf(x.type);
  for (int64_t at = 0, n = x.size(); at < n; ++at) {
    int64_t row = at / columns % rows, column = at % columns;
    if (upper ? column - row >= k : column - row <= k)
      std::memcpy(out.mutableBytes() + at * width, x.bytes() + at * width, width);
  }
  c.set(0, out);
}

void reverseSequence(Call &c) {
  const Tensor &x = c.in(0);
  int64_t batch = c.i64("batch_axis", 1), time = c.i64("time_axis", 0);
  if (x.rank() < 2 || batch == time || batch < 0 || time < 0 || batch > 1 || time > 1)
    fail("batch_axis and time_axis must be 0 and 1");
  std::vector<int64_t> lengths = c.intsIn(1);
  if (static_cast<int64_t>(lengths.size()) != x.shape[batch])
    fail(Twine(lengths.size()) + " lengths for a batch of " + Twine(x.shape[batch]));
  Tensor out = x.copy();
  int64_t run = count(ArrayRef<int64_t>(x.shape).drop_front(2)) * bytesOf(x.type);
  auto at = [&](int64_t b, int64_t t) {
    return (batch == 0 ? b * x.shape[1] + t : t * x.shape[1] + b) * run;
  };
  for (int64_t b = 0; b < x.shape[batch]; ++b) {
    if (lengths[b] < 0 || lengths[b] > x.shape[time])
      fail("length " + Twine(lengths[b]) + " of a sequence of " + Twine(x.shape[time]));
    for (int64_t t = 0; run > 0 && t < lengths[b]; ++t)
      std::memcpy(out.mutableBytes() + at(b, t), x.bytes() + at(b, lengths[b] - 1 - t), run);
  }
  c.set(0, out);
}

// Both are a reshape to six axes, a transpose, and a reshape.
void depthSpace(Call &c, bool toSpace) {
  const Tensor &x = c.in(0);
  int64_t b = c.i64("blocksize", 0);
  if (x.rank() != 4 || b <= 0)
    fail("[N, C, H, W] and a positive blocksize expected");
  int64_t n = x.shape[0], channels = x.shape[1], h = x.shape[2], w = x.shape[3];
  if (toSpace ? channels % (b * b) != 0 : h % b != 0 || w % b != 0)
    fail(text(x.shape) + " cannot be divided into blocks of " + Twine(b));
  if (!toSpace) {
    Tensor parts = x.reshaped({n, channels, h / b, b, w / b, b});
    Tensor t = c.str("mode", "DCR") == "CRD" ? transpose(parts, {0, 1, 3, 5, 2, 4})
                                             : transpose(parts, {0, 3, 5, 1, 2, 4});
    return c.set(0, t.reshaped({n, channels * b * b, h / b, w / b}));
  }
  int64_t depth = channels / (b * b);
  Tensor t = c.str("mode", "DCR") == "CRD"
                 ? transpose(x.reshaped({n, depth, b, b, h, w}), {0, 1, 4, 2, 5, 3})
                 : transpose(x.reshaped({n, b, b, depth, h, w}), {0, 3, 4, 1, 5, 2});
  c.set(0, t.reshaped({n, depth, h * b, w * b}));
}

} // namespace

void addMovement(Registry &r) {
  r.add("onnx.Reshape", reshape);
  r.add("onnx.Flatten", flatten);
  r.add("onnx.Squeeze", squeeze);
  r.add("onnx.Unsqueeze", unsqueeze);
  r.add("onnx.Transpose", transposeOp);
  r.add("onnx.Expand", expand);
  r.add("onnx.Concat", concatOp);
  r.add("onnx.Split", split);
  r.add("onnx.Slice", sliceOp);
  r.add("onnx.Tile", tile);
  r.add("onnx.Pad", pad);
  r.add("onnx.CenterCropPad", centerCropPad);
  r.add("onnx.Trilu", trilu);
  r.add("onnx.ReverseSequence", reverseSequence);
  r.add("onnx.DepthToSpace", [](Call &c) { depthSpace(c, true); });
  r.add("onnx.SpaceToDepth", [](Call &c) { depthSpace(c, false); });
}

} // namespace moec::reference
