// A profile of another model is refused by every pass that reads one.
#include "RepairLayer.h"

#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Compress/WeightHash.h"

#include "gtest/gtest.h"
#include <mutex>

using namespace moec;
using namespace moec::compress;
using namespace moec::test;

namespace {

// A profile of what the layer does, with enough statistics for all passes, and its weights' hash.
Profile measured(TestLayer &layer, unsigned seed) {
  std::mt19937 random(seed);
  Rows x = randomRows(random, 200, layer.options.hidden), logits = layer.logits(x);
  auto layers = moe::collectRoutedLayers(*layer.module);
  WeightEvaluator weights(*layer.module, layer.folder.path.string());
  auto picks = routeAgain(layers[0], logits, weights);
  EXPECT_TRUE(!!picks) << llvm::toString(picks.takeError());
  Profile profile = profileOf(x, logits, layer.run(x), *picks);
  LayerProfile &of = profile.layers[0];
  auto add = [&](llvm::StringRef name, MergeRule rule, std::vector<double> values) {
    Statistic &s = of.statistics[name.str()];
    s.rule = rule;
    if (values.size() > 2)
      s.shape = {of.experts};
    s.values = std::move(values);
  };
  size_t n = size_t(2 * of.experts);
  std::vector<double> rising(n);
  for (size_t i = 0; i < n; ++i)
    rising[i] = double(i % size_t(of.experts));
  add("tokens", MergeRule::sum, {100, 100});
  add("count", MergeRule::sum, rising);
  add("gate_sum", MergeRule::sum, rising);
  add("gated_norm_sum", MergeRule::sum, rising);
  add("output_max", MergeRule::max, rising);
  auto hash = weightHash(layers[0].bank, weights);
  EXPECT_TRUE(!!hash) << llvm::toString(hash.takeError());
  of.weightHash = *hash;
  return profile;
}

void save(const Profile &profile, const std::string &path) {
  ASSERT_EQ(llvm::toString(writeProfile(profile, path)), "");
}

// A layer and its profile; `other` is the profile of a model with the same shapes.
struct Case {
  TestLayer layer{7, options()};
  std::string profile = layer.folder.file("p.moep"), other = layer.folder.file("other.moep");

  static LayerOptions options() {
    static std::once_flag once;
    std::call_once(once, [] {
      registerProtectExperts();
      registerPruneExperts();
      registerSubsetExperts();
      registerKeepExperts();
      registerMergeExperts();
      registerRecombineNeurons();
      registerNarrowExperts();
    });
    return {};
  }
  Case() {
    Profile own = measured(layer, 1);
    save(own, profile);
    own.layers[0].weightHash = "0123456789abcdef";
    save(own, other);
  }
  bool pass(const std::string &name, const std::string &options, const std::string &from) {
    return layer.passes(name + "{profile=" + from + " folder=" + layer.folder.path.string() + " " +
                        options + "}");
  }
  std::string last() const { return layer.said.empty() ? "" : layer.said.back(); }
};

struct Reader {
  const char *pass, *options;
};
constexpr Reader kReaders[] = {
    {"protect-experts", "percentile=50 depth=1"},
    {"prune-experts", "drop=1"},
    {"prune-experts", "drop=1 criterion=reconstruction"},
    {"subset-experts", "label=a keep=4 criterion=soft"},
    {"merge-experts", "groups=bank=0,1 weights=frequency align=none preset=hc-smoe"},
    {"recombine-neurons", "drop=1"},
    {"narrow-experts", "drop=1 multiple=1"},
    {"repair-down", ""},
    {"repair-bias", ""},
    {"repair-linear", ""},
    {"refit-router", ""},
};

} // namespace

TEST(WeightHash, ProfilesOfOtherWeightsAreRefused) {
  for (const Reader &reader : kReaders) {
    SCOPED_TRACE(std::string(reader.pass) + " " + reader.options);
    Case fits;
    EXPECT_TRUE(fits.pass(reader.pass, reader.options, fits.profile)) << fits.last();
    Case wrong;
    std::string before = wrong.layer.text();
    EXPECT_FALSE(wrong.pass(reader.pass, reader.options, wrong.other));
    EXPECT_NE(wrong.last().find("layer 'bank': a profile of another model"), std::string::npos)
        << wrong.last();
    EXPECT_NE(wrong.last().find("profile this model"), std::string::npos) << wrong.last();
    EXPECT_EQ(wrong.last().find('\n'), std::string::npos) << wrong.last();
  }
}

