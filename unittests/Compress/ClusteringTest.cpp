// Groups and assignments against brute force and planted answers.
#include "../../lib/Transforms/Compress/Alignment.h"
#include "../../lib/Transforms/Compress/Clustering.h"
#include "gtest/gtest.h"

#include <numeric>
#include <random>
#include <set>

using namespace moec::compress;

namespace {

constexpr unsigned kSeed = 20260716;

double costOf(const Rows &cost, const std::vector<int64_t> &columns) {
  double sum = 0;
  for (size_t i = 0; i < columns.size(); ++i)
    sum += double(cost(i, columns[i]));
  return sum;
}

TEST(Assignment, CostsAsLittleAsTheBestPermutation) {
  std::mt19937 random(kSeed);
  for (int round = 0; round < 300; ++round) {
    int64_t n = round % 7 + 1;
    bool ties = round % 2 == 0; // small integers: many equal costs
    std::uniform_real_distribution<float> number(-3, 3);
    Rows cost(n, n);
    for (int64_t i = 0; i < n * n; ++i)
      cost.data()[i] = ties ? std::round(number(random)) : number(random);
    std::vector<int64_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    double best = costOf(cost, order);
    while (std::next_permutation(order.begin(), order.end()))
      best = std::min(best, costOf(cost, order));
    std::vector<int64_t> found = assignRows(cost);
    std::set<int64_t> columns(found.begin(), found.end());
    ASSERT_EQ(columns.size(), size_t(n)) << "round " << round << " of " << kSeed;
    ASSERT_NEAR(costOf(cost, found), best, 1e-4) << "round " << round << " of " << kSeed;
  }
}

TEST(Assignment, FindsAPlantedPermutationOfManyRows) {
  std::mt19937 random(kSeed + 1);
  std::uniform_real_distribution<float> number(0, 1);
  int64_t n = 300;
  Rows cost = Rows::NullaryExpr(n, n, [&] { return number(random); });
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  for (int64_t i = 0; i < n; ++i)
    cost(i, order[i]) = -1;
  EXPECT_EQ(assignRows(cost), order);
}

// Points around `centres` corners, an equal number each; the corner of a point is i % centres.
Eigen::MatrixXd planted(std::mt19937 &random, int64_t points, int64_t centres) {
  std::normal_distribution<double> noise(0, 0.05);
  Eigen::MatrixXd out(points, centres);
  for (int64_t i = 0; i < points; ++i)
    for (int64_t j = 0; j < centres; ++j)
      out(i, j) = (i % centres == j) * 3 + noise(random);
  return out;
}

Eigen::MatrixXd nearness(const Eigen::MatrixXd &points) {
  Eigen::MatrixXd out(points.rows(), points.rows());
  for (int64_t i = 0; i < points.rows(); ++i)
    for (int64_t j = 0; j < points.rows(); ++j)
      out(i, j) = -(points.row(i) - points.row(j)).norm();
  return out;
}

std::vector<int64_t> upTo(int64_t n) {
  std::vector<int64_t> all(n);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

void expectPartition(const Groups &groups, int64_t items, int64_t count, int64_t most) {
  std::set<int64_t> seen;
  EXPECT_EQ(int64_t(groups.size()), count);
  for (const auto &group : groups) {
    EXPECT_GE(group.size(), 1u);
    EXPECT_LE(int64_t(group.size()), most);
    for (int64_t item : group)
      EXPECT_TRUE(seen.insert(item).second) << "item " << item << " is in two groups";
  }
  EXPECT_EQ(int64_t(seen.size()), items);
}

TEST(Clustering, FindsPlantedGroups) {
  std::mt19937 random(kSeed + 2);
  for (int round = 0; round < 20; ++round) {
    int64_t centres = round % 4 + 2, n = centres * 4;
    Eigen::MatrixXd points = planted(random, n, centres), similarity = nearness(points);
    std::vector<int64_t> all = upTo(n), first(all.begin(), all.begin() + centres),
                         others(all.begin() + centres, all.end());
    llvm::Expected<Groups> found[] = {kMeans(points, all, centres, 16, round),
                                      linkAverage(similarity, all, centres, 16),
                                      joinCentres(similarity, first, others, 16),
                                      fillCentres(similarity, first, others, 4)};
    for (auto &groups : found) {
      ASSERT_TRUE(bool(groups)) << llvm::toString(groups.takeError());
      expectPartition(*groups, n, centres, 16);
      for (const auto &group : *groups)
        for (int64_t item : group)
          EXPECT_EQ(item % centres, group.front() % centres) << "round " << round;
    }
  }
}

TEST(Clustering, KeepsToTheSizeOfGroups) {
  std::mt19937 random(kSeed + 3);
  for (int round = 0; round < 50; ++round) {
    int64_t n = 12, most = round % 3 + 2, count = (n + most - 1) / most + round % 2;
    Eigen::MatrixXd points = Eigen::MatrixXd::NullaryExpr(
        n, 3, [&] { return std::normal_distribution<double>()(random); });
    Eigen::MatrixXd similarity = nearness(points);
    std::vector<int64_t> all = upTo(n), first(all.begin(), all.begin() + count),
                         others(all.begin() + count, all.end());
    auto means = kMeans(points, all, count, most, round);
    ASSERT_TRUE(bool(means));
    expectPartition(*means, n, count, most);
    auto joined = joinCentres(similarity, first, others, most);
    ASSERT_TRUE(bool(joined));
    expectPartition(*joined, n, count, most);
    auto filled = fillCentres(similarity, first, others, most);
    ASSERT_TRUE(bool(filled));
    expectPartition(*filled, n, count, most);
    EXPECT_EQ(int64_t(filled->front().size()), most) << "the first centre is filled first";
  }
}

TEST(Clustering, SaysWhenNotAllFit) {
  Eigen::MatrixXd similarity = Eigen::MatrixXd::Identity(6, 6);
  std::vector<int64_t> all = upTo(6);
  llvm::Expected<Groups> found[] = {kMeans(similarity, all, 2, 2, 0),
                                    linkAverage(similarity, all, 2, 2),
                                    joinCentres(similarity, {0, 1}, {2, 3, 4, 5}, 2),
                                    fillCentres(similarity, {0, 1}, {2, 3, 4, 5}, 2)};
  for (auto &groups : found) {
    ASSERT_FALSE(bool(groups));
    EXPECT_EQ(llvm::toString(groups.takeError()),
              "6 experts do not fit into 2 groups of at most 2; raise max-group or keep more");
  }
}

TEST(Clustering, IsTheSameForOneSeed) {
  std::mt19937 random(kSeed + 4);
  Eigen::MatrixXd points = Eigen::MatrixXd::NullaryExpr(
      30, 2, [&] { return std::normal_distribution<double>()(random); });
  auto a = kMeans(points, upTo(30), 7, 16, 5), b = kMeans(points, upTo(30), 7, 16, 5);
  ASSERT_TRUE(bool(a) && bool(b));
  EXPECT_EQ(*a, *b);
}

} // namespace
