// Ops that choose elements by their values: TopK, NonZero, Compress, Unique.
#include "Call.h"
#include "Indices.h"
#include "Shapes.h"
#include <map>

using namespace llvm;

namespace moec::reference {

namespace {

// Ties to the lower index; NaN counts as the largest.
void topK(Call &c) {
  const Tensor &x = c.in(0);
  int64_t axis = Call::axis(c.i64("axis", -1), x.rank()), k = c.intIn(1);
  bool largest = c.i64("largest", 1);
  AxisView view(x.shape, axis);
  if (k < 0 || k > view.size)
    fail("k = " + Twine(k) + " exceeds an axis of " + Twine(view.size));
  Shape shape(x.shape);
  shape[axis] = k;
  std::vector<int64_t> positions(count(shape));
  Tensor values(x.type, shape);
  int64_t width = bytesOf(x.type);
  withComputeType(x.type, [&](auto zero) {
    Elements<decltype(zero)> in(x);
    for (int64_t o = 0; o < view.outer; ++o)
      for (int64_t i = 0; i < view.inner; ++i) {
        auto at = [&](int64_t p) { return (o * view.size + p) * view.inner + i; };
        auto order = orderedIndices(view.size, [&](int64_t p, int64_t q) {
          auto a = in[at(largest ? p : q)], b = in[at(largest ? q : p)];
          return a != a ? b == b : a > b;
        });
        for (int64_t j = 0; j < k; ++j) {
          int64_t to = (o * k + j) * view.inner + i;
          positions[to] = order[j];
          std::memcpy(values.mutableBytes() + to * width, x.bytes() + at(order[j]) * width, width);
        }
      }
  });
  c.set(0, values);
  c.set(1, pack(Elem::i64, shape, positions));
}

void nonZero(Call &c) {
  const Tensor &x = c.in(0);
  Tensor truth = cast(x, Elem::boolean);
  std::vector<int64_t> found;
  for (int64_t i = 0, n = x.size(); i < n; ++i)
    if (truth.bytes()[i])
      found.push_back(i);
  int64_t n = static_cast<int64_t>(found.size());
  Shape strides = stridesOf(x.shape);
  std::vector<int64_t> out; // [rank, n]: a scalar has no rows
  for (int64_t d = 0; d < x.rank(); ++d)
    for (int64_t at : found)
      out.push_back(at / strides[d] % x.shape[d]);
  c.set(0, pack(Elem::i64, {x.rank(), n}, out));
}

void compress(Call &c) {
  Tensor x = c.in(0);
  int64_t axis = 0;
  if (c.has("axis"))
    axis = Call::axis(c.i64("axis", 0), x.rank());
  else
    x = x.reshaped({x.size()});
  const Tensor &condition = c.in(1);
  if (condition.type != Elem::boolean || condition.rank() != 1)
    fail("the condition is no boolean vector");
  std::vector<Tensor> parts = {part(x, axis, 0, 0)};
  for (int64_t i = 0; i < condition.size(); ++i)
    if (condition.bytes()[i])
      parts.push_back(part(x, axis, i, 1));
  c.set(0, concat(parts, axis));
}

// Rows of axis 0, compared element by element in their compute type.
template <class T>
struct RowLess {
  const T *data;
  int64_t length;
  bool operator()(int64_t a, int64_t b) const {
    const T *x = data + a * length, *y = data + b * length;
    return std::lexicographical_compare(x, x + length, y, y + length);
  }
};

void unique(Call &c) {
  Tensor x = c.in(0);
  int64_t axis = 0;
  if (c.has("axis"))
    axis = Call::axis(c.i64("axis", 0), x.rank());
  else
    x = x.reshaped({x.size()});
  Shape perm;
  for (int64_t i = 0; i < x.rank(); ++i)
    perm.push_back(i);
  std::swap(perm[0], perm[axis]);
  x = transpose(x, perm);
  int64_t n = x.shape[0], length = count(ArrayRef<int64_t>(x.shape).drop_front());
  std::vector<int64_t> firsts, inverse(n), counts;
  withComputeType(x.type, [&](auto zero) {
    using T = decltype(zero);
    Elements<T> in(x);
    RowLess<T> less{in.data(), length};
    std::map<int64_t, int64_t, RowLess<T>> groups(less); // first row -> group
    for (int64_t i = 0; i < n; ++i) {
      auto [it, fresh] = groups.try_emplace(i, static_cast<int64_t>(firsts.size()));
      if (fresh) {
        firsts.push_back(i);
        counts.push_back(0);
      }
      inverse[i] = it->second;
      ++counts[it->second];
    }
    if (!c.i64("sorted", 1))
      return;
    std::vector<int64_t> place(firsts.size()), oldFirsts = firsts, oldCounts = counts;
    int64_t next = 0;
    for (auto &[first, group] : groups) {
      place[group] = next;
      firsts[next] = oldFirsts[group];
      counts[next++] = oldCounts[group];
    }
    for (int64_t &g : inverse)
      g = place[g];
  });
  std::vector<Tensor> rows = {part(x, 0, 0, 0)};
  for (int64_t first : firsts)
    rows.push_back(part(x, 0, first, 1));
  c.set(0, transpose(concat(rows, 0), perm));
  c.set(1, ints(firsts));
  c.set(2, ints(inverse));
  c.set(3, ints(counts));
}

} // namespace

void addSelection(Registry &r) {
  r.add("onnx.TopK", topK);
  r.add("onnx.NonZero", nonZero);
  r.add("onnx.Compress", compress);
  r.add("onnx.Unique", unique);
}

} // namespace moec::reference
