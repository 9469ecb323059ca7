// A router's formula in words, for `inspect`: "sigmoid + bias, top-2, renormalised, x 2.5".
#include "Layers.h"

#include "moec/Dialect/MoE/MoE.h"

#include "llvm/Support/FormatVariadic.h"

#include <cstdio>

using namespace moec;

namespace {

llvm::StringRef nameOf(mlir::Operation *op) {
  return op ? op->getName().getStringRef() : llvm::StringRef();
}

// The op behind ops that change the form of a tensor only.
mlir::Operation *behindViews(mlir::Value v) {
  static constexpr llvm::StringLiteral views[] = {
      "onnx.Cast",    "onnx.Reshape",   "onnx.Identity",  "onnx.Squeeze",
      "onnx.Unsqueeze", "onnx.Flatten", "onnx.Transpose"};
  mlir::Operation *op = v.getDefiningOp();
  while (op && llvm::is_contained(views, nameOf(op)))
    op = op->getOperand(0).getDefiningOp();
  return op;
}

// What scores are made by, as far as the last two steps say.
std::string scoreText(mlir::Value scores) {
  mlir::Operation *op = behindViews(scores);
  llvm::StringRef name = nameOf(op);
  if (name == "onnx.Softmax")
    return "softmax";
  if (name == "onnx.Sigmoid")
    return "sigmoid";
  if (name == "onnx.Add")
    for (mlir::Value part : op->getOperands())
      if (std::string text = scoreText(part); text == "softmax" || text == "sigmoid")
        return text + " + bias";
  return "scores";
}

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", v);
  return text;
}

std::string topText(int64_t k, int64_t groups, int64_t groupK, bool top2) {
  std::string text = ", top-" + std::to_string(k);
  if (groups > 1 && groupK < groups)
    text += llvm::formatv(" in the best {0} of {1} groups ({2})", groupK, groups,
                          top2 ? "sum of two" : "largest");
  return text;
}

std::string routeText(moe::RouteOp route) {
  moe::RouterAttr r = route.getRouter();
  std::string text = r.getScore() == moe::RouterScore::Identity
                         ? scoreText(route.getLogits())
                         : moe::stringifyRouterScore(r.getScore()).str();
  if (text == "scores" && r.getRenorm() == moe::RouterRenorm::Softmax)
    text = "logits";
  text += route.getBias() ? " + bias" : "";
  text += topText(r.getK(), r.getGroups(), r.getGroupK(),
                  r.getGroupScore() == moe::GroupScore::Top2);
  switch (r.getRenorm()) {
  case moe::RouterRenorm::None:
    break;
  case moe::RouterRenorm::Sum:
    text += ", renormalised";
    if (r.getEpsilon() != 0)
      text += " (+ " + number(r.getEpsilon()) + ")";
    if (r.getMinimum() != 0)
      text += " (at least " + number(r.getMinimum()) + ")";
    break;
  case moe::RouterRenorm::Softmax:
    text += ", softmax over the chosen";
    break;
  case moe::RouterRenorm::Sigmoid:
    text += ", sigmoid of the chosen";
    break;
  }
  if (r.getScale() != 1)
    text += ", x " + number(r.getScale());
  return text;
}

std::string selectText(moe::SelectOp select) {
  llvm::StringRef kind = select.getKind();
  if (kind == "external")
    return "given ids";
  std::string text = scoreText(select.getScores());
  if (kind == "all")
    return text + ", all experts";
  auto k = static_cast<int64_t>(select.getK().value_or(0));
  if (kind == "top_p")
    text += ", top-p " + number(select.getP()->convertToDouble()) + ", at most " +
            std::to_string(k);
  else if (kind == "threshold")
    text += ", from " + number(select.getThreshold()->convertToDouble()) + " on, at most " +
            std::to_string(k);
  else
    text += topText(k, static_cast<int64_t>(select.getGroups().value_or(1)),
                    static_cast<int64_t>(select.getGroupK().value_or(1)),
                    select.getGroupScore() == "top2");
  return text + (select.getCount() ? ", k at run time" : "");
}

std::string chooserText(mlir::Operation *op) {
  if (auto route = llvm::dyn_cast<moe::RouteOp>(op))
    return routeText(route);
  if (auto select = llvm::dyn_cast<moe::SelectOp>(op))
    return selectText(select);
  return "";
}

// Where ids come from that are not a router's own.
std::string sourceText(mlir::Operation *op) {
  std::string found = "ids by " + op->getName().stripDialect().str();
  llvm::SmallVector<mlir::Operation *> todo{op};
  for (size_t i = 0; i < todo.size() && i < 16; ++i) {
    if (std::string text = chooserText(todo[i]); !text.empty())
      return found + " (" + text + ")";
    if (nameOf(todo[i]) == "onnx.Gather" || nameOf(todo[i]) == "onnx.GatherND")
      return "ids from a table";
    bool sized = nameOf(todo[i]) == "onnx.Expand" || nameOf(todo[i]) == "onnx.Slice";
    mlir::OperandRange operands = todo[i]->getOperands();
    for (mlir::Value operand : sized ? operands.take_front(1) : operands) {
      auto type = llvm::dyn_cast<mlir::RankedTensorType>(operand.getType());
      if (!type || !type.getElementType().isInteger() || type.getElementType().isInteger(1))
        continue;
      if (mlir::Operation *def = behindViews(operand))
        todo.push_back(def);
      else
        return "given ids";
    }
  }
  return found;
}

} // namespace

std::string moec::routerText(mlir::Value ids, mlir::Value weights) {
  if (!ids) {
    mlir::Operation *op = weights ? behindViews(weights) : nullptr;
    std::string score = weights ? scoreText(weights) : "scores";
    if (score != "scores")
      return "dense, " + score;
    return op ? "dense, weights by " + op->getName().stripDialect().str()
              : "dense, given weights";
  }
  mlir::Operation *op = behindViews(ids);
  if (!op)
    return "given ids";
  std::string text = chooserText(op);
  if (text.empty())
    return sourceText(op);
  mlir::Operation *by = weights ? behindViews(weights) : nullptr;
  if (by != op)
    text += by ? ", weights by " + by->getName().stripDialect().str() : ", given weights";
  return text;
}
