// Measures: their sums against formulas, what is kept of the original, outputs that are no numbers.
#include "../../lib/Driver/Measure.h"

#include "moec/Driver/Error.h"

#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>

using namespace moec;

namespace {

std::string message(llvm::Error error) { return llvm::toString(std::move(error)); }

/// y = factor x, and a number that counts runs.
class Scale : public Executor {
public:
  explicit Scale(double factor) : factor(factor) {
    values.inputs = {{"x", DType::f32, {"n", "3"}}};
    values.outputs = {{"y", DType::f32, {"n", "3"}}, {"runs", DType::i64, {}}};
  }
  const Signature &signature() const override { return values; }
  llvm::Expected<std::vector<Tensor>> run(llvm::ArrayRef<Tensor> inputs) override {
    Tensor y(DType::f32, {inputs[0].shape[0], width}), n(DType::i64, {});
    for (int64_t i = 0; i < y.count(); ++i)
      y.set(i, factor * inputs[0].at(i));
    n.set(0, ++runs);
    y.name = "y";
    return std::vector<Tensor>{y, n};
  }
  double factor;
  int64_t width = 3;
  int runs = 0;
  Signature values;
};

/// Logits of a token are `sharp` at the token itself and 0 elsewhere, of 4 tokens or fewer classes.
class Echo : public Executor {
public:
  explicit Echo(double sharp) : sharp(sharp) {
    values.inputs = {{"input_ids", DType::i64, {"batch", "sequence"}}};
    values.outputs = {{"logits", DType::f32, {"batch", "sequence", "4"}}};
  }
  const Signature &signature() const override { return values; }
  llvm::Expected<std::vector<Tensor>> run(llvm::ArrayRef<Tensor> inputs) override {
    Tensor y(DType::f32, {inputs[0].shape[0], inputs[0].shape[1], classes});
    for (int64_t i = 0; i < inputs[0].count(); ++i)
      y.set(classes * i + int64_t(inputs[0].at(i)) % classes, sharp);
    return std::vector<Tensor>{y};
  }
  double sharp;
  int64_t classes = 4;
  Signature values;
};

class Measures : public testing::Test {
protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() /
             (std::string("moec-measure-") +
              testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::string write(const std::string &name, const Tensor &tensor) {
    EXPECT_FALSE(bool(writeNpy((folder / name).string(), tensor)));
    return (folder / name).string();
  }
  Dataset arrays(std::vector<double> numbers, const Signature &signature) {
    Tensor x(DType::f32, {int64_t(numbers.size()) / 3, 3});
    for (size_t i = 0; i < numbers.size(); ++i)
      x.set(int64_t(i), numbers[i]);
    auto data = Dataset::open({"x=" + write("x.npy", x)}, {});
    EXPECT_TRUE(bool(data));
    EXPECT_FALSE(bool(data->bind(signature)));
    return std::move(*data);
  }
  Dataset texts(const Signature &signature, DataOptions options) {
    Tensor ids(DType::i64, {9});
    for (int64_t i = 0; i < 9; ++i)
      ids.set(i, double(i % 4)); // 0 1 2 3 0 1 2 3 0
    auto data = Dataset::open({write("a.npy", ids)}, options);
    EXPECT_TRUE(bool(data));
    EXPECT_FALSE(bool(data->bind(signature)));
    return std::move(*data);
  }
  std::filesystem::path folder;
};

TEST_F(Measures, ErrorOfOutputs) {
  Scale original(1), smaller(0.75);
  Dataset data = arrays({1, 2, 3, -1, 0, 2}, original.signature());
  EXPECT_EQ(data.unit(), "sequences");
  const Measure &error = *findMeasure("error");
  Original kept(original, error);
  auto quality = scoreModel(smaller, data, error, &kept);
  ASSERT_TRUE(bool(quality));
  EXPECT_NEAR(quality->value(), 0.0625, 1e-9);
  EXPECT_NEAR(quality->value("data"), 0.0625, 1e-9);
  EXPECT_TRUE(std::isnan(quality->value("other")));
  EXPECT_NEAR(quality->weighted(""), 0.0625, 1e-9);
  EXPECT_EQ(quality->weighted("other:1"), INFINITY);
  EXPECT_EQ(quality->overall().tokens, 2);
  auto again = scoreModel(original, data, error, &kept);
  ASSERT_TRUE(bool(again));
  EXPECT_EQ(again->value(), 0);
}

TEST_F(Measures, PerplexityAndKlOfTexts) {
  Echo original(2), smaller(1);
  DataOptions options;
  options.window = 4, options.tokens = 4, options.targets = true;
  Dataset data = texts(original.signature(), options);
  ASSERT_EQ(data.runs(), 2);
  auto run = data.run(1);
  ASSERT_TRUE(bool(run));
  EXPECT_EQ(run->targets, (std::vector<int64_t>{1, 2, 3, 0}));
  // The next token is never the token itself.
  const double z = std::exp(1) + 3, Z = std::exp(2) + 3;
  const double kl = std::exp(2) / Z * (2 - std::log(Z) - 1 + std::log(z)) +
                    3 / Z * (std::log(z) - std::log(Z));
  for (const char *name : {"perplexity", "kl"}) {
    const Measure &measure = *findMeasure(name);
    Original kept(original, measure);
    auto quality = scoreModel(smaller, data, measure, &kept);
    ASSERT_TRUE(bool(quality));
    EXPECT_NEAR(perplexityMeasure().value(quality->overall()), z, 1e-5);
    EXPECT_NEAR(measure.distance(quality->overall()).value(), kl, 1e-6);
    EXPECT_NEAR(quality->value("a"), measure.needsOriginal() ? kl : z, 1e-5);
  }
  // Classes of tokens are no logits of them, and can be compared all the same.
  DataOptions three = options;
  Dataset few = texts(original.signature(), three);
  original.classes = smaller.classes = 3;
  auto refused = scoreModel(smaller, few, perplexityMeasure());
  ASSERT_FALSE(bool(refused));
  EXPECT_NE(message(refused.takeError()).find("token 3 is outside the 3 logits"),
            std::string::npos);
  Original kept(original, *findMeasure("error"));
  auto quality = scoreModel(smaller, few, *findMeasure("error"), &kept);
  ASSERT_TRUE(bool(quality));
  EXPECT_NEAR(quality->value(), 0.25, 1e-9);
  EXPECT_EQ(quality->overall().nll, 0);

  options.first = 1;
  EXPECT_EQ(texts(original.signature(), options).runs(), 1);
}

TEST_F(Measures, TheOriginalRunsOnceOrAgain) {
  Scale original(1), smaller(0.5);
  Dataset data = arrays({1, 2, 3}, original.signature());
  const Measure &error = *findMeasure("error");
  Original kept(original, error), none(original, error, /*bytes=*/0);
  for (Original *reference : {&kept, &none}) {
    original.runs = 0;
    for (int i = 0; i < 3; ++i) {
      auto quality = scoreModel(smaller, data, error, reference);
      ASSERT_TRUE(bool(quality));
      EXPECT_NEAR(quality->value(), 0.25, 1e-9);
    }
    EXPECT_EQ(original.runs, reference == &kept ? 1 : 3);
  }
}

TEST_F(Measures, WhatIsNotFinite) {
  Scale original(1), broken(NAN), wide(1);
  wide.width = 1;
  Dataset data = arrays({1, 2, 3}, original.signature());
  for (const char *name : {"error", "kl"}) {
    const Measure &measure = *findMeasure(name);
    Original kept(original, measure), bad(broken, measure);
    auto quality = scoreModel(broken, data, measure, &kept);
    ASSERT_TRUE(bool(quality));
    EXPECT_EQ(quality->value(), INFINITY);
    EXPECT_EQ(quality->weighted(""), INFINITY);
    auto refused = scoreModel(original, data, measure, &bad);
    ASSERT_FALSE(bool(refused));
    EXPECT_EQ(message(refused.takeError()),
              "the arrays: the model's output \"y\" holds numbers that are not finite");
    auto other = scoreModel(wide, data, measure, &kept);
    ASSERT_FALSE(bool(other));
    EXPECT_NE(message(other.takeError()).find("\"y\" changes its shape"), std::string::npos);
  }
}

TEST_F(Measures, EveryOtherRow) {
  OutputRows rows{"y", 2, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}};
  rows.thin(2);
  EXPECT_EQ(rows.values, (std::vector<float>{2, 3, 6, 7}));
}

TEST_F(Measures, DataThatDoesNotFit) {
  Scale model(1);
  Tensor x(DType::f32, {2, 3}), wide(DType::f32, {2, 4}), none(DType::f32, {0, 3});
  auto refusal = [&](std::vector<std::string> paths, DataOptions options = {}) {
    auto data = Dataset::open(paths, options);
    return data ? message(data->bind(model.signature())) : message(data.takeError());
  };
  EXPECT_EQ(refusal({"x=" + write("x.npy", x)}), "");
  EXPECT_EQ(refusal({"x=" + write("wide.npy", wide)}),
            "input \"x\": wrong size (wants x: f32[n, 3], got f32[2x4])");
  EXPECT_EQ(refusal({"x=" + write("none.npy", none)}), "empty data: the inputs have no elements");
  DataOptions options;
  options.outputs = {"z"};
  EXPECT_EQ(refusal({"x=" + write("x.npy", x)}, options), "--outputs z: the model has y, runs");
  options.outputs = {"runs"};
  EXPECT_EQ(refusal({"x=" + write("x.npy", x)}, options),
            "--outputs runs: holds no floats (runs: i64[])");
  model.values.inputs.push_back({"z", DType::f32, {"n"}});
  EXPECT_EQ(refusal({"x=" + write("x.npy", x)}), "no array for the input \"z\"");
}

} // namespace
