// Dense products and factorisations, in the instruction sets that the machine may have. Eigen chooses
// instructions when it is compiled, so Kernels/DenseKernels.cpp is compiled once for each set.
#pragma once

#include <cstdint>
#include <vector>

namespace moec::compress {

/// Matrices are [rows, columns]. "Row-major" ones have `ld` numbers from row to row, the others
/// (column-major) from column to column. No kernel keeps or allocates what outlives it; all are
/// thread safe.
struct DenseKernels {
  const char *isa; ///< "baseline", "avx2" or "avx512"
  /// to[m, n] += a^T b over `count` rows of a [count, m] and b [count, n]; a and b row-major f32, to
  /// column-major f64. The products are summed up in f32: `count` is to be small (256).
  void (*addProduct)(const float *a, int64_t lda, const float *b, int64_t ldb, int64_t count,
                     int64_t m, int64_t n, double *to, int64_t ldt);
  /// to[count, n] = x[count, k] w^T with w [n, k]; all row-major f32.
  void (*multiply)(const float *x, int64_t ldx, const float *w, int64_t ldw, int64_t count,
                   int64_t k, int64_t n, float *to, int64_t ldt);
  /// The lower Cholesky factor of a [n, n] in place; false when `a` is not positive definite.
  bool (*factor)(double *a, int64_t n, int64_t lda);
  /// b[rows, k] = b l^-T, l [k, k] lower triangular.
  void (*divideRight)(const double *l, int64_t ldl, int64_t k, double *b, int64_t rows, int64_t ldb);
  /// c[m, n] -= a b^T with a [m, k], b [n, k].
  void (*subtractProduct)(const double *a, int64_t lda, const double *b, int64_t ldb, int64_t m,
                          int64_t n, int64_t k, double *c, int64_t ldc);
  /// The lower half of c[n, n] -= a a^T with a [n, k].
  void (*subtractSquare)(const double *a, int64_t lda, int64_t n, int64_t k, double *c, int64_t ldc);
  /// b[n, columns] = (l l^T)^-1 b.
  void (*solve)(const double *l, int64_t ldl, int64_t n, double *b, int64_t columns, int64_t ldb);
};

/// Those that this machine can run, the best one first.
const std::vector<const DenseKernels *> &allDenseKernels();
inline const DenseKernels &denseKernels() { return *allDenseKernels().front(); }

/// The lower Cholesky factor of a column-major symmetric matrix, of which the lower half is read, in
/// place and on all cores; the other half stays. False when it is not positive definite.
bool factorInPlace(const DenseKernels &kernels, double *a, int64_t n, int64_t lda);

/// b[n, columns] = (l l^T)^-1 b, both column-major, on all cores.
void solveInPlace(const DenseKernels &kernels, const double *l, int64_t ldl, int64_t n, double *b,
                  int64_t columns, int64_t ldb);

} // namespace moec::compress
