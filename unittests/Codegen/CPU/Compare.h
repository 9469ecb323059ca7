// Comparison with tolerances and a printed seed.
#pragma once
#include "harness/Harness.h"
#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>
#include <sstream>

/// The seed is MOEC_TEST_SEED or new for each run, and is in every failure's output.
inline std::mt19937 seeded() {
  const char *given = std::getenv("MOEC_TEST_SEED");
  unsigned seed = given ? unsigned(std::strtoul(given, nullptr, 10)) : std::random_device()();
  std::cout << "MOEC_TEST_SEED=" << seed << "\n";
  return std::mt19937(seed);
}

/// |got - expected| <= tolerance * (1 + |expected|); NaN and infinities must be equal.
template <typename... Note>
void expectClose(const std::vector<float> &got, const std::vector<float> &expected,
                 float tolerance, const Note &...note) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    float e = expected[i], g = got[i];
    bool same = std::isnan(e)   ? std::isnan(g)
                : std::isinf(e) ? g == e
                                : std::abs(g - e) <= tolerance * (1 + std::abs(e));
    if (same)
      continue;
    std::ostringstream text;
    (text << ... << note);
    FAIL() << text.str() << ": element " << i << " is " << g << ", not " << e;
  }
}
