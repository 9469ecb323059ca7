// Routing counts of other tools: excerpts whose numbers are known, and files that lie.
#include "Damage.h"
#include "Folder.h"
#include "RandomProfile.h"

#include "moec/Analysis/Derived.h"
#include "moec/Analysis/RoutingCounts.h"

#include <cmath>
#include <cstdlib>
#include <iostream>

using namespace moec;

namespace {

namespace stat = moec::stat; // not the one of POSIX
using Values = std::vector<double>;

std::string excerpt(const std::string &name) {
  return std::string(MOEC_SOURCE_DIR) + "/unittests/Analysis/data/" + name;
}

Profile read(const std::string &path) {
  auto profile = readRoutingCounts(path);
  if (profile)
    return std::move(*profile);
  ADD_FAILURE() << llvm::toString(profile.takeError());
  return {};
}

Values values(const Profile &profile, size_t layer, llvm::StringRef name) {
  const Statistic *statistic =
      layer < profile.layers.size() ? profile.layers[layer].find(name) : nullptr;
  return statistic ? statistic->values : Values();
}

std::vector<std::string> layerNames(const Profile &profile) {
  std::vector<std::string> names;
  for (const LayerProfile &layer : profile.layers)
    names.push_back(layer.name);
  return names;
}

TEST(RoutingCounts, ReadsCountsOfAFile) {
  Profile profile = read(excerpt("mixtral/c4.json"));
  EXPECT_EQ(profile.model, "mixtral");
  EXPECT_EQ(profile.labels, (std::vector<std::string>{"c4"}));
  EXPECT_EQ(layerNames(profile), (std::vector<std::string>{"first", "middle", "last"}));
  EXPECT_EQ(values(profile, 0, stat::count),
            (Values{56947, 49733, 50426, 49453, 52127, 57956, 42632, 58518}));
  EXPECT_EQ(values(profile, 0, stat::tokens), (Values{208896}));
  ASSERT_EQ(profile.layers.size(), 3u);
  EXPECT_EQ(profile.layers[0].k, 2);
  EXPECT_EQ(profile.layers[0].hidden, 0);
  EXPECT_EQ(profile.layers[0].statistics.size(), 2u);
  EXPECT_EQ(layerNames(read(excerpt("olmoe"))), (std::vector<std::string>{"layer0", "layer7"}));
}

TEST(RoutingCounts, ReadsLabelsOfAFolder) {
  Profile profile = read(excerpt("mixtral"));
  EXPECT_EQ(profile.labels, (std::vector<std::string>{"c4", "github"}));
  EXPECT_EQ(values(profile, 2, stat::tokens), (Values{208896, 208896}));
  Values distances = labelDistances(profile);
  ASSERT_EQ(distances.size(), 4u);
  EXPECT_GT(distances[1], 0.01);
  EXPECT_LT(distances[1], 0.5);
}

TEST(RoutingCounts, LeavesOutDenseLayersAndUnknownTokens) {
  Profile profile = read(excerpt("counts"));
  EXPECT_EQ(profile.model, "counts");
  EXPECT_EQ(profile.labels, (std::vector<std::string>{"long", "short"}));
  EXPECT_EQ(layerNames(profile), (std::vector<std::string>{"layer1", "layer2"}));
  EXPECT_EQ(values(profile, 0, stat::count), (Values{50, 1, 20, 9, 5, 0, 2, 1}));
  EXPECT_TRUE(values(profile, 0, stat::tokens).empty());
  EXPECT_EQ(profile.layers[0].k, 0);
}

TEST(RoutingCounts, ReadsTokensOfLayers) {
  Profile profile = read(excerpt("tokens"));
  EXPECT_EQ(profile.labels, (std::vector<std::string>{"tokens"}));
  EXPECT_EQ(layerNames(profile), (std::vector<std::string>{"layer3", "layer11"}));
  // Tokens (0 1) (1 2) of a sequence, (2 -) (0 1) (3 0) of another.
  EXPECT_EQ(values(profile, 0, stat::tokens), (Values{5}));
  EXPECT_EQ(values(profile, 0, stat::sequences), (Values{2}));
  EXPECT_EQ(values(profile, 0, stat::count), (Values{3, 3, 2, 1}));
  EXPECT_EQ(values(profile, 0, stat::rankCount), (Values{2, 1, 1, 2, 1, 1, 1, 0}));
  EXPECT_EQ(values(profile, 0, stat::coactivation),
            (Values{3, 2, 0, 1, 2, 3, 1, 0, 0, 1, 2, 0, 1, 0, 0, 1}));
  EXPECT_EQ(values(profile, 0, stat::gateSum), (Values{1.5, 1.5, 0.75, 0.5}));
  EXPECT_EQ(values(profile, 0, stat::gateSquares), (Values{0.75, 0.875, 0.3125, 0.25}));
  Values share = values(profile, 0, stat::sequenceShare);
  ASSERT_EQ(share.size(), 4u);
  EXPECT_DOUBLE_EQ(share[0], 1 / 4.0 + 2 / 6.0);
  EXPECT_DOUBLE_EQ(values(profile, 0, stat::sequenceShareSquares)[1], 1 / 4.0 + 1 / 36.0);
  EXPECT_EQ(read(excerpt("tokens/layer3.json")).labels, (std::vector<std::string>{"layer3"}));
}

TEST(RoutingCounts, ReadsListedPairs) {
  Profile profile = read(excerpt("coactivation/qwen3-30b-a3b.json"));
  EXPECT_EQ(layerNames(profile), (std::vector<std::string>{"layer4", "layer5"}));
  EXPECT_EQ(values(profile, 1, stat::tokens), (Values{75773}));
  EXPECT_TRUE(values(profile, 1, stat::coactivation).empty());
  Values both = values(profile, 1, stat::coactivationListed);
  ASSERT_EQ(both.size(), 128u * 128u);
  EXPECT_EQ(both[22 * 128 + 82], 18387);
  EXPECT_EQ(both[82 * 128 + 22], 18387);
  Values lift = coactivationLift(profile.layers[1]);
  EXPECT_NEAR(lift[22 * 128 + 82], 1.83, 0.005); // as the tool says
  EXPECT_TRUE(std::isnan(lift[22 * 128 + 23]));
}

TEST(RoutingCounts, AreProfiles) {
  Folder folder;
  for (const char *name : {"mixtral", "olmoe", "counts", "tokens", "coactivation"}) {
    Profile profile = read(excerpt(name));
    ASSERT_EQ(llvm::toString(writeProfile(profile, folder.file(name))), "");
    expectSame(llvm::cantFail(readProfile(folder.file(name))), profile);
  }
}

TEST(RoutingCounts, RefusesFiles) {
  Folder folder;
  auto refused = [&](const std::string &text, const std::string &why) {
    expectRefused(readRoutingCounts(folder.write("x.json", text)), "x.json: " + why);
  };
  expectRefused(readRoutingCounts(folder.path.string()), "has no .json files");
  expectRefused(readRoutingCounts(folder.file("none")), "cannot be read");
  refused("{", "is no JSON object");
  refused("[1]", "is no JSON object");
  refused(R"({"a": 1})", "holds no routing counts");
  refused(R"({"layers": [{"a": 1}]})", "holds no routing counts");
  refused(R"({"logical_count": [1, 2]})", "\"logical_count\" is no table");
  refused(R"({"logical_count": [[1, 2], [1]]})", "\"logical_count\" of layer 1 is no list of 2");
  refused(R"({"logical_count": [[1, "2"]]})", "\"logical_count\" of layer 0 is no list");
  refused(R"({"logical_count": [[1, -2]]})", "layer \"layer0\": statistic \"count\"");
  refused(R"({"logical_count": [[1, 2.5]]})", "layer \"layer0\": statistic \"count\"");
  refused(R"({"logical_count": [[1, 1e99]]})", "layer \"layer0\": statistic \"count\"");
  refused(R"({"logical_count": [[1, 3]], "top_k": 2})", "layer \"layer0\": statistic \"count\"");
  refused(R"({"logical_count": [[1, 3]], "top_k": 3})", "\"top_k\" is no whole number from 1 to 2");
  refused(R"({"logical_count": [[1, 3]], "experts": 3})", "\"experts\" is no whole number");
  refused(R"({"logical_count": [[1, 3]], "layers": "a, b"})", "\"layers\" names 2 layers");
  refused(R"({"logical_count": [[1, 3], [2, 2]], "layers": [4, 4]})", "layer \"layer4\": is there");
  refused(R"({"logical_count": [[1, 3]], "layers": [{}]})", "layer \"\": its name is empty");
  refused(R"({"topk_ids": [[0, 1]]})", "\"experts\" is no whole number");
  refused(R"({"topk_ids": [], "experts": 4})", "\"topk_ids\" is no table");
  refused(R"({"topk_ids": [[0, 1], [0]], "experts": 4})", "\"topk_ids\" of token 1 is no list");
  refused(R"({"topk_ids": [[0, 4]], "experts": 4})", "\"topk_ids\" of token 0 has an id");
  refused(R"({"topk_ids": [[1, 1]], "experts": 4})", "\"topk_ids\" of token 0 has an id");
  refused(R"({"topk_ids": [[0, -2]], "experts": 4})", "\"topk_ids\" of token 0 has an id");
  refused(R"({"topk_ids": [[0, 0.5]], "experts": 4})", "\"topk_ids\" of token 0 has an id");
  refused(R"({"topk_ids": [[0]], "experts": 4, "topk_weights": [[1, 2]]})", "\"topk_weights\" of");
  refused(R"({"topk_ids": [[0]], "experts": 4, "topk_weights": 3})", "\"topk_weights\" does not");
  refused(R"({"topk_ids": [[0]], "experts": 4, "req_id": []})", "\"req_id\" does not have");
  refused(R"({"topk_ids": [[0]], "experts": 4, "req_id": [{}]})", "\"req_id\" of token 0");
  refused(R"({"layers": [{"heat": [1]}]})", "\"n_expert_per_layer\" is no whole number");
  std::string head = R"({"n_expert_per_layer": 2, "n_decode_tokens": 9, "layers": )";
  refused(head + R"([{"heat": [1, 2]}]})", "\"layer\" is no whole number");
  refused(head + R"([{"layer": 7, "heat": [1]}]})", "\"heat\" of layer7 is no list of 2");
  refused(head + R"([{"layer": 7, "heat": [1, 10]}]})", "layer \"layer7\": statistic \"count\"");
  refused(head + R"([{"layer": 7, "heat": [1, 2], "pairs": [[0, 2, 1]]}]})", "\"pairs\" of layer7");
  refused(head + R"([{"layer": 7, "heat": [1, 2], "pairs": {"a": 1}}]})", "\"pairs\" of layer7");
}

TEST(RoutingCounts, RefusesFoldersOfSeveralModels) {
  Folder folder;
  folder.write("a.json", R"({"logical_count": [[1, 3]], "model": "one"})");
  folder.write("b.json", R"({"logical_count": [[1, 3]], "model": "two"})");
  expectRefused(readRoutingCounts(folder.path.string()), "b.json: is of the model \"two\"");
  folder.write("b.json", R"({"logical_count": [[1, 3, 4]], "model": "one"})");
  expectRefused(readRoutingCounts(folder.path.string()),
                "b.json: profile of another model: layer \"layer0\": experts 2 and 3");
}

TEST(RoutingCounts, SurvivesDamage) {
  uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Folder folder;
  int refused = 0;
  for (const char *name : {"mixtral/c4.json", "tokens/layer3.json", "counts/short.json",
                           "coactivation/qwen3-30b-a3b.json"}) {
    std::ostringstream content;
    content << std::ifstream(excerpt(name)).rdbuf();
    for (int round = 0; round < 150; ++round) {
      std::string path = folder.write("damaged.json", damage(content.str(), random));
      auto profile = readRoutingCounts(path);
      if (profile) {
        EXPECT_EQ(llvm::toString(checkProfile(*profile)), "");
        continue;
      }
      ++refused;
      std::string error = llvm::toString(profile.takeError());
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
      EXPECT_EQ(error.find(path + ": "), 0u) << error;
    }
  }
  EXPECT_GT(refused, 100);
  expectRefused(readRoutingCounts(folder.write("deep.json", std::string(1 << 20, '['))),
                "is no JSON object");
  std::string deep =
      "{\"logical_count\": " + std::string(1 << 20, '[') + std::string(1 << 20, ']') + "}";
  expectRefused(readRoutingCounts(folder.write("deep.json", deep)), "is no list of 1 numbers");
}

// The whole files of several models, where a machine has them: MOEC_ROUTING_DATA or shared/.
TEST(RoutingCounts, ReadsWholeFiles) {
  const char *given = std::getenv("MOEC_ROUTING_DATA");
  std::string data = given ? given : std::string(MOEC_SOURCE_DIR) + "/../shared/data/routing";
  size_t present = 0, absent = 0;
  auto folder = [&](const std::string &name) -> std::optional<Profile> {
    bool there = std::filesystem::exists(data + "/" + name);
    ++(there ? present : absent);
    return there ? std::optional(read(data + "/" + name)) : std::nullopt;
  };
  if (auto profile = folder("deepseek")) {
    EXPECT_EQ(profile->labels.size(), 9u);
    ASSERT_EQ(profile->layers.size(), 58u);
    EXPECT_EQ(profile->layers[0].name, "layer3");
    EXPECT_EQ(profile->layers[0].experts, 256);
  }
  for (const char *name : {"mixtral", "olmoe"})
    if (auto profile = folder(name)) {
      EXPECT_EQ(profile->labels, (std::vector<std::string>{"arxiv", "book", "c4", "github"}));
      EXPECT_EQ(profile->layers.size(), 3u);
    }
  if (auto profile = folder("qwen1.5-moe-a2.7b")) {
    EXPECT_EQ(layerNames(*profile), (std::vector<std::string>{"layer0", "layer8", "layer12"}));
    EXPECT_EQ(values(*profile, 2, stat::tokens), (Values{4357}));
  }
  for (const char *name : {"qwen3-30b-a3b", "qwen3-next-80b-a3b"})
    if (auto profile = folder("coactivation/" + std::string(name) + ".json"))
      EXPECT_EQ(profile->layers.size(), 48u);
  if (absent)
    GTEST_SKIP() << absent << " of " << present + absent << " sets of routing counts are absent";
}

} // namespace
