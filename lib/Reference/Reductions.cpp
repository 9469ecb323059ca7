// Reductions over axes, positions of extremes, running sums.
#include "Call.h"
#include "Shapes.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace llvm;

namespace moec::reference {

namespace {

// A reduction's operand with its reduced axes last: `rows` x `length` elements.
struct Rows {
  Tensor moved;
  Shape result;
  int64_t rows, length;
};

Rows rowsOf(Call &c) {
  const Tensor &x = c.in(0);
  std::vector<int64_t> axes;
  if (c.hasIn(1))
    axes = c.intsIn(1);
  else if (auto attribute = c.i64s("axes"))
    axes = *attribute;
  std::vector<bool> reduced(x.rank(), axes.empty() && !c.i64("noop_with_empty_axes", 0));
  for (int64_t a : axes)
    reduced[Call::axis(a, x.rank())] = true;
  bool keep = c.i64("keepdims", 1);
  Shape perm, last, result, kept, inner;
  for (int64_t i = 0; i < x.rank(); ++i) {
    (reduced[i] ? last : perm).push_back(i);
    (reduced[i] ? inner : kept).push_back(x.shape[i]);
    if (!reduced[i] || keep)
      result.push_back(reduced[i] ? 1 : x.shape[i]);
  }
  perm.append(last);
  return {transpose(x, perm), result, count(kept), count(inner)};
}

// f(row) for each row, in the type T; the result has the operand's type.
template <class T, class F>
void reduce(Call &c, F f) {
  Rows r = rowsOf(c);
  Elements<T> in(r.moved);
  std::vector<T> out(r.rows);
  for (int64_t i = 0; i < r.rows; ++i)
    out[i] = f(ArrayRef<T>(in.data() + i * r.length, r.length));
  c.set(0, pack(r.moved.type, r.result, out));
}

template <class T, class F>
T fold(ArrayRef<T> row, T start, F f) {
  for (T v : row)
    start = f(start, v);
  return start;
}

constexpr auto plus = [](auto a, auto b) -> decltype(a) { return a + b; };
constexpr auto times = [](auto a, auto b) -> decltype(a) { return a * b; };
constexpr auto plusSquare = [](auto a, auto b) -> decltype(a) { return a + b * b; };
constexpr auto plusSize = [](auto a, auto b) -> decltype(a) {
  if constexpr (std::is_same_v<decltype(a), double>)
    return a + std::fabs(b);
  return a + (static_cast<int64_t>(b) < 0 ? -b : b);
};

// Sums and products of integers wrap.
template <auto F, int Start>
void accumulate(Call &c) {
  auto run = [&](auto zero) {
    using T = decltype(zero);
    reduce<T>(c, [](ArrayRef<T> row) { return fold<T>(row, T(Start), F); });
  };
  isFloat(c.in(0).type) ? run(double{}) : run(uint64_t{});
}

// The extreme of no elements is the opposite extreme of the type.
template <class T>
T extreme(ArrayRef<T> row, bool largest, Elem type) {
  if (row.empty()) {
    double infinity = std::numeric_limits<double>::infinity();
    Tensor limit = cast(scalar(Elem::f64, largest ? -infinity : infinity), type);
    if (type == Elem::boolean)
      limit = scalar(type, largest ? 0 : 1);
    return Elements<T>(limit)[0];
  }
  T best = row[0];
  for (T v : row)
    if (best == best && (v != v || (largest ? v > best : v < best)))
      best = v;
  return best;
}

template <bool Largest>
void extremes(Call &c) {
  Elem type = c.in(0).type;
  withComputeType(type, [&](auto zero) {
    using T = decltype(zero);
    reduce<T>(c, [&](ArrayRef<T> row) { return extreme<T>(row, Largest, type); });
  });
}

double logSumExp(ArrayRef<double> row) {
  double top = -std::numeric_limits<double>::infinity();
  for (double v : row)
    top = v > top || std::isnan(v) ? v : top;
  if (!std::isfinite(top))
    return top;
  double sum = 0;
  for (double v : row)
    sum += std::exp(v - top);
  return top + std::log(sum);
}

template <auto F>
void inDouble(Call &c) {
  reduce<double>(c, F);
}

// Index of the extreme; ties to the first or last; NaN is extreme.
template <class T>
int64_t position(ArrayRef<T> row, bool largest, bool last) {
  int64_t best = 0;
  for (int64_t i = 1; i < static_cast<int64_t>(row.size()); ++i) {
    T v = row[i], b = row[best];
    bool nan = v != v, bestNan = b != b;
    bool better = bestNan ? false : nan || (largest ? v > b : v < b);
    bool equal = v == b || (nan && bestNan);
    if (better || (last && equal))
      best = i;
  }
  return best;
}

template <bool Largest>
void argument(Call &c) {
  const Tensor &x = c.in(0);
  int64_t axis = Call::axis(c.i64("axis", 0), x.rank());
  bool keep = c.i64("keepdims", 1), last = c.i64("select_last_index", 0);
  AxisView view(x.shape, axis);
  Shape result(x.shape);
  if (keep)
    result[axis] = 1;
  else
    result.erase(result.begin() + axis);
  std::vector<int64_t> out(view.outer * view.inner);
  if (view.size == 0 && !out.empty())
    fail("the position of the extreme of no elements");
  withComputeType(x.type, [&](auto zero) {
    using T = decltype(zero);
    Elements<T> in(x);
    std::vector<T> row(view.size);
    for (int64_t o = 0; o < view.outer; ++o)
      for (int64_t i = 0; i < view.inner; ++i) {
        for (int64_t k = 0; k < view.size; ++k)
          row[k] = in[(o * view.size + k) * view.inner + i];
        out[o * view.inner + i] = position<T>(row, Largest, last);
      }
  });
  c.set(0, pack(Elem::i64, result, out));
}

template <auto F, int Start>
void running(Call &c) {
  const Tensor &x = c.in(0);
  AxisView view(x.shape, Call::axis(c.intIn(1), x.rank()));
  bool exclusive = c.i64("exclusive", 0), reverse = c.i64("reverse", 0);
  auto run = [&](auto zero) {
    using T = decltype(zero);
    Elements<T> in(x);
    std::vector<T> out(in.size());
    for (int64_t o = 0; o < view.outer; ++o)
      for (int64_t i = 0; i < view.inner; ++i) {
        T total = T(Start);
        for (int64_t k = 0; k < view.size; ++k) {
          int64_t at = (o * view.size + (reverse ? view.size - 1 - k : k)) * view.inner + i;
          T next = F(total, in[at]);
          out[at] = exclusive ? total : next;
          total = next;
        }
      }
    c.set(0, pack(x.type, x.shape, out));
  };
  isFloat(x.type) ? run(double{}) : run(uint64_t{});
}

} // namespace

void addReductions(Registry &r) {
  r.add("onnx.ReduceSum", accumulate<plus, 0>);
  r.add("onnx.ReduceProd", accumulate<times, 1>);
  r.add("onnx.ReduceSumSquare", accumulate<plusSquare, 0>);
  r.add("onnx.ReduceL1", accumulate<plusSize, 0>);
  r.add("onnx.ReduceL2",
        inDouble<[](ArrayRef<double> row) { return std::sqrt(fold<double>(row, 0, plusSquare)); }>);
  r.add("onnx.ReduceMean", inDouble<[](ArrayRef<double> row) {
          return fold<double>(row, 0, plus) / static_cast<double>(row.size());
        }>);
  r.add("onnx.ReduceLogSum",
        inDouble<[](ArrayRef<double> row) { return std::log(fold<double>(row, 0, plus)); }>);
  r.add("onnx.ReduceLogSumExp", inDouble<logSumExp>);
  r.add("onnx.ReduceMax", extremes<true>);
  r.add("onnx.ReduceMin", extremes<false>);
  r.add("onnx.ArgMax", argument<true>);
  r.add("onnx.ArgMin", argument<false>);
  r.add("onnx.CumSum", running<plus, 0>);
  r.add("onnx.CumProd", running<times, 1>);
}

} // namespace moec::reference
