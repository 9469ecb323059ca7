// Compiled once for each instruction set, with MOEC_ISA its name and Eigen's namespace renamed after
// it: an inline function of one set must never stand in for another's when the linker merges them.
#include "../DenseKernels.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>

namespace moec::compress {
namespace {

using Stride = Eigen::OuterStride<>;
using RowsF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using InF = Eigen::Map<const RowsF, 0, Stride>;
using OutF = Eigen::Map<RowsF, 0, Stride>;
using InD = Eigen::Map<const Eigen::MatrixXd, 0, Stride>;
using OutD = Eigen::Map<Eigen::MatrixXd, 0, Stride>;

void addProduct(const float *a, int64_t lda, const float *b, int64_t ldb, int64_t count, int64_t m,
                int64_t n, double *to, int64_t ldt) {
  Eigen::MatrixXf product(m, n);
  product.noalias() =
      InF(a, count, m, Stride(lda)).transpose() * InF(b, count, n, Stride(ldb));
  OutD(to, m, n, Stride(ldt)) += product.cast<double>();
}

void multiply(const float *x, int64_t ldx, const float *w, int64_t ldw, int64_t count, int64_t k,
              int64_t n, float *to, int64_t ldt) {
  OutF(to, count, n, Stride(ldt)).noalias() =
      InF(x, count, k, Stride(ldx)) * InF(w, n, k, Stride(ldw)).transpose();
}

bool factor(double *a, int64_t n, int64_t lda) {
  OutD matrix(a, n, n, Stride(lda));
  Eigen::LLT<Eigen::Ref<Eigen::MatrixXd, 0, Stride>, Eigen::Lower> factor(matrix);
  return factor.info() == Eigen::Success;
}

void divideRight(const double *l, int64_t ldl, int64_t k, double *b, int64_t rows, int64_t ldb) {
  OutD right(b, rows, k, Stride(ldb));
  InD(l, k, k, Stride(ldl))
      .transpose()
      .triangularView<Eigen::Upper>()
      .solveInPlace<Eigen::OnTheRight>(right);
}

void subtractProduct(const double *a, int64_t lda, const double *b, int64_t ldb, int64_t m,
                     int64_t n, int64_t k, double *c, int64_t ldc) {
  OutD(c, m, n, Stride(ldc)).noalias() -=
      InD(a, m, k, Stride(lda)) * InD(b, n, k, Stride(ldb)).transpose();
}

void subtractSquare(const double *a, int64_t lda, int64_t n, int64_t k, double *c, int64_t ldc) {
  OutD(c, n, n, Stride(ldc)).selfadjointView<Eigen::Lower>().rankUpdate(
      InD(a, n, k, Stride(lda)), -1);
}

void solve(const double *l, int64_t ldl, int64_t n, double *b, int64_t columns, int64_t ldb) {
  OutD right(b, n, columns, Stride(ldb));
  InD lower(l, n, n, Stride(ldl));
  lower.triangularView<Eigen::Lower>().solveInPlace(right);
  lower.transpose().triangularView<Eigen::Upper>().solveInPlace(right);
}

} // namespace

#define MOEC_TEXT_OF(x) #x
#define MOEC_TEXT(x) MOEC_TEXT_OF(x)
#define MOEC_JOIN_OF(a, b) a##b
#define MOEC_JOIN(a, b) MOEC_JOIN_OF(a, b)

extern const DenseKernels MOEC_JOIN(denseKernels_, MOEC_ISA);
const DenseKernels MOEC_JOIN(denseKernels_, MOEC_ISA) = {
    MOEC_TEXT(MOEC_ISA), addProduct, multiply, factor, divideRight, subtractProduct,
    subtractSquare, solve};

} // namespace moec::compress
