// One list of statistics, in three places: Profile.h, the table of knownStatistics,
// docs/profile.md.
#include "moec/Analysis/Statistics.h"

#include "gtest/gtest.h"

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

using namespace moec;

namespace {

std::string fileOf(const std::string &name) {
  std::ostringstream content;
  content << std::ifstream(std::string(MOEC_SOURCE_DIR) + "/" + name).rdbuf();
  return content.str();
}

TEST(Statistics, AreThoseOfTheHeader) {
  std::string header = fileOf("include/moec/Analysis/Profile.h");
  std::regex name("constexpr Name \\w+ = \"(\\w+)\";");
  std::vector<std::string> declared, known;
  for (std::sregex_iterator it(header.begin(), header.end(), name), end; it != end; ++it)
    declared.push_back((*it)[1]);
  for (const StatisticInfo &info : knownStatistics())
    known.push_back(info.name.str());
  EXPECT_EQ(declared, known);
}

TEST(Statistics, AreThoseOfThePage) {
  std::string table = "| name | tier | shape | merged by | meaning |\n|---|---|---|---|---|\n";
  for (const StatisticInfo &info : knownStatistics()) {
    std::string shape, meaning;
    for (char c : info.shape.str())
      shape += c == ',' ? std::string(", ") : std::string(1, c);
    for (char c : info.meaning.str())
      meaning += c == '|' ? std::string("\\|") : std::string(1, c);
    table += "| `" + info.name.str() + "` | " + std::to_string(info.tier) + " | [" + shape +
             "] | " + (info.rule == MergeRule::max ? "maximum" : "sum") + " | " + meaning + " |\n";
  }
  EXPECT_NE(fileOf("docs/profile.md").find("\n" + table + "\n"), std::string::npos)
      << "docs/profile.md should hold this table:\n"
      << table;
}

TEST(Statistics, HaveShapes) {
  LayerProfile layer;
  layer.experts = 8;
  layer.k = 2;
  layer.hidden = 16;
  auto shape = [&](llvm::StringRef name) { return shapeOf(*statisticInfo(name), layer); };
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shape("tokens"), Shape());
  EXPECT_EQ(shape("rank_count"), (Shape{8, 2}));
  EXPECT_EQ(shape("ratio_bins"), (Shape{2, 32}));
  EXPECT_EQ(shape("output_max_channel"), (Shape{8, 16}));
  EXPECT_EQ(statisticInfo("Count"), nullptr);
  Statistic largest = emptyStatistic(*statisticInfo("output_max"), layer, 3);
  EXPECT_EQ(largest.values.size(), 24u);
  EXPECT_EQ(largest.values[0], -std::numeric_limits<double>::infinity());
  layer.k = layer.hidden = 0;
  EXPECT_EQ(shape("rank_count"), std::nullopt);
  EXPECT_EQ(shape("coactivation"), (Shape{8, 8}));
}

} // namespace
