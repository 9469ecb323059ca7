// raise-moe: see Passes.td.
#include "LayerProof.h"
#include "FusedNode.h"
#include "MoEOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Raise/Passes.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_RAISEMOE
#include "moec/Transforms/Raise/Passes.h.inc"

namespace {

using namespace raise;

// Tokens or slots as two axes [T, n].
Value flatRows(OnnxBuilder &b, Value v) {
  auto type = rankedType(v);
  return type.getRank() == 2 ? v : b.reshape(v, {-1, type.getShape().back()});
}

// The shape of a layer's result: the rows of x, or what its type says where it
// has other axes, such as [T, 1, hidden] for rows [T, hidden].
Value resultShape(OnnxBuilder &b, Value x, RankedTensorType type, int64_t hidden) {
  auto xType = rankedType(x);
  if (type.getShape().drop_back() != xType.getShape().drop_back() &&
      type.getNumDynamicDims() <= 1) {
    SmallVector<int64_t> dims;
    for (int64_t d : type.getShape())
      dims.push_back(ShapedType::isDynamic(d) ? -1 : d);
    return b.ints(dims);
  }
  SmallVector<int64_t> last(std::max<int64_t>(type.getRank() - xType.getRank(), 0), 1);
  last.push_back(hidden);
  return b.concat({b.shape(x, 0, xType.getRank() - 1), b.ints(last)}, 0);
}

struct RaiseMoE : impl::RaiseMoEBase<RaiseMoE> {
  using RaiseMoEBase::RaiseMoEBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    WeightSteps steps(module);
    BankBuilder banks(module, steps);
    for (auto func : module.getOps<func::FuncOp>()) {
      if (func.isExternal())
        continue;
      raiseFused(func.front(), banks, steps);
      if (!nodesOnly)
        raiseBlock(func.front(), banks);
    }
    steps.eraseDead();
  }

private:
  void raiseFused(Block &block, BankBuilder &banks, WeightSteps &steps) {
    for (Operation &op : llvm::make_early_inc_range(block)) {
      if (!isFusedMoE(&op))
        continue;
      std::string why;
      if (raiseFusedMoE(&op, banks, steps, why)) {
        ++numRaised;
        continue;
      }
      ++numRefused;
      if (remarks)
        op.emitRemark() << "moe-raise: refused because " << why << " at "
                        << describe(&op);
    }
  }

  void raiseBlock(Block &block, BankBuilder &banks) {
    Analysis analysis;
    analysis.run(block);
    std::vector<Layer> layers;
    llvm::DenseMap<Value, Refusal> refused;
    llvm::DenseSet<Value> proven;
    for (Expr *candidate : analysis.candidates()) {
      Refusal no;
      if (auto layer = prove(analysis, banks, candidate, no)) {
        layers.push_back(*layer);
        proven.insert(candidate->ids);
      } else {
        refused.insert({candidate->ids, no});
      }
    }
    report(analysis, proven, refused);
    Emission emission;
    for (Layer &layer : layers)
      emit(layer, banks, emission);
    // First what the layers replaced, so that few readers of the ids are left.
    llvm::DenseSet<Operation *> topks;
    for (auto &[ids, selected] : emission.selects)
      topks.insert(ids.getDefiningOp());
    eraseDeadOps(block, topks);
    for (auto &[ids, selected] : emission.selects)
      finishSelect(ids, selected);
    eraseDeadOps(block);
  }

  // What was made so far, and what took the place of what.
  struct Emission {
    llvm::MapVector<Value, Value> selects; // the top-k's ids -> the select's
    llvm::DenseMap<Value, Value> replaced;

    Value now(Value v) const {
      auto it = replaced.find(v);
      return it == replaced.end() ? v : it->second;
    }
    void replace(Value from, Value to) {
      from.replaceAllUsesWith(to);
      replaced[from] = to;
    }
  };

