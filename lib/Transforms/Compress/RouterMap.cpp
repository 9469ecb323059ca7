#include "RouterMap.h"

#include "Refit.h"
#include "RepairOutput.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Prepare/WeightSteps.h"

using namespace moec;
using namespace moec::compress;

// The value behind ops that keep the rows of tokens as they are.
static mlir::Value behindViews(mlir::Value value) {
  while (mlir::Operation *op = value.getDefiningOp()) {
    llvm::StringRef name = onnxName(op);
    auto from = op->getNumOperands() > 0 ? rankedType(op->getOperand(0)) : nullptr;
    auto to = rankedType(value);
    bool rows = name == "Reshape" && from && to && from.getRank() > 0 && to.getRank() > 0 &&
                from.getShape().back() == to.getShape().back();
    if (name != "Cast" && name != "Identity" && !rows)
      break;
    value = op->getOperand(0);
  }
  return value;
}

static bool isOne(mlir::Operation *op, llvm::StringRef name) {
  auto attr = op->getAttrOfType<mlir::FloatAttr>(name);
  return !attr || attr.getValueAsDouble() == 1;
}

std::optional<RouterMap> RouterMap::find(const moe::RoutedLayer &layer, WeightEvaluator &weights,
                                         std::string &why) {
  auto route = llvm::dyn_cast_or_null<moe::RouteOp>(layer.router);
  if (!route) {
    why = "unsupported: its router is no moe.route";
    return std::nullopt;
  }
  RouterMap out;
  out.router = route.getRouter();
  int64_t experts = rankedType(route.getLogits()).getDimSize(1);
  out.summand = Eigen::RowVectorXf::Zero(experts);
  auto addVector = [&](mlir::Value vector) {
    std::vector<float> row = knownFloats(vector, weights);
    if (static_cast<int64_t>(row.size()) != experts)
      return false;
    out.summand += Eigen::Map<const Eigen::RowVectorXf>(row.data(), experts);
    return true;
  };
  mlir::Value at = behindViews(route.getLogits());
  while (onnxName(at.getDefiningOp()) == "Add" && addVector(at.getDefiningOp()->getOperand(1)))
    at = behindViews(at.getDefiningOp()->getOperand(0));
  mlir::Operation *op = at.getDefiningOp();
  bool gemm = onnxName(op) == "Gemm";
  bool plain = onnxName(op) == "MatMul" ||
               (gemm && intAttr(op, "transA", 0) == 0 && isOne(op, "alpha") && isOne(op, "beta") &&
                (op->getNumOperands() < 3 || !rankedType(op->getOperand(2)) ||
                 addVector(op->getOperand(2))));
  moe::ExpertsOp applied = layer.experts;
  if (!plain || behindViews(op->getOperand(0)) != behindViews(applied.getX())) {
    why = "unsupported: its logits are no matrix product of the experts' tokens with a weight";
    return std::nullopt;
  }
  out.product = op;
  out.turned = gemm && intAttr(op, "transB", 0) != 0;
  mlir::Value weight = op->getOperand(1);
  std::vector<float> numbers = knownFloats(weight, weights);
  int64_t hidden = moe::BankOp(layer.bank).getHidden();
  out.stored = rankedType(weight).getElementType();
  if (llvm::isa_and_nonnull<moe::WeightUseOp>(weight.getDefiningOp()))
    out.stored = storedFloat(WeightSteps(op->getParentOfType<mlir::ModuleOp>()).of(weight));
  if (static_cast<int64_t>(numbers.size()) != hidden * experts || !out.stored) {
    why = "unsupported: the weight of its router is not known, or not stored as floats";
    return std::nullopt;
  }
  if (out.turned)
    out.map = Eigen::Map<const Rows>(numbers.data(), experts, hidden).transpose();
  else
    out.map = Eigen::Map<const Rows>(numbers.data(), hidden, experts);
  if (route.getBias() && (out.bias = knownFloats(route.getBias(), weights)).empty()) {
    why = "unsupported: the bias of its router is not known before the model runs";
    return std::nullopt;
  }
  return out;
}

Rows RouterMap::logits(const Rows &x, const Rows &with) const {
  Rows z = x * with;
  z.rowwise() += summand;
  return z;
}

llvm::Expected<Picks> RouterMap::route(const Rows &x, const Rows &with) const {
  return routeTokens(router, logits(x, with), bias);
}

Rows RouterMap::missing(const Rows &x, const Rows &aim) const {
  Rows out = aim - logits(x, map);
  for (int64_t e = 0; e < out.cols(); ++e)
    if (!std::isfinite(summand(e)))
      out.col(e).setZero();
  return out;
}

llvm::Error RouterMap::replace(const moe::RoutedLayer &layer, const Rows &with) const {
  auto module = product->getParentOfType<mlir::ModuleOp>();
  mlir::OpBuilder weights = weightBuilder(module), builder(product);
  auto value = matrixWeight(weights, product->getLoc(), turned ? Rows(with.transpose()) : with,
                            stored, layer.name + ".router");
  if (!value)
    return value.takeError();
  WeightSteps steps(module);
  auto type = rankedType(product->getOperand(1));
  mlir::Value cast = steps.cast(*value, type.getElementType());
  product->setOperand(1, steps.use(builder, product->getLoc(),
                                   steps.bind(cast, layer.name + ".router")));
  return llvm::Error::success();
}
