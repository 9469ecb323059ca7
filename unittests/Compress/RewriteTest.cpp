// Shared slabs, simpler experts, shared banks, and what is refused.
#include "GraphText.h"
#include "Planted.h"

#include "moec/Transforms/Compress/Rewrite.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "gtest/gtest.h"

using namespace moec;
using namespace moec::test;

namespace {

struct Rewrites : testing::Test {
  mlir::MLIRContext context;
  std::mt19937 random{20260809};
  Planted planted = Planted::random(random);
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::vector<reference::Array> inputs{randomArray({20, planted.hidden}, random)};
  std::string said;

  void load() { module = parse(planted.module(), context); }
  moe::RoutedLayer layer(size_t i = 0) { return moe::collectRoutedLayers(*module)[i]; }
  // Runs `change`, which has to fail, and gives what it said.
  std::string refusal(llvm::function_ref<mlir::LogicalResult()> change) {
    said.clear();
    std::string before = text();
    mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
      said += diagnostic.str();
      return mlir::success();
    });
    EXPECT_TRUE(mlir::failed(change()));
    EXPECT_EQ(before, text()) << "a refusal changes nothing";
    return said;
  }
  std::string text() {
    std::string out;
    llvm::raw_string_ostream(out) << *module;
    return out;
  }
};

TEST_F(Rewrites, TwinsShareASlab) {
  // Expert 5 is expert 2 again.
  int64_t n = planted.inter * planted.hidden;
  for (auto *v : {&planted.up, &planted.down})
    std::copy_n(v->begin() + 2 * n, n, v->begin() + 5 * n);
  std::copy_n(planted.downBias.begin() + 2 * planted.hidden, planted.hidden,
              planted.downBias.begin() + 5 * planted.hidden);
  load();
  auto before = evaluate(*module, inputs);
  moe::RoutedLayer of = layer();
  llvm::SmallVector<mlir::Value> parameters;
  for (moe::WeightBindOp bind : bankParameters(of.bank))
    parameters.push_back(bind.getValue());
  ASSERT_EQ(parameters.size(), 3u) << "up, down, down_bias";
  ASSERT_TRUE(mlir::succeeded(aliasExperts(of, {0, 1, 2, 3, 4, 2, 6, 7}, parameters)));
  cleanUp(*module);
  ASSERT_TRUE(mlir::succeeded(mlir::verify(*module)));
  EXPECT_EQ(of.bank.getNumSlabs(), 7) << "the slab of expert 5 went";
  EXPECT_EQ(of.bank.getSlab(5), 2);
  EXPECT_EQ(of.bank.getSlab(7), 6);
  EXPECT_EQ(before, evaluate(*module, inputs));
  // Dropping a twin keeps the slab, dropping both does not.
  ASSERT_TRUE(mlir::succeeded(keepExperts(of, {0, 1, 3, 4, 5, 6, 7})));
  EXPECT_EQ(of.bank.getNumSlabs(), 7);
  ASSERT_TRUE(mlir::succeeded(keepExperts(of, {0, 1, 2, 3, 5, 6})));
  EXPECT_EQ(of.bank.getNumSlabs(), 6);
  EXPECT_TRUE(mlir::succeeded(mlir::verify(*module)));
}

