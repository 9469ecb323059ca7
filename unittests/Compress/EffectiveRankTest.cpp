#include "moec/Transforms/Compress/EffectiveRank.h"
#include <Eigen/Dense>
#include <cmath>
#include <gtest/gtest.h>

using moec::EffectiveRank;

namespace {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

llvm::ArrayRef<float> numbers(const Rows &rows) {
  return {rows.data(), static_cast<size_t>(rows.size())};
}

TEST(EffectiveRank, OfEqualSingularValuesIsTheirNumber) {
  std::srand(1); // Eigen's Random
  for (int64_t rank : {1, 5, 40}) {
    Eigen::MatrixXd mixed = Eigen::MatrixXd::Random(600, 600); // wider than a block of columns
    Eigen::MatrixXd basis = Eigen::HouseholderQR<Eigen::MatrixXd>(mixed).householderQ();
    Rows rows = basis.topRows(rank).cast<float>();
    EffectiveRank meter(600);
    for (int i = 0; i < 300; ++i) // over several calls
      meter.add(numbers(rows));
    EXPECT_EQ(meter.rows(), 300 * rank);
    EXPECT_NEAR(meter.value(), static_cast<double>(rank), 1e-2 * static_cast<double>(rank));
    EffectiveRank together(600);
    Rows many(300 * rank, 600); // longer than a chunk of rows
    for (int i = 0; i < 300; ++i)
      many.middleRows(i * rank, rank) = rows;
    together.add(numbers(many));
    EXPECT_NEAR(together.value(), meter.value(), 1e-3);
  }
}

TEST(EffectiveRank, HasTheSingularValues) {
  Rows rows = Rows::Zero(4, 3);
  rows(0, 1) = 3;
  rows(1, 0) = -4;
  rows(2, 0) = 3; // column norms 5, 3, 0
  EffectiveRank meter(3);
  meter.add(numbers(rows));
  std::vector<double> values = meter.singularValues();
  ASSERT_EQ(values.size(), 3u);
  EXPECT_NEAR(values[0], 5, 1e-6);
  EXPECT_NEAR(values[1], 3, 1e-6);
  EXPECT_NEAR(values[2], 0, 1e-6);
  EXPECT_NEAR(std::log(meter.value()), -(5. / 8 * std::log(5. / 8) + 3. / 8 * std::log(3. / 8)), 1e-6);
}

TEST(EffectiveRank, CountsFiniteRowsOnly) {
  EffectiveRank meter(2);
  EXPECT_TRUE(std::isnan(meter.value()));
  meter.add({INFINITY, 1, 0, 2, NAN, NAN});
  EXPECT_EQ(meter.rows(), 1);
  EXPECT_EQ(meter.value(), 1);
  EffectiveRank zeros(2);
  zeros.add({0, 0});
  EXPECT_EQ(zeros.value(), 0);
}

} // namespace
