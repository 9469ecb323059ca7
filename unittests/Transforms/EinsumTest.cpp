// Einsum written out keeps the values of random equations.
#include "GraphText.h"
#include "gtest/gtest.h"
#include <algorithm>
#include <map>

using namespace moec;
using namespace moec::test;

namespace {

struct Case {
  std::string equation, text;
  std::vector<reference::Array> inputs;
};

// One to three operands of up to four labels; sizes are 0 (rarely) to 3, known or not.
Case randomCase(unsigned seed) {
  GraphText g(seed);
  const std::string letters = "abcdE";
  std::map<char, int64_t> sizes;
  for (char c : letters)
    sizes[c] = g.between(0, 40) == 0 ? 0 : g.between(1, 3);
  Case made;
  std::string seen;
  std::vector<Typed> operands;
  for (int64_t i = 0, n = g.between(1, 3); i < n; ++i) {
    std::string labels = letters;
    std::shuffle(labels.begin(), labels.end(), g.random);
    labels.resize(static_cast<size_t>(g.between(1, 4)));
    made.equation += (i ? ", " : "") + labels;
    std::vector<int64_t> shape, real;
    for (char c : labels) {
      real.push_back(sizes[c]);
      shape.push_back(g.coin() ? -1 : sizes[c]);
      if (seen.find(c) == std::string::npos)
        seen += c;
    }
    operands.push_back(g.argument(tensor(shape)));
    made.inputs.push_back(randomArray(real, g.random));
  }
  std::string result = seen;
  std::shuffle(result.begin(), result.end(), g.random);
  result.resize(static_cast<size_t>(g.between(0, static_cast<int64_t>(result.size()))));
  made.equation += " -> " + result;
  std::string type = "tensor<" + std::string(2 * result.size(), '?') + "f32>";
  for (size_t i = 0; i < result.size(); ++i)
    type[7 + 2 * i + 1] = 'x';
  made.text = g.module({g.one("Einsum", operands, type, "equation = \"" + made.equation + "\"")});
  return made;
}

TEST(Einsum, WrittenOut) {
  for (unsigned seed = 0; seed < 400; ++seed) {
    Case c = randomCase(seed);
    SCOPED_TRACE("seed " + std::to_string(seed) + "\n" + c.text);
    mlir::MLIRContext context;
    auto module = parse(c.text, context);
    ASSERT_TRUE(module);
    auto before = evaluate(*module, c.inputs);
    ASSERT_TRUE(run(*module, "decompose-onnx,canonicalize,cse"));
    EXPECT_EQ(countOps(*module, "onnx.Einsum"), 0);
    EXPECT_LT(difference(before, evaluate(*module, c.inputs)), 1e-5);
    if (HasFailure())
      return;
  }
}

// Ellipses, diagonals and axes that broadcast; every size known, then only those of diagonals.
TEST(Einsum, EllipsesAndDiagonals) {
  struct Given {
    const char *equation;
    std::vector<std::vector<int64_t>> shapes;
    int rank;
  };
  const Given all[] = {{"...ii -> ...i", {{3, 5, 5}}, 2},
                       {"ii", {{4, 4}}, 0},
                       {"iij, i... -> j...", {{2, 2, 3}, {2, 4}}, 2},
                       {"...ij, ...jk", {{2, 1, 3, 4}, {5, 4, 2}}, 4},
                       {"i..., ...j -> j...i", {{3, 2, 1}, {4, 5}}, 4},
                       {"ij, ij -> ij", {{1, 3}, {2, 1}}, 2},
                       {"iiji -> j", {{3, 3, 2, 3}}, 1}};
  unsigned seed = 7;
  for (const Given &given : all)
    for (bool known : {true, false}) {
      GraphText g(seed);
      std::vector<Typed> operands;
      std::vector<reference::Array> inputs;
      bool diagonal = std::string(given.equation).find("ii") != std::string::npos;
      bool broadcasts = given.shapes.size() == 2 && !diagonal;
      if (!known && broadcasts)
        continue; // whether a size is 1 must be known
      for (std::vector<int64_t> shape : given.shapes) {
        inputs.push_back(randomArray(shape, g.random));
        if (!known && !diagonal)
          shape.assign(shape.size(), -1);
        operands.push_back(g.argument(tensor(shape)));
      }
      std::string type = "tensor<" + std::string(2 * given.rank, '?') + "f32>";
      for (int i = 0; i < given.rank; ++i)
        type[7 + 2 * i + 1] = 'x';
      std::string text = g.module({g.one("Einsum", operands, type,
                                         "equation = \"" + std::string(given.equation) + "\"")});
      SCOPED_TRACE(text);
      mlir::MLIRContext context;
      auto module = parse(text, context);
      ASSERT_TRUE(module);
      auto before = evaluate(*module, inputs);
      ASSERT_TRUE(run(*module, "decompose-onnx,canonicalize,cse"));
      EXPECT_EQ(countOps(*module, "onnx.Einsum"), 0);
      EXPECT_LT(difference(before, evaluate(*module, inputs)), 1e-5);
    }
}

} // namespace
