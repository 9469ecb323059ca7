// fuse-gating: see Passes.td.
#include "RouterFormula.h"
#include "VariableCount.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Routing/Passes.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_FUSEGATING
#include "moec/Transforms/Routing/Passes.h.inc"

namespace {

using routing::Formula;

moe::RouterAttr routerAttr(MLIRContext *context, const Formula &f) {
  auto score = f.score == Formula::Softmax   ? moe::RouterScore::Softmax
               : f.score == Formula::Sigmoid ? moe::RouterScore::Sigmoid
                                             : moe::RouterScore::Identity;
  auto renorm = f.renorm == Formula::Sum ? moe::RouterRenorm::Sum
                : f.renorm == Formula::SoftmaxChosen
                    ? moe::RouterRenorm::Softmax
                : f.renorm == Formula::SigmoidChosen
                    ? moe::RouterRenorm::Sigmoid
                    : moe::RouterRenorm::None;
  auto group = f.top2 ? moe::GroupScore::Top2 : moe::GroupScore::Max;
  return moe::RouterAttr::get(context, score, f.k, f.groups, f.groupK, group, renorm,
                              moe::Real(f.epsilon), moe::Real(f.minimum), moe::Real(f.scale));
}

// Rows of the last axis as two axes.
Value flatRows(OnnxBuilder &b, Value v) {
  auto type = rankedType(v);
  return type.getRank() == 2 ? v : b.reshape(v, {-1, type.getShape().back()});
}

struct FuseGating : impl::FuseGatingBase<FuseGating> {
  using FuseGatingBase::FuseGatingBase;

  void runOnOperation() override {
    SmallVector<Operation *> selects;
    getOperation()->walk([&](Operation *op) {
      if (op->getName().getStringRef() == "moe.select")
        selects.push_back(op);
    });
    SetVector<Block *> blocks;
    for (Operation *select : selects) {
      if (auto count = routing::matchVariableCount(select)) {
        blocks.insert(select->getBlock());
        fuseCount(select, *count);
        continue;
      }
      Formula formula;
      std::string why;
      if (!routing::matchFormula(select, formula, why)) {
        ++numLeft;
        if (remarks)
          select->emitRemark() << "moe-fuse: left because " << why;
        continue;
      }
      fuse(select, formula);
      blocks.insert(select->getBlock());
    }
    for (Block *block : blocks)
      eraseDeadOps(*block);
  }

private:
  void fuse(Operation *select, const Formula &f) {
    OpBuilder builder(select);
    OnnxBuilder b(builder, select->getLoc());
    Value logits = flatRows(b, f.logits);
    auto type = rankedType(f.weights);
    int64_t tokens = rankedType(logits).getDimSize(0);
    OperationState state(select->getLoc(), "moe.route");
    state.addOperands(logits);
    if (f.bias)
      state.addOperands(flatBias(b, f.bias));
    state.addTypes(
        {select->getResult(0).getType(),
         RankedTensorType::get({tokens, f.k}, builder.getF32Type())});
    state.addAttribute("router", routerAttr(builder.getContext(), f));
    Operation *route = builder.create(state);

    // In front of the first reader: the shape is known there.
    if (Operation *last = f.weights.getDefiningOp(); last != select)
      builder.setInsertionPointAfter(last);
    Value weights = b.cast(route->getResult(1), type.getElementType());
    if (f.shape)
      weights = b.reshapeLike(weights, f.shape, type);
    else if (weights.getType() != type)
      weights = b.op("Identity", weights, type);
    Value old = f.weights;
    old.replaceAllUsesWith(weights);
    select->getResult(0).replaceAllUsesWith(route->getResult(0));
    ++numFused;
    if (remarks) {
      InFlightDiagnostic remark = select->emitRemark();
      auto router = routerAttr(builder.getContext(), f);
      remark << "moe-fuse: fused " << stringifyRouterScore(router.getScore())
             << " scores, top " << f.k << ", renormalisation "
             << stringifyRouterRenorm(router.getRenorm());
      if (f.groups > 1)
        remark << ", in the best " << f.groupK << " of " << f.groups << " groups";
      if (f.bias)
        remark << ", selection bias";
      if (f.scale != 1)
        remark << ", scale " << f.scale;
    }
  }

  // The selection itself empties the slots that fall out.
  void fuseCount(Operation *select, const routing::VariableCount &count) {
    OpBuilder builder(select);
    bool topP = count.kind == routing::VariableCount::TopP;
    Operation *chosen = builder.clone(*select);
    chosen->setAttr("kind", builder.getStringAttr(topP ? "top_p" : "threshold"));
    chosen->setAttr(topP ? "p" : "threshold", builder.getF64FloatAttr(count.bound));
    Value weights = count.weights;
    weights.replaceAllUsesWith(chosen->getResult(1));
    select->getResult(0).replaceAllUsesWith(chosen->getResult(0));
    ++numFused;
    if (remarks)
      select->emitRemark() << "moe-fuse: fused a selection by "
                           << (topP ? "top-p, p = " : "a threshold, ") << count.bound;
  }

  // [E] from a constant with leading unit axes.
  static Value flatBias(OnnxBuilder &b, Value bias) {
    auto type = rankedType(bias);
    return type.getRank() == 1 ? bias : b.reshape(bias, {-1});
  }
};

} // namespace
} // namespace moec
