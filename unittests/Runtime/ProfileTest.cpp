// Profiles against sums that are written down as moec/Analysis/Profile.h says them.
#include "NaiveProfile.h"
#include "Support.h"
#include <numeric>
#include <set>

using namespace naive;

namespace {

struct Seen {
  std::map<std::string, Stats> labels; // of the only layer
  struct Kept {
    uint64_t key;
    std::vector<float> x, y;
    std::vector<int32_t> ids;
    bool operator==(const Kept &) const = default;
  };
  std::map<std::string, std::vector<Kept>> tokens;
};

Seen readProfile(moert_ctx *ctx, bool take = false) {
  Seen seen;
  moert_profile_visitor visitor{};
  visitor.arg = &seen;
  visitor.statistic = [](void *arg, const moert_profile_statistic *v) {
    int64_t n = 1;
    for (int i = 0; i < v->rank; ++i)
      n *= v->dims[i];
    static_cast<Seen *>(arg)->labels[v->label][v->name] = Row(v->data, v->data + n);
  };
  visitor.token = [](void *arg, const moert_profile_token *t) {
    static_cast<Seen *>(arg)->tokens[t->label].push_back(
        {t->key, {t->x, t->x + t->hidden}, {t->y, t->y + t->hidden}, {t->ids, t->ids + t->k}});
  };
  moert_error error{};
  auto read = take ? moert_session_profile_take : moert_session_profile_read;
  EXPECT_EQ(read(test_context_session(ctx), &visitor, &error), MOERT_OK);
  return seen;
}

void expectEqual(const Stats &got, const Stats &expected) {
  for (const auto &[name, values] : expected) {
    ASSERT_TRUE(got.count(name)) << name;
    const Row &mine = got.at(name);
    ASSERT_EQ(mine.size(), values.size()) << name;
    double scale = 0;
    for (double v : values)
      scale = std::isinf(v) ? scale : std::max(scale, std::abs(v));
    // A share near the edge of a bin may fall on either side.
    bool bins = name.ends_with("_bins");
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] != mine[i])
        ASSERT_NEAR(mine[i], values[i], bins ? 2 : 2e-5 * scale + 1e-6) << name << " " << i;
    if (bins)
      EXPECT_EQ(std::accumulate(mine.begin(), mine.end(), 0.0),
                std::accumulate(values.begin(), values.end(), 0.0));
  }
  EXPECT_EQ(got.size(), expected.size());
}

void start(TestContext &context, int64_t reservoir = 0) {
  moert_profile_options options{reservoir};
  ASSERT_EQ(moert_session_profile_start(test_context_session(context.ctx), &options, nullptr),
            MOERT_OK);
}

void next(TestContext &context, const char *label, int64_t sequences, int64_t first = 0) {
  ASSERT_EQ(moert_session_profile_data(test_context_session(context.ctx), label, sequences, first,
                                       nullptr),
            MOERT_OK);
}

void probe(TestContext &context, const Tokens &d, bool experts) {
  moert_status status = context.run([&](moert_ctx *ctx) {
    if (experts)
      moert_probe_experts(ctx, "layer", d.T, d.E, d.K, d.H, d.sigmoid, d.ids.data(),
                          d.weights.data(), d.logits.data(), d.x.data(), d.residual.data(),
                          d.slots.data(), d.y.data());
    else
      moert_probe_routing(ctx, "layer", d.T, d.E, d.K, d.sigmoid, d.ids.data(), d.weights.data(),
                          d.logits.data());
  });
  ASSERT_EQ(status, MOERT_OK) << context.error.message;
}

} // namespace

TEST(Profile, RoutingIsWhatTheFormulasSay) {
  for (int threads : {1, 3})
    for (bool sigmoid : {false, true})
      for (auto [T, E, K] : {std::tuple(6, 1, 1), {300, 5, 2}, {96, 32, 4}, {3, 33, 8}}) {
        SCOPED_TRACE(testing::Message() << threads << " " << sigmoid << " " << E);
        TestContext context(threads);
        start(context);
        Stats expected;
        for (unsigned seed : {1u, 2u}) {
          Tokens d = randomTokens(seed, T, E, K, 1, sigmoid);
          next(context, "text", 3, 0);
          probe(context, d, false);
          addRouting(expected, d, 3);
        }
        expectEqual(readProfile(context.ctx).labels["text"], expected);
      }
}

