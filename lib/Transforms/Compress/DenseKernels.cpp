#include "DenseKernels.h"

#include "llvm/Support/Parallel.h"
#include <algorithm>

namespace moec::compress {
extern const DenseKernels denseKernels_baseline;
#ifdef MOEC_X86_KERNELS
extern const DenseKernels denseKernels_avx2, denseKernels_avx512;
#endif
} // namespace moec::compress

using namespace moec::compress;

const std::vector<const DenseKernels *> &moec::compress::allDenseKernels() {
  static const std::vector<const DenseKernels *> kernels = [] {
    std::vector<const DenseKernels *> found;
#ifdef MOEC_X86_KERNELS
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
      found.push_back(&denseKernels_avx512);
    if (avx2)
      found.push_back(&denseKernels_avx2);
#endif
    found.push_back(&denseKernels_baseline);
    return found;
  }();
  return kernels;
}

// Columns of a step: its diagonal block is factored by one core.
static constexpr int64_t kBlock = 128;
static constexpr int64_t kTile = 384;

static size_t tilesOf(int64_t n, int64_t size) { return static_cast<size_t>((n + size - 1) / size); }

// Right-looking: a block of columns is factored, then subtracted from all that is behind it.
bool moec::compress::factorInPlace(const DenseKernels &kernels, double *a, int64_t n, int64_t lda) {
  for (int64_t k = 0; k < n; k += kBlock) {
    int64_t width = std::min(kBlock, n - k), first = k + width, left = n - first;
    double *diagonal = a + k * lda + k;
    if (!kernels.factor(diagonal, width, lda))
      return false;
    size_t tiles = tilesOf(left, kTile);
    llvm::parallelFor(0, tiles, [&](size_t i) {
      int64_t row = static_cast<int64_t>(i) * kTile;
      kernels.divideRight(diagonal, lda, width, a + k * lda + first + row,
                          std::min(kTile, left - row), lda);
    });
    llvm::parallelFor(0, tiles * (tiles + 1) / 2, [&](size_t pair) {
      size_t i = 0;
      while ((i + 1) * (i + 2) / 2 <= pair)
        ++i;
      int64_t row = static_cast<int64_t>(i) * kTile;
      int64_t column = static_cast<int64_t>(pair - i * (i + 1) / 2) * kTile;
      if (row == column)
        return kernels.subtractSquare(a + k * lda + first + row, lda, std::min(kTile, left - row),
                                      width, a + (first + row) * lda + first + row, lda);
      kernels.subtractProduct(a + k * lda + first + row, lda, a + k * lda + first + column, lda,
                              std::min(kTile, left - row), std::min(kTile, left - column), width,
                              a + (first + column) * lda + first + row, lda);
    });
  }
  return true;
}

void moec::compress::solveInPlace(const DenseKernels &kernels, const double *l, int64_t ldl,
                                  int64_t n, double *b, int64_t columns, int64_t ldb) {
  constexpr int64_t part = 64;
  llvm::parallelFor(0, tilesOf(columns, part), [&](size_t i) {
    int64_t column = static_cast<int64_t>(i) * part;
    kernels.solve(l, ldl, n, b + column * ldb, std::min(part, columns - column), ldb);
  });
}
