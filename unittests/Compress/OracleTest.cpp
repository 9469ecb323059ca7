// What pruning has to find in layers whose answer is planted.
#include "GraphText.h"
#include "Planted.h"

#include "moec/Analysis/Derived.h"
#include "moec/Analysis/NearestLabel.h"
#include "moec/Transforms/Compress/Prune.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "mlir/IR/Verifier.h"
#include "gtest/gtest.h"

#include <cmath>
#include <cstring>
#include <map>

using namespace moec;
using namespace moec::test;

namespace {

constexpr unsigned kSeed = 20260715;

std::vector<reference::Array> inputOf(const Planted::Rows &rows) {
  reference::Array x;
  x.shape = {int64_t(rows.size()), int64_t(rows[0].size())};
  for (const auto &row : rows)
    x.data.insert(x.data.end(), reinterpret_cast<const char *>(row.data()),
                  reinterpret_cast<const char *>(row.data() + row.size()));
  return {x};
}

std::vector<std::string> labelled(size_t count, const std::string &label) {
  return std::vector<std::string>(count, label);
}

double loss(const Planted::Rows &a, const Planted::Rows &b) {
  double sum = 0;
  for (size_t t = 0; t < a.size(); ++t)
    for (size_t h = 0; h < a[t].size(); ++h)
      sum += std::pow(double(a[t][h]) - b[t][h], 2);
  return std::sqrt(sum);
}

PruneOptions dropping(const std::string &drop, const std::string &criterion) {
  PruneOptions options;
  options.drop = drop;
  options.saliency.criterion = criterion;
  return options;
}

// The ids that a plan of one layer drops.
std::vector<int64_t> plan(const Planted &p, const Profile &profile, const PruneOptions &options) {
  mlir::MLIRContext context;
  auto module = parse(p.module(), context);
  auto drops = planDrops(*module, profile, options);
  if (!drops) {
    ADD_FAILURE() << llvm::toString(drops.takeError());
    return {};
  }
  return drops->front().drop;
}

TEST(Oracles, TheInterpreterAgreesWithThePlainLayer) {
  std::mt19937 random(kSeed);
  Planted p = Planted::random(random);
  auto tokens = p.tokens(random, 30);
  mlir::MLIRContext context;
  auto module = parse(p.module(), context);
  std::vector<float> flat;
  for (const auto &row : p.run(tokens))
    flat.insert(flat.end(), row.begin(), row.end());
  EXPECT_LT(difference(evaluate(*module, inputOf(tokens)), {flat}), 1e-5);
}

TEST(Oracles, AnExpertThatIsNeverChosenGoesFirst) {
  std::mt19937 random(kSeed + 1);
  for (int round = 0; round < 20; ++round) {
    Planted p = Planted::random(random);
    int64_t idle = round % p.experts;
    p.routerBias[idle] = -1000;
    for (int64_t h = 0; h < p.hidden; ++h) // large where it is never asked
      for (int64_t i = 0; i < p.inter; ++i)
        p.down[(idle * p.hidden + h) * p.inter + i] *= 100;
    auto tokens = p.tokens(random, 200);
    Profile profile = p.profile(tokens, labelled(200, "text"));
    for (const Criterion &criterion : criteria()) {
      if (criterion.name == "random")
        continue;
      EXPECT_EQ(plan(p, profile, dropping("1", criterion.name.str())), std::vector<int64_t>{idle})
          << criterion.name.str() << ", round " << round << " of " << kSeed + 1;
    }
    mlir::MLIRContext context;
    auto module = parse(p.module(), context);
    auto before = evaluate(*module, inputOf(tokens));
    PruneOptions options = dropping("1", "reap");
    auto drops = planDrops(*module, profile, options);
    ASSERT_TRUE(bool(drops));
    ASSERT_TRUE(mlir::succeeded(applyDrops(*module, *drops, profile, options)));
    cleanUp(*module);
    EXPECT_EQ(before, evaluate(*module, inputOf(tokens))) << "round " << round;
  }
}

TEST(Oracles, ASuperExpertIsFlaggedAndKept) {
  std::mt19937 random(kSeed + 2);
  for (int round = 0; round < 20; ++round) {
    Planted p = Planted::random(random);
    int64_t super = round % p.experts;
    for (int64_t h = 0; h < p.hidden; ++h)
      for (int64_t i = 0; i < p.inter; ++i)
        p.down[(super * p.hidden + h) * p.inter + i] *= 1000;
    auto tokens = p.tokens(random, 200);
    Profile profile = p.profile(tokens, labelled(200, "text"));
    auto found = superExperts(profile);
    ASSERT_EQ(found.size(), 1u) << "round " << round << " of " << kSeed + 2;
    EXPECT_EQ(found[0].expert, super);
    auto gone = plan(p, profile, dropping("6", "reap"));
    EXPECT_EQ(std::count(gone.begin(), gone.end(), super), 0) << "round " << round;
  }
}

TEST(Oracles, AProtectedExpertIsNeverDropped) {
  std::mt19937 random(kSeed + 3);
  Planted p = Planted::random(random);
  auto tokens = p.tokens(random, 200);
  Profile profile = p.profile(tokens, labelled(200, "text"));
  int64_t least = plan(p, profile, dropping("1", "reap"))[0];
  mlir::MLIRContext context;
  auto module = parse(p.module(), context);
  auto bank = *module->getOps<moe::BankOp>().begin();
  bank->setAttr("moe.protected", mlir::DenseI64ArrayAttr::get(&context, {least}));
  PruneOptions options = dropping("5", "reap");
  auto drops = planDrops(*module, profile, options);
  ASSERT_TRUE(bool(drops));
  EXPECT_EQ(llvm::count(drops->front().drop, least), 0);
  ASSERT_TRUE(mlir::succeeded(applyDrops(*module, *drops, profile, options)));
  bank = *module->getOps<moe::BankOp>().begin();
  auto ids = bank->getAttrOfType<mlir::DenseI64ArrayAttr>("moe.protected");
  int64_t below = llvm::count_if(drops->front().drop, [&](int64_t e) { return e < least; });
  EXPECT_EQ(ids.asArrayRef(), llvm::ArrayRef<int64_t>{least - below}) << "its number has changed";
  auto all = planDrops(*parse(p.module(), context), profile, dropping("7", "reap"));
  EXPECT_FALSE(bool(all));
  EXPECT_NE(llvm::toString(all.takeError()).find("6 may go"), std::string::npos);
}

TEST(Oracles, AConstantExpertIsReplacedExactly) {
  std::mt19937 random(kSeed + 4);
  Planted p = Planted::random(random);
  for (int64_t n = p.hidden * p.inter, i = 3 * n; i < 4 * n; ++i)
    p.down[i] = 0;
  auto tokens = p.tokens(random, 300);
  Profile profile = p.profile(tokens, labelled(300, "text"));
  PruneOptions options = dropping("1", "mone");
  options.replace = "constant";
  ASSERT_EQ(plan(p, profile, options), std::vector<int64_t>{3}) << "its outputs do not vary";
  mlir::MLIRContext context;
  auto module = parse(p.module(), context);
  auto before = evaluate(*module, inputOf(tokens));
  auto drops = planDrops(*module, profile, options);
  ASSERT_TRUE(bool(drops));
  ASSERT_TRUE(mlir::succeeded(applyDrops(*module, *drops, profile, options)));
  cleanUp(*module);
  ASSERT_TRUE(mlir::succeeded(mlir::verify(*module)));
  auto bank = *module->getOps<moe::BankOp>().begin();
  EXPECT_EQ(bank.getExpertStorage(3), "constant");
  EXPECT_EQ(bank.getNumSlabs(), 7);
  EXPECT_EQ(before, evaluate(*module, inputOf(tokens)));
}

// The sign of a token's first number says which half of the experts may be chosen.
struct TwoDomains {
  std::mt19937 &random;
  Planted planted;
  std::vector<int64_t> code{0, 3, 5, 6}, prose{1, 2, 4, 7};