TEST(Profile, OutputsOfChosenExperts) {
  for (int threads : {1, 2})
    for (auto [T, E, K, H] : {std::tuple(40, 4, 2, 5), {130, 32, 4, 48}, {5, 3, 3, 17}}) {
      TestContext context(threads);
      start(context);
      Stats expected;
      for (unsigned seed : {3u, 4u}) {
        Tokens d = randomTokens(seed, T, E, K, H);
        probe(context, d, true);
        addRouting(expected, d, 1);
        addExperts(expected, d);
      }
      expectEqual(readProfile(context.ctx).labels[""], expected);
    }
}

TEST(Profile, AllExperts) {
  int64_t S = 7, E = 5, H = 19;
  Tokens d = randomTokens(5, S, E, E, H); // slots: [S, E, H]
  TestContext context(2);
  start(context);
  for (int i = 0; i < 2; ++i)
    ASSERT_EQ(context.run(
                  [&](moert_ctx *ctx) { moert_probe_all(ctx, "layer", S, E, H, d.slots.data()); }),
              MOERT_OK);
  Stats expected;
  sized(expected["sampled"], 1, 2 * double(S));
  sized(expected["all_output_sum"], E * H), sized(expected["output_cosine"], E * E);
  for (int64_t s = 0; s < S; ++s)
    for (int64_t e = 0; e < E; ++e) {
      const float *f = &d.slots[(s * E + e) * H];
      for (int64_t h = 0; h < H; ++h)
        expected["all_output_sum"][e * H + h] += 2 * f[h];
      for (int64_t o = 0; o < E; ++o) {
        const float *other = &d.slots[(s * E + o) * H];
        double lengths = std::sqrt(dot(f, f, H) * dot(other, other, H));
        expected["output_cosine"][e * E + o] += lengths > 0 ? 2 * dot(f, other, H) / lengths : 0;
      }
    }
  expectEqual(readProfile(context.ctx).labels[""], expected);
}

TEST(Profile, DoesNotDependOnThreads) {
  Tokens d = randomTokens(6, 700, 16, 3, 40);
  Seen first;
  for (int threads : {1, 2, 4}) {
    TestContext context(threads);
    start(context, 50);
    probe(context, d, true);
    Seen seen = readProfile(context.ctx);
    if (threads == 1)
      first = seen;
    EXPECT_EQ(seen.labels, first.labels);
    EXPECT_EQ(seen.tokens, first.tokens);
  }
}

TEST(Profile, MaskedLogitsCountAsNothing) {
  Tokens d = randomTokens(7, 4, 4, 1, 1);
  for (int64_t t = 0; t < d.T; ++t) {
    d.logits[t * 4 + 2] = -INFINITY;
    d.ids[t] = 0;
  }
  TestContext context;
  start(context);
  probe(context, d, false);
  Stats s = readProfile(context.ctx).labels[""];
  EXPECT_EQ(s["score_sum"][2], 0);
  EXPECT_EQ(s["logit_sum"][2], 0);
  for (const auto &[name, values] : s)
    for (double v : values)
      EXPECT_TRUE(std::isfinite(v)) << name;
}

TEST(Profile, AnExpertThatATokenHasTwice) {
  Tokens d = randomTokens(10, 1, 3, 3, 1);
  d.ids = {2, 0, 2};
  d.weights = {0.5, 0.25, 0.25};
  TestContext context;
  start(context);
  probe(context, d, false);
  Stats s = readProfile(context.ctx).labels[""];
  EXPECT_EQ(s["count"], (Row{1, 0, 1}));
  EXPECT_EQ(s["coactivation"], (Row{1, 0, 1, 0, 0, 0, 1, 0, 1}));
  EXPECT_EQ(s["rank_count"], (Row{0, 1, 0, 0, 0, 0, 1, 0, 1}));
  EXPECT_EQ(s["gate_sum"], (Row{0.25, 0, 0.75}));
}

