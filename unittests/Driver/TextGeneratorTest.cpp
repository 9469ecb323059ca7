#include "moec/Driver/TextGenerator.h"

#include <gtest/gtest.h>

using namespace moec;

namespace {

// A "language model" with a cache: the logits of a position are largest at (sum of all ids so far)
// modulo the vocabulary, and the cache holds the ids.
class SumModel : public Executor {
public:
  SumModel(bool cached, std::string length = "sequence") : cached(cached) {
    values.inputs = {{"input_ids", DType::i64, {"batch", length}}};
    values.outputs = {{"logits", DType::f32, {"batch", length, "10"}}};
    if (cached) {
      values.inputs.push_back({"past.0.key", DType::f32, {"batch", "1", "past", "1"}});
      values.outputs.push_back({"present.0.key", DType::f32, {"batch", "1", "total", "1"}});
    }
  }
  const Signature &signature() const override { return values; }
  llvm::Expected<std::vector<Tensor>> run(llvm::ArrayRef<Tensor> inputs) override {
    calls.push_back(inputs[0].count());
    int64_t past = cached ? inputs[1].shape[2] : 0, n = inputs[0].count(), sum = 0;
    Tensor logits(DType::f32, {1, n, 10}), cache(DType::f32, {1, 1, past + n, 1});
    for (int64_t i = 0; i < past; ++i)
      sum += int64_t(inputs[1].at(i)), cache.set(i, inputs[1].at(i));
    for (int64_t i = 0; i < n; ++i) {
      sum += int64_t(inputs[0].at(i));
      cache.set(past + i, inputs[0].at(i));
      logits.set(i * 10 + sum % 10, 1);
    }
    std::vector<Tensor> outputs{logits};
    if (cached)
      outputs.push_back(cache);
    return outputs;
  }
  bool cached;
  Signature values;
  std::vector<int64_t> calls; // tokens of each
};

std::vector<int64_t> greedy(Executor &executor, std::vector<int64_t> prompt, int n) {
  auto model = TextModel::create(executor);
  EXPECT_TRUE(bool(model));
  Sampler sample(0, 0, 0);
  std::vector<int64_t> made;
  auto logits = model->feed(prompt);
  for (int i = 0; i < n; ++i) {
    EXPECT_TRUE(bool(logits));
    made.push_back(sample(*logits));
    logits = model->feed(made.back());
  }
  llvm::consumeError(logits.takeError());
  return made;
}

TEST(TextModel, CacheAndWholeTextAgree) {
  SumModel cached(true), whole(false);
  auto a = greedy(cached, {1, 2, 4}, 5), b = greedy(whole, {1, 2, 4}, 5);
  EXPECT_EQ(a, b);
  EXPECT_EQ(a, (std::vector<int64_t>{7, 4, 8, 6, 2}));
  EXPECT_EQ(cached.calls, (std::vector<int64_t>{3, 1, 1, 1, 1, 1}));
  EXPECT_EQ(whole.calls, (std::vector<int64_t>{3, 4, 5, 6, 7, 8}));
}

TEST(TextModel, FixedLengthGraphsTakeBlocks) {
  SumModel one(true, "1");
  EXPECT_EQ(greedy(one, {1, 2, 4}, 2), (std::vector<int64_t>{7, 4}));
  EXPECT_EQ(one.calls.front(), 1);
  SumModel whole(false, "4");
  auto model = TextModel::create(whole);
  ASSERT_FALSE(bool(model));
  EXPECT_NE(llvm::toString(model.takeError()).find("unsupported"), std::string::npos);
}

TEST(TextModel, ScoresOneTextOnItsOwn) {
  SumModel cached(true);
  auto model = TextModel::create(cached);
  ASSERT_TRUE(bool(model));
  for (int i = 0; i < 2; ++i) {
    auto logits = model->score({3, 4});
    ASSERT_TRUE(bool(logits));
    EXPECT_EQ(logits->shape, (std::vector<int64_t>{1, 2, 10}));
    EXPECT_EQ(logits->at(3), 1);
    EXPECT_EQ(logits->at(17), 1);
  }
}

TEST(TextModel, NamesTheInputThatIsNotUnderstood) {
  SumModel odd(false);
  odd.values.inputs.push_back({"pixels", DType::f32, {"3"}});
  auto model = TextModel::create(odd);
  ASSERT_FALSE(bool(model));
  EXPECT_NE(llvm::toString(model.takeError()).find("unsupported input \"pixels\""), std::string::npos);
}

TEST(TextModel, TokensBesideMaskPositionsAndTypes) {
  SumModel model(true);
  auto &inputs = model.values.inputs;
  ValueInfo cache = inputs[1];
  inputs = {{"token_type_ids", DType::i64, {"batch", "sequence"}},
            {"input_ids", DType::i64, {"batch", "sequence"}},
            {"position_ids", DType::i64, {"3", "batch", "sequence"}},
            {"attention_mask", DType::i64, {"batch", "total"}},
            {"cache_position", DType::i64, {"sequence"}},
            cache};
  auto text = TextModel::create(model);
  ASSERT_TRUE(bool(text));
  std::vector<Tensor> run = text->batch({5, 6, 7, 8}, 2);
  auto numbers = [](const Tensor &t) {
    std::vector<double> all;
    for (int64_t i = 0; i < t.count(); ++i)
      all.push_back(t.at(i));
    return all;
  };
  using List = std::vector<double>;
  EXPECT_EQ(numbers(run[0]), List(4, 0));
  EXPECT_EQ(numbers(run[1]), (List{5, 6, 7, 8}));
  EXPECT_EQ(run[2].shape, (std::vector<int64_t>{3, 2, 2}));
  EXPECT_EQ(numbers(run[2]), (List{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(numbers(run[3]), List(4, 1));
  EXPECT_EQ(numbers(run[4]), (List{0, 1}));
  EXPECT_EQ(run[5].shape, (std::vector<int64_t>{2, 1, 0, 1}));
}

TEST(TextModel, NamesWhatCannotBeFilled) {
  auto refusal = [](ValueInfo input, bool cached = false, const char *size = "1") {
    SumModel model(cached);
    if (cached)
      model.values.inputs[1].dims[3] = model.values.outputs[1].dims[3] = size;
    else
      model.values.inputs.push_back(std::move(input));
    auto text = TextModel::create(model);
    return text ? "" : llvm::toString(text.takeError());
  };
  EXPECT_EQ(refusal({"attention_mask", DType::f32, {"batch", "1", "s", "t"}}),
            "unsupported input \"attention_mask\" for texts: wants [batch, sequence] "
            "(attention_mask: f32[batch, 1, s, t])");
  EXPECT_EQ(refusal({"position_embeddings", DType::f32, {"sequence", "8"}}),
            "unsupported input \"position_embeddings\" for texts: wants integers "
            "(position_embeddings: f32[sequence, 8])");
  EXPECT_EQ(refusal({}, true), "");
  EXPECT_EQ(refusal({}, true, "head_size"),
            "unsupported input \"past.0.key\" for texts: how large its \"head_size\" is, the model "
            "does not say: give --dim head_size=SIZE (past.0.key: f32[batch, 1, past, head_size])");
  SumModel open(true);
  open.values.inputs[1].dims[3] = open.values.outputs[1].dims[3] = "head_size";
  auto text = TextModel::create(open, {{"head_size", 1}});
  ASSERT_TRUE(bool(text));
  EXPECT_EQ(text->batch({1, 2}, 1)[1].shape, (std::vector<int64_t>{1, 1, 0, 1}));
}

TEST(Sampler, GreedyTiesTopKAndSeeds) {
  EXPECT_EQ(Sampler(0, 0, 0)({1, 3, 3}), 1);
  Sampler top(1, 2, 7);
  for (int i = 0; i < 100; ++i)
    EXPECT_NE(top({5, 0, 5}), 1);
  Sampler a(1, 0, 3), b(1, 0, 3);
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(a({1, 1, 1, 1}), b({1, 1, 1, 1}));
}

} // namespace

TEST(TextModel, InputsOfSeveralTexts) {
  SumModel executor(true);
  executor.values.inputs.push_back({"attention_mask", DType::i64, {"batch", "total"}});
  executor.values.inputs.push_back({"position_ids", DType::i64, {"batch", "sequence"}});
  auto model = TextModel::create(executor);
  ASSERT_TRUE(bool(model));
  EXPECT_EQ(model->fixedBatch(), std::nullopt);
  auto inputs = model->batch({1, 2, 3, 4, 5, 6}, 2);
  ASSERT_EQ(inputs.size(), 4u);
  EXPECT_EQ(inputs[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(inputs[0].at(3), 4);
  EXPECT_EQ(inputs[1].shape, (std::vector<int64_t>{2, 1, 0, 1})) << "an empty cache";
  EXPECT_EQ(inputs[2].at(5), 1);
  EXPECT_EQ(inputs[3].at(4), 1) << "positions start again";
  executor.values.inputs[0].dims[0] = "3";
  EXPECT_EQ(TextModel::create(executor)->fixedBatch(), 3);
}