  explicit TwoDomains(std::mt19937 &random) : random(random), planted(Planted::random(random)) {
    for (int64_t e = 0; e < planted.experts; ++e)
      planted.router[e] = llvm::is_contained(code, e) ? 50.0f : -50.0f;
  }
  Profile profile(int64_t count) const {
    auto tokens = planted.tokens(random, count);
    std::vector<std::string> labels;
    for (auto &row : tokens) {
      row[0] += row[0] < 0 ? -1 : 1;
      labels.push_back(row[0] > 0 ? "code" : "prose");
    }
    return planted.profile(tokens, labels);
  }
};

TEST(Oracles, ADomainKeepsItsOwnExperts) {
  std::mt19937 random(kSeed + 5);
  TwoDomains domains(random);
  const Planted &p = domains.planted;
  const std::vector<int64_t> &code = domains.code, &prose = domains.prose;
  Profile profile = domains.profile(400);
  for (const Criterion &criterion : criteria()) {
    if (criterion.name == "random")
      continue;
    PruneOptions options = dropping("", criterion.name.str());
    options.keep = "0.5";
    options.saliency.perLabel = true;
    for (auto [label, others] : {std::pair("code", prose), std::pair("prose", code)}) {
      auto weights = parseLabelWeights(profile, label);
      ASSERT_TRUE(bool(weights));
      options.saliency.labelWeights = *weights;
      EXPECT_EQ(plan(p, profile, options), others) << criterion.name.str() << " on " << label;
    }
  }
}

// PreMoe's retrieval: a prompt finds the domain that it is of, and the pass keeps that domain's experts.
TEST(Oracles, APromptFindsItsDomain) {
  std::mt19937 random(kSeed + 7);
  TwoDomains domains(random);
  Profile profile = domains.profile(400);
  for (auto [sign, label] : {std::pair(1.0f, "code"), std::pair(-1.0f, "prose")}) {
    for (int64_t length : {1, 20}) { // tokens
      auto prompt = domains.planted.tokens(random, length);
      for (auto &row : prompt)
        row[0] = sign * (1 + std::abs(row[0]));
      std::vector<std::string> labels(prompt.size(), "prompt");
      auto nearest = nearestLabels(profile, domains.planted.profile(prompt, labels));
      ASSERT_TRUE(bool(nearest)) << llvm::toString(nearest.takeError());
      ASSERT_EQ(nearest->size(), 2u);
      EXPECT_EQ(nearest->front().label, label) << length << " tokens";
      EXPECT_LT(nearest->front().distance, nearest->back().distance);
    }
  }
}

// All pairs of 8 experts, by the error of the layer's output (NAEE, Lu et al., ACL 2024).
TEST(Oracles, RegretAgainstBruteForce) {
  std::mt19937 random(kSeed + 6);
  std::map<std::string, double> regret;
  constexpr int rounds = 12;
  for (int round = 0; round < rounds; ++round) {
    Planted p = Planted::random(random);
    auto tokens = p.tokens(random, 200);
    Profile profile = p.profile(tokens, labelled(200, "text"));
    auto whole = p.run(tokens);
    std::map<std::vector<int64_t>, double> losses;
    double best = INFINITY;
    for (int64_t a = 0; a < p.experts; ++a)
      for (int64_t b = a + 1; b < p.experts; ++b) {
        std::vector<int64_t> keep;
        for (int64_t e = 0; e < p.experts; ++e)
          if (e != a && e != b)
            keep.push_back(e);
        best = std::min(best, losses[{a, b}] = loss(whole, p.run(tokens, keep)));
      }
    for (const Criterion &criterion : criteria()) {
      double chosen = losses.at(plan(p, profile, dropping("2", criterion.name.str())));
      EXPECT_GE(chosen, best);
      regret[criterion.name.str()] += (chosen / best - 1) / rounds;
    }
  }
  for (const auto &[name, value] : regret) {
    RecordProperty("regret_" + name, std::to_string(value));
    std::printf("regret %-12s %.3f\n", name.c_str(), value);
  }
  // What the gate and the output say together is better than chance; other means need not be.
  EXPECT_LT(regret["gated-norm"], 0.5 * regret["random"]);
  EXPECT_LT(regret["soft"], regret["random"]);
}

} // namespace
