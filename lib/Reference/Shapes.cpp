#include "Shapes.h"

using namespace llvm;

namespace moec::reference {

Shape stridesOf(ArrayRef<int64_t> shape) {
  Shape strides(shape.size(), 1);
  for (int64_t i = static_cast<int64_t>(shape.size()) - 2; i >= 0; --i)
    strides[i] = strides[i + 1] * shape[i + 1];
  return strides;
}

Shape broadcastShape(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  Shape out(std::max(a.size(), b.size()), 1);
  for (size_t i = 0; i < out.size(); ++i) {
    int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1)
      fail("shapes " + text(a) + " and " + text(b) + " do not broadcast");
    out[out.size() - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

bool advance(MutableArrayRef<int64_t> index, ArrayRef<int64_t> shape) {
  for (int64_t i = static_cast<int64_t>(index.size()) - 1; i >= 0; --i) {
    if (++index[i] < shape[i])
      return true;
    index[i] = 0;
  }
  return false;
}

template <class T>
static void copyRow(const char *in, int64_t stride, char *out, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(out + i * sizeof(T), in + i * stride * static_cast<int64_t>(sizeof(T)), sizeof(T));
}

void copyStrided(const char *in, int64_t offset, ArrayRef<int64_t> strides, char *out,
                 ArrayRef<int64_t> shape, int64_t width) {
  if (count(shape) == 0)
    return;
  // The longest suffix that is contiguous in both is copied at once.
  int64_t rank = static_cast<int64_t>(shape.size()), run = 1;
  while (rank > 0 && (shape[rank - 1] == 1 || strides[rank - 1] == run))
    run *= shape[--rank];
  int64_t inner = 1, innerStride = 0;
  if (run == 1 && rank > 0) {
    --rank;
    inner = shape[rank];
    innerStride = strides[rank];
  }
  Shape index(rank, 0);
  do {
    int64_t at = offset;
    for (int64_t i = 0; i < rank; ++i)
      at += index[i] * strides[i];
    const char *from = in + at * width;
    if (run > 1) {
      std::memcpy(out, from, run * width);
      out += run * width;
      continue;
    }
    switch (width) {
    case 1:
      copyRow<uint8_t>(from, innerStride, out, inner);
      break;
    case 2:
      copyRow<uint16_t>(from, innerStride, out, inner);
      break;
    case 4:
      copyRow<uint32_t>(from, innerStride, out, inner);
      break;
    default:
      copyRow<uint64_t>(from, innerStride, out, inner);
      break;
    }
    out += inner * width;
  } while (advance(index, shape.take_front(rank)));
}

Tensor broadcast(const Tensor &t, ArrayRef<int64_t> shape) {
  if (ArrayRef<int64_t>(t.shape) == shape)
    return t;
  if (t.shape.size() > shape.size())
    fail("shape " + text(t.shape) + " does not broadcast to " + text(shape));
  Shape own = stridesOf(t.shape), strides(shape.size(), 0);
  size_t lead = shape.size() - t.shape.size();
  for (size_t i = 0; i < t.shape.size(); ++i) {
    if (t.shape[i] == shape[lead + i])
      strides[lead + i] = t.shape[i] == 1 ? 0 : own[i];
    else if (t.shape[i] != 1)
      fail("shape " + text(t.shape) + " does not broadcast to " + text(shape));
  }
  Tensor out(t.type, shape);
  copyStrided(t.bytes(), 0, strides, out.mutableBytes(), shape, bytesOf(t.type));
  return out;
}

Tensor transpose(const Tensor &t, ArrayRef<int64_t> perm) {
  if (perm.size() != t.shape.size())
    fail("a permutation of " + Twine(perm.size()) + " axes for rank " + Twine(t.rank()));
  Shape own = stridesOf(t.shape), shape, strides;
  SmallVector<bool> seen(perm.size(), false);
  for (int64_t p : perm) {
    if (p < 0 || p >= t.rank() || seen[p])
      fail("perm = " + text(perm) + " is no permutation");
    seen[p] = true;
    shape.push_back(t.shape[p]);
    strides.push_back(own[p]);
  }
  Tensor out(t.type, shape);
  copyStrided(t.bytes(), 0, strides, out.mutableBytes(), shape, bytesOf(t.type));
  return out;
}

Tensor slice(const Tensor &t, ArrayRef<int64_t> starts, ArrayRef<int64_t> steps,
             ArrayRef<int64_t> sizes) {
  Shape own = stridesOf(t.shape), strides;
  int64_t offset = 0;
  for (int64_t i = 0; i < t.rank(); ++i) {
    int64_t last = starts[i] + (sizes[i] - 1) * steps[i];
    if (sizes[i] > 0 && (std::min(starts[i], last) < 0 || std::max(starts[i], last) >= t.shape[i]))
      fail("internal: slice outside of " + text(t.shape));
    offset += sizes[i] > 0 ? starts[i] * own[i] : 0;
    strides.push_back(own[i] * steps[i]);
  }
  Tensor out(t.type, sizes);
  copyStrided(t.bytes(), offset, strides, out.mutableBytes(), sizes, bytesOf(t.type));
  return out;
}

Tensor part(const Tensor &t, int64_t axis, int64_t start, int64_t size) {
  Shape starts(t.rank(), 0), steps(t.rank(), 1), sizes(t.shape);
  if (start < 0 || size < 0 || start + size > t.shape[axis])
    fail("[" + Twine(start) + ", " + Twine(start + size) + ") is outside of axis " + Twine(axis) +
         " of " + text(t.shape));
  starts[axis] = start;
  sizes[axis] = size;
  return slice(t, starts, steps, sizes);
}

AxisView::AxisView(ArrayRef<int64_t> shape, int64_t axis) {
  outer = count(shape.take_front(axis));
  size = shape[axis];
  inner = count(shape.drop_front(axis + 1));
}

Tensor concat(ArrayRef<Tensor> parts, int64_t axis) {
  if (parts.empty())
    fail("nothing to concatenate");
  Shape shape(parts[0].shape);
  shape[axis] = 0;
  for (const Tensor &t : parts) {
    Shape other(t.shape);
    if (t.rank() == parts[0].rank())
      other[axis] = parts[0].shape[axis];
    if (other != parts[0].shape || t.type != parts[0].type)
      fail("cannot concatenate " + text(t.shape) + " to " + text(parts[0].shape) + " along axis " +
           Twine(axis));
    shape[axis] += t.shape[axis];
  }
  Tensor out(parts[0].type, shape);
  AxisView view(shape, axis);
  int64_t width = bytesOf(out.type), row = view.size * view.inner * width, at = 0;
  for (const Tensor &t : parts) {
    int64_t run = t.shape[axis] * view.inner * width;
    for (int64_t o = 0; run > 0 && o < view.outer; ++o)
      std::memcpy(out.mutableBytes() + o * row + at, t.bytes() + o * run, run);
    at += run;
  }
  return out;
}

Tensor stack(ArrayRef<Tensor> parts, int64_t axis) {
  std::vector<Tensor> with;
  for (const Tensor &t : parts) {
    Shape shape(t.shape);
    shape.insert(shape.begin() + axis, 1);
    with.push_back(t.reshaped(shape));
  }
  return concat(with, axis);
}

} // namespace moec::reference
