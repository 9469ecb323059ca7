#include "Folder.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Weights/Literal.h"
#include "moec/Weights/Weights.h"

#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

#include <cstring>
#include <fstream>

using namespace moec;

namespace {

class Literal : public ::testing::Test {
protected:
  Literal() {
    context.loadDialect<moe::MoEDialect>();
    module = mlir::parseSourceString<mlir::ModuleOp>("moe.weights @weights {}", &context);
  }

  // Binds @w to a literal of f32 whose element i is i.
  llvm::Error bind(int64_t rows, int64_t columns, int64_t written) {
    auto weights = *module->getOps<moe::WeightsOp>().begin();
    auto builder = mlir::OpBuilder::atBlockEnd(&weights.getBody().front());
    auto type = mlir::RankedTensorType::get({rows, columns}, builder.getF32Type());
    auto fill = [&](LiteralWriter &writer) -> llvm::Error {
      for (int64_t row = 0; row < written; ++row) {
        std::vector<float> values;
        for (int64_t i = 0; i < columns; ++i)
          values.push_back(float(row * columns + i));
        if (llvm::Error error = writer.write(
                {reinterpret_cast<const char *>(values.data()), values.size() * sizeof(float)}))
          return error;
      }
      return llvm::Error::success();
    };
    auto made = makeLiteral(builder, module->getLoc(), type, "w", fill);
    if (!made)
      return made.takeError();
    moe::WeightBindOp::create(builder, module->getLoc(), "w", *made);
    return llvm::Error::success();
  }

  static void expectRow(mlir::ModuleOp module, int64_t row, int64_t columns) {
    WeightEvaluator evaluator(module, ".");
    llvm::SmallVector<char> out;
    ASSERT_EQ(llvm::toString(evaluator.rows("w", row, 1, out)), "");
    ASSERT_EQ(int64_t(out.size()), columns * 4);
    for (int64_t i = 0; i < columns; ++i) {
      float f;
      std::memcpy(&f, out.data() + 4 * i, 4);
      ASSERT_EQ(f, float(row * columns + i));
    }
  }

  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

TEST_F(Literal, GivesBackWhatWasWritten) {
  ASSERT_EQ(llvm::toString(bind(3, 500000, 3)), ""); // rows of more than a few pages
  for (int64_t row : {2, 0, 2})
    expectRow(*module, row, 500000);
}

int64_t peakKiB() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:"))
      return std::stoll(line.substr(6));
  return -1;
}

// 256 MiB are written and read row by row, of a few KiB or MiB.
TEST_F(Literal, TakesNoMemory) {
  for (int64_t rows : {30000, 64}) {
    int64_t columns = (64 << 20) / rows, before = peakKiB();
    ASSERT_EQ(llvm::toString(bind(rows, columns, rows)), "");
    WeightEvaluator evaluator(*module, ".");
    llvm::SmallVector<char> out;
    for (int64_t row = 0; row < rows; ++row)
      ASSERT_EQ(llvm::toString(evaluator.rows("w", row, 1, out)), "");
    EXPECT_LT(peakKiB() - before, 100 << 10) << rows;
  }
}

TEST_F(Literal, PrintsAndParses) {
  ASSERT_EQ(llvm::toString(bind(3, 5, 3)), "");
  ASSERT_TRUE(mlir::succeeded(module->verify()));
  std::string text;
  llvm::raw_string_ostream stream(text);
  module->print(stream); // `<<` leaves resources out
  EXPECT_NE(text.find("moe.weight.literal dense_resource<w> : tensor<3x5xf32>"), std::string::npos)
      << text;
  mlir::MLIRContext other;
  other.loadDialect<moe::MoEDialect>();
  auto again = mlir::parseSourceString<mlir::ModuleOp>(text, &other);
  ASSERT_TRUE(!!again);
  for (int64_t row = 0; row < 3; ++row)
    expectRow(*again, row, 5);
}

TEST_F(Literal, Errors) {
  EXPECT_EQ(llvm::toString(bind(3, 5, 2)), "a new weight is given fewer bytes than its type holds");
  EXPECT_EQ(llvm::toString(bind(3, 5, 4)), "a new weight is given more bytes than its type holds");
  auto unsupported = [&](mlir::Type element, int64_t dim) {
    auto writer = LiteralWriter::create(mlir::RankedTensorType::get({dim}, element));
    return llvm::StringRef(llvm::toString(writer.takeError())).starts_with("unsupported");
  };
  mlir::Builder b(&context);
  EXPECT_TRUE(unsupported(b.getI1Type(), 8));
  EXPECT_TRUE(unsupported(b.getIntegerType(4), 8));
  EXPECT_TRUE(unsupported(b.getF32Type(), mlir::ShapedType::kDynamic));
}

// A resource of another size than its type, or that is not there, is refused.
TEST_F(Literal, ResourcesAreChecked) {
  for (const char *resources : {"w: \"0x400000000000803F\"", "v: \"0x400000000000803F0000803F\""}) {
    std::string text = "moe.weights @weights {\n"
                       "  %0 = moe.weight.literal dense_resource<w> : tensor<2xf32>\n"
                       "  moe.weight.bind @w %0 : tensor<2xf32>\n}\n"
                       "{-# dialect_resources: { builtin: { " + std::string(resources) + "} } #-}";
    auto parsed = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    ASSERT_TRUE(!!parsed);
    WeightEvaluator evaluator(*parsed, ".");
    llvm::SmallVector<char> out;
    std::string error = llvm::toString(evaluator.rows("w", 0, 1, out));
    EXPECT_NE(error.find("has a resource that is missing"), std::string::npos) << error;
  }
}

} // namespace
