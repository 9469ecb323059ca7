// Profiles as files: exact round trips, and files that lie.
#include "Damage.h"
#include "Folder.h"
#include "RandomProfile.h"

#include "moec/Analysis/Statistics.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>

using namespace moec;
using nlohmann::json;

namespace {

namespace stat = moec::stat; // not the one of POSIX

struct ProfileFile : testing::Test {
  Folder folder;
  std::string path = folder.file("model.profile");

  /// The file of `profile` without any check: what writeProfile would refuse.
  void writeText(const json &header, const std::string &data) {
    std::string text = header.dump();
    uint64_t size = text.size();
    std::string content(reinterpret_cast<const char *>(&size), 8);
    folder.write("model.profile", content + text + data);
  }
  json header() const {
    std::string content = folder.read("model.profile");
    uint64_t size = 0;
    std::memcpy(&size, content.data(), 8);
    return json::parse(content.substr(8, size));
  }
  std::string data() const {
    std::string content = folder.read("model.profile");
    uint64_t size = 0;
    std::memcpy(&size, content.data(), 8);
    return content.substr(8 + size);
  }
};

Profile smallProfile() {
  Profile profile = plainProfile({"code", "web"}, 1, 3, 2, 4);
  set(profile.layers[0], stat::tokens, {10, 20});
  set(profile.layers[0], stat::count, {10, 5, 5, 10, 20, 10});
  return profile;
}

TEST_F(ProfileFile, RoundTripsExactly) {
  uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 50; ++round) {
    Profile profile = randomProfile(uint32_t(random()), random);
    ASSERT_EQ(llvm::toString(writeProfile(profile, path)), "");
    auto read = readProfile(path);
    ASSERT_TRUE(!!read) << llvm::toString(read.takeError());
    expectSame(*read, profile);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path), {}), 1);
}

TEST_F(ProfileFile, IsASafetensorsFile) {
  ASSERT_EQ(llvm::toString(writeProfile(smallProfile(), path)), "");
  EXPECT_EQ(header()["__metadata__"]["format"], "moec-profile");
  EXPECT_EQ(header()["__metadata__"]["version"], "1");
  EXPECT_EQ(header()["layer0/count"]["dtype"], "F64");
  EXPECT_EQ(header()["layer0/count"]["shape"], json({2, 3}));
  EXPECT_EQ(header()["layer0/count"]["data_offsets"], json({0, 48}));
  EXPECT_EQ(data().size(), 64u);
}

TEST_F(ProfileFile, RefusesValues) {
  auto refused = [&](auto change, const std::string &why) {
    Profile profile = smallProfile();
    change(profile.layers[0]);
    std::string error = llvm::toString(writeProfile(profile, path));
    EXPECT_NE(error.find(why), std::string::npos) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    EXPECT_FALSE(std::filesystem::exists(path));
  };
  auto counts = [](double value) {
    return [value](LayerProfile &layer) { layer.statistics["count"].values[4] = value; };
  };
  std::string where = R"(model.profile: cannot write: layer "layer0": statistic "count" )";
  refused(counts(NAN), where + R"(of label "web" holds NaN)");
  refused(counts(-1), where + R"(of label "web" is negative)");
  refused(counts(1.5), where + R"(of label "web" is no whole number)");
  refused(counts(21), where + R"(of label "web" counts more than the label's tokens)");
  refused(counts(INFINITY), where + R"(of label "web" holds an infinite sum)");
  refused([](LayerProfile &layer) { layer.statistics["count"].values.pop_back(); },
          where + "has 5 values");
  refused(
      [](LayerProfile &layer) {
        layer.statistics["count"].shape = {1, 3};
      },
      where + "does not have the shape [E] of 3 experts");
  refused([](LayerProfile &layer) { layer.statistics["count"].rule = MergeRule::max; },
          where + "has the wrong merging rule");
  refused([](LayerProfile &layer) { layer.statistics["a/b"] = layer.statistics["count"]; },
          R"(statistic "a/b" has a name)");
  refused(
      [](LayerProfile &layer) {
        set(layer, stat::normSum, {1, 2, 3, 4, 5, -6});
      },
      R"(statistic "norm_sum" of label "web" is negative)");
  refused([](LayerProfile &layer) { layer.k = 4; }, "chooses 4 of 3 experts");
  refused([](LayerProfile &layer) { layer.experts = 0; }, "has 0 experts");
}

TEST_F(ProfileFile, RefusesLabelsAndReservoirs) {
  auto refused = [&](auto change, const std::string &why) {
    Profile profile = smallProfile();
    Reservoir &kept = profile.layers[0].reservoir;
    kept = {2, {3, 4, 1}, {0, 0, 1}, std::vector<float>(12), std::vector<float>(9), {}, {}, {}};
    kept.ids.resize(6);
    kept.weights.resize(6);
    kept.y.resize(12);
    EXPECT_EQ(llvm::toString(checkProfile(profile)), "");
    change(profile);
    std::string error = llvm::toString(checkProfile(profile));
    EXPECT_NE(error.find(why), std::string::npos) << error;
  };
  auto kept = [](Profile &profile) -> Reservoir & { return profile.layers[0].reservoir; };
  refused([&](Profile &p) { p.labels = {"web", "code"}; }, "not sorted");
  refused([&](Profile &p) { p.labels = {"web", "web"}; }, "not unique");
  refused([&](Profile &p) { p.labels = {"", "web"}; }, "empty");
  refused([&](Profile &p) { p.layers.push_back(p.layers[0]); }, "is there twice");
  refused([&](Profile &p) { kept(p).capacity = 1; }, "than its capacity, 1");
  refused([&](Profile &p) { kept(p).key[1] = 3; }, "order of its keys");
  refused([&](Profile &p) { kept(p).label = {1, 0, 0}; }, "order of the labels");
  refused([&](Profile &p) { kept(p).label[2] = 2; }, "label that the profile does not have");
  refused([&](Profile &p) { kept(p).ids[0] = 3; }, "names an expert");
  refused([&](Profile &p) { kept(p).ids[0] = -2; }, "names an expert");
  refused([&](Profile &p) { kept(p).y[5] = NAN; }, "holds NaN");
  refused([&](Profile &p) { kept(p).y.pop_back(); }, "shapes of 3 tokens");
}

