// Numbers on how near predictions stay to the original's.
#include "../../lib/Driver/Measure.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace moec;

namespace {

using Row = std::vector<float>;

Row randomRow(std::mt19937 &random, size_t n) {
  std::normal_distribution<float> normal(0, 3);
  Row row(n);
  for (float &v : row)
    v = normal(random);
  return row;
}

Row prepared(const Measure &measure, Row row) {
  EXPECT_TRUE(measure.prepare(row));
  return row;
}

double valueOf(const Loss &sums, llvm::StringRef key) {
  for (const Agreement &agreement : predictionAgreements(sums, /*kl=*/true))
    if (agreement.key == key)
      return agreement.value;
  return -1;
}

TEST(Agreement, IsWhatTheFormulasSay) {
  std::mt19937 random(20261126);
  const Measure &measure = *findMeasure("kl");
  Loss sums;
  double kl = 0, overlap = 0, same = 0;
  for (int i = 0; i < 50; ++i) {
    Row a = randomRow(random, 40), b = a;
    for (float &v : b)
      v += std::normal_distribution<float>(0, 1)(random);
    measure.compare(sums, b, prepared(measure, a));
    double sumA = 0, sumB = 0;
    for (size_t v = 0; v < a.size(); ++v)
      sumA += std::exp(double(a[v])), sumB += std::exp(double(b[v]));
    for (size_t v = 0; v < a.size(); ++v) {
      double p = std::exp(double(a[v])) / sumA, q = std::exp(double(b[v])) / sumB;
      kl += p * std::log(p / q);
      overlap += std::min(p, q);
    }
    same += std::max_element(a.begin(), a.end()) - a.begin() ==
            std::max_element(b.begin(), b.end()) - b.begin();
  }
  EXPECT_NEAR(valueOf(sums, "kl"), kl / 50, 1e-5);
  EXPECT_NEAR(valueOf(sums, "overlap"), overlap / 50, 1e-5);
  EXPECT_DOUBLE_EQ(valueOf(sums, "top1"), same / 50);
  EXPECT_GT(same, 0);
  EXPECT_LT(same, 50);
}

// Also where entries are so near to each other that they become one as logarithms of probabilities.
TEST(Agreement, OfTheOriginalIsComplete) {
  std::mt19937 random(1);
  const Measure &measure = *findMeasure("perplexity");
  Loss sums;
  for (int i = 0; i < 20; ++i) {
    Row row = randomRow(random, 1000);
    row[i] = 20;
    row[900 - i] = std::nextafter(20.0f, 21.0f);
    measure.compare(sums, row, prepared(measure, row));
  }
  EXPECT_NEAR(valueOf(sums, "kl"), 0, 1e-6);
  EXPECT_NEAR(valueOf(sums, "overlap"), 1, 1e-6);
  EXPECT_EQ(valueOf(sums, "top1"), 1);
}

TEST(Agreement, NumbersThatAreNotFinite) {
  const Measure &measure = *findMeasure("kl");
  Row original = prepared(measure, {1, 2, 3});
  Loss sums;
  measure.compare(sums, {1, NAN, 3}, original);
  EXPECT_EQ(valueOf(sums, "kl"), INFINITY);
  EXPECT_EQ(valueOf(sums, "overlap"), 0);
  EXPECT_EQ(valueOf(sums, "top1"), 0);
  EXPECT_TRUE(std::isnan(valueOf(Loss(), "overlap"))) << "nothing was compared";
}

TEST(Agreement, MeansAreOfWhatIsKnown) {
  auto run = [](double value) { return std::vector<Agreement>{{"a", "b", value}}; };
  EXPECT_EQ(meanAgreements({run(1), run(NAN), run(3)})[0].value, 2);
  EXPECT_TRUE(std::isnan(meanAgreements({run(NAN)})[0].value));
  EXPECT_TRUE(meanAgreements({}).empty());
  EXPECT_EQ(layerAgreement({0.5, NAN, 1}).value, 0.75);
  EXPECT_TRUE(std::isnan(layerAgreement({}).value));
}

} // namespace
