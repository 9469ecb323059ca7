// The dialects' C++ interface: accessors, builders, look-ups.
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include "llvm/Support/raw_ostream.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace moec;

namespace {

struct Dialects : testing::Test {
  Dialects() { context.loadDialect<onnx::OnnxDialect, moe::MoEDialect, func::FuncDialect>(); }

  OwningOpRef<ModuleOp> parse(StringRef text) {
    return parseSourceString<ModuleOp>(text, ParserConfig(&context));
  }
  template <typename Op>
  Op first(ModuleOp module) {
    Op found;
    module.walk([&](Op op) { found = found ? found : op; });
    return found;
  }
  static std::string text(Attribute attribute) {
    std::string out;
    llvm::raw_string_ostream(out) << attribute;
    return out;
  }

  MLIRContext context;
};

constexpr StringRef kBank = R"mlir(
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<6x8x4xf32>
    %1 = moe.weight.load "w.bin" at 768 : tensor<6x4x8xf32>
    moe.weight.bind @up %0 : tensor<6x8x4xf32>
    moe.weight.bind @down %1 : tensor<6x4x8xf32>
  }
  moe.bank @plain experts(6) hidden(4) inter(8)
      body(#moe.ffn<gated = false, activation = "relu">) up(@up) down(@down)
  moe.bank @mapped experts(3) hidden(4) inter(8)
      body(#moe.ffn<gated = false, activation = "relu">) up(@up) down(@down)
      slabs([5, -1, 2]) storage(["dense", "zero", "dense"]) widths([8, 8, 3])
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x6xf32>, %i: tensor<?x2xi32>, %k: tensor<i64>) {
    %0, %1 = moe.select %p, %i {kind = "external"}
        : (tensor<?x6xf32>, tensor<?x2xi32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %2 = moe.experts @plain(%x, %0, %1)
        : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
    return
  }
)mlir";

TEST_F(Dialects, BankOwnsItsRowsUnlessMapped) {
  auto module = parse(kBank);
  ASSERT_TRUE(module);
  moe::BankOp plain = moe::findBank(*module, "plain"), mapped = moe::findBank(*module, "mapped");
  ASSERT_TRUE(plain && mapped);
  EXPECT_EQ(plain.getSlab(4), 4);
  EXPECT_EQ(plain.getNumSlabs(), 6);
  EXPECT_EQ(plain.getExpertStorage(4), "dense");
  EXPECT_EQ(plain.getWidth(4), 8);
  EXPECT_EQ(mapped.getSlab(0), 5);
  EXPECT_EQ(mapped.getSlab(1), -1);
  EXPECT_EQ(mapped.getNumSlabs(), 6);
  EXPECT_EQ(mapped.getExpertStorage(1), "zero");
  EXPECT_EQ(mapped.getWidth(2), 3);
}

TEST_F(Dialects, LookUpsFindNamesFromAnywhere) {
  auto module = parse(kBank);
  ASSERT_TRUE(module);
  auto experts = first<moe::ExpertsOp>(*module);
  EXPECT_EQ(moe::findBank(experts, experts.getBank()), moe::findBank(*module, "plain"));
  EXPECT_EQ(moe::findWeights(experts), moe::findWeights(*module));
  EXPECT_TRUE(moe::findBind(experts, "up"));
  EXPECT_FALSE(moe::findBind(experts, "gate"));
  EXPECT_FALSE(moe::findBank(experts, "weights"));
}

TEST_F(Dialects, OperandsAreToldApartByTheirTypes) {
  auto module = parse(kBank);
  ASSERT_TRUE(module);
  auto select = first<moe::SelectOp>(*module);
  EXPECT_TRUE(select.getExternalIds());
  EXPECT_FALSE(select.getWeightScores());
  EXPECT_FALSE(select.getCount());
  auto experts = first<moe::ExpertsOp>(*module);
  EXPECT_EQ(experts.getIds(), select.getIds());
  EXPECT_EQ(experts.getWeights(), select.getWeights());

  OpBuilder b(experts);
  Value x = experts.getX(), scores = select.getScores();
  auto dense = moe::ExpertsOp::create(b, experts.getLoc(), x.getType(), experts.getBankAttr(), x,
                                      Value(), scores);
  EXPECT_FALSE(dense.getIds());
  EXPECT_EQ(dense.getWeights(), scores);
  EXPECT_EQ(dense.getCombine(), "sum");
}

TEST_F(Dialects, NumbersOfAttributesPrintExactly) {
  for (double value : {0.1, 1.702, 1e-20, 1e300, 7.0, 1.0 / 3, 123456789.0}) {
    auto router = moe::RouterAttr::get(&context, moe::RouterScore::Sigmoid, 2,
                                       moe::RouterRenorm::Sum, /*epsilon=*/value);
    auto back = dyn_cast_or_null<moe::RouterAttr>(parseAttribute(text(router), &context));
    ASSERT_TRUE(back) << text(router);
    EXPECT_EQ(back.getEpsilon(), value) << text(router);
    EXPECT_EQ(back, router);
  }
  EXPECT_EQ(text(moe::RouterAttr::get(&context, moe::RouterScore::Softmax, 2)),
            "#moe.router<score = softmax, k = 2>");
}

TEST_F(Dialects, ElementTypesHaveOnnxCodes) {
  for (int64_t code : {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16})
    EXPECT_EQ(onnx::typeCode(onnx::typeOfCode(code, &context)), code);
  EXPECT_FALSE(onnx::typeOfCode(8, &context)); // strings
  EXPECT_EQ(onnx::typeCode(IntegerType::get(&context, 4)), 0);
}

TEST_F(Dialects, CustomOpsHaveTheirNodesAttributes) {
  auto module = parse(R"mlir(
    func.func @main(%x: tensor<4xf32>) {
      %0 = onnx.custom(%x) {attributes = {k = 2 : i64}, domain = "a", op_type = "B"}
          : (tensor<4xf32>) -> tensor<4xf32>
      return
    }
  )mlir");
  ASSERT_TRUE(module);
  auto op = first<onnx::CustomOp>(*module);
  EXPECT_EQ(op.getNodeAttributes().size(), 1u);
  op->removeAttr("attributes");
  EXPECT_TRUE(op.getNodeAttributes().empty());
}

} // namespace
