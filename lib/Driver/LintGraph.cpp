#include "Lint.h"

#include "moec/Codegen/Host/Host.h"
#include "moec/Dialect/MoE/MoE.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringSet.h"

using namespace moec;

void moec::addFinding(Findings &findings, Finding::Severity severity, llvm::StringRef check,
                      mlir::Operation *op, const llvm::Twine &text) {
  auto [type, node] = nodeOf(op);
  findings.push_back({severity, check.str(), {node, type, text.str()}});
}

namespace {

bool isSoftmax(mlir::Value v) {
  for (mlir::Operation *op = v.getDefiningOp(); op; op = op->getOperand(0).getDefiningOp()) {
    llvm::StringRef name = op->getName().getStringRef();
    if (name == "onnx.Softmax")
      return true;
    if (name != "onnx.Cast" && name != "onnx.Reshape" && name != "onnx.Identity")
      return false;
  }
  return false;
}

// The router's formula applies a softmax to what is a distribution already.
void findDoubleSoftmax(mlir::ModuleOp module, Findings &findings) {
  module.walk([&](moe::RouteOp route) {
    bool again = route.getRouter().getScore() == moe::RouterScore::Softmax ||
                 route.getRouter().getRenorm() == moe::RouterRenorm::Softmax;
    if (again && isSoftmax(route.getLogits()))
      addFinding(findings, Finding::warning, "double-softmax", route,
          "the router's input is a softmax already and is normalised once more: if the model was "
          "trained otherwise, its exporter is wrong");
  });
}

void findUnusedWeights(mlir::ModuleOp module, Findings &findings) {
  llvm::StringSet<> used;
  module.walk([&](mlir::Operation *op) {
    if (llvm::isa<moe::WeightBindOp>(op))
      return;
    for (mlir::NamedAttribute attr : op->getAttrs())
      attr.getValue().walk([&](mlir::FlatSymbolRefAttr ref) { used.insert(ref.getValue()); });
  });
  module.walk([&](moe::WeightBindOp bind) {
    if (!used.contains(bind.getSymName()))
      addFinding(findings, Finding::note, "unused-weight", bind,
          "weight \"" + bind.getSymName() + "\" is read by nothing");
  });
}

} // namespace

void moec::lintGraph(const Model &model, Findings &findings) {
  mlir::ModuleOp module = model.module();
  for (const auto &[op, why] : host::collectUnsupported(module))
    addFinding(findings, Finding::error, "unsupported-operator", op, why);
  for (const Message &message : model.remarks())
    if (!message.kind.empty())
      findings.push_back({Finding::warning, message.kind, message});
  findDoubleSoftmax(module, findings);
  findUnusedWeights(module, findings);
}
