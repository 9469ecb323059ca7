#include "MatMul.h"
#include "Call.h"
#include "Shapes.h"
#include <algorithm>
#include <cmath>

using namespace llvm;

namespace moec::reference {

template <class S, class Sum>
void multiply(const S *a, const S *b, Sum *c, int64_t m, int64_t n, int64_t k) {
  constexpr int64_t rows = 4, columns = 256; // 8 KiB of sums, reused for every row of b
  Sum sum[rows][columns];
  for (int64_t n0 = 0; n0 < n; n0 += columns) {
    int64_t width = std::min(columns, n - n0);
    for (int64_t m0 = 0; m0 < m; m0 += rows) {
      int64_t height = std::min(rows, m - m0);
      for (int64_t r = 0; r < height; ++r)
        std::fill_n(sum[r], width, Sum(0));
      for (int64_t i = 0; i < k; ++i) {
        const S *from = b + i * n + n0;
        for (int64_t r = 0; r < height; ++r) {
          const Sum factor = static_cast<Sum>(a[(m0 + r) * k + i]);
          Sum *to = sum[r];
          for (int64_t j = 0; j < width; ++j)
            to[j] += factor * static_cast<Sum>(from[j]);
        }
      }
      for (int64_t r = 0; r < height; ++r)
        std::copy_n(sum[r], width, c + (m0 + r) * n + n0);
    }
  }
}
template void multiply(const float *, const float *, double *, int64_t, int64_t, int64_t);
template void multiply(const double *, const double *, double *, int64_t, int64_t, int64_t);
template void multiply(const uint64_t *, const uint64_t *, uint64_t *, int64_t, int64_t, int64_t);

void multiplyTransposed(const float *a, const float *b, double *c, int64_t m, int64_t n,
                        int64_t k) {
  constexpr int64_t lanes = 8;
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < m; ++i) {
      const float *x = a + i * k, *y = b + j * k;
      double sum[lanes] = {};
      int64_t p = 0;
      for (; p + lanes <= k; p += lanes)
        for (int64_t l = 0; l < lanes; ++l)
          sum[l] += static_cast<double>(x[p + l]) * static_cast<double>(y[p + l]);
      for (; p < k; ++p)
        sum[p % lanes] += static_cast<double>(x[p]) * static_cast<double>(y[p]);
      double total = 0;
      for (double s : sum)
        total += s;
      c[i * n + j] = total;
    }
}

namespace {

// Stored floats up to 32 bits multiply as float, which is exact in double.
template <class F>
auto withFactorType(Elem e, F &&f) {
  if (e == Elem::f64)
    return f(double{}, double{});
  if (isFloat(e))
    return f(float{}, double{});
  return f(uint64_t{}, uint64_t{});
}

void checkProduct(const Tensor &a, const Tensor &b) {
  if (a.type != b.type)
    fail(Twine("factors of different element types: ") + nameOf(a.type) + " and " + nameOf(b.type));
}

} // namespace

Tensor matmul(const Tensor &left, const Tensor &right) {
  checkProduct(left, right);
  if (left.rank() == 0 || right.rank() == 0)
    fail("a product with a scalar");
  Tensor a = left.rank() == 1 ? left.reshaped({1, left.size()}) : left;
  Tensor b = right.rank() == 1 ? right.reshaped({right.size(), 1}) : right;
  int64_t m = a.shape[a.rank() - 2], k = a.shape.back(), n = b.shape.back();
  if (b.shape[b.rank() - 2] != k)
    fail("shapes " + text(left.shape) + " and " + text(right.shape) + " do not multiply");
  ArrayRef<int64_t> la(a.shape), lb(b.shape);
  Shape batch = broadcastShape(la.drop_back(2), lb.drop_back(2)), shape(batch);
  Shape wholeA(batch), wholeB(batch);
  wholeA.append({m, k});
  wholeB.append({k, n});
  // A shared right side is not copied for every batch.
  bool shared = count(lb.drop_back(2)) == 1;
  a = broadcast(a, wholeA);
  if (!shared)
    b = broadcast(b, wholeB);
  if (left.rank() > 1)
    shape.push_back(m);
  if (right.rank() > 1)
    shape.push_back(n);
  return withFactorType(a.type, [&](auto factor, auto zero) {
    using S = decltype(factor);
    using Sum = decltype(zero);
    Elements<S> x(a), y(b);
    int64_t batches = count(batch);
    std::vector<Sum> out(batches * m * n);
    if (shared)
      multiply<S, Sum>(x.data(), y.data(), out.data(), batches * m, n, k);
    for (int64_t i = 0; !shared && i < batches; ++i)
      multiply<S, Sum>(x.data() + i * m * k, y.data() + i * k * n, out.data() + i * m * n, m, n, k);
    return pack(a.type, shape, out);
  });
}

namespace {

void matmulOp(Call &c) { c.set(0, matmul(c.in(0), c.in(1))); }

void gemm(Call &c) {
  checkProduct(c.in(0), c.in(1));
  if (c.in(0).rank() != 2 || c.in(1).rank() != 2)
    fail("matrices expected, not " + text(c.in(0).shape) + " and " + text(c.in(1).shape));
  Tensor a = c.i64("transA", 0) ? transpose(c.in(0), {1, 0}) : c.in(0);
  Tensor b = c.i64("transB", 0) ? transpose(c.in(1), {1, 0}) : c.in(1);
  int64_t m = a.shape[0], k = a.shape[1], n = b.shape[1];
  if (b.shape[0] != k)
    fail("shapes " + text(a.shape) + " and " + text(b.shape) + " do not multiply");
  double alpha = c.f64("alpha", 1), beta = c.f64("beta", 1);
  withFactorType(a.type, [&](auto factor, auto zero) {
    using S = decltype(factor);
    using Sum = decltype(zero);
    Elements<S> x(a), y(b);
    std::vector<Sum> out(m * n);
    multiply<S, Sum>(x.data(), y.data(), out.data(), m, n, k);
    bool whole = alpha == std::trunc(alpha) && beta == std::trunc(beta);
    if (!whole && !isFloat(a.type))
      fail("unsupported: integers times a factor that is no whole number");
    auto scaled = [](Sum v, double by) {
      if constexpr (std::is_same_v<Sum, double>)
        return v * by;
      else
        return v * static_cast<Sum>(static_cast<int64_t>(by));
    };
    for (Sum &v : out)
      v = scaled(v, alpha);
    if (c.hasIn(2)) {
      Elements<Sum> bias(broadcast(c.in(2), {m, n}));
      for (int64_t i = 0; i < m * n; ++i)
        out[i] += scaled(bias[i], beta);
    }
    c.set(0, pack(a.type, {m, n}, out));
  });
}

} // namespace

void addMatMul(Registry &r) {
  r.add("onnx.MatMul", matmulOp);
  r.add("onnx.Gemm", gemm);
}

} // namespace moec::reference
