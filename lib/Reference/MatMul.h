// Matrix products. f32 and f64 products are summed in double, integers modulo 2^64.
#pragma once
#include "Tensor.h"

namespace moec::reference {

/// c[m, n] = a[m, k] * b[k, n], all row-major.
template <class S, class Sum>
void multiply(const S *a, const S *b, Sum *c, int64_t m, int64_t n, int64_t k);
/// c[m, n] = a[m, k] * b[n, k] transposed: the layout of linear layers.
void multiplyTransposed(const float *a, const float *b, double *c, int64_t m, int64_t n, int64_t k);
/// numpy.matmul of tensors of one type, rounded once.
Tensor matmul(const Tensor &a, const Tensor &b);

} // namespace moec::reference
