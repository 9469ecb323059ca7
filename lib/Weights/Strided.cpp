#include "Strided.h"

#include "llvm/ADT/SmallVector.h"

#include <algorithm>
#include <cstring>

using llvm::ArrayRef;

namespace {

struct Axis {
  int64_t size, in, out;
};

template <int64_t Bytes>
void plane(const Axis &a, const Axis &b, const char *in, char *out) {
  constexpr int64_t kTile = 32;
  for (int64_t i0 = 0; i0 < a.size; i0 += kTile)
    for (int64_t j0 = 0; j0 < b.size; j0 += kTile)
      for (int64_t i = i0; i < std::min(a.size, i0 + kTile); ++i)
        for (int64_t j = j0; j < std::min(b.size, j0 + kTile); ++j)
          std::memcpy(out + (i * a.out + j * b.out) * Bytes, in + (i * a.in + j * b.in) * Bytes,
                      Bytes);
}

// The two innermost axes, in tiles: one of them is contiguous on either side.
void innermost(const Axis &a, const Axis &b, const char *in, char *out, int64_t bytes) {
  if (b.in == 1 && b.out == 1) {
    for (int64_t i = 0; i < a.size; ++i)
      std::memcpy(out + i * a.out * bytes, in + i * a.in * bytes,
                  static_cast<size_t>(b.size * bytes));
    return;
  }
  switch (bytes) {
  case 1: return plane<1>(a, b, in, out);
  case 2: return plane<2>(a, b, in, out);
  case 4: return plane<4>(a, b, in, out);
  case 8: return plane<8>(a, b, in, out);
  default: return plane<16>(a, b, in, out);
  }
}

void recurse(ArrayRef<Axis> axes, const char *in, char *out, int64_t bytes) {
  if (axes.size() == 2)
    return innermost(axes[0], axes[1], in, out, bytes);
  const Axis &axis = axes.front();
  for (int64_t i = 0; i < axis.size; ++i)
    recurse(axes.drop_front(), in + i * axis.in * bytes, out + i * axis.out * bytes, bytes);
}

} // namespace

void moec::copyStrided(ArrayRef<int64_t> sizes, const char *in, ArrayRef<int64_t> inStrides,
                       char *out, ArrayRef<int64_t> outStrides, int64_t bytes) {
  llvm::SmallVector<Axis> axes;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0)
      return;
    Axis next{sizes[i], inStrides[i], outStrides[i]};
    if (next.size == 1)
      continue;
    if (!axes.empty() && axes.back().in == next.size * next.in &&
        axes.back().out == next.size * next.out) {
      next.size *= axes.back().size;
      axes.pop_back();
    }
    axes.push_back(next);
  }
  // The axis that is contiguous in `in` goes second to last, so that the tiles cover both.
  if (axes.size() > 2) {
    auto contiguous = std::find_if(axes.begin(), axes.end() - 1,
                                   [](const Axis &axis) { return axis.in == 1; });
    if (contiguous != axes.end() - 1)
      std::rotate(contiguous, contiguous + 1, axes.end() - 1);
  }
  while (axes.size() < 2)
    axes.insert(axes.begin(), Axis{1, 0, 0});
  if (axes[1].size == 1 && axes[1].in == 0)
    axes[1] = {1, 1, 1};
  recurse(axes, in, out, bytes);
}