TEST_F(Rewrites, SimplerExperts) {
  load();
  moe::RoutedLayer of = layer();
  ASSERT_TRUE(mlir::succeeded(replaceExperts(of, {1, 4}, "zero")));
  ASSERT_TRUE(mlir::succeeded(replaceExperts(of, {6}, "identity")));
  auto type = mlir::RankedTensorType::get({2, 4}, mlir::Float32Type::get(&context));
  mlir::OpBuilder builder = weightBuilder(*module);
  auto rows = mlir::DenseElementsAttr::get(type, {1.f, 2.f, 3.f, 4.f, 5.f, 6.f, 7.f, 8.f});
  mlir::Value constants = moe::WeightLiteralOp::create(builder, module->getLoc(), type, rows);
  ASSERT_TRUE(mlir::succeeded(replaceExperts(of, {0, 7}, "constant", constants)));
  cleanUp(*module);
  ASSERT_TRUE(mlir::succeeded(mlir::verify(*module)));
  EXPECT_EQ(of.bank.getNumSlabs(), 3);
  // The same layer by numbers.
  Planted same = planted;
  int64_t n = planted.inter * planted.hidden, h = planted.hidden;
  for (int64_t e : {1, 4, 0, 7}) {
    std::fill_n(same.down.begin() + e * n, n, 0.f);
    std::fill_n(same.downBias.begin() + e * h, h, 0.f);
  }
  for (int64_t i = 0; i < h; ++i) {
    same.downBias[i] = float(i + 1);
    same.downBias[7 * h + i] = float(i + 5);
  }
  auto tokens = planted.tokens(random, 20);
  reference::Array x;
  x.shape = {20, h};
  std::vector<float> expected;
  Planted identity = same; // relu(x) and relu(-x) need twice the width: expert 6 is left out
  std::vector<int64_t> without{0, 1, 2, 3, 4, 5, 7};
  ASSERT_TRUE(mlir::succeeded(keepExperts(of, without)));
  for (const auto &row : tokens)
    x.data.insert(x.data.end(), reinterpret_cast<const char *>(row.data()),
                  reinterpret_cast<const char *>(row.data() + h));
  for (const auto &row : identity.run(tokens, without))
    expected.insert(expected.end(), row.begin(), row.end());
  EXPECT_LT(difference(evaluate(*module, {x}), {expected}), 1e-5);
  // A constant goes with its row.
  ASSERT_TRUE(mlir::succeeded(keepExperts(of, {1, 2, 3, 6})));
  cleanUp(*module);
  ASSERT_TRUE(mlir::succeeded(mlir::verify(*module)));
  EXPECT_EQ(of.bank.getConstant(of.bank.getExperts()), 1);
  std::vector<float> fewer;
  for (const auto &row : same.run(tokens, {1, 2, 3, 7}))
    fewer.insert(fewer.end(), row.begin(), row.end());
  EXPECT_LT(difference(evaluate(*module, {x}), {fewer}), 1e-5);
}

TEST_F(Rewrites, LayersOfOneBankPart) {
  load();
  auto main = *module->getOps<mlir::func::FuncOp>().begin();
  auto experts = layer().experts;
  mlir::OpBuilder builder(experts);
  builder.setInsertionPointAfter(experts);
  auto again = llvm::cast<moe::ExpertsOp>(builder.clone(*experts));
  auto route = llvm::cast<moe::RouteOp>(builder.clone(*layer().router));
  route->moveBefore(again);
  again->setOperand(0, experts.getResult());
  again->setOperand(1, route.getIds());
  again->setOperand(2, route.getWeights());
  main.front().getTerminator()->setOperand(0, again.getResult());
  auto before = evaluate(*module, inputs);
  ASSERT_EQ(layer(1).name, "layer0#2");
  moe::RoutedLayer second = layer(1);
  ASSERT_TRUE(mlir::succeeded(keepExperts(second, {0, 1, 2, 3, 4, 5, 6})));
  cleanUp(*module);
  ASSERT_TRUE(mlir::succeeded(mlir::verify(*module)));
  EXPECT_EQ(layer(0).name, "layer0");
  EXPECT_EQ(layer(1).name, "layer0#2") << "names stay";
  EXPECT_EQ(layer(0).bank.getExperts(), 8u);
  EXPECT_EQ(layer(1).bank.getExperts(), 7u);
}

TEST_F(Rewrites, WhatCannotBeDropped) {
  load();
  moe::RoutedLayer of = layer();
  EXPECT_NE(refusal([&] { return keepExperts(of, {3}); }).find("each token takes 2"),
            std::string::npos);
  EXPECT_NE(refusal([&] { return keepExperts(of, {3, 8}); }).find("keeps expert 8 of 8"),
            std::string::npos);
  EXPECT_NE(refusal([&] { return keepExperts(of, {3, 3, 4}); }).find("have to rise"),
            std::string::npos);
  EXPECT_NE(refusal([&] { return replaceExperts(of, {9}, "zero"); }).find("expert 9 of 8"),
            std::string::npos);
  EXPECT_NE(refusal([&] { return replaceExperts(of, {1}, "half"); }).find("\"half\""),
            std::string::npos);
  EXPECT_NE(refusal([&] { return aliasExperts(of, {0, 1}, {}); }).find("8 experts"),
            std::string::npos);
  // Ids that an input gives.
  auto main = *module->getOps<mlir::func::FuncOp>().begin();
  (void)main.insertArgument(1, of.experts.getIds().getType(), {}, main.getLoc());
  of.experts->setOperand(1, main.getArgument(1));
  of = layer();
  EXPECT_NE(refusal([&] { return keepExperts(of, {0, 1}); }).find("unsupported"),
            std::string::npos);
}

} // namespace
