#include "Window.h"

using namespace llvm;

namespace moec::reference {

void Window::forEachTap(ArrayRef<int64_t> at, function_ref<void(int64_t, int64_t)> visit) const {
  if (count(kernel) == 0)
    return;
  Shape tap(kernel.size(), 0);
  int64_t number = 0;
  do {
    int64_t element = 0;
    bool inside = true;
    for (size_t i = 0; i < tap.size(); ++i) {
      int64_t p = at[i] * strides[i] + tap[i] * dilations[i] - before[i];
      inside &= p >= 0 && p < sizes[i];
      element = element * sizes[i] + p;
    }
    if (inside)
      visit(element, number);
    ++number;
  } while (advance(tap, kernel));
}

Shape spatialAttr(const Call &c, StringRef name, size_t count, int64_t fallback) {
  auto given = c.i64s(name);
  if (!given || given->empty())
    return Shape(count, fallback);
  if (given->size() != count)
    fail(name + " has " + Twine(given->size()) + " elements instead of " + Twine(count));
  return Shape(given->begin(), given->end());
}

Window windowOf(const Call &c, const Tensor &x, ArrayRef<int64_t> kernel) {
  size_t n = kernel.size();
  if (x.rank() != static_cast<int64_t>(n) + 2)
    fail("a kernel of " + Twine(n) + " axes does not fit " + text(x.shape));
  Window w;
  w.sizes.assign(x.shape.begin() + 2, x.shape.end());
  w.kernel.assign(kernel.begin(), kernel.end());
  w.strides = spatialAttr(c, "strides", n, 1);
  w.dilations = spatialAttr(c, "dilations", n, 1);
  Shape pads = spatialAttr(c, "pads", 2 * n, 0);
  w.before.assign(pads.begin(), pads.begin() + n);
  w.after.assign(pads.begin() + n, pads.end());
  std::string mode = c.str("auto_pad", "NOTSET");
  bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  bool up = c.i64("ceil_mode", 0) != 0;
  if (!same && mode != "NOTSET" && mode != "VALID" && !mode.empty())
    fail("auto_pad = " + mode);
  for (size_t i = 0; i < n; ++i) {
    int64_t stride = w.strides[i], span = (kernel[i] - 1) * w.dilations[i] + 1, size = w.sizes[i];
    if (stride < 1 || w.dilations[i] < 1 || kernel[i] < 1)
      fail("strides, dilations and kernels must be positive");
    if (mode == "VALID")
      w.before[i] = w.after[i] = 0;
    if (same) {
      w.out.push_back((size + stride - 1) / stride);
      int64_t total = std::max<int64_t>((w.out[i] - 1) * stride + span - size, 0);
      w.before[i] = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
      w.after[i] = total - w.before[i];
      continue;
    }
    int64_t room = size + w.before[i] + w.after[i] - span;
    if (room < 0)
      fail("a window of " + Twine(span) + " exceeds an axis of " + Twine(size));
    w.out.push_back((up ? room + stride - 1 : room) / stride + 1);
    // No window starts in the padding behind the input.
    if (up && (w.out[i] - 1) * stride >= size + w.before[i])
      --w.out[i];
  }
  return w;
}

} // namespace moec::reference