TEST_F(ProfileFile, RefusesFiles) {
  expectRefused(readProfile(folder.file("none")), "none: cannot be read: ");
  expectRefused(readProfile(folder.path.string()), "no regular file");
  expectRefused(readProfile(folder.write("short", "1234567")), "shorter than 8 bytes");
  expectRefused(readProfile(folder.write("text", "once upon a time")), "no safetensors file");
  expectRefused(readProfile(folder.write("list", std::string("\2\0\0\0\0\0\0\0[]", 10))),
                "no JSON object");
  auto error = writeProfile(smallProfile(), folder.file("no/such/folder"));
  EXPECT_NE(llvm::toString(std::move(error)).find("cannot write"), std::string::npos);
}

TEST_F(ProfileFile, RefusesHeaders) {
  ASSERT_EQ(llvm::toString(writeProfile(smallProfile(), path)), "");
  const json good = header();
  const std::string bytes = data();
  auto refused = [&](auto change, const std::string &why) {
    json changed = good;
    json head = json::parse(good["__metadata__"]["profile"].get<std::string>());
    change(changed, head);
    if (changed["__metadata__"].contains("profile"))
      changed["__metadata__"]["profile"] = head.dump();
    writeText(changed, bytes);
    expectRefused(readProfile(path), "model.profile: " + why);
  };
  refused([](json &h, json &) { h["__metadata__"]["format"] = "pt"; }, "is no profile");
  refused([](json &h, json &) { h["__metadata__"].erase("version"); }, "its metadata has no");
  refused([](json &h, json &) { h["__metadata__"]["version"] = "2"; }, "unsupported version 2");
  refused([](json &h, json &) { h["__metadata__"]["version"] = 1; }, "metadata \"version\" is no");
  refused([](json &h, json &) { h["__metadata__"].erase("profile"); }, "its metadata \"profile\"");
  refused([](json &, json &p) { p.erase("labels"); }, "its metadata \"profile\" needs");
  refused([](json &, json &p) { p["labels"] = {1, 2}; }, "a label is no text");
  refused([](json &, json &p) { p["labels"].push_back("z"); }, "layer \"layer0\": statistic");
  refused([](json &, json &p) { p["layers"][0]["experts"] = -3; }, "layer 0 needs");
  refused([](json &, json &p) { p["layers"][0]["experts"] = 1e300; }, "layer 0 needs");
  refused([](json &, json &p) { p["layers"].push_back(p["layers"][0]); },
          "tensor \"layer0/count\" belongs to two layers");
  refused([](json &, json &p) { p["layers"][0]["statistics"]["count"] = "mean"; },
          "layer \"layer0");
  refused([](json &, json &p) { p["layers"][0]["statistics"]["x"] = "sum"; }, "has no tensor");
  refused([](json &, json &p) { p["layers"][0]["statistics"].erase("count"); },
          "has tensors that belong to none");
  refused([](json &, json &p) { p["layers"][0]["reservoir"] = 5; }, "has no tensor");
  refused([](json &h, json &) { h["layer0/count"]["dtype"] = "F32"; },
          "tensor \"layer0/count\": its shape needs 24 bytes, the file has 48");
  refused([](json &h, json &) { h["layer0/count"]["dtype"] = "I64"; },
          "tensor \"layer0/count\" is of type \"I64\", not F64");
  refused([](json &h, json &) { h["layer0/count"]["dtype"] = "F4\n"; },
          "tensor \"layer0/count\": ");
  refused(
      [](json &h, json &) {
        h["layer0/count"]["data_offsets"] = {48, 96};
      },
      "tensor \"layer0/count\": its bytes lie outside");
  refused(
      [](json &h, json &) {
        h["layer0/tokens"]["data_offsets"] = {40, 56};
      },
      "tensor \"layer0/tokens\" overlaps another");
  refused([](json &h, json &) { h.erase("layer0/count"); },
          "tensor \"layer0/tokens\" leaves a gap");
  refused([](json &h, json &) { h.erase("layer0/tokens"); }, "has 16 bytes that belong to no");
  refused(
      [](json &h, json &) {
        h["layer0/count"]["shape"] = {1ull << 62, 8};
      },
      "tensor \"layer0/count\": its shape is too large");
  refused(
      [](json &h, json &) {
        h["layer0/count"]["shape"] = {-2, -3};
      },
      "tensor \"layer0/count\"");
}

TEST_F(ProfileFile, SurvivesDamage) {
  uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  int refused = 0;
  for (int round = 0; round < 1000; ++round) {
    if (round % 100 == 0)
      ASSERT_EQ(llvm::toString(writeProfile(randomProfile(uint32_t(random()), random), path)), "");
    folder.write("damaged", damage(folder.read("model.profile"), random));
    auto read = readProfile(folder.file("damaged"));
    if (read) { // what is read is sound, whatever it says
      EXPECT_EQ(llvm::toString(checkProfile(*read)), "");
      continue;
    }
    ++refused;
    std::string error = llvm::toString(read.takeError());
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    EXPECT_EQ(error.find(folder.file("damaged") + ": "), 0u) << error;
  }
  EXPECT_GT(refused, 300);
}

} // namespace
