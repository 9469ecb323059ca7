// insert-logit-hooks: see Passes.td.
#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Routing/Passes.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_INSERTLOGITHOOKS
#include "moec/Transforms/Routing/Passes.h.inc"

namespace {

// A softmax over experts or a sigmoid whose operand and result are [T, E]; else null.
Operation *scoreFunction(Value scores) {
  Operation *op = scores.getDefiningOp();
  if (!op)
    return nullptr;
  auto axis = op->getAttrOfType<IntegerAttr>("axis");
  bool last = !axis || axis.getInt() == -1 || axis.getInt() == 1;
  bool known = onnxName(op) == "Sigmoid" || (onnxName(op) == "Softmax" && last);
  return known && op->getOperand(0).getType() == scores.getType() ? op : nullptr;
}

/// Where the hook of a layer goes, or why there is none.
struct Place {
  OpOperand *logits = nullptr, *bias = nullptr;
  int64_t k = 0;
  StringRef left;
};

Place placeOf(moe::RoutedLayer &layer) {
  Place p;
  if (!layer.router) {
    p.left = "its experts are not chosen by a router of the model";
    return p;
  }
  p.logits = &layer.router->getOpOperand(0);
  if (auto route = dyn_cast<moe::RouteOp>(layer.router)) {
    p.k = route.getRouter().getK();
    if (route.getBias())
      p.bias = &layer.router->getOpOperand(1);
  } else {
    auto select = cast<moe::SelectOp>(layer.router);
    StringRef kind = select.getKind();
    if (kind == "all" || kind == "external" || !select.getK()) {
      p.left = "its selection does not choose by logits";
      return p;
    }
    p.k = static_cast<int64_t>(*select.getK());
    Operation *score = scoreFunction(select.getScores());
    if (!score && select.getWeightScores() && (score = scoreFunction(select.getWeightScores())))
      p.bias = &layer.router->getOpOperand(0); // scores that something was added to
    if (score)
      p.logits = &score->getOpOperand(0);
    if (kind == "top_p" && (!score || p.bias))
      p.left = "its scores are probabilities of unknown origin";
  }
  if (p.logits->get().getDefiningOp<moe::LogitHookOp>())
    p.left = "another layer has hooked its router";
  else if (rankedType(p.logits->get()).isDynamicDim(1))
    p.left = "the number of its experts is not known";
  return p;
}

void insert(OpOperand &operand, moe::RoutedLayer &layer, int64_t k, bool maskOnly) {
  OpBuilder b(operand.getOwner());
  auto hook = moe::LogitHookOp::create(b, layer.experts.getLoc(), operand.get().getType(),
                                       operand.get(), b.getStringAttr(layer.name),
                                       b.getI64IntegerAttr(k),
                                       maskOnly ? b.getUnitAttr() : UnitAttr());
  operand.set(hook.getResult());
}

struct InsertLogitHooks : impl::InsertLogitHooksBase<InsertLogitHooks> {
  void runOnOperation() override {
    for (moe::RoutedLayer &layer : moe::collectRoutedLayers(getOperation())) {
      Place place = placeOf(layer);
      if (!place.left.empty()) {
        layer.experts.emitRemark("layer \"")
            << layer.name << "\" gets no routing hook: " << place.left;
        ++numLeft;
        continue;
      }
      insert(*place.logits, layer, place.k, false);
      if (place.bias)
        insert(*place.bias, layer, place.k, true);
      ++numHooks;
    }
  }
};

} // namespace
} // namespace moec