// A model whose weights change, of the same names and shapes.
TEST(WeightHash, SeesEveryParameter) {
  Case c;
  c.layer.disturbDown(0.1);
  EXPECT_FALSE(c.pass("prune-experts", "drop=1", c.profile));
  EXPECT_NE(c.last().find("another model"), std::string::npos) << c.last();
}

// Counts of other tools have no hash.
TEST(WeightHash, ProfilesWithoutHashFit) {
  for (const Reader &reader : kReaders) {
    SCOPED_TRACE(reader.pass);
    Case c;
    auto profile = readProfile(c.profile);
    ASSERT_TRUE(!!profile) << llvm::toString(profile.takeError());
    profile->layers[0].weightHash = "";
    save(*profile, c.other);
    EXPECT_TRUE(c.pass(reader.pass, reader.options, c.other)) << c.last();
  }
}

// What a pass changed is compared by the weights that it began with.
TEST(WeightHash, OutlivesChanges) {
  for (const char *change : {"drop=1", "drop=1 replace=mask", "drop=1 replace=zero"}) {
    SCOPED_TRACE(change);
    Case c;
    ASSERT_TRUE(c.pass("prune-experts", change, c.profile)) << c.last();
    EXPECT_TRUE(c.pass("repair-down", "", c.profile)) << c.last();
    // A profile of what it is by now.
    auto layer = moe::collectRoutedLayers(*c.layer.module)[0];
    WeightEvaluator weights(*c.layer.module, c.layer.folder.path.string());
    auto hash = weightHash(layer.bank, weights);
    auto again = readProfile(c.profile);
    ASSERT_TRUE(hash && again);
    EXPECT_NE(*hash, again->layers[0].weightHash);
    selectKept(layer, *again);
    again->layers[0].weightHash = *hash;
    std::string path = c.layer.folder.file("again.moep");
    save(*again, path);
    EXPECT_TRUE(c.pass("protect-experts", "", path)) << c.last();
    EXPECT_FALSE(c.pass("repair-down", "", c.other));
    EXPECT_NE(c.last().find("another model"), std::string::npos) << c.last();
  }
}

// Changed by a pass that reads no profile: nothing to compare, so it is taken.
TEST(WeightHash, IsNotKnownAfterOtherChanges) {
  Case c;
  std::string masks = c.layer.folder.file("keep.json");
  c.layer.folder.write("keep.json", R"({"layers": {"bank": {"keep": [0, 2, 3, 5]}}})");
  ASSERT_TRUE(c.layer.passes("keep-experts{masks=" + masks + "}")) << c.last();
  EXPECT_TRUE(c.pass("repair-down", "", c.profile)) << c.last();
}

// A model that was compressed before it was read: what it is now has to fit.
TEST(WeightHash, CurrentProfilesAreOfTheModelAsItIs) {
  Case original, compressed;
  compressed.layer.disturbDown(0.3);
  std::string now = compressed.layer.folder.file("now.moep");
  Profile current = measured(compressed.layer, 1);
  save(current, now);
  std::string more = "current-profile=" + now;
  EXPECT_TRUE(compressed.pass("repair-down", more, original.profile)) << compressed.last();

  Case other;
  other.layer.disturbDown(0.3);
  current.layers[0].weightHash = "0123456789abcdef";
  save(current, now);
  EXPECT_FALSE(other.pass("repair-down", more, original.profile));
  EXPECT_NE(other.last().find("another model"), std::string::npos) << other.last();
}

TEST(WeightHash, WeightsThatCannotBeRead) {
  Case c;
  EXPECT_FALSE(c.layer.passes("prune-experts{profile=" + c.profile + " drop=1 folder=/nowhere}"));
  EXPECT_NE(c.last().find("layer 'bank': its weights cannot be compared"), std::string::npos) << c.last();
  EXPECT_NE(c.last().find("give the weights' folder"), std::string::npos) << c.last();
}
