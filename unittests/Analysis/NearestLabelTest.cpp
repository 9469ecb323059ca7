// Which label data is like, by hand.
#include "moec/Analysis/NearestLabel.h"
#include "RandomProfile.h"

#include "gtest/gtest.h"

using namespace moec;

namespace {

namespace stat = moec::stat; // not the one of POSIX

// Two layers of two experts, with the counts of each label in turn.
Profile profileOf(std::vector<std::string> labels, std::vector<double> first,
                  std::vector<double> second) {
  Profile profile = plainProfile(labels, 2, 2, 1, 0);
  set(profile.layers[0], stat::count, first);
  set(profile.layers[1], stat::count, second);
  return profile;
}

TEST(NearestLabel, IsByTheSharesOfAllLayers) {
  Profile patterns = profileOf({"a", "b", "empty"}, {9, 1, 10, 30, 0, 0}, {5, 5, 40, 0, 0, 0});
  Profile query = profileOf({"prompt"}, {1, 3}, {2, 2});
  auto found = nearestLabels(patterns, query);
  ASSERT_TRUE(bool(found)) << llvm::toString(found.takeError());
  ASSERT_EQ(found->size(), 2u); // nothing is known of "empty"
  EXPECT_EQ(found->front().label, "b");
  EXPECT_NEAR(found->front().distance, (0 + 0.5) / 2, 1e-12);
  EXPECT_NEAR(found->back().distance, (0.65 + 0) / 2, 1e-12);
}

TEST(NearestLabel, AllLabelsOfTheQueryAreOne) {
  Profile patterns = profileOf({"a", "b"}, {1, 0, 0, 1}, {1, 0, 0, 1});
  Profile query = profileOf({"x", "y"}, {3, 0, 0, 1}, {3, 0, 0, 1});
  auto found = nearestLabels(patterns, query);
  ASSERT_TRUE(bool(found));
  EXPECT_EQ(found->front().label, "a"); // three quarters of its tokens
  EXPECT_NEAR(found->front().distance, 0.25, 1e-12);
}

TEST(NearestLabel, RefusesWhatCannotBeCompared) {
  Profile patterns = profileOf({"a"}, {1, 0}, {1, 0});
  Profile none = profileOf({"x"}, {0, 0}, {0, 0}), bare = plainProfile({"x"}, 2, 2, 1, 0);
  for (const Profile *query : {&none, &bare})
    EXPECT_NE(llvm::toString(nearestLabels(patterns, *query).takeError()).find("no choices"),
              std::string::npos);
  Profile other = patterns;
  other.layers[1].weightHash = "other";
  std::string text = llvm::toString(nearestLabels(patterns, other).takeError());
  EXPECT_NE(text.find("another model"), std::string::npos) << text;
}

} // namespace
