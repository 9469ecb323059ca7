// Every instruction set that this machine has, against Eigen as the rest of the compiler has it.
#include "../../lib/Transforms/Compress/DenseKernels.h"
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <gtest/gtest.h>

using namespace moec::compress;

namespace {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class DenseKernelsTest : public testing::TestWithParam<const DenseKernels *> {
protected:
  void SetUp() override { std::srand(1); } // Eigen's Random
  const DenseKernels &kernels = *GetParam();
};

Eigen::MatrixXd positiveDefinite(int64_t n) {
  Eigen::MatrixXd a = Eigen::MatrixXd::Random(n, n + 3);
  Eigen::MatrixXd gram = a * a.transpose();
  gram.diagonal().array() += 1;
  return gram;
}

TEST_P(DenseKernelsTest, AddProductAddsToAPartOfAMatrix) {
  Rows a = Rows::Random(37, 19), b = Rows::Random(37, 23);
  Eigen::MatrixXd to = Eigen::MatrixXd::Random(40, 30), want = to;
  want.block(5, 2, 11, 23) += (a.middleCols(3, 11).transpose() * b).cast<double>();
  kernels.addProduct(a.data() + 3, 19, b.data(), 23, 37, 11, 23, to.data() + 2 * 40 + 5, 40);
  EXPECT_LT((to - want).cwiseAbs().maxCoeff(), 1e-4);
}

TEST_P(DenseKernelsTest, MultiplyWritesTheFirstColumns) {
  Rows x = Rows::Random(13, 17), w = Rows::Random(9, 17), to = Rows::Zero(13, 12);
  kernels.multiply(x.data(), 17, w.data(), 17, 13, 17, 7, to.data(), 12);
  Rows want = x * w.topRows(7).transpose();
  EXPECT_LT((to.leftCols(7) - want).cwiseAbs().maxCoeff(), 1e-4);
  EXPECT_EQ(to.rightCols(5).cwiseAbs().maxCoeff(), 0);
}

TEST_P(DenseKernelsTest, FactorsAndSolvesLikeEigen) {
  for (int64_t n : {1, 7, 128, 129, 600}) { // within a block, at its end, several tiles
    Eigen::MatrixXd a = positiveDefinite(n), l = a, b = Eigen::MatrixXd::Random(n, 70);
    Eigen::MatrixXd want = a.llt().solve(b), got = b;
    ASSERT_TRUE(factorInPlace(kernels, l.data(), n, n)) << n;
    solveInPlace(kernels, l.data(), n, n, got.data(), 70, n);
    EXPECT_LT((got - want).norm(), 1e-9 * want.norm()) << n;
    EXPECT_TRUE(Eigen::MatrixXd(l.triangularView<Eigen::StrictlyUpper>())
                    .isApprox(Eigen::MatrixXd(a.triangularView<Eigen::StrictlyUpper>()))) << n;
  }
}

TEST_P(DenseKernelsTest, RefusesWhatIsNotPositiveDefinite) {
  Eigen::MatrixXd a = positiveDefinite(300);
  a(250, 250) = -1;
  EXPECT_FALSE(factorInPlace(kernels, a.data(), 300, 300));
}

INSTANTIATE_TEST_SUITE_P(InstructionSets, DenseKernelsTest, testing::ValuesIn(allDenseKernels()),
                         [](const auto &info) { return std::string(info.param->isa); });

} // namespace
