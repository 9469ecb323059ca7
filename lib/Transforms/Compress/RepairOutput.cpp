#include "RepairOutput.h"

#include "Refit.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Prepare/WeightSteps.h"
#include "moec/Weights/Literal.h"

using namespace moec;
using namespace moec::compress;

std::string compress::whyNoOutput(moe::RoutedLayer &layer) {
  moe::ExpertsOp op = layer.experts;
  auto x = rankedType(op.getX()), y = rankedType(op.getResult());
  if (op.getCombine() != "sum")
    return "unsupported: the results of its slots stay apart";
  if (x.getRank() != 2 || y.getRank() != 2 || !llvm::isa<mlir::FloatType>(y.getElementType()))
    return "unsupported: its tokens are no vectors of floats";
  return "";
}

llvm::Expected<mlir::Value> compress::matrixWeight(mlir::OpBuilder &builder,
                                                   mlir::Location location, const Rows &matrix,
                                                   mlir::Type stored, llvm::StringRef name) {
  auto type = mlir::RankedTensorType::get({matrix.rows(), matrix.cols()}, stored);
  return makeLiteral(builder, location, type, name, [&](LiteralWriter &writer) {
    std::vector<char> bytes(static_cast<size_t>(matrix.size() * elementBytes(stored)));
    convertFloats(builder.getF32Type(), reinterpret_cast<const char *>(matrix.data()), stored,
                  bytes.data(), matrix.size());
    return writer.write(bytes);
  });
}

llvm::Error compress::addToOutput(moe::RoutedLayer &layer, llvm::StringRef by, const Rows &map,
                                  const Eigen::RowVectorXf &bias) {
  moe::ExpertsOp op = layer.experts;
  auto module = op->getParentOfType<mlir::ModuleOp>();
  mlir::Location location = op.getLoc();
  mlir::Type element = rankedType(op.getResult()).getElementType();
  mlir::OpBuilder builder(op);
  builder.setInsertionPointAfter(op);
  OnnxBuilder b(builder, location);
  mlir::Operation *last = op;
  mlir::Value sum = op.getResult();
  auto add = [&](mlir::Value term) {
    sum = b.op("Add", {sum, term}, op.getResult().getType());
    last = sum.getDefiningOp();
  };
  llvm::SmallPtrSet<mlir::Operation *, 2> ours;
  auto bound = [&](mlir::Value value, llvm::StringRef what) {
    WeightSteps steps(module);
    mlir::Value cast = steps.cast(value, element);
    return steps.use(builder, location, steps.bind(cast, (layer.name + ".repair_" + what).str()));
  };
  if (map.size() > 0) {
    mlir::OpBuilder weights = weightBuilder(module);
    mlir::Type stored =
        storedFloat(moe::findBind(layer.bank, *moe::BankOp(layer.bank).getDown()).getValue());
    auto value = matrixWeight(weights, location, map, stored ? stored : builder.getF32Type(),
                              layer.name + ".repair_map");
    if (!value)
      return value.takeError();
    mlir::Value use = bound(*value, "map");
    mlir::Value x = b.cast(op.getX(), element);
    mlir::Value product = b.op("MatMul", {x, use}, op.getResult().getType());
    add(product);
    ours.insert(sum.getDefiningOp());
  }
  auto type = mlir::RankedTensorType::get({bias.size()}, builder.getF32Type());
  auto dense = mlir::DenseElementsAttr::get(
      type, llvm::ArrayRef(bias.data(), static_cast<size_t>(bias.size())));
  add(bound(WeightSteps(module).literal(dense), "bias"));
  ours.insert(last);
  op.getResult().replaceAllUsesExcept(sum, ours);
  op->setAttr(kRepaired, builder.getStringAttr(by));
  return llvm::Error::success();
}
