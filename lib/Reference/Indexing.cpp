// Gathers: elements and rows picked by index tensors.
#include "Call.h"
#include "Indices.h"
#include "Shapes.h"

using namespace llvm;

namespace moec::reference {

int64_t checkedIndex(int64_t index, int64_t size) {
  if (index < -size || index >= size)
    fail("index " + Twine(index) + " is outside of an axis of " + Twine(size));
  return index < 0 ? index + size : index;
}

namespace {

void gather(Call &c) {
  const Tensor &x = c.in(0), &indices = c.in(1);
  int64_t axis = Call::axis(c.i64("axis", 0), x.rank());
  AxisView view(x.shape, axis);
  Elements<int64_t> at(indices);
  Shape shape(x.shape);
  shape.erase(shape.begin() + axis);
  shape.insert(shape.begin() + axis, indices.shape.begin(), indices.shape.end());
  Tensor out(x.type, shape);
  int64_t run = view.inner * bytesOf(x.type);
  std::vector<int64_t> rows;
  for (int64_t index : at)
    rows.push_back(checkedIndex(index, view.size));
  char *to = out.mutableBytes();
  for (int64_t o = 0; run > 0 && o < view.outer; ++o)
    for (int64_t row : rows) {
      std::memcpy(to, x.bytes() + (o * view.size + row) * run, run);
      to += run;
    }
  c.set(0, out);
}

void gatherElements(Call &c) {
  const Tensor &x = c.in(0), &indices = c.in(1);
  std::vector<int64_t> at = elementPositions(x.shape, indices, c.i64("axis", 0));
  Tensor out(x.type, indices.shape);
  int64_t width = bytesOf(x.type);
  for (size_t i = 0; i < at.size(); ++i)
    std::memcpy(out.mutableBytes() + i * width, x.bytes() + at[i] * width, width);
  c.set(0, out);
}

void gatherND(Call &c) {
  const Tensor &x = c.in(0), &indices = c.in(1);
  int64_t batch = c.i64("batch_dims", 0), q = indices.rank();
  if (q < 1 || batch < 0 || batch >= q || batch >= x.rank())
    fail("batch_dims = " + Twine(batch) + " does not fit ranks " + Twine(x.rank()) + " and " +
         Twine(q));
  int64_t depth = indices.shape[q - 1];
  if (depth < 1 || batch + depth > x.rank())
    fail("indices of " + Twine(depth) + " axes for rank " + Twine(x.rank()));
  ArrayRef<int64_t> dims(x.shape), where(indices.shape);
  if (dims.take_front(batch) != where.take_front(batch))
    fail("batch dimensions of " + text(dims) + " and " + text(where) + " differ");
  Shape shape(where.drop_back());
  shape.append(dims.begin() + batch + depth, dims.end());
  Tensor out(x.type, shape);
  Elements<int64_t> at(indices);
  Shape strides = stridesOf(dims);
  int64_t tuples = count(where.drop_back()), run = count(dims.drop_front(batch + depth));
  int64_t perBatch = count(where.drop_front(batch).drop_back());
  int64_t batchStride = count(dims.drop_front(batch)), width = bytesOf(x.type);
  for (int64_t i = 0; i < tuples; ++i) {
    int64_t from = i / perBatch * batchStride;
    for (int64_t d = 0; d < depth; ++d)
      from += checkedIndex(at[i * depth + d], dims[batch + d]) * strides[batch + d];
    if (run > 0)
      std::memcpy(out.mutableBytes() + i * run * width, x.bytes() + from * width, run * width);
  }
  c.set(0, out);
}

} // namespace

std::vector<int64_t> elementPositions(ArrayRef<int64_t> shape, const Tensor &indices,
                                      int64_t axis) {
  int64_t rank = static_cast<int64_t>(shape.size());
  axis = Call::axis(axis, rank);
  if (indices.rank() != rank)
    fail("indices of rank " + Twine(indices.rank()) + " for rank " + Twine(rank));
  for (int64_t d = 0; d < rank; ++d)
    if (d != axis && indices.shape[d] > shape[d])
      fail("indices " + text(indices.shape) + " reach beyond " + text(shape));
  Elements<int64_t> values(indices);
  Shape strides = stridesOf(shape), index(rank, 0);
  std::vector<int64_t> out(values.size());
  for (int64_t i = 0; i < values.size(); ++i) {
    for (int64_t d = 0; d < rank; ++d)
      out[i] += (d == axis ? checkedIndex(values[i], shape[d]) : index[d]) * strides[d];
    advance(index, indices.shape);
  }
  return out;
}

void addIndexing(Registry &r) {
  r.add("onnx.Gather", gather);
  r.add("onnx.GatherElements", gatherElements);
  r.add("onnx.GatherND", gatherND);
}

} // namespace moec::reference
