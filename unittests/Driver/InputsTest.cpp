#include "moec/Driver/Executor.h"

#include <gtest/gtest.h>

using namespace moec;

namespace {

ValueInfo value(std::string name, DType type, std::vector<std::string> dims) {
  return {std::move(name), type, std::move(dims)};
}

Signature decodeGraph() {
  Signature s;
  s.inputs = {value("input_ids", DType::i64, {"batch", "sequence"}),
              value("attention_mask", DType::i64, {"batch", "past_sequence + sequence"}),
              value("position_ids", DType::i64, {"batch", "sequence"}),
              value("past_key_values.0.key", DType::f32, {"batch", "2", "past_sequence", "32"})};
  return s;
}

TEST(Inputs, EqualSeedsGiveEqualInputs) {
  InputOptions options;
  options.dims = {{"batch", 2}, {"sequence", 3}, {"past_sequence", 5}};
  auto a = makeInputs(decodeGraph(), options), b = makeInputs(decodeGraph(), options);
  ASSERT_TRUE(bool(a) && bool(b));
  options.seed = 1;
  auto c = makeInputs(decodeGraph(), options);
  ASSERT_TRUE(bool(c));
  for (size_t i = 0; i < a->size(); ++i)
    EXPECT_EQ((*a)[i].data, (*b)[i].data);
  EXPECT_NE((*a)[3].data, (*c)[3].data);
}

TEST(Inputs, ShapesMasksAndPositions) {
  InputOptions options;
  options.dims = {{"batch", 1}, {"sequence", 3}, {"past_sequence", 5}};
  auto inputs = makeInputs(decodeGraph(), options);
  ASSERT_TRUE(bool(inputs));
  EXPECT_EQ((*inputs)[1].shape, (std::vector<int64_t>{1, 8}));
  EXPECT_EQ((*inputs)[1].at(7), 1);
  EXPECT_EQ((*inputs)[2].at(0), 5); // after the cache
  for (int64_t i = 0; i < 3; ++i)
    EXPECT_LT((*inputs)[0].at(i), 8);
}

std::string orderError(std::vector<Tensor> given) {
  auto ordered = orderInputs(decodeGraph(), std::move(given));
  return ordered ? "" : llvm::toString(ordered.takeError());
}

TEST(Inputs, OrderedByNameElseByPosition) {
  Signature s;
  s.inputs = {value("a", DType::f32, {"n"}), value("b", DType::f32, {"n"})};
  Tensor first(DType::f32, {1}), second(DType::f32, {2});
  first.name = "b", second.name = "a";
  auto named = orderInputs(s, {first, second});
  ASSERT_TRUE(bool(named));
  EXPECT_EQ((*named)[0].shape[0], 2);
  second.name = "";
  auto placed = orderInputs(s, {first, second});
  ASSERT_TRUE(bool(placed));
  EXPECT_EQ((*placed)[0].shape[0], 1);
}

TEST(Inputs, OneElementCountsAsScalar) {
  Signature s;
  s.inputs = {value("window", DType::i64, {})};
  auto inputs = orderInputs(s, {Tensor(DType::i64, {1})});
  ASSERT_TRUE(bool(inputs));
  EXPECT_TRUE((*inputs)[0].shape.empty());
  EXPECT_FALSE(bool(llvm::expectedToOptional(orderInputs(s, {Tensor(DType::i64, {2})}))));
}

TEST(Inputs, MismatchesNameTheInput) {
  EXPECT_NE(orderError({}).find("0 inputs given, the model has 4"), std::string::npos);
  Tensor ids(DType::i32, {1, 3}), mask(DType::i64, {1, 8}), positions(DType::i64, {1, 3}),
      cache(DType::f32, {1, 2, 5, 32});
  EXPECT_NE(orderError({ids, mask, positions, cache}).find("input \"input_ids\": wrong element type"),
            std::string::npos);
  ids = Tensor(DType::i64, {3});
  EXPECT_NE(orderError({ids, mask, positions, cache}).find("wrong rank"), std::string::npos);
  ids = Tensor(DType::i64, {1, 3});
  cache = Tensor(DType::f32, {1, 3, 5, 32});
  EXPECT_NE(orderError({ids, mask, positions, cache}).find("\"past_key_values.0.key\": wrong size"),
            std::string::npos);
}

TEST(Inputs, OverflowingSizesAreRefused) {
  InputOptions options;
  options.dims = {{"batch", int64_t(1) << 40}, {"sequence", int64_t(1) << 40}};
  auto inputs = makeInputs(decodeGraph(), options);
  ASSERT_FALSE(bool(inputs));
  EXPECT_NE(llvm::toString(inputs.takeError()).find("too large"), std::string::npos);
}

} // namespace