TEST(Profile, ReservoirKeepsTheSameTokensInAnyOrder) {
  int64_t length = 20, sequences = 30, T = length * sequences;
  Tokens all = randomTokens(8, T, 6, 2, 4);
  for (int64_t i = 0; i < T; ++i)
    all.x[i * 4] = float(i); // which token it is
  auto part = [&](int64_t first, int64_t count) {
    Tokens d = all;
    auto cut = [&](auto &values, int64_t width) {
      values.assign(values.begin() + first * length * width,
                    values.begin() + (first + count) * length * width);
    };
    d.T = count * length;
    cut(d.ids, 2), cut(d.weights, 2), cut(d.logits, 6), cut(d.x, 4), cut(d.residual, 4);
    cut(d.slots, 8), cut(d.y, 4);
    return d;
  };
  std::vector<std::vector<std::pair<int64_t, int64_t>>> orders{
      {{0, 30}}, {{20, 10}, {0, 20}}, {{29, 1}, {3, 26}, {0, 3}}};
  std::vector<Seen> seen;
  for (const auto &order : orders) {
    TestContext context;
    start(context, 64);
    for (auto [first, count] : order) {
      next(context, "a", count, first);
      probe(context, part(first, count), true);
    }
    seen.push_back(readProfile(context.ctx));
    const auto &kept = seen.back().tokens["a"];
    ASSERT_EQ(kept.size(), 64u);
    EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end(),
                               [](const auto &a, const auto &b) { return a.key < b.key; }));
    EXPECT_EQ(kept, seen.front().tokens["a"]);
  }
  std::set<int64_t> halves;
  for (const auto &token : seen[0].tokens["a"]) {
    auto i = int64_t(token.x[0]);
    halves.insert(i / (T / 8));
    EXPECT_EQ(token.ids, (std::vector<int32_t>{all.ids[i * 2], all.ids[i * 2 + 1]}));
    EXPECT_EQ(token.y[3], all.y[i * 4 + 3]);
  }
  EXPECT_EQ(halves.size(), 8u) << "tokens of all of the text";
}

TEST(Profile, IsTakenOnce) {
  TestContext context;
  moert_session *session = test_context_session(context.ctx);
  Tokens d = randomTokens(9, 4, 4, 2, 3);
  moert_profile_options options{3};
  moert_error error{};
  ASSERT_EQ(moert_session_profile_start(session, &options, &error), MOERT_OK);
  for (const char *label : {"a", "b"}) {
    ASSERT_EQ(moert_session_profile_data(session, label, 1, 0, &error), MOERT_OK);
    probe(context, d, true);
  }
  Seen read = readProfile(context.ctx), taken = readProfile(context.ctx, true);
  EXPECT_EQ(taken.labels.size(), 2u);
  EXPECT_EQ(taken.tokens["b"].size(), 3u);
  EXPECT_EQ(taken.labels, read.labels);
  EXPECT_EQ(taken.tokens, read.tokens);
  moert_profile_visitor visitor{};
  EXPECT_EQ(moert_session_profile_take(session, &visitor, &error), MOERT_ERROR_USAGE);
  probe(context, d, true); // nobody listens
}

TEST(Profile, StartsStopsAndRefuses) {
  TestContext context;
  moert_session *session = test_context_session(context.ctx);
  moert_error error{};
  Tokens d = randomTokens(9, 4, 4, 2, 3);
  probe(context, d, true); // nobody listens
  moert_profile_visitor visitor{};
  EXPECT_EQ(moert_session_profile_read(session, &visitor, &error), MOERT_ERROR_USAGE);
  EXPECT_EQ(moert_session_profile_data(session, "a", 1, 0, &error), MOERT_ERROR_USAGE);
  moert_profile_options negative{-1};
  EXPECT_EQ(moert_session_profile_start(session, &negative, &error), MOERT_ERROR_USAGE);
  start(context);
  EXPECT_EQ(moert_session_profile_data(session, "a", 0, 0, &error), MOERT_ERROR_USAGE);
  probe(context, d, true);
  start(context);
  EXPECT_TRUE(readProfile(context.ctx).labels.empty()) << "started anew";
  d.ids[1] = 4;
  EXPECT_EQ(context.run([&](moert_ctx *ctx) {
    moert_probe_routing(ctx, "layer", d.T, d.E, d.K, 0, d.ids.data(), d.weights.data(), nullptr);
  }),
            MOERT_ERROR_INPUT);
  EXPECT_STREQ(context.error.message, "expert id 4 of 4 experts");
  moert_session_profile_stop(session);
  EXPECT_EQ(moert_session_profile_read(session, &visitor, &error), MOERT_ERROR_USAGE);
}
