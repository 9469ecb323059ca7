// Profiles as text, JSON and page.
#include "RandomProfile.h"

#include "moec/Analysis/ProfilePage.h"
#include "moec/Analysis/Statistics.h"

#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include <limits>

using namespace moec;
using nlohmann::json;

namespace {

namespace stat = moec::stat; // not the one of POSIX

/// What the page's script reads.
json dataOf(const std::string &page) {
  const std::string start = "id=\"data\">";
  size_t from = page.find(start) + start.size(), to = page.find("</script>", from);
  return json::parse(page.substr(from, to - from), nullptr, false);
}

Profile smallProfile() {
  Profile profile = plainProfile({"code", "web"}, 2, 4, 2, 3);
  profile.model = "small.onnx";
  for (LayerProfile &layer : profile.layers) {
    set(layer, stat::tokens, {1000, 500});
    set(layer, stat::count, {1000, 1000, 0, 0, 500, 250, 250, 0});
  }
  set(profile.layers[0], stat::outputMax, {1, 2, 3, 4, 1, 2, 3, 900});
  set(profile.layers[1], stat::outputMax, std::vector<double>(8, 1));
  return profile;
}

TEST(ProfileText, Tells) {
  std::string text = profileText(smallProfile());
  EXPECT_EQ(text, R"(small.onnx: 2 layers, 2 labels, 1,500 tokens

label          tokens   sequences  furthest label
code            1,000           -  web (0.250)
web               500           -  code (0.250)

layer   experts   k  entropy   Gini  max/mean  never  busiest         load
layer0        4   2    0.663  0.458      2.00      1  0 (50.0 %)      ▆▆▂·
layer1        4   2    0.663  0.458      2.00      1  0 (50.0 %)      ▆▆▂·
load: · never chosen, ▁ a quarter of an even load or less, ▅ even, █ four times or more

super experts (do not remove them):
  layer0, expert 3: largest output 900.00

warnings:
  layer0: 1 of 4 experts were never chosen: 3
  layer1: 1 of 4 experts were never chosen: 3
)");
}

TEST(ProfileJson, HasTheNumbers) {
  json out = json::parse(profileJson(smallProfile()), nullptr, false);
  ASSERT_TRUE(out.is_object());
  EXPECT_EQ(out["model"], "small.onnx");
  EXPECT_EQ(out["labels"][1]["name"], "web");
  EXPECT_EQ(out["labels"][1]["tokens"], 500);
  EXPECT_EQ(out["labels"][1]["sequences"], nullptr);
  EXPECT_EQ(out["label_distances"], json({{0, 0.25}, {0.25, 0}}));
  EXPECT_EQ(out["layers"][0]["name"], "layer0");
  EXPECT_EQ(out["layers"][0]["load"]["shares"][0], 0.5);
  EXPECT_EQ(out["layers"][0]["load"]["never_chosen"], json({3}));
  EXPECT_EQ(out["layers"][1]["labels"]["code"]["entropy"], 0.5);
  EXPECT_EQ(out["super_experts"][0]["expert"], 3);
  EXPECT_EQ(out["warnings"][0]["kind"], "never-chosen");
}

TEST(ProfilePage, NeedsNothingElse) {
  std::string page = profilePage(smallProfile());
  for (const char *reference : {"src=", "href=", "@import", "url(", "fetch(", "https:"})
    EXPECT_EQ(page.find(reference), std::string::npos) << reference;
  for (size_t at = page.find("http:"); at != std::string::npos; at = page.find("http:", at + 1))
    EXPECT_EQ(page.substr(at, 26), "http://www.w3.org/2000/svg"); // a name, not an address
  json data = dataOf(page);
  ASSERT_TRUE(data.is_object());
  EXPECT_EQ(data["load"]["maps"].size(), 3u);
  EXPECT_EQ(data["layers"].size(), 2u);
  EXPECT_EQ(data["super"], json({{0, 3}}));
}

TEST(ProfilePage, KeepsNamesFromBeingMarkup) {
  Profile profile = smallProfile();
  const std::string evil = "</script><script>evil()</script>";
  profile.model = profile.labels[1] = profile.layers[0].name = profile.layers[0].router = evil;
  profile.labels[0] = "\"<!--";
  std::string page = profilePage(profile);
  EXPECT_EQ(page.find("<script>evil"), std::string::npos);
  EXPECT_EQ(page.find("<!--"), std::string::npos);
  json data = dataOf(page);
  ASSERT_TRUE(data.is_object());
  EXPECT_EQ(data["layers"][0]["name"], evil);
  EXPECT_EQ(data["labels"][1], evil);
  profile.model = profile.layers[0].name = "a\nb\x1b[2J\xff";
  EXPECT_EQ(profileText(profile).find('\x1b'), std::string::npos);
  EXPECT_TRUE(dataOf(profilePage(profile)).is_object());
  EXPECT_TRUE(json::parse(profileJson(profile), nullptr, false).is_object());
}

TEST(ProfilePage, TakesWhatThereIs) {
  std::mt19937 random(1);
  Profile everything = randomProfile(5, random), nothing, bare = plainProfile({"a"}, 3, 8, 0, 0);
  Profile infinite = smallProfile();
  infinite.layers[0].statistics["output_max"].values[2] = std::numeric_limits<double>::infinity();
  for (const Profile &profile : {everything, nothing, bare, infinite}) {
    EXPECT_TRUE(dataOf(profilePage(profile)).is_object());
    EXPECT_TRUE(json::parse(profileJson(profile), nullptr, false).is_object());
    EXPECT_FALSE(profileText(profile).empty());
  }
}

TEST(ProfilePage, OfALargeModelStaysSmall) {
  std::vector<std::string> labels;
  for (int l = 0; l < 40; ++l)
    labels.push_back("label" + std::to_string(100 + l));
  constexpr size_t experts = 256;
  Profile profile = plainProfile(std::move(labels), 61, experts, 8, 2);
  std::mt19937 random(1);
  for (LayerProfile &layer : profile.layers) {
    auto fill = [&](llvm::StringRef name, double scale) {
      const StatisticInfo &info = *statisticInfo(name);
      Statistic &statistic = layer.statistics[name.str()] =
          emptyStatistic(info, layer, int64_t(profile.labels.size()));
      for (int64_t i = 0; i < statistic.count(); ++i) // of the first label
        statistic.values[size_t(i)] = std::floor(scale * double(random() % 1000));
    };
    fill(stat::count, 1);
    layer.statistics["tokens"] = {MergeRule::sum, {}, std::vector<double>(40, 1e6)};
  }
  for (size_t l = 0; l < 4; ++l) // matrices are as large whatever they hold
    for (auto name : {stat::coactivation, stat::logitGram, stat::logitSum, stat::scoreGram})
      profile.layers[l].statistics[name.str()] =
          emptyStatistic(*statisticInfo(name), profile.layers[l], 40);
  size_t few = profilePage(profile).size();
  EXPECT_LT(few, size_t(4) << 20);
  profile.labels.resize(1);
  for (LayerProfile &layer : profile.layers) {
    for (auto &[name, statistic] : layer.statistics)
      statistic.values.resize(size_t(statistic.count()));
    for (auto name : {stat::coactivation, stat::logitGram, stat::logitSum, stat::scoreGram})
      layer.statistics[name.str()] = emptyStatistic(*statisticInfo(name), layer, 1);
  }
  std::string page = profilePage(profile);
  EXPECT_LT(page.size(), size_t(10) << 20);
  EXPECT_EQ(dataOf(page)["layers"][60]["matrices"]["score"]["block"], 2);
}

} // namespace
