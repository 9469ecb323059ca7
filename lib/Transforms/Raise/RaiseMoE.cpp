// raise-moe: see Passes.td.
#include "LayerSearch.h"
#include "FusedNode.h"
#include "MergeWeights.h"
#include "RegionEmit.h"
#include "InputWeights.h"
#include "MoEOps.h"
#include "Pattern.h"
#include "Selection.h"
#include "SoftSlots.h"
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
    auto meaning = parseMoESemantics(semantics);
    if (!meaning) {
      module.emitError() << "raise-moe: semantics \"" << semantics
                         << "\" are unknown; known are schema, ort-cpu and ort-cuda";
      return signalPassFailure();
    }
    WeightSteps steps(module);
    BankBuilder banks(module, steps);
    for (auto func : module.getOps<func::FuncOp>())
      if (!func.isExternal())
        raiseIn(func.front(), banks, steps, *meaning);
    steps.eraseDead();
  }

private:
  // Inner graphs come last: a loop over experts, or experts behind an If, are a layer of this block.
  void raiseIn(Block &block, BankBuilder &banks, WeightSteps &steps, Semantics meaning) {
    raiseFused(block, banks, steps, meaning);
    if (!nodesOnly) {
      numRaised += raiseMergedExperts(block, banks, steps, remarks);
      for (auto raise : {raiseSoftSlots, raiseExpertChoice}) {
        RaiseCount count = raise(block, banks, remarks);
        numRaised += count.raised;
        numRefused += count.refused;
      }
      raiseBlock(block, banks);
    }
    for (Operation &op : block)
      for (Region &region : op.getRegions())
        for (Block &inner : region)
          raiseIn(inner, banks, steps, meaning);
  }

  void raiseFused(Block &block, BankBuilder &banks, WeightSteps &steps, Semantics meaning) {
    for (Operation &op : llvm::make_early_inc_range(block)) {
      if (!isFusedMoE(&op))
        continue;
      std::string why;
      if (raiseFusedMoE(&op, banks, steps, meaning, why)) {
        ++numRaised;
        continue;
      }
      ++numRefused;
      op.setAttr("moec.refused", StringAttr::get(op.getContext(), why));
      if (remarks)
        remarkRefused(&op, why, &op);
    }
  }

  void raiseBlock(Block &block, BankBuilder &banks) {
    Found found = findLayers(block, banks);
    report(*found.analysis, found.layers, found.refused);
    Emission emission;
    for (Layer &layer : found.layers)
      layer.pattern = patternOf(*found.analysis, layer);
    // Regions are copies of what the graph still holds.
    for (Layer &layer : found.layers)
      if (layer.region)
        layer.bank = banks.build(*layer.region, layer.result.getLoc(), layer.each);
    for (Layer &layer : found.layers) {
      if (layer.routing->external)
        selectBehind(*found.analysis, layer, emission);
      emit(layer, banks, emission);
    }
    // First what the layers replaced, so that few readers of the ids are left.
    llvm::DenseSet<Operation *> topks;
    for (auto &[ids, selected] : emission.selects) {
      topks.insert(ids.getDefiningOp());
      topks.insert(selected.getDefiningOp());
    }
    eraseDeadOps(block, topks);
    eraseForeign(found.layers);
    for (auto &[ids, selected] : emission.selects)
      finishSelect(ids, selected);
    eraseDeadOps(block);
  }

  // What was made so far, and what took the place of what.
  struct Emission {
    llvm::MapVector<Value, Value> selects; // the top-k's ids -> the select's
    llvm::DenseMap<Value, Value> given;    // external ids -> as [T, k] i32
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
  void report(Analysis &analysis, ArrayRef<Layer> layers,
              llvm::DenseMap<Value, Refusal> &refused) {
    llvm::DenseSet<Value> proven;
    llvm::SetVector<Operation *> behind; // what computes weights and ids
    for (const Layer &layer : layers) {
      proven.insert(layer.routing->ids);
      Operation *def = layer.routing->ids.getDefiningOp();
      if (def)
        behind.insert(def);
      for (Value w : layer.weights)
        if (Operation *made = w.getDefiningOp())
          behind.insert(made);
    }
    for (size_t i = 0; i < behind.size(); ++i)
      for (Value operand : behind[i]->getOperands())
        if (Operation *def = operand.getDefiningOp())
          behind.insert(def);
    for (auto &[ids, routing] : analysis.routings()) {
      bool other = !routing.topk || routing.topk->getBlock() != ids.getParentBlock();
      if (proven.contains(ids) || other || behind.contains(routing.topk))
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
        remarkRefused(routing.topk, no.reason, no.at, no.kind);
    }
  }

  // moe.select beside the top-k; its weights replace the top-k's values.
  Value selectIds(const Layer &layer, Emission &emission) {
    const Routing &r = *layer.routing;
    if (r.sequences) {
      OpBuilder builder(layer.result.getDefiningOp());
      OnnxBuilder b(builder, r.ids.getLoc());
      return idsOfSequences(b, r, emission.now(layer.x));
    }
    if (r.external) {
      Value &ids = emission.given[r.ids];
      if (!ids) {
        OpBuilder builder(r.ids.getContext());
        builder.setInsertionPointAfterValue(r.ids);
        OnnxBuilder b(builder, r.ids.getLoc());
        ids = givenIds(b, r);
      }
      return ids;
    }
    auto it = emission.selects.find(r.ids);
    if (it != emission.selects.end())
      return it->second;
    OpBuilder builder(r.topk);
    OnnxBuilder b(builder, r.topk->getLoc());
    auto [ids, values] = chosenExperts(b, r);
    if (r.values)
      emission.replace(r.values, likeScores(b, r.topk, values, rankedType(r.values)));
    emission.selects[r.ids] = ids;
    return ids;
  }

  // The top-ks that given ids come from choose experts as well.
  void selectBehind(Analysis &analysis, Layer &layer, Emission &emission) {
    SmallVector<Value> todo{layer.routing->ids};
    for (size_t i = 0; i < todo.size() && i < 16; ++i) {
      const Routing *r = analysis.routing(todo[i]);
      if (r && !r->external && !r->dense && r->k > 0 && i > 0) {
        Layer chosen;
        chosen.routing = r;
        selectIds(chosen, emission);
        continue;
      }
      Operation *def = todo[i].getDefiningOp();
      if (!def || def->getBlock() != layer.result.getParentBlock() || onnxName(def) == "TopK")
        continue;
      for (Value operand : def->getOperands())
        if (auto type = dyn_cast<RankedTensorType>(operand.getType());
            type && type.getElementType().isInteger() && type.getRank() > 0)
          todo.push_back(operand);
    }
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
    topkIds.replaceAllUsesWith(likeScores(b, topkIds.getDefiningOp(), wide, type));
  }

  // A tensor of weights as [T, k], [T, 1] or [1, k].
  static Value weightRows(OnnxBuilder &b, const Layer &layer, Value tensor,
                          const Emission &emission) {
    Value rows = featuresLast(b, layer, tensor, emission.now(tensor));
    int64_t last = rankedType(rows).getShape().back();
    bool open = last != layer.routing->k && last != 1;
    if (open || layer.single.contains(tensor)) // tokens without an axis of slots
      rows = b.reshape(rows, {-1, 1});
    return rankedType(rows).getRank() == 1 ? b.unsqueeze(rows, {0})
                                           : flatRows(b, rows);
  }

  // The product of factors, [T, k] or [1, k].
  static Value productOf(OnnxBuilder &b, const Layer &layer, ArrayRef<Value> factors,
                         StringRef activation, Type element, const Emission &emission) {
    Value w;
    for (Value factor : factors) {
      Value rows = weightRows(b, layer, factor, emission);
      if (w || !isa<FloatType>(rankedType(rows).getElementType()))
        rows = b.cast(rows, w ? rankedType(w).getElementType() : element);
      w = w ? b.binary("Mul", w, rows) : rows;
    }
    if (activation == "Softmax")
      return b.softmax(w, -1);
    return activation.empty() ? w : b.unary(activation, w);
  }

  // The product of the layer's weights, [T, K] in the order of x's rows.
  static Value weightsOf(OnnxBuilder &b, const Layer &layer, Value x,
                         const Emission &emission) {
    int64_t k = layer.routing->k;
    Type element = rankedType(x).getElementType();
    auto weights = layer.weights;
    const Routing &r = *layer.routing;
    for (Value &weight : weights)
      if (r.places && weight == r.ids) // of all places of an expert
        weight = b.reduce("ReduceSum", emission.now(weight), {2}, /*keep=*/false);
      else if (r.dense && r.sequences && weight == r.ids) { // of all tokens of a row
        Value rows = b.unsqueeze(emission.now(weight), {1});
        Value shape = b.concat({b.shape(emission.now(layer.x), 0, 2), b.ints(k)}, 0);
        auto type = rankedType(rows);
        weight = b.op("Expand", {rows, shape},
                      RankedTensorType::get({type.getDimSize(0), ShapedType::kDynamic, k},
                                            type.getElementType()));
      }
    Value w;
    if (!layer.weights.empty())
      w = productOf(b, layer, weights, layer.activation, element, emission);
    for (Value tensor : layer.masks) {
      Value mask = weightRows(b, layer, tensor, emission);
      if (layer.positive)
        mask = b.op("Greater", {mask, b.scalar(rankedType(mask).getElementType(), 0)},
                    rankedType(mask).clone(b.builder.getI1Type()));
      mask = b.cast(b.cast(mask, b.builder.getI1Type()),
                    w ? rankedType(w).getElementType() : element);
      w = w ? b.binary("Mul", w, mask) : mask;
    }
    bool one = !w;
    if (one)
      w = b.unsqueeze(b.scalar(element, 1), {0, 1});
    auto type = rankedType(w);
    if (one || type.getDimSize(1) != k || type.getDimSize(0) == 1) {
      Value shape = b.concat({b.shape(x, 0, 1), b.ints(k)}, 0);
      w = b.op("Expand", {w, shape},
               RankedTensorType::get({rankedType(x).getDimSize(0), k}, type.getElementType()));
    }
    if (layer.ffn.scale != 1.0)
      w = b.binary("Mul", w, b.scalar(rankedType(w).getElementType(),
                                      layer.ffn.scale));
    return w;
  }

  // Operators of other domains count as having effects; those of experts were
  // proven to have none.
  static void eraseForeign(ArrayRef<Layer> layers) {
    llvm::SetVector<Operation *> foreign;
    for (const Layer &layer : layers)
      if (layer.region)
        foreign.insert(layer.region->foreign.begin(), layer.region->foreign.end());
    for (Operation *op : llvm::reverse(foreign))
      if (op->use_empty())
        op->erase();
  }

  static Value ffnResult(OnnxBuilder &b, const Layer &layer, FlatSymbolRefAttr bank, Value x,
                         Value ids, const Emission &emission) {
    auto type = typeLast(layer, layer.result);
    x = featuresLast(b, layer, layer.x, x);
    Weighed at{flatRows(b, x), ids, Value()};
    at.weights = weightsOf(b, layer, at.tokens, emission);
    int64_t k = layer.routing->k, experts = layer.shape.experts;
    Value tokens = at.tokens, kept = at.weights;
    if (ids && experts < layer.routing->experts)
      at.ids = realIds(b, ids, experts);
    if (!layer.inputs.empty())
      at = weighTokens(b, at,
                       productOf(b, layer, layer.inputs, layer.inputActivation,
                                 rankedType(x).getElementType(), emission),
                       k);
    Value y = createExperts(b, bank, at.tokens, at.ids, at.weights);
    if (!layer.inputs.empty() && k > 1)
      y = sumOfSlots(b, y, k);
    if (layer.identities)
      y = b.binary("Add", y, tokensOf(b, tokens, ids, kept, experts));
    y = b.cast(y, type.getElementType());
    if (type.getRank() != 2)
      y = b.reshapeLike(y, resultShape(b, x, type, layer.shape.hidden), type);
    else if (y.getType() != type)
      y = b.op("Identity", y, type);
    return featuresBack(b, layer, y);
  }

  // Experts that are regions: tokens and results [T, ...].
  static Value regionResult(OnnxBuilder &b, const Layer &layer, Value ids,
                            const Emission &emission) {
    return emitRegionLayer(
        b, layer, ids, [&](Value v) { return emission.now(v); },
        [&](Value x) { return weightsOf(b, layer, x, emission); });
  }

  void emit(Layer &layer, BankBuilder &banks, Emission &emission) {
    const Routing &r = *layer.routing;
    Value ids = r.dense ? Value() : selectIds(layer, emission);
    Value x = emission.now(layer.x);
    Operation *at = layer.result.getDefiningOp();
    FlatSymbolRefAttr bank =
        layer.region ? layer.bank : banks.build(layer.ffn, layer.shape, at->getLoc());
    OpBuilder builder(at);
    OnnxBuilder b(builder, at->getLoc());
    auto type = rankedType(layer.result);
    Value y = layer.region ? regionResult(b, layer, ids, emission)
                           : ffnResult(b, layer, bank, x, ids, emission);
    if (layer.base)
      y = b.op("Add", {emission.now(layer.base), y}, type);
    markPattern(y, layer.pattern);
    emission.replace(layer.result, y);
    ++numRaised;
    if (remarks)
      mlir::emitRemark(r.loc())
          << "moe-raise: raised " << layer.shape.experts << " experts, "
          << (r.dense ? "dense weights" : "top " + std::to_string(r.k)) << ", as "
          << bank << " from " << layer.pattern;
  }
};

} // namespace
} // namespace moec