  // One remark for each routing no layer was proven for.
  void report(Analysis &analysis, const llvm::DenseSet<Value> &proven,
              llvm::DenseMap<Value, Refusal> &refused) {
    for (auto &[ids, routing] : analysis.routings()) {
      if (proven.contains(ids))
        continue;
      Refusal no;
      if (auto it = refused.find(ids); it != refused.end()) {
        no = it->second;
      } else {
        for (const Failure &f : analysis.failures(ids))
          if (!no.at || f.late) {
            no = {f.op, f.reason};
            if (f.late)
              break;
          }
      }
      if (!no.at)
        continue;
      ++numRefused;
      if (remarks)
        routing.topk->emitRemark() << "moe-raise: refused because " << no.reason
                                   << " at " << describe(no.at);
    }
  }

  // moe.select beside the top-k; its weights replace the top-k's values.
  Value selectIds(const Routing &r, Emission &emission) {
    auto it = emission.selects.find(r.ids);
    if (it != emission.selects.end())
      return it->second;
    OpBuilder builder(r.topk);
    OnnxBuilder b(builder, r.topk->getLoc());
    Value scores = r.topk->getOperand(0);
    auto [ids, values] = createSelect(b, flatRows(b, scores), r.k);
    auto type = rankedType(r.values);
    if (type.getRank() != 2) {
      Value rows = b.shape(scores, 0, type.getRank() - 1);
      values = b.reshapeLike(values, b.concat({rows, b.ints(r.k)}, 0), type);
    }
    emission.replace(r.values, values);
    emission.selects[r.ids] = ids;
    return ids;
  }

  // What still reads the top-k's own ids gets the select's.
  static void finishSelect(Value topkIds, Value ids) {
    if (topkIds.use_empty())
      return;
    OpBuilder builder(ids.getContext());
    builder.setInsertionPointAfter(topkIds.getDefiningOp());
    OnnxBuilder b(builder, topkIds.getLoc());
    auto type = rankedType(topkIds);
    Value wide = b.cast(ids, type.getElementType());
    if (type.getRank() != 2) {
      Value scores = topkIds.getDefiningOp()->getOperand(0);
      Value rows = b.shape(scores, 0, type.getRank() - 1);
      Value k = b.ints(type.getShape().back());
      wide = b.reshapeLike(wide, b.concat({rows, k}, 0), type);
    }
    topkIds.replaceAllUsesWith(wide);
  }

  void emit(Layer &layer, BankBuilder &banks, Emission &emission) {
    const Routing &r = *layer.routing;
    Value ids = selectIds(r, emission);
    Value x = emission.now(layer.x);
    Operation *at = layer.result.getDefiningOp();
    FlatSymbolRefAttr bank = banks.build(layer.ffn, layer.shape, at->getLoc());
    OpBuilder builder(at);
    OnnxBuilder b(builder, at->getLoc());
    auto type = rankedType(layer.result);
    Value w;
    for (Value factor : layer.weights) {
      Value rows = flatRows(b, emission.now(factor));
      w = w ? b.binary("Mul", w, b.cast(rows, rankedType(w).getElementType()))
            : rows;
    }
    if (layer.ffn.scale != 1.0)
      w = b.binary("Mul", w, b.scalar(rankedType(w).getElementType(),
                                      layer.ffn.scale));
    Value y = createExperts(b, bank, flatRows(b, x), ids, w);
    y = b.cast(y, type.getElementType());
    if (type.getRank() != 2) {
      y = b.reshapeLike(y, resultShape(b, x, type, layer.shape.hidden), type);
    } else if (y.getType() != type) {
      y = b.op("Identity", y, type);
    }
    if (layer.base)
      y = b.op("Add", {emission.now(layer.base), y}, type);
    emission.replace(layer.result, y);
    ++numRaised;
    if (remarks)
      mlir::emitRemark(r.topk->getLoc())
          << "moe-raise: raised " << layer.shape.experts << " experts, top "
          << r.k << ", as " << bank;
  }
};

} // namespace
} // namespace moec
