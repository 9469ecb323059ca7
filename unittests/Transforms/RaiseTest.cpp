// Raising and fusing keep the values of random layers, and leave nothing unraised.
#include "MoEGraph.h"
#include "gtest/gtest.h"

using namespace moec;
using namespace moec::test;

namespace {

constexpr const char *kPipeline =
    "fold-weights,raise-moe{remarks=false},canonicalize,cse,"
    "fuse-gating{remarks=false},canonicalize,cse,fold-weights";

class Raise : public testing::TestWithParam<Form> {};

TEST_P(Raise, KeepsValues) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    GraphText g(seed);
    LayerOptions options = randomOptions(g, GetParam());
    Typed x = g.argument(tensor({-1, options.hidden}));
    std::string text = g.module({layer(g, options, x)});
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + describe(options) + "\n" + text);
    mlir::MLIRContext context;
    auto module = parse(text, context);
    ASSERT_TRUE(module);
    std::vector<reference::Array> inputs{randomArray({g.between(0, 7), options.hidden}, g.random)};
    auto before = evaluate(*module, inputs);
    ASSERT_TRUE(run(*module, kPipeline));
    EXPECT_EQ(countOps(*module, "moe.experts"), 1);
    EXPECT_EQ(countOps(*module, "moe.route"), 1);
    EXPECT_EQ(countOps(*module, "onnx.TopK"), 0);
    EXPECT_LT(difference(before, evaluate(*module, inputs)), 1e-5);
    if (HasFailure())
      return;
  }
}

std::string formName(const testing::TestParamInfo<Form> &info) {
  static const char *const names[] = {"gathered", "grouped", "masked", "dense", "scattered"};
  return names[static_cast<int>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(Forms, Raise,
                         testing::Values(Form::gathered, Form::grouped, Form::masked, Form::dense,
                                         Form::scattered),
                         formName);

// Two layers over the same tokens, and a result that is used inside the next layer.
TEST(RaiseLayers, InARow) {
  for (unsigned seed = 100; seed < 110; ++seed) {
    GraphText g(seed);
    LayerOptions first = randomOptions(g, Form::grouped);
    LayerOptions second = randomOptions(g, Form::gathered);
    second.hidden = first.hidden;
    Typed x = g.argument(tensor({-1, first.hidden}));
    Typed y = g.one("Add", {x, layer(g, first, x)}, x.type);
    std::string text = g.module({g.one("Add", {y, layer(g, second, y)}, x.type)});
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + describe(first) + "; " + describe(second));
    mlir::MLIRContext context;
    auto module = parse(text, context);
    ASSERT_TRUE(module);
    std::vector<reference::Array> inputs{randomArray({5, first.hidden}, g.random)};
    auto before = evaluate(*module, inputs);
    ASSERT_TRUE(run(*module, kPipeline));
    EXPECT_EQ(countOps(*module, "moe.experts"), 2);
    EXPECT_LT(difference(before, evaluate(*module, inputs)), 1e-5);
  }
}

} // namespace
