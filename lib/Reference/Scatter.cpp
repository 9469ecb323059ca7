// Scatters: a copy of a tensor with elements replaced or accumulated at indices.
#include "Call.h"
#include "Indices.h"
#include "Shapes.h"
#include <algorithm>

using namespace llvm;

namespace moec::reference {

namespace {

template <class T>
T combined(T old, T update, const std::string &reduction) {
  if (reduction == "add")
    return static_cast<T>(old + update);
  if (reduction == "mul")
    return static_cast<T>(old * update);
  if (reduction == "max")
    return old != old || old > update ? old : update;
  return old != old || old < update ? old : update;
}

// out[positions[i] + 0 .. run) <- updates[i * run ..], in the order of i.
Tensor scatter(const Tensor &x, const Tensor &updates, ArrayRef<int64_t> positions, int64_t run,
               const std::string &reduction) {
  if (updates.type != x.type)
    fail(Twine("updates of ") + nameOf(updates.type) + " for " + nameOf(x.type));
  if (reduction == "none") {
    Tensor out = x.copy();
    int64_t bytes = run * bytesOf(x.type);
    for (size_t i = 0; bytes > 0 && i < positions.size(); ++i)
      std::memcpy(out.mutableBytes() + positions[i] * bytesOf(x.type), updates.bytes() + i * bytes,
                  bytes);
    return out;
  }
  if (reduction != "add" && reduction != "mul" && reduction != "max" && reduction != "min")
    fail("unknown reduction " + reduction);
  auto accumulate = [&](auto zero) {
    using T = decltype(zero);
    Elements<T> old(x), by(updates);
    std::vector<T> out(old.begin(), old.end());
    for (size_t i = 0; i < positions.size(); ++i)
      for (int64_t j = 0; j < run; ++j) {
        T &element = out[positions[i] + j];
        element = combined<T>(element, by[i * run + j], reduction);
      }
    return pack(x.type, x.shape, out);
  };
  // Sums and products of integers wrap.
  bool wraps = (reduction == "add" || reduction == "mul") && !isFloat(x.type);
  return wraps ? accumulate(uint64_t{}) : withComputeType(x.type, accumulate);
}

void scatterElements(Call &c) {
  if (c.in(2).shape != c.in(1).shape)
    fail("updates " + text(c.in(2).shape) + " for indices " + text(c.in(1).shape));
  auto at = elementPositions(c.in(0).shape, c.in(1), c.i64("axis", 0));
  c.set(0, scatter(c.in(0), c.in(2), at, 1, c.str("reduction", "none")));
}

void scatterND(Call &c) {
  const Tensor &x = c.in(0), &indices = c.in(1), &updates = c.in(2);
  if (indices.rank() < 1)
    fail("indices without axes");
  int64_t depth = indices.shape.back();
  if (depth > x.rank())
    fail("indices of " + Twine(depth) + " axes for rank " + Twine(x.rank()));
  ArrayRef<int64_t> dims(x.shape), where(indices.shape);
  Shape expected(where.drop_back());
  expected.append(dims.begin() + depth, dims.end());
  if (expected != updates.shape)
    fail("updates " + text(updates.shape) + " where " + text(expected) + " is needed");
  Elements<int64_t> at(indices);
  Shape strides = stridesOf(dims);
  std::vector<int64_t> positions(count(where.drop_back()), 0);
  for (size_t i = 0; i < positions.size(); ++i)
    for (int64_t d = 0; d < depth; ++d)
      positions[i] += checkedIndex(at[i * depth + d], dims[d]) * strides[d];
  c.set(0,
        scatter(x, updates, positions, count(dims.drop_front(depth)), c.str("reduction", "none")));
}

// Writes a piece of a cache at a position of `axis` for each batch element.
void tensorScatter(Call &c) {
  const Tensor &cache = c.in(0), &update = c.in(1);
  int64_t axis = Call::axis(c.i64("axis", -2), cache.rank());
  std::string mode = c.str("mode", "linear");
  Shape fitting(cache.shape);
  if (axis == 0 || update.rank() != cache.rank())
    fail("the axis cannot be the batch, and both tensors need one rank");
  fitting[axis] = update.shape[axis];
  int64_t batches = cache.shape[0], size = cache.shape[axis], length = update.shape[axis];
  if (fitting != update.shape || length > size)
    fail("an update " + text(update.shape) + " for a cache " + text(cache.shape));
  std::vector<int64_t> starts(batches, 0);
  if (c.hasIn(2))
    starts = c.intsIn(2);
  if (static_cast<int64_t>(starts.size()) != batches)
    fail(Twine(starts.size()) + " write indices for a batch of " + Twine(batches));
  AxisView view(update.shape, axis);
  Tensor out = cache.copy();
  int64_t run = view.inner * bytesOf(cache.type);
  for (int64_t o = 0; run > 0 && o < view.outer; ++o) {
    int64_t start = starts[o / (view.outer / batches)];
    if (start < 0 || (mode != "circular" && start + length > size))
      fail("write index " + Twine(start) + " is outside of the cache");
    for (int64_t i = 0; i < length; ++i)
      std::memcpy(out.mutableBytes() + (o * size + (start + i) % size) * run,
                  update.bytes() + (o * length + i) * run, run);
  }
  c.set(0, out);
}

} // namespace

void addScatter(Registry &r) {
  r.add("onnx.ScatterElements", scatterElements);
  r.add("onnx.ScatterND", scatterND);
  r.add("onnx.TensorScatter", tensorScatter);
}

} // namespace moec::reference
